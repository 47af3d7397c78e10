//! What the usher refuses, told to the proxy's process, which records it.
//!
//! *Never*: keeps a call waiting for the record for longer than [`PATIENCE`].

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use super::thread::Thread;
use crate::audit::{Decision, Door, Process, Subject};
use crate::jail::Call;
use crate::jail::ebpf::cgroup_of;
use crate::rules::Code;
use crate::sys::pass;

/// How long a refused call waits until its process has been looked at, which it has to live for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest message: two paths.
const MAX: usize = 16 * 1024;

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// A unix socket of a process outside.
    Named(String),
    /// A socket of some family and type.
    Made { family: u32, kind: u32 },
}

/// One refusal, as it crosses from one process to the other.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    what: What,
    uid: u32,
    comm: String,
    exe: Option<PathBuf>,
}

/// The usher's end of the line.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

/// Both ends of a line: the usher's and the reader's.
pub(crate) fn pair() -> Result<(OwnedFd, Reports), Call> {
    let (near, far) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Call::to("socketpair"))?;
    fcntl(&far, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Call::to("fcntl"))?;
    Ok((near, Reports(far)))
}

impl Line {
    /// The end that was given.
    pub(super) fn new(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Tells what was refused to a thread that waits.
    pub(super) fn tell(&self, thread: Thread, handle: BorrowedFd<'_>, what: What) {
        let Ok((uid, comm, exe)) = thread.describe() else { return };
        let report = Report { what, uid, comm, exe };
        let Ok(message) = serde_json::to_vec(&report) else { return };
        if pass::send(self.0.as_fd(), &message, Some(handle)).is_ok() {
            drop(self.await_receipt());
        }
    }

    /// Waits until it was read, but not for ever.
    fn await_receipt(&self) -> io::Result<()> {
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, patience)? > 0 {
            pass::receive(self.0.as_fd(), &mut [0])?;
        }
        Ok(())
    }
}

/// The reader's end of the line. It becomes readable when there is something to read.
#[derive(Debug)]
pub struct Reports(OwnedFd);

/// One refusal, ready for the record.
#[derive(Debug)]
pub struct Told {
    /// Who tried.
    pub subject: Subject,
    /// What it was.
    pub decision: Decision,
}

impl Reports {
    /// Another handle of the same end.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The next refusal, if there is one now.
    pub fn next(&self) -> io::Result<Option<Told>> {
        let mut message = vec![0; MAX];
        let (length, handle) = match pass::receive(self.0.as_fd(), &mut message) {
            Ok((0, _)) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        let report: Report = serde_json::from_slice(message.get(..length).unwrap_or_default())?;
        let pid = handle.and_then(|handle| pid_behind(handle.as_fd())).unwrap_or_default();
        let cgroup = cgroup_of(pid).unwrap_or_default();
        // The usher may be gone by now, and waits no longer.
        drop(pass::send(self.0.as_fd(), &[0], None));
        let Report { what, uid, comm, exe } = report;
        let process = Some(Process { pid, uid, comm, exe, cgroup });
        let subject = Subject { door: Door::Kernel, process, target: None };
        Ok(Some(Told { subject, decision: decision(what) }))
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What goes on record.
fn decision(what: What) -> Decision {
    match what {
        What::Named(socket) => Decision::Withheld { socket },
        What::Made { family, kind } => {
            let proto = proto(family, kind);
            Decision::Dropped { proto, code: Code::SocketType, host: None }
        }
    }
}

/// The kind of a socket in a word.
fn proto(family: u32, kind: u32) -> &'static str {
    let known = [
        (libc::AF_PACKET, "packet"),
        (libc::AF_VSOCK, "vsock"),
        (libc::AF_NETLINK, "netlink"),
        (libc::AF_BLUETOOTH, "bluetooth"),
        (libc::AF_ALG, "alg"),
        (libc::AF_XDP, "xdp"),
        (libc::AF_TIPC, "tipc"),
        (libc::AF_RDS, "rds"),
        (libc::AF_CAN, "can"),
    ];
    let named = known.into_iter().find(|(number, _)| number.cast_unsigned() == family);
    match named {
        Some((_, name)) => name,
        None if kind == libc::SOCK_RAW.cast_unsigned() => "raw",
        None => "other",
    }
}

/// The process behind a handle, by its number here.
fn pid_behind(handle: BorrowedFd<'_>) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_arrives_with_the_process_that_caused_it() {
        let (near, reports) = pair().unwrap();
        let line = Line::new(near);
        let reader = std::thread::spawn(move || {
            let mut waiting = [PollFd::new(reports.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut waiting, PollTimeout::from(10_000_u16)), Ok(1));
            reports.next().unwrap().unwrap()
        });
        let thread = Thread::new(std::process::id());
        let handle = crate::sys::reach::open_thread(std::process::id()).unwrap();
        line.tell(thread, handle.as_fd(), What::Named("/run/docker.sock".to_owned()));
        let told = reader.join().unwrap();
        let process = told.subject.process.unwrap();
        assert_eq!(process.pid, std::process::id());
        assert_eq!(process.exe, std::env::current_exe().ok());
        assert!(
            matches!(told.decision, Decision::Withheld { socket } if socket == "/run/docker.sock")
        );
    }

    #[test]
    fn a_family_has_its_usual_name() {
        assert_eq!(proto(libc::AF_VSOCK.cast_unsigned(), 1), "vsock");
        assert_eq!(proto(libc::AF_INET.cast_unsigned(), 3), "raw");
        assert_eq!(proto(3, 2), "other");
    }
}
