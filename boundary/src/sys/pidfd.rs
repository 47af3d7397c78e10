//! Handles of processes: what is told to one reaches that process or nobody, whoever gets its number.
//!
//! *Never*: decides whom.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A handle of the process that connected, or began to listen, at the other end of a unix socket
/// (Linux 6.5). `ENOPROTOOPT` before.
pub fn of_peer(socket: &impl AsFd) -> nix::Result<OwnedFd> {
    /// `SO_PEERPIDFD` of asm-generic/socket.h.
    const PEER: libc::c_int = 77;
    let mut handle: libc::c_int = -1;
    let mut size =
        libc::socklen_t::try_from(size_of_val(&handle)).map_err(|_wide| Errno::EINVAL)?;
    let socket = socket.as_fd().as_raw_fd();
    let place = (&raw mut handle).cast();
    // SAFETY: the value and its size live through the call.
    let done = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, PEER, place, &raw mut size) };
    Errno::result(done)?;
    own(handle)
}

/// A handle of the process that has this number now (Linux 5.3).
pub fn open(process: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes plain numbers.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    own(i32::try_from(Errno::result(handle)?).map_err(|_wide| Errno::EBADF)?)
}

/// A handle of the thread that has this number now (Linux 6.9). `EINVAL` before.
pub fn open_thread(thread: Pid) -> nix::Result<OwnedFd> {
    /// `PIDFD_THREAD` of linux/pidfd.h.
    const THREAD: libc::c_int = libc::O_EXCL;
    // SAFETY: the call takes plain numbers.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, thread.as_raw(), THREAD) };
    own(i32::try_from(Errno::result(handle)?).map_err(|_wide| Errno::EBADF)?)
}

/// A handle of the thread that has this number now; none where the kernel has none of threads.
pub fn of_thread(thread: u32) -> nix::Result<Option<OwnedFd>> {
    match open_thread(numbered(thread)?) {
        Err(Errno::EINVAL) => Ok(None),
        opened => opened.map(Some),
    }
}

/// A number as the kernel takes it.
fn numbered(process: u32) -> nix::Result<Pid> {
    i32::try_from(process).map(Pid::from_raw).map_err(|_wide| Errno::ESRCH)
}

/// A handle of a thread, or of the process that it belongs to where the kernel has none of threads:
/// there a thread that has unshared its descriptors has others than the handle leads to.
pub fn open_thread_or_process(thread: u32) -> nix::Result<OwnedFd> {
    match of_thread(thread)? {
        Some(handle) => Ok(handle),
        None => open_process_of(thread),
    }
}

/// A handle of the process that a thread belongs to.
pub fn open_process_of(thread: u32) -> nix::Result<OwnedFd> {
    open(numbered(thread)?).or_else(|_| open(numbered(process_of(thread)?)?))
}

/// Writes down on a handle which process it is of, for whoever gets the handle to [read](noted).
///
/// That takes no procfs, which before Linux 5.14 does not tell a process what it has open itself if it
/// may not be looked into, and the number is one of the reader's own namespace. It is kept as the file's
/// owner (fcntl(2)), who would get its signals; a handle of a process sends none.
pub fn note(handle: BorrowedFd<'_>, process: u32) -> nix::Result<()> {
    let process = libc::c_int::try_from(process).map_err(|_wide| Errno::ESRCH)?;
    // SAFETY: the call takes plain numbers.
    let done = unsafe { libc::fcntl(handle.as_raw_fd(), libc::F_SETOWN, process) };
    Errno::result(done).map(drop)
}

/// The process that was written down on a handle; none if none was, or it is no more.
pub fn noted(handle: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: the call takes plain numbers.
    let process = unsafe { libc::fcntl(handle.as_raw_fd(), libc::F_GETOWN) };
    u32::try_from(process).ok().filter(|process| *process > 0)
}

/// The process that a thread belongs to, as `status` has it (proc(5)).
pub fn process_of(thread: u32) -> nix::Result<u32> {
    let status = fs::read(format!("/proc/{thread}/status"));
    let status = status.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) | None => Errno::ESRCH,
        Some(other) => Errno::from_raw(other),
    })?;
    // Its name is in there too, and escaped: no line of it can be taken for another.
    let status = String::from_utf8_lossy(&status);
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    number.and_then(|number| number.trim().parse().ok()).ok_or(Errno::ESRCH)
}

/// Signals the process of a handle (Linux 5.1).
pub fn signal(process: BorrowedFd<'_>, signal: Signal) -> nix::Result<()> {
    send(process, signal as libc::c_int, None)
}

/// Whether the process of a handle has ended.
pub fn has_ended(process: BorrowedFd<'_>) -> nix::Result<bool> {
    Ok(poll(&mut [PollFd::new(process, PollFlags::POLLIN)], PollTimeout::ZERO)? > 0)
}

/// What comes with a signal (`siginfo_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Details([u8; Self::SIZE]);

impl Details {
    /// How long it is.
    pub const SIZE: usize = size_of::<libc::siginfo_t>();

    /// What these bytes say; none if they are not as many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Those of a signal that somebody queues with a number (sigqueue(3)).
    pub fn queued(number: i32) -> Self {
        /// Where `si_code` and `si_value` stand, where addresses have eight bytes.
        const CODE: usize = 8;
        const VALUE: usize = 24;
        let mut bytes = [0; Self::SIZE];
        for (place, part) in [(CODE, libc::SI_QUEUE), (VALUE, number)] {
            if let Some(bytes) = bytes.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
                *bytes = part.to_ne_bytes();
            }
        }
        Self(bytes)
    }

    /// The same for this signal.
    #[must_use]
    pub fn of_signal(mut self, signal: i32) -> Self {
        if let Some(number) = self.0.first_chunk_mut() {
            *number = signal.to_ne_bytes();
        }
        self
    }

    fn place(details: Option<&Self>) -> *const Self {
        details.map_or(std::ptr::null(), std::ptr::from_ref)
    }
}

/// Signals the process, or the thread, of a handle by a signal's number, which may be none.
pub fn send(handle: BorrowedFd<'_>, signal: i32, details: Option<&Details>) -> nix::Result<()> {
    let details = Details::place(details);
    let handle = handle.as_raw_fd();
    // SAFETY: the structure, if there is one, outlives the call, which reads it.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, handle, signal, details, 0) };
    Errno::result(done).map(drop)
}

/// Signals a thread of a process by their numbers, where there are no handles of threads.
pub fn send_by_number(
    (process, thread): (Pid, Pid),
    signal: i32,
    details: Option<&Details>,
) -> nix::Result<()> {
    let (process, thread) = (process.as_raw(), thread.as_raw());
    let done = match details {
        // SAFETY: the call takes plain numbers.
        None => unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) },
        Some(details) => {
            let call = libc::SYS_rt_tgsigqueueinfo;
            // SAFETY: the structure outlives the call, which reads it.
            unsafe { libc::syscall(call, process, thread, signal, Details::place(Some(details))) }
        }
    };
    Errno::result(done).map(drop)
}

/// Owns a descriptor that a call has just returned.
fn own(handle: libc::c_int) -> nix::Result<OwnedFd> {
    if handle < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: the callers have it from a call that returns a new one.
    Ok(unsafe { OwnedFd::from_raw_fd(handle) })
}
