//! The words of `nf_tables`: a table, chains, and rules made of expressions.
//!
//! Messages of `include/uapi/linux/netfilter/nf_tables.h`, as of Linux 6.18.
//!
//! *Never*: says which packets go where; that is for [`network`](super::network).

use super::netlink::{ACK, APPEND, Batch, Body, CREATE, REQUEST};

/// The hook that sees what arrives, before it is routed.
pub(super) const PREROUTING: u32 = 0;
/// The hook that sees what is sent here.
pub(super) const OUTPUT: u32 = 3;
/// A chain that lets pass or not.
pub(super) const FILTER: &str = "filter";
/// A chain that rewrites addresses: it sees the first packet of a connection.
pub(super) const NAT: &str = "nat";
/// Lets a packet go on.
pub(super) const ACCEPT: u32 = 1;
/// Ends it; whoever sends gets `EPERM`.
pub(super) const DROP: u32 = 0;

/// How much of a packet the log tells: its addresses and ports.
pub(super) const LOGGED: u32 = 64;

/// The family of tables for both versions (`NFPROTO_INET`).
const INET: u8 = 1;
const TABLE: &str = "boundary";
/// The register for what is compared, and the two for what is turned to.
const VALUE: u32 = 1;
const PORT: u32 = 2;
/// What follows the network header.
const TRANSPORT_HEADER: u32 = 2;

fn kind(message: u16) -> u16 {
    (10 << 8) | message
}

fn general(body: &mut Body) {
    body.raw(&[INET, 0, 0, 0]);
}

/// The table.
pub(super) fn table(batch: &mut Batch) {
    batch.message(kind(0), REQUEST | ACK | CREATE, |body| {
        general(body);
        body.text(1, TABLE);
    });
}

/// A chain of a kind on a hook, with its priority there.
pub(super) fn chain(
    batch: &mut Batch,
    name: &str,
    (kind_of_chain, hook, priority): (&str, u32, i32),
    policy: u32,
) {
    batch.message(kind(3), REQUEST | ACK | CREATE, |body| {
        general(body);
        body.text(1, TABLE);
        body.text(3, name);
        body.nest(4, |body| {
            body.big(1, hook);
            body.big(2, priority.cast_unsigned());
        });
        body.big(5, policy);
        body.text(7, kind_of_chain);
    });
}

/// A rule at the end of a chain.
pub(super) fn rule(batch: &mut Batch, chain: &str, write: impl FnOnce(&mut Body)) {
    batch.message(kind(6), REQUEST | ACK | CREATE | APPEND, |body| {
        general(body);
        body.text(1, TABLE);
        body.text(2, chain);
        body.nest(4, write);
    });
}

fn expression(rule: &mut Body, name: &str, write: impl FnOnce(&mut Body)) {
    rule.nest(1, |body| {
        body.text(1, name);
        body.nest(2, write);
    });
}

fn meta(rule: &mut Body, key: u32) {
    expression(rule, "meta", |body| {
        body.big(1, VALUE);
        body.big(2, key);
    });
}

fn payload(rule: &mut Body, base: u32, offset: u32, length: u32) {
    expression(rule, "payload", |body| {
        for (kind, value) in [(1, VALUE), (2, base), (3, offset), (4, length)] {
            body.big(kind, value);
        }
    });
}

fn equals(rule: &mut Body, value: &[u8]) {
    expression(rule, "cmp", |body| {
        body.big(1, VALUE);
        body.big(2, 0);
        body.nest(3, |body| body.attribute(1, value));
    });
}

fn put(rule: &mut Body, register: u32, value: &[u8]) {
    expression(rule, "immediate", |body| {
        body.big(1, register);
        body.nest(2, |body| body.attribute(1, value));
    });
}

/// Goes on if the packet is of this version of IP.
pub(super) fn family_is(rule: &mut Body, family: u8) {
    const NFPROTO: u32 = 15;
    meta(rule, NFPROTO);
    equals(rule, &[family]);
}

/// Goes on if the packet is of this protocol.
pub(super) fn protocol_is(rule: &mut Body, protocol: i32) {
    const L4PROTO: u32 = 16;
    meta(rule, L4PROTO);
    equals(rule, &[protocol.to_le_bytes()[0]]);
}

/// Goes on if an address in the packet's header begins like this.
pub(super) fn network_is(rule: &mut Body, offset: u32, prefix: &[u8]) {
    const NETWORK_HEADER: u32 = 1;
    payload(rule, NETWORK_HEADER, offset, u32::try_from(prefix.len()).unwrap_or(u32::MAX));
    equals(rule, prefix);
}

/// Goes on if the packet is for this port.
pub(super) fn port_is(rule: &mut Body, port: u16) {
    payload(rule, TRANSPORT_HEADER, 2, 2);
    equals(rule, &port.to_be_bytes());
}

/// Goes on if what the packet carries begins with a byte.
pub(super) fn begins_with(rule: &mut Body, byte: u8) {
    payload(rule, TRANSPORT_HEADER, 0, 1);
    equals(rule, &[byte]);
}

/// Goes on if there is a socket for the packet, listening or connected.
pub(super) fn has_socket(rule: &mut Body) {
    expression(rule, "socket", |body| {
        // Whether it is transparent is not asked: it is there, or this rule ends here.
        body.big(1, 0);
        body.big(2, VALUE);
    });
}

/// Gives the packet to a listener, with the address that it goes to as it is.
pub(super) fn turn_to(rule: &mut Body, family: u8, (address, port): (&[u8], u16)) {
    put(rule, VALUE, address);
    put(rule, PORT, &port.to_be_bytes());
    expression(rule, "tproxy", |body| {
        body.big(1, u32::from(family));
        body.big(2, VALUE);
        body.big(3, PORT);
    });
}

/// Rewrites the packet's target to this port of loopback, here and in all that follows it.
pub(super) fn rewrite_to(rule: &mut Body, port: u16) {
    put(rule, PORT, &port.to_be_bytes());
    expression(rule, "redir", |body| body.big(1, PORT));
}

/// Tells a group of the log about the packet.
pub(super) fn log(rule: &mut Body, group: u16) {
    expression(rule, "log", |body| {
        body.attribute(1, &group.to_be_bytes());
        body.big(3, LOGGED);
    });
}

/// Ends the rule.
pub(super) fn verdict(rule: &mut Body, verdict: u32) {
    expression(rule, "immediate", |body| {
        body.big(1, 0);
        body.nest(2, |body| body.nest(2, |body| body.big(1, verdict)));
    });
}
