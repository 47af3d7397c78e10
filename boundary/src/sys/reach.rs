//! What a privileged process may do with another one: share its sockets, read its memory, act with
//! its rights.
//!
//! *Standing*: `jail::usher` makes a call of the command with these. *Never*: decides whether.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;

/// Another handle of the open file behind a process's descriptor.
pub fn share_descriptor(process: BorrowedFd<'_>, number: i32) -> nix::Result<OwnedFd> {
    let process = process.as_raw_fd();
    // SAFETY: the call takes plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) };
    descriptor(Errno::result(fd)?)
}

/// Whether two threads have the same table of descriptors. Where the kernel does not compare them
/// (`CONFIG_KCMP`) they may have two.
pub fn share_files(thread: u32, other: u32) -> bool {
    /// `KCMP_FILES` of linux/kcmp.h.
    const FILES: i32 = 2;
    // SAFETY: the call takes plain numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, thread, other, FILES, 0, 0) == 0 }
}

/// Owns a descriptor that a call has just returned.
fn descriptor(fd: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or(Errno::EBADF)?;
    // SAFETY: the callers have it from a call that returns a new one.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Copies from the memory of a process, as far as it can be read in one go. Where a filter around
/// us refuses the call for it, procfs does the same.
pub fn read_memory(thread: u32, address: u64, into: &mut [u8]) -> nix::Result<usize> {
    match copy_from(thread, address, into) {
        Err(Errno::EPERM | Errno::ENOSYS) => {
            let memory = fs::File::open(format!("/proc/{thread}/mem"));
            memory.and_then(|memory| memory.read_at(into, address)).map_err(|error| errno(&error))
        }
        copied => copied,
    }
}

/// Copies into the memory of a process, all or nothing of it that counts.
pub fn write_memory(thread: u32, address: u64, from: &[u8]) -> nix::Result<()> {
    if from.is_empty() {
        return Ok(());
    }
    let copied = match copy_to(thread, address, from) {
        Err(Errno::EPERM | Errno::ENOSYS) => {
            let memory = fs::File::options().write(true).open(format!("/proc/{thread}/mem"));
            memory.and_then(|memory| memory.write_at(from, address)).map_err(|error| errno(&error))
        }
        copied => copied,
    };
    if copied? == from.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The error number of an error of procfs, which says `EIO` of what is not mapped.
fn errno(error: &io::Error) -> Errno {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EIO) | None => Errno::EFAULT,
        Some(number) => number,
    }
}

fn copy_from(thread: u32, address: u64, into: &mut [u8]) -> nix::Result<usize> {
    let thread = libc::pid_t::try_from(thread).map_err(|_wide| Errno::ESRCH)?;
    let address = usize::try_from(address).map_err(|_wide| Errno::EFAULT)?;
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: into.len() };
    // SAFETY: the local vector is one slice of ours; the remote one is the other process's concern.
    let length =
        unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    Errno::result(length).map(isize::unsigned_abs)
}

fn copy_to(thread: u32, address: u64, from: &[u8]) -> nix::Result<usize> {
    let thread = libc::pid_t::try_from(thread).map_err(|_wide| Errno::ESRCH)?;
    let address = usize::try_from(address).map_err(|_wide| Errno::EFAULT)?;
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: from.len() };
    // SAFETY: the local vector is one slice of ours, which is only read; the remote one is the other
    // process's concern.
    let length =
        unsafe { libc::process_vm_writev(thread, &raw const local, 1, &raw const remote, 1, 0) };
    Errno::result(length).map(isize::unsigned_abs)
}

/// Connects a socket to an address that is given as the kernel takes it.
pub fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(address.len()).map_err(|_wide| Errno::EINVAL)?;
    // SAFETY: pointer and length are of one slice, which the kernel copies.
    let done = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    Errno::result(done).map(drop)
}

/// Sends to an address, with control messages beside the data, both as the kernel takes them and none if
/// they are empty.
pub fn send_message(
    socket: BorrowedFd<'_>,
    (address, data, beside): (&[u8], &[u8], &[u8]),
    flags: i32,
) -> nix::Result<usize> {
    let place = |bytes: &[u8]| -> *mut libc::c_void {
        if bytes.is_empty() { std::ptr::null_mut() } else { bytes.as_ptr().cast_mut().cast() }
    };
    let mut part = libc::iovec { iov_base: place(data), iov_len: data.len() };
    // SAFETY: every field may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = place(address);
    message.msg_namelen = fitting(address.len())?;
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = place(beside);
    message.msg_controllen = fitting(beside.len())?;
    let flags = flags | libc::MSG_NOSIGNAL;
    // SAFETY: each pair of pointer and length is of one slice, which the kernel copies without writing to
    // it, and lives through the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    Errno::result(sent).map(isize::unsigned_abs)
}

/// A length as the C library has it, which differs from one to another.
fn fitting<T: TryFrom<usize>>(length: usize) -> nix::Result<T> {
    T::try_from(length).map_err(|_wide| Errno::EMSGSIZE)
}

/// Takes on somebody's groups, and ids but for the saved one, in this thread alone; the C library's functions
/// would change every thread.
///
/// The effective ids are whose files it opens, the real ones whom others take it for (`SO_PASSCRED`). The
/// user comes last, because the rights to the rest go with it.
pub fn act_as(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let keep = u32::MAX;
    // SAFETY: pointer and length are of one slice, which the kernel copies.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: the call takes plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, keep) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, keep) })
}

/// Takes back what this thread was before [`act_as`], but for the groups.
pub fn act_as_oneself() -> io::Result<()> {
    // SAFETY: the call takes plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, u32::MAX) })
}

/// Turns the return value of a raw system call into a result.
fn check(returned: i64) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
