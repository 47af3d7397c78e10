//! The walls: turn every packet toward a door, or drop it. Know no rules.

mod badge;
pub mod canary;
pub mod certificates;
pub mod child;
mod choice;
pub mod ebpf;
pub mod filter;
pub mod kernel;
pub mod landjail;
mod lineage;
pub mod mounts;
#[doc(hidden)]
pub mod mutation;
pub mod nsjail;
pub mod probe;
mod procfs;
pub mod usher;
mod walls;

pub use badge::Badge;
pub use choice::{Choice, UnknownJail, Users};
pub use ebpf::Counts;
pub use walls::{Error, Lent, Refusals, Ring, Walls};

use std::io;

/// A kernel call that failed, by name.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct Call {
    /// The call, as its manual page names it.
    pub call: &'static str,
    /// What the kernel answered.
    pub source: io::Error,
}

impl Call {
    /// Names the call in an error: `mount(…).map_err(Call::to("mount"))`.
    pub fn to<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self { call, source: error.into() }
    }
}
