//! egress and ingress: the backstop. Looks at the real header of every packet, whatever the hooks
//! before it thought, and lets out only what stays on loopback and ends at a marked socket.
//!
//! It also publishes a flow before its first packet leaves, so that no door sees a client of which
//! it does not know where it meant to go.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::bpf_sk_fullsock;
use aya_ebpf::programs::SkBuffContext;
use boundary_common::flow::{Endpoint, FlowKey, Refusal, TCP, Task};
use boundary_common::steer::{Listener, Why, leave};

use crate::addr::is_inet;
use crate::context::read;
use crate::listener::receiver;
use crate::maps::{FLOWS, TARGETS};
use crate::refusal;

/// The interface number of loopback, in every network namespace.
const LOOPBACK: u32 = 1;

/// The first byte of an IPv4 header without options: with them it could carry a source route.
const IPV4: u8 = 0x45;

/// The upper half of the first byte of an IPv6 header.
const IPV6: u8 = 6;

/// Everything but "don't fragment": an offset or "more fragments".
const FRAGMENT: u16 = 0x3fff;

/// The bits of a TCP header that tell an opening segment: SYN without ACK.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What the header says.
struct Packet {
    source: Endpoint,
    target: Endpoint,
    protocol: u16,
    /// Whether it asks for a connection.
    opens: bool,
}

/// Decides whether a packet leaves.
#[inline(always)]
pub(crate) fn leaves(ctx: &SkBuffContext) -> bool {
    let Some(packet) = Packet::read(ctx) else {
        report(ctx, Endpoint::default(), 0);
        return false;
    };
    let goes = interface(ctx) == LOOPBACK && packet.stays_here() && packet.follows(ctx);
    if !goes {
        report(ctx, packet.target, packet.protocol);
    }
    goes
}

/// Decides whether a packet arrives: from this machine, or not at all.
#[inline(always)]
pub(crate) fn arrives(ctx: &SkBuffContext) -> bool {
    interface(ctx) == LOOPBACK
}

impl Packet {
    /// Reads a header of TCP or UDP directly in IPv4 or IPv6. Anything else is nothing.
    #[inline(always)]
    fn read(ctx: &SkBuffContext) -> Option<Self> {
        let first: u8 = ctx.load(0).ok()?;
        if first == IPV4 {
            Self::read_v4(ctx)
        } else if first >> 4 == IPV6 {
            Self::read_v6(ctx)
        } else {
            None
        }
    }

    #[inline(always)]
    fn read_v4(ctx: &SkBuffContext) -> Option<Self> {
        let fragment: u16 = ctx.load(6).ok()?;
        if u16::from_be(fragment) & FRAGMENT != 0 {
            return None;
        }
        let protocol: u8 = ctx.load(9).ok()?;
        let [source, target]: [u32; 2] = ctx.load(12).ok()?;
        let (ports, opens) = transport(ctx, 20, protocol)?;
        Some(Self {
            source: Endpoint::v4(source, ports[0]),
            target: Endpoint::v4(target, ports[1]),
            protocol: u16::from(protocol),
            opens,
        })
    }

    #[inline(always)]
    fn read_v6(ctx: &SkBuffContext) -> Option<Self> {
        let protocol: u8 = ctx.load(6).ok()?;
        let source: [u32; 4] = ctx.load(8).ok()?;
        let target: [u32; 4] = ctx.load(24).ok()?;
        let (ports, opens) = transport(ctx, 40, protocol)?;
        Some(Self {
            source: Endpoint::v6(source, ports[0]),
            target: Endpoint::v6(target, ports[1]),
            protocol: u16::from(protocol),
            opens,
        })
    }

    /// Whether it is addressed to loopback, in the header's own family and in so many words.
    #[inline(always)]
    fn stays_here(&self) -> bool {
        self.target.is_loopback()
            && self.target.address[3] != 0
            && is_inet(&self.target) == self.target.is_v4()
    }

    /// Asks who receives it, and tells a door whose it is.
    #[inline(always)]
    fn follows(&self, ctx: &SkBuffContext) -> bool {
        let there = receiver(ctx.as_ptr(), self.protocol, &self.source, &self.target);
        if !leave(self.protocol, there) {
            return false;
        }
        let announced = there == Listener::Door && (self.opens || self.protocol != TCP);
        !announced || self.publish(ctx)
    }

    /// Writes the flow where the door will look for it.
    #[inline(always)]
    fn publish(&self, ctx: &SkBuffContext) -> bool {
        let Some(sk) = full_socket(ctx) else { return false };
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

/// The ports, and whether the segment opens a connection. Only TCP and UDP have them here.
#[inline(always)]
fn transport(ctx: &SkBuffContext, at: usize, protocol: u8) -> Option<([u16; 2], bool)> {
    let is_tcp = u16::from(protocol) == TCP;
    if !is_tcp && protocol != 17 {
        return None;
    }
    let [source, target]: [u16; 2] = ctx.load(at).ok()?;
    let opens = if is_tcp {
        let flags: u8 = ctx.load(at + 13).ok()?;
        flags & (SYN | ACK) == SYN
    } else {
        false
    };
    Some(([u16::from_be(source), u16::from_be(target)], opens))
}

/// The interface that a packet leaves or came by.
#[inline(always)]
fn interface(ctx: &SkBuffContext) -> u32 {
    let raw = ctx.skb.skb;
    read!(raw, ifindex)
}

/// The socket that a packet belongs to; a listener for an answer to a connection request.
#[inline(always)]
fn full_socket(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    let raw = ctx.skb.skb;
    let sk = read!(raw, __bindgen_anon_2.sk);
    if sk.is_null() {
        return None;
    }
    // SAFETY: The socket of a context may be asked for the full one behind it.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() { None } else { Some(sk) }
}

/// Reports a packet that stays. The hook runs in whatever context sends, so it names who made the
/// socket.
#[inline(always)]
fn report(ctx: &SkBuffContext, target: Endpoint, protocol: u16) {
    let mut refusal = Refusal {
        time: refusal::now(),
        why: Why::Packet as u16,
        family: target.family,
        kind: 0,
        protocol,
        option: 0,
        target,
        task: Task::default(),
    };
    if let Some(sk) = full_socket(ctx) {
        refusal.kind = read!(sk, type_) as u16;
        // SAFETY: It is a full socket.
        refusal.task = unsafe { refusal::maker(sk.cast()) };
    }
    refusal::report(&refusal);
}
