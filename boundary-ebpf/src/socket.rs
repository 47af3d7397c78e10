//! `sock_create`: TCP and UDP proper, and nothing beside; each carries the session's mark.
//!
//! This is where UDP-Lite, SCTP, ping, raw sockets and MPTCP end: some of them meet no later hook.

use aya_ebpf::helpers::bpf_get_current_ancestor_cgroup_id;
use aya_ebpf::programs::SockContext;
use boundary_common::flow::{Endpoint, Mark};
use boundary_common::steer::{Socket, Why};

use crate::context::{read, write};
use crate::maps::MARKS;
use crate::refusal::{self, Author, What};

/// Marks a new socket as the session's, or refuses it.
#[inline(always)]
pub(crate) fn make(ctx: &SockContext) -> bool {
    let raw = ctx.sock;
    let socket = Socket { kind: read!(raw, type_), protocol: read!(raw, protocol) };
    let is_allowed = socket.is_allowed();
    if is_allowed && mark(ctx) {
        return true;
    }
    let why = if is_allowed { Why::Unrecorded } else { Why::Socket };
    let family = read!(raw, family) as u16;
    let refused = What { why, family, socket, option: 0, target: Endpoint::default() };
    refusal::report(&refused, Author::Caller);
    false
}

/// Writes down the cgroups around the caller's: each room of the session that it is in is one.
#[inline(always)]
fn note_place(place: *mut Mark) {
    for (index, level) in (1..).take(Mark::LEVELS).enumerate() {
        // SAFETY: The helper takes any level; what is not there is zero.
        let around = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        write!(place, around, around[index]);
    }
}

/// Puts the session's mark on a new socket.
#[inline(always)]
fn mark(ctx: &SockContext) -> bool {
    // SAFETY: At this hook the context stands for the socket.
    let Some(place) = (unsafe { MARKS.of_or_new(ctx.sock.cast()) }) else { return false };
    write!(place, Mark::SESSION, role);
    note_place(place);
    // SAFETY: The storage has the size of a mark, and lives with the socket.
    refusal::note_caller(unsafe { &raw mut (*place).task });
    true
}
