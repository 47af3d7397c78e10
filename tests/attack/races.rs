//! Races: what is checked is changed while it is checked.
//!
//! *Standing*: each runs for a number of rounds or a time, whichever is over first, and says how many
//! rounds it was and what became of them. Whether anything left is for the wire to say.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::{Arguments, sockets, sys, usage};

/// How long a flood may take, and a race that was given no time.
const TIME: Duration = Duration::from_secs(10);

/// As many rounds as make a race, where a busy machine lets it have so few in its time, and how long
/// it may take to make them.
const ENOUGH: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(40);

/// An address that another thread changes while the kernel reads it.
type Shared = [AtomicU64; 4];

/// How long to try.
#[derive(Clone, Copy)]
struct Bounds {
    rounds: u64,
    time: Duration,
}

/// What became of the rounds.
#[derive(Default)]
struct Tally {
    rounds: u64,
    /// Those that the kernel took.
    went: u64,
    /// Those that found what the race is about: the other address, the other socket, a port that
    /// somebody else has.
    met: u64,
}

impl Bounds {
    /// Repeats an attempt, which says whether the kernel took it and whether the race was met.
    fn repeat(self, mut attempt: impl FnMut() -> (bool, bool)) -> Tally {
        let (started, mut tally) = (Instant::now(), Tally::default());
        let goes_on = |tally: &Tally| {
            let time = if tally.rounds < ENOUGH { self.time.max(PATIENCE) } else { self.time };
            tally.rounds < self.rounds && started.elapsed() < time
        };
        while goes_on(&tally) {
            let (went, met) = attempt();
            tally.rounds += 1;
            tally.went += u64::from(went);
            tally.met += u64::from(met);
        }
        tally
    }
}

/// `race HOW ADDRESS PORT ROUNDS [SECONDS]`:
///
/// - `sendto`, `sendmsg` and `connect` flip the address between a server of the program itself and
///   the target;
/// - `dup` and `dup-connect` flip the socket behind a descriptor between UDP and TCP;
/// - `close` connects a socket that another thread disconnects, closes and connects elsewhere;
/// - `port` and `port-udp` speak to a port of loopback that a server of the program itself takes
///   and gives up, and that somebody else may take: the address is loopback, the port is his.
pub(crate) fn race(arguments: &Arguments) -> io::Result<Value> {
    let target: SocketAddr = SocketAddr::new(arguments.value::<IpAddr>(1)?, arguments.value(2)?);
    let time = arguments.value(4).map_or(TIME, Duration::from_secs);
    let bounds = Bounds { rounds: arguments.value(3)?, time };
    let tally = match arguments.text(0)? {
        "sendto" => datagrams(target, bounds, |socket, address, length| {
            sys::send_to_shared(socket, b"leaked", address, length)
        })?,
        "sendmsg" => datagrams(target, bounds, |socket, address, length| {
            sys::send_message_shared(socket, b"leaked", address, length)
        })?,
        "connect" => connect(target, bounds)?,
        "dup" => dup(target, bounds)?,
        "dup-connect" => dup_connect(target, bounds)?,
        "close" => close(target, bounds)?,
        "port" => port(target, bounds),
        "port-udp" => port_udp(target, bounds)?,
        _ => return Err(usage("no such race")),
    };
    Ok(json!({ "rounds": tally.rounds, "went": tally.went, "met": tally.met }))
}

/// The loopback address of the target's family.
fn own(target: SocketAddr) -> IpAddr {
    if target.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() }
}

/// The words that hold an address.
fn words(address: SocketAddr) -> [u64; 4] {
    let mut bytes = sys::sockaddr(address);
    bytes.resize(32, 0);
    let word = |place: usize| bytes.get(place * 8..place * 8 + 8)?.try_into().ok();
    [0, 1, 2, 3].map(|place| word(place).map_or(0, u64::from_ne_bytes))
}

/// Repeats one attempt while another thread flips the address from one to the other. The attempt
/// says whether it went, and to which of both.
fn flipped(
    ends: [SocketAddr; 2],
    bounds: Bounds,
    attempt: impl Fn(&Shared) -> (bool, bool),
) -> Tally {
    let both = ends.map(words);
    let shared = both[0].map(AtomicU64::new);
    beside(|over| flip(&shared, both, over), || bounds.repeat(|| attempt(&shared)))
}

/// Runs one thing in a thread until another is over.
fn beside<T>(other: impl FnOnce(&AtomicBool) + Send, this: impl FnOnce() -> T) -> T {
    let (over, begin) = (AtomicBool::new(false), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            begin.wait();
            other(&over);
        });
        begin.wait();
        let done = this();
        over.store(true, Ordering::Relaxed);
        done
    })
}

