//! For generated sockets and targets, what the kernel did is what `steer` says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use boundary_common::flow::Endpoint;
use boundary_common::steer::{
    DATAGRAM, Decision, Door, Hook, Listener, STREAM, Socket, Why, steer,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::inside::{Inside, PATIENCE};
use crate::world::needs::needs;

/// How many attempts are compared.
const CASES: u32 = 600;

/// What a program tries.
#[derive(Debug, Clone, Copy)]
enum Attempt {
    Stream,
    Connected,
    Unconnected,
}

/// Which port it tries.
#[derive(Debug, Clone, Copy)]
enum Port {
    Number(u16),
    Dns,
    Proxy,
    Resolver,
    Session,
    Stranger,
}

/// What happened, as seen from every place where something can arrive.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Proxy(SocketAddr),
    Resolver,
    Session,
    Refused,
    NobodyThere,
}

#[test]
fn the_kernel_steers_as_the_function_says() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    // What is generated is the same every time, so that a failure can be looked at again.
    let mut runner = TestRunner::new_with_rng(
        Config { cases: CASES, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let inside = std::cell::RefCell::new(&mut inside);
    let kinds = std::cell::RefCell::new(std::collections::HashSet::new());
    let generated = (any_attempt(), any_address(), any_port(), any::<bool>());
    runner
        .run(&generated, |(attempt, address, port, six)| {
            let mut inside = inside.borrow_mut();
            let target = SocketAddr::new(address, number(&inside, attempt, address, port));
            let six = six || address.is_ipv6();
            let said = inside.hand.asked(&line(attempt, six, target));
            let seen = outcome(&mut inside, &said);
            kinds.borrow_mut().insert(std::mem::discriminant(&seen));
            prop_assert_eq!(seen, expected(&inside, attempt, six, target), "{}", said);
            Ok(())
        })
        .unwrap();
    assert_eq!(kinds.borrow().len(), 5, "every outcome was seen");
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    prop_oneof![Just(Attempt::Stream), Just(Attempt::Connected), Just(Attempt::Unconnected)]
}

/// Anything, with loopback in its spellings much more often than chance. Unconnected sends to
/// groups and zones are refused by the kernel itself before any hook; here they say EPERM too.
fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).into()),
        any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).into()),
        Just(Ipv4Addr::LOCALHOST.into()),
        Just(Ipv6Addr::LOCALHOST.into()),
        Just(Ipv4Addr::UNSPECIFIED.into()),
        Just(Ipv6Addr::UNSPECIFIED.into()),
        any::<u8>().prop_map(|last| Ipv4Addr::new(127, 1, 2, last).into()),
        any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).to_ipv6_mapped().into()),
        Just(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()),
    ]
}

fn any_port() -> impl Strategy<Value = Port> {
    prop_oneof![
        (1_u16..1024).prop_map(Port::Number),
        Just(Port::Dns),
        Just(Port::Proxy),
        Just(Port::Resolver),
        Just(Port::Session),
        Just(Port::Stranger),
    ]
}

/// The port's number for the packets of that address.
fn number(inside: &Inside, attempt: Attempt, address: IpAddr, port: Port) -> u16 {
    let v6 = usize::from(address.to_canonical().is_ipv6());
    let bound = |address: std::io::Result<SocketAddr>| address.unwrap().port();
    match port {
        Port::Number(number) => number,
        Port::Dns => 53,
        Port::Proxy => bound(inside.doors.tcp[v6].local_addr()),
        Port::Resolver => bound(inside.doors.dns[v6].local_addr()),
        Port::Stranger => bound(inside.strangers[v6].local_addr()),
        Port::Session => {
            let datagrams = if matches!(attempt, Attempt::Stream) { 0 } else { 2 };
            inside.hand.ports[datagrams + v6]
        }
    }
}

/// What the hand is asked to do.
fn line(attempt: Attempt, six: bool, target: SocketAddr) -> String {
    let what = match attempt {
        Attempt::Stream => "connect tcp",
        Attempt::Connected => "connect udp",
        Attempt::Unconnected => "send udp",
    };
    format!("{what} {} {target}", if six { 6 } else { 4 })
}

