//! Whose a connection is, by asking the kernel for its socket and the processes for who holds it.
//!
//! *Standing*: in the proxy, which may look at what its own user runs in the namespaces.
//! *Never*: names somebody who does not hold it. Of several that do, one is named.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt,
};

use super::netlink::{Batch, REQUEST, Socket, messages};
use super::network::Way;
use crate::audit::{Door, Process};
use crate::jail::lineage;
use crate::proxy::{Flow, Origin};

/// The processes in a network namespace, and the sockets that they hold.
#[derive(Debug, Clone)]
pub struct Members {
    /// One question at a time.
    sock_diag: Arc<Mutex<Socket>>,
    descriptor: RawFd,
    /// The number of the network namespace.
    network: u64,
    /// Where the doors stand, and how connections come there.
    doors: Vec<SocketAddr>,
    way: Way,
    /// Where sockets were found lately, the latest last.
    seen: Arc<Mutex<VecDeque<Place>>>,
    /// Where the sockets were that were seen on the way, by their numbers in the kernel. Locked while
    /// somebody looks: of many that ask at once, one does.
    held: Arc<Mutex<HashMap<u32, Place>>>,
}

/// Where a socket was found: a process and the number that it has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    pid: u32,
    number: u32,
}

impl Place {
    /// Whether the socket is there, by the name that procfs has for it.
    fn holds(self, link: &Path) -> bool {
        let entry = folder(self.pid).join("fd").join(self.number.to_string());
        fs::read_link(entry).is_ok_and(|to| to == link)
    }
}

/// How many places are remembered: looking there costs less than looking everywhere.
const PLACES: usize = 8;

/// How many sockets are noted.
const MOST: usize = 16 * 1024;

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;

impl Members {
    /// Asks through a socket of that namespace.
    pub(super) fn new(
        sock_diag: Socket,
        network: u64,
        (doors, way): (Vec<SocketAddr>, Way),
    ) -> Self {
        let descriptor = sock_diag.as_fd().as_raw_fd();
        let sock_diag = Arc::new(Mutex::new(sock_diag));
        Self {
            sock_diag,
            descriptor,
            network,
            doors,
            way,
            seen: Arc::default(),
            held: Arc::default(),
        }
    }

    /// The descriptor that a process which forks must keep open for it.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Who holds the socket at `local` that is connected, or sends, to `remote`.
    pub(super) fn holder(
        &self,
        protocol: i32,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<Process> {
        let found = self.ask(protocol, local, remote).unwrap_or_else(|error| {
            tracing::debug!(%error, "the kernel does not tell whose a socket is");
            None
        })?;
        self.process(found)
    }

    /// Asks the kernel for a socket.
    fn ask(
        &self,
        protocol: i32,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<Found>> {
        find(
            &self.sock_diag.lock().unwrap_or_else(PoisonError::into_inner),
            &request(protocol, local, remote),
        )
    }

    /// A process among the members that holds a socket.
    fn process(&self, found: Found) -> Option<Process> {
        let link = PathBuf::from(format!("socket:[{}]", found.inode));
        let place = self.remembered(&link).or_else(|| self.searched(found.inode, &link))?;
        self.remember(place);
        let folder = folder(place.pid);
        let comm = fs::read(folder.join("comm")).ok()?;
        Some(Process {
            pid: place.pid,
            uid: found.uid,
            comm: String::from_utf8_lossy(&comm).trim_end().to_owned(),
            exe: fs::read_link(folder.join("exe")).ok(),
            parents: lineage::of(place.pid),
            ..Process::default()
        })
    }

    /// Looks where sockets were found lately: a program often opens one after the other under the
    /// same number, or under the next.
    fn remembered(&self, link: &Path) -> Option<Place> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let next = |place: &Place| Place { number: place.number + 1, ..*place };
        let places = seen.iter().rev().flat_map(|place| [*place, next(place)]);
        places.into_iter().find(|place| place.holds(link))
    }

    /// Looks everywhere, if that was not done since the socket was there: at the processes with the highest
    /// numbers first, because who was not seen before has just been started as a rule.
    fn searched(&self, inode: u32, link: &Path) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = held.get(&inode).filter(|place| place.holds(link)) {
            return Some(*place);
        }
        if held.len() >= MOST {
            held.clear();
        }
        held.remove(&inode);
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
        let mut everybody: Vec<u32> =
            fs::read_dir("/proc").ok()?.flatten().filter_map(number).collect();
        everybody.sort_unstable_by(|one, other| other.cmp(one));
        for pid in everybody {
            let folder = folder(pid);
            if !self.is_member(&folder) {
                continue;
            }
            let room = MOST.saturating_sub(held.len());
            let sockets = sockets_of(&folder).enumerate();
            let sockets = sockets.filter(|(count, it)| *count < room || it.0 == inode);
            held.extend(sockets.map(|(_, (inode, number))| (inode, Place { pid, number })));
            if let Some(place) = held.get(&inode) {
                return Some(*place);
            }
        }
        None
    }

