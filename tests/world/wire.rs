//! Counts what arrives at the internet's end of the wire.
//!
//! *Standing*: "nothing leaked" is measured here, below every socket. What the stage's own
//! interfaces say to each other (ARP, neighbour discovery) is not counted.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

use super::place::Place;
use super::stop::Watch;

/// Where the markers that separate one run's packets from the next go.
const MARKER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);

/// How long a marker may take over a wire that is nothing but memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for a marker before sending it again.
const AGAIN: Duration = Duration::from_millis(50);

/// One packet as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// The protocol's number (6 TCP, 17 UDP, …); none where it is not IP.
    pub(crate) protocol: Option<u8>,
    /// Where it came from.
    pub(crate) source: Option<IpAddr>,
    /// Where it was to go.
    pub(crate) target: Option<IpAddr>,
    /// The target's port, for protocols that have one.
    pub(crate) port: Option<u16>,
    /// The source's port, for protocols that have one.
    pub(crate) from: Option<u16>,
    /// Whether it opens a TCP connection.
    pub(crate) opens: bool,
    /// The first bytes of the frame.
    pub(crate) frame: Vec<u8>,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |ip: Option<IpAddr>| ip.map_or("?".to_owned(), |ip| ip.to_string());
        let name = match self.protocol {
            Some(6) => "tcp".to_owned(),
            Some(17) => "udp".to_owned(),
            Some(number) => format!("protocol {number}"),
            None => "not ip".to_owned(),
        };
        write!(f, "{name} {} > {}", part(self.source), part(self.target))?;
        self.port.map_or(Ok(()), |port| write!(f, " port {port}"))
    }
}

/// Everything that arrived since the last time somebody asked.
pub(crate) struct Wire {
    seen: Arc<(Mutex<Vec<Packet>>, Condvar)>,
    markers: AtomicU64,
    /// The connections that earlier calls have told of, by their first packet's ends.
    told: Mutex<HashSet<Ends>>,
}

/// Both ends of a connection: source, its port, target, its port.
type Ends = (Option<IpAddr>, Option<u16>, Option<IpAddr>, Option<u16>);

impl Packet {
    /// The connection that it belongs to, if it is one of TCP.
    fn connection(&self) -> Option<Ends> {
        (self.protocol == Some(6)).then_some((self.source, self.from, self.target, self.port))
    }
}

impl Wire {
    /// Starts to listen at the internet's end.
    pub(crate) fn tap(internet: &Place, watch: Watch) -> Self {
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let kept = Arc::clone(&seen);
        internet.run(move || {
            let index = if_nametoindex("eth0").expect("the wire is there");
            let tap = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .expect("root may listen to packets");
            setsockopt(&tap, sockopt::RcvBufForce, &(16 << 20)).expect("a large buffer");
            std::thread::spawn(move || listen(&tap, index, &watch, &kept));
        });
        Self { seen, markers: AtomicU64::new(0), told: Mutex::default() }
    }

    /// Every packet since the last call, what is still on the way included.
    ///
    /// A marker follows them over the wire. It is sent again until one comes through, since a wire
    /// that has just been plugged in drops what it is given.
    pub(crate) fn take(&self, host: &Place) -> Vec<Packet> {
        let (seen, news) = &*self.seen;
        let marker = format!("marker {}", self.markers.fetch_add(1, Ordering::Relaxed));
        let started = Instant::now();
        let has_come = |packets: &[Packet]| {
            packets.iter().any(|packet| packet.frame.ends_with(marker.as_bytes()))
        };
        let mut guard = seen.lock().expect("not poisoned");
        while !has_come(&guard) {
            assert!(started.elapsed() < PATIENCE, "{marker} never arrived: {guard:?}");
            drop(guard);
            send_marker(host, &marker);
            // It may be there before this thread waits for it.
            let sent = seen.lock().expect("not poisoned");
            let waited = news.wait_timeout_while(sent, AGAIN, |packets| !has_come(packets));
            guard = waited.expect("not poisoned").0;
        }
        let mut packets = std::mem::take(&mut *guard);
        packets.retain(|packet| packet.target != Some(MARKER.into()));
        self.without_aftermath(packets)
    }
}

