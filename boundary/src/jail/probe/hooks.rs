//! The programs of `ebpf` and what they are attached to, and the way in of that jail.

use std::io;
use std::os::fd::AsFd as _;

use boundary_common::{LATER, PROGRAMS};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::steps::{Over, Steps, try_out};
use super::{Found, Primitive, Row, way_in};
use crate::jail::Choice;
use crate::jail::child::Identity;
use crate::jail::ebpf::{Cgroup, Name};
use crate::jail::kernel::{self, Kernel};
use crate::sys::errno_of;

const EBPF: &[Choice] = &[Choice::Ebpf];

/// A primitive that this jail is made of.
const fn needed(name: &'static str, needs: &'static str) -> Primitive {
    Primitive { name, jails: EBPF, is_optional: false, needs }
}

/// What the way in is made of, in order.
const STEPS: [Primitive; 6] = [
    way_in::SHARE.of(EBPF),
    way_in::READ.of(EBPF),
    way_in::PROCESSES.of(EBPF),
    way_in::MOUNTS.of(EBPF),
    way_in::PROCFS.of(EBPF),
    needed("user namespace for root", "user namespaces (CONFIG_USER_NS)"),
];

/// What came of everything.
pub(super) fn rows(identity: &Identity) -> Vec<Row> {
    let cgroup = Cgroup::make(&Name::fresh());
    let primitive = needed("cgroup2, writeable", "a cgroup2 hierarchy that may be written");
    let mut rows = vec![Row::new(primitive, told(&cgroup, |error| &error.source))];
    let attached = cgroup.as_ref().ok().map(Cgroup::as_fd);
    let maps = needed("maps and rings (bpf)", "CAP_BPF and CAP_NET_ADMIN, Linux 5.10");
    match Kernel::try_each(attached) {
        Ok(programs) => {
            rows.push(Row::new(maps, Found::Yes(String::new())));
            rows.extend(
                programs
                    .into_iter()
                    .map(|(name, tried)| Row::new(program(name), told(&tried, |error| error))),
            );
        }
        Err(error) => {
            rows.push(Row::new(maps, of_kernel(&error)));
            rows.extend(PROGRAMS.map(|name| Row::new(program(name), Found::Unasked)));
        }
    }
    drop(cgroup);
    let is_root = identity.is_root();
    let steps = STEPS.get(..if is_root { 6 } else { 5 }).unwrap_or_default();
    rows.extend(try_out(steps, |steps| enter(is_root, steps), |_| Ok(())));
    rows
}

/// The row of a program.
fn program(name: &'static str) -> Primitive {
    let is_optional = LATER.contains(&name);
    let needs = if is_optional { "Linux 6.7" } else { "CAP_BPF and CAP_NET_ADMIN, Linux 5.10" };
    Primitive { name, jails: EBPF, is_optional, needs }
}

/// What an attempt came to.
fn told<T, E>(tried: &Result<T, E>, source: impl Fn(&E) -> &io::Error) -> Found {
    Found::of(
        tried.as_ref().map(drop).map_err(|error| errno_of(source(error), Errno::UnknownErrno)),
    )
}

/// What the kernel half came to as a whole.
fn of_kernel(error: &kernel::Error) -> Found {
    match error {
        kernel::Error::Call { source, .. } | kernel::Error::Program { source, .. } => {
            Found::Refused(errno_of(source, Errno::UnknownErrno))
        }
        kernel::Error::Stub
        | kernel::Error::Object(_)
        | kernel::Error::Types(_)
        | kernel::Error::Relocation(_)
        | kernel::Error::Misfit(_)
        | kernel::Error::Table(_) => Found::Failed(error.to_string()),
    }
}

fn enter(is_root: bool, steps: &mut Steps) -> Result<(), Over> {
    way_in::enter(steps)?;
    if is_root {
        steps.tell(unshare(CloneFlags::CLONE_NEWUSER))?;
    }
    Ok(())
}
