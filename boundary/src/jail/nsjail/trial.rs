//! The steps by which the namespaces get their network, each by itself, to be tried.
//!
//! *Standing*: `jail::probe` calls them in namespaces that end with it. *Never*: another way than
//! the jail's own.

use std::net::SocketAddr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::namespaces;
use super::network::{self, Way};
use crate::jail::child::Identity;
use crate::sys::errno_of;

/// A step of the network.
pub(in crate::jail) type Step = fn() -> Result<(), Errno>;

/// The steps of the network, in order, with whether there is a way without each.
pub(in crate::jail) const NETWORK: [(Step, bool); 5] =
    [(route, false), (listen, true), (filter, false), (log, false), (list, false)];

/// Becomes the user, where root was lent by sudo.
pub(in crate::jail) fn become_user(identity: &Identity) -> Result<(), Errno> {
    namespaces::become_user(identity).map_err(|call| errno_of(&call.source, Errno::UnknownErrno))
}

/// Maps ids into the user namespace of a process.
pub(in crate::jail) fn map_ids(process: Pid, identity: &Identity) -> Result<(), Errno> {
    namespaces::write_maps(process, identity)
        .map_err(|call| errno_of(&call.source, Errno::UnknownErrno))
}

fn route() -> Result<(), Errno> {
    network::route(&network::families()).map_err(|error| errno_of(&error, Errno::UnknownErrno))
}

fn listen() -> Result<(), Errno> {
    for family in network::families() {
        network::listener(Way::Transparent, family, 0)
            .map_err(|error| errno_of(&error, Errno::UnknownErrno))?;
    }
    Ok(())
}

fn filter() -> Result<(), Errno> {
    let doors: Vec<SocketAddr> =
        network::families().into_iter().map(|family| family.address(1)).collect();
    // As the jail does it: the second way where the first is not to be had in full.
    let [first, second] = Way::ALL;
    let tried = listen().and_then(|()| {
        network::filter(first, &doors).map_err(|error| errno_of(&error, Errno::UnknownErrno))
    });
    tried.or_else(|_refused| {
        network::filter(second, &doors).map_err(|error| errno_of(&error, Errno::UnknownErrno))
    })
}

fn log() -> Result<(), Errno> {
    network::refusals().map(drop).map_err(|error| errno_of(&error, Errno::UnknownErrno))
}

fn list() -> Result<(), Errno> {
    network::sock_diag().map(drop).map_err(|error| errno_of(&error, Errno::UnknownErrno))
}
