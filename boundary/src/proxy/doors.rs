//! The session's listening sockets, made before any privilege is dropped.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen,
    setsockopt, socket, sockopt,
};

/// The port that explicit proxy use knows, taken when it is free and none was named.
const USUAL_PORT: u16 = 8080;
/// Connections that may wait to be accepted: as many as the machine permits.
const BACKLOG: Backlog = Backlog::MAXALLOWABLE;
/// How many kernel-chosen ports are tried until one is free for both families.
const TRIES: usize = 16;

/// The session's listening sockets, made before any privilege is dropped.
#[derive(Debug)]
pub struct Doors {
    /// Connections that the jail turned, and explicit proxy use.
    pub tcp: Vec<TcpListener>,
    /// The built-in resolver's sockets.
    pub dns: Vec<UdpSocket>,
}

/// A door could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct Closed {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Doors {
    /// Opens the doors on loopback, v4 and v6 on one port each for TCP and DNS. A port that was
    /// named and is taken is an error; else the usual one if it is free, else the kernel's choice.
    ///
    /// A machine without IPv6, or whose loopback has none, has the v4 doors alone.
    pub fn bind(port: Option<u16>) -> Result<Self, Closed> {
        let tcp = match port {
            Some(port) => pair(listener, port)?,
            None => {
                pair(listener, USUAL_PORT).or_else(|_| chosen(listener, TcpListener::local_addr))?
            }
        };
        let dns = chosen(UdpSocket::bind, UdpSocket::local_addr)?;
        Ok(Self { tcp, dns })
    }

    /// Whether a connection over IPv6 gets in.
    pub fn has_v6(&self) -> bool {
        self.tcp.iter().any(|door| door.local_addr().is_ok_and(|address| address.is_ipv6()))
    }
}

/// A v4 and a v6 socket on one port that the kernel chooses.
fn chosen<S>(
    open: impl Fn(SocketAddr) -> io::Result<S>,
    address: impl Fn(&S) -> io::Result<SocketAddr>,
) -> Result<Vec<S>, Closed> {
    let mut tries = TRIES;
    loop {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let closed = |source| Closed { address: any, source };
        let first = open(any).map_err(closed)?;
        let port = address(&first).map_err(closed)?.port();
        match second(&open, port) {
            Ok(second) => return Ok(std::iter::once(first).chain(second).collect()),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => tries -= 1,
        }
    }
}

/// A v4 and a v6 socket on a port.
fn pair<S>(open: impl Fn(SocketAddr) -> io::Result<S>, port: u16) -> Result<Vec<S>, Closed> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let first = open(address).map_err(|source| Closed { address, source })?;
    if port == 0 {
        return Ok(vec![first]);
    }
    Ok(std::iter::once(first).chain(second(&open, port)?).collect())
}

/// The v6 socket beside a v4 one, if the machine has v6.
fn second<S>(open: impl Fn(SocketAddr) -> io::Result<S>, port: u16) -> Result<Option<S>, Closed> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    match open(address) {
        Ok(socket) => Ok(Some(socket)),
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            Ok(None)
        }
        Err(source) => Err(Closed { address, source }),
    }
}

/// A listener with a long queue, on v6 for v6 alone.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?;
    // A port in TIME_WAIT is free; one that somebody listens on is not.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}
