//! sock_create: TCP and UDP proper, and nothing beside; each carries the session's mark.
//!
//! This is where UDP-Lite, SCTP, ping, raw sockets and MPTCP end: some of them meet no later hook.

use core::ptr;

use aya_ebpf::programs::SockContext;
use boundary_common::flow::{Endpoint, Mark, Refusal};
use boundary_common::steer::{Socket, Why};

use crate::maps::MARKS;
use crate::refusal;

/// Marks a new socket as the session's, or refuses it.
#[inline(always)]
pub(crate) fn make(ctx: &SockContext) -> bool {
    let raw = ctx.sock;
    // SAFETY: The kernel passes a valid context.
    let kind = unsafe { ptr::read_volatile(&raw const (*raw).type_) };
    // SAFETY: As above.
    let protocol = unsafe { ptr::read_volatile(&raw const (*raw).protocol) };
    // SAFETY: As above.
    let family = unsafe { ptr::read_volatile(&raw const (*raw).family) };
    let task = refusal::current();
    let why = if !(Socket { kind, protocol }).is_allowed() {
        Why::Socket
    } else {
        // SAFETY: At this hook the context stands for the socket.
        match unsafe { MARKS.of_or_new(raw.cast()) } {
            Some(place) => {
                // SAFETY: The storage has the size of a mark and lives with the socket.
                unsafe { place.write(Mark { role: Mark::SESSION, task }) };
                return true;
            }
            None => Why::Unrecorded,
        }
    };
    refusal::report(&Refusal {
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
