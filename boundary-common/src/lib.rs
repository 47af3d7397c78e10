//! The contract between the two halves of boundary: what the kernel half writes and the user half
//! reads, and what the kernel half decides by itself.
//!
//! [`flow`] holds the records that lie in maps, [`steer`] the one decision as a pure function,
//! [`option`] and [`device`] the two lists beside it, this file the names by which the halves find
//! each other.
//!
//! *Standing*: used by `boundary-ebpf` (compiled for the kernel) and by `boundary::jail`.
//! *Never*: allocates, panics, or knows how a map or a socket is made.

#![no_std]
#![expect(clippy::inline_always, reason = "old kernels verify one function better than many")]

#[cfg(test)]
extern crate std;

pub mod device;
pub mod flow;
pub mod option;
pub mod steer;

/// The version of this contract. The user half writes it beside the doors; the kernel half
/// refuses everything while it does not find its own, so that an empty map refuses too.
pub const ABI: u32 = 2;

/// The same, and whoever listens at a door's port is taken for the door: the mark is a wall that
/// is left off to show that a test notices.
#[cfg(feature = "mutations")]
pub const ABI_UNGUARDED: u32 = ABI | 1 << 31;

/// Every program of the kernel half, named by its hook. All of them are attached, or none, but for
/// those in [`LATER`].
pub const PROGRAMS: [&str; 15] = [
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "sock_create",
    "setsockopt",
    "egress",
    "ingress",
    "device",
    "connect_unix",
    "sendmsg_unix",
];

/// The programs whose hooks came with Linux 6.7. Where the kernel has no such hook they are left
/// out.
pub const LATER: [&str; 2] = ["connect_unix", "sendmsg_unix"];

/// Every map of the kernel half, named by what it holds.
pub mod maps {
    /// One [`Doors`](crate::flow::Doors): written once by the user half, then frozen.
    pub const DOORS: &str = "DOORS";
    /// Socket → [`Mark`](crate::flow::Mark): whose socket it is.
    pub const MARKS: &str = "MARKS";
    /// Socket → [`Flow`](crate::flow::Flow): where it meant to go before it was turned.
    pub const TARGETS: &str = "TARGETS";
    /// [`FlowKey`](crate::flow::FlowKey) → [`Flow`](crate::flow::Flow): the same, as the proxy
    /// finds it.
    pub const FLOWS: &str = "FLOWS";
    /// A ring of [`Refusal`](crate::flow::Refusal)s.
    pub const EVENTS: &str = "EVENTS";
    /// One `u64` for each processor: refusals that did not fit into the ring.
    pub const LOST: &str = "LOST";
}