impl Wire {
    /// Leaves out how connections end that were told of before: the programs that had them may be
    /// gone for long when the last acknowledgement arrives.
    fn without_aftermath(&self, mut packets: Vec<Packet>) -> Vec<Packet> {
        let mut told = self.told.lock().expect("not poisoned");
        for packet in packets.iter().filter(|packet| packet.opens) {
            // A new connection between the same ends is news again.
            told.retain(|ends| Some(*ends) != packet.connection());
        }
        packets.retain(|packet| packet.connection().is_none_or(|ends| !told.contains(&ends)));
        told.extend(packets.iter().filter_map(Packet::connection));
        packets
    }
}

/// Sends a marker from the host.
fn send_marker(host: &Place, marker: &str) {
    let marker = marker.to_owned();
    host.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket of the stage's own");
        #[expect(clippy::disallowed_methods, reason = "the stage's own, outside any jail")]
        socket.send_to(marker.as_bytes(), (MARKER, 9)).expect("the wire carries");
    });
}

/// The listening thread.
fn listen(tap: &OwnedFd, index: u32, watch: &Watch, seen: &(Mutex<Vec<Packet>>, Condvar)) {
    let mut frame = [0; 4096];
    while watch.readable(&[tap.as_fd()]).is_some() {
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(tap.as_raw_fd(), &mut frame) else {
            continue;
        };
        let outgoing = from.pkttype() == libc::PACKET_OUTGOING;
        if outgoing || from.ifindex() != index as usize {
            continue;
        }
        let packet = read(&frame[..length]);
        if !is_background(&packet) {
            seen.0.lock().expect("not poisoned").push(packet);
            seen.1.notify_all();
        }
    }
}

/// Reads a frame as far as the ports.
fn read(frame: &[u8]) -> Packet {
    let address = |from: usize, length: usize| -> Option<IpAddr> {
        match frame.get(from..from + length)? {
            four if length == 4 => <[u8; 4]>::try_from(four).ok().map(IpAddr::from),
            sixteen => <[u8; 16]>::try_from(sixteen).ok().map(IpAddr::from),
        }
    };
    let ethernet = frame.get(12..14).map(|kind| (kind[0], kind[1]));
    let (protocol, source, target, payload) = match ethernet {
        Some((0x08, 0x00)) => {
            let header = 14 + usize::from(frame.get(14).copied().unwrap_or_default() & 15) * 4;
            (frame.get(23).copied(), address(26, 4), address(30, 4), header)
        }
        Some((0x86, 0xdd)) => (frame.get(20).copied(), address(22, 16), address(38, 16), 54),
        _ => (None, None, None, frame.len()),
    };
    let has_ports = matches!(protocol, Some(6 | 17 | 33 | 132 | 136));
    let word = |place: usize| {
        let bytes = frame.get(place..place + 2).filter(|_| has_ports)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (from, port) = (word(payload), word(payload + 2));
    // Of the flags, SYN without ACK.
    let opens = protocol == Some(6) && frame.get(payload + 13).is_some_and(|it| it & 0x12 == 2);
    let frame = frame.iter().copied().take(256).collect();
    Packet { protocol, source, target, port, from, opens, frame }
}

/// Whether it is only an interface finding its neighbours.
fn is_background(packet: &Packet) -> bool {
    let arp = packet.frame.get(12..14) == Some(&[0x08, 0x06]);
    let discovery = packet.protocol == Some(58) && matches!(packet.frame.get(54), Some(133..=136));
    arp || discovery || is_own_group_report(&packet.frame)
}

/// Whether it is an MLD report of nothing but the groups that every IPv6 interface joins.
fn is_own_group_report(frame: &[u8]) -> bool {
    // A hop-by-hop header of 8 bytes with the router alert, then ICMPv6 of type 143.
    if frame.get(20) != Some(&0) || frame.get(54) != Some(&58) || frame.get(62) != Some(&143) {
        return false;
    }
    let group = |record: &[u8]| <[u8; 16]>::try_from(record.get(4..20)?).ok().map(Ipv6Addr::from);
    let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
    frame.get(70..).unwrap_or_default().chunks_exact(20).all(|record| {
        group(record).is_some_and(|group| group.segments()[..6] == solicited.segments()[..6])
    })
}
