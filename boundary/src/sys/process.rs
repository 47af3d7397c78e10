//! Processes and their privileges: fork, descriptors, capabilities, signals.
//!
//! *Standing*: `session` forks with these, `jail::child` gives privileges up with them.
//! *Never*: decides who may do what.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

/// Forks. The child runs `body` and ends with the status it returns; nothing of the parent's
/// stack is unwound or dropped in it.
///
/// The process must have one thread: the child's other threads would be gone with their locks held.
pub fn fork(body: impl FnOnce() -> u8) -> nix::Result<Pid> {
    // SAFETY: every caller forks before any thread is started, so that no lock can be held by a
    // thread that does not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => exit(body()),
    }
}

/// Forks the other way round: the child goes on from here, and the parent lives the given life with
/// the child's number, and ends with its status. By the rules of [`fork`].
pub fn split(life: impl FnOnce(Pid) -> u8) -> nix::Result<()> {
    // SAFETY: as in `fork`.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => exit(life(child)),
        ForkResult::Child => Ok(()),
    }
}

/// Forks straight into a cgroup (`CLONE_INTO_CGROUP`, Linux 5.7), by the rules of [`fork`].
///
/// A process that moves itself by `cgroup.procs` waits for every other that forks or moves on the
/// machine: milliseconds, where this takes none. None says that the kernel, or a filter around us,
/// has no such call.
pub fn fork_into(cgroup: BorrowedFd<'_>, body: impl FnOnce() -> u8) -> nix::Result<Option<Pid>> {
    // SAFETY: every field of the structure may be zero.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    let size = size_of::<libc::clone_args>();
    // SAFETY: without a stack and without shared memory the call is a fork; see `fork` for the
    // threads. The structure outlives the call, and its size goes with it.
    let forked = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) };
    match i32::try_from(forked) {
        Ok(0) => exit(body()),
        Ok(pid) if pid > 0 => Ok(Some(Pid::from_raw(pid))),
        Ok(_) | Err(_) => {
            let error = Errno::last();
            let absent = [Errno::ENOSYS, Errno::E2BIG, Errno::EINVAL, Errno::EPERM];
            if absent.contains(&error) { Ok(None) } else { Err(error) }
        }
    }
}

/// Forks a sibling: its parent is ours, which collects it. By the rules of [`fork`].
///
/// Who has entered a pid namespace stays outside itself; its children are inside. So the one that
/// enters forks the one that stays, and the parent of both need not enter anything.
pub fn fork_sibling(body: impl FnOnce() -> u8) -> nix::Result<Pid> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without a stack and without shared memory the call is a fork; see `fork` for the
    // threads. The arguments after the flags are none, in whatever order the architecture has them.
    let forked = unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0, 0, 0, 0) };
    match i32::try_from(forked) {
        Ok(0) => exit(body()),
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        Ok(_) | Err(_) => Err(Errno::last()),
    }
}

/// `CLONE_INTO_CGROUP` of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends the process at once, running no destructor and no exit handler.
fn exit(status: u8) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Lets this process have as many descriptors as it may.
#[doc(alias = "RLIMIT_NOFILE")]
pub fn raise_descriptors() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

/// How a child has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has ended, with this status.
    Exited(u8),
    /// A signal of this number has ended it.
    Killed(u8),
    /// It has been stopped.
    Stopped,
    /// Something else, of no concern here.
    Other,
}

/// Collects a child that has changed, one of this number or any; none where none has.
///
/// The one of nix 0.31 fails where a real-time signal has ended the child, which it has collected then.
#[doc(alias = "waitpid")]
pub fn collect(child: Option<Pid>, flags: WaitPidFlag) -> nix::Result<Option<(Pid, Change)>> {
    let mut status = 0;
    // SAFETY: the kernel writes a number there, and nothing else.
    let found =
        unsafe { libc::waitpid(child.map_or(-1, Pid::as_raw), &raw mut status, flags.bits()) };
    let found = Errno::result(found)?;
    let small = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    let change = if libc::WIFEXITED(status) {
        Change::Exited(small(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        Change::Killed(small(libc::WTERMSIG(status)))
    } else if libc::WIFSTOPPED(status) {
        Change::Stopped
    } else {
        Change::Other
    };
    Ok((found > 0).then_some((Pid::from_raw(found), change)))
}

/// Kills a child and waits until it is gone. One that was collected already is gone, and its number
/// may be somebody else's by now.
///
/// False if it is still there after the given time: a process that waits for a disk cannot be
/// killed before the disk answers. It does nothing any more, and nobody needs to wait for it.
pub fn end(child: Pid, at_most: Duration) -> bool {
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => {}
        Ok(_) | Err(_) => return true,
    }
    // It is our child and not collected, so that the number is still its own.
    let watched = watch(child);
    if kill(child, Signal::SIGKILL).is_err() {
        return true;
    }
    // Without a descriptor to wait with there is no other wait than the one without an end.
    let is_over = watched.map_or(true, |watched| is_over(&watched, at_most));
    let how = if is_over { WaitPidFlag::empty() } else { WaitPidFlag::WNOHANG };
    loop {
        match waitpid(child, Some(how)) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(_) => return true,
        }
    }
}

