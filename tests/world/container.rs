//! Containers without a daemon: what the usual engines put around a program.
//!
//! They are made with `runc` and the machine's own files, so that nothing is fetched.
//!
//! *Standing*: [`Run::contained`](super::Run::contained) has a run start in one, and `BOUNDARY_TEST_IN`
//! every run of boundary. It shares the network of the world's host, as a container has the one that its
//! engine made for it; the origins, the names and who counts the packets stay outside.
//! *Never*: what the engines are documented to do beside capabilities, the filter of system calls,
//! covered and read-only paths and a read-only cgroup tree (their `AppArmor` profile is not there).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::run::{binary, is_users};
use super::{GUEST, World};

/// What an engine was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the default capabilities and the default filter.
    Default,
    /// `--cap-add NET_ADMIN`.
    NetAdmin,
    /// `--cap-add SYS_ADMIN`.
    SysAdmin,
    /// `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`.
    Unconfined,
    /// `--privileged`.
    Privileged,
    /// The restricted profile of Kubernetes: not root, nothing kept, no new privileges.
    Restricted,
}

/// A container to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container {
    /// What the engine was told.
    pub(crate) kind: Kind,
    /// Whether what runs in it is root.
    pub(crate) is_root: bool,
}

/// A run of it: the line that makes it, and where its first process's number will stand.
pub(super) struct Made {
    /// The engine's line.
    pub(super) line: Vec<OsString>,
    /// The file with the number.
    pub(super) pid: PathBuf,
}

impl Kind {
    /// Each by its name in `BOUNDARY_TEST_IN`.
    const NAMES: [(&str, Self); 6] = [
        ("default", Self::Default),
        ("net-admin", Self::NetAdmin),
        ("sys-admin", Self::SysAdmin),
        ("unconfined", Self::Unconfined),
        ("privileged", Self::Privileged),
        ("restricted", Self::Restricted),
    ];

    /// Whether the engine puts a filter of system calls around it.
    pub(crate) fn has_filter(self) -> bool {
        !matches!(self, Self::Privileged | Self::Unconfined)
    }

    /// Whether a process of it may have what its kin share.
    pub(crate) fn may_unshare(self) -> bool {
        !self.has_filter() || matches!(self, Self::SysAdmin)
    }

    /// Whether it may mount something.
    pub(crate) fn may_mount(self) -> bool {
        matches!(self, Self::SysAdmin | Self::Privileged)
    }
}