/// Writes one address after the other, until it is over.
fn flip(shared: &Shared, both: [[u64; 4]; 2], over: &AtomicBool) {
    for words in both.iter().cycle() {
        for (place, word) in shared.iter().zip(words) {
            place.store(*word, Ordering::Relaxed);
        }
        if over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Datagrams to an address that flips. A refusal is the target's.
fn datagrams(
    target: SocketAddr,
    bounds: Bounds,
    send: impl Fn(&OwnedFd, &Shared, usize) -> io::Result<()>,
) -> io::Result<Tally> {
    let server = UdpSocket::bind((own(target), 0))?;
    let socket = sys::socket(sockets::family(target), libc::SOCK_DGRAM, 0)?;
    let length = sys::sockaddr(target).len();
    Ok(flipped([server.local_addr()?, target], bounds, |shared| {
        let went = send(&socket, shared, length).is_ok();
        (went, !went)
    }))
}

/// Connections to an address that flips.
fn connect(target: SocketAddr, bounds: Bounds) -> io::Result<Tally> {
    let server = TcpListener::bind((own(target), 0))?;
    let address = server.local_addr()?;
    let length = sys::sockaddr(target).len();
    // Whoever is not accepted fills the server's queue, and everybody after him waits.
    std::thread::spawn(move || server.incoming().for_each(drop));
    Ok(flipped([address, target], bounds, |shared| {
        let kind = libc::SOCK_STREAM;
        let Ok(socket) = sys::socket(sockets::family(target), kind, 0) else {
            return (false, false);
        };
        // Where the server's queue is full for a moment, a connection would wait for a second.
        let patience = [0_i64.to_ne_bytes(), 20_000_i64.to_ne_bytes()].concat();
        drop(sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &patience));
        let went = sys::connect_shared(&socket, shared, length).is_ok();
        let peer = std::net::TcpStream::from(socket).peer_addr();
        (went, peer.is_ok_and(|peer| peer.ip() == target.ip()))
    }))
}

/// Sends through a descriptor that is by turns a connected TCP socket, which may not name another
/// target and does, and a UDP socket.
fn dup(target: SocketAddr, bounds: Bounds) -> io::Result<Tally> {
    let server = TcpListener::bind((own(target), 0))?;
    let family = sockets::family(target);
    let stream = sys::socket(family, libc::SOCK_STREAM, 0)?;
    sys::connect(&stream, &sys::sockaddr(server.local_addr()?))?;
    let datagram = sys::socket(family, libc::SOCK_DGRAM, 0)?;
    let swapped = stream.try_clone()?;
    let address = sys::sockaddr(target);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let send = || match sys::send_to(&swapped, b"leaked", flags, &address) {
        Ok(_) => (true, false),
        // Else it is the stream, which is full.
        Err(error) => (false, error.raw_os_error() != Some(libc::EAGAIN)),
    };
    Ok(beside(|over| swap(&swapped, [&stream, &datagram], over), || bounds.repeat(send)))
}

/// Connects and speaks through a descriptor that is by turns a TCP socket and a UDP socket.
fn dup_connect(target: SocketAddr, bounds: Bounds) -> io::Result<Tally> {
    let family = sockets::family(target);
    let address = sys::sockaddr(target);
    let swapped = sys::socket(family, libc::SOCK_DGRAM, 0)?;
    let datagram = sys::socket(family, libc::SOCK_DGRAM, 0)?;
    let attempt = || {
        let Ok(stream) = sys::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0) else {
            return (false, false);
        };
        let connected = beside(
            |over| swap(&swapped, [&stream, &datagram], over),
            || sys::connect(&swapped, &address),
        );
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let sent = [&swapped, &stream, &datagram]
            .map(|socket| sys::send_to(socket, b"leaked", flags, &[]));
        let is_refused = |error: &io::Error| error.raw_os_error() == Some(libc::EPERM);
        let [_, _, datagram] = sent;
        // The datagram socket is to be refused, when it is pointed or when it sends; the stream to be
        // turned.
        let refused = [connected.as_ref().err(), datagram.as_ref().err()];
        (datagram.is_ok(), refused.into_iter().flatten().any(is_refused))
    };
    Ok(bounds.repeat(attempt))
}

