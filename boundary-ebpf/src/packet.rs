//! egress and ingress: the backstop. Looks at the real header of every packet, whatever the hooks
//! before it thought, and lets out only what stays on loopback and ends at a marked socket.
//!
//! It also publishes a flow before its first packet leaves, so that no door sees a client of which
//! it does not know where it meant to go.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::bpf_sk_fullsock;
use aya_ebpf::programs::SkBuffContext;
use boundary_common::flow::{Endpoint, FlowKey, TCP, UDP, is_broadcast4};
use boundary_common::steer::{Listener, Socket, Why, leave};

use crate::context::read;
use crate::listener::Tuple;
use crate::maps::{FLOWS, MARKS, TARGETS};
use crate::refusal::{self, Author, What};

/// The interface number of loopback, in every network namespace.
const LOOPBACK: u32 = 1;

/// The first byte of every IPv4 loopback address.
const LOOPBACK4: u32 = 127;

/// The first byte of an IPv4 header without options: with them it could carry a source route.
const IPV4: u8 = 0x45;

/// The upper half of the first byte of an IPv6 header.
const IPV6: u8 = 6;

/// The next-header number of IPv6 hop-by-hop options.
const HOP_BY_HOP: u16 = 0;

/// How the one extension header begins that the kernel itself adds, to a TCP segment too long for
/// the length field (BIG TCP, since 5.19; `struct hop_jumbo_hdr` of include/net/ipv6.h): TCP
/// follows, 8 bytes in all, one jumbo option (RFC 2675) of 4. It leads nowhere; any other could.
const JUMBO: [u8; 4] = [6, 0, 0xc2, 4];

/// Everything but "don't fragment": an offset or "more fragments".
const FRAGMENT: u16 = 0x3fff;

/// The bits of a TCP header that tell an opening segment: SYN without ACK.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A packet whose header was read.
struct Packet {
    source: Endpoint,
    protocol: u16,
    /// Whether it asks for a connection.
    opens: bool,
}

/// Decides whether a packet leaves.
#[inline(always)]
pub(crate) fn leaves(ctx: &SkBuffContext) -> bool {
    let goes = interface(ctx) == LOOPBACK && may_leave(ctx);
    if !goes {
        report(ctx);
    }
    goes
}

/// Decides whether a packet arrives: from this machine, or not at all.
#[inline(always)]
pub(crate) fn arrives(ctx: &SkBuffContext) -> bool {
    interface(ctx) == LOOPBACK
}

/// Whether a packet is TCP or UDP directly in IPv4 or IPv6, addressed to loopback, for somebody
/// who may have it. The families part here and do not meet again: the verifier would follow both
/// through every step.
#[inline(always)]
fn may_leave(ctx: &SkBuffContext) -> bool {
    let mut tuple = Tuple::new();
    let Ok(first) = ctx.load::<u8>(0) else { return false };
    if first == IPV4 {
        Packet::read_v4(ctx, &mut tuple)
            .is_some_and(|(packet, size)| packet.follows(ctx, &mut tuple, size))
    } else if first >> 4 == IPV6 {
        Packet::read_v6(ctx, &mut tuple)
            .is_some_and(|(packet, size)| packet.follows(ctx, &mut tuple, size))
    } else {
        false
    }
}

impl Packet {
    /// Reads an IPv4 packet between loopback addresses, and what its receiver is looked up by. One for
    /// everybody has more receivers than that.
    /// What is answered to any other source the kernel would route to wherever that is.
    #[inline(always)]
    fn read_v4(ctx: &SkBuffContext, tuple: &mut Tuple) -> Option<(Self, u32)> {
        let fragment: u16 = ctx.load(6).ok()?;
        let [source, target]: [u32; 2] = ctx.load(12).ok()?;
        let is_local = is_loopback4(source) && is_loopback4(target) && !is_broadcast4(target);
        if u16::from_be(fragment) & FRAGMENT != 0 || !is_local {
            return None;
        }
        let protocol = u16::from(ctx.load::<u8>(9).ok()?);
        let (ports, opens) = transport(ctx, 20, protocol)?;
        let size = tuple.set_v4(source, target, ports);
        let source = Endpoint::v4(source, u16::from_be(ports[0]));
        Some((Self { source, protocol, opens }, size))
    }

    /// Reads an IPv6 packet from `::1` to `::1`, and what its receiver is looked up by. A socket
    /// may be bound to an address that is nobody's (`IPV6_FREEBIND`, `net.ipv6.ip_nonlocal_bind`).
    #[inline(always)]
    fn read_v6(ctx: &SkBuffContext, tuple: &mut Tuple) -> Option<(Self, u32)> {
        let [source, target]: [[u32; 4]; 2] = ctx.load(8).ok()?;
        if !is_loopback6(source) || !is_loopback6(target) {
            return None;
        }
        let protocol = u16::from(ctx.load::<u8>(6).ok()?);
        let is_jumbo = protocol == HOP_BY_HOP && ctx.load::<[u8; 4]>(40).ok()? == JUMBO;
        let (protocol, at) = if is_jumbo { (TCP, 48) } else { (protocol, 40) };
        let (ports, opens) = transport(ctx, at, protocol)?;
        let size = tuple.set_v6(source, target, ports);
        let source = Endpoint::v6(source, u16::from_be(ports[0]));
        Some((Self { source, protocol, opens }, size))
    }

