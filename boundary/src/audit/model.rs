//! The queue in every order that its threads' steps can come in.
//!
//! The file is compiled a second time, with loom's threads and locks in the place of the standard
//! library's. There no wait ends by its time: whoever is not woken is found as a deadlock, not
//! forgiven after a while. *Never*: a copy of the queue.

use std::sync::Arc;
use std::time::Duration;

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use queue::{Batch, Lane, Written};

#[expect(clippy::duplicate_mod, reason = "the same lines, with other threads")]
#[path = "queue.rs"]
mod queue;

/// What the queue finds here in the place of the standard library's.
mod threads {
    pub(super) use loom::sync::atomic::AtomicBool;
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(super) use loom::thread::Builder;
}

/// Longer than anything that is checked.
const NEVER: Duration = Duration::from_hours(1);

/// What a writer has written: the items, and how many it was told that were lost.
#[derive(Default)]
struct Paper {
    state: Mutex<(Vec<u8>, u64)>,
    more: Condvar,
}

impl Paper {
    /// A lane that ends here.
    fn lane(self: &Arc<Self>, bound: usize, gather: Duration) -> Lane<u8> {
        let paper = Arc::clone(self);
        let write = move |batch: &mut Batch<u8>| {
            let items = batch.items.len() as u64;
            let mut state = paper.state.lock().unwrap();
            state.0.extend(batch.items.drain(..));
            state.1 += batch.lost;
            paper.more.notify_all();
            Written { items, is_told: true }
        };
        Lane::start("model", (bound, gather), write).unwrap()
    }

    /// Waits until so many items are written, and says which.
    fn holds(&self, count: usize) -> Vec<u8> {
        let mut state = self.state.lock().unwrap();
        while state.0.len() < count {
            state = self.more.wait(state).unwrap();
        }
        state.0.clone()
    }
}

/// Goes through every order in which somebody is interrupted twice at most.
fn in_every_order(check: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(2);
    model.check(check);
}

#[test]
fn what_two_put_in_is_written_without_anybody_waiting_for_it() {
    in_every_order(|| {
        let paper = Arc::<Paper>::default();
        let lane = Arc::new(paper.lane(8, Duration::ZERO));
        let other = Arc::clone(&lane);
        let beside = thread::spawn(move || other.push(9));
        lane.push(1);
        lane.push(2);
        let written = paper.holds(3);
        let own: Vec<u8> = written.iter().copied().filter(|item| *item < 9).collect();
        assert_eq!((own, written.len()), (vec![1, 2], 3), "each once, in order");
        beside.join().unwrap();
        assert_eq!(lane.lost_in_all(), 0);
    });
}

#[test]
fn a_batch_that_gathers_is_written_when_the_queue_is_half_full() {
    in_every_order(|| {
        let paper = Arc::<Paper>::default();
        let lane = paper.lane(2, NEVER);
        lane.push(1);
        lane.push(2);
        assert_eq!(paper.holds(2), [1, 2]);
    });
}

#[test]
fn whoever_waits_for_the_queue_is_told_when_all_of_it_is_written() {
    in_every_order(|| {
        let paper = Arc::<Paper>::default();
        let lane = Arc::new(paper.lane(8, NEVER));
        let other = Arc::clone(&lane);
        let beside = thread::spawn(move || {
            other.push(9);
            assert!(other.flush(NEVER));
        });
        lane.push(1);
        assert!(lane.flush(NEVER));
        let written = paper.state.lock().unwrap().0.clone();
        assert!(written.contains(&1), "{written:?}");
        beside.join().unwrap();
        assert_eq!(lane.unsettled(), 0);
    });
}

#[test]
fn a_queue_that_is_dropped_writes_what_is_left() {
    in_every_order(|| {
        let paper = Arc::<Paper>::default();
        let lane = paper.lane(8, NEVER);
        lane.push(1);
        drop(lane);
        assert_eq!(paper.holds(1), [1]);
    });
}

#[test]
fn what_finds_no_room_is_counted_and_told_once() {
    in_every_order(|| {
        let paper = Arc::<Paper>::default();
        let lane = paper.lane(1, Duration::ZERO);
        (1..=3).for_each(|item| lane.push(item));
        let lost = lane.lost_in_all();
        assert!(lane.flush(NEVER));
        let state = paper.state.lock().unwrap();
        assert_eq!((state.0.len() as u64 + lost, state.1), (3, lost));
        assert!(!lane.is_losing(), "it was told");
    });
}
