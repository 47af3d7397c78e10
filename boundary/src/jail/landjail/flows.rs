//! Where connections were meant to go, told by the usher, which makes them, to the proxy, which
//! accepts them.
//!
//! A connection is announced before it is made, and told once its own address is known. The proxy
//! waits for what was announced by then, so that it never takes an earlier connection from the same
//! port for the one that it has accepted; nothing else is ever waited for, and what nobody told of
//! is a stranger's.
//!
//! What is told is appended to a file in memory that both have open: a proxy that does not listen for a
//! while holds up nobody. It gives back what it has read.
//!
//! *Never*: serves a connection on a guess.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::address::canonical;
use crate::audit::{Door, Process};
use crate::jail::{Call, lineage};
use crate::proxy::{Flow, Origin};

/// How long the usher may take between a connection and its word about it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked for.
const LOOK: Duration = Duration::from_micros(20);

/// How much is read at once: more than the longest message, a process with the path of its program.
const LONGEST: usize = 64 * 1024;

/// A process, as it crosses.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Who {
    pid: u32,
    uid: u32,
    comm: String,
    exe: Option<String>,
    /// The room that it is in.
    room: u64,
    /// Who started the command.
    usher: u32,
}

/// What crosses.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// A connection is about to be made.
    Soon(u64),
    /// It was made from an address, or not at all.
    Made { number: u64, from: Option<SocketAddr>, target: SocketAddr, who: Who },
    /// Questions come from an address.
    Asks { from: SocketAddr, who: Who },
    /// They do no more.
    Silent { from: SocketAddr },
}

/// The file, once for each side.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Call> {
    let near =
        memfd_create(c"boundary-flows", MFdFlags::MFD_CLOEXEC).map_err(Call::to("memfd_create"))?;
    let far = near.try_clone().map_err(Call::to("dup"))?;
    Ok((near, far))
}

/// The usher's end.
#[derive(Debug)]
pub(super) struct Teller {
    file: File,
    /// How much was told.
    end: Mutex<u64>,
    next: AtomicU64,
}

impl Teller {
    /// Tells in this file.
    pub(super) fn new(file: OwnedFd) -> Self {
        Self { file: file.into(), end: Mutex::default(), next: AtomicU64::default() }
    }

    /// Makes a connection to a door, and tells where it was meant to go. `connect` returns what
    /// became of it, and the connection's own address if it is under way.
    pub(super) fn turn<T>(
        &self,
        (target, process): (SocketAddr, &Process),
        connect: impl FnOnce() -> (T, Option<SocketAddr>),
    ) -> io::Result<T> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.tell(&Message::Soon(number))?;
        let (done, from) = connect();
        let from = from.map(canonical);
        self.tell(&Message::Made { number, from, target: canonical(target), who: who(process) })?;
        Ok(done)
    }

    /// Tells who asks from an address.
    pub(super) fn asks(&self, from: SocketAddr, process: &Process) -> io::Result<()> {
        self.tell(&Message::Asks { from, who: who(process) })
    }

    /// Tells that nobody asks from an address any more.
    pub(super) fn asks_no_more(&self, from: SocketAddr) {
        // Whoever cannot be told is gone.
        drop(self.tell(&Message::Silent { from }));
    }

    fn tell(&self, message: &Message) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(&line, *end)?;
        *end += u64::try_from(line.len()).map_err(io::Error::other)?;
        Ok(())
    }
}

/// A process, as it crosses.
fn who(process: &Process) -> Who {
    let exe = process.exe.as_ref().map(|path| path.to_string_lossy().into_owned());
    let usher = std::process::id();
    let Process { pid, uid, room, .. } = *process;
    Who { pid, uid, comm: process.comm.clone(), exe, room, usher }
}

impl From<Who> for Process {
    fn from(Who { pid, uid, comm, exe, room, usher }: Who) -> Self {
        let (exe, parents) = (exe.map(PathBuf::from), lineage::below(pid, usher));
        Self { pid, uid, comm, exe, room, parents, ..Self::default() }
    }
}

/// The proxy's end: the flows behind the connections that the usher makes.
pub struct Led {
    file: File,
    /// Where the doors stand.
    doors: Vec<SocketAddr>,
    told: Mutex<Told>,
}

impl fmt::Debug for Led {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Led").field("doors", &self.doors).finish_non_exhaustive()
    }
}

/// What was told and is not over.
#[derive(Debug, Default)]
struct Told {
    announced: HashSet<u64>,
    made: HashMap<SocketAddr, (SocketAddr, Who)>,
    asking: HashMap<SocketAddr, Who>,
    /// How much was read, and how much of it was given back.
    read: u64,
    given_back: u64,
}

impl Told {
    fn take(&mut self, message: Message) {
        match message {
            Message::Soon(number) => drop(self.announced.insert(number)),
            Message::Made { number, from, target, who } => {
                self.announced.remove(&number);
                if let Some(from) = from {
                    self.made.insert(from, (target, who));
                }
            }
            Message::Asks { from, who } => drop(self.asking.insert(from, who)),
            Message::Silent { from } => drop(self.asking.remove(&from)),
        }
    }
}

impl Led {
    /// Reads this file, for doors that stand here.
    pub(super) fn new(file: OwnedFd, doors: Vec<SocketAddr>) -> Self {
        Self { file: file.into(), doors, told: Mutex::default() }
    }

