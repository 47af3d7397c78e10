//! The seam between a session and its jail: what every jail can do, whichever it is.
//!
//! *Standing*: the keeper raises [`Walls`], lends the proxy what it may see of them, and sends the
//! command in. The jails differ in how a connection is turned and in how the proxy learns whose it
//! is; nothing else of the program knows which one stands.
//! *Never*: less than was asked for. A jail that was named and cannot be raised is an error.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use nix::unistd::Pid;

use super::child::Entry;
use super::ebpf::{self, Counts, Name, Refused};
use super::usher::{Reports, Seat};
use super::{Call, Choice, mutation};
use super::{landjail, nsjail};
use crate::audit::Usage;
use crate::proxy::{Doors, Origin};
use crate::sys::{notify, process};

/// Why no walls stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No jail can be raised here.
    #[error("no jail can be raised here: {0}")]
    Nothing(String),
    /// What the way in needs is refused.
    #[error("jail {jail}: {call}")]
    Enclosure {
        /// The jail.
        jail: Choice,
        /// What was refused.
        #[source]
        call: Call,
    },
    /// The kernel would hand a crash of the command to somebody outside.
    #[error(
        "jail {0}: the kernel hands crashes to a unix socket outside (core_pattern begins with @)"
    )]
    Crashes(Choice),
    /// The eBPF jail could not be raised.
    #[error("jail ebpf: {0}")]
    Ebpf(#[from] ebpf::Error),
    /// The network namespace jail could not be raised.
    #[error("jail nsjail: {0}")]
    Nsjail(#[from] nsjail::Error),
    /// The jail without privilege could not be raised.
    #[error("jail landjail: {0}")]
    Landjail(#[from] landjail::Error),
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
    /// A network namespace with no way out.
    Nsjail(nsjail::Walls),
    /// A process that makes every socket.
    Landjail(landjail::Walls),
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
    /// The capabilities without which these cannot be read here.
    pub needs: &'static [u32],
    /// Where the processes of the session are that are in no room, by [`Process::place`]; none where
    /// there can be no rooms.
    ///
    /// [`Process::place`]: crate::audit::Process::place
    pub home: Option<u64>,
    /// The descriptors behind both, which a process that forks must keep open.
    pub descriptors: Vec<RawFd>,
}

/// What a jail refuses by itself, before it is read. What was forgotten until it is opened is not
/// seen.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ring {
    /// Read from the kernel half.
    Ebpf(ebpf::Ring),
    /// Read from the log of the network namespace.
    Nsjail(nsjail::Ring),
    /// Nothing: the usher tells of everything. What is waited for in its place never comes.
    Landjail(OwnedFd),
}

/// The reader of what a jail refuses. Its descriptor becomes readable when there is something to
/// read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusals {
    /// Of the kernel half.
    Ebpf(Box<ebpf::Refusals>),
    /// Of the network namespace.
    Nsjail(nsjail::Refusals),
    /// Nothing.
    Landjail(OwnedFd),
}

impl Ring {
    /// Starts to read, and to count what is lost.
    pub fn open(self) -> Result<Refusals, Error> {
        match self {
            Self::Ebpf(ring) => Ok(Refusals::Ebpf(Box::new(ring.open()?))),
            Self::Nsjail(ring) => Ok(Refusals::Nsjail(ring.open())),
            Self::Landjail(nothing) => Ok(Refusals::Landjail(nothing)),
        }
    }
}

impl Refusals {
    /// The next refusal, if there is one now.
    #[expect(clippy::should_implement_trait, reason = "it ends for now only, not for good")]
    pub fn next(&mut self) -> Option<Refused> {
        match self {
            Self::Ebpf(refusals) => refusals.next(),
            Self::Nsjail(refusals) => refusals.next(),
            Self::Landjail(_) => None,
        }
    }

    /// How many were lost because nobody read them in time, since this was last asked.
    pub fn lost(&mut self) -> io::Result<u64> {
        match self {
            Self::Ebpf(refusals) => refusals.lost().map_err(io::Error::other),
            Self::Nsjail(refusals) => Ok(refusals.lost()),
            Self::Landjail(_) => Ok(0),
        }
    }
}

impl AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ebpf(refusals) => refusals.as_fd(),
            Self::Nsjail(refusals) => refusals.as_fd(),
            Self::Landjail(nothing) => nothing.as_fd(),
        }
    }
}

impl Walls {
    /// Raises the eBPF jail before these doors.
    pub fn of_ebpf(name: &Name, doors: &Doors) -> Result<Self, Error> {
        ebpf::sweep().map_err(ebpf::Error::Cgroup)?;
        Ok(Self::Ebpf(ebpf::Walls::raise(name, doors)?))
    }

    /// Which jail stands.
    pub fn jail(&self) -> Choice {
        match self {
            Self::Ebpf(_) => Choice::Ebpf,
            Self::Nsjail(_) => Choice::Nsjail,
            Self::Landjail(_) => Choice::Landjail,
        }
    }