/// Connects a socket to the target while another thread disconnects it, and connects it to a server
/// of the program itself; then speaks through it, whatever it is.
fn close(target: SocketAddr, bounds: Bounds) -> io::Result<Tally> {
    let server = TcpListener::bind((own(target), 0))?;
    let (near, far) = (sys::sockaddr(server.local_addr()?), sys::sockaddr(target));
    std::thread::spawn(move || server.incoming().for_each(drop));
    let nowhere = vec![0; far.len()];
    let family = sockets::family(target);
    let attempt = || {
        let Ok(socket) = sys::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0) else {
            return (false, false);
        };
        let made = AtomicU64::new(0);
        // Each fails as often as not: that is the race.
        let again = |address: &Vec<u8>| {
            drop(sys::connect(&socket, address));
            made.fetch_add(1, Ordering::Relaxed);
        };
        let other = |over: &AtomicBool| {
            while !over.load(Ordering::Relaxed) {
                again(&nowhere);
                again(&near);
            }
        };
        let is_met = beside(other, || {
            let before = made.load(Ordering::Relaxed);
            drop(sys::connect(&socket, &far));
            made.load(Ordering::Relaxed) != before
        });
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let sent = sys::send_to(&socket, b"leaked", flags, &[]).is_ok();
        (sent, is_met)
    };
    Ok(bounds.repeat(attempt))
}

/// A server of the program itself takes and gives up a port while a client speaks to whoever has it.
/// What the server hears from anybody else is said with `met`.
fn port(target: SocketAddr, bounds: Bounds) -> Tally {
    let address = sys::sockaddr(target);
    let family = sockets::family(target);
    let token = token();
    let client = || {
        let Ok(socket) = sys::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0) else {
            return (false, false);
        };
        drop(sys::connect(&socket, &address));
        (sys::send_to(&socket, &token, libc::MSG_NOSIGNAL, &[]).is_ok(), false)
    };
    let heard = AtomicU64::new(0);
    let server = |over: &AtomicBool| {
        while !over.load(Ordering::Relaxed) {
            // Where that fails, somebody else has it.
            let Ok(held) = TcpListener::bind(target) else { continue };
            let Ok(()) = held.set_nonblocking(true) else { continue };
            for mut stream in held.incoming().take(4).flatten() {
                let strange = is_strange(&token, |bytes| stream.read(bytes));
                heard.fetch_add(u64::from(strange), Ordering::Relaxed);
            }
        }
    };
    let tally = beside(server, || bounds.repeat(client));
    Tally { met: heard.into_inner(), ..tally }
}

/// The same with datagrams.
fn port_udp(target: SocketAddr, bounds: Bounds) -> io::Result<Tally> {
    let address = sys::sockaddr(target);
    let socket = sys::socket(sockets::family(target), libc::SOCK_DGRAM, 0)?;
    let token = token();
    let client = || (sys::send_to(&socket, &token, 0, &address).is_ok(), false);
    let heard = AtomicU64::new(0);
    let server = |over: &AtomicBool| {
        while !over.load(Ordering::Relaxed) {
            let Ok(held) = UdpSocket::bind(target) else { continue };
            let Ok(()) = held.set_nonblocking(true) else { continue };
            let strange = (0..4).any(|_| is_strange(&token, |bytes| held.recv(bytes)));
            heard.fetch_add(u64::from(strange), Ordering::Relaxed);
        }
    };
    let tally = beside(server, || bounds.repeat(client));
    Ok(Tally { met: heard.into_inner(), ..tally })
}

/// What this program alone says.
fn token() -> [u8; 16] {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos().to_ne_bytes()
}

/// Whether what can be read was said by somebody else.
fn is_strange(own: &[u8], mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> bool {
    let mut bytes = [0; 16];
    read(&mut bytes).is_ok_and(|length| length > 0 && bytes.get(..length) != own.get(..length))
}

/// Puts one socket after the other behind a descriptor.
fn swap(descriptor: &OwnedFd, sockets: [&OwnedFd; 2], over: &AtomicBool) {
    for socket in sockets.iter().cycle() {
        let done = sys::replace(socket.as_raw_fd(), descriptor.as_raw_fd()).is_err();
        if done || over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// `flood ADDRESS PORT COUNT [nowait]`: that many connections, one after the other, each dropped at
/// once, or even before it is made.
pub(crate) fn flood(arguments: &Arguments) -> io::Result<Value> {
    let address = SocketAddr::new(arguments.value::<IpAddr>(0)?, arguments.value(1)?);
    let count: u64 = arguments.value(2)?;
    let waits = arguments.text(3).is_err();
    let kind = libc::SOCK_STREAM | if waits { 0 } else { libc::SOCK_NONBLOCK };
    let started = Instant::now();
    let (mut made, mut refused) = (0_u64, 0_u64);
    while made < count && started.elapsed() < TIME {
        let socket = sys::socket(sockets::family(address), kind, 0)?;
        let refusal = sys::connect(&socket, &sys::sockaddr(address)).err();
        let is_refused = |error: io::Error| error.raw_os_error() != Some(libc::EINPROGRESS);
        refused += u64::from(refusal.is_some_and(is_refused));
        made += 1;
    }
    Ok(json!({ "made": made, "refused": refused }))
}
