//! The canary: proof, from inside the finished jail, that a connection is turned and a datagram
//! refused, before the command may start.
//!
//! *Never*: trusts that a program was attached because the kernel said so (a BPF LSM program can
//! attach and never run).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::child::Entry;
use super::nsjail::{OWN_V4, OWN_V6};

/// Addresses for documentation (RFC 5737, RFC 3849): nobody is there to be disturbed.
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The discard port.
const PORT: u16 = 9;

/// How long a connection that is not turned may try; one that is turned is there at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the jail failed the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Leak {
    /// A connection was not turned to the proxy.
    #[error("a connection to {0} was not turned to the proxy")]
    Connection(IpAddr),
    /// A datagram was sent.
    #[error("a datagram to {0} was not refused")]
    Datagram(IpAddr),
}

/// Tries to get out, over IPv4 and IPv6.
pub(super) fn sing(entry: &Entry) -> Result<(), Leak> {
    NOBODY.into_iter().try_for_each(|nobody| {
        turned(nobody, entry)?;
        refused(nobody)
    })
}

/// A turned connection is made at once, from a loopback address, or from the one address of a
/// namespace that leads nowhere. Without IPv6 there is nothing to turn and nothing to get out by.
fn turned(nobody: IpAddr, entry: &Entry) -> Result<(), Leak> {
    #[expect(clippy::disallowed_methods, reason = "the attempt that has to fail to leave")]
    let attempt = TcpStream::connect_timeout(&SocketAddr::new(nobody, PORT), PATIENCE);
    match attempt {
        Ok(stream) if stream.local_addr().is_ok_and(|local| is_inside(local.ip(), entry)) => Ok(()),
        Err(error) if nobody.is_ipv6() && is_without_ipv6(&error) => Ok(()),
        Ok(_) | Err(_) => Err(Leak::Connection(nobody)),
    }
}

/// Whether an address is one that only what is behind the walls has.
fn is_inside(address: IpAddr, entry: &Entry) -> bool {
    match entry {
        Entry::Cgroup { .. } | Entry::Supervised => address.is_loopback(),
        Entry::Namespaces { .. } => address == OWN_V4 || address == OWN_V6,
    }
}

/// A datagram is refused by the call that sends it.
fn refused(nobody: IpAddr) -> Result<(), Leak> {
    let any: IpAddr =
        if nobody.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = match UdpSocket::bind((any, 0)) {
        Ok(socket) => socket,
        Err(error) if nobody.is_ipv6() && is_without_ipv6(&error) => return Ok(()),
        Err(_) => return Err(Leak::Datagram(nobody)),
    };
    #[expect(clippy::disallowed_methods, reason = "the attempt that has to fail to leave")]
    match socket.send_to(b"canary", (nobody, PORT)) {
        Ok(_) => Err(Leak::Datagram(nobody)),
        Err(_) => Ok(()),
    }
}

/// Whether the machine has no IPv6, or none on loopback.
fn is_without_ipv6(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}
