//! The network namespace jail: a network in which every address is the command's own, so that
//! there is no way out but the doors, which are served from outside.
//!
//! *Standing*: the keeper raises [`Walls`], which makes the namespaces and gets the doors from
//! within, hands [`Members`] and [`Ring`] to the proxy, and lets the command fork into them.
//! Needs user namespaces, or root, which can do without them; changes nothing of the machine; the kernel takes everything
//! away with the last process. *Never*: half. Whatever fails while they are raised ends them.

#[cfg(fuzzing)]
pub mod fuzzing;
mod namespaces;
mod netlink;
mod network;
mod origin;
mod refusals;
mod rules;
pub(in crate::jail) mod trial;

pub(in crate::jail) use netlink::Socket;
pub(in crate::jail) use network::{OWN_V4, OWN_V6};
pub use origin::Members;
pub(in crate::jail) use origin::listens;
pub use refusals::{Refusals, Ring};

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};

use nix::unistd::Pid;

use super::child::{Entry, Identity};
use super::usher::{Reports, list_line, report_pair};
use super::{Call, Users};
use crate::proxy::Doors;
use namespaces::{Namespaces, Raised};
use network::Way;

/// Why the walls could not be raised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel call failed in the process that raises them.
    #[error(transparent)]
    Call(#[from] Call),
    /// A kernel call failed in a process that was forked for it.
    #[error("{0}")]
    Inside(String),
}

/// What the first process of the namespaces is for, once they are made.
pub struct Init<'a> {
    /// Its life; its exit status.
    pub life: &'a dyn Fn() -> u8,
    /// The descriptors that it lives by.
    pub keeps: &'a [RawFd],
    /// Whether it is to prove first that the command's mounts can be arranged in here, so that
    /// another jail can be taken if not.
    pub is_proved: bool,
}

/// Walls that stand. Everything in their namespaces is behind them; dropping them kills it.
#[must_use]
#[derive(Debug)]
pub struct Walls {
    namespaces: Namespaces,
    /// The first process of the pid namespace, with which all others end.
    init: Pid,
    identity: Identity,
    /// Where the doors stand.
    doors: Vec<SocketAddr>,
    /// How connections come there.
    way: Way,
    sock_diag: Socket,
    log: Socket,
    /// The usher's line to the reader of what it refuses: its end, and the reader's.
    reports: (OwnedFd, Reports),
    /// What asks for the list of the host's unix sockets.
    outside: OwnedFd,
}

impl Walls {
    /// Makes the namespaces and their network for a command of this user, with the doors on a
    /// port.
    pub fn raise(
        identity: &Identity,
        (port, users): (Option<u16>, Users),
        init: &Init<'_>,
    ) -> Result<(Self, Doors), Error> {
        let Raised { namespaces, init, sockets } =
            namespaces::raise(identity, (port, users), init)?;
        let network::Sockets { tcp, dns, sock_diag, log, way } = sockets;
        if way == Way::Rewritten {
            tracing::info!(
                "nsjail: without tproxy; targets are rewritten, and loopback is its own"
            );
        }
        let doors = tcp.iter().map(TcpListener::local_addr).collect::<io::Result<_>>();
        let doors = doors.map_err(Call::to("getsockname"))?;
        let identity = identity.clone();
        let reports = report_pair()?;
        let outside = list_line().map_err(Call::to("socket(sock_diag)"))?;
        let walls =
            Self { namespaces, init, identity, doors, way, sock_diag, log, reports, outside };
        Ok((walls, Doors { tcp, dns }))
    }

    /// The first process of the namespaces.
    pub fn init(&self) -> Pid {
        self.init
    }

    /// Whether loopback is the command's own alone, and no policy leads to the machine's.
    pub fn has_only_own_loopback(&self) -> bool {
        self.way == Way::Rewritten
    }

    /// Forks a process that is inside from its first instruction.
    pub fn fork(&self, body: impl FnOnce(Entry) -> u8) -> Result<Pid, Call> {
        self.namespaces.fork(&self.identity, body)
    }

    /// Tells the proxy whose a connection is.
    pub fn members(&self) -> io::Result<Members> {
        let network = self.namespaces.network_number()?;
        let sock_diag = Socket::from_descriptor(clone(&self.sock_diag)?);
        Ok(Members::new(sock_diag, network, (self.doors.clone(), self.way)))
    }

    /// The capabilities without which the proxy could not see whose a connection is: root's command has
    /// rights that the proxy has not, and only in a user namespace below the proxy's that is nothing.
    pub fn readers_need(&self) -> &'static [u32] {
        /// `CAP_SYS_PTRACE` of linux/capability.h.
        const SYS_PTRACE: &[u32] = &[19];
        let is_equal = self.namespaces.users() == Users::Machine && self.identity.is_root();
        if is_equal { SYS_PTRACE } else { &[] }
    }

    /// What the usher stands with: its end of the line, and what asks for the host's unix sockets.
    pub fn usher(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.reports.0.as_fd(), self.outside.as_fd())
    }

    /// The reader's end of the usher's line.
    pub fn reports(&self) -> io::Result<Reports> {
        self.reports.1.try_clone()
    }

    /// What is refused without a door.
    pub fn refusals(&self) -> io::Result<Ring> {
        Ok(Ring::new(Socket::from_descriptor(clone(&self.log)?), self.members()?))
    }
}

/// A second descriptor of a socket.
fn clone(socket: &Socket) -> io::Result<OwnedFd> {
    socket.as_fd().try_clone_to_owned()
}