    /// Asks who receives it, and tells a door whose it is.
    #[inline(always)]
    fn follows(&self, ctx: &SkBuffContext, tuple: &mut Tuple, size: u32) -> bool {
        // What goes on is in both directions, and was begun by one that may.
        let begins = self.opens || self.protocol != TCP;
        let caller = if begins { maker(ctx) } else { 0 };
        let mut there = tuple.receiver(size, ctx.as_ptr(), self.protocol == TCP, caller);
        if self.opens && there == Listener::Nobody {
            // The rest of an earlier connection (`TIME_WAIT`) hides the listener, which takes the
            // new one all the same.
            tuple.forget_source(size);
            there = tuple.receiver(size, ctx.as_ptr(), true, caller);
        }
        if !leave(self.protocol, there) {
            return false;
        }
        there != Listener::Door || !begins || self.publish(ctx)
    }

    /// Writes the flow where the door will look for it.
    #[inline(always)]
    fn publish(&self, ctx: &SkBuffContext) -> bool {
        let sk = full_socket(ctx);
        if sk.is_null() {
            return false;
        }
        // SAFETY: It is a full socket.
        let Some(flow) = (unsafe { TARGETS.of(sk.cast()) }) else { return false };
        let key = FlowKey {
            address: self.source.address,
            port: self.source.port,
            protocol: self.protocol,
        };
        FLOWS.insert(key, flow, 0).is_ok()
    }
}

/// Whether an IPv4 address, as on the wire, is one of loopback's.
#[inline(always)]
pub(crate) fn is_loopback4(address: u32) -> bool {
    u32::from_be(address) >> 24 == LOOPBACK4
}

/// Whether an IPv6 address, as on the wire, is `::1`.
#[inline(always)]
pub(crate) fn is_loopback6(address: [u32; 4]) -> bool {
    address[0] | address[1] | address[2] == 0 && address[3] == 1_u32.to_be()
}

/// The ports, as on the wire, and whether the segment opens a connection.
#[inline(always)]
fn transport(ctx: &SkBuffContext, at: usize, protocol: u16) -> Option<([u16; 2], bool)> {
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let ports: [u16; 2] = ctx.load(at).ok()?;
    // A datagram has no such byte; a zero there opens nothing.
    let flags = if protocol == TCP { ctx.load(at + 13).ok()? } else { 0 };
    Some((ports, flags & (SYN | ACK) == SYN))
}

/// The cgroup in which the socket of a packet was made. Where nothing tells, one that is nowhere.
#[inline(always)]
fn maker(ctx: &SkBuffContext) -> u64 {
    let sk = full_socket(ctx);
    if sk.is_null() {
        return u64::MAX;
    }
    // SAFETY: It is a full socket.
    unsafe { MARKS.of(sk.cast()) }.map_or(u64::MAX, |mark| mark.task.cgroup)
}

/// The interface that a packet leaves or came by.
#[inline(always)]
fn interface(ctx: &SkBuffContext) -> u32 {
    let raw = ctx.skb.skb;
    read!(raw, ifindex)
}

/// The socket that a packet belongs to (a listener, for an answer to a connection request), or
/// null. Not an option: what is in it when there is nothing, the verifier will not see copied.
#[inline(always)]
fn full_socket(ctx: &SkBuffContext) -> *mut bpf_sock {
    let sk = read!(ctx.skb.skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return sk;
    }
    // SAFETY: The socket of a context may be asked for the full one behind it.
    unsafe { bpf_sk_fullsock(sk) }
}

/// Reports a packet that stays, as far as it can be read.
#[inline(always)]
fn report(ctx: &SkBuffContext) {
    let (target, protocol) = headed(ctx).unwrap_or_default();
    let sk = full_socket(ctx);
    let kind = if sk.is_null() { 0 } else { read!(sk, type_) };
    let refused = What {
        why: Why::Packet,
        family: target.family,
        socket: Socket { kind, protocol: protocol.into() },
        option: 0,
        target,
    };
    refusal::report(&refused, Author::Maker(sk.cast()));
}

/// Where a packet is headed, and its protocol. The port is that of TCP and UDP, or none.
#[inline(always)]
fn headed(ctx: &SkBuffContext) -> Option<(Endpoint, u8)> {
    let first: u8 = ctx.load(0).ok()?;
    if first >> 4 == IPV6 {
        let port = ctx.load::<u16>(42).unwrap_or_default();
        Some((Endpoint::v6(ctx.load(24).ok()?, u16::from_be(port)), ctx.load(6).ok()?))
    } else {
        let port = ctx.load::<u16>(22).unwrap_or_default();
        Some((Endpoint::v4(ctx.load(16).ok()?, u16::from_be(port)), ctx.load(9).ok()?))
    }
}
