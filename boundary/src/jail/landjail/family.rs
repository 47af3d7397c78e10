//! The processes that descend from one, and their end.
//!
//! The usher and the keeper take in what is orphaned below them, so that whatever a command starts,
//! and however it lets go of it, descends from them still.
//!
//! *Never*: signals a process that does not descend from the caller.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::Pid;

use crate::jail::procfs;
use crate::sys::process;

/// How long is waited between two looks, at most.
const LOOK: Duration = Duration::from_millis(2);

/// How often the children are killed between two looks at everybody: a process that starts another one and
/// ends at once is not there for longer than reading their numbers takes.
const STRIKES: usize = 200;

/// How many looks in a row find nobody where nobody is.
const ENOUGH_LOOKS: usize = 8;

/// Every process that descends from one, as far as they can be seen.
pub(super) fn descendants(of: u32) -> Vec<u32> {
    all_descendants(of).unwrap_or_default()
}

/// Every process that descends from one; an error where some may be missing.
pub(super) fn all_descendants(of: u32) -> io::Result<Vec<u32>> {
    descendants_but(of, &HashSet::new())
}

/// The same without some, and without what descends from those.
fn descendants_but(of: u32, spared: &HashSet<u32>) -> io::Result<Vec<u32>> {
    let mut children = all_children()?;
    let (mut found, mut next) = (Vec::new(), vec![of]);
    while let Some(process) = next.pop() {
        let mut below = children.remove(&process).unwrap_or_default();
        below.retain(|child| !spared.contains(child));
        found.extend(&below);
        next.extend(below);
    }
    Ok(found)
}

/// The children of every process that has some.
fn all_children() -> io::Result<HashMap<u32, Vec<u32>>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for stat in procfs::everybody()?.into_values().filter(|stat| !stat.is_over) {
        children.entry(stat.parent).or_default().push(stat.number);
    }
    Ok(children)
}

/// All that descends from this process, which has one thread: what is there before the command is.
pub(super) fn bystanders() -> HashSet<u32> {
    let listed = own_children().and_then(with_descendants);
    listed.unwrap_or_else(|| descendants(std::process::id()).into_iter().collect())
}

/// Processes, and what descends from them, if the kernel lists it.
fn with_descendants(processes: HashSet<u32>) -> Option<HashSet<u32>> {
    let (mut found, mut next) = (HashSet::new(), Vec::from_iter(processes));
    while let Some(process) = next.pop() {
        found.insert(process);
        // One that has ended meanwhile has no tasks.
        for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten() {
            let listed = procfs::text(task.ok()?.path().join("children")).unwrap_or_default();
            for child in listed.split_ascii_whitespace() {
                next.push(child.parse().ok()?);
            }
        }
    }
    Some(found)
}

/// The children of this thread, if the kernel lists them (`CONFIG_PROC_CHILDREN`), those that are to
/// be collected among them.
///
/// The list may pass over one where another is collected while it is read; that is for this thread to
/// do, which reads.
fn own_children() -> Option<HashSet<u32>> {
    children_in("/proc/thread-self/children")
}

/// The children of this process's first thread, to which orphans come, if the kernel lists them.
pub(super) fn adopted() -> HashSet<u32> {
    let first = std::process::id();
    children_in(&format!("/proc/self/task/{first}/children")).unwrap_or_default()
}

