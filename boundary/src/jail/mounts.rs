//! The mount namespace of the command: what of the file system would lead out is covered, and the
//! system's bundle of certificates carries the session's authority.
//!
//! *Standing*: [`child`](super::child) calls [`arrange`] with full privileges, before it gives
//! them up; the namespace belongs to the parent's user namespace, so nothing in it can be undone
//! from inside. *Never*: changes a mount that anybody outside sees.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::chdir;

use super::Call;
use super::certificates::{self, Bundle};
use super::child::{Enclosure, Entry};
use super::{mutation, procfs};

/// File systems that are a way to the walls, to devices or to other processes, wherever they are
/// mounted.
const COVERED_TYPES: &[&str] = &[
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "efivarfs",
    "pstore",
    "securityfs",
    "tracefs",
];

/// Where cgroup hierarchies are mounted by convention.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Directories in which host daemons keep their sockets.
const DAEMON_DIRECTORIES: &[&str] = &[
    "/run/containerd",
    "/run/crio",
    "/run/dbus",
    "/run/libvirt",
    "/run/lxd",
    "/run/nscd",
    "/run/podman",
    "/run/systemd",
    "/tmp/.ICE-unix",
    "/tmp/.X11-unix",
];

/// Files of procfs that let their writer reach the whole machine.
const READ_ONLY_PROC: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Files of procfs that tell of the whole machine's memory and keys.
const COVERED_PROC: &[&str] = &["/proc/kcore", "/proc/keys", "/proc/timer_list"];

/// Files that say where names are. The proxy finds its upstreams by them, so root inside must not
/// write them: an allowed name would lead wherever it likes.
const RESOLVING: &[&str] =
    &["/etc/gai.conf", "/etc/host.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"];

/// The devices that the command finds where no hook judges them; terminals are beside them.
const DEVICES: &[&str] = &["full", "null", "random", "tty", "urandom", "zero"];

/// The links that programs expect beside devices.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// Moves the calling process into a mount namespace of its own and arranges it.
pub(super) fn arrange(enclosure: &Enclosure<'_>) -> Result<(), Call> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Call::to("unshare(CLONE_NEWNS)"))?;
    // Nothing mounted here is seen outside; what is mounted outside later is seen here no more
    // than before, because a daemon's new socket directory would come with it.
    change("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    certificates::show(enclosure.bundle)?;
    if enclosure.usher.house.is_some() || matches!(enclosure.entry, Entry::Supervised) {
        hide_door(enclosure.usher.door)?;
    }
    let resolving = resolving();
    if mutation::stands("mounts") {
        hide_control_planes()?;
        hide_control(enclosure.bundle)?;
        hide_daemons(enclosure, &pinned(enclosure.usher.open))?;
        if let Entry::Namespaces { .. } | Entry::Supervised = enclosure.entry {
            few_devices(enclosure.identity.is_root())?;
        }
    }
    let guarded = enclosure.guarded.iter().filter(|_| mutation::stands("guard"));
    guarded.map(PathBuf::as_path).try_for_each(protect)?;
    for (path, file) in resolving.iter().filter(|_| mutation::stands("resolving")) {
        if !path.exists() {
            uncover(path, file)?;
        }
        protect(path)?;
    }
    fresh_proc()?;
    if mutation::stands("settings") { keep_settings() } else { Ok(()) }
}

/// Has the door of the session's rooms stand in a folder that nobody outside sees: the door is open to
/// every user of the session, and nobody else is to stand in its way.
fn hide_door(door: &Path) -> Result<(), Call> {
    let Some(folder) = door.parent() else { return Ok(()) };
    mount(Some("tmpfs"), folder, Some("tmpfs"), COVER, Some("size=4k,mode=0755"))
        .map_err(Call::to("mount(tmpfs)"))
}

/// Proves that mounts can be arranged by the calling process, which stays in a mount namespace of
/// its own: files covered, and procfs shown.
pub(in crate::jail) fn try_out() -> Result<(), Call> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Call::to("unshare(CLONE_NEWNS)"))?;
    change("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
        .map_err(Call::to("mount(proc)"))?;
    bind(Path::new("/dev/null"), Path::new("/proc/version"))
}

