//! The jail without privilege: every socket of the command is made, connected and answered for by a
//! process beside it, which the kernel asks.
//!
//! ```text
//! command ── socket, connect, … ─filter asks→ usher ─ makes, connects to a door ─answers→ command
//!            connects by itself └ Landlock refuses; no device but loopback would take it anyway
//! ```
//!
//! *Standing*: the keeper raises [`Walls`]; the process that it forks behind them becomes the usher,
//! and its child the command. Needs seccomp's notifications (Linux 5.9), Landlock (Linux 5.13) and
//! nothing else.
//! *Never*: lets the kernel follow an address that the command can still change.

pub(in crate::jail) mod address;
mod aim;
mod datagrams;
mod enclosure;
mod family;
mod flows;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kin;
mod life;
mod listeners;
mod made;
mod messages;
mod names;
mod options;
mod post;
mod probe;
mod rooms;
mod service;
mod signals;
mod sockets;
mod streams;
mod unix;

pub use enclosure::{CORE_PATTERN, enclose};
pub use flows::Led;
pub use probe::{Lacking, domain, probe};

use std::cell::OnceCell;
use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::libc;
use nix::sys::prctl;
use nix::unistd::Pid;

use super::Call;
use super::child::Entry;
use super::usher::{Reports, report_pair};
use crate::proxy::Doors as ProxyDoors;
use crate::sys::process;

/// How long what is behind the walls may take to be gone.
const END: Duration = Duration::from_secs(5);

/// Why the walls could not be raised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel, or a filter around us, lacks something.
    #[error(transparent)]
    Lacking(#[from] Lacking),
    /// A kernel call failed.
    #[error(transparent)]
    Call(#[from] Call),
}

/// Where the doors stand.
#[derive(Debug, Clone)]
pub(in crate::jail) struct Doors {
    tcp: Vec<SocketAddr>,
    dns: SocketAddr,
}

impl Doors {
    /// Where the proxy's doors stand.
    fn of(doors: &ProxyDoors) -> io::Result<Self> {
        let tcp = doors.tcp.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let dns = doors.dns.iter().map(UdpSocket::local_addr).collect::<io::Result<Vec<_>>>()?;
        let dns = dns.into_iter().find(SocketAddr::is_ipv4);
        Ok(Self { tcp, dns: dns.ok_or_else(|| io::Error::other("no door for questions"))? })
    }

    /// The door for a target, in the spelling of a socket of this family.
    fn for_family(&self, target: SocketAddr, family: i32) -> SocketAddr {
        let port = self.tcp.first().map_or(0, SocketAddr::port);
        let is_v6 = target.ip().to_canonical().is_ipv6();
        if is_v6 && self.tcp.iter().any(SocketAddr::is_ipv6) {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
        } else {
            address::spelled(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), family)
        }
    }
}

/// What the usher of this jail stands with.
#[derive(Debug, Clone, Copy)]
pub struct Stand<'a> {
    /// Its line to the keeper, whose end is the keeper's.
    pub(super) line: BorrowedFd<'a>,
    /// Its line to the proxy.
    flows: BorrowedFd<'a>,
    doors: &'a Doors,
}

impl Stand<'_> {
    /// The descriptors that must be open until the usher stands.
    pub(super) fn descriptors(&self) -> [RawFd; 2] {
        [self.line.as_raw_fd(), self.flows.as_raw_fd()]
    }
}

/// Walls that stand. Dropping them kills what is behind them.
#[must_use]
#[derive(Debug)]
pub struct Walls {
    doors: Doors,
    /// The line of the usher to the proxy: its end, and the proxy's.
    flows: (OwnedFd, OwnedFd),
    /// The usher's line to the reader of what it refuses: its end, and the reader's.
    reports: (OwnedFd, Reports),
    /// The usher's line to the keeper, by whose end it learns that the keeper is gone.
    line: (UnixStream, UnixStream),
    /// The keeper's other children, which are not behind the walls.
    bystanders: OnceCell<HashSet<u32>>,
}

impl Walls {
    /// Raises them before these doors.
    pub fn raise(doors: &ProxyDoors) -> Result<Self, Error> {
        probe()?;
        // What its usher leaves behind comes to us.
        prctl::set_child_subreaper(true).map_err(Call::to("prctl(PR_SET_CHILD_SUBREAPER)"))?;
        // There may be no other user between the command and us.
        prctl::set_dumpable(false).map_err(Call::to("prctl(PR_SET_DUMPABLE)"))?;
        let doors = Doors::of(doors).map_err(Call::to("getsockname"))?;
        let line = UnixStream::pair().map_err(Call::to("socketpair"))?;
        let (flows, reports) = (flows::pair()?, report_pair()?);
        Ok(Self { doors, flows, reports, line, bystanders: OnceCell::new() })
    }

    /// Forks the process that becomes the usher, and whose child becomes the command. Its end is the
    /// command's, with the same status.
    pub fn fork(&self, body: impl FnOnce(Entry) -> u8) -> Result<Pid, Call> {
        self.bystanders.get_or_init(family::bystanders);
        process::fork(|| body(Entry::Supervised)).map_err(Call::to("fork"))
    }

    /// Tells the proxy whose a connection is.
    pub fn led(&self) -> io::Result<Led> {
        Ok(Led::new(self.flows.1.try_clone()?, self.doors.tcp.clone()))
    }

    /// Where the usher tells of what it refuses.
    pub fn usher(&self) -> BorrowedFd<'_> {
        self.reports.0.as_fd()
    }

    /// What the usher stands with.
    pub fn stand(&self) -> Stand<'_> {
        Stand { line: self.line.1.as_fd(), flows: self.flows.0.as_fd(), doors: &self.doors }
    }

    /// The keeper's end of its line to the usher.
    pub fn line(&self) -> &UnixStream {
        &self.line.0
    }

    /// The reader's end of the usher's line.
    pub fn reports(&self) -> io::Result<Reports> {
        self.reports.1.try_clone()
    }

    /// Kills everything behind them. The usher has done so when the command ended by itself.
    pub fn kill(&self) -> io::Result<()> {
        let Some(bystanders) = self.bystanders.get() else { return Ok(()) };
        if family::end(bystanders, END) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        }
    }
}

impl Drop for Walls {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::error!(%error, "a process of the command cannot be ended; it is cut off");
        }
    }
}
