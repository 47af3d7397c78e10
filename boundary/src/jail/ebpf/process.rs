//! A process as the record shows it, from what the kernel half noted.
//!
//! *Never*: names the executable of another process. A number that was given away again since is
//! recognised by when its process started.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boundary_common::flow::{Flow, Task};
use nix::unistd::{SysconfVar, sysconf};

use crate::audit::{Parent, Process};
use crate::jail::lineage;

/// The process that opened a flow.
pub(super) fn of_flow(flow: &Flow) -> Process {
    of_task(&flow.task, flow.time)
}

/// The process behind a task, as it was at a time since the machine started.
pub(super) fn of_task(task: &Task, time: u64) -> Process {
    let comm: [u8; 16] = zerocopy::transmute!(task.comm);
    let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    let (exe, parents) = looked_up(task.tgid, Duration::from_nanos(time)).unwrap_or_default();
    Process {
        pid: task.tgid,
        uid: task.uid,
        comm: String::from_utf8_lossy(name).into_owned(),
        exe,
        cgroup: task.cgroup,
        parents,
    }
}

/// The executable, where it can be read, and the parents of a process that was there at that time.
fn looked_up(pid: u32, time: Duration) -> Option<(Option<PathBuf>, Arc<[Parent]>)> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok();
    // Asked last: if the process of that time is still there now, the link was its own.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (started(&stat)? <= time).then(|| (path, lineage::parents(&stat)))
}

/// When a process started, by the text of its `stat` (proc(5)): the 22nd field, in clock ticks
/// since the machine started. The second field may hold spaces and parentheses.
fn started(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(19)?.parse().ok()?;
    let a_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    Some(Duration::from_nanos(ticks.checked_mul(1_000_000_000)?.checked_div(a_second)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4200 1 1";
        let a_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).unwrap().unwrap()).unwrap();
        let expected = Duration::from_nanos(4200 * 1_000_000_000 / a_second);
        assert_eq!(started(stat), Some(expected));
    }

    #[test]
    fn the_executable_is_that_of_a_process_older_than_the_flow() {
        let own = std::process::id();
        let now = fs::read_to_string("/proc/uptime").unwrap();
        let now: f64 = now.split(' ').next().unwrap().parse().unwrap();
        let found = looked_up(own, Duration::from_secs_f64(now)).and_then(|(exe, _)| exe);
        assert_eq!(found, std::env::current_exe().ok());
        assert_eq!(looked_up(own, Duration::ZERO), None);
    }

    #[test]
    fn a_name_ends_at_the_first_nul() {
        let comm = zerocopy::transmute!(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        let mut task = Task { cgroup: 9, tgid: u32::MAX, uid: 7, comm };
        let process = of_task(&task, 0);
        assert_eq!((process.comm.as_str(), process.uid, process.exe), ("curl", 7, None));
        task.comm = zerocopy::transmute!(*b"sixteen letters!");
        assert_eq!(of_task(&task, 0).comm, "sixteen letters!");
    }
}
