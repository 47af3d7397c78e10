//! How long it takes after a fault until everything goes as before.
//!
//! *Standing*: a test of a fault starts one when the fault is over; `cargo test … -- --nocapture` shows
//! what it says, and `docs/faults.md` tells it. *Never*: makes a test fail for being slow.

use std::time::{Duration, Instant};

/// Runs from the end of a fault.
pub(crate) struct Mended(Instant);

impl Mended {
    /// The fault is over.
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// Everything goes as before.
    pub(crate) fn recovered(self) {
        tell(self.0.elapsed());
    }
}

/// Says how long this test's fault was felt.
pub(crate) fn tell(after: Duration) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    println!("recovered: {test}: {} ms", after.as_millis());
}
