//! Who holds a pipe open: found from outside when a run's output does not end.
//!
//! *Standing*: a [`Session`](super::run::Session) notes its pipes when it starts, and asks here when one is
//! still open long after its end. *Never*: fails because of what has just ended.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};

/// The pipes of a run.
#[derive(Debug, Default)]
pub(super) struct Pipes(Vec<PathBuf>);

impl Pipes {
    /// Notes one.
    pub(super) fn note(&mut self, end: &impl AsFd) {
        let own = format!("/proc/self/fd/{}", end.as_fd().as_raw_fd());
        self.0.push(fs::read_link(own).expect("procfs is mounted"));
    }

    /// Every other process that has one of them open: who it is, and what it waits for.
    pub(super) fn holders(&self) -> String {
        let own = std::process::id();
        let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let is_other = |path: &PathBuf| number(path).is_some_and(|number| number != own);
        let mut told = String::new();
        for process in entries(Path::new("/proc")).into_iter().filter(is_other) {
            let open = entries(&process.join("fd"));
            let held = open.iter().filter(|fd| {
                let leads = fs::read_link(fd).unwrap_or_default();
                self.0.contains(&leads)
            });
            let held: Vec<String> = held.map(|fd| fd.display().to_string()).collect();
            if !held.is_empty() {
                writeln!(told, "{}{}", held.join(" "), scene(&process)).expect("a string");
            }
        }
        told
    }
}

/// What the kernel tells of a process and of each of its threads.
fn scene(process: &Path) -> String {
    let mut told = String::new();
    for thread in entries(&process.join("task")) {
        for name in ["status", "syscall", "wchan", "stack"] {
            let text = fs::read_to_string(thread.join(name)).unwrap_or_default();
            let lines = text.lines().filter(|line| name != "status" || says_who(line));
            lines.for_each(|line| write!(told, "\n  {name}: {line}").expect("a string"));
        }
    }
    told
}

/// Whether a line of a process's status says who it is and what becomes of it.
fn says_who(line: &str) -> bool {
    let fields = ["Name:", "State:", "Pid:", "PPid:", "NSpid:", "SigPnd:", "ShdPnd:", "voluntary"];
    fields.iter().any(|field| line.starts_with(field))
}

/// What is in a folder that may be gone.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
