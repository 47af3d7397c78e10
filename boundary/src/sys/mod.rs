//! Every unsafe call user space makes, behind safe signatures.

pub mod bpf;
pub mod process;
pub mod readiness;
