//! A bounded queue with a writer at its end: putting something in never waits, what does not fit is
//! counted, and the count is written as soon as something fits again.
//!
//! Whoever puts something in pays for a lock and a copy: the writer looks by itself after every batch,
//! and is woken only when it went to sleep before an empty queue. That nobody is forgotten asleep is
//! checked over every order of its steps (`model`), which is why it takes its threads from beside it.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::threads::{AtomicBool, Builder, Condvar, Mutex, MutexGuard};

/// For how many items room is kept from one batch to the next.
const KEPT: usize = 1024;

/// What the writer takes out in one go.
pub(super) struct Batch<T> {
    /// In the order they were put in.
    pub(super) items: VecDeque<T>,
    /// How many were lost since the last batch, after these.
    pub(super) lost: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// How many of its items are written.
    pub(super) items: u64,
    /// Whether its loss is told, where it had one.
    pub(super) is_told: bool,
}

/// The queue and its writer. The writer ends, after writing what is left, when this is dropped.
#[derive(Debug)]
pub(super) struct Lane<T> {
    queue: Arc<Queue<T>>,
}

impl<T: Send + 'static> Lane<T> {
    /// Starts a writer. It is told every batch, and says what was written of it. A batch
    /// gathers for a while, but not when the queue is half full or somebody waits for it.
    pub(super) fn start(
        name: &str,
        (bound, gather): (usize, Duration),
        mut write: impl FnMut(&mut Batch<T>) -> Written + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            bound,
            gather,
            is_losing: AtomicBool::new(false),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                accepted: 0,
                settled: 0,
                lost: 0,
                lost_in_all: 0,
                flushing: 0,
                is_asleep: false,
                closed: false,
            }),
            more: Condvar::new(),
            idle: Condvar::new(),
        });
        let end = Arc::clone(&queue);
        Builder::new().name(name.to_owned()).spawn(move || {
            let mut room = VecDeque::new();
            while let Some(mut batch) = end.take(room) {
                let (told, count) = (batch.lost, batch.items.len() as u64);
                let written = write(&mut batch);
                end.settle(count, told, written);
                room = batch.items;
                room.clear();
                room.shrink_to(KEPT);
            }
        })?;
        Ok(Self { queue })
    }

    /// Puts something in, or counts it as lost if the writer is too far behind.
    pub(super) fn push(&self, item: T) {
        let mut state = self.queue.lock();
        if state.waiting.len() < self.queue.bound {
            let waiting = state.waiting.len();
            state.waiting.push_back(item);
            state.accepted += 1;
            // Waking somebody is a system call, even where nobody waits.
            if mem::take(&mut state.is_asleep) || waiting == self.queue.bound / 2 {
                self.queue.more.notify_one();
            }
        } else {
            state.lost += 1;
            state.lost_in_all += 1;
            self.queue.is_losing.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until everything put in before is written or lost; says whether it came to that.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.queue.lock();
        let goal = state.accepted;
        state.flushing += 1;
        self.queue.more.notify_one();
        while state.settled < goal {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state =
                self.queue.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.flushing -= 1;
        state.settled >= goal
    }

    /// Whether the last thing that was put in, or the last batch, was lost.
    pub(super) fn is_losing(&self) -> bool {
        self.queue.is_losing.load(Ordering::Relaxed)
    }

    /// How many were put in and are neither written nor lost yet.
    pub(super) fn unsettled(&self) -> u64 {
        let state = self.queue.lock();
        state.accepted.saturating_sub(state.settled)
    }

    /// How many were lost since the start.
    pub(super) fn lost_in_all(&self) -> u64 {
        self.queue.lock().lost_in_all
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.more.notify_one();
    }
}

/// What both ends share.
#[derive(Debug)]
struct Queue<T> {
    bound: usize,
    gather: Duration,
    is_losing: AtomicBool,
    state: Mutex<State<T>>,
    /// Something was put in, or nothing will be any more, or the writer is not to wait for more.
    more: Condvar,
    /// A batch was settled.
    idle: Condvar,
}

/// The queue's content and its counts.
#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    accepted: u64,
    settled: u64,
    /// Lost and not yet told. Something waits whenever a full queue loses something, so the next
    /// batch is sure to come.
    lost: u64,
    lost_in_all: u64,
    /// How many wait for what is in the queue.
    flushing: usize,
    /// Whether the writer sleeps until something is put in.
    is_asleep: bool,
    closed: bool,
}

impl<T> Queue<T> {
    /// Everything that waits, when it has gathered for a while. `None` when nothing ever will. What
    /// comes meanwhile goes where there is room already.
    fn take(&self, room: VecDeque<T>) -> Option<Batch<T>> {
        let mut state = self.gathered(self.lock());
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state.is_asleep = true;
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.is_asleep = false;
            if !state.waiting.is_empty() {
                state = self.gathered(state);
            }
        }
        let items = mem::replace(&mut state.waiting, room);
        Some(Batch { lost: mem::take(&mut state.lost), items })
    }

    /// Lets a batch gather.
    fn gathered<'a>(&self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        if self.gather.is_zero() {
            return state;
        }
        let until = Instant::now() + self.gather;
        while !state.closed && state.flushing == 0 && state.waiting.len() <= self.bound / 2 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.more.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Counts a batch as done with. What could not be written of it is lost, and its own message
    /// about loss with it; that is told with the next batch, not at once: a full disk must not spin.
    fn settle(&self, count: u64, told: u64, written: Written) {
        let mut state = self.lock();
        state.settled += count;
        let is_written = written.is_told && written.items >= count;
        self.is_losing.store(!is_written, Ordering::Relaxed);
        let lost = count.saturating_sub(written.items);
        state.lost += lost;
        state.lost_in_all += lost;
        if !written.is_told {
            state.lost += told;
        }
        self.idle.notify_all();
    }

    /// No code panics while it holds the lock; if it did, the counts would still be the best there are.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
