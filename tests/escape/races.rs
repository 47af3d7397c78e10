//! what is judged changes while it is judged. Addresses, descriptors, sockets,
//! ports and cgroups change hands under the calls that name them.
//!
//! *Standing*: a race is a million rounds or ten seconds where the tests are to be thorough
//! ([`is_long`](super::is_long)), a second else. The same races without boundary are the stage's
//! ([`stage`](crate::stage)): there they arrive.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::traces::Ground;
use super::{ALLOW, DENIED, is_long, rounds};
use crate::world::needs::needs;
use crate::world::{Output, World};

/// How many rounds.
const ROUNDS: u32 = 1_000_000;

/// Fewer rounds than this are no race.
const FEW: u64 = 40;

/// For how many seconds.
fn seconds() -> &'static str {
    if is_long() { "10" } else { "1" }
}

/// A count of what became of a race.
fn count(out: &Output, what: &str) -> u64 {
    out.finding()["found"][what].as_u64().unwrap_or_default()
}

/// Whether it was a race, and the end of it that counts was met, or both. Nothing left, ever.
fn is_lost(out: &Output, both: bool) -> bool {
    out.succeeded().nothing_left();
    let (rounds, went, met) = (count(out, "rounds"), count(out, "went"), count(out, "met"));
    rounds > FEW && met > 0 && (!both || (went > 0 && went < rounds))
}

/// Runs a race inside until it is one. A busy machine may not let both have their turn in the time of the
/// first.
fn race(world: &World, how: &str, (target, port): (&str, &str), both: bool) {
    let words = [world.attack(), "race", how, target, port, &rounds(ROUNDS), seconds()];
    let is_lost = || is_lost(&world.boundary(&ALLOW, &words).output(), both);
    assert!((0..30).any(|_| is_lost()), "it was a race, and met: {words:?}");
}

#[test]
fn a22_an_address_that_changes_while_a_datagram_is_sent_leads_nowhere() {
    needs!(root, bpf);
    let world = World::new();
    for how in ["sendto", "sendmsg"] {
        for target in [DENIED[0], DENIED[1]] {
            race(&world, how, (target, "9999"), true);
        }
    }
}

#[test]
fn a22_an_address_that_changes_while_it_is_connected_to_leads_nowhere() {
    needs!(root, bpf);
    let world = World::new();
    for target in [DENIED[0], DENIED[1]] {
        race(&world, "connect", (target, "80"), false);
    }
}

#[test]
fn a22_a_descriptor_that_changes_hands_leads_nowhere() {
    needs!(root, bpf);
    let world = World::new();
    for how in ["dup", "dup-connect"] {
        for target in [DENIED[0], DENIED[1]] {
            race(&world, how, (target, "9999"), false);
        }
    }
}

/// Sets options that lead elsewhere through a descriptor that is by turns a unix socket, which has none of
/// them, and one of TCP; and tells how often that was refused, and what is set in the end.
const SWAPPED_OPTIONS: &str = "
import ctypes, os, socket, sys, threading, time
libc = ctypes.CDLL(None)
tcp, unix = socket.socket(socket.AF_INET6), socket.socket(socket.AF_UNIX)
swapped, over = os.dup(unix.fileno()), False
def swap():
    while not over:
        libc.dup2(tcp.fileno(), swapped)
        libc.dup2(unix.fileno(), swapped)
threading.Thread(target=swap).start()
on, until = ctypes.byref(ctypes.c_int(1)), time.monotonic() + float(sys.argv[1])
refused = went = 0
while refused + went < 200 or time.monotonic() < until:
    went += libc.setsockopt(swapped, 41, 78, on, 4) == 0
    refused += libc.setsockopt(swapped, 41, 78, on, 4) != 0
over = True
print('went', went, 'set', tcp.getsockopt(41, 78), 'met', refused > 0)";

#[test]
fn a22_h02_an_option_of_a_descriptor_that_changes_hands_is_refused() {
    needs!(root, bpf, python3);
    let world = World::new();
    let command = ["/usr/bin/python3", "-c", SWAPPED_OPTIONS, seconds()];
    world.bare(&command).output().exits(0).says("set 1");
    for _ in 0..3 {
        world.boundary(&ALLOW, &command).output().exits(0).says("went 0 set 0 met True");
    }
}

