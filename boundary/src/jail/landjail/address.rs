//! Socket addresses as programs hand them to the kernel, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::errno::Errno;
use nix::libc;

/// The longest address that the kernel takes.
const LONGEST: usize = 128;

/// An address that a program named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::jail) enum Address {
    /// Of the INET families.
    Inet(SocketAddr),
    /// Of the unix family, as it was handed over.
    Unix(Vec<u8>),
    /// None: the socket is to forget whom it is connected to.
    Unspecified,
    /// Of another family.
    Other,
}

impl Address {
    /// Reads what the kernel would take; fails as it would.
    pub(in crate::jail) fn read(bytes: &[u8]) -> nix::Result<Self> {
        let family = bytes.first_chunk().map(|family| u16::from_ne_bytes(*family));
        match i32::from(family.ok_or(Errno::EINVAL)?) {
            libc::AF_INET => v4(bytes).map(Self::Inet).ok_or(Errno::EINVAL),
            libc::AF_INET6 => v6(bytes).map(Self::Inet).ok_or(Errno::EINVAL),
            libc::AF_UNIX => Ok(Self::Unix(bytes.to_vec())),
            libc::AF_UNSPEC => Ok(Self::Unspecified),
            _ => Ok(Self::Other),
        }
    }
}

/// How long an address may be, by the number that a program gave.
pub(super) fn length(argument: u64) -> nix::Result<usize> {
    // The kernel takes an int.
    let length = usize::try_from(argument & u64::from(u32::MAX)).map_err(|_wide| Errno::EINVAL)?;
    if length > LONGEST { Err(Errno::EINVAL) } else { Ok(length) }
}

fn v4(bytes: &[u8]) -> Option<SocketAddr> {
    let bytes: &[u8; 16] = bytes.first_chunk()?;
    let [_, _, high, low, a, b, c, d, ..] = *bytes;
    let port = u16::from_be_bytes([high, low]);
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port).into())
}

fn v6(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
    let scope = bytes.get(24..).and_then(|rest| rest.first_chunk());
    let scope = scope.map_or(0, |scope| u32::from_ne_bytes(*scope));
    Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope).into())
}

/// An address as the kernel writes it.
pub(super) fn written(address: SocketAddr) -> Vec<u8> {
    let family = |family: i32| u16::try_from(family).unwrap_or_default().to_ne_bytes();
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => {
            [&family(libc::AF_INET)[..], &port, &v4.ip().octets(), &[0; 8]].concat()
        }
        SocketAddr::V6(v6) => {
            let scope = v6.scope_id().to_ne_bytes();
            [&family(libc::AF_INET6)[..], &port, &[0; 4], &v6.ip().octets(), &scope].concat()
        }
    }
}

/// The same address in one spelling: a mapped one is the IPv4 address that it stands for.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An address in the spelling of a socket's family.
pub(super) fn spelled(address: SocketAddr, family: i32) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) if family == libc::AF_INET6 => {
            SocketAddr::new(v4.to_ipv6_mapped().into(), address.port())
        }
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => SocketAddr::new(ip, address.port()),
    }
}

/// Whether an address is this machine's own: loopback, or none at all, which means loopback to
/// whoever connects to it.
pub(in crate::jail) fn is_own(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

/// The loopback address that an own address means.
pub(in crate::jail) fn loopback(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
        }
        IpAddr::V6(v6) if v6.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port())
        }
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["10.1.2.3:443", "[2001:db8::1]:53", "[::ffff:10.0.0.1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::read(&written(address)), Ok(Address::Inet(address)));
        }
    }

    #[test]
    fn an_address_that_is_cut_off_is_none() {
        let v4 = written("10.1.2.3:443".parse().unwrap());
        let v6 = written("[::1]:443".parse().unwrap());
        assert_eq!(Address::read(&v4[..15]), Err(Errno::EINVAL));
        assert_eq!(Address::read(&v6[..23]), Err(Errno::EINVAL));
        assert!(Address::read(&v6[..24]).is_ok(), "the scope may be left out");
        assert_eq!(Address::read(&[2]), Err(Errno::EINVAL));
        assert_eq!(Address::read(&[0, 0]), Ok(Address::Unspecified));
        assert_eq!(length(129), Err(Errno::EINVAL));
    }

    #[test]
    fn an_address_of_nobody_means_loopback() {
        let own = |text: &str| loopback(text.parse().unwrap()).to_string();
        assert_eq!(own("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(own("[::]:80"), "[::1]:80");
        assert_eq!(own("[::ffff:127.0.0.9]:80"), "127.0.0.9:80");
        assert!(!is_own("[::ffff:10.0.0.1]:80".parse().unwrap()));
    }
}
