//! The workspace agent's socket: every request, in its protocol, however the agent comes and goes.
//!
//! The agent answers nothing, so whether it has something is known only by what its end of the
//! socket has read. What it had not read when it went is sent again to the next one: a record can
//! arrive twice, and is known by its session and number; it is not lost.
//!
//! *Standing*: the recorder puts requests into a bounded queue; a thread of its own sends them.
//! *Never*: waits on the path that it records; holds up the session's end for long.

#[cfg(fuzzing)]
pub mod fuzzing;
mod link;
mod message;
mod peer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use link::{Batch, Link};
use message::Reporter;

use super::record::Record;
use super::{Forward, Session};

/// How many requests one batch holds.
const BATCH: usize = 10;

/// How long a request waits for others to fill its batch.
const GATHER: Duration = Duration::from_secs(5);

/// How many requests may wait for an agent.
const BOUND: usize = 8192;

/// How long after a failure the agent is tried again; and when the session is over.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(20));

/// How often the agent is asked whether it has read what was sent.
const TEND: Duration = Duration::from_millis(100);

/// The recorder's end of the way to the agent.
#[derive(Debug)]
pub(super) struct Agent {
    queue: Arc<Queue>,
}

/// What both ends share.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// There is a batch, or the session is over.
    more: Condvar,
    /// Everything was sent, or given up.
    done: Condvar,
    /// Whether somebody said that there is an agent.
    is_named: bool,
}

/// The queue's content and its counts.
#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Record>>,
    /// When the first of the next batch came.
    since: Option<Instant>,
    /// Dropped because the queue was full, and not told yet.
    untold: i64,
    /// The same, in all.
    lost: u64,
    /// Handed over, and not known to be read.
    unread: u64,
    /// Whether the thread waits for more.
    is_asleep: bool,
    /// Until when what is left may take; set when the session is over.
    deadline: Option<Instant>,
    /// Whether the agent was there at any time.
    was_there: bool,
    is_done: bool,
}

impl Agent {
    /// Starts the thread that sends.
    pub(super) fn start(forward: Forward, session: &Session) -> io::Result<Self> {
        let Forward { socket, is_named } = forward;
        let reporter = Reporter::new(&session.id.to_string(), &session.command);
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            more: Condvar::new(),
            done: Condvar::new(),
            is_named,
        });
        let end = Arc::clone(&queue);
        let mut link = Link::new(socket, reporter);
        // Before there is a command, which may be able to put something else in the place. One that is not
        // there yet is looked for when there is something to send.
        drop(link.open());
        thread::Builder::new().name("agent".to_owned()).spawn(move || end.send(link))?;
        Ok(Self { queue })
    }

    /// Puts a request in, or counts it as lost.
    pub(super) fn push(&self, request: Arc<Record>) {
        let mut state = self.queue.lock();
        if state.waiting.len() >= BOUND {
            state.untold += 1;
            state.lost += 1;
            return;
        }
        if state.waiting.is_empty() {
            state.since = Some(Instant::now());
        }
        state.waiting.push_back(request);
        // The thread sleeps before an empty queue, or while a batch gathers. Waking it is a system
        // call, even where it does not.
        let is_due = state.waiting.len() == 1 || state.waiting.len() == BATCH;
        if is_due && mem::take(&mut state.is_asleep) {
            self.queue.more.notify_one();
        }
    }

    /// How many requests the agent will not get; none where there is no agent at all. When the
    /// session is over that is everything it has not read.
    pub(super) fn lost(&self) -> u64 {
        let state = self.queue.lock();
        if !self.queue.is_named && !state.was_there {
            return 0;
        }
        let left = state.waiting.len() as u64 + state.unread;
        state.lost + state.deadline.map_or(0, |_| left)
    }

    /// Says that nothing more comes, and how long what is left may take.
    pub(super) fn close(&self, patience: Duration) {
        self.queue.lock().deadline = Some(Instant::now() + patience);
        self.queue.more.notify_one();
    }

    /// Waits until everything is sent or given up, which [`Self::close`] bounds.
    pub(super) fn wait(&self) {
        let mut state = self.queue.lock();
        // A send that blocks ends a moment after the deadline.
        while let Some(deadline) = state.deadline.filter(|_| !state.is_done) {
            let left = (deadline + TEND).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.queue.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.deadline.get_or_insert_with(Instant::now);
        self.queue.more.notify_one();
    }
}

