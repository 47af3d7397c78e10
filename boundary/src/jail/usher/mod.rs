//! The usher: leads the command to unix sockets of its own session, and to no other.
//!
//! Nothing in the kernel tells a program at the right moment whose socket a name leads to: a hook
//! sees the name, and the path may lead elsewhere when it is followed. So the filter of system calls
//! asks here. The usher opens what the name leads to, looks whose socket that is, and makes the call
//! for the command, on the command's own socket, by a name that can lead to nothing else. What it
//! leads to is another's: the call fails, and is on record. Where no hook stands behind it (`nsjail`), it
//! makes every other connection too, by the address that it has read: the kernel would read it again.
//!
//! ```text
//! command ── connect(path) ─filter asks→ usher ─ opens, looks, connects ─answers→ command
//!                         └ hook refuses whoever else names a unix socket (Linux 6.7)
//! ```
//!
//! *Standing*: forked by the command's process on its way in, inside its namespaces and its Landlock
//! domain, with the few rights that it takes to act for another process. Its end ends the session.
//! *Never*: lets a call that names a unix socket go on by itself.

pub(super) mod connect;
pub(super) mod message;
mod nested;
pub(super) mod peer;
pub(super) mod report;
mod request;
mod service;
pub(super) mod thread;
pub(super) mod waiter;

pub use nested::{Answer, Request};
pub(super) use nested::{FULL, MAX_ROOMS, question};
pub use report::{Entry, Reports, Told};

pub(crate) use peer::line as list_line;
pub(crate) use report::pair as report_pair;
pub(super) use service::{address_of, is_cover};

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, pause, setsid, write};

use super::landjail::Stand;
use super::{Call, mutation};
use crate::sys::{pidfd, process, reach};

/// The capabilities that the usher keeps: `DAC_OVERRIDE` where it acts for root, `SETGID` and
/// `SETUID` to act for the user, `SYS_PTRACE` to share the command's sockets and read its names.
const KEEPS: &[u32] = &[1, 6, 7, 19];

/// What the usher is given on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Seat<'a> {
    /// The folder of the cgroup whose processes may name unix sockets; none where no hook asks for
    /// it.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// A line that ends when the usher does, so that somebody notices.
    pub alarm: BorrowedFd<'a>,
    /// Where refusals are told.
    pub reports: BorrowedFd<'a>,
    /// The session's own cgroup, in which there are rooms for boundary inside boundary, and what it
    /// is called; none where the jail has no such rooms.
    pub house: Option<(BorrowedFd<'a>, &'a str)>,
    /// What asks the kernel for the list of the host's unix sockets, where the command is in another
    /// network.
    pub outside: Option<BorrowedFd<'a>>,
    /// Where boundary inside boundary asks for a room.
    pub door: &'a Path,
    /// The sockets of the host that the command may use.
    pub open: &'a [PathBuf],
    /// Whether no hook stands behind it: then no connection goes on in the kernel, which would read the
    /// address again.
    pub stands_alone: bool,
    /// What it stands with besides, where it makes every socket.
    pub stand: Option<Stand<'a>>,
}

impl<'a> Seat<'a> {
    /// What every jail's usher has.
    pub fn new(
        alarm: BorrowedFd<'a>,
        reports: BorrowedFd<'a>,
        door: &'a Path,
        open: &'a [PathBuf],
    ) -> Self {
        let (cgroup, house, outside, stand) = (None, None, None, None);
        Self { cgroup, alarm, reports, house, outside, door, open, stands_alone: false, stand }
    }

    /// The descriptors that must be open until the usher is started.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let all = [
            self.cgroup,
            Some(self.alarm),
            Some(self.reports),
            self.house.map(|(house, _)| house),
            self.outside,
        ];
        let stand = self.stand.into_iter().flat_map(|stand| stand.descriptors());
        all.into_iter().flatten().map(|fd| fd.as_raw_fd()).chain(stand)
    }
}

/// The command's line to its usher, until the filter stands.
#[derive(Debug)]
pub(super) struct Desk(UnixStream);

