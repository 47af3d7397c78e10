//! The first process of the command's pid namespace: reaps what nobody waits for, and clears up
//! when the keeper is killed. The documents and `ps` call it `init`.
//!
//! *Standing*: forked before anything exists that could be left behind. The kernel kills the
//! whole namespace when it dies. *Never*: enters the session's cgroup, runs the command, or
//! touches the network.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{Pid, setsid};
use uuid::Uuid;

use super::channel::{Channel, Message};
use super::stdio;
use super::trust::SessionFiles;
use crate::jail::ebpf::{Cgroup, Name};
use crate::jail::nsjail::{self, Init};
use crate::jail::{Call, mutation};
use crate::proxy::Doors;
use crate::sys::process;

/// What a session would leave behind if its keeper were killed.
#[derive(Debug, Clone)]
pub(super) struct Remains {
    /// The name of its cgroup.
    pub(super) cgroup: Name,
    /// Its directory of files.
    pub(super) files: PathBuf,
}

impl Remains {
    /// What a session will have.
    pub(super) fn of(session: &Uuid) -> Self {
        Self { cgroup: Name::of(session), files: SessionFiles::place(session) }
    }

    /// Kills what runs and removes what is there. What is not there is not missed.
    fn clear(&self) {
        if !mutation::stands("janitor") {
            return;
        }
        drop(Cgroup::inherit(&self.cgroup));
        drop(fs::remove_dir_all(&self.files));
    }
}

/// The keeper's hold on the janitor: while it lives, so does the pid namespace.
#[derive(Debug)]
pub(super) struct Janitor {
    /// In the keeper's pid namespace.
    pub(super) pid: Pid,
    /// The pid namespace, where the keeper is to enter it.
    namespace: Option<File>,
    /// Its end of file tells the janitor that the keeper is gone, however it went.
    line: Channel,
}

impl Janitor {
    /// Starts it as the first process of a new pid namespace. What is returned beside it is for the
    /// usher: when the last copy of it is closed, what runs in the namespace ends.
    pub(super) fn start(remains: &Remains) -> Result<(Self, UnixStream), Call> {
        let (line, far) = Channel::pair().map_err(Call::to("socketpair"))?;
        let (alarm, heard) = UnixStream::pair().map_err(Call::to("socketpair"))?;
        let own = File::open("/proc/self/ns/pid").map_err(Call::to("open(ns/pid)"))?;
        unshare(CloneFlags::CLONE_NEWPID).map_err(Call::to("unshare(CLONE_NEWPID)"))?;
        let pid = process::fork(|| u8::from(watch(far, &heard, remains).is_err()))
            .map_err(Call::to("fork"))?;
        setns(&own, CloneFlags::CLONE_NEWPID).map_err(Call::to("setns(CLONE_NEWPID)"))?;
        let namespace =
            File::open(format!("/proc/{pid}/ns/pid")).map_err(Call::to("open(ns/pid)"))?;
        Ok((Self { pid, namespace: Some(namespace), line }, alarm))
    }

    /// Starts it in no namespace of its own, where the usher collects and ends what runs: it clears
    /// up, and nothing else. The alarm that is returned beside it is heard by nobody.
    pub(super) fn start_outside(remains: &Remains) -> Result<(Self, UnixStream), Call> {
        let (line, far) = Channel::pair().map_err(Call::to("socketpair"))?;
        let (alarm, _) = UnixStream::pair().map_err(Call::to("socketpair"))?;
        let pid =
            process::fork(|| u8::from(wait(&far, remains).is_err())).map_err(Call::to("fork"))?;
        Ok((Self { pid, namespace: None, line }, alarm))
    }

