//! Who started whom: the processes above the one that asks.
//!
//! *Standing*: jails ask while they find out whose a connection is. *Never*: goes beyond the session;
//! above its command there is only boundary itself.

use std::sync::Arc;

use nix::unistd::getppid;

use super::procfs::Stat;
use crate::audit::Parent;

/// How far up the record goes. A loop of numbers that are given away again ends here too.
const DEEPEST: usize = 16;

/// How often the way up is gone again because somebody on it ended meanwhile.
const LOOKS: usize = 4;

/// Who started a process, the nearest first.
pub(super) fn parents(stat: &Stat) -> Arc<[Parent]> {
    // Where this is the proxy, its own parent is the keeper, which started the command.
    climb(stat, getppid().as_raw().unsigned_abs(), look)
}

/// Who started the process of this number, the nearest first.
pub(super) fn of(process: u32) -> Arc<[Parent]> {
    look(process).map_or_else(Arc::default, |stat| parents(&stat))
}

/// Who started a process, the nearest first, below another that started them all.
pub(super) fn below(process: u32, top: u32) -> Arc<[Parent]> {
    look(process).map_or_else(Arc::default, |stat| climb(&stat, top, look))
}

/// Where a process stands, if it is there.
fn look(process: u32) -> Option<Stat> {
    Stat::of(process).ok().flatten()
}

/// Follows the parents up to `top`, which is not among them. Nobody is told who does not descend from
/// it: a number on the way was somebody else's by then.
fn climb(stat: &Stat, top: u32, look: impl Fn(u32) -> Option<Stat>) -> Arc<[Parent]> {
    let mut below = stat.parent;
    for _ in 0..LOOKS {
        if let Some(chain) = chain(below, top, &look) {
            return chain.into();
        }
        // Whoever loses its parent descends from another.
        let Some(again) = look(stat.number).filter(|again| again.started == stat.started) else {
            break;
        };
        below = again.parent;
    }
    Arc::default()
}

/// A process and who is above it, up to `top`, or as many as are told; none if the way does not lead
/// there.
fn chain(mut above: u32, top: u32, look: impl Fn(u32) -> Option<Stat>) -> Option<Vec<Parent>> {
    let mut chain = Vec::new();
    while above != top && chain.len() < DEEPEST {
        // Who started the first of all is not known in its own namespace.
        let stat = look(above).filter(|_| above > 1)?;
        chain.push(Parent { pid: above, comm: stat.comm });
        above = stat.parent;
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A process of this number, name and parent.
    fn stat(number: u32, comm: &str, parent: u32) -> Stat {
        let comm = comm.to_owned();
        Stat { number, comm, is_over: false, parent, group: 1, session: 1, started: 9 }
    }

    fn found(chain: &[Parent]) -> Vec<(u32, &str)> {
        chain.iter().map(|it| (it.pid, it.comm.as_str())).collect()
    }

    #[test]
    fn the_chain_ends_below_boundary() {
        let look = |pid| match pid {
            40 => Some(stat(40, "npm) (x", 30)),
            30 => Some(stat(30, "bash", 20)),
            _ => None,
        };
        let chain = climb(&stat(50, "node", 40), 20, look);
        assert_eq!(found(&chain), [(40, "npm) (x"), (30, "bash")]);
    }

    #[test]
    fn a_loop_of_numbers_ends() {
        let look = |pid: u32| Some(stat(pid, "a", pid));
        assert_eq!(climb(&stat(9, "b", 8), 2, look).len(), DEEPEST);
    }

    #[test]
    fn strangers_are_not_told() {
        // The number above is somebody's whom boundary did not start.
        let look =
            |pid| [stat(8, "sshd", 7), stat(7, "init", 1)].into_iter().find(|it| it.number == pid);
        assert!(climb(&stat(9, "b", 8), 2, look).is_empty());
        assert!(climb(&stat(9, "b", 1), 2, look).is_empty());
        assert!(climb(&stat(9, "b", 0), 2, look).is_empty());
    }

    #[test]
    fn the_first_of_all_may_be_boundary() {
        let look = |pid| (pid == 8).then(|| stat(8, "sh", 1));
        assert_eq!(found(&climb(&stat(9, "b", 8), 1, look)), [(8, "sh")]);
    }

    #[test]
    fn one_whose_parent_ends_meanwhile_is_found_where_it_was_taken_in() {
        let (ended, looks) = (stat(9, "b", 8), Cell::new(0));
        let look = |pid| {
            looks.set(looks.get() + 1);
            [stat(9, "b", 7), stat(7, "sh", 2)].into_iter().find(|it| it.number == pid)
        };
        assert_eq!(found(&climb(&ended, 2, look)), [(7, "sh")]);
        let another = |pid| look(pid).map(|it| Stat { started: 10, ..it });
        assert!(climb(&ended, 2, another).is_empty(), "its own number was given away");
    }

    #[test]
    fn our_own_parent_is_the_top() {
        assert!(parents(&look(std::process::id()).unwrap()).is_empty());
    }
}
