//! The network of a namespace that has none: every address is its own, TCP is turned to the doors,
//! questions reach the resolver, and nothing else is sent.
//!
//! *Standing*: the first process of the namespaces calls [`arrange`] once and hands [`Sockets`] to
//! the keeper. *Never*: touches an interface but `lo`, of which every namespace has its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use boundary_common::steer;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen,
    setsockopt, socket, sockopt,
};

use super::netlink::{ACK, Batch, Body, CREATE, REQUEST, Socket};
use super::rules;
use crate::jail::{Call, mutation};
use crate::sys::option;

/// The address that connections of the command come from: the IPv4 dummy address of RFC 7600.
/// One beside loopback there must be, or resolvers would ask for no IPv4 at all (`AI_ADDRCONFIG`).
pub(in crate::jail) const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// The same for IPv6: a unique local address beside those of the built-in resolver.
pub(in crate::jail) const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd62, 0x6f75, 0x6e65, 0, 0, 0, 0, 1);

/// The usual port of a proxy, which explicit use knows. Nobody can have taken it in here.
const USUAL_PORT: u16 = 8080;
/// Connections that may wait to be accepted: as many as the machine permits.
const BACKLOG: Backlog = Backlog::MAXALLOWABLE;
/// How many bytes of refusals may wait until somebody reads them, as far as the machine allows
/// (`net.core.rmem_max`).
const WAITING: usize = 256 * 1024;
/// The group of the kernel's log that refused packets are told to.
const LOG_GROUP: u16 = 1;

/// What is served from outside the namespace, and asked about it.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Listeners for what is turned, v4 and v6.
    pub(super) tcp: Vec<TcpListener>,
    /// Sockets for questions, v4 and v6.
    pub(super) dns: Vec<UdpSocket>,
    /// Tells whose a socket is.
    pub(super) sock_diag: Socket,
    /// Tells which packets were refused.
    pub(super) log: Socket,
    /// How TCP comes to the listeners.
    pub(super) way: Way,
}

/// How TCP comes to the doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As it is, to a listener that stands for every address (`tproxy`).
    Transparent,
    /// With its target rewritten, which the kernel remembers (`redirect`): where the first way is not
    /// to be had. Loopback is then the command's own alone.
    Rewritten,
}

impl Way {
    /// All of them, the better one first.
    pub(super) const ALL: [Self; 2] = [Self::Transparent, Self::Rewritten];
}

/// Arranges the calling process's network namespace, which must be new.
pub(super) fn arrange(port: Option<u16>) -> Result<Sockets, Call> {
    let families = families();
    route(&families).map_err(Call::to("netlink(route)"))?;
    let dns = families.iter().map(|family| resolver(*family)).collect::<io::Result<Vec<_>>>();
    let dns = dns.map_err(Call::to("bind(:53)"))?;
    let (tcp, way) = doors(&families, port.unwrap_or(USUAL_PORT))?;
    let log = refusals().map_err(Call::to("netlink(nfnetlink_log)"))?;
    let sock_diag = sock_diag().map_err(Call::to("socket(sock_diag)"))?;
    Ok(Sockets { tcp, dns, sock_diag, log, way })
}

/// The doors, and the first way to them that there is. What hinders the first is told where there is
/// none.
fn doors(families: &[Family], port: u16) -> Result<(Vec<TcpListener>, Way), Call> {
    let [first, second] = Way::ALL;
    doors_by(first, families, port)
        .or_else(|error| doors_by(second, families, port).map_err(|_no_better| error))
}

/// The doors with this way to them.
fn doors_by(way: Way, families: &[Family], port: u16) -> Result<(Vec<TcpListener>, Way), Call> {
    let tcp = families.iter().map(|family| listener(way, *family, port));
    let tcp = tcp.collect::<io::Result<Vec<_>>>().map_err(Call::to("listen"))?;
    // With port 0 the kernel chose one for each.
    let doors = tcp.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>();
    let doors = doors.map_err(Call::to("getsockname"))?;
    filter(way, &doors).map_err(Call::to("netlink(nf_tables)"))?;
    Ok((tcp, way))
}

/// An address family of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// The families that the machine has.
pub(super) fn families() -> Vec<Family> {
    if Path::new("/proc/net/if_inet6").exists() {
        vec![Family::V4, Family::V6]
    } else {
        vec![Family::V4]
    }
}

impl Family {
    /// `AF_INET` or `AF_INET6`, which netfilter calls by the same numbers.
    fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// The address that connections come from.
    fn own(self) -> Vec<u8> {
        match self {
            Self::V4 => OWN_V4.octets().to_vec(),
            Self::V6 => OWN_V6.octets().to_vec(),
        }
    }

