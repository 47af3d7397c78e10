//! Races: what is checked is changed while it is checked.
//!
//! *Standing*: each runs for a number of rounds or ten seconds, whichever comes first, and says how
//! many rounds it was. Whether anything left is for the wire to say.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Arguments, sockets, sys, usage};

/// How long a race may take.
const TIME: Duration = Duration::from_secs(10);

/// An address that another thread changes while the kernel reads it.
type Shared = [AtomicU64; 4];

/// `race HOW ADDRESS PORT ROUNDS`: `sendto` and `connect` flip the address between a server of the
/// program itself and the target; `dup` flips the socket behind a descriptor between UDP and TCP.
pub(crate) fn race(arguments: &Arguments) -> io::Result<Value> {
    let target: SocketAddr = SocketAddr::new(arguments.value::<IpAddr>(1)?, arguments.value(2)?);
    let rounds: u64 = arguments.value(3)?;
    let (made, went) = match arguments.text(0)? {
        "sendto" => sendto(target, rounds)?,
        "connect" => connect(target, rounds)?,
        "dup" => dup(target, rounds)?,
        _ => return Err(usage("not sendto, connect or dup")),
    };
    Ok(json!({ "rounds": made, "went": went }))
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

/// Repeats one attempt while another thread flips the address from one to the other. Counts the
/// attempts, and those that the kernel took.
fn flipped(
    ends: [SocketAddr; 2],
    rounds: u64,
    attempt: impl Fn(&Shared) -> io::Result<()>,
) -> (u64, u64) {
    let both = ends.map(words);
    let shared = both[0].map(AtomicU64::new);
    let over = AtomicBool::new(false);
    let (mut made, mut went) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| flip(&shared, both, &over));
        let started = Instant::now();
        while made < rounds && started.elapsed() < TIME {
            went += u64::from(attempt(&shared).is_ok());
            made += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
    (made, went)
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

/// Datagrams to an address that flips.
fn sendto(target: SocketAddr, rounds: u64) -> io::Result<(u64, u64)> {
    let server = UdpSocket::bind((own(target), 0))?;
    let socket = sys::socket(sockets::family(target), libc::SOCK_DGRAM, 0)?;
    let length = sys::sockaddr(target).len();
    Ok(flipped([server.local_addr()?, target], rounds, |shared| {
        sys::send_to_shared(&socket, b"leaked", shared, length)
    }))
}

/// Connections to an address that flips.
fn connect(target: SocketAddr, rounds: u64) -> io::Result<(u64, u64)> {
    let server = TcpListener::bind((own(target), 0))?;
    let address = server.local_addr()?;
    let length = sys::sockaddr(target).len();
    // Whoever is not accepted fills the server's queue, and everybody after him waits.
    std::thread::spawn(move || server.incoming().for_each(drop));
    Ok(flipped([address, target], rounds, |shared| {
        let socket = sys::socket(sockets::family(target), libc::SOCK_STREAM, 0)?;
        sys::connect_shared(&socket, shared, length)
    }))
}

/// Sends through a descriptor that is by turns a connected TCP socket, which may not name another
/// target and does, and a UDP socket.
fn dup(target: SocketAddr, rounds: u64) -> io::Result<(u64, u64)> {
    let server = TcpListener::bind((own(target), 0))?;
    let family = sockets::family(target);
    let stream = sys::socket(family, libc::SOCK_STREAM, 0)?;
    sys::connect(&stream, &sys::sockaddr(server.local_addr()?))?;
    let datagram = sys::socket(family, libc::SOCK_DGRAM, 0)?;
    let swapped = stream.try_clone()?;
    let over = AtomicBool::new(false);
    let address = sys::sockaddr(target);
    let (mut made, mut went) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&swapped, [&stream, &datagram], &over));
        let started = Instant::now();
        while made < rounds && started.elapsed() < TIME {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            went += u64::from(sys::send_to(&swapped, b"leaked", flags, &address).is_ok());
            made += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
    Ok((made, went))
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
