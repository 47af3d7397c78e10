//! Socket options that neither std nor nix has.
//!
//! *Never*: decides which option a socket should have.

#![expect(unsafe_code, reason = "socket options that neither std nor nix wraps")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Lets a v6 socket stand on addresses that are not the machine's (`IPV6_TRANSPARENT`, Linux
/// 2.6.37). Needs `CAP_NET_ADMIN` in the user namespace of the network.
pub fn ipv6_transparent(socket: &impl AsFd) -> io::Result<()> {
    set(socket, (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT), 1)
}

/// Lets a v6 socket send from an address that no interface lists (`IPV6_FREEBIND`, Linux 4.15).
pub fn ipv6_freebind(socket: &impl AsFd) -> io::Result<()> {
    set(socket, (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND), 1)
}

/// Has a unix socket take no descriptors: who sends some is refused (`SO_PASSRIGHTS`, Linux 6.16).
pub fn take_no_descriptors(socket: &impl AsFd) -> io::Result<()> {
    /// `SO_PASSRIGHTS` of asm-generic/socket.h.
    const PASS_RIGHTS: libc::c_int = 83;
    set(socket, (libc::SOL_SOCKET, PASS_RIGHTS), 0)
}

/// Sets an option of a level.
fn set(
    socket: &impl AsFd,
    (level, option): (libc::c_int, libc::c_int),
    value: libc::c_int,
) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value lives through the call, and its size goes with it.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
