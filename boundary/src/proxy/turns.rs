//! What the strict front of HTTP/1 and the service behind the parser tell each other.
//!
//! *Standing*: [`super::heads`] counts what it hands on, [`super::http1`] what is answered. *Never*:
//! decides; each side does what it hears in its own words.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant;

use super::framing::Fault;

/// What the strict front and the service behind the parser tell each other.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Heads handed on.
    asked: AtomicUsize,
    /// Answers finished, or given up.
    answered: AtomicUsize,
    /// The stream is no longer HTTP: a tunnel, or an accepted upgrade.
    open: AtomicBool,
    /// The session ends.
    closing: AtomicBool,
    /// Why the connection is at its end.
    fault: OnceLock<Fault>,
    /// Whether that is in the body of the request that is being answered.
    in_body: AtomicBool,
    /// Method and target of the head that it is about, as far as they could be read.
    garbled: OnceLock<(String, String)>,
    pause: Mutex<Pause>,
}

/// The time between two requests.
#[derive(Debug, Default)]
struct Pause {
    /// When the last answer ended.
    since: Option<Instant>,
    /// Who waits for an answer to end.
    waker: Option<Waker>,
}

impl Turns {
    /// From here on every byte passes.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The session ends: nobody is waited for who has shut its side.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it does.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Why the front refused to go on, if it did.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    /// The fault of the request that is being answered, which is answered with it. A fault of the next
    /// one's head is not.
    pub(super) fn own_fault(&self) -> Option<Fault> {
        self.fault().filter(|_| self.in_body.load(Ordering::Acquire))
    }

    /// Method and target of what was refused, if it got so far.
    pub(super) fn garbled(&self) -> Option<(&str, &str)> {
        self.garbled.get().map(|(method, target)| (method.as_str(), target.as_str()))
    }

    /// One more head is handed on.
    pub(super) fn asks(&self) {
        self.asked.fetch_add(1, Ordering::AcqRel);
    }

    /// The front refuses to go on: for a head, of which so much could be read, or for a body.
    pub(super) fn fail(&self, fault: Fault, is_head: bool, line: Option<(String, String)>) {
        self.in_body.store(!is_head, Ordering::Release);
        // There is no second one: the front is at its end with the first.
        self.fault.get_or_init(|| fault);
        if let Some(line) = line {
            self.garbled.get_or_init(|| line);
        }
    }

    /// When the last answer ended.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.pause().since
    }

    /// Has the front look again when an answer ends.
    pub(super) fn await_answer(&self, cx: &Context<'_>) {
        self.pause().waker = Some(cx.waker().clone());
    }

    /// Nothing panics while it is held.
    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has whoever waits for an answer look again.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.pause().waker.take() {
            waker.wake();
        }
    }

    /// Whether every byte passes.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// How many heads were handed on.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }

    /// How many answers are over.
    pub(super) fn answered(&self) -> usize {
        self.answered.load(Ordering::Acquire)
    }

    /// Whether one is not.
    pub(super) fn is_busy(&self) -> bool {
        self.asked() != self.answered()
    }
}

/// One request being answered; dropping it says that the answer is over.
#[derive(Debug)]
pub(super) struct Turn(pub(super) Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::AcqRel);
        self.0.pause().since = Some(Instant::now());
        self.0.wake();
    }
}
