//! The raw calls, each behind a signature that cannot be misused.
//!
//! *Never*: retries, resolves or interprets. One function, one call.
#![expect(unsafe_code, reason = "an attacker speaks to the kernel, not to a library")]

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::AtomicU64;

/// A call's answer: minus one means the error number of the thread.
fn checked(answer: impl Into<i64>) -> io::Result<i64> {
    match answer.into() {
        -1 => Err(io::Error::last_os_error()),
        fine => Ok(fine),
    }
}

/// A buffer's length as the kernel counts socket options and addresses.
fn length(bytes: &[u8]) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes.len()).unwrap_or(libc::socklen_t::MAX)
}

/// socket(2).
pub(crate) fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    checked(fd)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// fork(2): whether this is the child. This process has one thread.
pub(crate) fn fork() -> io::Result<bool> {
    // SAFETY: no pointer is passed, and there is no other thread whose locks the child would lack.
    let child = unsafe { libc::fork() };
    checked(child).map(|number| number == 0)
}

/// _exit(2).
pub(crate) fn exit() -> ! {
    // SAFETY: no pointer is passed.
    unsafe { libc::_exit(0) }
}

/// The bytes of a `sockaddr_in` or `sockaddr_in6`. A mapped address stays a v6 one.
pub(crate) fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = u16::try_from(family).unwrap_or_default().to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.extend(ip.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(ip) => {
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// connect(2) with whatever bytes the caller takes for an address.
pub(crate) fn connect(fd: &OwnedFd, address: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe the slice.
    let answer = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), length(address)) };
    checked(answer).map(drop)
}

/// bind(2).
pub(crate) fn bind(fd: &OwnedFd, address: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe the slice.
    let answer = unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), length(address)) };
    checked(answer).map(drop)
}

/// sendto(2).
pub(crate) fn send_to(
    fd: &OwnedFd,
    bytes: &[u8],
    flags: c_int,
    address: &[u8],
) -> io::Result<usize> {
    // No address is a null pointer, not an empty one: the kernel tells them apart.
    let name = if address.is_empty() { std::ptr::null() } else { address.as_ptr().cast() };
    // SAFETY: both pointers come with the length of their slice.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags,
            name,
            length(address),
        )
    };
    Ok(usize::try_from(checked(i64::try_from(sent).unwrap_or(-1))?).unwrap_or_default())
}

/// send(2).
pub(crate) fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    send_to(fd, bytes, libc::MSG_NOSIGNAL, &[])
}

/// An address that another thread may be writing, and its length as the kernel counts it. Never
/// longer than what holds it.
fn shared(address: &[AtomicU64; 4], size: usize) -> (*const libc::sockaddr, libc::socklen_t) {
    let length = size.min(size_of_val(address));
    (address.as_ptr().cast(), libc::socklen_t::try_from(length).unwrap_or_default())
}

/// connect(2) to an address that another thread changes meanwhile.
pub(crate) fn connect_shared(
    fd: &OwnedFd,
    address: &[AtomicU64; 4],
    size: usize,
) -> io::Result<()> {
    let (pointer, length) = shared(address, size);
    // SAFETY: the pointer is to at least `length` bytes, which the kernel reads once.
    checked(unsafe { libc::connect(fd.as_raw_fd(), pointer, length) }).map(drop)
}

/// sendto(2) to an address that another thread changes meanwhile.
pub(crate) fn send_to_shared(
    fd: &OwnedFd,
    bytes: &[u8],
    address: &[AtomicU64; 4],
    size: usize,
) -> io::Result<()> {
    let (pointer, length) = shared(address, size);
    let data = bytes.as_ptr().cast();
    // SAFETY: both pointers are to at least as many bytes as their lengths say.
    let sent = unsafe {
        libc::sendto(fd.as_raw_fd(), data, bytes.len(), libc::MSG_DONTWAIT, pointer, length)
    };
    checked(i64::try_from(sent).unwrap_or(-1)).map(drop)
}

/// sendmsg(2) to an address that another thread changes meanwhile.
pub(crate) fn send_message_shared(
    fd: &OwnedFd,
    bytes: &[u8],
    address: &[AtomicU64; 4],
    size: usize,
) -> io::Result<()> {
    let (pointer, length) = shared(address, size);
    let mut vector = vector(bytes);
    let mut message = message(&mut [], &mut vector, &mut []);
    message.msg_name = pointer.cast_mut().cast();
    message.msg_namelen = length;
    // SAFETY: the kernel reads the name, of at least `length` bytes, and writes nothing there.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    checked(i64::try_from(sent).unwrap_or(-1)).map(drop)
}