/// Covers the directory by which the session is told what to permit: it is beside the certificates.
fn hide_control(bundle: &Bundle) -> Result<(), Call> {
    let control = bundle.overlay.parent().map(|session| session.join("control"));
    control.filter(|control| control.is_dir()).map_or(Ok(()), |control| cover(&control))
}

/// Covers cgroupfs, bpffs and their like, and makes the rest of sysfs read-only.
fn hide_control_planes() -> Result<(), Call> {
    let mounts = fs::read("/proc/self/mountinfo").map_err(Call::to("read(mountinfo)"))?;
    let mut covered: Vec<PathBuf> = Vec::new();
    // On a hybrid host each hierarchy of version 1 is a mount of its own below this one.
    if Path::new(CGROUP_ROOT).is_dir() {
        cover(Path::new(CGROUP_ROOT))?;
        covered.push(PathBuf::from(CGROUP_ROOT));
    }
    for line in mounts.split(|byte| *byte == b'\n') {
        let Some(point) = to_cover(line) else { continue };
        let hidden = covered.iter().any(|above| point.starts_with(above));
        if !hidden && point.exists() {
            cover(&point)?;
            covered.push(point);
        }
    }
    if Path::new("/sys/kernel").exists() {
        read_only(Path::new("/sys"))?;
    }
    Ok(())
}

/// The mount point of a line of `/proc/self/mountinfo` (proc(5)), if it is to be covered. A name there is
/// whatever bytes somebody chose.
fn to_cover(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = procfs::unescaped(fields.nth(4)?);
    // Optional fields end with a dash.
    let kind = fields.by_ref().skip_while(|field| *field != b"-").nth(1)?;
    let is_covered = COVERED_TYPES.iter().any(|covered| covered.as_bytes() == kind);
    let is_second_proc = kind == b"proc" && point != Path::new("/proc");
    let calls_hosts = kind == b"autofs" && fields.next().is_some_and(is_map_of_hosts);
    (is_covered || is_second_proc || calls_hosts).then_some(point)
}

/// Whether an automounter's map is of all hosts there are (auto.master(5)): it asks for whatever name is
/// looked up in there, and calls who has it.
fn is_map_of_hosts(map: &[u8]) -> bool {
    map == b"-hosts" || map.ends_with(b"/auto.net")
}

/// Covers the sockets of host daemons: their directories, and every one that is listening now.
/// Those that are open to the command stay.
fn hide_daemons(enclosure: &Enclosure<'_>, open: &[Pinned]) -> Result<(), Call> {
    let uid = enclosure.identity.uid;
    let mut covered: Vec<PathBuf> = Vec::new();
    for directory in DAEMON_DIRECTORIES {
        let Ok(directory) = fs::canonicalize(directory) else { continue };
        if directory.is_dir() {
            cover_but(&directory, open)?;
            covered.push(directory);
        }
    }
    let runtime = PathBuf::from(format!("/run/user/{uid}"));
    if runtime.is_dir() {
        let options = format!("mode=0700,uid={uid},size=64m");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &runtime, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(Call::to("mount(tmpfs)"))?;
        show(open, &runtime)?;
        covered.push(runtime);
    }
    for socket in sockets(enclosure.entry)? {
        let is_open = open.iter().any(|open| open.path == socket);
        if is_open || covered.iter().any(|above| socket.starts_with(above)) {
            continue;
        }
        match bind(Path::new("/dev/null"), &socket) {
            // Its owner has just taken it away.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            covered => covered?,
        }
    }
    Ok(())
}

/// A socket of the host that the command may use, held so that covering its directory does not lose
/// it.
struct Pinned {
    path: PathBuf,
    handle: OwnedFd,
}