    /// Puts a place last.
    fn remember(&self, place: Place) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|known| known.pid != place.pid);
        seen.push_back(place);
        if seen.len() > PLACES {
            seen.pop_front();
        }
    }

    /// Whether a process is in the network namespace. A link that may not be read is of somebody
    /// else.
    fn is_member(&self, place: &Path) -> bool {
        fs::metadata(place.join("ns/net")).is_ok_and(|space| space.ino() == self.network)
    }
}

impl Origin for Members {
    /// Everything that arrives is the session's: nobody else is in the namespace.
    fn flow(&self, client: SocketAddr, local: SocketAddr) -> Option<Flow> {
        let process = self.holder(libc::IPPROTO_TCP, client, local);
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        Some(Flow {
            door: if self.doors.contains(&local) { Door::Explicit } else { Door::Redirect },
            client: canonical(client),
            target: canonical(local),
            process,
        })
    }

    /// Where targets are rewritten, the kernel remembers them.
    fn turned_from(&self, accepted: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
        match self.way {
            Way::Transparent => Ok(None),
            Way::Rewritten => rewritten_from(accepted).map(Some),
        }
    }

    /// Nobody else is in the namespace; who it was may be gone by now.
    fn asker(&self, client: SocketAddr, asked: Option<IpAddr>) -> Option<Process> {
        let holder = self.holder(libc::IPPROTO_UDP, client, SocketAddr::new(asked?, 53));
        Some(holder.unwrap_or_default())
    }
}

/// Whether a server of TCP listens where an address leads to, in the network namespace of a socket.
pub(in crate::jail) fn listens(sock_diag: &Socket, at: SocketAddr) -> io::Result<bool> {
    let anywhere: IpAddr =
        if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let nobody = SocketAddr::new(anywhere, 0);
    Ok(find(sock_diag, &request(libc::IPPROTO_TCP, at, nobody))?.is_some())
}

/// The socket that takes what a request describes: one that is connected so, else one that listens.
fn find(sock_diag: &Socket, wanted: &[u8]) -> io::Result<Option<Found>> {
    let mut batch = Batch::default();
    batch.message(BY_FAMILY, REQUEST, |body| body.raw(wanted));
    sock_diag.send(&batch)?;
    let answer = sock_diag.receive(MsgFlags::empty())?;
    let Some(message) = messages(&answer).next() else { return Ok(None) };
    match message.outcome() {
        Some(Err(error)) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        Some(_) => Ok(None),
        // One that waits for its end is nobody's any more, and has no number.
        None => Ok(Found::read(message.body).filter(|found| found.inode != 0)),
    }
}

/// What an accepted connection's target was before it was rewritten (`SO_ORIGINAL_DST`).
fn rewritten_from(accepted: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let own: SockaddrStorage = getsockname(accepted.as_raw_fd())?;
    if own.family() == Some(AddressFamily::Inet6) {
        let target = getsockopt(&accepted, sockopt::Ip6tOriginalDst)?;
        let (address, port) = (target.sin6_addr.s6_addr, u16::from_be(target.sin6_port));
        return Ok((Ipv6Addr::from(address), port).into());
    }
    let target = getsockopt(&accepted, sockopt::OriginalDst)?;
    let address = Ipv4Addr::from(u32::from_be(target.sin_addr.s_addr));
    Ok((address, u16::from_be(target.sin_port)).into())
}

