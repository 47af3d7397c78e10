//! The eBPF jail: an own cgroup with the kernel half attached to it.
//!
//! *Standing*: the keeper raises [`Walls`] with the doors that it opened, hands the [`Origin`] and
//! the [`Refusals`] to the proxy and the cgroup's entrance to the command, and drops the walls at
//! the end. *Never*: half. Whatever fails while they are raised takes down what stood.
//!
//! [`Origin`]: crate::proxy::Origin

mod cgroup;
mod origin;
mod process;
mod refusals;

pub(super) use cgroup::cgroup_of;
pub use cgroup::{Cgroup, Counts, Name, sweep};
pub use origin::Turned;
pub(super) use refusals::protocol_name;
pub use refusals::{Refusals, Refused, Ring};

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use boundary_common::flow;
use process::Processes;

use super::Call;
use super::kernel::{self, Kernel};
use super::mutation;
use super::usher::{Reports, report_pair};
use crate::proxy::Doors;
use crate::sys::process as rights;

/// Why the walls could not be raised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cgroup could not be made.
    #[error("the session's cgroup: {0}")]
    Cgroup(#[from] Call),
    /// The kernel half could not be loaded or attached.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A door stands where a turned connection cannot reach it, or two doors are one too many.
    #[error("a door at {0}: doors are on 127.0.0.1 and ::1, with one port for each kind")]
    Door(SocketAddr),
    /// A door's address could not be read.
    #[error("the address of a door")]
    Address(#[source] io::Error),
}

/// Walls that stand. Everything in their cgroup is behind them; dropping them kills it.
#[must_use]
#[derive(Debug)]
pub struct Walls {
    /// First, so that the cgroup is gone before the tables are.
    cgroup: Cgroup,
    kernel: Kernel,
    /// The cgroup of the usher, below the session's.
    ushers: File,
    /// The session's own cgroup, opened beside the handle that is locked.
    house: File,
    /// The usher's line to the reader of what it refuses: its end, and the reader's.
    reports: (OwnedFd, Reports),
    /// Whom the proxy knows: who was turned just now may be refused something, and have ended when that is
    /// read.
    processes: Arc<Processes>,
}

impl Walls {
    /// Raises the walls around nobody yet, turned to these doors.
    pub fn raise(name: &Name, doors: &Doors) -> Result<Self, Error> {
        let mut ports = ports(doors)?;
        let (cgroup, kernel) = (Cgroup::make(name)?, Kernel::load()?);
        let (ushers, usher) = cgroup.make_room("usher")?;
        ports.usher = usher;
        let house = File::open(cgroup.path()).map_err(Call::to("open of a cgroup"))?;
        let (reports, processes) = (report_pair()?, Arc::default());
        let mut walls = Self { cgroup, kernel, ushers, house, reports, processes };
        walls.kernel.set_doors(&ports)?;
        for door in sockets(doors) {
            walls.kernel.mark_door(door)?;
        }
        walls.kernel.attach(walls.cgroup.as_fd())?;
        Ok(walls)
    }

    /// What the command enters.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The capabilities of a process that reads what the kernel half writes: none. Before Linux 5.19
    /// it takes `CAP_BPF` where unprivileged bpf is switched off, for whichever use of `bpf(2)`.
    pub fn readers_need(&self) -> Result<&'static [u32], Error> {
        /// `CAP_BPF` of linux/capability.h.
        const BPF: u32 = 39;
        let asked = rights::without_capabilities(|| self.kernel.asks()).and_then(|asked| asked);
        match asked {
            Ok(()) => Ok(&[]),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(&[BPF]),
            Err(error) => Err(Call::to("bpf(BPF_MAP_LOOKUP_ELEM)")(error).into()),
        }
    }

    /// Tells the proxy whose a connection is. It may be moved to a process without privileges, but
    /// for those that readers need.
    pub fn origin(&self) -> Result<Turned, Error> {
        let flows = self.kernel.flows().map_err(Call::to("dup"))?;
        Ok(Turned::new(flows, Arc::clone(&self.processes)))
    }

    /// What the kernel half refuses. There may be one reader; a later one would miss what the
    /// first has read.
    pub fn refusals(&self) -> Result<Ring, Error> {
        let (events, lost) = self.kernel.events()?;
        Ok(Ring::new(events, lost, Arc::clone(&self.processes)))
    }

    /// What the usher stands with: its cgroup, and its end of the line.
    pub fn usher(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.ushers.as_fd(), self.reports.0.as_fd())
    }

    /// Whether hooks judge the calls that name a unix socket.
    pub fn judge_unix(&self) -> bool {
        self.kernel.judges_unix()
    }

    /// The session's cgroup, opened for the usher, and what it is called.
    pub fn house(&self) -> (BorrowedFd<'_>, &str) {
        (self.house.as_fd(), self.cgroup.name())
    }

    /// The reader's end of the usher's line.
    pub fn reports(&self) -> Result<Reports, Error> {
        Ok(self.reports.1.try_clone().map_err(Call::to("dup"))?)
    }

    /// Forgets what was refused until now: the canary's attempts are not the command's. To be
    /// called before the ring is opened.
    pub fn forget_refusals(&self) -> Result<(), Error> {
        let mut refusals = self.refusals()?.open()?;
        while refusals.next().is_some() {}
        Ok(())
    }
}

