//! One timer for all the deadlines of a connection.
//!
//! *Standing*: a connection has a deadline at any time, which moves with every request. *Never*: sets
//! the timer anew for each: one that rings too early is cheaper, and then the deadline is looked at.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is there once it was needed.
#[derive(Debug, Default)]
pub(super) struct Clock(Option<Pin<Box<Sleep>>>);

impl Clock {
    /// Whether a deadline is past; if not, arranges to be asked again when it may be.
    pub(super) fn is_past(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }
}