/// The bytes of a `sockaddr_un`. A path that begins with `@` is an abstract address.
pub(crate) fn unix_sockaddr(path: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(libc::AF_UNIX).unwrap_or_default().to_ne_bytes().to_vec();
    if let Some(name) = path.strip_prefix('@') {
        bytes.push(0);
        bytes.extend(name.as_bytes());
    } else {
        bytes.extend(path.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// One control message, as cmsg(3) lays it out.
pub(crate) fn control(level: c_int, kind: c_int, value: &[u8]) -> Vec<u8> {
    let header = size_of::<libc::cmsghdr>();
    let mut bytes = (header + value.len()).to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
    bytes
}

/// recvmsg(2) of one byte with a descriptor.
pub(crate) fn receive_fd(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut vector = vector_mut(&mut byte);
    let mut control = control(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[0; 4]);
    let mut message = message(&mut [], &mut vector, &mut control);
    // SAFETY: the message points into buffers that live until the call returns.
    let answer = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    checked(i64::try_from(answer).unwrap_or(-1))?;
    let place = size_of::<libc::cmsghdr>();
    let number = control.get(place..place + 4).and_then(|bytes| bytes.try_into().ok());
    let number =
        number.map(c_int::from_ne_bytes).filter(|_| message.msg_controllen as u64 > place as u64);
    let Some(fd) = number else { return Err(io::ErrorKind::NotFound.into()) };
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// listen(2), bound or not.
pub(crate) fn listen(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    checked(unsafe { libc::listen(fd.as_raw_fd(), 8) }).map(drop)
}

/// renameat2(2), which the musl that Rust links does not have: puts each of two files in the other's
/// place.
pub(crate) fn exchange(one: &CStr, other: &CStr) -> io::Result<()> {
    let here = libc::AT_FDCWD;
    let flags = libc::RENAME_EXCHANGE;
    // SAFETY: both names end with a zero and outlive the call.
    let swapped = unsafe {
        libc::syscall(libc::SYS_renameat2, here, one.as_ptr(), here, other.as_ptr(), flags)
    };
    checked(swapped).map(drop)
}

/// dup3(2): puts what one descriptor is behind the number of another.
pub(crate) fn replace(source: RawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: both descriptors belong to this program, and the target stays one.
    checked(unsafe { libc::dup3(source, target, libc::O_CLOEXEC) }).map(drop)
}

/// socket(2) of UDP over IPv4 by the gate of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn socket_by_interrupt() -> io::Result<i64> {
    const SOCKET: u64 = 359;
    let mut answer = SOCKET;
    // SAFETY: the call takes three numbers; rbx is put back, and the kernel may clobber r8 to r11.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "mov ebx, 2",
            "int 0x80",
            "pop rbx",
            inout("rax") answer,
            in("rcx") 2_u64,
            in("rdx") 0_u64,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    // The low half is a number as 32-bit programs know it.
    let [one, two, three, four, ..] = answer.to_le_bytes();
    let number = i32::from_le_bytes([one, two, three, four]);
    if number < 0 { Err(io::Error::from_raw_os_error(-number)) } else { Ok(number.into()) }
}

/// No other architecture has such a gate that is open by default.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn socket_by_interrupt() -> io::Result<i64> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// The message of one datagram, pointing into the given buffers.
fn message(address: &mut [u8], vector: &mut libc::iovec, control: &mut [u8]) -> libc::msghdr {
    // SAFETY: all zeroes is a valid msghdr: null pointers of length nought.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if !address.is_empty() {
        message.msg_name = address.as_mut_ptr().cast();
        message.msg_namelen = length(address);
    }
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    if !control.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        let length = control.len();
        // It is narrower there.
        #[cfg(target_env = "musl")]
        let length = u32::try_from(length).expect("a few bytes");
        message.msg_controllen = length;
    }
    message
}

/// The bytes of a datagram as an I/O vector. The kernel only reads them.
fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// A buffer that the kernel writes into, as an I/O vector.
fn vector_mut(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// sendmsg(2), with control messages or none.
pub(crate) fn send_message(
    fd: &OwnedFd,
    bytes: &[u8],
    address: &mut [u8],
    control: &mut [u8],
) -> io::Result<()> {
    let mut vector = vector(bytes);
    let message = message(address, &mut vector, control);
    // SAFETY: the message points into buffers that live until the call returns.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, 0) };
    checked(i64::try_from(sent).unwrap_or(-1)).map(drop)
}

/// sendmmsg(2) of one message.
pub(crate) fn send_messages(fd: &OwnedFd, bytes: &[u8], address: &mut [u8]) -> io::Result<()> {
    let mut vector = vector(bytes);
    let mut messages =
        [libc::mmsghdr { msg_hdr: message(address, &mut vector, &mut []), msg_len: 0 }];
    // SAFETY: one message, pointing into buffers that live until the call returns.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), 1, 0) };
    checked(sent).map(drop)
}

/// setsockopt(2).
pub(crate) fn set_option(
    fd: &OwnedFd,
    level: c_int,
    option: c_int,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: pointer and length describe the slice.
    let answer = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, option, value.as_ptr().cast(), length(value))
    };
    checked(answer).map(drop)
}

