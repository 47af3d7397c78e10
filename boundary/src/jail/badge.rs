//! Badges: two limits of a process that say in which room of boundary inside boundary it is, where there
//! is no cgroup to put it into.
//!
//! They are the hard limits of file locks, which the kernel has not looked at since 2.4, and of time
//! under a real-time policy, set so high that it never counts. Every process has those of its parent, may
//! lower its own, and may not raise them. Read together they are a [`Span`], which a process can
//! only make smaller: one limit is its beginning and the other its end. A room has a span
//! inside that of the room around it, and rooms beside each other share no part of theirs. So
//! whatever a process does to its limits, it stays in its room, or goes into one inside.
//!
//! *Standing*: the usher reads them of whoever calls; the inner boundary gives its command one.
//! *Never*: tells anything of a process outside the session, whose limits are its own concern.

use std::io;

use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use super::{Call, procfs};

/// How wide the span of a session is.
const WHOLE: u64 = 1 << 62;

/// In how many parts, as a power of two, a span is given away: that of the session, that of a room in it,
/// that of a room in that one. There is none so deep that it is not here.
///
/// An agent may have boundary before each of its tools, and be under one itself.
const PARTS: [u32; 4] = [20, 20, 12, 10];

/// The room of whoever has made its span so small that it is none, or has that of a room that is over:
/// nothing is permitted there.
const CLOSED: u64 = u64::MAX;

/// The two limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Badge {
    /// Of file locks.
    locks: u64,
    /// Of time under a real-time policy, in microseconds.
    real_time: u64,
}

impl Badge {
    /// What a process has.
    pub(super) fn of(process: u32) -> io::Result<Self> {
        let text = procfs::text(format!("/proc/{process}/limits"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads them from the text of a process's `limits` (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        let hard = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            match line.split_ascii_whitespace().nth(1)? {
                "unlimited" => Some(u64::MAX),
                number => number.parse().ok(),
            }
        };
        Some(Self { locks: hard("Max file locks")?, real_time: hard("Max realtime timeout")? })
    }

    /// Puts it on this process, for good.
    pub fn take(self) -> Result<(), Call> {
        let Self { locks, real_time } = self;
        setrlimit(Resource::RLIMIT_LOCKS, locks, locks).map_err(Call::to("setrlimit"))?;
        setrlimit(Resource::RLIMIT_RTTIME, real_time, real_time).map_err(Call::to("setrlimit"))
    }
}

/// What two limits are together, below those of the session: from where, and up to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    from: u64,
    to: u64,
}

impl Span {
    /// Whether it is in another one.
    pub(super) fn is_in(self, other: Self) -> bool {
        other.from <= self.from && self.to <= other.to
    }
}

/// A room.
#[derive(Debug)]
struct Room {
    number: u64,
    span: Span,
    /// How many are around it.
    depth: usize,
    /// How many it has inside it, and ever had.
    given: u64,
}

impl Room {
    /// How wide the span of each room inside it is. None if there can be none.
    fn width(&self) -> Option<u64> {
        PARTS.get(self.depth).map(|part| (self.span.to - self.span.from) >> part)
    }

    /// Whether a span in its own is in one that it has given away.
    fn has_given(&self, span: Span) -> bool {
        let Some(width) = self.width() else { return false };
        let place = |at: u64| (at - self.span.from) / width;
        let (first, last) = (place(span.from), place(span.to - 1));
        first == last && (1..=self.given).contains(&first)
    }
}

/// The rooms of a session. A span is never given away twice.
#[derive(Debug)]
pub(super) struct Badges {
    /// What a process of the session has that is in no room.
    base: Badge,
    /// The first is the session itself. What is inside a room comes after it.
    rooms: Vec<Room>,
    /// The number of the next one.
    next: u64,
}

impl Badges {
    /// No rooms yet, below the limits that a process of the session begins with. None if they are too
    /// low for any.
    pub(super) fn below(base: Badge) -> Option<Self> {
        let session = Room { number: 0, span: Span { from: 0, to: WHOLE }, depth: 0, given: 0 };
        let is_high = base.locks >= WHOLE && base.real_time >= WHOLE;
        is_high.then(|| Self { base, rooms: vec![session], next: 1 })
    }

    /// Whether there ever was a room.
    pub(super) fn are_given(&self) -> bool {
        self.next > 1
    }

    /// The span that a badge is.
    pub(super) fn span(&self, badge: Badge) -> Span {
        let lowered = self.base.real_time.saturating_sub(badge.real_time);
        let from = self.base.locks.saturating_sub(badge.locks);
        Span { from, to: WHOLE.saturating_sub(lowered) }
    }

    /// The room that a span is in.
    pub(super) fn room(&self, span: Span) -> u64 {
        if span.from == 0 {
            // Whoever is in a room has lowered this one.
            return 0;
        }
        if span.from >= span.to {
            return CLOSED;
        }
        // Of those around it, each of which is inside the next, the innermost was given last.
        let innermost = self.rooms.iter().rev().find(|room| span.is_in(room.span));
        // What it has given to a room that is not there any more is nobody's.
        innermost.filter(|room| !room.has_given(span)).map_or(CLOSED, |room| room.number)
    }

    /// Whether a room is another one, or inside it.
    pub(super) fn is_inside(&self, room: u64, other: u64) -> bool {
        let span = |number| self.rooms.iter().find(|it| it.number == number).map(|it| it.span);
        span(room).zip(span(other)).is_some_and(|(span, around)| span.is_in(around))
    }