    /// The descriptor that a process which forks must keep open for it.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Takes in everything that is there now.
    fn listen(&self, told: &mut Told) -> io::Result<()> {
        let mut bytes = vec![0; LONGEST];
        loop {
            let length = self.file.read_at(&mut bytes, told.read)?;
            let bytes = bytes.get(..length).unwrap_or_default();
            // What is being written ends in the next piece.
            let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
            for line in bytes.get(..end).unwrap_or_default().split(|byte| *byte == b'\n') {
                told.take(serde_json::from_slice(line)?);
            }
            told.read += u64::try_from(end + 1).map_err(io::Error::other)?;
            self.give_back(told);
        }
    }

    /// Gives the memory of what was read back, now and then.
    fn give_back(&self, told: &mut Told) {
        /// How much is given back at once.
        const PIECE: u64 = 1 << 20;
        let whole = told.read / PIECE * PIECE;
        if whole > told.given_back {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let [from, length] = [told.given_back, whole - told.given_back]
                .map(|number| i64::try_from(number).unwrap_or_default());
            if let Err(error) = fallocate(&self.file, flags, from, length) {
                tracing::debug!(%error, "what the usher told is kept");
            }
            told.given_back = whole;
        }
    }

    /// Waits until all that is announced now was made. False if that does not happen.
    fn catch_up(&self, told: &mut Told) -> io::Result<bool> {
        self.listen(told)?;
        let awaited: Vec<u64> = told.announced.iter().copied().collect();
        let deadline = Instant::now() + PATIENCE;
        while awaited.iter().any(|number| told.announced.contains(number)) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            // It takes the usher two system calls.
            std::thread::park_timeout(LOOK);
            self.listen(told)?;
        }
        Ok(true)
    }
}

impl Origin for Led {
    fn flow(&self, client: SocketAddr, local: SocketAddr) -> Option<Flow> {
        let client = canonical(client);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.catch_up(&mut told);
        if !matches!(outcome, Ok(true)) {
            // What it would be taken for may be another's.
            tracing::error!(%client, ?outcome, "the flow of a connection was not told");
            return None;
        }
        let (target, who) = told.made.remove(&client)?;
        let is_door = self.doors.contains(&target) && target.port() == local.port();
        let door = if is_door { Door::Explicit } else { Door::Redirect };
        Some(Flow { door, client, target, process: Some(who.into()) })
    }

    fn asker(&self, client: SocketAddr, _asked: Option<IpAddr>) -> Option<Process> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.listen(&mut told) {
            tracing::error!(%error, "the usher is not understood");
            return None;
        }
        told.asking.get(&client).cloned().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn both() -> (Teller, Led) {
        let (near, far): (OwnedFd, OwnedFd) = pair().unwrap();
        (Teller::new(near), Led::new(far, vec![at(8080)]))
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn process(pid: u32) -> Process {
        Process { pid, ..Process::default() }
    }

    #[test]
    fn a_connection_is_known_once_and_a_stranger_never() {
        let (teller, led) = both();
        let target = "[::ffff:192.0.2.1]:443".parse().unwrap();
        teller.turn((target, &process(7)), || ((), Some(at(4000)))).unwrap();
        let flow = led.flow(at(4000), at(8080)).unwrap();
        assert_eq!((flow.door, flow.target), (Door::Redirect, "192.0.2.1:443".parse().unwrap()));
        assert_eq!(flow.process.unwrap().pid, 7);
        assert!(led.flow(at(4000), at(8080)).is_none(), "it was taken");
        assert!(led.flow(at(4001), at(8080)).is_none(), "nobody told of it");
    }

    #[test]
    fn a_port_that_is_used_again_is_not_taken_for_what_it_was() {
        let (teller, led) = both();
        let [old, new] = ["192.0.2.1:80", "192.0.2.2:80"].map(|text| text.parse().unwrap());
        teller.turn((old, &process(1)), || ((), Some(at(4000)))).unwrap();
        let flow = teller
            .turn((new, &process(2)), || {
                // It is there before anything was told of it.
                let waiting = std::thread::spawn(move || led.flow(at(4000), at(8080)));
                (waiting, Some(at(4000)))
            })
            .unwrap();
        assert_eq!(flow.join().unwrap().unwrap().target, new);
    }

    #[test]
    fn the_proxy_itself_as_a_target_is_explicit_use() {
        let (teller, led) = both();
        teller.turn((at(8080), &process(1)), || ((), Some(at(4000)))).unwrap();
        assert_eq!(led.flow(at(4000), at(8080)).unwrap().door, Door::Explicit);
    }

    #[test]
    fn who_asks_is_known_until_it_asks_no_more() {
        let (teller, led) = both();
        teller.asks(at(5000), &process(3)).unwrap();
        assert_eq!(led.asker(at(5000), None).unwrap().pid, 3);
        assert_eq!(led.asker(at(5000), None).unwrap().pid, 3);
        teller.asks_no_more(at(5000));
        assert!(led.asker(at(5000), None).is_none());
    }

    #[test]
    fn a_proxy_that_does_not_listen_holds_up_nobody() {
        let (teller, led) = both();
        let target = "192.0.2.1:80".parse().unwrap();
        for port in 1..30_000 {
            teller.turn((target, &process(u32::from(port))), || ((), Some(at(port)))).unwrap();
        }
        assert_eq!(led.flow(at(29_999), at(8080)).unwrap().process.unwrap().pid, 29_999);
        assert_eq!(led.flow(at(7), at(8080)).unwrap().process.unwrap().pid, 7);
        assert!(led.told.lock().unwrap().given_back > 0, "memory is given back");
    }
}