impl Queue {
    /// The thread's life: sends batches until the session is over and all is sent or given up.
    fn send(&self, mut link: Link) {
        let mut pause = None;
        loop {
            if !self.next(&mut link, pause.take()) {
                break;
            }
            let delivered = link.deliver(self);
            let mut state = self.lock();
            state.was_there |= link.was_there();
            state.unread = link.left();
            match delivered {
                Ok(()) => {}
                Err(error) if state.deadline.is_some() && !state.is_worth_waiting(&error) => break,
                Err(_) => pause = Some(RETRY.0),
            }
        }
        self.lock().is_done = true;
        self.done.notify_all();
    }

    /// Until when what is left may take, if the session is over.
    fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// Waits until there is something to do, and hands over what may be sent now. False when the
    /// session is over and there is nothing left, or no time.
    fn next(&self, link: &mut Link, pause: Option<Duration>) -> bool {
        let mut state = self.lock();
        let entered = Instant::now();
        loop {
            let now = Instant::now();
            let is_over = state.deadline.is_some();
            if state.deadline.is_some_and(|deadline| deadline <= now) {
                return false;
            }
            let since = state.since.unwrap_or(now);
            let is_full = state.waiting.len() >= BATCH;
            let is_due = !state.waiting.is_empty() && (is_full || is_over || since + GATHER <= now);
            let longest = if is_over { RETRY.1 } else { RETRY.0 };
            let not_before = pause.map(|pause| entered + pause.min(longest));
            let may = not_before.is_none_or(|then| then <= now);
            if may && (is_due || !link.is_idle()) {
                state.fill(link);
                state.unread = link.left();
                return true;
            }
            if is_over && state.waiting.is_empty() && link.is_idle() {
                return false;
            }
            let until = match not_before.filter(|_| !may) {
                Some(then) => Some(then),
                None => state.since.map(|since| since + GATHER),
            };
            state = self.wait(state, until, now);
        }
    }

    /// Waits until that time, or until something comes.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
        now: Instant,
    ) -> MutexGuard<'a, State> {
        let bound = state.deadline.into_iter().chain(until).min();
        state.is_asleep = true;
        let mut state = match bound {
            Some(bound) => {
                let left = bound.saturating_duration_since(now);
                let waited = self.more.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.more.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.is_asleep = false;
        state
    }

    /// No code panics while it holds the lock; if it did, the counts would still be the best there are.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether an agent that cannot be reached when the session is over may come back: one that was
    /// there may be starting anew; one that never was is most often not there at all.
    fn is_worth_waiting(&self, error: &io::Error) -> bool {
        let kind = error.kind();
        let is_absent = matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        // Where the path is too long for a socket none can ever be.
        kind != io::ErrorKind::InvalidFilename && (self.was_there || !is_absent)
    }

    /// Hands over what may be sent: whole batches, and a smaller one when it is due. Each tells with
    /// it what was dropped before.
    fn fill(&mut self, link: &mut Link) {
        let now = Instant::now();
        while link.has_room() && !self.waiting.is_empty() {
            let is_due =
                self.deadline.is_some() || self.since.is_some_and(|since| since + GATHER <= now);
            if self.waiting.len() < BATCH && !is_due {
                break;
            }
            let count = self.waiting.len().min(BATCH);
            // Written they are without the lock that every request takes.
            let records = self.waiting.drain(..count).collect();
            link.take(Batch::new(records, mem::take(&mut self.untold)));
            self.since = if self.waiting.is_empty() { None } else { Some(now) };
        }
    }
}
