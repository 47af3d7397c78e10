//! What the usher refuses, told to the proxy's process, which records it.
//!
//! *Never*: keeps a call waiting for the record for longer than [`PATIENCE`].

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use boundary_common::steer::Why;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use super::thread::Thread;
use crate::audit::{Decision, Door, Parent, Process, Subject};
use crate::jail::Call;
use crate::jail::ebpf::{Refused, cgroup_of, protocol_name};
use crate::jail::{lineage, procfs};
use crate::rules::Code;
use crate::sys::{pass, pidfd};

/// How long a refused call waits until its process has been looked at, which it has to live for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a policy may take to be entered.
const PATIENCE_TO_ENTER: Duration = Duration::from_secs(10);

/// The longest message: a policy. Longer ones than a socket takes at once are refused.
const MAX: usize = 256 * 1024;

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::jail) enum What {
    /// A unix socket of a process outside.
    Named(String),
    /// A socket of some family, type and protocol.
    Made { family: u32, kind: u32, protocol: u32 },
    /// An option of a socket.
    Set { level: u32, name: u32 },
    /// A datagram that was sent, or aimed: where to, and the number of the reason.
    Sent { target: SocketAddr, why: u16 },
}

/// One refusal, as it crosses from one process to the other.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    what: What,
    /// The process, and who started it, where the usher and the reader number processes alike.
    known: Option<(u32, Vec<Parent>)>,
    uid: u32,
    comm: String,
    /// Its path, which may be no text.
    exe: Option<Vec<u8>>,
    /// How many were not told before it.
    lost: u64,
}

/// A policy for a room, inside that of another place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The room, by number: that of its cgroup, where it has one.
    pub place: u64,
    /// The place that it is in: a room, or the session itself.
    pub inside: u64,
    /// The rules, as they were written.
    pub rules: Vec<String>,
    /// Whether `domain=` means the domain alone.
    pub exact: bool,
}

/// What crosses.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Refused(Report),
    /// So many refusals were not told, and there is none to tell that with.
    Missed(u64),
    Entered(Entry),
    Left(u64),
}

/// The answer to a policy that was understood.
const TAKEN: u8 = 1;

