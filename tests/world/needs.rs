//! What a test needs of the machine, and the promise that it is there.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::container::Container;

/// Ends the test early, loudly, on a machine that lacks something.
///
/// `needs!(root, bpf, curl)`: `root`, `bpf` (the capabilities and a cgroup2 that root may write),
/// `ebpf` (those, and that this is the jail of the run), `rooms` (that it has room for boundary inside
/// boundary), `machine` (that boundary starts on the machine itself, in no container), `privilege` (that
/// nobody but root starts it there), `covers` (that the jail of the run has mounts of its own), `guards`
/// (that it keeps the command from changing files of the session's), `bounds` (that the limits of whoever
/// starts boundary may be changed), `long` (that long runs are asked for), `userns`, `landlock`, `loopdev`
/// (files as disks), `cargo` (one that who starts boundary may run), `memcg` (cgroups that bound memory), the name of a Python package, or that of a
/// program. Under `BOUNDARY_TEST_PROMISE=root,bpf,…` the lack of what was promised is a failure.
macro_rules! needs {
    ($($what:ident),+) => {
        if !$crate::world::needs::met(&[$(stringify!($what)),+]) {
            return;
        }
    };
}
pub(crate) use needs;

/// Whether everything is there. Says what is missing; panics if it had been promised.
pub(crate) fn met(wanted: &[&str]) -> bool {
    let Some(missing) = missing(wanted) else { return true };
    // Past the test runner's capture: a skip that nobody sees is a lie.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "skipped: {test} needs {missing}").expect("stderr is open");
    false
}

/// Whether a test that runs in any case is to do what needs this too. Says what is left out.
pub(crate) fn also(wanted: &[&str]) -> bool {
    let Some(missing) = missing(wanted) else { return true };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "in part: {test} without {missing}").expect("stderr is open");
    false
}

/// The first thing that is not there; panics if it had been promised.
fn missing<'a>(wanted: &[&'a str]) -> Option<&'a str> {
    let missing = wanted.iter().copied().find(|what| !is_there(what))?;
    let promise = std::env::var("BOUNDARY_TEST_PROMISE").unwrap_or_default();
    assert!(
        !promise.split(',').any(|promised| promised.replace('-', "_") == missing),
        "{missing} was promised and is not there"
    );
    Some(missing)
}

/// Whether the machine has it.
fn is_there(what: &str) -> bool {
    match what {
        "root" => geteuid().is_root(),
        "bpf" => has_capability(39) && has_capability(12) && cgroup2().is_some(),
        // A test about what only this jail has: its cgroup, its hooks, its doors on the host.
        "ebpf" => is_there("bpf") && super::run::jail() == "ebpf",
        // A test about boundary inside boundary, for which nsjail has no room.
        "rooms" => is_there("bpf") && super::run::jail() != "nsjail",
        // A test about what root can do to the place, or that whoever starts boundary has rights to lose.
        "privilege" => geteuid().is_root() && super::run::user() == "0" && is_there("machine"),
        // A test that looks at boundary from the machine, or changes the machine around it.
        "machine" => Container::of_runs().is_none(),
        // A test that looks for the program behind a record: the kernel half knows processes by the
        // machine's numbers, which a container's procfs has not.
        "numbers" => super::run::jail() != "ebpf" || is_there("machine"),
        // A test about what a mount covers: landjail has mounts where root starts it, and none for a user.
        "covers" => super::run::jail() != "landjail" || may_mount(),
        // A test about a file that only mounts keep from the command, whoever starts boundary.
        "guards" => super::run::jail() != "landjail",
        // CAP_SYS_RESOURCE, which some hosts keep from root: its own processes it bounds without.
        "bounds" => super::run::user() == "0" || has_capability(24),
        "long" => crate::escape::is_long(),
        "userns" => Path::new("/proc/self/ns/user").exists() && user_namespaces() > 0,
        "landlock" => crate::kernel::has_landlock(),
        // Of a version that knows the paths of unix sockets.
        "landlock_unix" => crate::kernel::restricts_unix(),
        // The one that builds this, below whatever home it has.
        "cargo" => super::run::user() == "0" || !is_there("machine") || is_open(env!("CARGO")),
        "memcg" => super::narrow::hierarchy().is_some(),
        "loopdev" => Path::new("/dev/loop-control").exists(),
        "grpcio" => has_module("grpc"),
        "requests" => has_module("requests"),
        "httpx" => has_module("httpx") && has_module("h2"),
        "websockets" => has_module("websockets"),
        program => on_path(program),
    }
}

/// Whether everybody may go to a file.
fn is_open(path: &str) -> bool {
    let is_open = |place: &Path| place.metadata().is_ok_and(|it| it.mode() & 1 == 1);
    Path::new(path).ancestors().all(is_open)
}

/// Whether whoever starts boundary may mount something.
fn may_mount() -> bool {
    let is_root = super::run::user() == "0";
    is_root && Container::of_runs().is_none_or(|it| it.kind.may_mount())
}

/// Whether the system's Python has a module.
fn has_module(name: &str) -> bool {
    Path::new("/usr/lib/python3/dist-packages").join(name).exists()
}

/// Whether the effective set has a capability, by its number.
fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> number & 1 == 1)
}

/// Where the cgroup2 hierarchy is mounted, writeable.
pub(crate) fn cgroup2() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut fields = head.split(' ').skip(4);
        let (place, options) = (fields.next()?, fields.next()?);
        let writeable = options.split(',').any(|option| option == "rw");
        (tail.starts_with("cgroup2 ") && writeable).then(|| place.to_owned())
    })
}

/// How many user namespaces may be made.
fn user_namespaces() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Whether a program can be found. An underscore stands for a hyphen too, which no identifier has.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> =
        std::env::split_paths(&path).chain(folders().into_iter().map(PathBuf::from)).collect();
    let hyphened = program.replace('_', "-");
    folders.iter().any(|folder| [program, &hyphened].iter().any(|it| folder.join(it).is_file()))
}

/// Where Debian puts servers that users have no need of.
pub(crate) fn folders() -> Vec<String> {
    let mut folders = vec!["/usr/sbin".to_owned()];
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| format!("{}/bin", version.path().display())));
    folders
}
