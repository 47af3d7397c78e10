//! A cgroup that has so much memory and no more, as containers and units have one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::needs;
use super::processes::eventually;
use super::run::Run;

/// How much there is.
const BYTES: u64 = 192 << 20;

/// The cgroup. Who drops it waits until nobody is in it.
#[derive(Debug)]
pub(crate) struct Narrow(PathBuf);

impl Narrow {
    /// Makes one.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (hierarchy, limits) = hierarchy().expect("the test needs it");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = hierarchy.join(format!("narrow-{}-{number}", std::process::id()));
        fs::create_dir(&folder).expect("root may");
        for (name, bytes) in limits {
            let done = fs::write(folder.join(name), bytes.to_string());
            // Nothing is swapped out where there is no swap, or it is not counted.
            assert!(done.is_ok() || name.contains("sw"), "{name}: {done:?}");
        }
        Self(folder)
    }

    /// Has a run begin in it.
    pub(crate) fn around<'a>(&self, run: Run<'a>) -> Run<'a> {
        let enter = "echo $$ >\"$0/cgroup.procs\"; exec \"$@\"";
        run.under(&["sh", "-c", enter, self.0.to_str().expect("our own name")])
    }

    /// How many of its processes were killed for want of memory.
    pub(crate) fn killed(&self) -> u64 {
        let told = ["memory.oom_control", "memory.events"].map(|name| self.0.join(name));
        let told = told.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let count = told.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).expect("the kernel counts them (Linux 4.13)")
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            eventually("nobody is in the cgroup", || fs::remove_dir(&self.0).is_ok());
        }
    }
}

/// Where such a cgroup can be made, and what bounds it: the first version's own hierarchy, or the second's
/// if that has the controller.
pub(super) fn hierarchy() -> Option<(PathBuf, [(&'static str, u64); 2])> {
    let first = Path::new("/sys/fs/cgroup/memory");
    if first.join("memory.limit_in_bytes").exists() {
        let limits = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
        return Some((first.to_owned(), limits.map(|name| (name, BYTES))));
    }
    let second = PathBuf::from(needs::cgroup2()?);
    let given = fs::read_to_string(second.join("cgroup.subtree_control")).unwrap_or_default();
    let has = given.split_ascii_whitespace().any(|controller| controller == "memory");
    has.then_some((second, [("memory.max", BYTES), ("memory.swap.max", 0)]))
}
