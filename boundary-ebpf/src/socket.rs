//! `sock_create`: TCP and UDP proper, and nothing beside; each carries the session's mark.
//!
//! This is where UDP-Lite, SCTP, ping, raw sockets and MPTCP end: some of them meet no later hook.

use aya_ebpf::programs::SockContext;
use boundary_common::flow::{Endpoint, Mark, Refusal, Task};
use boundary_common::steer::{Socket, Why};

use crate::context::read;
use crate::maps::MARKS;
use crate::refusal;

/// Marks a new socket as the session's, or refuses it.
#[inline(always)]
pub(crate) fn make(ctx: &SockContext) -> bool {
    let raw = ctx.sock;
    let kind = read!(raw, type_);
    let protocol = read!(raw, protocol);
    let family = read!(raw, family);
    let task = refusal::current();
    let is_allowed = Socket { kind, protocol }.is_allowed();
    if is_allowed && mark(ctx, task) {
        return true;
    }
    let why = if is_allowed { Why::Unrecorded } else { Why::Socket };
    refusal::report(&Refusal {
        time: refusal::now(),
        why: why as u16,
        family: family as u16,
        kind: kind as u16,
        protocol: protocol as u16,
        option: 0,
        target: Endpoint::default(),
        task,
    });
    false
}

/// Puts the session's mark on a new socket.
#[inline(always)]
fn mark(ctx: &SockContext, task: Task) -> bool {
    // SAFETY: At this hook the context stands for the socket.
    let Some(place) = (unsafe { MARKS.of_or_new(ctx.sock.cast()) }) else { return false };
    // SAFETY: The storage has the size of a mark and lives with the socket.
    unsafe { place.write(Mark { role: Mark::SESSION, task }) };
    true
}
