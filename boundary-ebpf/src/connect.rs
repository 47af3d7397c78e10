//! connect4/6 and sendmsg4/6: turn what names a target, and remember where it wanted to go.
//! getpeername4/6: tell the program what it asked for, not where it was turned to.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_socket_cookie};
use boundary_common::flow::{Doors, Endpoint, Flow, Refusal};
use boundary_common::steer::{self, Decision, Door, Hook, Listener, Why};

use crate::addr::Call;
use crate::listener::listener;
use crate::maps::{TARGETS, doors};
use crate::refusal;

/// Steers a call. True lets it go on, with the address that it now holds.
#[inline(always)]
pub(crate) fn turn(call: &Call, hook: Hook) -> bool {
    let target = call.endpoint();
    match follow(call, hook, &target) {
        None => true,
        Some(why) => {
            let socket = call.socket();
            refusal::report(&Refusal {
                time: refusal::now(),
                why: why as u16,
                family: call.family(),
                kind: socket.kind as u16,
                protocol: socket.protocol as u16,
                option: 0,
                target,
                task: refusal::current(),
            });
            false
        }
    }
}

/// Asks where the call may go and makes it go there; tells why not.
#[inline(always)]
fn follow(call: &Call, hook: Hook, target: &Endpoint) -> Option<Why> {
    let (Some(doors), Some(sk)) = (doors(), call.sk()) else { return Some(Why::DoorShut) };
    let socket = call.socket();
    let protocol = socket.protocol as u16;
    let there = if socket.is_allowed() && target.is_loopback() {
        listener(call.context(), protocol, &target.resolved())
    } else {
        Listener::Stranger
    };
    let door = match steer::steer(hook, socket, target, there) {
        Decision::Refuse(why) => return Some(why),
        Decision::Pass => {
            // A socket may try one target and then another; what it meant before is past.
            // SAFETY: The context's socket is a full one.
            unsafe { TARGETS.forget(sk) };
            return None;
        }
        Decision::Turn(door) => door,
    };
    let at = target.on_loopback(port_of(doors, door, target));
    match steer::through(door, listener(call.context(), protocol, &at)) {
        Decision::Turn(_) => {}
        Decision::Refuse(why) => return Some(why),
        Decision::Pass => return Some(Why::DoorShut),
    }
    if !remember(call, sk, target, &at) {
        return Some(Why::Unrecorded);
    }
    call.replace(&at);
    None
}

/// The port of a door for the kind of packets that a target takes.
#[inline(always)]
fn port_of(doors: &Doors, door: Door, target: &Endpoint) -> u16 {
    match (door, target.is_v4()) {
        (Door::Proxy, true) => doors.proxy4,
        (Door::Proxy, false) => doors.proxy6,
        (Door::Resolver, true) => doors.resolver4,
        (Door::Resolver, false) => doors.resolver6,
    }
}

/// Writes down where a socket meant to go. A target that is the door itself does not replace what
/// was written for the same socket: a connected mapped datagram socket names it on every send.
#[inline(always)]
fn remember(call: &Call, sk: *mut c_void, target: &Endpoint, at: &Endpoint) -> bool {
    // SAFETY: The context's socket is a full one.
    let known = unsafe { TARGETS.of(sk) }.is_some();
    if known && call.socket().is_datagram() && target.is_at(at) {
        return true;
    }
    // SAFETY: As above.
    let Some(place) = (unsafe { TARGETS.of_or_new(sk) }) else { return false };
    // SAFETY: The helper reads the context's socket.
    let cookie = unsafe { bpf_get_socket_cookie(call.context()) };
    // SAFETY: The helper takes nothing.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let time = refusal::now();
    let task = refusal::current();
    // SAFETY: The storage has the size of a flow and lives with the socket.
    unsafe { place.write(Flow { cookie, cgroup, time, task, target: *target, reserved: 0 }) };
    true
}

/// Answers `getpeername`: a socket that stands at the proxy's door is told its target.
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
