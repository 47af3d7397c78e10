//! Who started whom: the processes above the one that asks.
//!
//! *Standing*: jails ask while they find out whose a connection is. *Never*: goes beyond the session;
//! above its command there is only boundary itself.

use std::sync::Arc;

use nix::unistd::getppid;

use super::procfs;
use crate::audit::Parent;

/// How far up the record goes. A loop of numbers that are given away again ends here too.
const DEEPEST: usize = 16;

/// Who started a process, by the text of its `stat` (proc(5)), the nearest first.
pub(super) fn parents(stat: &str) -> Arc<[Parent]> {
    // Where this is the proxy, its own parent is the keeper, which started the command.
    climb(stat, getppid().as_raw().unsigned_abs(), stat_of)
}

/// Who started the process of this number, the nearest first.
pub(super) fn of(process: u32) -> Arc<[Parent]> {
    stat_of(process).map_or_else(|| Vec::new().into(), |stat| parents(&stat))
}

/// Who started a process, the nearest first, below another that started them all.
pub(super) fn below(process: u32, top: u32) -> Arc<[Parent]> {
    stat_of(process).map_or_else(|| Vec::new().into(), |stat| climb(&stat, top, stat_of))
}

/// The text of a process's `stat`, if it is there.
fn stat_of(process: u32) -> Option<String> {
    procfs::text(format!("/proc/{process}/stat")).ok()
}

/// Follows the parents up to `top`, which is not among them.
fn climb(stat: &str, top: u32, read: impl Fn(u32) -> Option<String>) -> Arc<[Parent]> {
    let mut chain = Vec::new();
    let mut above = parse(stat).map_or(0, |(_, above)| above);
    while above > 1 && above != top && chain.len() < DEEPEST {
        let Some(stat) = read(above) else { break };
        let Some((comm, next)) = parse(&stat) else { break };
        chain.push(Parent { pid: above, comm: comm.to_owned() });
        above = next;
    }
    chain.into()
}

/// A process's name and its parent. The name may hold spaces and parentheses.
fn parse(stat: &str) -> Option<(&str, u32)> {
    let (head, fields) = stat.rsplit_once(") ")?;
    let (_, comm) = head.split_once(" (")?;
    Some((comm, fields.split(' ').nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_ends_below_boundary() {
        let read = |pid| {
            let (name, above) = match pid {
                40 => ("npm) (x", 30),
                30 => ("bash", 20),
                _ => return None,
            };
            Some(format!("{pid} ({name}) S {above} 1 1"))
        };
        let chain = climb("50 (node) S 40 1 1", 20, read);
        let found: Vec<_> = chain.iter().map(|it| (it.pid, it.comm.as_str())).collect();
        assert_eq!(found, [(40, "npm) (x"), (30, "bash")]);
    }

    #[test]
    fn a_loop_of_numbers_ends() {
        let read = |pid: u32| Some(format!("{pid} (a) S {pid} 1 1"));
        assert_eq!(climb("9 (b) S 8 1 1", 2, read).len(), DEEPEST);
    }

    #[test]
    fn our_own_parent_is_the_top() {
        let own = procfs::text("/proc/self/stat").unwrap();
        assert!(parents(&own).is_empty());
    }
}
