//! The jail of a session: the one that was asked for, or the first that can be raised in full.
//!
//! *Standing*: [`run`](super::run) calls [`raise`] before anything else of the session exists.
//! *Never*: raises less than was asked. A jail that was named and cannot be raised is an error.

use std::os::unix::net::UnixStream;

use super::Error;
use super::janitor::{Janitor, Remains};
use crate::config::Config;
use crate::jail::child::Identity;
use crate::jail::{self, Choice, Walls, nsjail};
use crate::proxy::Doors;

/// A jail that stands, with nobody in it yet.
pub(super) struct Raised {
    /// The first process of the command's pid namespace.
    pub(super) janitor: Janitor,
    /// A line that ends when the usher does.
    pub(super) alarm: UnixStream,
    /// Where what is turned arrives.
    pub(super) doors: Doors,
    /// What turns it.
    pub(super) walls: Walls,
}

/// Raises the jail that was asked for. `auto` says which one stands, and why not an earlier one.
pub(super) fn raise(
    config: &Config,
    remains: &Remains,
    identity: &Identity,
) -> Result<Raised, Error> {
    match config.jail {
        Choice::Ebpf => of_ebpf(config, remains),
        Choice::Nsjail => of_nsjail(config, remains, identity),
        Choice::Landjail => Err(jail::Error::Unavailable(config.jail).into()),
        Choice::Auto => match of_ebpf(config, remains) {
            // What the kernel refuses is no mistake of the user's; a port that is taken is.
            Err(error @ (Error::Call(_) | Error::Walls(_))) => {
                tracing::info!(%error, "jail ebpf cannot be raised here: taking nsjail");
                of_nsjail(config, remains, identity)
            }
            raised => raised,
        },
    }
}

fn of_ebpf(config: &Config, remains: &Remains) -> Result<Raised, Error> {
    let (janitor, alarm) = Janitor::start(remains)?;
    let doors = Doors::bind(config.proxy_port)?;
    let walls = Walls::of_ebpf(&remains.cgroup, &doors)?;
    Ok(Raised { janitor, alarm, doors, walls })
}

fn of_nsjail(config: &Config, remains: &Remains, identity: &Identity) -> Result<Raised, Error> {
    if !config.unix_sockets.is_empty() {
        return Err(jail::Error::Nsjail(nsjail::Error::UnixSockets).into());
    }
    let (janitor, alarm, walls, doors) = Janitor::start_in_namespaces(remains, |init| {
        nsjail::Walls::raise(identity, config.proxy_port, init)
    })
    .map_err(jail::Error::Nsjail)?;
    Ok(Raised { janitor, alarm, doors, walls: Walls::Nsjail(walls) })
}
