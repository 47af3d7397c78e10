//! What a proxy's processes hold and spend: memory, descriptors and processor time, as the kernel
//! counts them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What a group of processes holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Memory now, each page divided among those who share it, in KiB.
    pub(super) now: u64,
    /// The most that was resident since it was last forgotten, in KiB; of pages that several share
    /// the part that each has of them now.
    pub(super) peak: u64,
    /// Open descriptors.
    pub(super) descriptors: usize,
}

/// What a process and those below it hold, loads left out.
pub(super) fn usage(root: u32) -> Result<Usage> {
    let mut sum = Usage::default();
    for pid in family(root)? {
        let folder = format!("/proc/{pid}");
        // One that ended in between holds nothing.
        let Ok(now) = fs::read_to_string(format!("{folder}/smaps_rollup")) else { continue };
        let status = fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
        let own = kibibytes(&now, "Pss:");
        // What it shares is resident in each that shares it, and there only once.
        let counted_elsewhere = kibibytes(&now, "Rss:").saturating_sub(own);
        sum.now += own;
        sum.peak += kibibytes(&status, "VmHWM:").saturating_sub(counted_elsewhere);
        sum.descriptors += fs::read_dir(format!("{folder}/fd")).map_or(0, Iterator::count);
    }
    Ok(sum)
}

/// Processor time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// Of everything.
    pub(super) all: Duration,
    /// Of the threads that write the record down.
    pub(super) writers: Duration,
}

/// What those threads are called.
const WRITERS: [&str; 4] = ["agent", "log", "otlp", "records"];

/// The processor time of a process and those below it so far, threads that have ended left out.
pub(super) fn spent(root: u32) -> Result<Spent> {
    let mut sum = Spent::default();
    for pid in family(root)? {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let read = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let nanos =
                read("schedstat").split(' ').next().and_then(|number| number.parse::<u64>().ok());
            let spent = Duration::from_nanos(nanos.unwrap_or(0));
            sum.all += spent;
            if WRITERS.contains(&read("comm").trim_end()) {
                sum.writers += spent;
            }
        }
    }
    Ok(sum)
}

/// Forgets the most that a process and those below it had.
pub(super) fn forget_peak(root: u32) -> Result<()> {
    for pid in family(root)? {
        // proc(5): 5 resets the peak. One that ended in between has none.
        drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
    }
    Ok(())
}

/// A process and those below it, but our own program.
fn family(root: u32) -> Result<BTreeSet<u32>> {
    let own = std::env::current_exe().context("our own program")?;
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        parents.extend(parent(pid).map(|parent| (pid, parent)));
    }
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        let below = parents.iter().filter(|(_, up)| family.contains(up));
        let below: Vec<u32> = below.map(|(pid, _)| *pid).collect();
        family.extend(below);
        if family.len() == before {
            break;
        }
    }
    family.retain(|pid| *pid == root || !is_load(*pid, &own));
    Ok(family)
}

/// Whether a process is a load.
fn is_load(pid: u32, own: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == own)
}

/// The parent of a process: the second field behind its name.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}

/// A value of a file of the kernel's, in KiB.
fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
