//! Who lives in the host: every process in its network namespace, found from outside.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::World;
use super::container::Container;

/// How long a thing that the kernel does in its own time may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// One process of the host.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Its id, outside any pid namespace.
    pub(crate) pid: Pid,
    /// What it executes.
    pub(crate) exe: PathBuf,
    /// Its state, as `S` or `T`.
    pub(crate) state: char,
}

impl Process {
    /// Its number as boundary's record has it: where boundary is in a container, in there.
    pub(crate) fn number(&self) -> i32 {
        let depth = usize::from(Container::of_runs().is_some());
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let number = numbers.and_then(|all| all.split_whitespace().nth(depth)?.parse().ok());
        number.expect("it is there, in its namespace")
    }

    /// Whether it is boundary itself.
    pub(crate) fn is_boundary(&self) -> bool {
        self.exe.file_name().is_some_and(|name| name == "boundary")
    }
}

impl World {
    /// Every process in the host's network namespace that has a thread alive, what descends from one of
    /// them into another namespace, and what executes a file of this world.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let Ok(own) = fs::read_link(self.host().netns()) else { return Vec::new() };
        let entries = fs::read_dir("/proc").expect("procfs is mounted").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let all: Vec<(Process, i32, bool)> = pids
            .filter_map(|pid| {
                let folder = alive(pid)?;
                let netns = fs::read_link(folder.join("ns/net")).ok()?;
                // A process names itself with any bytes.
                let stat = fs::read(folder.join("stat")).ok()?;
                let stat = String::from_utf8_lossy(&stat);
                let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
                let state = fields.next()?.chars().next()?;
                let parent: i32 = fields.next()?.parse().ok()?;
                let exe = fs::read_link(folder.join("exe")).ok()?;
                let is_ours = netns == own || exe.starts_with(self.folder());
                Some((Process { pid: Pid::from_raw(pid), exe, state }, parent, is_ours))
            })
            .collect();
        // Numbers begin anew, so that a child's may be less than its parent's.
        let mut family = BTreeSet::new();
        let mut before = None;
        while before != Some(family.len()) {
            before = Some(family.len());
            let members =
                all.iter().filter(|(_, parent, is_ours)| *is_ours || family.contains(parent));
            family = members.map(|(process, ..)| process.pid.as_raw()).collect();
        }
        let is_member = |process: &Process| family.contains(&process.pid.as_raw());
        all.into_iter().map(|(process, ..)| process).filter(is_member).collect()
    }

    /// Every TCP socket that listens in the host, with its inode.
    pub(crate) fn listeners(&self) -> Vec<(SocketAddr, u64)> {
        let tables = self.host().netns().trim_end_matches("/ns/net").to_owned() + "/net";
        let read = |name: &str| fs::read_to_string(format!("{tables}/{name}")).unwrap_or_default();
        let text = read("tcp") + &read("tcp6");
        text.lines().filter_map(listener).collect()
    }

    /// The one process of the host that executes a file of this name, once it is there.
    pub(crate) fn process(&self, name: &str) -> Process {
        let found = || {
            let mut all = self.processes().into_iter();
            all.find(|process| process.exe.file_name().is_some_and(|exe| exe == name))
        };
        // What is seen once need not be seen the next time.
        let seen = RefCell::new(None);
        eventually(&format!("{name} runs"), || {
            *seen.borrow_mut() = found();
            seen.borrow().is_some()
        });
        seen.into_inner().expect("it was waited for")
    }
}

/// Where procfs tells of a process: by the first of its threads that has not ended, which need not be
/// the one that it is called by. Nothing where none is left.
fn alive(pid: i32) -> Option<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let mut folders = threads.map(|thread| thread.path());
    folders.find(|folder| {
        let stat = fs::read(folder.join("stat")).unwrap_or_default();
        let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
        state.is_some_and(|state| !b"ZX".contains(state))
    })
}

/// The address and the inode of a line of `/proc/net/tcp` or `tcp6`, if it tells of a listener.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    const LISTENS: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let inode = (fields.nth(1)? == LISTENS).then(|| fields.nth(5)?.parse().ok())??;
    // Words of the machine's own byte order.
    let word = |place: usize| {
        let digits = address.get(place * 8..place * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let words: Vec<u8> = (0..4).map_while(word).flatten().collect();
    let ip = match <[u8; 4]>::try_from(words.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(words.as_slice()).ok()?),
    };
    Some((SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), inode))
}

/// Waits until something is so that announces itself by no event. Panics when it never is.
#[track_caller]
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never so: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
