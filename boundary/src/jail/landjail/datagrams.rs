//! Datagram sockets, which the usher only pretends to be: a real one cannot be contained, because
//! any packet may name its own way out.
//!
//! The command holds one end of a pair of unix sockets, the usher the other. Questions are led to
//! the resolver, datagrams to the session's own sockets are handed over, and everything else is
//! refused by the call that sends it.
//!
//! *Never*: opens a socket from which a datagram of the command could leave the machine.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, getsockopt, recv, send, socketpair, sockopt,
};

use super::address::{canonical, is_own, loopback, spelled};
use super::flows::Teller;
use crate::audit::Process;
use crate::sys::{errno_of, option, pass};

/// How many datagrams are remembered by where they came from, and questions by whom they asked.
const REMEMBERED: usize = 256;

/// The longest datagram.
pub(super) const LONGEST: usize = 65_507;

/// A socket of the command.
#[derive(Debug)]
pub(super) struct Datagram {
    family: i32,
    ours: OwnedFd,
    theirs: OwnedFd,
    /// Whether the kernel takes descriptors that are sent to our end (before Linux 6.16).
    takes_descriptors: bool,
    state: Mutex<State>,
}

impl Drop for Datagram {
    fn drop(&mut self) {
        if self.has_descriptors()
            && let Ok(ours) = self.ours.try_clone()
        {
            // Ours is not the last one then, or there is nothing left.
            drop(std::thread::Builder::new().spawn(move || empty(&ours)));
        }
    }
}

#[derive(Debug, Default)]
struct State {
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    /// Where what waits to be received came from.
    sources: VecDeque<SocketAddr>,
    /// Whom the questions under way were asked, by their numbers.
    asked: VecDeque<(Vec<u8>, SocketAddr)>,
    /// Who uses it.
    process: Process,
    line: Option<Arc<Line>>,
}

/// The way to the resolver, of one socket of the command.
#[derive(Debug)]
pub(super) struct Line {
    socket: UdpSocket,
    own: SocketAddr,
    teller: Arc<Teller>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.teller.asks_no_more(self.own);
    }
}

impl Line {
    /// The socket, to be waited on.
    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }
}

/// What was received for the command, and from where.
pub(super) struct Received {
    pub(super) data: Vec<u8>,
    pub(super) source: SocketAddr,
}

impl Datagram {
    /// Makes one, of a family.
    pub(super) fn new(family: i32, process: Process, waits: bool) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let takes_descriptors = option::take_no_descriptors(&ours).is_err();
        if !waits {
            fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let state = Mutex::new(State { process, ..State::default() });
        Ok(Self { family, ours, theirs, takes_descriptors, state })
    }

    /// Whether what can be received next has descriptors with it. Whoever closes one may have to wait, as long
    /// as its sender likes (`SO_LINGER`).
    pub(super) fn has_descriptors(&self) -> bool {
        self.takes_descriptors && pass::has_descriptors(self.ours.as_fd()) == Ok(true)
    }

    /// The usher's end.
    pub(super) fn ours(&self) -> &OwnedFd {
        &self.ours
    }

    /// The command's end.
    pub(super) fn theirs(&self) -> &OwnedFd {
        &self.theirs
    }

    /// Its family, as the command asked for it.
    pub(super) fn family(&self) -> i32 {
        self.family
    }

    /// Who uses it.
    pub(super) fn process(&self) -> Process {
        self.state().process.clone()
    }

    /// Notes who uses it.
    pub(super) fn note_user(&self, process: Process) {
        self.state().process = process;
    }