impl Desk {
    /// Starts the usher, and waits until it is in its place.
    ///
    /// It is forked twice, so that the command has no child of which it knows nothing: what waits
    /// for every child would wait for ever.
    pub(super) fn open(seat: &Seat<'_>) -> Result<Self, Call> {
        let (mut near, far) = UnixStream::pair().map_err(Call::to("socketpair"))?;
        let usher = || {
            let Err(error) = live(seat, &far);
            tracing::error!(%error, "the usher ended");
            1
        };
        let between = process::fork(|| u8::from(fork(seat, usher).is_err()));
        waitpid(between.map_err(Call::to("fork"))?, None).map_err(Call::to("waitpid"))?;
        drop(far);
        near.read_exact(&mut [0]).map_err(Call::to("read(usher)"))?;
        Ok(Self(near))
    }

    /// Hands over where the filter's questions arrive, and waits until somebody answers them.
    pub(super) fn hand_over(mut self, listener: OwnedFd) -> Result<(), Call> {
        let (process, number) = (std::process::id(), listener.as_raw_fd());
        let message = [process.to_ne_bytes(), number.to_ne_bytes()].concat();
        self.0.write_all(&message).map_err(Call::to("write(usher)"))?;
        self.0.read_exact(&mut [0]).map_err(Call::to("read(usher)"))?;
        drop(listener);
        Ok(())
    }
}

/// Forks the usher into its cgroup.
///
/// From its first moment, because a process that moves makes the kernel wait for every processor: that
/// was half of what a session took to start. Where the kernel cannot fork into one, it moves.
fn fork(seat: &Seat<'_>, mut usher: impl FnMut() -> u8) -> io::Result<Pid> {
    let Some(cgroup) = seat.cgroup else { return Ok(process::fork(usher)?) };
    if let Some(usher) = process::fork_into(cgroup, &mut usher)? {
        return Ok(usher);
    }
    let moved = || if enter(cgroup).is_ok() { usher() } else { 1 };
    Ok(process::fork(moved)?)
}

/// Moves this process into a cgroup.
fn enter(cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let entrance = openat(cgroup, "cgroup.procs", flags, Mode::empty())?;
    write(entrance, b"0")?;
    Ok(())
}

/// The usher's whole life.
fn live(seat: &Seat<'_>, mut line: &UnixStream) -> io::Result<Infallible> {
    take_place(seat, line)?;
    line.write_all(&[0])?;
    match take_listener(line) {
        // Nobody will ask, but the session is not to end for want of an usher.
        Err(_) if !mutation::stands("seccomp") => {}
        listener => {
            let service = service::Service::new(listener?, seat)?;
            // The command may run now: what it could change was looked at.
            line.write_all(&[0])?;
            service.run()?;
        }
    }
    // Nobody is left who could ask. The session's end is the usher's, not the other way round.
    loop {
        pause();
    }
}

/// Goes where it stands, and gives up what it does not need.
fn take_place(seat: &Seat<'_>, line: &UnixStream) -> io::Result<()> {
    leave_terminal()?;
    let kept: Vec<RawFd> = seat.descriptors().chain([line.as_raw_fd()]).collect();
    process::keep_only(&kept)?;
    // Every call that waits for a server needs some.
    process::raise_descriptors()?;
    process::bound_capabilities(KEEPS)?;
    process::hold_capabilities(KEEPS)
}

/// Becomes a process of its own, which no signal stops, nobody looks into and no terminal reaches.
pub(super) fn leave_terminal() -> io::Result<()> {
    SigSet::all().thread_set_mask()?;
    setsid()?;
    prctl::set_dumpable(false)?;
    prctl::set_name(c"boundary-usher")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    drop(null);
    Ok(chdir("/")?)
}

/// Takes what the command's process has open for us: it says its number, and waits.
fn take_listener(mut line: &UnixStream) -> io::Result<OwnedFd> {
    let (mut process, mut number) = ([0; 4], [0; 4]);
    line.read_exact(&mut process)?;
    line.read_exact(&mut number)?;
    let process = pidfd::open_thread_or_process(u32::from_ne_bytes(process))?;
    Ok(reach::share_descriptor(process.as_fd(), i32::from_ne_bytes(number))?)
}
