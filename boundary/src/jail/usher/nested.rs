//! Rooms for boundary inside boundary: a cgroup inside the one that the inner command is in, with a
//! policy that the proxy judges it by as well.
//!
//! The inner boundary has no rights, and needs none: it asks at the session's door, which is a unix
//! socket that the usher leads to like any other of the session. Its command is moved into the
//! room, cannot leave it, and is killed when whoever asked hangs up. Who asks is told by the kernel
//! with every piece of the question, and nobody outside the session sees the door.
//!
//! *Never*: moves a process to any place but one inside the cgroup that it is in, nor any but a child
//! of whoever asks, who is in the same one.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt,
};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::Seat;
use super::report::{Entry, Line};
use crate::jail::badge::Badge;
use crate::jail::procfs;

/// How many rooms there are at once.
pub(in crate::jail) const MAX_ROOMS: usize = 64;

/// What is answered when there are so many.
pub(in crate::jail) const FULL: &str = "it has as many sessions inside as there may be (64)";

/// The longest request.
const MAX_REQUEST: usize = 192 * 1024;

/// How long a question may take: who asks for a room takes one of their number while it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the end of the processes in a room is looked for, and how often at most.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 250;

/// What boundary inside boundary asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The process that becomes the command.
    pub pid: u32,
    /// Its rules, as they were written.
    pub rules: Vec<String>,
    /// Whether `domain=` means the domain alone.
    pub exact: bool,
}

impl Request {
    /// Asks at a door. What is granted holds for as long as the stream is open.
    pub fn ask(&self, stream: &mut UnixStream) -> io::Result<Answer> {
        // Or what is sent before anybody has accepted it might not say who sent it.
        setsockopt(stream, sockopt::PassCred, &true)?;
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let asked = stream.write_all(&line);
        // Where there is no room it is answered, and hung up, before anything was asked.
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        match asked {
            Err(error) if answer.is_empty() => Err(error),
            Ok(()) | Err(_) => Ok(Answer::parse(answer.trim_end())),
        }
    }
}

/// What is answered at a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The process is in its room.
    Moved,
    /// The process is in its room once it has this badge.
    Badged(Badge),
    /// There is none for it, and why.
    Refused(String),
}

impl Answer {
    /// Answers.
    pub(in crate::jail) fn give(&self, stream: &mut UnixStream) -> io::Result<()> {
        let line = match self {
            Self::Moved => "ok".to_owned(),
            Self::Badged(badge) => format!("ok {}", serde_json::to_string(badge)?),
            Self::Refused(why) => why.clone(),
        };
        stream.write_all(format!("{line}\n").as_bytes())
    }

    /// Reads an answer.
    fn parse(line: &str) -> Self {
        let badge = || serde_json::from_str(line.strip_prefix("ok ")?).ok();
        match (line, badge()) {
            ("ok", _) => Self::Moved,
            (_, Some(badge)) => Self::Badged(badge),
            (why, None) => Self::Refused(why.to_owned()),
        }
    }
}

/// The rooms of a session.
#[derive(Debug)]
pub(super) struct Rooms {
    house: OwnedFd,
    name: String,
    line: Arc<Line>,
    next: AtomicU64,
    taken: AtomicUsize,
    /// One process is moved at a time.
    moving: Mutex<()>,
}

/// A room: the cgroup that it is in, and its own name and number there.
struct Room {
    inside: OwnedFd,
    name: String,
    folder: OwnedFd,
    number: u64,
}

impl Rooms {
    /// The rooms of the session that a seat belongs to, if it has any.
    pub(super) fn new(seat: &Seat<'_>, line: Arc<Line>) -> io::Result<Option<Self>> {
        let Some((house, name)) = seat.house else { return Ok(None) };
        Ok(Some(Self {
            house: house.try_clone_to_owned()?,
            name: name.to_owned(),
            line,
            next: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            moving: Mutex::new(()),
        }))
    }

