//! What holds for every socket, target and listener.

use core::net::{IpAddr, Ipv4Addr};
use std::string::ToString as _;

use proptest::prelude::*;

use super::*;

const TCP4: Socket = Socket { kind: STREAM, protocol: 6 };
const UDP4: Socket = Socket { kind: DATAGRAM, protocol: 17 };

fn endpoint(text: &str, port: u16) -> Endpoint {
    match text.parse().unwrap() {
        IpAddr::V4(v4) => Endpoint::v4(u32::from_ne_bytes(v4.octets()), port),
        IpAddr::V6(v6) => Endpoint::v6(zerocopy::transmute!(v6.octets()), port),
    }
}

fn any_hook() -> impl Strategy<Value = Hook> {
    prop_oneof![Just(Hook::Connect), Just(Hook::Sendmsg)]
}

fn any_listener() -> impl Strategy<Value = Listener> {
    prop_oneof![
        Just(Listener::Nobody),
        Just(Listener::Stranger),
        Just(Listener::Session),
        Just(Listener::Door)
    ]
}

/// The allowed sockets half of the time, so that neither half of the rules goes untested.
fn any_socket() -> impl Strategy<Value = Socket> {
    prop_oneof![
        Just(TCP4),
        Just(UDP4),
        (0_u32..12, 0_u32..300).prop_map(|(kind, protocol)| Socket { kind, protocol }),
    ]
}

/// Any address at all, with loopback, mapped and DNS much more often than chance.
fn any_target() -> impl Strategy<Value = Endpoint> {
    let port = prop_oneof![Just(DNS), any::<u16>()];
    let words = prop_oneof![
        any::<[u32; 4]>(),
        any::<u32>().prop_map(|v4| Endpoint::v4(v4, 0).address),
        (0_u32..1 << 24).prop_map(|low| Endpoint::v4((0x7f << 24 | low).to_be(), 0).address),
        (0_u32..3).prop_map(|low| [0, 0, 0, low.to_be()]),
    ];
    (words, port, any::<bool>()).prop_map(|(address, port, six)| {
        let v6 = Endpoint::v6(address, port);
        if six || !v6.is_v4() { v6 } else { Endpoint::v4(address[3], port) }
    })
}

