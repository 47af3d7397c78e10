//! Datagrams of which both ends are known: who asked, and which address was asked.
//!
//! *Standing*: [`serve`](super::serve) answers with them. *Never*: sends but what answers.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
};

/// What was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram {
    /// How many bytes of it are in the buffer.
    pub(super) length: usize,
    /// Who sent it.
    pub(super) client: SocketAddr,
    /// To which address, where the socket tells.
    pub(super) asked: Option<IpAddr>,
}

/// Receives the next datagram, if there is one.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut content = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let received = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut content,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else the kernel tells")]
    let asked = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
        }
        _ => None,
    });
    let client = received.address.as_ref().and_then(address).ok_or(Errno::EAFNOSUPPORT)?;
    Ok(Datagram { length: received.bytes, client, asked })
}

/// Sends an answer from the address that was asked, where it is known.
pub(super) fn send(
    socket: &impl AsRawFd,
    answer: &[u8],
    (client, asked): (SocketAddr, Option<IpAddr>),
) -> io::Result<()> {
    let (v4, v6);
    let mut control = Vec::new();
    match asked {
        Some(IpAddr::V4(asked)) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(asked.octets()) };
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: address,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            control.push(ControlMessage::Ipv4PacketInfo(&v4));
        }
        Some(IpAddr::V6(asked)) => {
            let address = libc::in6_addr { s6_addr: asked.octets() };
            v6 = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
            control.push(ControlMessage::Ipv6PacketInfo(&v6));
        }
        None => {}
    }
    let client = SockaddrStorage::from(client);
    let content = [IoSlice::new(answer)];
    sendmsg(socket.as_raw_fd(), &content, &control, MsgFlags::MSG_DONTWAIT, Some(&client))?;
    Ok(())
}

/// An IP address and port, if it is one.
fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
