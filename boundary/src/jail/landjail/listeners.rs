//! Who would take a connection to an address of this machine: the kernel's own lookup, asked over
//! `sock_diag`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;

/// The line to the kernel.
#[derive(Debug)]
pub(super) struct Listeners {
    line: OwnedFd,
    /// The number of the loopback device, which what arrives there is looked up for.
    loopback: u32,
}

impl Listeners {
    /// Opens the line.
    pub(super) fn open() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkSockDiag;
        let line = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        Ok(Self { line, loopback: if_nametoindex(LOOPBACK)? })
    }

    /// The inode of the socket that listens for an address; none if nobody does.
    pub(super) fn at(&self, address: SocketAddr) -> nix::Result<Option<u64>> {
        send(self.line.as_raw_fd(), &question(address, self.loopback), MsgFlags::empty())?;
        let mut answer = [0; 1024];
        let length = recv(self.line.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        read(answer.get(..length).unwrap_or_default())
    }
}

/// The name of the loopback device.
pub(super) const LOOPBACK: &str = "lo";

/// `struct inet_diag_req_v2` of `linux/inet_diag.h` behind a netlink header: the socket that a
/// connection to this address from nowhere in particular would find.
fn question(address: SocketAddr, device: u32) -> Vec<u8> {
    const LENGTH: u32 = 72;
    const REQUEST: u16 = 1;
    let (family, mut octets) = match address.ip() {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    octets.resize(16, 0);
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family.to_le_bytes()[0], libc::IPPROTO_TCP.to_le_bytes()[0], 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(address.port().to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(octets);
    bytes.extend([0; 16]);
    bytes.extend(device.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

/// Reads the answer: `struct inet_diag_msg`, whose last number is the inode, or an error.
fn read(answer: &[u8]) -> nix::Result<Option<u64>> {
    const HEADER: usize = 16;
    const INODE: usize = HEADER + 68;
    let word = |at: usize| {
        let bytes = answer.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|bytes| u32::from_ne_bytes(*bytes))
    };
    if word(4).unwrap_or_default() & 0xffff == u32::from(BY_FAMILY) {
        return Ok(word(INODE).map(u64::from));
    }
    let error = Errno::from_raw(word(HEADER).unwrap_or_default().cast_signed().wrapping_neg());
    if error == Errno::ENOENT { Ok(None) } else { Err(error) }
}

/// Whether the kernel answers at all.
pub(super) fn probe() -> io::Result<()> {
    Listeners::open()?.at(SocketAddr::from(([127, 0, 0, 1], 1)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn whoever_listens_is_found_by_any_address_that_leads_there() {
        let listeners = Listeners::open().unwrap();
        for (bound, asked) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.7"),
            ("[::1]", "[::1]"),
            ("[::]", "127.0.0.1"),
        ] {
            let listener = TcpListener::bind(format!("{bound}:0")).unwrap();
            let port = listener.local_addr().unwrap().port();
            let file = std::fs::File::from(OwnedFd::from(listener.try_clone().unwrap()));
            let found = listeners.at(format!("{asked}:{port}").parse().unwrap()).unwrap();
            assert_eq!(found, Some(file.metadata().unwrap().ino()), "{bound}");
            drop((listener, file));
            let asked = format!("{asked}:{port}").parse().unwrap();
            assert_eq!(listeners.at(asked), Ok(None), "{bound} is closed");
        }
    }
}
