//! connect4/6 and sendmsg4/6: turn what names a target, and remember where it wanted to go.
//! getpeername4/6: tell the program what it asked for, not where it was turned to.
//!
//! Each step reads the call anew instead of handing what it knows to the next: what the verifier
//! does not know it does not follow, and that is most of what loading costs.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_socket_cookie};
use boundary_common::flow::{Doors, Endpoint};
use boundary_common::steer::{self, Decision, Door, Hook, Listener, Why};

use crate::addr::Call;
use crate::context::{read, write};
use crate::listener::Tuple;
use crate::maps::{TARGETS, doors};
use crate::packet::{is_loopback4, is_loopback6};
use crate::refusal::{self, Author, What};

/// Steers a call. True lets it go on, with the address that it now holds.
///
/// A mapped target is an IPv4 one from here on: after that no step asks again.
#[inline(always)]
pub(crate) fn turn(call: &Call, hook: Hook) -> bool {
    let Some(doors) = doors() else { return false };
    let target = call.endpoint();
    let refused = if target.is_v4() && call.is_v6() && matches!(hook, Hook::Sendmsg) {
        // The kernel has such a datagram go by the other hook, and takes none from this one.
        Some(Why::Datagram)
    } else if target.is_v4() {
        let plain =
            Endpoint { family: target.family, ..Endpoint::v4(target.address[3], target.port) };
        follow(call, hook, &plain, [read!(doors, proxy4), read!(doors, resolver4)])
    } else {
        follow(call, hook, &target, [read!(doors, proxy6), read!(doors, resolver6)])
    };
    if let Some(why) = refused {
        // Resolvers sort addresses by connecting a datagram socket to each, and send nothing.
        let is_aim = matches!((hook, why), (Hook::Connect, Why::Datagram));
        report(call, if is_aim { Why::Aim } else { why });
    }
    refused.is_none()
}

/// Does what is decided about a target, given the ports of the doors for its kind of packets.
/// Tells why not.
#[inline(always)]
fn follow(call: &Call, hook: Hook, target: &Endpoint, ports: [u16; 2]) -> Option<Why> {
    let [proxy, resolver] = ports;
    let (door, port) = match judge(call, hook, target) {
        Decision::Pass => return None,
        Decision::Turn(Door::Proxy) => (Door::Proxy, proxy),
        Decision::Turn(Door::Resolver) => (Door::Resolver, resolver),
        Decision::Refuse(why) => return Some(why),
    };
    // Its packets could not go to a door, and a connection would be tried for minutes.
    if matches!(hook, Hook::Connect) && is_bound_elsewhere(call, target) {
        return Some(Why::Packet);
    }
    let at = target.on_loopback(port);
    // Who asks matters for what the session itself serves, which no door is.
    match steer::through(door, receiver(call, hook, &at, ANYBODY)) {
        Decision::Turn(_) => {}
        Decision::Refuse(why) => return Some(why),
        Decision::Pass => return Some(Why::DoorShut),
    }
    if !remember(call) {
        return Some(Why::Unrecorded);
    }
    call.replace(&at);
    None
}

/// Whether the call's socket has an address of the machine that is not on loopback.
#[inline(always)]
fn is_bound_elsewhere(call: &Call, target: &Endpoint) -> bool {
    let Some(sk) = call.sk() else { return false };
    let sk: *const bpf_sock = sk.cast();
    if target.is_v4() {
        let own = read!(sk, src_ip4);
        return own != 0 && !is_loopback4(own);
    }
    let own = [
        read!(sk, src_ip6[0]),
        read!(sk, src_ip6[1]),
        read!(sk, src_ip6[2]),
        read!(sk, src_ip6[3]),
    ];
    own != [0; 4] && !is_loopback6(own)
}

/// Decides about the target, by who listens there.
#[inline(always)]
fn judge(call: &Call, hook: Hook, target: &Endpoint) -> Decision {
    let Some(sk) = call.sk() else { return Decision::Refuse(Why::Unrecorded) };
    let socket = call.socket();
    let there = if socket.is_allowed() && target.is_loopback() {
        // SAFETY: The helper takes nothing.
        let caller = unsafe { bpf_get_current_cgroup_id() };
        receiver(call, hook, &target.resolved(), caller)
    } else {
        Listener::Stranger
    };
    let decision = steer::steer(hook, socket, target, there);
    match decision {
        // A socket may try one target and then another; what it meant before is past.
        // SAFETY: The context's socket is a full one.
        Decision::Pass => unsafe { TARGETS.forget(sk) },
        // A connected mapped socket names the resolver's own address on every send. It is there
        // already, and what it meant is known.
        Decision::Turn(Door::Resolver) if matches!(there, Listener::Door) => {
            // SAFETY: As above.
            if unsafe { TARGETS.of(sk) }.is_some() {
                return Decision::Pass;
            }
        }
        Decision::Turn(_) | Decision::Refuse(_) => {}
    }
    decision
}

