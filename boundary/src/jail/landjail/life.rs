//! The usher's life: the parent of the command, which collects what ends below it, answers its
//! calls, passes signals on and ends as it ends.
//!
//! It is the parent, because a kernel with Yama lets only an ancestor look at what a call points to.
//! *Never*: outlives the keeper, or leaves a process behind.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{Pid, getpid};

use super::service::{Parts, Shared};
use super::{END, family, rooms};
use crate::jail::Call;
use crate::jail::child::{Identity, ROOT_KEEPS};
use crate::jail::filter;
use crate::jail::usher::{Seat, leave_terminal};
use crate::sys::pass;
use crate::sys::process::{self, Change};

/// The capabilities that the usher of a root command keeps, as far as it has them: those that it
/// takes to act for whoever calls, and to look at what it points to.
const KEEPS: &[u32] = &[1, 2, 5, 6, 7, 19];

/// What the command's process says before its filter stands: whether its ids are to be mapped.
const MAP: u8 = b'm';
const NO_MAP: u8 = b'-';

/// The command's line to its usher.
#[derive(Debug)]
pub(super) struct Desk(UnixStream);

impl Desk {
    /// Makes the caller the usher, and returns in its child, which becomes the command.
    pub(super) fn open(seat: &Seat<'_>, identity: &Identity) -> Result<Self, Call> {
        let (near, far) = UnixStream::pair().map_err(Call::to("socketpair"))?;
        process::split(|command| match Usher::live((seat, identity), command, &far) {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(%error, "the usher ended");
                die()
            }
        })
        .map_err(Call::to("fork"))?;
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(Call::to("prctl(PR_SET_PDEATHSIG)"))?;
        Ok(Self(near))
    }

    /// Has the ids of the caller's new user namespace mapped, or says that there is none.
    pub(super) fn map_ids(&mut self, is_new: bool) -> Result<(), Call> {
        self.0.write_all(&[if is_new { MAP } else { NO_MAP }]).map_err(Call::to("write(usher)"))?;
        self.0.read_exact(&mut [0]).map_err(Call::to("read(usher)"))
    }

    /// Hands over where the filter's questions arrive, and waits until somebody answers them.
    pub(super) fn hand_over(&mut self, listener: &OwnedFd) -> Result<(), Call> {
        let unasked = MsgFlags::from_bits_retain(filter::UNASKED.cast_signed());
        pass::send_with((self.0.as_fd(), unasked), &[0], &[listener.as_fd()])
            .map_err(Call::to("sendmsg(usher)"))?;
        self.0.read_exact(&mut [0]).map_err(Call::to("read(usher)"))
    }

    /// Has what is refused told from now on.
    pub(super) fn speak(mut self) -> Result<(), Call> {
        self.0.write_all(&[0]).map_err(Call::to("write(usher)"))?;
        self.0.read_exact(&mut [0]).map_err(Call::to("read(usher)"))
    }
}

/// Ends the usher in a way that nobody takes for the command's.
fn die() -> u8 {
    kill(getpid(), Signal::SIGKILL).unwrap_or_default();
    u8::MAX
}

/// The usher at its place.
struct Usher<'a> {
    command: Pid,
    /// What answers, in a thread of its own: a call then waits for nothing but its answer.
    shared: Arc<Shared>,
    signals: SignalFd,
    /// To the keeper.
    line: OwnedFd,
    /// To the command's process, until it is the command.
    desk: Option<&'a UnixStream>,
}

impl<'a> Usher<'a> {
    /// The whole life; the command's exit status.
    fn live(
        (seat, identity): (&Seat<'_>, &Identity),
        command: Pid,
        desk: &'a UnixStream,
    ) -> io::Result<u8> {
        let stand = seat.stand.ok_or_else(|| io::Error::other("nothing to stand with"))?;
        take_place(&[
            stand.descriptors().as_slice(),
            &[desk.as_raw_fd(), seat.reports.as_raw_fd()],
        ])?;
        map(command, desk)?;
        let door = rooms::door(seat.door);
        give_up(identity)?;
        let mut line = desk;
        line.write_all(&[0])?;
        let (_, mut taken) = pass::receive(desk.as_fd(), &mut [0])?;
        let listener = taken.pop();
        let open = seat.open.iter().map(PathBuf::as_path);
        let parts = Parts {
            listener: listener.ok_or_else(|| io::Error::from(Errno::EPIPE))?,
            flows: stand.flows.try_clone_to_owned()?,
            reports: seat.reports.try_clone_to_owned()?,
            doors: stand.doors.clone(),
            open: door.iter().map(|_| seat.door).chain(open).map(Path::to_owned).collect(),
            door,
        };
        let shared = Shared::new(parts)?;
        serve(&shared)?;
        line.write_all(&[0])?;
        let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_NONBLOCK)?;
        let line = stand.line.try_clone_to_owned()?;
        let desk = Some(desk);
        Self { command, shared, signals, line, desk }.watch()
    }