    /// The address of the doors.
    fn local(self) -> Vec<u8> {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.octets().to_vec(),
            Self::V6 => Ipv6Addr::LOCALHOST.octets().to_vec(),
        }
    }

    /// What a loopback address begins with.
    fn loopback(self) -> Vec<u8> {
        match self {
            Self::V4 => vec![127],
            Self::V6 => Ipv6Addr::LOCALHOST.octets().to_vec(),
        }
    }

    /// Where a packet's header has the address that it goes to.
    fn destination(self) -> u32 {
        match self {
            Self::V4 => 16,
            Self::V6 => 24,
        }
    }

    pub(super) fn address(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::LOCALHOST, port).into(),
            Self::V6 => (Ipv6Addr::LOCALHOST, port).into(),
        }
    }

    fn any(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::UNSPECIFIED, port).into(),
            Self::V6 => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }

    fn socket(self, kind: SockType) -> io::Result<std::os::fd::OwnedFd> {
        let family = match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        };
        let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        if self == Self::V6 {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        Ok(socket)
    }
}

/// Makes `lo` work, gives it an address that is not loopback, and makes every other address of the
/// world one of this machine's own (AnyIP): what is sent anywhere arrives here.
///
/// Messages of `include/uapi/linux/rtnetlink.h` and `if_addr.h`.
pub(super) fn route(families: &[Family]) -> io::Result<()> {
    const NEW_LINK: u16 = 16;
    const NEW_ADDRESS: u16 = 20;
    const NEW_ROUTE: u16 = 24;
    const LO: u32 = 1;
    const UP: u32 = 1;
    const NO_DUPLICATE_DETECTION: u8 = 2;
    const TABLE_LOCAL: u8 = 255;
    const BY_ADMINISTRATOR: u8 = 4;
    const SCOPE_HOST: u8 = 254;
    const TYPE_LOCAL: u8 = 2;
    let mut batch = Batch::default();
    batch.message(NEW_LINK, REQUEST | ACK, |body| {
        body.raw(&[0; 4]);
        for number in [LO, UP, UP] {
            body.raw(&number.to_ne_bytes());
        }
    });
    for family in families {
        let own = family.own();
        let whole = u8::try_from(own.len() * 8).unwrap_or(u8::MAX);
        batch.message(NEW_ADDRESS, REQUEST | ACK | CREATE, |body| {
            body.raw(&[family.number(), whole, NO_DUPLICATE_DETECTION, 0]);
            body.raw(&LO.to_ne_bytes());
            body.attribute(libc::IFA_LOCAL, &own);
            body.attribute(libc::IFA_ADDRESS, &own);
        });
        batch.message(NEW_ROUTE, REQUEST | ACK | CREATE, |body| {
            body.raw(&[family.number(), 0, 0, 0]);
            body.raw(&[TABLE_LOCAL, BY_ADMINISTRATOR, SCOPE_HOST, TYPE_LOCAL]);
            body.raw(&[0; 4]);
            body.number(libc::RTA_OIF, LO);
            body.attribute(libc::RTA_PREFSRC, &own);
        });
    }
    Socket::open(SockProtocol::NetlinkRoute)?.settle(&batch)
}

/// A listener that takes what is turned to it.
pub(super) fn listener(way: Way, family: Family, port: u16) -> io::Result<TcpListener> {
    let socket = family.socket(SockType::Stream)?;
    // Accepted sockets stand on the ports that they were meant for. A server of the command may
    // take such a port while they are open only if both sides say so.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    match (way, family) {
        (Way::Transparent, Family::V4) => setsockopt(&socket, sockopt::IpTransparent, &true)?,
        (Way::Transparent, Family::V6) => option::ipv6_transparent(&socket)?,
        (Way::Rewritten, _) => {}
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(family.address(port)))?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A socket for questions to whatever server, which tells which server was asked.
fn resolver(family: Family) -> io::Result<UdpSocket> {
    let socket = family.socket(SockType::Datagram)?;
    match family {
        Family::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        Family::V6 => {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            // Answers come from the server that was asked, which `lo` does not list.
            option::ipv6_freebind(&socket)?;
        }
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(family.any(steer::DNS)))?;
    Ok(UdpSocket::from(socket))
}

/// Turns TCP to the doors and refuses to send what is neither TCP, nor a question, nor for this
/// machine.
///
/// Messages of `include/uapi/linux/netfilter/nf_tables.h`.
pub(super) fn filter(way: Way, doors: &[SocketAddr]) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.message(0x10, REQUEST, |body| body.raw(&[0, 0, 0, 10]));
    rules::table(&mut batch);
    match way {
        Way::Transparent => {
            rules::chain(
                &mut batch,
                "turn",
                (rules::FILTER, rules::PREROUTING, -150),
                rules::ACCEPT,
            );
        }
        Way::Rewritten => {
            rules::chain(&mut batch, "turn", (rules::NAT, rules::OUTPUT, -100), rules::ACCEPT);
        }
    }
    let rest = if mutation::stands("refuse") { rules::DROP } else { rules::ACCEPT };
    rules::chain(&mut batch, "refuse", (rules::FILTER, rules::OUTPUT, 0), rest);
    for door in doors {
        let family = if door.is_ipv4() { Family::V4 } else { Family::V6 };
        turn(&mut batch, way, family, door.port());
        permit(&mut batch, family);
    }
    rules::rule(&mut batch, "refuse", |rule| rules::log(rule, LOG_GROUP));
    batch.message(0x11, REQUEST, |body| body.raw(&[0, 0, 0, 10]));
    Socket::open(SockProtocol::NetlinkNetFilter)?.settle(&batch)
}

