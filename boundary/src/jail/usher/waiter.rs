//! Whoever waits in a call for something that may never come.
//!
//! Once its question was read, nothing wakes such a call but its answer, or what kills (Linux 5.19): no
//! handler of a signal runs, and nothing stops the process. So whoever lets it wait looks for signals.
//!
//! *Standing*: the ushers let calls wait with this. *Never*: takes a signal away.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::thread::{Signalled, Thread};
use crate::sys::notify::{self, Answer};

/// How often signals are looked for at the most.
const LOOK: Duration = Duration::from_millis(200);

/// Whoever waits in a call.
#[derive(Debug)]
pub(in crate::jail) struct Waiter<'a> {
    listener: BorrowedFd<'a>,
    call: (u64, Thread),
    /// When signals are looked for next.
    due: Cell<Instant>,
    /// Whether there was one that another thread might take.
    was_signalled: Cell<bool>,
    answer: Cell<Option<Answer>>,
}

impl<'a> Waiter<'a> {
    /// The one of a call.
    pub(in crate::jail) fn new(listener: BorrowedFd<'a>, call: (u64, Thread)) -> Self {
        let (due, was_signalled) = (Cell::new(Instant::now()), Cell::new(false));
        Self { listener, call, due, was_signalled, answer: Cell::new(None) }
    }

    /// Whether the call is there still, and no signal interrupts it.
    pub(in crate::jail) fn goes_on(&self) -> bool {
        notify::is_waiting(self.listener, self.call.0) && !self.is_interrupted()
    }

    /// What a call is answered with that does not go on. One that waits for so long and no longer is not made
    /// again, as without boundary (signal(7)).
    pub(in crate::jail) fn answer(&self, has_limit: bool) -> Answer {
        let interrupted = Answer::Failed(Errno::EINTR);
        if has_limit { interrupted } else { self.answer.get().unwrap_or(interrupted) }
    }

    /// Whether a signal interrupts the call, which has its answer then.
    pub(in crate::jail) fn is_interrupted(&self) -> bool {
        let now = Instant::now();
        if now < self.due.get() {
            return self.answer.get().is_some();
        }
        self.due.set(now + LOOK);
        let signalled = self.call.1.is_signalled();
        let answer = match signalled {
            Signalled::Surely => Some(Answer::Again),
            // If nobody has taken it for so long it is the caller's. If it is not, that may only be told in
            // a way that every program knows.
            Signalled::Perhaps if self.was_signalled.get() => Some(Answer::Failed(Errno::EINTR)),
            Signalled::Perhaps | Signalled::No => None,
        };
        self.was_signalled.set(signalled == Signalled::Perhaps);
        self.answer.set(answer);
        answer.is_some()
    }
}
