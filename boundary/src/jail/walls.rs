//! The seam between a session and its jail: what every jail can do, whichever it is.
//!
//! *Standing*: the keeper raises [`Walls`], lends the proxy what it may see of them, and sends the
//! command in. The jails differ in how a connection is turned and in how the proxy learns whose it
//! is; nothing else of the program knows which one stands.
//! *Never*: less than was asked for. A jail that was named and cannot be raised is an error.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::Pid;

use super::ebpf::{self, Name, Ring};
use super::usher::{Reports, Seat};
use super::{Call, Choice, mutation};
use crate::proxy::{Doors, Origin};
use crate::sys::process;

/// Why no walls stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This version has no such jail.
    #[error("jail {0}: not available in this version")]
    Unavailable(Choice),
    /// The eBPF jail could not be raised.
    #[error("jail ebpf: {0}")]
    Ebpf(#[from] ebpf::Error),
}

/// The status of a process that could not get behind the walls; it has done nothing.
const ENTRY_FAILED: u8 = 125;

/// Walls that stand. Dropping them kills what is behind them and takes them down.
#[must_use]
#[derive(Debug)]
#[non_exhaustive]
pub enum Walls {
    /// An own cgroup whose programs turn every connection.
    Ebpf(ebpf::Walls),
}

/// What the proxy's process is lent: whose a connection is, and what was refused without one.
#[derive(Debug)]
pub struct Lent {
    /// Whose a connection is.
    pub origin: Arc<dyn Origin>,
    /// What the jail refuses, where it refuses anything by itself.
    pub refusals: Ring,
    /// What the usher refuses.
    pub reports: Reports,
    /// The descriptors behind both, which a process that forks must keep open.
    pub descriptors: Vec<RawFd>,
}

impl Walls {
    /// Raises the jail that was asked for, or the first that can be raised in full.
    pub fn raise(choice: Choice, name: &Name, doors: &Doors) -> Result<Self, Error> {
        match choice {
            Choice::Auto | Choice::Ebpf => {
                ebpf::sweep().map_err(ebpf::Error::Cgroup)?;
                Ok(Self::Ebpf(ebpf::Walls::raise(name, doors)?))
            }
            Choice::Nsjail | Choice::Landjail => Err(Error::Unavailable(choice)),
        }
    }

    /// Which jail stands.
    pub fn jail(&self) -> Choice {
        match self {
            Self::Ebpf(_) => Choice::Ebpf,
        }
    }

    /// What the proxy's process needs of them. It gives no right over them.
    pub fn lend(&self) -> Result<Lent, Error> {
        match self {
            Self::Ebpf(walls) => {
                let (origin, refusals) = (walls.origin()?, walls.refusals()?);
                let mut descriptors = vec![origin.descriptor()];
                descriptors.extend(refusals.descriptors());
                let reports = walls.reports()?;
                descriptors.push(reports.as_fd().as_raw_fd());
                Ok(Lent { origin: Arc::new(origin), refusals, reports, descriptors })
            }
        }
    }

    /// Forks a process that is behind them from its first instruction, or before it does anything.
    pub fn fork(&self, body: impl FnOnce() -> u8) -> Result<Pid, Call> {
        let Self::Ebpf(walls) = self;
        // Only one of the two calls takes the body; which one is known when the first has failed.
        let mut body = Some(body);
        let mut run = || body.take().map_or(ENTRY_FAILED, |body| body());
        if !mutation::stands("cgroup") {
            return process::fork(run).map_err(Call::to("fork"));
        }
        let direct = process::fork_into(walls.cgroup().as_fd(), &mut run);
        match direct.map_err(Call::to("clone3"))? {
            Some(pid) => Ok(pid),
            None => process::fork(|| match walls.cgroup().enter() {
                Ok(()) => run(),
                Err(_) => ENTRY_FAILED,
            })
            .map_err(Call::to("fork")),
        }
    }

    /// Forgets what was refused until now: the canary's attempts are not the command's. To be
    /// called before what was lent is opened.
    pub fn forget_refusals(&self) -> Result<(), Error> {
        match self {
            Self::Ebpf(walls) => Ok(walls.forget_refusals()?),
        }
    }

    /// Where the command's usher stands: `alarm` ends with it, and `open` it leads to although it is
    /// the host's.
    pub fn usher<'a>(
        &'a self,
        alarm: BorrowedFd<'a>,
        open: &'a [PathBuf],
    ) -> Result<Seat<'a>, Error> {
        match self {
            Self::Ebpf(walls) => {
                let (entrance, reports) = walls.usher();
                Ok(Seat { entrance, alarm, reports, open })
            }
        }
    }

    /// Kills everything behind them.
    pub fn kill(&self) -> io::Result<()> {
        match self {
            Self::Ebpf(walls) => walls.cgroup().kill(),
        }
    }
}
