//! Handles of processes: what is told to one reaches that process or nobody, whoever gets its number.
//!
//! *Never*: decides whom.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
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

/// Signals the process of a handle (Linux 5.1).
pub fn signal(process: BorrowedFd<'_>, signal: Signal) -> nix::Result<()> {
    let none: *const libc::siginfo_t = std::ptr::null();
    let (process, signal) = (process.as_raw_fd(), signal as libc::c_int);
    // SAFETY: without a structure the call takes plain numbers.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, none, 0) };
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