/// A caller to whom the place of a socket in the session does not matter.
const ANYBODY: u64 = 0;

/// Who receives what the call's socket would send to an endpoint, for a caller in a cgroup.
#[inline(always)]
fn receiver(call: &Call, hook: Hook, at: &Endpoint, caller: u64) -> Listener {
    let mut tuple = Tuple::new();
    let (size, is_tcp) = (tuple.set_target(at), is_tcp(call, hook));
    if !is_tcp && let Some(sk) = call.sk() {
        tuple.set_source(size, sk.cast());
    }
    tuple.receiver(size, call.context(), is_tcp, caller)
}

/// Whether the socket is looked for among those of TCP. Only UDP sends to an address.
#[inline(always)]
fn is_tcp(call: &Call, hook: Hook) -> bool {
    matches!(hook, Hook::Connect) && call.socket().is_stream()
}

/// The port of a door for the kind of packets that a target takes. All are read before one is
/// chosen, or the compiler chooses a pointer, which the verifier tells apart.
#[inline(always)]
fn port_of(doors: &Doors, door: Door, target: &Endpoint) -> u16 {
    let (proxy4, proxy6) = (read!(doors, proxy4), read!(doors, proxy6));
    let (resolver4, resolver6) = (read!(doors, resolver4), read!(doors, resolver6));
    match (door, target.is_v4()) {
        (Door::Proxy, true) => proxy4,
        (Door::Proxy, false) => proxy6,
        (Door::Resolver, true) => resolver4,
        (Door::Resolver, false) => resolver6,
    }
}

/// Writes down where a socket means to go.
#[inline(always)]
fn remember(call: &Call) -> bool {
    let Some(sk) = call.sk() else { return false };
    // SAFETY: The context's socket is a full one.
    let Some(place) = (unsafe { TARGETS.of_or_new(sk) }) else { return false };
    // SAFETY: The helper reads the context's socket.
    let cookie = unsafe { bpf_get_socket_cookie(call.context()) };
    let target = call.endpoint();
    write!(place, cookie, cookie);
    write!(place, refusal::now(), time);
    write!(place, target.address[0], target.address[0]);
    write!(place, target.address[1], target.address[1]);
    write!(place, target.address[2], target.address[2]);
    write!(place, target.address[3], target.address[3]);
    write!(place, target.port, target.port);
    write!(place, target.family, target.family);
    // SAFETY: The storage has the size of a flow, and lives with the socket.
    refusal::note_caller(unsafe { &raw mut (*place).task });
    true
}

/// Reports a call that fails.
#[inline(always)]
fn report(call: &Call, why: Why) {
    let refused = What {
        why,
        family: call.family(),
        socket: call.socket(),
        option: 0,
        target: call.endpoint(),
    };
    refusal::report(&refused, Author::Caller);
}

/// Answers `getpeername`: a socket that stands at a door is told its target.
#[inline(always)]
pub(crate) fn peer_of(call: &Call) -> i32 {
    let peer = call.endpoint();
    let Some(doors) = doors() else { return 1 };
    let proxy = peer.on_loopback(port_of(doors, Door::Proxy, &peer));
    let resolver = peer.on_loopback(port_of(doors, Door::Resolver, &peer));
    if peer.is_at(&proxy) || peer.is_at(&resolver) {
        restore(call);
    }
    1
}

/// Puts the remembered target in the place of the door.
#[inline(always)]
pub(crate) fn restore(call: &Call) {
    let Some(sk) = call.sk() else { return };
    // SAFETY: The context's socket is a full one.
    if let Some(flow) = unsafe { TARGETS.of(sk) } {
        call.replace(&flow.target);
    }
}

/// Whether an endpoint is the resolver's door.
#[inline(always)]
pub(crate) fn is_resolver(source: &Endpoint) -> bool {
    let Some(doors) = doors() else { return false };
    source.is_at(&source.on_loopback(port_of(doors, Door::Resolver, source)))
}
