//! Who would receive what is sent to an address of this machine.
//!
//! The kernel's own lookup, in the socket's network namespace, and the mark of what it finds. A
//! door's port in another namespace, or taken by another process, is no door.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Tuple4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Tuple6,
};
use aya_ebpf::helpers::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};
use boundary_common::flow::{Endpoint, LOOPBACK4, Mark};
use boundary_common::steer::Listener;

use crate::context::{read, write};
use crate::maps::{MARKS, doors, is_unguarded};

/// What a socket is looked up by: source and target addresses, then their ports, as on the wire.
/// IPv4 uses the first 12 bytes, IPv6 all 36; one buffer for both makes one lookup of both, and
/// half as many paths for the verifier. What is not used is not written.
pub(crate) struct Tuple {
    buffer: MaybeUninit<bpf_sock_tuple>,
}

impl Tuple {
    /// A buffer without anything in it, which the kernel refuses.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self { buffer: MaybeUninit::uninit() }
    }

    /// From and to IPv4 addresses. Returns how much of the buffer counts.
    #[inline(always)]
    pub(crate) fn set_v4(&mut self, source: u32, target: u32, ports: [u16; 2]) -> u32 {
        let raw = self.buffer.as_mut_ptr();
        write!(raw, source, __bindgen_anon_1.ipv4.saddr);
        write!(raw, target, __bindgen_anon_1.ipv4.daddr);
        write!(raw, ports[0], __bindgen_anon_1.ipv4.sport);
        write!(raw, ports[1], __bindgen_anon_1.ipv4.dport);
        size_of::<Tuple4>() as u32
    }

    /// From and to IPv6 addresses. Returns how much of the buffer counts.
    #[inline(always)]
    pub(crate) fn set_v6(&mut self, source: [u32; 4], target: [u32; 4], ports: [u16; 2]) -> u32 {
        let raw = self.buffer.as_mut_ptr();
        write!(raw, source[0], __bindgen_anon_1.ipv6.saddr[0]);
        write!(raw, source[1], __bindgen_anon_1.ipv6.saddr[1]);
        write!(raw, source[2], __bindgen_anon_1.ipv6.saddr[2]);
        write!(raw, source[3], __bindgen_anon_1.ipv6.saddr[3]);
        write!(raw, target[0], __bindgen_anon_1.ipv6.daddr[0]);
        write!(raw, target[1], __bindgen_anon_1.ipv6.daddr[1]);
        write!(raw, target[2], __bindgen_anon_1.ipv6.daddr[2]);
        write!(raw, target[3], __bindgen_anon_1.ipv6.daddr[3]);
        write!(raw, ports[0], __bindgen_anon_1.ipv6.sport);
        write!(raw, ports[1], __bindgen_anon_1.ipv6.dport);
        size_of::<Tuple6>() as u32
    }

    /// To a target, from nowhere: finds who listens there. Returns how much of the buffer counts.
    #[inline(always)]
    pub(crate) fn set_target(&mut self, target: &Endpoint) -> u32 {
        let ports = [0, target.port.to_be()];
        if target.is_v4() {
            self.set_v4(0, target.address[3], ports)
        } else {
            self.set_v6([0; 4], target.address, ports)
        }
    }

    /// From where a socket of UDP would send: its own address, or the one that the kernel takes on
    /// loopback for a socket without. A receiver that is connected takes nothing from elsewhere.
    #[inline(always)]
    pub(crate) fn set_source(&mut self, size: u32, sk: *const bpf_sock) {
        let raw = self.buffer.as_mut_ptr();
        let port = (read!(sk, src_port) as u16).to_be();
        if size == size_of::<Tuple4>() as u32 {
            let own = read!(sk, src_ip4);
            write!(raw, if own == 0 { LOOPBACK4 } else { own }, __bindgen_anon_1.ipv4.saddr);
            write!(raw, port, __bindgen_anon_1.ipv4.sport);
        } else {
            let [first, second, third, last] = [
                read!(sk, src_ip6[0]),
                read!(sk, src_ip6[1]),
                read!(sk, src_ip6[2]),
                read!(sk, src_ip6[3]),
            ];
            let is_none = first | second | third | last == 0;
            write!(raw, first, __bindgen_anon_1.ipv6.saddr[0]);
            write!(raw, second, __bindgen_anon_1.ipv6.saddr[1]);
            write!(raw, third, __bindgen_anon_1.ipv6.saddr[2]);
            write!(raw, if is_none { 1_u32.to_be() } else { last }, __bindgen_anon_1.ipv6.saddr[3]);
            write!(raw, port, __bindgen_anon_1.ipv6.sport);
        }
    }

    /// Takes the source's port out of a tuple that was set: what is found then is who listens.
    #[inline(always)]
    pub(crate) fn forget_source(&mut self, size: u32) {
        let raw = self.buffer.as_mut_ptr();
        if size == size_of::<Tuple4>() as u32 {
            write!(raw, 0, __bindgen_anon_1.ipv4.sport);
        } else {
            write!(raw, 0, __bindgen_anon_1.ipv6.sport);
        }
    }

    /// Who receives a segment or datagram: a connected socket before a listener. To a caller in a
    /// cgroup, or to zero for one whom it does not matter to.
    ///
    /// What was made around a room of the session is a stranger to it: its maker has a wider policy.
    #[inline(always)]
    pub(crate) fn receiver(
        &mut self,
        size: u32,
        ctx: *mut c_void,
        is_tcp: bool,
        caller: u64,
    ) -> Listener {
        let tuple = self.buffer.as_mut_ptr();
        let netns = i64::from(BPF_F_CURRENT_NETNS).cast_unsigned();
        let sk = if is_tcp {
            // SAFETY: The kernel checks context, tuple and size; only this frame holds the tuple.
            unsafe { bpf_sk_lookup_tcp(ctx, tuple, size, netns, 0) }
        } else {
            // SAFETY: As above.
            unsafe { bpf_sk_lookup_udp(ctx, tuple, size, netns, 0) }
        };
        if sk.is_null() {
            return Listener::Nobody;
        }
        // SAFETY: The lookup returns a full socket, held until it is released below.
        let mark = unsafe { MARKS.of(sk.cast()) };
        let (role, is_within) =
            mark.map_or((0, false), |mark| (mark.role, caller == 0 || mark.is_within(caller)));
        // SAFETY: As above; what was read is a copy.
        unsafe { bpf_sk_release(sk.cast()) };
        match role {
            Mark::SESSION if is_within => Listener::Session,
            Mark::DOOR => Listener::Door,
            _ if doors().is_some_and(is_unguarded) => Listener::Door,
            _ => Listener::Stranger,
        }
    }
}