    /// Its own address, in its own spelling; none of its own means every one, or loopback's where it is
    /// connected there.
    pub(super) fn local(&self) -> SocketAddr {
        let state = self.state();
        let mut local = state.local.unwrap_or(SocketAddr::new(self.anywhere(), 0));
        if let Some(peer) = state.peer.filter(|peer| local.ip().is_unspecified() && is_own(*peer)) {
            local.set_ip(match peer {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        spelled_in(local, self.family)
    }

    /// From where something comes that it sends to an address of this machine, in the one spelling: where it
    /// has every address, from loopback's of the family that it goes to.
    pub(super) fn source_towards(&self, target: SocketAddr) -> SocketAddr {
        let local = self.local();
        if !local.ip().to_canonical().is_unspecified() {
            return canonical(loopback(local));
        }
        let ip: IpAddr = match target.ip().to_canonical() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, local.port())
    }

    /// The port that it has, if it has one.
    pub(super) fn port(&self) -> Option<u16> {
        self.state().local.map(|local| local.port())
    }

    /// Whom it is connected to.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.state().peer.map(|peer| spelled_in(peer, self.family))
    }

    /// Connects it, or lets it forget whom it was connected to.
    pub(super) fn connect(&self, peer: Option<SocketAddr>) {
        self.state().peer = peer;
    }

    /// Gives it an address, if it has none.
    pub(super) fn bind(&self, address: SocketAddr) {
        self.state().local.get_or_insert(address);
    }

    /// Gives it another address.
    pub(super) fn bind_again(&self, address: SocketAddr) {
        self.state().local = Some(address);
    }

    /// Whether it shares its address with others that do (`SO_REUSEADDR`).
    pub(super) fn shares_address(&self) -> bool {
        getsockopt(&self.theirs, sockopt::ReuseAddr).unwrap_or(false)
    }

    /// Whether it has an address.
    pub(super) fn is_bound(&self) -> bool {
        self.state().local.is_some()
    }

    /// Whether an address is one of those that it has.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.state().local.is_some_and(|local| {
            let is_there = [local, address].iter().any(|it| it.ip().is_unspecified());
            local.port() == address.port() && (is_there || local.ip() == address.ip())
        })
    }

    /// Whether what is sent to an address of this machine is for it.
    pub(super) fn takes(&self, address: SocketAddr) -> bool {
        let address = loopback(address);
        self.state().local.is_some_and(|local| {
            let is_heard = self.family == libc::AF_INET6 || address.is_ipv4();
            let is_everywhere = is_heard && local.ip() == self.anywhere();
            let is_here = is_everywhere || loopback(local).ip() == address.ip();
            local.port() == address.port() && is_here && is_own(address)
        })
    }

    /// Hands something over to be received.
    pub(super) fn deliver(&self, data: &[u8], source: SocketAddr) -> nix::Result<()> {
        let mut state = self.state();
        if state.peer.is_some_and(|peer| loopback(peer) != loopback(source)) {
            // A connected socket hears nobody else.
            return Ok(());
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.ours.as_raw_fd(), data, flags) {
            // Nobody has read for long, or wants to read any more: it is lost, as datagrams are.
            Err(Errno::EAGAIN | Errno::EPIPE) => return Ok(()),
            sent => sent?,
        };
        remember(&mut state.sources, source);
        Ok(())
    }

    /// Takes what waits to be received, or looks at it.
    pub(super) fn receive(&self, is_looked_at: bool) -> nix::Result<Received> {
        let mut data = vec![0; LONGEST + 1];
        let look = if is_looked_at { MsgFlags::MSG_PEEK } else { MsgFlags::empty() };
        let mut state = self.state();
        let length = recv(self.theirs.as_raw_fd(), &mut data, look | MsgFlags::MSG_DONTWAIT)?;
        data.truncate(length);
        let source =
            if is_looked_at { state.sources.front().copied() } else { state.sources.pop_front() };
        let nobody = SocketAddr::new(self.anywhere(), 0);
        let source = state.peer.or(source).unwrap_or(nobody);
        Ok(Received { data, source: spelled_in(source, self.family) })
    }

    /// Asks the resolver, which stands at an address, in the place of a server. The line is returned
    /// when it is new, so that somebody waits for the answer.
    pub(super) fn ask(
        &self,
        (question, server): (&[u8], SocketAddr),
        resolver: SocketAddr,
        teller: &Arc<Teller>,
    ) -> nix::Result<Option<Arc<Line>>> {
        let mut state = self.state();
        let is_new = state.line.is_none();
        let line = match &state.line {
            Some(line) => Arc::clone(line),
            None => Arc::new(open(resolver, teller).map_err(|error| errno_of(&error, Errno::EIO))?),
        };
        // Who has it now may not be who had it when the line was opened.
        teller.asks(line.own, &state.process).map_err(|error| errno_of(&error, Errno::EIO))?;
        let number = question.get(..2).unwrap_or_default().to_vec();
        remember(&mut state.asked, (number, server));
        state.line = Some(Arc::clone(&line));
        line.socket.send(question).map_err(|error| errno_of(&error, Errno::EIO))?;
        Ok(is_new.then_some(line))
    }

    /// Hands an answer of the resolver over, as from the server that was asked.
    pub(super) fn answer(&self, answer: &[u8]) -> nix::Result<()> {
        let mut state = self.state();
        let place = state.asked.iter().position(|(number, _)| answer.starts_with(number));
        let Some((_, server)) = place.and_then(|place| state.asked.remove(place)) else {
            return Ok(());
        };
        drop(state);
        self.deliver(answer, server)
    }

    /// Its line to the resolver.
    pub(super) fn line(&self) -> Option<Arc<Line>> {
        self.state().line.clone()
    }

    /// The address that means every one of its family.
    fn anywhere(&self) -> IpAddr {
        if self.family == libc::AF_INET6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address as a socket of a family shows it; "every one" stays what it is.
fn spelled_in(address: SocketAddr, family: i32) -> SocketAddr {
    let is_any = address.ip().is_unspecified() && address.is_ipv4() == (family == libc::AF_INET);
    if is_any { address } else { spelled(address, family) }
}

/// Opens a line to the resolver.
fn open(resolver: SocketAddr, teller: &Arc<Teller>) -> std::io::Result<Line> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    #[expect(clippy::disallowed_methods, reason = "the resolver's door, on loopback")]
    socket.connect(resolver)?;
    socket.set_nonblocking(true)?;
    let own = socket.local_addr()?;
    Ok(Line { socket, own, teller: Arc::clone(teller) })
}