#[test]
fn a22_f04_a_socket_that_is_disconnected_while_it_connects_leads_nowhere() {
    needs!(root, bpf);
    let world = World::new();
    for target in [DENIED[0], DENIED[1]] {
        race(&world, "close", (target, "80"), false);
    }
}

/// A process of the host that takes a port whenever it is free, and hears whoever speaks to it.
#[derive(Clone, Default)]
struct Thief {
    over: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
}

impl Thief {
    /// Begins to lie in wait.
    fn at(world: &World, place: SocketAddr, is_tcp: bool) -> Self {
        let thief = Self::default();
        let own = thief.clone();
        world.host().run(move || drop(std::thread::spawn(move || own.lie_in_wait(place, is_tcp))));
        thief
    }

    /// Takes the port whenever it is free.
    fn lie_in_wait(&self, place: SocketAddr, is_tcp: bool) {
        while !self.over.load(Ordering::Relaxed) {
            let spoken = if is_tcp { hear_streams(place) } else { hear_datagrams(place) };
            self.taken.fetch_add(u64::from(spoken.is_some()), Ordering::Relaxed);
            self.heard.fetch_add(spoken.unwrap_or_default(), Ordering::Relaxed);
        }
    }

    /// How often it had the port, and how often it heard anything.
    fn end(self) -> (u64, u64) {
        self.over.store(true, Ordering::Relaxed);
        (self.taken.load(Ordering::Relaxed), self.heard.load(Ordering::Relaxed))
    }
}

/// Who connects in a moment, if the port is free.
fn hear_streams(place: SocketAddr) -> Option<u64> {
    let held = TcpListener::bind(place).ok()?;
    held.set_nonblocking(true).ok()?;
    // A moment: as long as a few calls take.
    Some(
        (0..8)
            .filter(|_| held.accept().is_ok_and(|(mut it, _)| it.read(&mut [0; 16]).is_ok()))
            .count() as u64,
    )
}

/// What is sent in a moment, if the port is free.
fn hear_datagrams(place: SocketAddr) -> Option<u64> {
    let held = UdpSocket::bind(place).ok()?;
    held.set_nonblocking(true).ok()?;
    Some((0..8).map(|_| u64::from(held.recv(&mut [0; 16]).is_ok())).sum())
}

/// Races for one port, once without boundary and once with it.
fn races_for_port(world: &World, how: &str, place: SocketAddr) {
    let (address, port) = (place.ip().to_string(), place.port().to_string());
    let words = [world.attack(), "race", how, &address, &port, &rounds(ROUNDS), seconds()];
    // A busy machine may not let both have their turn in the time of one race.
    let is_met = || {
        let thief = Thief::at(world, place, how == "port");
        world.bare(&words).output().succeeded();
        thief.end().1 > 0
    };
    assert!((0..30).any(|_| is_met()), "without boundary it hears");
    let thief = Thief::at(world, place, how == "port");
    let out = world.boundary(&ALLOW, &words).output();
    let (taken, heard) = thief.end();
    out.succeeded().nothing_left();
    out.expect(count(&out, "rounds") > FEW && taken > FEW, "it was a race");
    out.expect(heard == 0, &format!("who takes the port hears nothing: {heard} of {taken}"));
}

#[test]
fn a22_a24_a_port_that_changes_hands_is_the_hosts_again() {
    needs!(root, bpf);
    let world = World::new();
    for place in ["127.0.0.1:4711", "[::1]:4711"] {
        races_for_port(&world, "port", place.parse().expect("one"));
        races_for_port(&world, "port-udp", place.parse().expect("one"));
    }
}

/// Serves itself at a port, gives the port up, and speaks to it again, over the sockets that it had and
/// over new ones.
const FREED: &str = "
import socket, sys
address = sys.argv[1]
family = socket.AF_INET6 if ':' in address else socket.AF_INET
def made(kind):
    s = socket.socket(family, kind)
    s.settimeout(30)
    return s
