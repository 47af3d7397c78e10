//! The command's way into this jail. Where namespaces are to be had they are taken too; nothing of
//! what the walls promise depends on them.
//!
//! *Standing*: [`child::enclose`] calls this for an entry of its kind.

use std::fs::OpenOptions;

use landlock::{AccessNet, RulesetAttr as _};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;

use super::life::Desk;
use crate::jail::child::{self, Enclosure, Error, Identity, Unrestricted};
use crate::jail::filter::{self, Beside, Signals};
use crate::jail::{Call, canary, mounts, mutation};
use crate::sys::{notify, process};

/// `CAP_SETPCAP` and `CAP_SYS_ADMIN` of linux/capability.h.
const SETPCAP: u32 = 8;
const SYS_ADMIN: u32 = 21;

/// The setting by which whoever may write it has the machine run a program.
pub const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Goes into the jail for good, and proves that it holds. The caller becomes the usher; what returns
/// is its child.
pub fn enclose(enclosure: &Enclosure<'_>) -> Result<(), Error> {
    if mutation::stands("descriptors") {
        child::refuse_ways_out()?;
        child::refuse_datagrams()?;
    }
    child::no_core_files()?;
    let has_mounts = arrange(enclosure)?;
    if mutation::stands("landlock") {
        child::keep_to_own_names().map_err(|error| Error::Landlock(error.into()))?;
    }
    let mut desk = Desk::open(&enclosure.usher, enclosure.identity)?;
    if mutation::stands("landlock") {
        restrict().map_err(Error::Landlock)?;
    }
    let is_mapped = enclosure.identity.is_root()
        && process::has_capability(SYS_ADMIN)
        && unshare(CloneFlags::CLONE_NEWUSER).is_ok();
    desk.map_ids(is_mapped)?;
    give_up(enclosure.identity)?;
    if has_mounts {
        mounts::leave_covered_directory()?;
    }
    prctl::set_no_new_privs().map_err(Call::to("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    // Taking on ids has closed it to the usher, who has to read what calls point to.
    prctl::set_dumpable(true).map_err(Call::to("prctl(PR_SET_DUMPABLE)"))?;
    if mutation::stands("seccomp") {
        let signals = child::signals(Signals::Usher);
        let program = filter::program(Beside::Usher, signals);
        let listener = notify::install(&program).map_err(Call::to("seccomp"))?;
        desk.hand_over(&listener)?;
    }
    if mutation::stands("canary") {
        canary::sing(enclosure.entry)?;
    }
    if mutation::stands("seccomp") { Ok(desk.speak()?) } else { Ok(()) }
}

/// Arranges the mounts, where this process may. Root must have it, where the machine's settings are
/// root's to write.
fn arrange(enclosure: &Enclosure<'_>) -> Result<bool, Error> {
    let arranged = process::has_capability(SYS_ADMIN).then(|| mounts::arrange(enclosure));
    match arranged {
        Some(Ok(())) => return Ok(true),
        Some(Err(error)) => tracing::info!(%error, "landjail: without mounts of its own"),
        None => {}
    }
    if enclosure.identity.is_root()
        && let Ok(_file) = OpenOptions::new().write(true).open(CORE_PATTERN)
    {
        return Err(Error::Machine(CORE_PATTERN));
    }
    Ok(false)
}

/// Becomes the user without a right over the walls.
fn give_up(identity: &Identity) -> Result<(), Call> {
    if !identity.is_root() {
        return identity.assume();
    }
    let has = |number: &u32| process::has_capability(*number);
    let kept: Vec<u32> = child::ROOT_KEEPS.iter().copied().filter(has).collect();
    if process::has_capability(SETPCAP) {
        return child::limit_capabilities(&kept);
    }
    // What is bounded above us stays so, and with no new privileges nothing is gained by exec.
    process::hold_capabilities(&kept).map_err(Call::to("capset"))
}

/// Puts the command into its Landlock domain, in which the kernel refuses every connection that it makes
/// by itself (Linux 6.7; to the path of a unix socket, 7.1).
///
/// No port is named that may be connected to: the usher, which makes them all, is not in it. Without a
/// domain there would be no wall around the processes of the command's user: where the kernel has none,
/// there is no such jail.
pub(super) fn restrict() -> Result<(), Unrestricted> {
    child::restrict_by(child::to_own_sockets()?.handle_access(AccessNet::ConnectTcp)?)
}