/// Whether this jail can be raised here.
#[derive(Debug)]
pub enum Answer {
    /// It was raised, without doors, and taken down again.
    Yes,
    /// The kernel, or the rights that we have, refuse something that it needs.
    Refused {
        /// What was refused.
        primitive: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It could not be found out.
    Unknown(Error),
}

/// Finds out by doing: makes a cgroup, loads and attaches everything, and takes it down. Lists of
/// features tell what a kernel was built with, not what it lets us do.
pub fn probe() -> Answer {
    let doors = Doors { tcp: Vec::new(), dns: Vec::new() };
    match Walls::raise(&Name::fresh(), &doors) {
        Ok(walls) => {
            drop(walls);
            Answer::Yes
        }
        Err(Error::Cgroup(Call { call, source })) => {
            Answer::Refused { primitive: call.to_owned(), source }
        }
        Err(Error::Kernel(kernel::Error::Call { call, name, source })) => {
            Answer::Refused { primitive: format!("{call} for {name}"), source }
        }
        Err(Error::Kernel(kernel::Error::Program { name, source, log: _ })) => {
            Answer::Refused { primitive: format!("BPF_PROG_LOAD for {name}"), source }
        }
        Err(error) => Answer::Unknown(error),
    }
}

/// Every socket that is a door.
fn sockets(doors: &Doors) -> impl Iterator<Item = BorrowedFd<'_>> {
    let tcp = doors.tcp.iter().map(|door| door.as_fd());
    tcp.chain(doors.dns.iter().map(|door| door.as_fd()))
}

/// Where the doors stand, as the kernel half takes it.
fn ports(doors: &Doors) -> Result<flow::Doors, Error> {
    let mut ports = flow::Doors { abi: mutation::abi(), ..flow::Doors::default() };
    for door in &doors.tcp {
        let address = door.local_addr().map_err(Error::Address)?;
        place(address, &mut ports.proxy4, &mut ports.proxy6)?;
    }
    for door in &doors.dns {
        let address = door.local_addr().map_err(Error::Address)?;
        place(address, &mut ports.resolver4, &mut ports.resolver6)?;
    }
    Ok(ports)
}

/// Notes the port of one door, if it stands where doors must and there is no other.
fn place(address: SocketAddr, v4: &mut u16, v6: &mut u16) -> Result<(), Error> {
    let port = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => v4,
        IpAddr::V6(Ipv6Addr::LOCALHOST) => v6,
        IpAddr::V4(_) | IpAddr::V6(_) => return Err(Error::Door(address)),
    };
    if *port != 0 {
        return Err(Error::Door(address));
    }
    *port = address.port();
    Ok(())
}

#[cfg(test)]
mod tests;