    /// Whether hooks judge whatever connects a unix socket.
    pub fn judge_unix(&self) -> bool {
        matches!(self, Self::Ebpf(walls) if walls.judge_unix())
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
                let (origin, refusals) = (Arc::new(origin), Ring::Ebpf(refusals));
                let needs = walls.readers_need()?;
                let home = Some(walls.cgroup().number().map_err(ebpf::Error::Cgroup)?);
                Ok(Lent { origin, refusals, reports, needs, home, descriptors })
            }
            Self::Nsjail(walls) => {
                let lend =
                    || io::Result::Ok((walls.members()?, walls.refusals()?, walls.reports()?));
                let parts = lend().map_err(Call::to("dup")).map_err(nsjail::Error::Call)?;
                let (origin, refusals, reports) = parts;
                let mut descriptors = vec![origin.descriptor(), reports.as_fd().as_raw_fd()];
                descriptors.extend(refusals.descriptors());
                let (origin, refusals) = (Arc::new(origin), Ring::Nsjail(refusals));
                let needs = walls.readers_need();
                Ok(Lent { origin, refusals, reports, needs, home: None, descriptors })
            }
            Self::Landjail(walls) => {
                let nothing = EventFd::new().map(OwnedFd::from).map_err(Call::to("eventfd"));
                let nothing = nothing.map_err(landjail::Error::Call)?;
                let lend = || io::Result::Ok((walls.led()?, walls.reports()?));
                let parts = lend().map_err(Call::to("dup")).map_err(landjail::Error::Call)?;
                let (origin, reports) = parts;
                let reader = reports.as_fd().as_raw_fd();
                let descriptors = vec![origin.descriptor(), reader, nothing.as_raw_fd()];
                let (origin, refusals) = (Arc::new(origin), Ring::Landjail(nothing));
                Ok(Lent { origin, refusals, reports, needs: &[], home: Some(0), descriptors })
            }
        }
    }

    /// Forks a process that is behind them from its first instruction, or before it does anything.
    pub fn fork(&self, body: impl FnOnce(Entry) -> u8) -> Result<Pid, Call> {
        let walls = match self {
            Self::Ebpf(walls) => walls,
            Self::Nsjail(walls) => return walls.fork(body),
            Self::Landjail(walls) => return walls.fork(body),
        };
        // Only one of the two calls takes the body; which one is known when the first has failed.
        let mut body = Some(body);
        let entry = || Entry::Cgroup { unix: walls.judge_unix() };
        let mut run = || body.take().map_or(ENTRY_FAILED, |body| body(entry()));
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
            Self::Nsjail(walls) => {
                let forget = walls.refusals().and_then(|ring| ring.open().forget());
                Ok(forget.map_err(Call::to("recv(nfnetlink_log)")).map_err(nsjail::Error::Call)?)
            }
            // Its usher tells nothing until the canary is through.
            Self::Landjail(_) => Ok(()),
        }
    }

    /// Where the command's usher stands: `alarm` ends with it, at `door` it gives rooms to boundary
    /// inside boundary, and to what is in `open` it leads although it is the host's.
    pub fn usher<'a>(
        &'a self,
        alarm: BorrowedFd<'a>,
        door: &'a Path,
        open: &'a [PathBuf],
    ) -> Result<Seat<'a>, Error> {
        match self {
            Self::Ebpf(walls) => {
                let (cgroup, reports) = walls.usher();
                let (cgroup, house) = (Some(cgroup), Some(walls.house()));
                // The hooks on connections have to see who connects: it does not stand alone.
                Ok(Seat { cgroup, house, ..Seat::new(alarm, reports, door, open) })
            }
            Self::Nsjail(walls) => {
                let (reports, outside) = walls.usher();
                // A call that a signal interrupts is made again, and would find itself done.
                let stands_alone = notify::waits_killable();
                let seat = Seat::new(alarm, reports, door, open);
                Ok(Seat { outside: Some(outside), stands_alone, ..seat })
            }
            Self::Landjail(walls) => {
                let seat = Seat::new(alarm, walls.usher(), door, open);
                Ok(Seat { stand: Some(walls.stand()), stands_alone: true, ..seat })
            }
        }
    }

    /// What the kernel has counted of everything behind them.
    pub fn usage(&self) -> Usage {
        match self {
            Self::Ebpf(walls) => walls.cgroup().usage(),
            Self::Nsjail(_) | Self::Landjail(_) => Usage::default(),
        }
    }

    /// The same for whoever looks while the session runs, where the kernel counts it.
    pub fn counts(&self) -> Option<Counts> {
        match self {
            Self::Ebpf(walls) => Some(walls.cgroup().counts()),
            Self::Nsjail(_) | Self::Landjail(_) => None,
        }
    }

    /// The line of the usher, where it stands for the command towards the keeper.
    pub fn usher_line(&self) -> Option<&UnixStream> {
        match self {
            Self::Ebpf(_) | Self::Nsjail(_) => None,
            Self::Landjail(walls) => Some(walls.line()),
        }
    }

    /// Kills everything behind them, where that is for the walls to do and not for the first
    /// process of their namespaces.
    pub fn kill(&self) -> io::Result<()> {
        match self {
            Self::Ebpf(walls) => walls.cgroup().kill(),
            Self::Nsjail(_) => Ok(()),
            Self::Landjail(walls) => walls.kill(),
        }
    }
}