    /// Collects and passes on until the command has ended, or the keeper is gone.
    fn watch(mut self) -> io::Result<u8> {
        loop {
            let [signalled, is_over, spoken_to] = self.wait()?;
            if spoken_to {
                self.heed();
            }
            if signalled && let Some(status) = self.pass_on()? {
                family::end(&HashSet::new(), END);
                self.shared.confess();
                return Ok(status);
            }
            if is_over {
                family::end(&HashSet::new(), END);
                return Ok(u8::MAX);
            }
        }
    }

    /// Waits until something happens: a signal, the keeper's end, a word of the command's process.
    fn wait(&self) -> io::Result<[bool; 3]> {
        let event = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut events = vec![event(self.signals.as_fd()), event(self.line.as_fd())];
        if let Some(desk) = self.desk {
            events.push(event(desk.as_fd()));
        }
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut happened = events.iter().map(|event| event.any().unwrap_or(true));
        let mut next = || happened.next().unwrap_or_default();
        Ok([next(), next(), next()])
    }

    /// Hears the command's process: once the canary is through, what is refused is told.
    fn heed(&mut self) {
        let Some(mut desk) = self.desk else { return };
        if matches!(desk.read(&mut [0]), Ok(1)) {
            self.shared.speak();
            if desk.write_all(&[0]).is_ok() {
                return;
            }
        }
        self.desk = None;
    }

    /// Passes signals on, and collects what has ended. The command's status, if that is among it.
    fn pass_on(&self) -> io::Result<Option<u8>> {
        while let Some(info) = self.signals.read_signal()? {
            let number = libc::c_int::try_from(info.ssi_signo).ok();
            match number.and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGCHLD) | None => {}
                // It may have ended just now; that is collected next.
                Some(signal) => kill(self.command, signal).unwrap_or_default(),
            }
        }
        loop {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
            let changed = match process::collect(None, flags) {
                Ok(Some((pid, change))) => (pid == self.command).then_some(change),
                Ok(None) | Err(Errno::ECHILD) => return Ok(None),
                Err(Errno::EINTR) => None,
                Err(error) => return Err(error.into()),
            };
            match changed {
                Some(Change::Exited(code)) => return Ok(Some(code)),
                Some(Change::Killed(signal)) => return Ok(Some(128_u8.saturating_add(signal))),
                // The keeper watches us in its place, and lets us go on when it does.
                Some(Change::Stopped) => {
                    send(self.line.as_raw_fd(), &[0], MsgFlags::MSG_DONTWAIT)?;
                    raise(Signal::SIGSTOP)?;
                }
                Some(Change::Other) | None => {}
            }
        }
    }
}

/// Has a thread answer the command's calls. Without it nothing of the session may go on.
fn serve(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let serve = move || {
        let mut last = Last { is_last: true };
        match shared.serve() {
            Ok(()) => last.is_last = false,
            Err(error) => tracing::error!(%error, "the usher cannot answer"),
        }
    };
    std::thread::Builder::new().spawn(serve).map(drop)
}

/// Ends the usher with the thread that has it, should that end before its time: by a panic too.
struct Last {
    is_last: bool,
}

impl Drop for Last {
    fn drop(&mut self) {
        if self.is_last {
            die();
        }
    }
}

/// Goes where it stands.
fn take_place(kept: &[&[i32]]) -> io::Result<()> {
    leave_terminal()?;
    prctl::set_child_subreaper(true)?;
    process::keep_only(&kept.concat())
}

/// Maps every id to itself in the user namespace of the command's process, if it has one of its own.
fn map(command: Pid, mut desk: &UnixStream) -> io::Result<()> {
    let mut word = [0];
    desk.read_exact(&mut word)?;
    if word == [MAP] {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{command}/{map}"), "0 0 4294967295\n")?;
        }
    }
    Ok(())
}

/// Gives up every right that is not needed to act for the command.
fn give_up(identity: &Identity) -> io::Result<()> {
    if identity.is_root() {
        // Whoever looks into a process must have every capability that it has, or `SYS_PTRACE`, which
        // a container does not give.
        let wanted = KEEPS.iter().chain(ROOT_KEEPS).copied();
        let kept: Vec<u32> = wanted.filter(|&number| process::has_capability(number)).collect();
        process::hold_capabilities(&kept)?;
    } else {
        identity.assume().map_err(|error| error.source)?;
    }
    // Every socket that is not connected yet is held, and every datagram socket twice.
    if let Err(error) = process::raise_descriptors() {
        tracing::debug!(%error, "the usher has no more descriptors than usual");
    }
    prctl::set_dumpable(false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;

    #[test]
    fn a_thread_that_ends_before_its_time_ends_its_process() {
        for is_last in [true, false] {
            let child = process::fork(|| {
                drop(Last { is_last });
                7
            });
            let child = child.unwrap();
            let expected = if is_last { Change::Killed(9) } else { Change::Exited(7) };
            let ended = process::collect(Some(child), WaitPidFlag::empty());
            assert_eq!(ended, Ok(Some((child, expected))));
        }
    }
}