/// Receives what can be received, and all that is with it, for nobody.
pub(super) fn empty(ours: &OwnedFd) {
    while recv(ours.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT).is_ok_and(|length| length > 0) {}
}

/// Adds to what is remembered, and forgets the oldest.
fn remember<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() >= REMEMBERED {
        all.pop_front();
    }
    all.push_back(one);
}

/// Whether there is something to receive now.
pub(super) fn is_readable(datagram: &Datagram, patience: nix::poll::PollTimeout) -> bool {
    use nix::poll::{PollFd, PollFlags, poll};
    let mut waiting = [PollFd::new(datagram.theirs.as_fd(), PollFlags::POLLIN)];
    poll(&mut waiting, patience).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn datagram(family: i32) -> Datagram {
        Datagram::new(family, Process::default(), false).unwrap()
    }

    #[test]
    fn what_is_handed_over_says_where_it_came_from() {
        let socket = datagram(libc::AF_INET6);
        socket.deliver(b"one", at("192.0.2.1:53")).unwrap();
        socket.deliver(b"two", at("192.0.2.2:53")).unwrap();
        let looked = socket.receive(true).unwrap();
        assert_eq!((&looked.data[..], looked.source), (&b"one"[..], at("[::ffff:192.0.2.1]:53")));
        assert_eq!(socket.receive(false).unwrap().data, b"one");
        assert_eq!(socket.receive(false).unwrap().source, at("[::ffff:192.0.2.2]:53"));
        assert_eq!(socket.receive(false).err(), Some(Errno::EAGAIN));
    }

    #[test]
    fn a_connected_socket_hears_nobody_else() {
        let socket = datagram(libc::AF_INET);
        socket.connect(Some(at("127.0.0.1:9")));
        socket.deliver(b"no", at("127.0.0.1:8")).unwrap();
        assert_eq!(socket.receive(false).err(), Some(Errno::EAGAIN));
        socket.deliver(b"yes", at("127.0.0.1:9")).unwrap();
        assert_eq!(socket.receive(false).unwrap().data, b"yes");
    }

    #[test]
    fn an_own_address_leads_to_whoever_has_it() {
        let socket = datagram(libc::AF_INET);
        assert!(!socket.takes(at("127.0.0.1:5000")));
        socket.bind(at("0.0.0.0:5000"));
        assert!(socket.takes(at("127.0.0.7:5000")) && socket.takes(at("0.0.0.0:5000")));
        assert!(!socket.takes(at("127.0.0.1:5001")));
        assert!(!socket.takes(at("192.0.2.1:5000")), "that is not this machine");
    }

    #[test]
    fn an_address_has_the_spelling_of_its_socket() {
        assert_eq!(datagram(libc::AF_INET).local(), at("0.0.0.0:0"));
        assert_eq!(datagram(libc::AF_INET6).local(), at("[::]:0"));
        let socket = datagram(libc::AF_INET6);
        socket.connect(Some(at("10.0.0.1:53")));
        assert_eq!(socket.peer(), Some(at("[::ffff:10.0.0.1]:53")));
    }
}
