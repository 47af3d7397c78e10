//! What this kernel has of all that boundary uses where it is there, and that it is used then.
//!
//! *Standing*: each feature is told on a line of its own, `feature: NAME = yes`, from which
//! `cargo xtask vm` makes the table in `docs/kernels.md`. *Never*: fails for a lack; every one of
//! them has something in its place, or its loss is documented.

#![expect(unsafe_code, reason = "questions to the kernel that neither std nor nix wraps")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use aya_obj::generated::bpf_attach_type as hook;
use nix::errno::Errno;

use super::inside::Inside;
use crate::world::needs::{cgroup2, needs};

const UNIX_CONNECT: u32 = hook::BPF_CGROUP_UNIX_CONNECT as u32;
const INET4_CONNECT: u32 = hook::BPF_CGROUP_INET4_CONNECT as u32;

#[test]
fn every_hook_that_this_kernel_has_gets_its_program() {
    needs!(root, bpf, ip);
    let inside = Inside::new();
    let cgroup = inside.walls.cgroup().path();
    assert_eq!(attached(cgroup, INET4_CONNECT), Ok(1));
    // Nothing but that the kernel does not know it is a reason for no program.
    let unix = attached(cgroup, UNIX_CONNECT);
    assert!([Ok(1), Err(Errno::EINVAL)].contains(&unix), "{unix:?}");
}

/// How many programs a cgroup has at a hook.
fn attached(folder: &Path, hook: u32) -> Result<u32, Errno> {
    /// `BPF_PROG_QUERY` of linux/bpf.h.
    const QUERY: libc::c_int = 16;
    let cgroup = File::open(folder).expect("the cgroup is there");
    // target_fd, attach_type, query_flags, attach_flags, prog_ids, prog_cnt
    let mut question = [cgroup.as_raw_fd().cast_unsigned(), hook, 0, 0, 0, 0, 0, 0];
    let size = size_of_val(&question);
    // SAFETY: the question outlives the call, which writes no further than its size.
    let asked = unsafe { libc::syscall(libc::SYS_bpf, QUERY, &raw mut question, size) };
    Errno::result(asked).map(|_| question[6])
}

#[test]
fn what_this_kernel_has_is_told() {
    needs!(root, bpf);
    let landlock = landlock();
    let features = [
        ("hooks on calls to unix sockets", Some(knows_unix_hooks())),
        ("Landlock", Some(landlock > 0)),
        ("Landlock's scopes", Some(landlock >= 6)),
        ("a cgroup is killed by one write", kills_cgroups()),
        ("an answered call cannot be interrupted", Some(waits_killable())),
    ];
    let mut told = std::io::stderr().lock();
    for (name, is_there) in features {
        let answer = is_there.map_or("unknown", |is_there| if is_there { "yes" } else { "no" });
        // Past the runner's capture, at the beginning of a line.
        write!(told, "\nfeature: {name} = {answer}\n").expect("stderr is open");
    }
    assert!(landlock < 1_000, "a version, not an error: {landlock}");
}

/// Whether there are hooks on unix sockets: a query about an unknown hook is refused.
fn knows_unix_hooks() -> bool {
    attached(Path::new(&cgroup2().expect("needed")), UNIX_CONNECT) != Err(Errno::EINVAL)
}

/// The version of Landlock's interface; 0 if there is none.
fn landlock() -> i64 {
    /// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h.
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no structure and only returns a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    version.max(0)
}

/// Whether a cgroup can be killed as a whole; unknown where none can be made.
fn kills_cgroups() -> Option<bool> {
    let made = Path::new(&cgroup2()?).join(format!("features-{}", std::process::id()));
    fs::create_dir(&made).ok()?;
    let has = made.join("cgroup.kill").exists();
    fs::remove_dir(&made).ok()?;
    Some(has)
}

/// Whether a call that somebody else answers can be made to wait for nothing but its answer: an
/// unknown flag is refused before the filter is read.
fn waits_killable() -> bool {
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER` and `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
    const FLAGS: libc::c_ulong = 1 << 3 | 1 << 5;
    let none = std::ptr::null::<libc::c_void>();
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: there is no filter, so the call can only fail.
    let asked = unsafe { libc::syscall(libc::SYS_seccomp, mode, FLAGS, none) };
    Errno::result(asked) == Err(Errno::EFAULT)
}