/// Capabilities by their number, as linux/capability.h has them.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What an engine leaves to root by default.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// What an engine covers of procfs and sysfs, and what it makes read-only.
const COVERED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Container {
    /// The one that every run of boundary starts in; none where it starts on the machine itself.
    pub(crate) fn of_runs() -> Option<Self> {
        let asked = std::env::var("BOUNDARY_TEST_IN").ok().filter(|name| !name.is_empty())?;
        let known = Kind::NAMES.iter().find(|(name, _)| *name == asked);
        let (_, kind) = known.unwrap_or_else(|| panic!("BOUNDARY_TEST_IN: there is no {asked}"));
        Some(Self { kind: *kind, is_root: !is_users() })
    }

    /// What runs a line in it.
    pub(super) fn make(
        self,
        world: &World,
        line: &[OsString],
        environment: &BTreeMap<OsString, OsString>,
        on_terminal: bool,
    ) -> Made {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let own = world.folder().file_name().expect("it has a name").display().to_string();
        let name = format!("{own}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let bundle = world.folder().join(format!("bundle-{name}"));
        make_root(&bundle.join("rootfs"));
        let mut config = self.config(world, line, environment);
        config["process"]["terminal"] = on_terminal.into();
        fs::write(bundle.join("config.json"), config.to_string()).expect("the folder is ours");
        let (state, pid) = (world.folder().join("runc"), bundle.join("pid"));
        let words: [OsString; 9] = [
            "runc".into(),
            "--root".into(),
            state.into(),
            "run".into(),
            "--pid-file".into(),
            pid.clone().into(),
            "--bundle".into(),
            bundle.into(),
            name.into(),
        ];
        Made { line: words.to_vec(), pid }
    }

    fn config(
        self,
        world: &World,
        line: &[OsString],
        environment: &BTreeMap<OsString, OsString>,
    ) -> Value {
        let text = |word: &OsString| word.to_str().expect("our own words").to_owned();
        let id = if self.is_root { 0 } else { GUEST };
        let held = if self.is_root { self.capabilities() } else { Vec::new() };
        let environment: Vec<String> = environment
            .iter()
            .map(|(name, value)| format!("{}={}", text(name), text(value)))
            .collect();
        let is_covered = !matches!(self.kind, Kind::Privileged | Kind::Unconfined);
        let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        let mut linux = json!({
            "namespaces": namespaces,
            "maskedPaths": if is_covered { COVERED.to_vec() } else { Vec::new() },
            "readonlyPaths": if is_covered { READ_ONLY.to_vec() } else { Vec::new() },
        });
        if self.kind.has_filter() {
            linux["seccomp"] = self.filter();
        }
        if self.kind == Kind::Privileged {
            linux["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
        }
        json!({
            "ociVersion": "1.0.2",
            "hostname": "container",
            "root": { "path": "rootfs", "readonly": false },
            "process": {
                "user": { "uid": id, "gid": id },
                "args": line.iter().map(text).collect::<Vec<_>>(),
                "env": environment,
                "cwd": world.folder(),
                "noNewPrivileges": self.kind == Kind::Restricted,
                "capabilities": {
                    "bounding": self.capabilities(),
                    "permitted": held,
                    "effective": held,
                    "inheritable": [],
                    "ambient": [],
                },
            },
            "mounts": self.mounts(&[world.folder(), binary().parent().expect("it lies somewhere")]),
            "linux": linux,
        })
    }

    /// What is kept in the bounding set.
    fn capabilities(self) -> Vec<String> {
        let status = fs::read_to_string("/proc/self/status").expect("procfs is mounted");
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let bounding = bounding.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        let bounding = bounding.expect("a set");
        let names: Vec<&str> = match self.kind {
            Kind::Restricted => Vec::new(),
            Kind::Privileged => CAPABILITIES.to_vec(),
            Kind::Default | Kind::Unconfined => DEFAULT.to_vec(),
            Kind::NetAdmin => [&DEFAULT[..], &["NET_ADMIN"]].concat(),
            Kind::SysAdmin => [&DEFAULT[..], &["SYS_ADMIN"]].concat(),
        };
        let is_to_be_had = |name: &&str| {
            let number = CAPABILITIES.iter().position(|known| known == name);
            number.is_some_and(|number| bounding >> number & 1 == 1)
        };
        names.into_iter().filter(is_to_be_had).map(|name| format!("CAP_{name}")).collect()
    }

    fn mounts(self, shared: &[&Path]) -> Vec<Value> {
        let made = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
        let bound = |at: &Path, options: &[&str]| json!({ "destination": at, "type": "bind", "source": at, "options": options });
        let quiet = ["nosuid", "noexec", "nodev"];
        let is_privileged = self.kind == Kind::Privileged;
        let sys = if is_privileged { quiet.to_vec() } else { [&quiet[..], &["ro"]].concat() };
        let groups = if is_privileged { &["rbind", "rw"][..] } else { &["rbind", "rro"] };
        let mut mounts = vec![
            made("/proc", "proc", &quiet),
            made("/dev", "tmpfs", &["nosuid", "mode=755", "size=64m"]),
            made("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
            made("/dev/shm", "tmpfs", &quiet),
            made("/sys", "sysfs", &sys),
            bound(Path::new("/sys/fs/cgroup"), groups),
            made("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
            at_run(),
            bound(Path::new("/usr"), &["rbind", "ro"]),
            bound(Path::new("/etc"), &["rbind", "ro"]),
        ];
        mounts.push(bound(&toolchain(), &["rbind", "ro"]));
        mounts.extend(shared.iter().map(|folder| bound(folder, &["rbind", "rw"])));
        mounts
    }

    /// The default filter of system calls: what is listed is permitted, the rest is `EPERM`.
    fn filter(self) -> Value {
        const ALLOW: &str = "SCMP_ACT_ALLOW";
        let words = |text: &'static str| text.split_whitespace().collect::<Vec<_>>();
        let mut rules = vec![
            json!({ "names": words(include_str!("container.calls")), "action": ALLOW }),
            json!({ "names": ["socket"], "action": ALLOW,
                    "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }] }),
        ];
        for personality in [0_u64, 8, 0x20000, 0x20008, 0xffff_ffff] {
            rules.push(json!({ "names": ["personality"], "action": ALLOW,
                "args": [{ "index": 0, "value": personality, "op": "SCMP_CMP_EQ" }] }));
        }
        if self.kind == Kind::SysAdmin {
            let more = "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick mount \
                        mount_setattr move_mount open_tree perf_event_open quotactl setdomainname \
                        sethostname setns syslog umount umount2 unshare";
            rules.push(json!({ "names": words(more), "action": ALLOW }));
        } else {
            // No namespace may be made: the flags that do are to be clear.
            rules.push(json!({ "names": ["clone"], "action": ALLOW,
                "args": [{ "index": 0, "value": 0x7e02_0000, "valueTwo": 0,
                           "op": "SCMP_CMP_MASKED_EQ" }] }));
            rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
        }
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"] })
    }
}

/// What stands at `/run`: an empty folder; where every run is contained, that of the world's host, with the
/// sockets of the daemons that a test has put there, as people hand them to a container.
fn at_run() -> Value {
    let is_shared = Container::of_runs().is_some();
    let (kind, source) = if is_shared { ("bind", "/run") } else { ("tmpfs", "tmpfs") };
    let options = if is_shared { &["rbind", "rw"][..] } else { &["nosuid", "nodev", "mode=755"] };
    json!({ "destination": "/run", "type": kind, "source": source, "options": options })
}

/// Where Rust is, for the tests that have a program of it: not below `/usr` everywhere.
pub(crate) fn toolchain() -> PathBuf {
    let cargo = Path::new(env!("CARGO"));
    cargo.ancestors().nth(2).expect("TOOLCHAIN/bin/cargo").to_owned()
}

/// A root with nothing but the places for mounts, and the machine's own links.
fn make_root(root: &Path) {
    for folder in ["proc", "sys", "dev", "etc", "usr", "tmp", "run", "root", "home", "var/tmp"] {
        fs::create_dir_all(root.join(folder)).expect("the folder is ours");
    }
    for shared in ["tmp", "var/tmp"] {
        // What is mounted there takes its mode from it.
        let mode = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(root.join(shared), mode).expect("it is ours");
    }
    symlink("/run", root.join("var/run")).expect("the folder is ours");
    for link in ["bin", "sbin", "lib", "lib64"] {
        if let Ok(to) = fs::read_link(Path::new("/").join(link)) {
            symlink(to, root.join(link)).expect("the folder is ours");
        }
    }
}
