//! The command: forked into the jail, held until all is ready, then executed.

use std::ffi::OsString;
use std::fs;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Error;
use super::channel::{Channel, Message};
use super::janitor::Janitor;
use crate::jail::certificates::Bundle;
use crate::jail::child::{self, Enclosure, Entry, Identity};
use crate::jail::mutation;
use crate::jail::usher::Seat;
use crate::jail::{Call, Walls};
use crate::sys::process;

/// What to run, as whom, and what it sees.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The program and its arguments.
    pub(super) command: &'a [OsString],
    /// Its environment.
    pub(super) environment: &'a [(OsString, OsString)],
    /// Whom it runs as.
    pub(super) identity: &'a Identity,
    /// The certificates it trusts.
    pub(super) bundle: &'a Bundle,
    /// The files that it may read and not change: the record, the policy, and who answers for the user.
    pub(super) guarded: &'a [PathBuf],
    /// A line that ends when its usher does.
    pub(super) alarm: UnixStream,
    /// Where boundary inside it asks for a room.
    pub(super) door: PathBuf,
    /// The unix sockets of the host that it may use.
    pub(super) open: &'a [PathBuf],
}

/// The command inside its walls, waiting to be let go.
#[derive(Debug)]
pub(super) struct Held {
    pid: Pid,
    line: Channel,
    /// What the user called it.
    name: OsString,
    /// Whether it became the command, which is the keeper's to collect.
    is_let_go: bool,
}

impl Drop for Held {
    /// Collects a child that did not become the command: as long as nobody does, its pid namespace
    /// cannot end, and the keeper waits for that end.
    fn drop(&mut self) {
        if !self.is_let_go {
            process::end(self.pid, super::END);
        }
    }
}

impl Held {
    /// Forks the command into the walls and waits until it is ready and the canary has passed.
    ///
    /// The plan is used up: the alarm has to be nobody's but the usher's.
    pub(super) fn start(plan: Plan<'_>, walls: &Walls, janitor: &Janitor) -> Result<Self, Error> {
        let (line, mut far) = Channel::pair().map_err(Call::to("socketpair"))?;
        line.bound(super::START).map_err(Call::to("setsockopt"))?;
        janitor.adopt_children()?;
        let usher = walls.usher(plan.alarm.as_fd(), &plan.door, plan.open)?;
        let pid = walls.fork(|entry| inside(&plan, (&entry, usher), &mut far))?;
        drop(far);
        let name = plan.command.first().cloned().unwrap_or_default();
        drop(plan);
        let mut held = Self { pid, line, name, is_let_go: false };
        held.prepare()?;
        Ok(held)
    }

    /// Does for the child what only somebody outside its user namespace can, until it is ready.
    fn prepare(&mut self) -> Result<(), Error> {
        loop {
            match self.line.receive().map_err(Call::to("read(command)"))? {
                Some(Message::MapIds) => {
                    self.map_ids()?;
                    self.line.send(&Message::Go).map_err(Call::to("write(command)"))?;
                }
                Some(Message::Ready(_)) => return Ok(()),
                Some(Message::Failed(why)) => return Err(Error::Enclosure(why)),
                Some(
                    Message::Go
                    | Message::GoBadged(_)
                    | Message::NotStarted(_)
                    | Message::Recorded
                    | Message::Used(_),
                )
                | None => {
                    return Err(Error::Lost("command"));
                }
            }
        }
    }

    /// Maps every id to itself: files keep their owners, and nothing else is granted.
    fn map_ids(&self) -> Result<(), Call> {
        for (map, call) in [("uid_map", "write(uid_map)"), ("gid_map", "write(gid_map)")] {
            fs::write(format!("/proc/{}/{map}", self.pid), "0 0 4294967295\n")
                .map_err(Call::to(call))?;
        }
        Ok(())
    }

    /// Lets the command go; fails with what execve(2) said when it could not be started.
    pub(super) fn go(mut self) -> Result<Pid, Error> {
        self.line.send(&Message::Go).map_err(Call::to("write(command)"))?;
        match self.line.receive().map_err(Call::to("read(command)"))? {
            None => {
                self.is_let_go = true;
                Ok(self.pid)
            }
            Some(Message::NotStarted(number)) => {
                let name = mem::take(&mut self.name);
                Err(Error::NotStarted { name, source: Errno::from_raw(number) })
            }
            Some(_) => Err(Error::Lost("command")),
        }
    }
}

/// The child's side: into the jail, then wait, then become the command.
fn inside(plan: &Plan<'_>, seat: (&Entry, Seat<'_>), line: &mut Channel) -> u8 {
    if let Err(why) = enter(plan, seat, line) {
        drop(line.send(&Message::Failed(why)));
        return 125;
    }
    let waited = line.send(&Message::Ready(Vec::new())).and_then(|()| line.receive());
    if !matches!(waited, Ok(Some(Message::Go))) || process::reset_signals().is_err() {
        return 125;
    }
    let error = child::start(plan.command, plan.environment);
    drop(line.send(&Message::NotStarted(error as i32)));
    127
}

/// Goes behind the walls; the error is one line for the user.
fn enter(
    plan: &Plan<'_>,
    (entry, usher): (&Entry, Seat<'_>),
    line: &mut Channel,
) -> Result<(), String> {
    if mutation::stands("descriptors") {
        let mut kept = vec![line.as_raw_fd()];
        kept.extend(usher.descriptors());
        process::keep_only(&kept).map_err(|error| format!("close_range: {error}"))?;
    }
    let (identity, bundle, guarded) = (plan.identity, plan.bundle, plan.guarded);
    let enclosure = Enclosure { identity, bundle, guarded, usher, entry };
    child::enclose(&enclosure, || map_ids(line)).map_err(|error| error.to_string())
}

/// Asks the keeper for the maps of the new user namespace, and waits for them.
fn map_ids(line: &mut Channel) -> Result<(), Call> {
    line.send(&Message::MapIds).map_err(Call::to("write(keeper)"))?;
    match line.receive().map_err(Call::to("read(keeper)"))? {
        Some(Message::Go) => Ok(()),
        _ => Err(Call::to("write(uid_map)")(Errno::EPERM)),
    }
}