/// What procfs tells of a process.
fn folder(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// The sockets that a process holds: their numbers in the kernel, and there.
fn sockets_of(folder: &Path) -> impl Iterator<Item = (u32, u32)> {
    let descriptors = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| {
        let to = fs::read_link(entry.path()).ok()?;
        let inode = to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((inode, entry.file_name().to_str()?.parse().ok()?))
    })
}

/// A socket that the kernel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    uid: u32,
    inode: u32,
}

impl Found {
    /// Reads `struct inet_diag_msg` of `linux/inet_diag.h`: its last two numbers.
    fn read(body: &[u8]) -> Option<Self> {
        let number = |offset: usize| {
            body.get(offset..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
        };
        Some(Self { uid: number(64)?, inode: number(68)? })
    }
}

/// `struct inet_diag_req_v2` of `linux/inet_diag.h` for one socket.
///
/// For UDP the two ends are the other way round, "for historical reasons" (`net/ipv4/udp_diag.c`).
fn request(protocol: i32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let (source, destination) =
        if protocol == libc::IPPROTO_UDP { (remote, local) } else { (local, remote) };
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut request = vec![family.to_le_bytes()[0], protocol.to_le_bytes()[0], 0, 0];
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.extend_from_slice(&source.port().to_be_bytes());
    request.extend_from_slice(&destination.port().to_be_bytes());
    for end in [source, destination] {
        let mut address = match end.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        address.resize(16, 0);
        request.extend_from_slice(&address);
    }
    // No interface, and a cookie that means any socket.
    request.extend_from_slice(&[0; 4]);
    request.extend_from_slice(&[0xff; 8]);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, socket,
    };
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn members() -> Members {
        let network = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let sock_diag = Socket::open(SockProtocol::NetlinkSockDiag).unwrap();
        Members::new(sock_diag, network, (Vec::new(), Way::Transparent))
    }

    /// The connection to be looked up.
    fn connected(to: SocketAddr) -> TcpStream {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::empty(), None).unwrap();
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
        TcpStream::from(socket)
    }

    #[test]
    fn a_connection_is_its_holders() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = connected(listener.local_addr().unwrap());
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let holder = members().holder(libc::IPPROTO_TCP, local, remote).unwrap();
            assert_eq!(holder.pid, std::process::id());
            assert_eq!(holder.exe, std::env::current_exe().ok());
        }
    }

    #[test]
    fn a_datagrams_sender_is_its_holder() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let remote = "127.0.0.1:53".parse().unwrap();
        let holder = members().holder(libc::IPPROTO_UDP, local, remote).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }

    #[test]
    fn whoever_looks_everywhere_finds_the_others_that_are_there() {
        let sockets = [(); 9].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let members = members();
        let remote = "127.0.0.1:53".parse().unwrap();
        for (index, socket) in sockets.iter().enumerate() {
            let local = socket.local_addr().unwrap();
            // As if others had been asked about meanwhile.
            members.seen.lock().unwrap().clear();
            let holder = members.holder(libc::IPPROTO_UDP, local, remote).unwrap();
            assert_eq!(holder.pid, std::process::id());
            // Whoever looks everywhere begins anew.
            let mut held = members.held.lock().unwrap();
            assert!(index == 0 || held.contains_key(&0), "it was looked once");
            held.insert(0, Place { pid: 0, number: 0 });
        }
        let late = UdpSocket::bind("127.0.0.1:0").unwrap();
        members.seen.lock().unwrap().clear();
        let holder = members.holder(libc::IPPROTO_UDP, late.local_addr().unwrap(), remote);
        assert_eq!(holder.map(|holder| holder.pid), Some(std::process::id()));
    }

    #[test]
    fn a_connection_that_is_not_there_is_nobodys() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(members().holder(libc::IPPROTO_TCP, free, "127.0.0.1:9".parse().unwrap()), None);
    }

    #[test]
    fn a_process_of_another_network_is_no_member() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut elsewhere = members();
        elsewhere.network += 1;
        let remote = "127.0.0.1:53".parse().unwrap();
        assert_eq!(elsewhere.holder(libc::IPPROTO_UDP, socket.local_addr().unwrap(), remote), None);
    }
}