    /// Opens the door, to every user of the session. Returns the inode of its socket.
    pub(super) fn open(self, door: &Path) -> io::Result<u32> {
        let listener = UnixListener::bind(door)?;
        let inode = fstat(&listener)?.st_ino;
        fs::set_permissions(door, Permissions::from_mode(0o666))?;
        let rooms = Arc::new(self);
        std::thread::Builder::new().spawn(move || {
            for stream in listener.incoming().flatten() {
                let rooms = Arc::clone(&rooms);
                // Without a thread nobody is let in, and whoever asked is hung up on.
                drop(std::thread::Builder::new().spawn(move || rooms.host(stream)));
            }
        })?;
        u32::try_from(inode).map_err(io::Error::other)
    }

    /// Sees to one guest from the question to the end.
    fn host(&self, mut stream: UnixStream) {
        let is_full = self.taken.fetch_add(1, Ordering::Relaxed) >= MAX_ROOMS;
        let room = if is_full { Err(io::Error::other(FULL)) } else { self.admit(&stream) };
        let answer = match &room {
            Ok(_) => Answer::Moved,
            Err(error) => Answer::Refused(error.to_string()),
        };
        let told = answer.give(&mut stream);
        if let Ok(room) = room {
            if told.is_ok() {
                // Until it hangs up, however that comes.
                drop(stream.read(&mut [0]));
            }
            self.close(&room);
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives a process a room of its own, with the policy that it asks for.
    fn admit(&self, stream: &UnixStream) -> io::Result<Room> {
        let (asker, line) = question(stream)?;
        let Request { pid, rules, exact } = serde_json::from_slice(&line)?;
        let _one_at_a_time = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.place_of(pid)?;
        if parent_of(pid)? != asker || self.place_of(asker)? != place {
            return Err(Errno::EPERM.into());
        }
        let room = self.make(&place)?;
        let entry = Entry { place: room.number, inside: number(&room.inside)?, rules, exact };
        let entered = match self.line.enter(entry) {
            Ok(true) => room.write("cgroup.procs", &pid.to_string()),
            Ok(false) => Err(io::Error::other("the policy was not taken")),
            Err(error) => Err(error),
        };
        match entered {
            Ok(()) => Ok(room),
            Err(error) => {
                self.close(&room);
                Err(error)
            }
        }
    }

    /// Grants nothing in a room any more, and ends what is in it.
    fn close(&self, room: &Room) {
        if !matches!(self.line.leave(room.number), Ok(true)) {
            tracing::error!("the policy of a room was not forgotten");
        }
        room.clear();
    }

    /// The cgroup that a process is in, from the session's own.
    fn place_of(&self, pid: u32) -> io::Result<PathBuf> {
        let text = procfs::text(format!("/proc/{pid}/cgroup"))?;
        below(&text, &self.name).ok_or_else(|| io::Error::from(Errno::ESRCH))
    }

    /// Makes a room in a cgroup.
    fn make(&self, place: &Path) -> io::Result<Room> {
        let name = format!("nested-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let folder = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let inside = openat(self.house.as_fd(), place, folder, Mode::empty())?;
        mkdirat(inside.as_fd(), name.as_str(), Mode::from_bits_truncate(0o755))?;
        let folder = openat(inside.as_fd(), name.as_str(), folder, Mode::empty())?;
        let number = number(&folder)?;
        Ok(Room { inside, name, folder, number })
    }
}

impl Room {
    /// Writes to one of its files.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(self.folder.as_fd(), file, flags, Mode::empty())?;
        File::from(file).write_all(text.as_bytes())
    }

    /// Ends what is in it and removes it. Where the kernel cannot kill a cgroup (before 5.14), what
    /// is in it is stopped for good, and ends with the session.
    fn clear(&self) {
        if self.write("cgroup.kill", "1").is_err() {
            drop(self.write("cgroup.freeze", "1"));
            return;
        }
        for _ in 0..LOOKS {
            match unlinkat(self.inside.as_fd(), self.name.as_str(), UnlinkatFlags::RemoveDir) {
                // A room inside it is cleared by whoever made it.
                Err(Errno::EBUSY) => std::thread::park_timeout(LOOK),
                Ok(()) | Err(_) => return,
            }
        }
    }
}

/// Reads a question, and who asks: a process of this pid namespace, the same from the first byte to
/// the last.
pub(in crate::jail) fn question(stream: &UnixStream) -> io::Result<(u32, Vec<u8>)> {
    setsockopt(stream, sockopt::PassCred, &true)?;
    let until = Instant::now() + PATIENCE;
    let (mut asker, mut line) = (None, Vec::new());
    while line.last() != Some(&b'\n') {
        // A wait of no length would be one without an end.
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        let (sender, piece) = match piece(stream) {
            // Whoever is stopped with its command and goes on waits anew.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            piece => piece?,
        };
        let is_other = asker.is_some_and(|asker| asker != sender);
        if is_other || sender == 0 || line.len() + piece.len() > MAX_REQUEST {
            return Err(Errno::EPERM.into());
        }
        asker = Some(sender);
        line.extend(piece);
    }
    stream.set_read_timeout(None)?;
    Ok((asker.unwrap_or_default(), line))
}

/// Reads what somebody has written, and who: 0 for a process that is not to be seen from here.
fn piece(stream: &UnixStream) -> io::Result<(u32, Vec<u8>)> {
    let mut bytes = [0; 16 * 1024];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut sender = 0;
    for beside in message.cmsgs()? {
        if let ControlMessageOwned::ScmCredentials(who) = beside {
            sender = who.pid().unsigned_abs();
        }
    }
    let length = message.bytes;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((sender, bytes.get(..length).unwrap_or_default().to_vec()))
}

/// The parent of a process, by number.
fn parent_of(pid: u32) -> io::Result<u32> {
    let status = procfs::text(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.and_then(|number| number.trim().parse().ok());
    parent.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The number of a cgroup.
fn number(folder: &OwnedFd) -> io::Result<u64> {
    Ok(File::from(folder.try_clone()?).metadata()?.ino())
}

/// The path of a cgroup from the session's own, by the text of a process's `cgroup` (proc(5)).
fn below(text: &str, session: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = path.split('/').skip_while(|part| *part != session);
    parts.next()?;
    let below: PathBuf = [".".as_ref()].into_iter().chain(parts.map(Path::new)).collect();
    let is_room =
        |part: &Path| part.to_str().is_some_and(|part| part == "." || part.starts_with("nested-"));
    below.components().all(|part| is_room(part.as_ref())).then_some(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_made_in_the_cgroup_of_the_process_and_nowhere_else() {
        let below = |text: &str| below(text, "boundary-1");
        assert_eq!(below("1:name=x:/\n0::/boundary-1\n"), Some(PathBuf::from(".")));
        let nested = below("0::/a/boundary-1/nested-0/nested-7\n");
        assert_eq!(nested, Some(PathBuf::from("./nested-0/nested-7")));
        for other in ["0::/\n", "0::/boundary-2\n", "0::/boundary-1/usher\n", ""] {
            assert_eq!(below(other), None, "{other}");
        }
    }

    /// A guest who says nothing, one who never comes to an end, and one who says it all, but in pieces.
    #[test]
    fn whoever_asks_for_a_room_has_so_long_for_it_and_no_longer() {
        let (_silent, silents) = UnixStream::pair().unwrap();
        let (mut slow, slows) = UnixStream::pair().unwrap();
        let (mut fine, fines) = UnixStream::pair().unwrap();
        let asked = [silents, slows, fines].map(|stream| {
            // Who writes is told only of what is written from then on.
            setsockopt(&stream, sockopt::PassCred, &true).unwrap();
            std::thread::spawn(move || question(&stream).map_err(|it| it.kind()))
        });
        let is_over = || asked.iter().take(2).all(std::thread::JoinHandle::is_finished);
        let (until, mut letters) = (Instant::now() + 6 * PATIENCE, b"{}\n".iter());
        while !is_over() && Instant::now() < until {
            // He may have been let go just now.
            slow.write_all(b"x").unwrap_or_default();
            letters.next().into_iter().for_each(|letter| fine.write_all(&[*letter]).unwrap());
            std::thread::park_timeout(Duration::from_millis(100));
        }
        assert!(is_over(), "they are let go");
        let [silent, slow, fine] = asked.map(|it| it.join().unwrap());
        let late = Err(io::ErrorKind::WouldBlock);
        assert_eq!([silent, slow], [late.clone(), late]);
        assert_eq!(fine, Ok((std::process::id(), b"{}\n".to_vec())));
    }
}
