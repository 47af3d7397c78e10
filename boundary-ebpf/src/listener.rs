//! Who would receive what is sent to an address of this machine.
//!
//! The kernel's own lookup, in the socket's network namespace, and the mark of what it finds. A
//! door's port in another namespace, or taken by another process, is no door.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Tuple4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Tuple6,
};
use aya_ebpf::helpers::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};
use boundary_common::flow::{Endpoint, Mark, TCP};
use boundary_common::steer::Listener;

use crate::maps::MARKS;

/// What comes from nowhere yet: finds listeners only.
const UNBOUND: Endpoint = Endpoint { address: [0; 4], port: 0, family: 0 };

/// Who listens at `target`, for a socket that is not connected yet.
#[inline(always)]
pub(crate) fn listener(ctx: *mut c_void, protocol: u16, target: &Endpoint) -> Listener {
    receiver(ctx, protocol, &UNBOUND, target)
}

/// Who receives a packet from `source` to `target`: a connected socket before a listener.
#[inline(always)]
pub(crate) fn receiver(
    ctx: *mut c_void,
    protocol: u16,
    source: &Endpoint,
    target: &Endpoint,
) -> Listener {
    let sk = if target.is_v4() {
        let ipv4 = Tuple4 {
            saddr: source.address[3],
            daddr: target.address[3],
            sport: source.port.to_be(),
            dport: target.port.to_be(),
        };
        lookup(ctx, protocol, bpf_sock_tuple__bindgen_ty_1 { ipv4 }, size_of::<Tuple4>())
    } else {
        let ipv6 = Tuple6 {
            saddr: source.address,
            daddr: target.address,
            sport: source.port.to_be(),
            dport: target.port.to_be(),
        };
        lookup(ctx, protocol, bpf_sock_tuple__bindgen_ty_1 { ipv6 }, size_of::<Tuple6>())
    };
    if sk.is_null() {
        return Listener::Nobody;
    }
    // SAFETY: The lookup returns a full socket, held until it is released below.
    let role = unsafe { MARKS.of(sk.cast()) }.map(|mark| mark.role);
    // SAFETY: As above; `role` is a copy.
    unsafe { bpf_sk_release(sk.cast()) };
    match role {
        Some(Mark::SESSION) => Listener::Session,
        Some(Mark::DOOR) => Listener::Door,
        _ => Listener::Stranger,
    }
}

/// The socket for a tuple, or null.
#[inline(always)]
fn lookup(
    ctx: *mut c_void,
    protocol: u16,
    tuple: bpf_sock_tuple__bindgen_ty_1,
    size: usize,
) -> *mut bpf_sock {
    let mut tuple = bpf_sock_tuple { __bindgen_anon_1: tuple };
    let tuple = ptr::from_mut(&mut tuple);
    let netns = i64::from(BPF_F_CURRENT_NETNS).cast_unsigned();
    if protocol == TCP {
        // SAFETY: The kernel checks context, tuple and size; only this frame holds the tuple.
        unsafe { bpf_sk_lookup_tcp(ctx, tuple, size as u32, netns, 0) }
    } else {
        // SAFETY: As above.
        unsafe { bpf_sk_lookup_udp(ctx, tuple, size as u32, netns, 0) }
    }
}