    /// Starts it as the first process of the namespaces of a network namespace jail.
    pub(super) fn start_in_namespaces(
        remains: &Remains,
        is_proved: bool,
        raise: impl FnOnce(&Init<'_>) -> Result<(nsjail::Walls, Doors), nsjail::Error>,
    ) -> Result<(Self, UnixStream, nsjail::Walls, Doors), nsjail::Error> {
        let (line, far) = Channel::pair().map_err(Call::to("socketpair"))?;
        let (alarm, heard) = UnixStream::pair().map_err(Call::to("socketpair"))?;
        let keeps = [far.as_raw_fd(), heard.as_raw_fd()];
        let far = Cell::new(Some(far));
        let serve = || u8::from(far.take().is_none_or(|far| watch(far, &heard, remains).is_err()));
        let (walls, doors) = raise(&Init { life: &serve, keeps: &keeps, is_proved })?;
        Ok((Self { pid: walls.init(), namespace: None, line }, alarm, walls, doors))
    }

    /// Whether it has ended the command because the usher was gone.
    pub(super) fn take_loss_of_usher(&mut self) -> bool {
        self.line.has_something() && matches!(self.line.receive(), Ok(Some(Message::Failed(_))))
    }

    /// How many processes and threads were started in the namespace so far: the number that the
    /// next one gets there. None where this process may not see that.
    pub(super) fn tasks(&self) -> Option<u64> {
        self.namespace.as_ref()?;
        // A fork with a copy of all, dear as it is: the command may stop this child by its number, and who
        // shared its memory would wait for it.
        let next = process::fork(|| 0).ok()?;
        let status = fs::read(format!("/proc/{next}/status"));
        process::end(next, super::END);
        let status = status.ok()?;
        let status = String::from_utf8_lossy(&status);
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let inner = numbers.split_whitespace().nth(1)?.parse::<u64>().ok()?;
        // The namespace's first process and this one are boundary's own.
        inner.checked_sub(2)
    }

    /// Makes the next children of this process members of the namespace.
    pub(super) fn adopt_children(&self) -> Result<(), Call> {
        if !mutation::stands("processes") {
            return Ok(());
        }
        let Some(namespace) = &self.namespace else { return Ok(()) };
        setns(namespace, CloneFlags::CLONE_NEWPID).map_err(Call::to("setns(CLONE_NEWPID)"))
    }
}

impl Janitor {
    /// Has everything in the namespaces killed by their first process, which stays: it is to clear
    /// up if the keeper is killed now. Where it is not the walls' own, those do it.
    pub(super) fn kill_others(&mut self) -> io::Result<()> {
        if self.namespace.is_none() { self.line.send(&Message::Go) } else { Ok(()) }
    }
}

impl Drop for Janitor {
    /// Ends the namespace. Its first process is gone only when every other is collected; the one
    /// that this process forked into it was collected before.
    fn drop(&mut self) {
        if !process::end(self.pid, super::END) {
            tracing::error!("a process of the command waits for the machine and cannot be ended");
        }
    }
}

/// The janitor's life: reap until the keeper is gone, then clear up. Where the usher is gone first,
/// it ends what is left, and says so.
fn watch(mut line: Channel, usher: &UnixStream, remains: &Remains) -> io::Result<()> {
    let block = SigSet::all();
    block.thread_set_mask()?;
    setsid()?;
    prctl::set_dumpable(false)?;
    prctl::set_name(c"boundary-init")?;
    stdio::detach()?;
    process::keep_only(&[line.as_raw_fd(), usher.as_raw_fd()])?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let signals = SignalFd::new(&children)?;
    let mut has_usher = true;
    loop {
        let mut events = vec![
            PollFd::new(line.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if has_usher {
            events.push(PollFd::new(usher.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut events, PollTimeout::NONE)?;
        let mut happened = events.iter().map(|event| event.any().unwrap_or(true));
        let mut next = || happened.next().unwrap_or_default();
        let (is_over, has_child, is_usher_gone) = (next(), next(), next());
        if has_child {
            signals.read_signal()?;
            reap();
        }
        if is_over && !is_told_to_kill(&line) {
            remains.clear();
            return Ok(());
        }
        if is_usher_gone {
            has_usher = false;
            // A keeper that dies closes both lines, this one's end maybe last: there is nobody to
            // tell then, and the rest is still to be cleared up.
            drop(line.send(&Message::Failed("usher".to_owned())));
            kill(EVERYBODY, Signal::SIGKILL).unwrap_or_default();
        }
    }
}

/// The life of a janitor in no namespace of its own: waits for the keeper's end, and clears up. What
/// the keeper says is for others.
fn wait(line: &Channel, remains: &Remains) -> io::Result<()> {
    SigSet::all().thread_set_mask()?;
    setsid()?;
    prctl::set_dumpable(false)?;
    prctl::set_name(c"boundary-init")?;
    stdio::detach()?;
    process::keep_only(&[line.as_raw_fd()])?;
    while let Some(_told) = line.receive()? {}
    remains.clear();
    Ok(())
}

/// Every process of the namespace but this one.
const EVERYBODY: Pid = Pid::from_raw(-1);
/// Kills every other process of the namespace if the keeper says so. False at the line's end.
fn is_told_to_kill(line: &Channel) -> bool {
    let is_told = matches!(line.receive(), Ok(Some(Message::Go)));
    if is_told && let Err(error) = kill(EVERYBODY, Signal::SIGKILL) {
        // There may be none any more.
        tracing::debug!(%error, "nobody was killed");
    }
    is_told
}

/// Collects every child that has ended.
fn reap() {
    while let Ok(Some(_)) = process::collect(None, WaitPidFlag::WNOHANG) {}
}
