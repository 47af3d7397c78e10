//! Who descends from whom, certain of the numbers: a number may be another process's from one moment to
//! the next.
//!
//! *Standing*: [`signals`](super::signals) asks it of whoever is to be signalled. Whatever a command
//! starts descends from the usher, which takes in what is orphaned, and nothing else ever does.
//! *Never*: signals anybody.

use std::collections::HashMap;
use std::io;

use crate::jail::procfs::{self, Stat};

/// How many processes one may have above it.
const DEEPEST: usize = 8192;

/// How often a look is taken again because somebody ended meanwhile.
const LOOKS: usize = 64;

/// Whether a process, whose number is its own as long as this takes, descends from another one.
pub(super) fn is_below(process: u32, top: u32) -> io::Result<bool> {
    climb(process, top, |number| Ok(Stat::of(number)?.map(|stat| stat.parent)))
}

/// Follows the parents up, and looks at each again on the way down.
///
/// Who has the same parent at two times has had it all the while, because nobody gets another one but when
/// his own ends, and then one that was there before. So the second look at the first process shows that the
/// number above it has been its parent's since the first, and both looks at that number fell in between;
/// and so on up to the top.
fn climb(
    process: u32,
    top: u32,
    read: impl Fn(u32) -> io::Result<Option<u32>>,
) -> io::Result<bool> {
    for _ in 0..LOOKS {
        let mut above = vec![];
        let mut at = process;
        // None if somebody on the way has ended.
        let found = loop {
            let Some(parent) = read(at)? else { break None };
            above.push((at, parent));
            if parent == top || parent <= 1 || above.len() >= DEEPEST {
                break Some(parent == top);
            }
            at = parent;
        };
        let mut is_same = true;
        for &(number, parent) in above.iter().rev() {
            is_same &= read(number)? == Some(parent);
        }
        match found {
            Some(found) if is_same => return Ok(found),
            None if above.is_empty() => return Ok(false),
            Some(_) | None => {}
        }
    }
    Ok(false)
}

/// Everybody, at two times: who descends from whom without a way up for each.
///
/// Who has the same parent both times, and started at the same time, is the same process with the same
/// parent from the first look to the second; so is that parent, looked at in its turn; and between the two
/// looks all of that held at once.
#[derive(Debug)]
pub(super) struct Everybody {
    before: HashMap<u32, Stat>,
    now: HashMap<u32, Stat>,
    /// Whether each whose way up was gone descends from the one that is asked about.
    known: HashMap<u32, Option<bool>>,
}

impl Everybody {
    pub(super) fn look() -> io::Result<Self> {
        Ok(Self::new(procfs::everybody()?, procfs::everybody()?))
    }

    fn new(before: HashMap<u32, Stat>, now: HashMap<u32, Stat>) -> Self {
        Self { before, now, known: HashMap::new() }
    }

    /// Looks again at who is there now.
    pub(super) fn again(self) -> io::Result<Self> {
        Ok(Self::new(self.now, procfs::everybody()?))
    }

    /// Who was there at the second look.
    pub(super) fn now(&self) -> impl Iterator<Item = &Stat> {
        self.now.values()
    }

    /// Whether a process descends from another one, which is always the same; none if these looks do not
    /// tell.
    pub(super) fn is_below(&mut self, process: u32, top: u32) -> Option<bool> {
        let (mut way, mut at) = (vec![], process);
        let found = loop {
            if let Some(known) = self.known.get(&at) {
                break *known;
            }
            let Some(parent) = self.parent(at).filter(|_| way.len() < DEEPEST) else { break None };
            way.push(at);
            if parent == top || parent <= 1 {
                break Some(parent == top);
            }
            at = parent;
        };
        self.known.extend(way.into_iter().map(|number| (number, found)));
        found
    }

