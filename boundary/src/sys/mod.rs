//! Every unsafe call user space makes, behind safe signatures.

pub mod bpf;
pub mod features;
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