/// Loopback by another way than the code's: through the standard library.
fn is_local(target: &Endpoint) -> bool {
    let octets: [u8; 16] = zerocopy::transmute!(target.address);
    let ip = IpAddr::from(octets).to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

proptest! {
    #[test]
    fn nothing_passes_to_any_place_but_loopback(
        hook in any_hook(), socket in any_socket(), target in any_target(), there in any_listener(),
    ) {
        if steer(hook, socket, &target, there) == Decision::Pass {
            prop_assert!(is_local(&target));
        }
    }

    #[test]
    fn nothing_passes_to_a_stranger(
        hook in any_hook(), socket in any_socket(), target in any_target(),
    ) {
        prop_assert_ne!(steer(hook, socket, &target, Listener::Stranger), Decision::Pass);
        prop_assert!(!leave(TCP, Listener::Stranger) && !leave(UDP, Listener::Stranger));
    }

    #[test]
    fn a_datagram_goes_to_the_resolver_by_port_53_alone(
        hook in any_hook(), target in any_target(),
        there in prop_oneof![Just(Listener::Nobody), Just(Listener::Stranger)],
    ) {
        let expected = if target.port == DNS {
            Decision::Turn(Door::Resolver)
        } else {
            Decision::Refuse(Why::Datagram)
        };
        prop_assert_eq!(steer(hook, UDP4, &target, there), expected);
    }

    #[test]
    fn a_stream_is_never_refused_before_somebody_judged_it(
        target in any_target(), there in any_listener(),
    ) {
        let decision = steer(Hook::Connect, TCP4, &target, there);
        prop_assert!(matches!(decision, Decision::Pass | Decision::Turn(Door::Proxy)));
    }

    #[test]
    fn other_sockets_get_nothing(
        hook in any_hook(), socket in any_socket(), target in any_target(), there in any_listener(),
    ) {
        prop_assume!(socket != TCP4 && socket != UDP4);
        prop_assert!(!socket.is_allowed());
        prop_assert_eq!(steer(hook, socket, &target, there), Decision::Refuse(Why::Socket));
    }

    #[test]
    fn a_mapped_target_is_steered_like_the_ipv4_target(
        hook in any_hook(), socket in any_socket(), address in any::<u32>(), port in any::<u16>(),
        there in any_listener(),
    ) {
        let plain = Endpoint::v4(address, port);
        let mapped = Endpoint::v6(plain.address, port);
        prop_assert_eq!(
            steer(hook, socket, &plain, there),
            steer(hook, socket, &mapped, there)
        );
    }

    #[test]
    fn a_turn_ends_at_a_marked_door_or_nowhere(at_door in any_listener()) {
        for door in [Door::Proxy, Door::Resolver] {
            let expected = if at_door == Listener::Door {
                Decision::Turn(door)
            } else {
                Decision::Refuse(Why::DoorShut)
            };
            prop_assert_eq!(through(door, at_door), expected);
        }
    }

    #[test]
    fn no_packet_of_another_protocol_leaves(protocol in any::<u16>(), there in any_listener()) {
        prop_assume!(protocol != TCP && protocol != UDP);
        prop_assert!(!leave(protocol, there));
    }

    #[test]
    fn the_door_of_a_target_is_on_its_own_loopback(target in any_target(), port in any::<u16>()) {
        let door = target.on_loopback(port);
        prop_assert!(is_local(&door));
        prop_assert_eq!((door.is_v4(), door.family, door.port), (target.is_v4(), target.family, port));
    }
}

#[test]
fn the_sessions_own_servers_are_reached() {
    for target in [endpoint("127.0.0.1", 8000), endpoint("::1", 8000), endpoint("0.0.0.0", 8000)] {
        for (hook, socket) in [(Hook::Connect, TCP4), (Hook::Connect, UDP4), (Hook::Sendmsg, UDP4)]
        {
            assert_eq!(steer(hook, socket, &target, Listener::Session), Decision::Pass);
        }
    }
}

#[test]
fn what_is_for_everybody_on_loopback_is_for_nobody() {
    for address in ["127.255.255.255", "127.0.0.0"] {
        for there in [Listener::Session, Listener::Door, Listener::Nobody] {
            let target = endpoint(address, 5353);
            let refused = Decision::Refuse(Why::Datagram);
            assert_eq!(steer(Hook::Sendmsg, UDP4, &target, there), refused, "{address}");
            assert_eq!(steer(Hook::Connect, UDP4, &target, there), refused, "{address}");
        }
    }
}

#[test]
fn a_service_of_the_host_is_for_the_proxy_to_judge() {
    let target = endpoint("127.0.0.1", 5432);
    let decision = steer(Hook::Connect, TCP4, &target, Listener::Stranger);
    assert_eq!(decision, Decision::Turn(Door::Proxy));
}

#[test]
fn the_door_itself_is_turned_to_itself() {
    let target = endpoint("127.0.0.1", 8080);
    assert_eq!(steer(Hook::Connect, TCP4, &target, Listener::Door), Decision::Turn(Door::Proxy));
    assert_eq!(steer(Hook::Sendmsg, UDP4, &target, Listener::Door), Decision::Turn(Door::Resolver));
}

#[test]
fn a_closed_port_is_closed_and_not_turned() {
    let target = endpoint("127.0.0.1", 9);
    assert_eq!(steer(Hook::Connect, TCP4, &target, Listener::Nobody), Decision::Pass);
    assert_eq!(
        steer(Hook::Sendmsg, UDP4, &target, Listener::Nobody),
        Decision::Refuse(Why::Datagram)
    );
}

#[test]
fn a_listener_elsewhere_does_not_make_a_target_local() {
    let target = endpoint(&Ipv4Addr::new(192, 0, 2, 1).to_string(), 80);
    assert_eq!(steer(Hook::Connect, TCP4, &target, Listener::Session), Decision::Turn(Door::Proxy));
}

#[test]
fn every_reason_survives_its_number() {
    for why in [
        Why::Socket,
        Why::Datagram,
        Why::Option,
        Why::Packet,
        Why::DoorShut,
        Why::Unrecorded,
        Why::Unix,
        Why::Aim,
    ] {
        assert_eq!(Why::from_number(why as u16), Some(why));
    }
    assert_eq!(Why::from_number(0), None);
    assert_eq!(Why::from_number(9), None);
}
