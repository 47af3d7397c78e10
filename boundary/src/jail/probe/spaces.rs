//! The namespaces of `nsjail`, made step by step as the jail makes them.

use nix::sched::{CloneFlags, unshare};

use super::steps::{Over, Steps, try_out};
use super::{Found, Primitive, Row, way_in};
use crate::jail::Choice;
use crate::jail::child::Identity;
use crate::jail::landjail;
use crate::jail::nsjail::trial;

const NSJAIL: &[Choice] = &[Choice::Nsjail];

/// A primitive that this jail is made of.
const fn needed(name: &'static str, needs: &'static str) -> Primitive {
    Primitive { name, jails: NSJAIL, is_optional: false, needs }
}

/// The steps, in order.
const STEPS: [Primitive; 13] = [
    needed("user namespace", "user namespaces (CONFIG_USER_NS)"),
    needed("ids in it", ""),
    needed("network and ipc namespace", "CONFIG_NET_NS and CONFIG_IPC_NS"),
    needed("routes on lo", ""),
    Primitive { is_optional: true, ..needed("transparent listener", "") },
    needed(
        "packet filter (nf_tables)",
        "nf_tables and nft_log, with nft_tproxy and nft_socket, or with nft_redir",
    ),
    needed("packet log (nfnetlink_log)", "nfnetlink_log"),
    needed("list of sockets (sock_diag)", "tcp_diag, udp_diag and inet_diag"),
    way_in::SHARE.of(NSJAIL),
    way_in::READ.of(NSJAIL),
    way_in::PROCESSES.of(NSJAIL),
    way_in::MOUNTS.of(NSJAIL),
    way_in::PROCFS.of(NSJAIL),
];

/// What came of each.
pub(super) fn rows(identity: &Identity) -> Vec<Row> {
    try_out(&STEPS, |steps| make(identity, steps), |pid| trial::map_ids(pid, identity))
}

fn make(identity: &Identity, steps: &mut Steps) -> Result<(), Over> {
    if trial::become_user(identity).is_err() {
        return Err(Over);
    }
    steps.tell(unshare(CloneFlags::CLONE_NEWUSER))?;
    steps.ask()?;
    steps.tell(unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC))?;
    for (step, is_optional) in trial::NETWORK {
        match steps.tell(step()) {
            Err(Over) if !is_optional => return Err(Over),
            Ok(()) | Err(Over) => {}
        }
    }
    way_in::enter(steps)
}

/// Whether the jail that needs nothing can be had: whether a call can be answered for another.
pub(super) fn landjail() -> Row {
    let primitive = Primitive {
        name: "system calls answered for another (seccomp)",
        jails: &[Choice::Landjail],
        is_optional: false,
        needs: "Linux 5.9",
    };
    let found = match landjail::probe() {
        Ok(()) => Found::Yes(String::new()),
        Err(lacking) => Found::Failed(lacking.to_string()),
    };
    Row::new(primitive, found)
}