    /// Gives away a room inside another: its number, its span and the badge of its processes. None if
    /// there is none to be had.
    pub(super) fn give(&mut self, inside: u64) -> Option<(u64, Span, Badge)> {
        let number = self.next;
        let around = self.rooms.iter_mut().find(|room| room.number == inside)?;
        let (width, part) = (around.width()?, PARTS.get(around.depth)?);
        let place = around.given + 1;
        // The first part is nobody's, so that no room begins where the one around it does.
        if place >= 1 << part {
            return None;
        }
        around.given = place;
        let (from, depth) = (around.span.from + place * width, around.depth + 1);
        let span = Span { from, to: from + width };
        self.rooms.push(Room { number, span, depth, given: 0 });
        self.next += 1;
        let real_time = self.base.real_time - (WHOLE - span.to);
        Some((number, span, Badge { locks: self.base.locks - span.from, real_time }))
    }

    /// Takes a room back: whoever still has its badge is in none, and nobody gets it again.
    pub(super) fn take_back(&mut self, number: u64) {
        self.rooms.retain(|room| room.number != number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const BASE: Badge = Badge { locks: u64::MAX, real_time: u64::MAX };

    fn badges() -> Badges {
        Badges::below(BASE).unwrap()
    }

    #[test]
    fn a_process_has_the_limits_that_it_was_given() {
        let own = Badge::of(std::process::id()).unwrap();
        assert!(own.locks > 0 && own.real_time > 0);
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max file locks            7                    unlimited            locks     \n\
                    Max realtime timeout      unlimited            12                   us        \n";
        assert_eq!(Badge::parse(text), Some(Badge { locks: u64::MAX, real_time: 12 }));
    }

    #[test]
    fn a_process_with_a_badge_is_in_its_room_and_one_without_in_none() {
        let mut badges = badges();
        let (one, _, badge) = badges.give(0).unwrap();
        let (inner, _, deeper) = badges.give(one).unwrap();
        let (two, _, other) = badges.give(0).unwrap();
        for (badge, room) in [(BASE, 0), (badge, one), (deeper, inner), (other, two)] {
            assert_eq!(badges.room(badges.span(badge)), room);
        }
        assert_eq!([one, inner, two], [1, 2, 3]);
        assert!(badges.is_inside(inner, one) && badges.is_inside(one, one));
        assert!(badges.is_inside(two, 0) && !badges.is_inside(0, two));
        assert!(!badges.is_inside(one, two) && !badges.is_inside(inner, CLOSED));
    }

    #[test]
    fn whoever_lowers_a_limit_never_comes_into_another_room_than_one_inside() {
        let mut badges = badges();
        let mut given = vec![];
        for inside in [0, 0, 0, 1, 1, 2, 2, 3, 4, 6] {
            let (number, span, badge) = badges.give(inside).unwrap();
            given.push((number, span, badge));
        }
        let all: Vec<Badge> = given.iter().map(|(_, _, badge)| *badge).collect();
        let mut locks: Vec<u64> = all.iter().map(|badge| badge.locks).collect();
        let mut times: Vec<u64> = all.iter().map(|badge| badge.real_time).collect();
        locks.extend([0, 1, 1 << 61, 1 << 62]);
        times.extend([0, 1, 1 << 61, 1 << 62]);
        // Each limit at each value that any room has, and some beside.
        let every = |locks: &u64| times.iter().map(|&real_time| (*locks, real_time)).collect();
        let pairs: Vec<(u64, u64)> = locks.iter().flat_map::<Vec<_>, _>(every).collect();
        for (number, span, badge) in &given {
            let is_lower = |it: &&(u64, u64)| it.0 <= badge.locks && it.1 <= badge.real_time;
            for &(locks, real_time) in pairs.iter().filter(is_lower) {
                let room = badges.room(badges.span(Badge { locks, real_time }));
                let inside = given.iter().find(|(other, ..)| *other == room);
                let is_inside = inside.is_some_and(|(_, it, _)| it.is_in(*span));
                assert!(room == CLOSED || is_inside, "{number} comes into {room}");
            }
        }
    }

    #[test]
    fn whoever_is_in_a_room_that_was_taken_back_is_in_none() {
        let mut badges = badges();
        let (one, _, badge) = badges.give(0).unwrap();
        let (inner, _, deeper) = badges.give(one).unwrap();
        badges.take_back(one);
        assert!(badges.are_given());
        assert_eq!(badges.room(badges.span(badge)), CLOSED);
        assert_eq!(badges.room(badges.span(deeper)), inner, "until it is taken back as well");
        badges.take_back(inner);
        let (next, _, other) = badges.give(0).unwrap();
        let room = |badge| badges.room(badges.span(badge));
        assert_eq!([room(badge), room(deeper), room(other), room(BASE)], [CLOSED, CLOSED, next, 0]);
        assert!(!badges.is_inside(one, 0) && badges.is_inside(next, 0));
    }

    #[test]
    fn rooms_run_out_and_none_is_given_twice() {
        let mut badges = badges();
        let mut inside = 0;
        while let Some((number, ..)) = badges.give(inside) {
            inside = number;
        }
        assert_eq!(inside, 4, "so deep");
        let mut spans = HashSet::new();
        for _ in 0..(1 << PARTS[2]) - 2 {
            let (number, span, _) = badges.give(2).unwrap();
            badges.take_back(number);
            assert!(spans.insert((span.from, span.to)));
        }
        assert_eq!(badges.give(2), None);
        assert_eq!(PARTS.iter().sum::<u32>(), 62, "all of it is used");
    }

    #[test]
    fn below_low_limits_there_is_no_room() {
        assert!(Badges::below(Badge { locks: 1 << 40, ..BASE }).is_none());
    }
}
