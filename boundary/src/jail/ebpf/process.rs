//! A process as the record shows it, from what the kernel half noted.
//!
//! *Never*: names the executable of another process. A number that was given away again since is
//! recognised by when its process started, and by its folder, which is gone with it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use boundary_common::flow::{Flow, Task};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::unistd::{SysconfVar, sysconf};

use crate::audit::{Parent, Process};
use crate::jail::lineage;
use crate::jail::procfs::Stat;

/// How many processes are kept in mind, and a descriptor for each.
const MOST_KNOWN: usize = 16;

/// How long what was found of one holds: its parents may come to other names.
const LIFE: Duration = Duration::from_secs(1);

/// How long one is kept in mind that may have ended: its number is given away again some day.
const MEMORY: Duration = Duration::from_secs(5);

/// The processes that opened flows, or were refused something, of late. One that opens many is looked up
/// once in a while, and else only asked whether it is still itself.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: Mutex<VecDeque<Known>>,
}

impl Processes {
    /// The process that opened a flow.
    pub(super) fn of_flow(&self, flow: &Flow) -> Process {
        self.of_task(&flow.task, flow.time)
    }

    /// The process behind a task, as it was at a time since the machine started.
    pub(super) fn of_task(&self, task: &Task, time: u64) -> Process {
        let (pid, time) = (task.tgid, Duration::from_nanos(time));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.since.elapsed() < MEMORY);
        let is_it = |one: &&Known| one.pid == pid && one.since.elapsed() < LIFE && one.is(time);
        if let Some(one) = known.iter().find(is_it) {
            return described(task, one.exe.clone(), Arc::clone(&one.parents));
        }
        // Others need not wait for files of a process that may be about to end.
        drop(known);
        let Some(found) = Known::look_up(pid, time) else {
            return described(task, None, self.parents_of_gone(pid, time));
        };
        let process = described(task, found.exe.clone(), Arc::clone(&found.parents));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.pid != pid);
        if known.len() >= MOST_KNOWN {
            known.pop_front();
        }
        known.push_back(found);
        process
    }

    /// Who started a process that was known of late and has ended since: a refusal is read a while after
    /// it happened. What it ran at the end nobody can say any more.
    fn parents_of_gone(&self, pid: u32, time: Duration) -> Arc<[Parent]> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |one: &&Known| one.pid == pid && one.started <= time && one.is_gone();
        known.iter().find(is_meant).map_or_else(Arc::default, |one| Arc::clone(&one.parents))
    }
}

/// A task, and what was found of it.
fn described(task: &Task, exe: Option<PathBuf>, parents: Arc<[Parent]>) -> Process {
    let comm: [u8; 16] = zerocopy::transmute!(task.comm);
    let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Process {
        pid: task.tgid,
        uid: task.uid,
        comm: String::from_utf8_lossy(name).into_owned(),
        exe,
        cgroup: task.cgroup,
        room: 0,
        parents,
    }
}

/// A process that was looked up.
#[derive(Debug)]
struct Known {
    pid: u32,
    /// Its folder of proc(5): not that of the next one with the same number.
    folder: File,
    started: Duration,
    /// The executable, where it can be read.
    exe: Option<PathBuf>,
    parents: Arc<[Parent]>,
    since: Instant,
}

impl Known {
    /// A process that was there at that time, and is.
    fn look_up(pid: u32, time: Duration) -> Option<Self> {
        let path = format!("/proc/{pid}");
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let folder = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path).ok()?;
        let exe = executable(&folder).ok().flatten();
        // Asked last: if the process of that time is still there now, the link was its own.
        let stat = Stat::of(pid).ok()??;
        let started = started(&stat).filter(|started| *started <= time)?;
        let (parents, since) = (lineage::parents(&stat), Instant::now());
        Some(Self { pid, folder, started, exe, parents, since })
    }

    /// Whether it is the process of that time still, and what it runs is the same.
    fn is(&self, time: Duration) -> bool {
        self.started <= time && executable(&self.folder).is_ok_and(|exe| exe == self.exe)
    }

    /// Whether it has ended.
    fn is_gone(&self) -> bool {
        executable(&self.folder).is_err()
    }
}

/// What a process runs; nothing where that is not for us to know. An error where it is gone.
fn executable(folder: &File) -> Result<Option<PathBuf>, Errno> {
    match readlinkat(folder, "exe") {
        Ok(path) => Ok(Some(OsString::into(path))),
        Err(Errno::EACCES | Errno::EPERM) => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a process started, since the machine did.
fn started(stat: &Stat) -> Option<Duration> {
    let a_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    Some(Duration::from_nanos(stat.started.checked_mul(1_000_000_000)?.checked_div(a_second)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn the_executable_is_that_of_a_process_older_than_the_flow() {
        let own = std::process::id();
        let now = fs::read_to_string("/proc/uptime").unwrap();
        let now: f64 = now.split(' ').next().unwrap().parse().unwrap();
        let found = Known::look_up(own, Duration::from_secs_f64(now)).and_then(|one| one.exe);
        assert_eq!(found, std::env::current_exe().ok());
        assert!(Known::look_up(own, Duration::ZERO).is_none());
    }

    #[test]
    fn what_a_known_process_runs_is_asked_anew_and_nothing_when_it_has_ended() {
        let script = "read go && exec sleep 600";
        let mut shell = Command::new("/bin/sh");
        let mut child =
            shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let task = Task { cgroup: 9, tgid: child.id(), uid: 7, comm: [0; 4] };
        let flow = Flow { task, time: u64::MAX, ..FromZeros::new_zeroed() };
        let processes = Processes::default();
        let program = |of: &Processes| {
            let exe = of.of_flow(&flow).exe?;
            Some(exe.file_name()?.to_string_lossy().into_owned())
        };
        // `spawn` returns when the shell runs.
        let before = program(&processes);
        assert!(before.is_some() && before == program(&processes));
        let parents = processes.of_flow(&flow).parents;
        assert_eq!(parents.first().map(|it| it.pid), Some(std::process::id()));
        writeln!(child.stdin.take().unwrap()).unwrap();
        let until = Instant::now() + Duration::from_mins(1);
        while program(&processes) == before {
            assert!(Instant::now() < until, "still {before:?}");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(program(&processes), None);
        // Who started it is no other for that: a refusal may be read when it has gone.
        assert_eq!(processes.of_flow(&flow).parents, parents);
    }

    #[test]
    fn a_process_that_began_after_a_flow_did_not_open_it() {
        let task = Task { cgroup: 9, tgid: std::process::id(), uid: 7, comm: [0; 4] };
        let flow = |time| Flow { task, time, ..FromZeros::new_zeroed() };
        let processes = Processes::default();
        assert!(processes.of_flow(&flow(u64::MAX)).exe.is_some());
        assert_eq!(processes.of_flow(&flow(0)).exe, None);
    }

    #[test]
    fn a_name_ends_at_the_first_nul() {
        let comm = zerocopy::transmute!(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        let mut task = Task { cgroup: 9, tgid: u32::MAX, uid: 7, comm };
        let of_task = |task: Task| Processes::default().of_task(&task, 0);
        let process = of_task(task);
        assert_eq!((process.comm.as_str(), process.uid, process.exe), ("curl", 7, None));
        task.comm = zerocopy::transmute!(*b"sixteen letters!");
        assert_eq!(of_task(task).comm, "sixteen letters!");
    }
}