/// Those that are there.
fn pinned(open: &[PathBuf]) -> Vec<Pinned> {
    let pin = |path: &PathBuf| {
        let path = fs::canonicalize(path).ok()?;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let handle = nix::fcntl::open(&path, flags, Mode::empty()).ok()?;
        Some(Pinned { path, handle })
    };
    open.iter().filter_map(pin).collect()
}

/// Covers a directory with one in which there is nothing but the open sockets.
fn cover_but(directory: &Path, open: &[Pinned]) -> Result<(), Call> {
    if !open.iter().any(|open| open.path.starts_with(directory)) {
        return cover(directory);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some("size=64k,mode=0755"))
        .map_err(Call::to("mount(tmpfs)"))?;
    show(open, directory)?;
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, directory, None::<&str>, flags, None::<&str>)
        .map_err(Call::to("mount(MS_RDONLY)"))
}

/// Shows the open sockets below a directory where they were.
fn show(open: &[Pinned], directory: &Path) -> Result<(), Call> {
    for Pinned { path, handle } in open.iter().filter(|open| open.path.starts_with(directory)) {
        let above = path.parent().unwrap_or(directory);
        fs::create_dir_all(above).map_err(Call::to("mkdir"))?;
        File::create(path).map_err(Call::to("open(O_CREAT)"))?;
        bind(Path::new(&format!("/proc/self/fd/{}", handle.as_raw_fd())), path)?;
    }
    Ok(())
}

/// The pathname sockets of the host: bound in this network namespace, or lying where daemons of
/// any namespace put theirs.
fn sockets(entry: &Entry) -> Result<Vec<PathBuf>, Call> {
    let table = match entry {
        Entry::Cgroup { .. } | Entry::Supervised => {
            Cow::Owned(fs::read("/proc/net/unix").map_err(Call::to("read(/proc/net/unix)"))?)
        }
        Entry::Namespaces { unix, .. } => Cow::Borrowed(unix),
    };
    let mut sockets: Vec<PathBuf> = bound_in(&table)
        .filter_map(|path| fs::canonicalize(path).ok())
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()))
        .collect();
    sockets_below(Path::new("/run"), DAEMON_DEPTH, &mut sockets);
    sockets.sort();
    sockets.dedup();
    Ok(sockets)
}

/// The absolute paths in a table of unix sockets. A path is whatever bytes its owner chose.
fn bound_in(table: &[u8]) -> impl Iterator<Item = &Path> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let before = line.windows(2).position(|pair| pair == b" /")?;
        line.get(before + 1..).map(|path| Path::new(OsStr::from_bytes(path)))
    })
}

/// How deep below `/run` daemons put their sockets.
const DAEMON_DEPTH: u32 = 3;

/// Adds the sockets below a directory; one that cannot be read is passed over, because the
/// command cannot read it either.
fn sockets_below(directory: &Path, depth: u32, sockets: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_socket() => sockets.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => {
                sockets_below(&entry.path(), depth - 1, sockets);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Mounts a procfs of the command's own pid namespace, with what reaches the machine closed.
fn fresh_proc() -> Result<(), Call> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(Call::to("mount(proc)"))
}

/// Lets nobody change the machine by its settings, nor read its memory and keys.
fn keep_settings() -> Result<(), Call> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in READ_ONLY_PROC.iter().filter(|path| Path::new(path).exists()) {
        bind(Path::new(path), Path::new(path))?;
        change(path, flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY)?;
    }
    for path in COVERED_PROC.iter().filter(|path| Path::new(path).exists()) {
        bind(Path::new("/dev/null"), Path::new(path))?;
    }
    Ok(())
}

/// Lets a file be read and not written, replaced or removed: a mount point cannot be.
fn protect(file: &Path) -> Result<(), Call> {
    bind(file, file)?;
    read_only(file)
}

