//! What this kernel has of all that boundary uses where it is there, and that it is used then.
//!
//! *Standing*: each feature is told on a line of its own, `feature: NAME = yes`, from which
//! `cargo xtask vm` makes the table in `docs/kernels.md`. *Never*: fails for a lack; every one of
//! them has something in its place, or its loss is documented.

#![expect(unsafe_code, reason = "questions to the kernel that neither std nor nix wraps")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use aya_obj::generated::bpf_attach_type as hook;
use boundary_common::PROGRAMS;
use nix::errno::Errno;

use super::inside::Inside;
use crate::world::needs::{cgroup2, needs};

const UNIX_CONNECT: u32 = hook::BPF_CGROUP_UNIX_CONNECT as u32;
/// The hook of each program that every kernel has one for, in their order.
const HOOKS: [u32; 13] = [
    hook::BPF_CGROUP_INET4_CONNECT as u32,
    hook::BPF_CGROUP_INET6_CONNECT as u32,
    hook::BPF_CGROUP_UDP4_SENDMSG as u32,
    hook::BPF_CGROUP_UDP6_SENDMSG as u32,
    hook::BPF_CGROUP_UDP4_RECVMSG as u32,
    hook::BPF_CGROUP_UDP6_RECVMSG as u32,
    hook::BPF_CGROUP_INET4_GETPEERNAME as u32,
    hook::BPF_CGROUP_INET6_GETPEERNAME as u32,
    hook::BPF_CGROUP_INET_SOCK_CREATE as u32,
    hook::BPF_CGROUP_SETSOCKOPT as u32,
    hook::BPF_CGROUP_INET_EGRESS as u32,
    hook::BPF_CGROUP_INET_INGRESS as u32,
    hook::BPF_CGROUP_DEVICE as u32,
];

/// Those that came later.
const LATER_HOOKS: [u32; 2] = [UNIX_CONNECT, hook::BPF_CGROUP_UNIX_SENDMSG as u32];

#[test]
fn every_hook_that_this_kernel_has_gets_its_program() {
    needs!(root, bpf, ip);
    let inside = Inside::new();
    let cgroup = inside.walls.cgroup().path();
    for (place, hook) in HOOKS.into_iter().enumerate() {
        assert_eq!(attached(cgroup, hook), Ok(1), "{}", PROGRAMS[place]);
    }
    // Nothing but that the kernel does not know it is a reason for no program.
    for hook in LATER_HOOKS {
        let later = attached(cgroup, hook);
        assert!([Ok(1), Err(Errno::EINVAL)].contains(&later), "{later:?}");
    }
    assert_eq!(HOOKS.len() + LATER_HOOKS.len(), PROGRAMS.len());
}

#[test]
fn landlock_keeps_a_path_from_leading_to_a_socket_outside_where_it_can() {
    needs!(root);
    let outside = std::env::temp_dir().join(format!("outside-{}", std::process::id()));
    let _listener = UnixListener::bind(&outside).expect("the place is free");
    let hand = Command::new(env!("CARGO_BIN_EXE_hand")).arg("restrict").arg(&outside).output();
    fs::remove_file(&outside).expect("it is ours");
    let hand = hand.expect("a hand is started");
    let said = String::from_utf8_lossy(&hand.stdout);
    let there = if restricts_unix() { "EACCES: Permission denied" } else { "reached" };
    assert_eq!(said.lines().collect::<Vec<_>>(), [there, "reached"], "{hand:?}");
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
        ("Landlock's rules for connections", Some(landlock >= 4)),
        ("Landlock's scopes", Some(has_scopes())),
        ("Landlock's rules for unix sockets", Some(restricts_unix())),
        ("a cgroup is killed by one write", kills_cgroups()),
        ("an answered call cannot be interrupted", Some(waits_killable())),
        ("a map is read by whom it was handed to", lends_maps()),
        ("maps that are no locked memory", Some(unlocked_maps())),
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
pub(crate) fn knows_unix_hooks() -> bool {
    attached(Path::new(&cgroup2().expect("needed")), UNIX_CONNECT) != Err(Errno::EINVAL)
}

/// Whether there is Landlock, which the jail `landjail` needs.
pub(crate) fn has_landlock() -> bool {
    landlock() > 0
}

/// Whether Landlock keeps signals in, and abstract unix sockets.
pub(crate) fn has_scopes() -> bool {
    landlock() >= 6
}

/// Whether Landlock keeps a path from leading to a unix socket of somebody outside.
pub(crate) fn restricts_unix() -> bool {
    landlock() >= 9
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
pub(crate) fn waits_killable() -> bool {
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER` and `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
    const FLAGS: libc::c_ulong = 1 << 3 | 1 << 5;
    let none = std::ptr::null::<libc::c_void>();
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: there is no filter, so the call can only fail.
    let asked = unsafe { libc::syscall(libc::SYS_seccomp, mode, FLAGS, none) };
    Errno::result(asked) == Err(Errno::EFAULT)
}

/// Whether a user without rights may read a map that he was handed; unknown where users may use all of
/// `bpf(2)`.
fn lends_maps() -> Option<bool> {
    let setting = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").ok()?;
    let map = make_map().ok().filter(|_| setting.trim() != "0")?;
    Some(in_a_child(move || {
        // SAFETY: the call takes two numbers and no pointer.
        let is_user = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) } == 0;
        is_user && look_up(&map) == Ok(())
    }))
}

/// Whether a map can be made by whom no memory may be locked for.
fn unlocked_maps() -> bool {
    in_a_child(|| {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limits outlive the call.
        let is_set = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) } == 0;
        is_set && make_map().is_ok()
    })
}

/// A map of one number.
fn make_map() -> Result<OwnedFd, Errno> {
    /// `BPF_MAP_CREATE` and `BPF_MAP_TYPE_ARRAY` of linux/bpf.h.
    const CREATE: libc::c_int = 0;
    const ARRAY: u32 = 2;
    // map_type, key_size, value_size, max_entries, map_flags
    let map = [ARRAY, 4, 8, 1, 0];
    // SAFETY: the structure outlives the call, and is of the size that is named.
    let made = unsafe { libc::syscall(libc::SYS_bpf, CREATE, &raw const map, size_of_val(&map)) };
    let made = Errno::result(made)?;
    let number = RawFd::try_from(made).map_err(|_no_descriptor| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Reads the one number of a map.
fn look_up(map: &OwnedFd) -> Result<(), Errno> {
    /// `BPF_MAP_LOOKUP_ELEM` of linux/bpf.h.
    const LOOK_UP: libc::c_int = 1;
    let (key, mut value) = (0_u32, 0_u64);
    let places = [(&raw const key).addr(), (&raw mut value).addr()].map(|place| place as u64);
    // map_fd, key, value, flags
    let question = [u64::from(map.as_raw_fd().cast_unsigned()), places[0], places[1], 0];
    let size = size_of_val(&question);
    // SAFETY: question, key and value outlive the call, and are of the sizes that the map has.
    let asked = unsafe { libc::syscall(libc::SYS_bpf, LOOK_UP, &raw const question, size) };
    Errno::result(asked).map(drop)
}

/// What a child that is forked for it finds. It allocates nothing: this process has other threads.
fn in_a_child(find: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child makes system calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let found = find();
        // SAFETY: ends the child, with nothing of the parent's run.
        unsafe { libc::_exit(i32::from(!found)) };
    }
    assert!(child > 0, "a process can be forked");
    let mut status = 0;
    // SAFETY: the child is ours, and the status outlives the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "the child is waited for");
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}