    /// The parent of a process, if it is the same one's at both times.
    fn parent(&self, process: u32) -> Option<u32> {
        let (before, now) = (self.before.get(&process)?, self.now.get(&process)?);
        let is_same = (before.started, before.parent) == (now.started, now.parent);
        is_same.then_some(now.parent)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use nix::errno::Errno;

    use super::*;

    /// Processes with their parents.
    fn family(of: &[(u32, u32)]) -> HashMap<u32, u32> {
        of.iter().copied().collect()
    }

    #[test]
    fn what_a_process_started_is_below_it_and_nobody_else_is() {
        let parents = family(&[(9, 8), (8, 7), (7, 5), (5, 1), (6, 5), (1, 0)]);
        let is_below = |process| climb(process, 7, |at| Ok(parents.get(&at).copied())).unwrap();
        for (process, expected) in [(9, true), (8, true), (7, false), (6, false), (5, false)] {
            assert_eq!(is_below(process), expected, "{process}");
        }
        assert!(!is_below(1) && !is_below(4), "the first of all, and one that is not there");
    }

    #[test]
    fn a_parents_number_that_is_given_to_one_of_ours_makes_nobody_ours() {
        // 20 is a stranger's child. Its parent ends, and 30 is one of ours before it is looked at.
        let (reads, parents) = (Cell::new(0), RefCell::new(family(&[(20, 30), (30, 1)])));
        let read = |at| {
            reads.set(reads.get() + 1);
            if reads.get() == 2 {
                *parents.borrow_mut() = family(&[(20, 1), (30, 7)]);
            }
            Ok(parents.borrow().get(&at).copied())
        };
        assert!(!climb(20, 7, read).unwrap());
    }

    #[test]
    fn one_whose_parent_ends_meanwhile_is_found_where_it_was_taken_in() {
        let reads = Cell::new(0);
        let read = |at| {
            reads.set(reads.get() + 1);
            let parents = if reads.get() == 1 { family(&[(20, 30)]) } else { family(&[(20, 7)]) };
            Ok(parents.get(&at).copied())
        };
        assert!(climb(20, 7, read).unwrap());
    }

    #[test]
    fn numbers_that_go_round_and_errors_end_it() {
        let round = family(&[(2, 3), (3, 2)]);
        assert!(!climb(2, 7, |at| Ok(round.get(&at).copied())).unwrap());
        assert!(climb(2, 7, |_| Err(Errno::EMFILE.into())).is_err());
    }

    #[test]
    fn a_child_is_below_this_process_until_it_is_collected() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let own = std::process::id();
        assert!(is_below(child.id(), own).unwrap());
        assert!(!is_below(own, child.id()).unwrap());
        let mut everybody = Everybody::look().unwrap();
        assert_eq!(everybody.is_below(child.id(), own), Some(true));
        assert_eq!(everybody.is_below(own, own), Some(false));
        assert!(everybody.now().any(|stat| stat.number == child.id()));
        child.wait().unwrap();
        assert!(!is_below(child.id(), own).unwrap());
        let mut everybody = everybody.again().unwrap();
        assert_eq!(everybody.is_below(child.id(), own), None);
    }

    /// Processes with their parents and when they started.
    fn stats(of: &[(u32, u32, u64)]) -> HashMap<u32, Stat> {
        let comm = String::new();
        let stat = |&(number, parent, started)| {
            let none = (false, 0, 0);
            let (is_over, group, session) = none;
            (number, Stat { number, comm: comm.clone(), is_over, parent, group, session, started })
        };
        of.iter().map(stat).collect()
    }

    #[test]
    fn two_looks_tell_of_whoever_stayed_with_all_above() {
        let both = [(9, 8, 4), (8, 7, 3), (7, 5, 2), (5, 1, 1), (6, 5, 2), (1, 0, 0)];
        let mut everybody = Everybody::new(stats(&both), stats(&both));
        let expected = [(9, true), (8, true), (7, false), (6, false), (5, false), (1, false)];
        for (process, expected) in expected.into_iter().chain(expected) {
            assert_eq!(everybody.is_below(process, 7), Some(expected), "{process}");
        }
        assert_eq!(everybody.is_below(4, 7), None, "nobody");
    }

    #[test]
    fn two_looks_do_not_tell_of_whom_something_changed_above() {
        let before = stats(&[(9, 8, 4), (8, 7, 3), (20, 30, 4), (30, 1, 2), (40, 41, 4)]);
        // 8 was given away again, 30 is one of ours now, 40 was taken in by 8, and 50 is new.
        let now = stats(&[(9, 8, 4), (8, 7, 5), (20, 30, 4), (30, 7, 5), (40, 8, 4), (50, 8, 6)]);
        let mut everybody = Everybody::new(before, now);
        for process in [9, 8, 20, 30, 40, 41, 50] {
            assert_eq!(everybody.is_below(process, 7), None, "{process}");
        }
    }

    #[test]
    fn numbers_that_go_round_are_nobodys_family() {
        let round = [(2, 3, 1), (3, 2, 1)];
        assert_eq!(Everybody::new(stats(&round), stats(&round)).is_below(2, 7), None);
    }
}
