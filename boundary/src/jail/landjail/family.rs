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
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::jail::procfs;

/// How long is waited between two looks, at most.
const LOOK: Duration = Duration::from_millis(2);

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
    let listed = procfs::text("/proc/thread-self/children").ok()?;
    listed.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

/// Whether nothing descends from this process but what is spared, and what descends from that, as far
/// as can be told without a look at every process. To be called by the thread that forks.
fn has_none_but(spared: &HashSet<u32>) -> bool {
    if spared.is_empty() {
        // Whatever signal it would end with, a child is one.
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        return waitpid(None, Some(flags)) == Err(Errno::ECHILD);
    }
    own_children().is_some_and(|children| children.is_subset(spared))
}

/// Kills everything below this process but what is `spared`, and collects it. False if something is
/// left after the given time.
pub(super) fn end(spared: &HashSet<u32>, at_most: Duration) -> bool {
    let deadline = Instant::now() + at_most;
    loop {
        if has_none_but(spared) {
            return true;
        }
        let others = descendants_but(std::process::id(), spared);
        let is_over = others.as_ref().is_ok_and(Vec::is_empty);
        // Stopped first: what forks faster than it is killed would never be gone.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for process in others.iter().flatten().filter_map(|&it| i32::try_from(it).ok()) {
                // It may have ended by now; its number is still its own, because we collect it.
                kill(Pid::from_raw(process), signal).unwrap_or_default();
            }
        }
        collect(spared);
        if is_over || Instant::now() > deadline {
            return is_over;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Collects what has ended. What is spared is somebody else's to collect.
fn collect(spared: &HashSet<u32>) {
    if spared.is_empty() {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|it| it != WaitStatus::StillAlive)
        {
        }
        return;
    }
    for process in zombies() {
        if !spared.contains(&process)
            && let Ok(process) = i32::try_from(process)
        {
            waitpid(Pid::from_raw(process), Some(WaitPidFlag::WNOHANG))
                .map(drop)
                .unwrap_or_default();
        }
    }
}

/// The children of this process that have ended.
fn zombies() -> Vec<u32> {
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