/// ioctl(2) with one byte, as TIOCSTI wants it.
pub(crate) fn push_key(fd: c_int, key: u8) -> io::Result<()> {
    // SAFETY: TIOCSTI reads one byte through the pointer.
    let answer = unsafe { libc::ioctl(fd, libc::TIOCSTI, &raw const key) };
    checked(answer).map(drop)
}

/// Any system call with numbers only.
pub(crate) fn bare(number: libc::c_long, arguments: [i64; 3]) -> io::Result<i64> {
    let [one, two, three] = arguments;
    // SAFETY: the callers pass numbers and null pointers, which the kernel refuses or ignores.
    checked(unsafe { libc::syscall(number, one, two, three, 0_usize, 0_usize) })
}

/// A system call whose first argument is a number and whose second is a zeroed buffer.
pub(crate) fn with_buffer(number: libc::c_long, first: i64, size: usize) -> io::Result<i64> {
    let mut buffer = vec![0_u8; size];
    let pointer: *mut c_void = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel writes no more than `size` bytes, which the buffer has.
    checked(unsafe { libc::syscall(number, first, pointer, size) })
}

/// Writes one byte into another process (`process_vm_writev(2)`), to a page where no program has anything.
pub(crate) fn write_memory(process: i64) -> io::Result<i64> {
    let mut byte = [0];
    let own = vector_mut(&mut byte);
    let theirs = libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: 1 };
    let process = libc::pid_t::try_from(process).unwrap_or(-1);
    // SAFETY: the local vector is of a live buffer; the kernel checks the other one.
    let written =
        unsafe { libc::process_vm_writev(process, &raw const own, 1, &raw const theirs, 1, 0) };
    checked(i64::try_from(written).unwrap_or(-1))
}

/// The number of the BPF program after another, if there is one.
pub(crate) fn next_program(last: u32) -> io::Result<Option<u32>> {
    const PROG_GET_NEXT_ID: i64 = 11;
    // start_id, next_id and flags of union bpf_attr.
    let mut attribute = [last, 0, 0];
    let size = size_of_val(&attribute);
    // SAFETY: the kernel reads and writes no more than the array has.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_GET_NEXT_ID, attribute.as_mut_ptr(), size) };
    match checked(answer) {
        Ok(_) => Ok(Some(attribute[1])),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A system call whose first two arguments are texts.
pub(crate) fn with_texts(number: libc::c_long, one: &CStr, two: &CStr) -> io::Result<i64> {
    // SAFETY: both texts end in a NUL and outlive the call; the rest are null.
    checked(unsafe { libc::syscall(number, one.as_ptr(), two.as_ptr(), 0_usize, 0_i64) })
}

/// Blocks the signals in this thread, so that [`next_signal`] takes them.
pub(crate) fn block(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    // SAFETY: all zeroes is a valid, empty set on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    // SAFETY: the set is initialised; no old set is asked for.
    let answer =
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    checked(answer).map(|_| set)
}

/// Waits for the next of the blocked signals.
pub(crate) fn next_signal(set: &libc::sigset_t) -> io::Result<c_int> {
    let mut signal = 0;
    // SAFETY: both pointers are to live values.
    match unsafe { libc::sigwait(set, &raw mut signal) } {
        0 => Ok(signal),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Rows and columns of the terminal on stdin.
pub(crate) fn terminal_size() -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let answer = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) };
    checked(answer).map(|_| (size.ws_row, size.ws_col))
}
