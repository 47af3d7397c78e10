//! What every way in needs: mounts, processes and system calls that ask somebody.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::pause;

use super::steps::{Over, Steps, try_out};
use super::{Found, ORDER, Primitive, Row};
use crate::jail::child::{self, Identity};
use crate::jail::{Choice, landjail};
use crate::sys::{errno_of, features, notify, pidfd, process, reach};

/// The share of another process's descriptors.
pub(super) const SHARE: Shared =
    Shared { name: "another process's sockets (pidfd_getfd)", needs: "Linux 5.6" };
/// The look into another process's memory.
pub(super) const READ: Shared = Shared {
    name: "another process's memory (process_vm_readv)",
    needs: "CONFIG_CROSS_MEMORY_ATTACH",
};
/// The processes of the command, kept apart.
pub(super) const PROCESSES: Shared = Shared { name: "pid namespace", needs: "CONFIG_PID_NS" };
/// The mounts of the command, kept apart and changed.
pub(super) const MOUNTS: Shared = Shared { name: "mounts", needs: "" };
/// What shows the command its own processes.
pub(super) const PROCFS: Shared = Shared { name: "fresh procfs", needs: "" };

/// A primitive that more than one jail is made of, each in its own way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    name: &'static str,
    needs: &'static str,
}

impl Shared {
    /// As a row of this jail.
    pub(super) const fn of(self, jails: &'static [Choice]) -> Primitive {
        Primitive { name: self.name, jails, is_optional: false, needs: self.needs }
    }
}

/// Tries [`SHARE`], [`READ`], [`PROCESSES`], [`MOUNTS`] and [`PROCFS`] as the calling process, which
/// has the rights that the way in has.
pub(super) fn enter(steps: &mut Steps) -> Result<(), Over> {
    steps.tell(look_into_another(|child| {
        let handle = pidfd::open_thread_or_process(child)?;
        reach::share_descriptor(handle.as_fd(), 2).map(drop)
    }))?;
    let word = [7; 8];
    let at = word.as_ptr().addr() as u64;
    steps.tell(look_into_another(|child| {
        let mut copy = [0; 8];
        reach::read_memory(child, at, &mut copy)?;
        if copy == word { Ok(()) } else { Err(Errno::EFAULT) }
    }))?;
    steps.tell(unshare(CloneFlags::CLONE_NEWPID))?;
    let inside = process::fork(|| u8::from(arrange(steps).is_err())).map_err(|_told| Over)?;
    match waitpid(inside, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(_) | Err(_) => Err(Over),
    }
}

/// What the mounts are changed by.
fn arrange(steps: &mut Steps) -> Result<(), Over> {
    steps.tell(cover())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    steps.tell(mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>))
}

/// Covers a directory and a file, in mounts of this process's own.
fn cover() -> nix::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::MS_NODEV, Some("size=4k"))?;
    File::create("/proc/null").map_err(|error| errno_of(&error, Errno::UnknownErrno))?;
    mount(Some("/dev/null"), "/proc/null", none, MsFlags::MS_BIND, none)
}

/// What landjail takes mounts for where root starts it: the machine's settings, which are root's to
/// write.
const SETTINGS: Primitive = Primitive {
    name: "mounts over the machine's settings",
    jails: &[Choice::Landjail],
    is_optional: false,
    needs: "",
};

/// Whether the settings can be covered, or need not be.
fn cover_settings(identity: &Identity) -> nix::Result<()> {
    let is_writable = || OpenOptions::new().write(true).open(landjail::CORE_PATTERN).is_ok();
    if identity.is_root() && is_writable() { cover() } else { Ok(()) }
}

/// Whether descriptors may be shared at all: of this process with itself. A filter of system calls
/// refuses that as any other.
pub(super) fn shares_descriptors() -> nix::Result<()> {
    let own = pidfd::open_thread_or_process(std::process::id())?;
    match reach::share_descriptor(own.as_fd(), 2) {
        // Standard error may be closed.
        Ok(_) | Err(Errno::EBADF) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the mounts can be made private: whether the root is a mount.
pub(super) fn has_own_root() -> nix::Result<()> {
    if features::is_mount_point(c"/")? { Ok(()) } else { Err(Errno::EINVAL) }
}

/// How long a killed child may take to be gone.
const END: Duration = Duration::from_secs(2);

/// Does something with a child that waits, which ends then.
fn look_into_another(look: impl FnOnce(u32) -> nix::Result<()>) -> nix::Result<()> {
    let child = process::fork(|| {
        loop {
            pause();
        }
    })?;
    let looked = look(child.as_raw().unsigned_abs());
    process::end(child, END);
    looked
}

/// The Landlock domain: the others have a process namespace before it, and landjail has not.
const DOMAINS: [Primitive; 2] =
    [domain(&[Choice::Ebpf, Choice::Nsjail], true), domain(&[Choice::Landjail], false)];

const fn domain(jails: &'static [Choice], is_optional: bool) -> Primitive {
    let needs = "Linux 5.13 with CONFIG_SECURITY_LANDLOCK, and landlock in the list of lsm=";
    Primitive { name: "Landlock", jails, is_optional, needs }
}

/// What every jail is made of.
pub(super) fn rows(identity: &Identity) -> Vec<Row> {
    let asks = Primitive {
        name: "system calls that ask (seccomp)",
        jails: &ORDER,
        is_optional: false,
        needs: "Linux 5.0 with CONFIG_SECCOMP_FILTER",
    };
    let mut rows = try_out(
        &[asks],
        |steps| {
            let installed = prctl::set_no_new_privs().and_then(|()| {
                notify::install(&[ALLOW])
                    .map(drop)
                    .map_err(|error| errno_of(&error, Errno::UnknownErrno))
            });
            steps.tell(installed)
        },
        |_| Ok(()),
    );
    let found = |tried: nix::Result<i64>| match tried {
        Ok(abi) => Found::Yes(format!("ABI {abi}")),
        Err(error) => Found::Refused(error),
    };
    let abi = features::landlock_abi();
    // What nothing stands behind has to come into force, too.
    let tried = [abi, abi.and_then(|abi| landjail::domain().and(Ok(abi)))];
    rows.extend(DOMAINS.into_iter().zip(tried).map(|(row, tried)| Row::new(row, found(tried))));
    rows.extend(try_out(&[SETTINGS], |steps| steps.tell(cover_settings(identity)), |_| Ok(())));
    rows.push(super::spaces::landjail());
    rows.extend(child::sends_crashes().then(crashes));
    rows
}

/// That crashes are sent out of the jails which have no hook on that. Elsewhere nobody asks.
fn crashes() -> Row {
    let primitive = Primitive {
        name: "crashes kept in",
        jails: &[Choice::Nsjail, Choice::Landjail],
        is_optional: false,
        needs: "",
    };
    Row::new(primitive, Found::Failed("core_pattern names a unix socket".to_owned()))
}

/// A filter that lets everything pass.
const ALLOW: libc::sock_filter =
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
