//! Who descends from whom, certain of the numbers: a number may be another process's from one moment to
//! the next.
//!
//! *Standing*: [`signals`](super::signals) asks it of whoever is to be signalled. Whatever a command
//! starts descends from the usher, which takes in what is orphaned, and nothing else ever does.
//! *Never*: signals anybody.

use std::collections::HashMap;
use std::{fs, io};

use nix::errno::Errno;

use crate::jail::procfs;

/// How many processes one may have above it.
const DEEPEST: usize = 8192;

/// How often a look is taken again because somebody ended meanwhile.
const LOOKS: usize = 64;

/// Where a process stands among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kin {
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
}

impl Kin {
    /// That of a process or a thread; none if there is none of this number.
    pub(super) fn of(process: u32) -> io::Result<Option<Self>> {
        match procfs::text(format!("/proc/{process}/stat")) {
            Ok(stat) => Ok(Self::parse(&stat)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads it from the text of a process's `stat` (proc(5)). One that is not collected yet has its
    /// place still, and so has one whose first thread alone has ended.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(1);
        // What has none is told with a number below zero.
        let mut next = || fields.next()?.parse::<i64>().ok();
        let [parent, group, session] = [next()?, next()?, next()?];
        let [parent, group, session] =
            [parent, group, session].map(|number| u32::try_from(number).unwrap_or(0));
        Some(Self { parent, group, session })
    }
}

/// Whether an error says that there is no such process.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::ENOENT, Errno::ESRCH].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|number| gone.contains(&number))
}

/// Whether an error says that procfs hides the process from us (`hidepid=1`).
fn is_hidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Every process that can be seen, by its number.
pub(super) fn everybody() -> io::Result<HashMap<u32, Kin>> {
    let mut everybody = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number else { continue };
        match Kin::of(number) {
            Err(error) if !is_hidden(&error) => return Err(error),
            // It has ended, or procfs shows it to its own user alone.
            kin => drop(kin.ok().flatten().map(|kin| everybody.insert(number, kin))),
        }
    }
    Ok(everybody)
}

/// Whether a process, whose number is its own as long as this takes, descends from another one.
pub(super) fn is_below(process: u32, top: u32) -> io::Result<bool> {
    climb(process, top, |number| Ok(Kin::of(number)?.map(|kin| kin.parent)))
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

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
        assert!(everybody().unwrap().contains_key(&child.id()));
        child.wait().unwrap();
        assert!(!is_below(child.id(), own).unwrap());
    }

    #[test]
    fn a_place_is_read_behind_any_name() {
        let kin = Kin { parent: 7, group: 5, session: 4 };
        assert_eq!(Kin::parse("12 (a) b) Z 7 5 4 0 -1"), Some(kin));
        let none = Kin { parent: 0, group: 0, session: 0 };
        assert_eq!(Kin::parse("12 (a) X 0 -1 -1 0"), Some(none));
        assert_eq!(Kin::parse("12"), None);
    }
}