/// Replaces `/dev` by one with the devices that every program expects, and no other: what the
/// device hook does where there is one.
fn few_devices(is_roots: bool) -> Result<(), Call> {
    let (old, new) = (Path::new("/dev"), Path::new("/dev/shm"));
    if !new.is_dir() {
        return cover(old);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), new, Some("tmpfs"), flags, Some("mode=0755"))
        .map_err(Call::to("mount(tmpfs)"))?;
    for device in DEVICES {
        let to = new.join(device);
        fs::write(&to, "").map_err(Call::to("write(/dev)"))?;
        bind(&old.join(device), &to)?;
    }
    for folder in ["pts", "shm"] {
        fs::create_dir(new.join(folder)).map_err(Call::to("mkdir(/dev)"))?;
    }
    let shared = flags | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &new.join("shm"), Some("tmpfs"), shared, Some("mode=1777"))
        .map_err(Call::to("mount(tmpfs)"))?;
    if old.join("pts").is_dir() {
        terminals((old, new), is_roots)?;
    }
    for (name, to) in DEVICE_LINKS {
        symlink(to, new.join(name)).map_err(Call::to("symlink(/dev)"))?;
    }
    mount(Some(new), old, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(Call::to("mount(MS_MOVE)"))?;
    // A device that is not there must not be taken for one that may be made.
    read_only(old)
}

/// Lets terminals be opened: among the machine's, where the device that makes them is for root alone, or
/// a user's own. The one that somebody sits at has no name among those, and gets that of the console.
/// Where none of their own can be mounted there are the machine's.
fn terminals((old, new): (&Path, &Path), is_roots: bool) -> Result<(), Call> {
    if is_roots {
        return bind(&old.join("pts"), &new.join("pts"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let own = Some("newinstance,ptmxmode=0666,mode=0620");
    let mounted = mount(Some("devpts"), &new.join("pts"), Some("devpts"), flags, own);
    if let Err(error) = mounted {
        tracing::info!(%error, "the command has no terminals of its own");
        return bind(&old.join("pts"), &new.join("pts"));
    }
    let Some(seat) = (0..3).find_map(|fd| seat_of(fd, &old.join("pts"))) else { return Ok(()) };
    let console = new.join("console");
    fs::write(&console, "").map_err(Call::to("write(/dev)"))?;
    // It may have been hung up just now.
    bind(&seat, &console)
        .or_else(|_| fs::remove_file(&console).map_err(Call::to("unlink(/dev/console)")))
}

/// The name of the terminal behind a descriptor, if that very terminal has it: one that was hung up has
/// none, and one of another instance may have that of somebody else's.
fn seat_of(fd: RawFd, terminals: &Path) -> Option<PathBuf> {
    let link = PathBuf::from(format!("/proc/self/fd/{fd}"));
    let name = fs::read_link(&link).ok().filter(|name| name.starts_with(terminals))?;
    let which = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino(), it.rdev()));
    (which(&name).ok()? == which(&link).ok()?).then_some(name)
}

/// Makes a mount read-only, and leaves its other flags: in a user namespace they are locked.
fn read_only(point: &Path) -> Result<(), Call> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | flags_of(point)?;
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
        .map_err(Call::to("mount(MS_RDONLY)"))
}

/// The files that say where names are, where their links lead, held open.
fn resolving() -> Vec<(PathBuf, File)> {
    let paths = RESOLVING.iter().filter_map(|path| fs::canonicalize(path).ok());
    paths.filter_map(|path| File::open(&path).ok().map(|file| (path, file))).collect()
}

/// Shows a file again that was covered with its directory: `resolv.conf` often is a link to one
/// beside a daemon's sockets, and the search list in it belongs to what programs mean by a name.
fn uncover(path: &Path, file: &File) -> Result<(), Call> {
    let mut covers = DAEMON_DIRECTORIES.iter().filter_map(|it| fs::canonicalize(it).ok());
    let (Some(cover), Some(directory)) = (covers.find(|it| path.starts_with(it)), path.parent())
    else {
        return Ok(());
    };
    recover(&cover, MsFlags::empty())?;
    fs::create_dir_all(directory).map_err(Call::to("mkdir(resolv.conf)"))?;
    File::create(path).map_err(Call::to("open(resolv.conf)"))?;
    bind(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), path)?;
    recover(&cover, MsFlags::MS_RDONLY)
}

