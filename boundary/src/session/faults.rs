//! Faults of our own: a task that panics ends with its connection, and is counted and told.
//!
//! *Standing*: the proxy's process watches from its beginning; [`super::gauges`] shows the count.
//! *Never*: ends anything else than the task, or writes past the log, which knows when to be silent.

use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many there were in this process.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Has every panic of this process counted and told from now on.
pub(super) fn watch() {
    panic::set_hook(Box::new(note));
}

/// How many there were.
pub(super) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Counts one, and tells where it was. What it said may hold what was asked for, and stays untold.
fn note(fault: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let place = fault.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "a fault of boundary itself has ended a connection: please report it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_counted_and_ends_its_thread_alone() {
        let before = panic::take_hook();
        // Other tests may fail meanwhile, and are to be heard.
        panic::set_hook(Box::new(move |fault| {
            note(fault);
            before(fault);
        }));
        let counted = count();
        let ended = std::thread::spawn(|| panic!("as it should")).join();
        assert!(ended.is_err());
        assert!(count() > counted);
    }
}
