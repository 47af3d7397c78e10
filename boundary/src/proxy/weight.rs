//! How much memory the process holds, and whether there is room for one connection more, or one stream.
//!
//! *Standing*: [`super::Proxy`] asks before it takes one; the session says how to weigh. *Never*: looks
//! at each, which would cost as much as a hundredth of it, or ends what is open: that
//! has bounds of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Proxy;

/// At every how-manieth of them it is looked.
const OFTEN: usize = 16;

/// Tells how many bytes of the process are resident, where that can be told.
type Scale = Box<dyn Fn() -> Option<usize> + Send + Sync>;

/// What there is, and what there may be.
pub(super) struct Weight {
    limit: usize,
    scale: Scale,
    /// How many have come.
    come: AtomicUsize,
    /// Whether it was too much when it was looked last.
    is_full: AtomicBool,
}

impl Weight {
    /// So much may be held. Nothing is weighed yet.
    pub(super) fn new(limit: usize) -> Self {
        let (come, is_full) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { limit, scale: Box::new(|| None), come, is_full }
    }

    /// Whether one more may come. While there was no room at the last look, every one is looked for, so
    /// that room is seen as soon as it is there.
    pub(super) fn has_room(&self) -> bool {
        let is_due = self.come.fetch_add(1, Ordering::Relaxed).is_multiple_of(OFTEN);
        if is_due || self.is_full.load(Ordering::Relaxed) {
            self.is_full.store(self.is_over(), Ordering::Relaxed);
        }
        !self.is_full.load(Ordering::Relaxed)
    }

    /// Whether more is held than may be.
    fn is_over(&self) -> bool {
        (self.scale)().is_some_and(|held| held > self.limit)
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weight").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Weighs the process so: how many of its bytes are resident, where that can be told.
    #[must_use]
    pub fn weighing(mut self, scale: impl Fn() -> Option<usize> + Send + Sync + 'static) -> Self {
        self.weight.scale = Box::new(scale);
        self
    }

    /// Whether more memory is held than may be.
    pub fn is_overweight(&self) -> bool {
        self.weight.is_over()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn above_the_limit_there_is_no_room_and_below_it_there_is_at_once() {
        let held = Arc::new(AtomicUsize::new(0));
        let mut weight = Weight::new(1000);
        let read = Arc::clone(&held);
        weight.scale = Box::new(move || Some(read.load(Ordering::Relaxed)));
        assert!(weight.has_room());
        held.store(1001, Ordering::Relaxed);
        let taken = (0..100).take_while(|_| weight.has_room()).count();
        assert_eq!(taken, OFTEN - 1, "so many may come between two looks");
        assert!((0..100).all(|_| !weight.has_room()));
        held.store(1000, Ordering::Relaxed);
        assert!((0..100).all(|_| weight.has_room()));
    }

    #[test]
    fn what_cannot_be_weighed_is_not_too_much() {
        assert!(Weight::new(0).has_room());
    }
}