/// Makes the cover of a directory writeable, or not.
fn recover(cover: &Path, flags: MsFlags) -> Result<(), Call> {
    let flags = flags | COVER | MsFlags::MS_REMOUNT;
    mount(None::<&str>, cover, None::<&str>, flags, Some("size=4k,mode=0555"))
        .map_err(Call::to("mount(MS_REMOUNT)"))
}

/// What no cover has.
const COVER: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// The flags of the mount that a path lies on. `MS_RELATIME` need not be among them: a mount that has
/// no other of its kind has that one, and a remount that names none keeps what there is.
fn flags_of(path: &Path) -> Result<MsFlags, Call> {
    let has = statvfs(path).map_err(Call::to("statvfs"))?.flags();
    let known = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
    ];
    let kept = known.into_iter().filter(|(flag, _)| has.contains(*flag));
    Ok(kept.fold(MsFlags::empty(), |flags, (_, flag)| flags | flag))
}

/// Covers a directory with an empty one that cannot be written.
fn cover(directory: &Path) -> Result<(), Call> {
    let flags = COVER | MsFlags::MS_RDONLY;
    mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some("size=4k,mode=0555"))
        .map_err(Call::to("mount(tmpfs)"))
}

/// Steps out of a working directory that was covered, into what is shown in its place. Whoever
/// stands in a directory needs no name to reach what is in it: `cgroup.procs` in cgroupfs, a bus's
/// socket below `/run`.
///
/// To be called with the command's own rights: a path may have been changed by its user just now,
/// and root may have no right to walk it (a home over NFS). What cannot be looked at in either way
/// was not covered by us.
pub(super) fn leave_covered_directory() -> Result<(), Call> {
    let inode = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    match env::current_dir() {
        Ok(shown) if inode(&shown) == inode(Path::new(".")) => Ok(()),
        Ok(shown) => chdir(&shown).or_else(|_| chdir("/")),
        Err(_) => chdir("/"),
    }
    .map_err(Call::to("chdir"))
}

/// Shows `source` at `target`.
pub(super) fn bind(source: &Path, target: &Path) -> Result<(), Call> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(Call::to("mount(MS_BIND)"))
}

/// Changes the flags of a mount.
fn change(path: &str, flags: MsFlags) -> Result<(), Call> {
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).map_err(Call::to("mount(flags)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_socket_is_found_whatever_its_path_is_made_of() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 17 /run/a b.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 18 @\xff\xfe\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 19\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 20 /tmp/\xff\n";
        let found: Vec<&Path> = bound_in(table).collect();
        let odd = Path::new(OsStr::from_bytes(b"/tmp/\xff"));
        assert_eq!(found, [Path::new("/run/a b.sock"), odd]);
    }

    #[test]
    fn what_is_mounted_is_judged_by_its_type_whatever_it_is_called() {
        let line = |place: &[u8], rest: &[u8]| {
            to_cover(&[b"36 28 0:32 / ", place, b" rw,nosuid ", rest].concat())
        };
        let odd = Path::new(OsStr::from_bytes(b"/mnt/\xff a"));
        let place = b"/mnt/\xff\\040a";
        assert_eq!(line(place, b"shared:9 master:1 - cgroup2 none rw").as_deref(), Some(odd));
        assert_eq!(line(place, b"- proc proc rw").as_deref(), Some(odd));
        assert_eq!(line(place, b"- tmpfs cgroup2 rw"), None);
        assert_eq!(line(b"/proc", b"- proc proc rw"), None);
        assert_eq!(to_cover(b""), None);
        for map in ["-hosts", "/etc/auto.net", "/etc/autofs/auto.net"] {
            let is_covered = line(b"/net", format!("- autofs {map} rw,fd=6").as_bytes());
            assert_eq!(is_covered.as_deref(), Some(Path::new("/net")), "{map}");
        }
        for map in ["systemd-1", "/etc/auto.home", "auto.net"] {
            assert_eq!(line(b"/home", format!("- autofs {map} rw,fd=6").as_bytes()), None, "{map}");
        }
    }
}