/// The rules that turn what arrives: servers of the command are served, the rest goes to the door.
fn turn(batch: &mut Batch, way: Way, family: Family, door: u16) {
    let is_tcp = |rule: &mut Body| {
        rules::family_is(rule, family.number());
        rules::protocol_is(rule, libc::IPPROTO_TCP);
    };
    rules::rule(batch, "turn", |rule| {
        is_tcp(rule);
        rules::network_is(rule, family.destination(), &family.own());
        rules::verdict(rule, rules::ACCEPT);
    });
    // Loopback is the machine's own: a service of the host needs a rule, which the proxy asks for.
    rules::rule(batch, "turn", |rule| {
        is_tcp(rule);
        rules::network_is(rule, family.destination(), &family.loopback());
        if way == Way::Transparent {
            rules::has_socket(rule);
        }
        rules::verdict(rule, rules::ACCEPT);
    });
    rules::rule(batch, "turn", |rule| {
        is_tcp(rule);
        match way {
            Way::Transparent => {
                rules::turn_to(rule, family.number(), (&family.local(), door));
                rules::verdict(rule, rules::ACCEPT);
            }
            Way::Rewritten => rules::rewrite_to(rule, door),
        }
    });
}

/// The rules for what may be sent at all; it arrives on `lo`, whatever its address.
fn permit(batch: &mut Batch, family: Family) {
    // "Destination unreachable" of RFC 792 and RFC 4443.
    let (icmp, unreachable) = match family {
        Family::V4 => (libc::IPPROTO_ICMP, 3),
        Family::V6 => (libc::IPPROTO_ICMPV6, 1),
    };
    rules::rule(batch, "refuse", |rule| {
        rules::family_is(rule, family.number());
        rules::protocol_is(rule, libc::IPPROTO_TCP);
        rules::verdict(rule, rules::ACCEPT);
    });
    // The kernel's own errors, and no questions of programs.
    rules::rule(batch, "refuse", |rule| {
        rules::family_is(rule, family.number());
        rules::protocol_is(rule, icmp);
        rules::begins_with(rule, unreachable);
        rules::verdict(rule, rules::ACCEPT);
    });
    for network in [family.own(), family.loopback()] {
        rules::rule(batch, "refuse", |rule| {
            rules::family_is(rule, family.number());
            rules::protocol_is(rule, libc::IPPROTO_UDP);
            rules::network_is(rule, family.destination(), &network);
            rules::verdict(rule, rules::ACCEPT);
        });
    }
    rules::rule(batch, "refuse", |rule| {
        rules::family_is(rule, family.number());
        rules::protocol_is(rule, libc::IPPROTO_UDP);
        rules::port_is(rule, steer::DNS);
        rules::verdict(rule, rules::ACCEPT);
    });
}

/// The socket that tells whose a socket is.
pub(super) fn sock_diag() -> io::Result<Socket> {
    Socket::open(SockProtocol::NetlinkSockDiag)
}

/// The socket that refused packets are told to, from each one on at once.
///
/// Messages of `include/uapi/linux/netfilter/nfnetlink_log.h`.
pub(super) fn refusals() -> io::Result<Socket> {
    const CONFIGURE: u16 = (4 << 8) | 1;
    const COMMAND: u16 = 1;
    const MODE: u16 = 2;
    const MESSAGE: u16 = 3;
    const THRESHOLD: u16 = 5;
    const FLAGS: u16 = 6;
    const BIND: u8 = 1;
    const COPY_PACKET: u8 = 2;
    /// Each has a number (`NFULNL_CFG_F_SEQ`).
    const NUMBERED: u16 = 1;
    /// As much as one takes: the kernel sets aside a page for each otherwise, and room for few of them.
    const LENGTH: u32 = 512;
    let mut batch = Batch::default();
    let [high, low] = LOG_GROUP.to_be_bytes();
    batch.message(CONFIGURE, REQUEST | ACK, |body| {
        body.raw(&[0, 0, high, low]);
        body.attribute(COMMAND, &[BIND]);
    });
    batch.message(CONFIGURE, REQUEST | ACK, |body| {
        body.raw(&[0, 0, high, low]);
        let [one, two, three, four] = rules::LOGGED.to_be_bytes();
        body.attribute(MODE, &[one, two, three, four, COPY_PACKET, 0]);
        body.big(THRESHOLD, 1);
        body.big(MESSAGE, LENGTH);
        body.attribute(FLAGS, &NUMBERED.to_be_bytes());
    });
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    socket.make_room(WAITING)?;
    socket.settle(&batch)?;
    Ok(socket)
}