/// The usher's end of the line. One message is answered before the next is sent.
#[derive(Debug)]
pub(in crate::jail) struct Line(Mutex<OwnedFd>, AtomicU64);

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
    pub(in crate::jail) fn new(end: OwnedFd) -> Self {
        Self(Mutex::new(end), AtomicU64::new(0))
    }

    /// Tells what was refused to a thread that waits, of which a handle is given where there is one.
    pub(in crate::jail) fn tell(&self, thread: Thread, handle: Option<BorrowedFd<'_>>, what: What) {
        // Of one that cannot be looked at its number is known, which the reader finds.
        let described = thread.describe();
        let (uid, comm, exe) = described.unwrap_or_else(|_| (u32::MAX, String::new(), None));
        let (exe, lost) = (exe.map(bytes), self.1.swap(0, Ordering::Relaxed));
        let report = Message::Refused(Report { what, known: None, uid, comm, exe, lost });
        if let Some(handle) = handle {
            // Whether or not that can be done, the handle goes with it.
            let _noted =
                pidfd::process_of(thread.number()).and_then(|process| pidfd::note(handle, process));
        }
        let told = match self.ask(&report, handle.as_slice(), PATIENCE) {
            // The session's user has as many descriptors on their way as one may have.
            Err(error) if error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32) => {
                self.ask(&report, &[], PATIENCE)
            }
            told => told,
        };
        // The call is refused all the same.
        if told.is_err() {
            self.miss(lost + 1);
        }
    }

    /// Counts refusals that cannot be told, and says so if that can be.
    pub(in crate::jail) fn miss(&self, count: u64) {
        self.1.fetch_add(count, Ordering::Relaxed);
        self.say_missed();
    }

    /// Tells what was refused to a process, of which everything is known here, and waits for nobody: it
    /// may be gone when this is read.
    pub(in crate::jail) fn note(&self, process: Process, what: What) {
        let parents = lineage::below(process.pid, std::process::id());
        let known = Some((process.pid, parents.to_vec()));
        let Process { uid, comm, exe, .. } = process;
        let (exe, lost) = (exe.map(bytes), self.1.swap(0, Ordering::Relaxed));
        let report = Message::Refused(Report { what, known, uid, comm, exe, lost });
        if self.send(&report).is_err() {
            // Whoever reads is told with the next one.
            self.1.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }

    /// Tells how many refusals were not told, if there are any, when no other will be.
    pub(in crate::jail) fn confess(&self) {
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = [PollFd::new(line.as_fd(), PollFlags::POLLOUT)];
        let is_read = self.1.load(Ordering::Relaxed) == 0 || poll(&mut waiting, patience).is_ok();
        drop(line);
        if is_read {
            // Whoever has not read for so long does not hear it.
            self.say_missed();
        }
    }

    /// Says how many were not told, if there are any. What cannot be said now is said with the next one.
    fn say_missed(&self) {
        let lost = self.1.swap(0, Ordering::Relaxed);
        if lost > 0 && self.send(&Message::Missed(lost)).is_err() {
            self.1.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Sends a message that has no answer, and waits for nobody.
    fn send(&self, message: &Message) -> io::Result<()> {
        let message = serde_json::to_vec(message)?;
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pass::send_with((line.as_fd(), MsgFlags::MSG_DONTWAIT), &message, &[])?;
        Ok(())
    }

    /// Has a policy entered for a room. False if it was not understood, or nobody answers.
    pub(in crate::jail) fn enter(&self, entry: Entry) -> io::Result<bool> {
        Ok(self.ask(&Message::Entered(entry), &[], PATIENCE_TO_ENTER)? == Some(TAKEN))
    }

    /// Has the policy of a room forgotten, so that nothing is granted there any more. False if nobody
    /// answers.
    pub(in crate::jail) fn leave(&self, place: u64) -> io::Result<bool> {
        Ok(self.ask(&Message::Left(place), &[], PATIENCE_TO_ENTER)? == Some(TAKEN))
    }

    /// Sends a message and waits for its answer, but not for ever.
    fn ask(
        &self,
        message: &Message,
        lent: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> io::Result<Option<u8>> {
        let message = serde_json::to_vec(message)?;
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was answered too late belongs to an earlier message.
        while is_readable(line.as_fd(), Duration::ZERO)? {
            pass::receive(line.as_fd(), &mut [0])?;
        }
        pass::send(line.as_fd(), &message, lent)?;
        if !is_readable(line.as_fd(), patience)? {
            return Ok(None);
        }
        let mut answer = [0];
        let (length, _) = pass::receive(line.as_fd(), &mut answer)?;
        Ok(answer.first().copied().filter(|_| length > 0))
    }
}

/// A path as it crosses.
fn bytes(path: PathBuf) -> Vec<u8> {
    path.into_os_string().into_vec()
}

/// Waits until there is something to read, at most for a time.
fn is_readable(line: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut [PollFd::new(line, PollFlags::POLLIN)], patience)? > 0)
}

/// The reader's end of the line. It becomes readable when there is something to read.
#[derive(Debug)]
pub struct Reports(OwnedFd);

/// What the usher tells.
#[derive(Debug)]
pub enum Told {
    /// A refusal, ready for the record: who tried, and what it was.
    Refused(Subject, Decision),
    /// Nothing but that something was not told.
    Missed,
    /// A datagram that was refused, of which the name behind its target is still to be told.
    Dropped(Refused),
    /// A policy to enter. [`Reports::answer`] says whether it was.
    Entered(Entry),
    /// A room whose policy is to be forgotten, which is to be answered too.
    Left(u64),
}

impl Reports {
    /// Another handle of the same end.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// What is told next, if there is anything now, and how many refusals could not be told before it.
    pub fn next(&self) -> io::Result<Option<(Told, u64)>> {
        let mut message = vec![0; MAX];
        let (length, handles) = match pass::receive(self.0.as_fd(), &mut message) {
            Ok((0, _)) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        let report = match serde_json::from_slice(message.get(..length).unwrap_or_default())? {
            Message::Missed(lost) => return Ok(Some((Told::Missed, lost))),
            Message::Entered(entry) => return Ok(Some((Told::Entered(entry), 0))),
            Message::Left(place) => return Ok(Some((Told::Left(place), 0))),
            Message::Refused(report) => report,
        };
        let Report { what, known, uid, comm, exe, lost } = report;
        let exe = exe.map(|path| OsString::from_vec(path).into());
        let process = if let Some((pid, parents)) = known {
            Process { pid, uid, comm, exe, parents: parents.into(), ..Process::default() }
        } else {
            let pid = handles.first().and_then(|handle| pid_behind(handle.as_fd()));
            let pid = pid.unwrap_or_default();
            let (cgroup, parents) = (cgroup_of(pid).unwrap_or_default(), lineage::of(pid));
            self.answer(true);
            Process { pid, uid, comm, exe, cgroup, parents, ..Process::default() }
        };
        Ok(Some((told(process, what), lost)))
    }

    /// Answers what was told.
    pub fn answer(&self, is_taken: bool) {
        let answer = if is_taken { TAKEN } else { 0 };
        // The usher may be gone by now, and waits no longer.
        drop(pass::send(self.0.as_fd(), &[answer], &[]));
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What goes on record.
fn told(process: Process, what: What) -> Told {
    let decision = match what {
        What::Named(socket) => Decision::Withheld { socket },
        What::Made { family, kind, protocol } => {
            let proto = proto(family, kind, protocol);
            Decision::Dropped { proto, code: Code::SocketType, host: None }
        }
        What::Set { level, name: _ } => {
            let proto = match i32::try_from(level) {
                Ok(libc::IPPROTO_TCP) => "tcp",
                Ok(libc::IPPROTO_UDP) => "udp",
                Ok(_) | Err(_) => "other",
            };
            Decision::Dropped { proto, code: Code::SocketOption, host: None }
        }
        What::Sent { target, why } => {
            let why = Why::from_number(why).unwrap_or(Why::Unrecorded);
            let target = Some(target);
            return Told::Dropped(Refused { process, proto: "udp", target, why, option: None });
        }
    };
    let subject = Subject { door: Door::Kernel, process: Some(process.into()), target: None };
    Told::Refused(subject, decision)
}

/// The kind of a socket in a word.
fn proto(family: u32, kind: u32, protocol: u32) -> &'static str {
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
        None => protocol_name(kind, protocol),
    }
}

/// The process behind a handle, by its number here.
pub(in crate::jail) fn pid_behind(handle: BorrowedFd<'_>) -> Option<u32> {
    let held = || procfs::held("self", handle.as_raw_fd()).ok()??.try_into().ok();
    pidfd::noted(handle).or_else(held)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::Arc;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn a_refusal_arrives_with_the_process_that_caused_it() {
        let (near, reports) = pair().unwrap();
        let line = Line::new(near);
        let reader = std::thread::spawn(move || next(&reports));
        let thread = Thread::new(std::process::id());
        let handle = pidfd::open_thread_or_process(std::process::id()).unwrap();
        line.tell(thread, Some(handle.as_fd()), What::Named("/run/docker.sock".to_owned()));
        let (process, decision) = reader.join().unwrap();
        assert_eq!(process.pid, std::process::id());
        assert_eq!(process.exe, std::env::current_exe().ok());
        assert!(matches!(decision, Decision::Withheld { socket } if socket == "/run/docker.sock"));
    }

    /// What is told next, once it is.
    fn next(reports: &Reports) -> (Arc<Process>, Decision) {
        let mut waiting = [PollFd::new(reports.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waiting, PollTimeout::from(10_000_u16)), Ok(1));
        match reports.next().unwrap() {
            Some((Told::Refused(subject, decision), 0)) => (subject.process.unwrap(), decision),
            told => panic!("not {told:?}"),
        }
    }

    /// What has crossed and was not read yet.
    fn received(reports: &Reports) -> Option<Report> {
        let mut message = vec![0; MAX];
        let (length, _) = pass::receive(reports.as_fd(), &mut message).ok()?;
        match serde_json::from_slice(&message[..length]).unwrap() {
            Message::Refused(report) => Some(report),
            other @ (Message::Missed(_) | Message::Entered(_) | Message::Left(_)) => {
                panic!("not {other:?}")
            }
        }
    }

    #[test]
    fn one_that_cannot_be_looked_at_is_told_by_its_number() {
        let (near, reports) = pair().unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let handle = pidfd::open_thread_or_process(child.id()).unwrap();
        child.wait().unwrap();
        let own = pidfd::open_thread_or_process(std::process::id()).unwrap();
        let (gone, line) = (Thread::new(child.id()), Line::new(near));
        std::thread::scope(|scope| {
            let what = What::Made { family: 16, kind: 3, protocol: 9 };
            let told = scope.spawn(move || {
                line.tell(gone, Some(own.as_fd()), what.clone());
                line.tell(gone, Some(handle.as_fd()), what);
            });
            for expected in [std::process::id(), 0] {
                let (process, decision) = next(&reports);
                assert_eq!((process.pid, process.uid), (expected, u32::MAX));
                assert!(process.comm.is_empty() && process.exe.is_none());
                assert!(matches!(decision, Decision::Dropped { proto: "netlink", .. }));
            }
            told.join().unwrap();
        });
    }

    #[test]
    fn what_could_not_be_told_is_counted_with_what_is_told_next() {
        let (near, reports) = pair().unwrap();
        let line = Line::new(near);
        let sent = 5000;
        let what = || What::Set { level: 6, name: 31 };
        (0..sent).for_each(|_| line.note(Process::default(), what()));
        let read = || {
            let (mut told, mut lost) = (0, 0);
            while let Some(report) = received(&reports) {
                (told, lost) = (told + 1, lost + report.lost);
            }
            (told, lost)
        };
        let (told, lost) = read();
        assert!(told > 0 && told < sent && lost == 0, "{told} {lost}");
        line.note(Process::default(), what());
        assert_eq!(read(), (1, sent - told));
        // What no other follows is told by itself, once.
        (0..sent).for_each(|_| line.note(Process::default(), what()));
        let (told, _) = read();
        line.confess();
        line.confess();
        assert!(matches!(reports.next(), Ok(Some((Told::Missed, lost))) if lost == sent - told));
        assert!(matches!(reports.next(), Ok(None)));
    }

    #[test]
    fn who_is_gone_when_a_refusal_is_read_has_the_parents_that_it_had() {
        let (near, reports) = pair().unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut number = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut number).unwrap();
        let pid: u32 = number.trim().parse().unwrap();
        let what = What::Set { level: 6, name: 31 };
        Line::new(near).note(Process { pid, ..Process::default() }, what);
        for gone in [pid, shell.id()] {
            kill(Pid::from_raw(gone.cast_signed()), Signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
        let (process, _) = next(&reports);
        let found: Vec<_> = process.parents.iter().map(|it| (it.pid, it.comm.as_str())).collect();
        assert_eq!((process.pid, found), (pid, vec![(shell.id(), "sh")]));
    }

    #[test]
    fn a_family_has_its_usual_name() {
        assert_eq!(proto(libc::AF_VSOCK.cast_unsigned(), 1, 0), "vsock");
        assert_eq!(proto(libc::AF_INET.cast_unsigned(), 3, 1), "raw");
        assert_eq!(proto(libc::AF_INET6.cast_unsigned(), 2, 58), "icmp");
        assert_eq!(proto(3, 2, 0), "other");
    }
}
