//! What the threads of the [queue](super::queue) and what is between them are made of: the standard
//! library's. Where a model checker reads the queue, its own stand here (`model`).

pub(super) use std::sync::atomic::AtomicBool;
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
pub(super) use std::thread::Builder;
