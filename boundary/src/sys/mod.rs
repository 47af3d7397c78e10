//! Every unsafe call user space makes, behind safe signatures.

pub mod arguments;
pub mod bpf;
pub mod confinement;
pub mod features;
pub mod interrupt;
pub mod memory;
pub mod notify;
pub mod option;
pub mod pass;
pub mod pidfd;
pub mod process;
pub mod reach;
pub mod readiness;
pub mod sampler;
pub mod swap;
pub mod unread;

use std::io;

use nix::errno::Errno;

/// The number behind an error; another one for an error that the system has not told of.
pub fn errno_of(error: &io::Error, otherwise: Errno) -> Errno {
    error.raw_os_error().map_or(otherwise, Errno::from_raw)
}