server = made(socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((address, 4712)); server.listen()
client = made(socket.SOCK_STREAM); client.connect((address, 4712))
server.accept()[0].sendall(b'own'); assert client.recv(3) == b'own'
post = made(socket.SOCK_DGRAM); post.bind((address, 4712))
writer = made(socket.SOCK_DGRAM); writer.connect((address, 4712))
writer.send(b'own'); assert post.recv(3) == b'own'
for s in (client, server, post): s.close()
print('freed', flush=True)
open('tmp/gate').readline()
def attempt(name, what):
    try: print(name, what(), flush=True)
    except OSError as error: print(name, error, flush=True)
def speak():
    s = made(socket.SOCK_STREAM); s.connect((address, 4712))
    s.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')
    return s.recv(16)
attempt('stream', speak)
attempt('connected', lambda: writer.send(b'leaked'))
attempt('again', lambda: writer.send(b'leaked'))
attempt('datagram', lambda: made(socket.SOCK_DGRAM).sendto(b'leaked', (address, 4712)))
";

#[test]
fn a24_a_port_that_the_session_freed_is_the_hosts_again() {
    needs!(root, ebpf, python3);
    let world = World::new();
    let gate = world.folder().join("tmp/gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
    for address in ["127.0.0.1", "::1"] {
        let command = ["/usr/bin/python3", "-c", FREED, address];
        let session = world.boundary(&ALLOW, &command).start();
        session.wait_for("freed");
        let place: SocketAddr = (address.parse::<std::net::IpAddr>().expect("one"), 4712).into();
        let (streams, datagrams) = world.host().run(move || {
            let streams = TcpListener::bind(place).expect("the port is free");
            let datagrams = UdpSocket::bind(place).expect("the port is free");
            streams.set_nonblocking(true).expect("it does not wait");
            datagrams.set_nonblocking(true).expect("it does not wait");
            (streams, datagrams)
        });
        fs::write(&gate, "go\n").expect("it waits there");
        let out = session.finish();
        out.exits(0).says("stream").says("datagram").nothing_left();
        out.expect(streams.accept().is_err(), "no connection reaches the host's server");
        out.expect(datagrams.recv(&mut [0; 16]).is_err(), "nor does a datagram");
    }
}

/// Two sessions race for one port.
fn race_each_other(world: &World, how: &str, address: &str) {
    let words = [world.attack(), "race", how, address, "4713", &rounds(ROUNDS), seconds()];
    let others = [(); 2].map(|()| world.boundary(&ALLOW, &words).start());
    for session in others {
        let out = session.finish();
        out.succeeded().nothing_left();
        out.expect(count(&out, "rounds") > FEW, "it was a race");
        out.expect(count(&out, "met") == 0, "neither hears the other");
    }
}

#[test]
fn a22_a30_a_port_that_another_session_takes_is_not_ones_own() {
    needs!(root, bpf);
    let world = World::new();
    for address in ["127.0.0.1", "::1"] {
        race_each_other(&world, "port", address);
        race_each_other(&world, "port-udp", address);
    }
}

#[test]
fn a14_a22_a_process_that_is_moved_while_it_connects_stays_behind_the_walls() {
    needs!(root, ebpf);
    let world = World::new();
    let ground = Ground::below(&world);
    for (how, port) in [("connect", "80"), ("sendto", "9999")] {
        for target in [DENIED[0], DENIED[1]] {
            let words = [world.attack(), "race", how, target, port, &rounds(ROUNDS), seconds()];
            let script = "$0 signals 1 >/dev/null; exec \"$0\" \"$@\"";
            let command = [&["sh", "-c", script], &words[..]].concat();
            let session = world.boundary(&ALLOW, &command).start();
            let attack = world.process("attack").pid;
            let own = ground.cgroups().pop().expect("the session has one");
            let below = own.join("below");
            fs::create_dir(&below).expect("root may");
            kill(attack, Signal::SIGUSR1).expect("it is there");
            let moves = moves(&[&below, &own]);
            let out = session.finish();
            out.expect(is_lost(&out, false), "it was a race, and met");
            out.expect(moves > FEW, &format!("it is moved {moves} times"));
        }
    }
}

/// Moves whatever runs in two cgroups from one to the other until nothing runs there; how often.
fn moves(between: &[&Path; 2]) -> u64 {
    let mut moves = 0;
    for (to, from) in [(between[0], between[1]), (between[1], between[0])].into_iter().cycle() {
        let Ok(living) = fs::read_to_string(from.join("cgroup.procs")) else { break };
        let Ok(there) = fs::read_to_string(to.join("cgroup.procs")) else { break };
        if living.is_empty() && there.is_empty() {
            break;
        }
        for pid in living.lines() {
            moves += u64::from(fs::write(to.join("cgroup.procs"), pid).is_ok());
        }
        // A move holds up every fork and exit of what is moved: let it run in between.
        std::thread::park_timeout(Duration::from_micros(500));
    }
    moves
}