/// The numbers in a list of children.
fn children_in(list: &str) -> Option<HashSet<u32>> {
    let listed = procfs::text(list).ok()?;
    listed.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

/// Whether nothing descends from this process but what is spared, and what descends from that, as far
/// as can be told without a look at every process. To be called by the thread that forks.
fn has_none_but(spared: &HashSet<u32>) -> bool {
    if spared.is_empty() {
        // Whatever signal it would end with, a child is one.
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        return process::collect(None, flags) == Err(Errno::ECHILD);
    }
    own_children().is_some_and(|children| children.is_subset(spared))
}

/// Kills everything below this process but what is `spared`, and collects it. False if something is
/// left after the given time. To be called by the thread that forks.
///
/// A look at everybody takes a while, in which a process may have started another and ended: that nobody
/// was found does not show that nobody is there, and that there is no child does. Whoever hides from such
/// a look (`hidepid`), or is faster, is a child of this process as soon as its parent has ended.
pub(super) fn end(spared: &HashSet<u32>, at_most: Duration) -> bool {
    let deadline = Instant::now() + at_most;
    let mut looks_in_vain = 0;
    while !has_none_but(spared) {
        let others = descendants_but(std::process::id(), spared);
        // Stopped first: what forks faster than it is killed would never be gone.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            others.iter().flatten().for_each(|process| send(*process, signal));
        }
        collect(spared);
        looks_in_vain =
            if others.is_ok_and(|others| others.is_empty()) { looks_in_vain + 1 } else { 0 };
        let has_children = strike(spared);
        // Where the kernel lists no children, and some are spared, there is nothing better.
        if has_children.is_none() && !spared.is_empty() && looks_in_vain >= ENOUGH_LOOKS {
            return true;
        }
        if Instant::now() > deadline {
            return has_none_but(spared);
        }
        if has_children != Some(false) {
            std::thread::park_timeout(LOOK);
        }
    }
    true
}

/// Kills the children of this thread but what is spared, again and again for a moment. Whether there are
/// some then; none if the kernel does not list them.
fn strike(spared: &HashSet<u32>) -> Option<bool> {
    for _ in 0..STRIKES {
        let children = own_children()?;
        let mut others = children.difference(spared).peekable();
        if others.peek().is_none() {
            return Some(false);
        }
        others.for_each(|process| send(*process, Signal::SIGKILL));
        collect(spared);
    }
    Some(true)
}

/// Signals a process below this one.
fn send(process: u32, signal: Signal) {
    if let Ok(process) = i32::try_from(process) {
        // It may have ended by now. A child's number is still its own, because we collect it; another's
        // was given away again only if all the others were meanwhile.
        kill(Pid::from_raw(process), signal).unwrap_or_default();
    }
}

/// Collects what has ended. What is spared is somebody else's to collect.
fn collect(spared: &HashSet<u32>) {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    if spared.is_empty() {
        while let Ok(Some(_)) = process::collect(None, flags) {}
        return;
    }
    let children = own_children().unwrap_or_else(zombies);
    for process in children.difference(spared).filter_map(|&it| i32::try_from(it).ok()) {
        process::collect(Some(Pid::from_raw(process)), flags).map(drop).unwrap_or_default();
    }
}

/// The children of this process that have ended.
fn zombies() -> HashSet<u32> {
    let own = std::process::id();
    let everybody = procfs::everybody().unwrap_or_default();
    let over = everybody.into_values().filter(|stat| stat.is_over && stat.parent == own);
    over.map(|stat| stat.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_descends_from_its_parent_and_a_parent_not_from_its_child() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(descendants(own).contains(&child.id()));
        assert!(!descendants(child.id()).contains(&own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants(own).contains(&child.id()));
    }

    #[test]
    fn a_child_that_is_not_spared_is_seen_and_one_that_is_stays() {
        let start = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (mut kept, mut other) = (start(), start());
        let spared = HashSet::from([kept.id()]);
        assert!(!has_none_but(&spared));
        let bystanders = bystanders();
        assert!(bystanders.contains(&kept.id()) && bystanders.contains(&other.id()));
        let below = descendants_but(std::process::id(), &spared).unwrap();
        assert!(below.contains(&other.id()) && !below.contains(&kept.id()));
        other.kill().unwrap();
        other.wait().unwrap();
        // Where the kernel does not list children it cannot be told at a glance.
        assert_eq!(has_none_but(&spared), own_children().is_some());
        kept.kill().unwrap();
        kept.wait().unwrap();
    }
}
