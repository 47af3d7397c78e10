//! The keeper's watch: passes signals on, stops and goes on with the command, and says how it
//! ended.
//!
//! The keeper stays in the command's process group, so that pipelines and the shell's job
//! control work as if boundary were not there. What the terminal sends, it sends to both; what
//! somebody sends to the keeper alone is passed on.
//!
//! *Never*: handles a byte from the network.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{Pid, getpid, getsid};

use crate::control::KILL;
use crate::jail::Call;
use crate::sys::process::{self, Change};

/// The signals that reach the command as if boundary were not there.
const PASSED_ON: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// Those that are for nobody but this process: children are collected, and the kernel has `SIGIO` for the
/// whole foreground of a terminal if one program asks for it.
const IGNORED: &[Signal] = &[Signal::SIGCHLD, Signal::SIGIO];

/// The processes whose end ends the session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family<'a> {
    /// The command.
    pub(super) command: Pid,
    /// The proxy.
    pub(super) proxy: Pid,
    /// The first process of the command's pid namespace.
    pub(super) janitor: Pid,
    /// The line of the usher that stands for the command, where one does. It ends with the command's
    /// status, so that a signal ends nobody but itself, and says so before it stops in its place.
    pub(super) usher: Option<&'a UnixStream>,
}

impl Family<'_> {
    /// What the end of another child than the command means.
    fn lost(self, child: Pid) -> Option<Ended> {
        let [proxy, janitor] = [self.proxy, self.janitor].map(|one| one == child);
        let name = if proxy { "proxy" } else { "init" };
        (proxy || janitor).then_some(Ended::Lost(name))
    }
}

/// The number of `SIGKILL`, on every architecture.
const KILLED: u8 = 9;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The command exited.
    Exited(u8),
    /// A signal of this number ended the command.
    Signalled(u8),
    /// A process of boundary ended first; the command is cut off.
    Lost(&'static str),
}

/// The signals of this process, read one at a time.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks what is watched, so that nothing is lost between here and [`Signals::watch`].
    pub(super) fn block() -> Result<Self, Call> {
        let mut watched = SigSet::empty();
        for &signal in PASSED_ON {
            watched.add(signal);
        }
        for &signal in IGNORED {
            watched.add(signal);
        }
        watched.thread_block().map_err(Call::to("sigprocmask"))?;
        SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC)
            .map(Self)
            .map_err(Call::to("signalfd"))
    }

    /// Watches until the command or a process of boundary ends.
    pub(super) fn watch(&self, family: Family<'_>) -> Result<Ended, Call> {
        loop {
            // A child may have ended before its signal was read, or several for one signal.
            if let Some(ended) = collect(family).map_err(Call::to("waitpid"))? {
                return Ok(ended);
            }
            let info = match self.0.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(Call::to("read(signalfd)")(error)),
            };
            if !is_kill(&info) {
                pass_on(&info, family.command);
                continue;
            }
            // An usher would be killed in the command's place: that is left to the session's end.
            if family.usher.is_some() {
                return Ok(Ended::Signalled(KILLED));
            }
            send(family.command, Signal::SIGKILL);
        }
    }
}

/// Whether a signal is `boundary ctl stop`'s, for a command that has not heeded the first.
fn is_kill(info: &siginfo) -> bool {
    let is_queued = info.ssi_code == libc::SI_QUEUE && info.ssi_int == KILL;
    is_queued && i32::try_from(info.ssi_signo) == Ok(libc::SIGTERM)
}

/// Passes a signal on to the command, unless the terminal has sent it to both: the foreground gets it as
/// one, but that the terminal is gone is told to the leader of its session alone.
fn pass_on(info: &siginfo, command: Pid) {
    let signal = libc::c_int::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
    let Some(signal) = signal.filter(|signal| !IGNORED.contains(signal)) else { return };
    let is_ours_alone = signal == Signal::SIGHUP && getsid(None) == Ok(getpid());
    if info.ssi_code != libc::SI_KERNEL || is_ours_alone {
        send(command, signal);
    }
}

/// Signals the command.
fn send(command: Pid, signal: Signal) {
    if let Err(error) = kill(command, signal) {
        // It may have ended just now; that is collected next.
        tracing::debug!(%error, %signal, "a signal could not be passed on");
    }
}

/// Collects the children that have changed; tells when one's end ends the session.
fn collect(family: Family<'_>) -> nix::Result<Option<Ended>> {
    loop {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        let ended = match process::collect(None, flags) {
            Ok(None) => return Ok(None),
            Ok(Some((pid, change))) if pid == family.command => judge(change, family)?,
            Ok(Some((pid, Change::Exited(_) | Change::Killed(_)))) => family.lost(pid),
            Ok(Some((_, Change::Stopped | Change::Other))) => None,
            Err(Errno::ECHILD) => Some(Ended::Lost("command")),
            Err(error) => return Err(error),
        };
        if ended.is_some() {
            return Ok(ended);
        }
    }
}

/// What a change of the command means.
fn judge(change: Change, family: Family<'_>) -> nix::Result<Option<Ended>> {
    match change {
        Change::Exited(code) => return Ok(Some(Ended::Exited(code))),
        Change::Killed(_) if family.usher.is_some() => return Ok(Some(Ended::Lost("usher"))),
        Change::Killed(signal) => return Ok(Some(Ended::Signalled(signal))),
        // Somebody has stopped the usher, which is no concern of the command's.
        Change::Stopped if !is_commands(family.usher) => kill(family.command, Signal::SIGCONT)?,
        // The shell has to see its job stopped; it is this process that the shell knows. What
        // makes it go on makes the command go on, and may have come already: a stop would discard it.
        Change::Stopped => {
            if !process::is_pending(Signal::SIGCONT)? {
                raise(Signal::SIGSTOP)?;
            }
            kill(family.command, Signal::SIGCONT)?;
        }
        Change::Other => {}
    }
    Ok(None)
}

/// Whether a stop is the command's own: where an usher stands for it, it has said so.
fn is_commands(usher: Option<&UnixStream>) -> bool {
    let Some(line) = usher else { return true };
    recv(line.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) == Ok(1)
}