/// A descriptor that is readable when a process has ended, with every thread (Linux 5.3).
#[doc(alias = "pidfd_open")]
fn watch(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes plain numbers.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    let number = i32::try_from(opened).ok().filter(|number| *number >= 0);
    let number = number.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Waits until a watched process has ended. False if it has not after the given time.
fn is_over(watched: &OwnedFd, at_most: Duration) -> bool {
    let deadline = Instant::now() + at_most;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, left) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Closes every descriptor above 2 but those in `kept`.
///
/// For a child that has forked: the objects that own the closed descriptors belong to the parent's
/// part of the program and are never used or dropped in the child, which ends by `_exit` or exec.
/// `close_range(2)` is there since Linux 5.9.
pub fn keep_only(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|&fd| u32::try_from(fd).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for number in kept.into_iter().filter(|&number| number > 2) {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the call takes plain numbers; see `keep_only` for who owned the descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Drops every capability but `keep` from the bounding set, so that no exec can give it back.
///
/// Needs `CAP_SETPCAP`.
pub fn bound_capabilities(keep: &[u32]) -> io::Result<()> {
    for number in (0..64_u32).filter(|number| !keep.contains(number)) {
        // SAFETY: the call takes plain numbers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            // The number past the kernel's last capability.
            if error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Whether a capability is in the effective set, by its number.
pub fn has_capability(number: u32) -> bool {
    // Whoever cannot tell tries, and fails loudly.
    capget().map_or(true, |sets| {
        let [low, high] = sets.map(|it| u64::from(it.effective));
        (high << 32 | low) >> number & 1 == 1
    })
}

/// Gives up every capability but `keep`, now and for what is inherited.
pub fn hold_capabilities(keep: &[u32]) -> io::Result<()> {
    // SAFETY: the call takes plain numbers.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    }))?;
    set_capabilities(keep.iter().fold(0, |set, number| set | 1_u64 << number))
}

/// Keeps what is permitted when the user ids change, for [`hold_capabilities`] to choose from.
pub fn keep_permitted() -> io::Result<()> {
    // SAFETY: the call takes plain numbers.
    check(i64::from(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }))
}

/// Does something without any capability, as whoever has none would, and takes them up again.
pub fn without_capabilities<T>(does: impl FnOnce() -> T) -> io::Result<T> {
    let own = capget()?;
    capset(own.map(|sets| Sets { effective: 0, ..sets }))?;
    let done = does();
    capset(own)?;
    Ok(done)
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the permitted and effective sets to exactly `kept`, the inheritable set to nothing.
fn set_capabilities(kept: u64) -> io::Result<()> {
    let half = |shift: u32| {
        #[expect(clippy::cast_possible_truncation, reason = "one half at a time")]
        let bits = (kept >> shift) as u32;
        Sets { effective: bits, permitted: bits, inheritable: 0 }
    };
    capset([half(0), half(32)])
}

/// The sets of this thread, the lower halves first.
fn capget() -> io::Result<[Sets; 2]> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut own = [Sets::default(), Sets::default()];
    // SAFETY: both pointers are to live values of the layout that version 3 prescribes: one
    // header, two sets.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, own.as_mut_ptr()) })?;
    Ok(own)
}

/// Sets the sets of this thread, the lower halves first.
fn capset(sets: [Sets; 2]) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: both pointers are to live values of the layout that version 3 prescribes: one
    // header, two sets.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
}

/// Whether who started this process had its children collected by nobody.
static IGNORES_CHILDREN: AtomicBool = AtomicBool::new(false);

/// Has this process hear of its children's end, as every wait for one of them needs: where whoever started
/// it had `SIGCHLD` ignored, the kernel forgets a child that ends.
pub fn hear_of_children() -> nix::Result<()> {
    // SAFETY: the default action runs no code of ours.
    let before = unsafe { sigaction(Signal::SIGCHLD, &action(SigHandler::SigDfl)) }?;
    let is_ignored = matches!(before.handler(), SigHandler::SigIgn);
    IGNORES_CHILDREN.store(is_ignored, Ordering::Relaxed);
    Ok(())
}

/// Gives every signal that this process handles or that the Rust runtime ignores its default
/// action again, and unblocks all.
///
/// Signals that the caller of boundary had set to be ignored (`nohup`) stay ignored, and that of
/// [children](hear_of_children) is again.
pub fn reset_signals() -> nix::Result<()> {
    // The runtime ignores SIGPIPE before `main`.
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(Signal::SIGPIPE, &action(SigHandler::SigDfl)) }?;
    if IGNORES_CHILDREN.load(Ordering::Relaxed) {
        // SAFETY: neither does the one that does nothing.
        unsafe { sigaction(Signal::SIGCHLD, &action(SigHandler::SigIgn)) }?;
    }
    SigSet::all().thread_unblock()
}

/// What is done about a signal.
fn action(handler: SigHandler) -> SigAction {
    SigAction::new(handler, SaFlags::empty(), SigSet::empty())
}

/// Whether a signal that is blocked waits for this thread or its process.
pub fn is_pending(signal: Signal) -> nix::Result<bool> {
    let mut waiting = *SigSet::empty().as_ref();
    // SAFETY: the set is ours, and whole before as after.
    Errno::result(unsafe { libc::sigpending(&raw mut waiting) })?;
    // SAFETY: the kernel has filled it.
    Ok(unsafe { SigSet::from_sigset_t_unchecked(waiting) }.contains(signal))
}

/// Has a program killed when the thread that starts it ends, as all do with their process.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    let tie = || prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from);
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(tie) }
}

/// Turns the return value of a raw system call into a result.
fn check(returned: i64) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