/// What happened. Everything that arrived anywhere is taken, so that nothing is left for the next. What
/// was sent may still be on its way: two processors carry it.
fn outcome(inside: &mut Inside, said: &str) -> Outcome {
    let is_under_way = !["EPERM", "ECONNREFUSED"].contains(&said);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let flows = inside.at_proxy();
        let questions = inside.at_resolver().len();
        let own = inside.hand.asked("arrived");
        assert_eq!(inside.at_strangers(), 0, "a stranger got a connection: {said}");
        match (said, flows.as_slice(), questions, own.as_str()) {
            (_, [], 0, "ok 0 0") if is_under_way && Instant::now() < deadline => {}
            ("EPERM", [], 0, "ok 0 0") => return Outcome::Refused,
            ("ECONNREFUSED", [], 0, "ok 0 0") => return Outcome::NobodyThere,
            (_, [(target, pid)], 0, "ok 0 0") if *pid == inside.hand.pid => {
                return Outcome::Proxy(*target);
            }
            (_, [], 1, "ok 0 0") => return Outcome::Resolver,
            (_, [], 0, "ok 1 0" | "ok 0 1") => return Outcome::Session,
            other => panic!("neither here nor there: {other:?}"),
        }
    }
}

/// What `steer` says, given who listens where.
fn expected(inside: &Inside, attempt: Attempt, six: bool, target: SocketAddr) -> Outcome {
    let endpoint = endpoint(six, target);
    let (hook, socket) = match attempt {
        Attempt::Stream => (Hook::Connect, Socket { kind: STREAM, protocol: 6 }),
        Attempt::Connected => (Hook::Connect, Socket { kind: DATAGRAM, protocol: 17 }),
        Attempt::Unconnected => (Hook::Sendmsg, Socket { kind: DATAGRAM, protocol: 17 }),
    };
    let there = listener(inside, attempt, target);
    match (steer(hook, socket, &endpoint, there), there) {
        (Decision::Pass, Listener::Session) => Outcome::Session,
        (Decision::Pass, _) => Outcome::NobodyThere,
        (Decision::Turn(Door::Proxy), _) => {
            Outcome::Proxy(SocketAddr::new(target.ip().to_canonical(), target.port()))
        }
        (Decision::Turn(Door::Resolver), _) => Outcome::Resolver,
        (Decision::Refuse(Why::Datagram), _) => Outcome::Refused,
        (Decision::Refuse(why), _) => panic!("{why:?} for {target}"),
    }
}

/// The target as the hook sees it.
fn endpoint(six: bool, target: SocketAddr) -> Endpoint {
    match (six, target.ip()) {
        (false, IpAddr::V4(v4)) => Endpoint::v4(u32::from_ne_bytes(v4.octets()), target.port()),
        (_, IpAddr::V4(v4)) => Endpoint::v6(words(v4.to_ipv6_mapped()), target.port()),
        (_, IpAddr::V6(v6)) => Endpoint::v6(words(v6), target.port()),
    }
}

/// An address as four words, as on the wire.
fn words(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    std::array::from_fn(|word| {
        u32::from_ne_bytes(std::array::from_fn(|byte| octets[word * 4 + byte]))
    })
}

/// Who listens at a target: all our sockets are at 127.0.0.1 and `::1` and nowhere else.
fn listener(inside: &Inside, attempt: Attempt, target: SocketAddr) -> Listener {
    let ip = match target.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    let is_at = |address: std::io::Result<SocketAddr>| {
        let address = address.unwrap();
        address.ip() == ip && address.port() == target.port()
    };
    let own = |port: u16, loopback: IpAddr| ip == loopback && port == target.port();
    let [tcp4, tcp6, udp4, udp6] = inside.hand.ports;
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    if matches!(attempt, Attempt::Stream) {
        if own(tcp4, v4) || own(tcp6, v6) {
            Listener::Session
        } else if inside.doors.tcp.iter().any(|door| is_at(door.local_addr())) {
            Listener::Door
        } else if inside.strangers.iter().any(|stranger| is_at(stranger.local_addr())) {
            Listener::Stranger
        } else {
            Listener::Nobody
        }
    } else if own(udp4, v4) || own(udp6, v6) {
        Listener::Session
    } else if inside.doors.dns.iter().any(|door| is_at(door.local_addr())) {
        Listener::Door
    } else {
        Listener::Nobody
    }
}
