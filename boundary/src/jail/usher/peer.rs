//! Whose a unix socket is: the session's, if one of its processes has it open.
//!
//! The kernel's list of sockets says which one is bound to a file; what the processes of the pid
//! namespace have open says whether it is one of theirs. A socket that is in no list, because
//! another network namespace made it, is a stranger's.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recv, send, socket,
    sockopt,
};
use nix::sys::stat::{FileStat, Mode, fstat, major, minor, stat};
use nix::sys::statfs::{
    EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
    XFS_SUPER_MAGIC, fstatfs,
};

use super::address_of;
use super::connect::Patience;
use super::thread::Rights;
use crate::jail::nsjail::{Socket, listens};
use crate::jail::procfs;
use crate::sys::{errno_of, reach};

/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS: FsType = FsType(0x8584_58f6);
/// How many sockets are known at once; the next one forgets them all.
const KNOWN: usize = 256;

/// The sockets of the session, as far as they were asked for.
#[derive(Debug, Default)]
pub(in crate::jail) struct Own {
    known: Known,
}

/// Whose sockets are own to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::jail) enum Reach {
    /// Those that were made in this network namespace, in which there is nobody but the session.
    Network,
    /// Those of every process of the session.
    Session,
    /// Those of the processes in a cgroup or inside it, and the session's door, by its inode: what is
    /// around a room has a wider policy than it.
    Room(String, Option<u32>),
}

impl Reach {
    /// That of a process, by the text of its `cgroup` (proc(5)), the name of the session's own and its
    /// door.
    pub(in crate::jail) fn of(text: &str, session: &str, door: Option<u32>) -> Option<Self> {
        let path = cgroup(text)?;
        let is_room = Path::new(path).file_name() != Some(session.as_ref());
        Some(if is_room { Self::Room(path.to_owned(), door) } else { Self::Session })
    }

    /// Whether a socket is own, whoever has it open: the door. The usher has others open as well,
    /// while it makes a call for somebody.
    fn has(&self, socket: u32) -> bool {
        matches!(self, Self::Room(_, Some(door)) if *door == socket)
    }

    /// Whether it takes in the process of which this is the folder in procfs.
    fn covers(&self, process: &Path) -> bool {
        let Self::Room(room, _) = self else { return true };
        let text = procfs::text(process.join("cgroup")).unwrap_or_default();
        cgroup(&text).is_some_and(|path| Path::new(path).starts_with(room))
    }
}

/// The path of a cgroup of version 2 in the text of a process's `cgroup`.
fn cgroup(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

impl Own {
    /// Whether a process that is in reach made the socket at a file, of which a handle is given.
    pub(in crate::jail) fn has_file(
        &self,
        (node, handle): (&Node, &OwnedFd),
        reach: &Reach,
        caller: &Caller<'_>,
    ) -> nix::Result<bool> {
        let is_in_no_room = !matches!(reach, Reach::Room(..));
        if is_in_no_room && self.known.has(node) {
            return Ok(true);
        }
        let is_own = holds_all(&node.bound(&list()?).collect::<Vec<_>>(), reach)
            && (node.is_told_apart || is_served_in_reach(handle, caller, reach)?);
        if is_own && is_in_no_room {
            self.known.note(node, handle);
        }
        Ok(is_own)
    }
}

/// Files of which is known whose sockets are bound to them: one is for as long as there is the file.
#[derive(Debug, Default)]
pub(in crate::jail) struct Known(Mutex<HashMap<Node, OwnedFd>>);

impl Known {
    /// Whether a file is one of them.
    pub(in crate::jail) fn has(&self, node: &Node) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(node)
    }

    /// Notes one, with a handle that keeps its inode from becoming another file's.
    pub(in crate::jail) fn note(&self, node: &Node, handle: &OwnedFd) {
        let Ok(handle) = handle.try_clone() else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(*node, handle);
    }
}

/// Whether a process of this pid namespace, one that is in reach, began to listen at a file.
fn is_served_in_reach(file: &OwnedFd, caller: &Caller<'_>, reach: &Reach) -> nix::Result<bool> {
    let Some(socket) = caller.knock(file)? else { return Ok(false) };
    let server = getsockopt(&socket, sockopt::PeerCredentials)?.pid();
    Ok(server > 0 && reach.covers(&Path::new("/proc").join(server.to_string())))
}

/// Whoever wants to get to a socket.
pub(in crate::jail) struct Caller<'a> {
    /// By which socket.
    pub(in crate::jail) from: &'a OwnedFd,
    /// With whose rights.
    pub(in crate::jail) rights: &'a Rights,
    /// Whether he waits still.
    pub(in crate::jail) is_there: &'a dyn Fn() -> bool,
}

impl Caller<'_> {
    /// A connection to the socket at a file, with his rights and for as long as he waits, which says nothing
    /// and ends at once: the kernel tells who began to listen there. None where it does not, of datagrams.
    pub(in crate::jail) fn knock(&self, file: &OwnedFd) -> nix::Result<Option<OwnedFd>> {
        let kind = getsockopt(self.from, sockopt::SockType)?;
        if !matches!(kind, SockType::Stream | SockType::SeqPacket) {
            return Ok(None);
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, kind, flags, None)?;
        let connect = || reach::connect(socket.as_fd(), &address_of(file));
        let mut patience = Patience::at(self.from)?;
        loop {
            let done = self.rights.borrow(connect);
            match done.map_err(|error| errno_of(&error, Errno::EIO))? {
                Err(Errno::EAGAIN) if patience.as_mut().is_some_and(Patience::lasts) => {}
                done => return done.map(|()| Some(socket)),
            }
            if !(self.is_there)() {
                return Err(Errno::EINTR);
            }
        }
    }
}

/// Whether a process that is in reach has the socket of an abstract name.
pub(in crate::jail) fn has_name(name: &[u8], reach: &Reach) -> nix::Result<bool> {
    Ok(holds_all(&list()?.iter().filter(|bound| bound.name == name).collect::<Vec<_>>(), reach))
}

/// The sockets that are bound to a file, by inode.
pub(in crate::jail) fn bound_at(node: &Node) -> nix::Result<Vec<u32>> {
    Ok(node.bound(&list()?).map(|bound| bound.socket).collect())
}

/// The sockets that have an abstract name, by inode.
pub(in crate::jail) fn named(name: &[u8]) -> nix::Result<Vec<u32>> {
    Ok(list()?.iter().filter(|bound| bound.name == name).map(|bound| bound.socket).collect())
}

/// A socket of the host that the user has opened to the command: it stands where the user said, and
/// was bound there. Whoever may write there could have moved another one to it.
#[derive(Debug)]
pub(in crate::jail) struct Listed {
    path: PathBuf,
    /// The spellings under which it may have been bound. They are found before the command runs:
    /// afterwards a folder in a name may be another one.
    names: Vec<Vec<u8>>,
    host: Arc<Host>,
}

/// The list in which sockets of the host are: that of its network namespace.
#[derive(Debug)]
pub(in crate::jail) struct Host {
    /// What asks there, where that is another one than ours. One question at a time.
    outside: Option<Mutex<Socket>>,
}

impl Host {
    /// Asks through a line from there, or here.
    pub(in crate::jail) fn by(outside: Option<OwnedFd>) -> Arc<Self> {
        Arc::new(Self { outside: outside.map(|line| Mutex::new(Socket::from_descriptor(line))) })
    }

    /// Whether nobody listens at a port of loopback, neither on the machine nor here, where these are two.
    pub(in crate::jail) fn has_nobody_at(&self, at: SocketAddr) -> bool {
        let Some(outside) = &self.outside else { return false };
        let is_served = |by: &Socket| listens(by, at).unwrap_or(true);
        let is_served_there = is_served(&outside.lock().unwrap_or_else(PoisonError::into_inner));
        let here = || Socket::open(SockProtocol::NetlinkSockDiag);
        !is_served_there && here().is_ok_and(|here| !is_served(&here))
    }

    fn list(&self) -> nix::Result<Vec<Bound>> {
        let Some(outside) = &self.outside else { return list() };
        list_by(outside.lock().unwrap_or_else(PoisonError::into_inner).as_fd())
    }
}

impl Listed {
    /// The one at a path, which need not be there yet.
    pub(in crate::jail) fn at(path: &Path, host: &Arc<Host>) -> Self {
        let mut names = vec![path.as_os_str().as_bytes().to_vec()];
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name())
            && let Ok(folder) = fs::canonicalize(folder)
        {
            names.push(folder.join(name).into_os_string().into_vec());
        }
        if let Ok(file) = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            && let (Ok(at), Ok(all)) = (fstat(&file), host.list())
        {
            names.extend(Node::of(&at, &file).bound(&all).map(|bound| bound.path().to_vec()));
        }
        Self { path: path.to_owned(), names, host: Arc::clone(host) }
    }

    /// Whether the socket at a file is this one.
    pub(in crate::jail) fn is(&self, at: &FileStat, node: &Node) -> nix::Result<bool> {
        let is_there = stat(&self.path)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (at.st_dev, at.st_ino));
        let is_named = |bound: &Bound| self.names.iter().any(|name| name == bound.path());
        Ok(is_there && node.bound(&self.host.list()?).any(is_named))
    }
}

/// What a file is known by in the kernel's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::jail) struct Node {
    /// The half of its inode's number that is told there.
    inode: u32,
    /// Its device as `stat` tells it, and that of its file system: where both differ (overlayfs,
    /// btrfs), the list has the latter.
    devices: [Option<u32>; 2],
    /// What `stat` tells, which is this file's alone.
    whole: (u64, u64),
    /// Whether no other file is known by the same.
    is_told_apart: bool,
}

impl Node {
    /// That of a file, of which a handle is given.
    pub(in crate::jail) fn of(at: &FileStat, handle: &OwnedFd) -> Self {
        let inode = u32::try_from(at.st_ino & u64::from(u32::MAX)).unwrap_or_default();
        let devices = [packed(major(at.st_dev), minor(at.st_dev)), device_below(handle)];
        let (whole, is_told_apart) = ((at.st_dev, at.st_ino), is_told_apart(at, handle));
        Self { inode, devices, whole, is_told_apart }
    }

    /// Whether no other file is known by the same.
    pub(in crate::jail) fn is_told_apart(&self) -> bool {
        self.is_told_apart
    }

    /// The sockets that are bound to it.
    fn bound<'a>(&self, all: &'a [Bound]) -> impl Iterator<Item = &'a Bound> {
        let Self { inode, devices, .. } = *self;
        all.iter().filter(move |bound| {
            bound.file.is_some_and(|(own, device)| own == inode && devices.contains(&Some(device)))
        })
    }
}

/// Whether 32 bits of an inode's number and the device of its file system are one file's alone. Not where
/// numbers are longer, and not where a file system has numbers of several trees (btrfs): a command that makes
/// files until their number is right has a socket that is known by what another one is.
pub(in crate::jail) fn is_told_apart(at: &FileStat, handle: &OwnedFd) -> bool {
    /// Up to this size XFS has no number that is longer, with the smallest inodes that it has.
    const SMALL: u64 = 256 << 30;
    if u32::try_from(at.st_ino).is_err() {
        return false;
    }
    let Ok(system) = fstatfs(handle) else { return false };
    let size = || {
        let block = u64::try_from(system.block_size()).unwrap_or(u64::MAX);
        system.blocks().saturating_mul(block)
    };
    match system.filesystem_type() {
        // The upper one's size is that of the file system below it.
        XFS_SUPER_MAGIC | OVERLAYFS_SUPER_MAGIC => size() <= SMALL,
        kind => [EXT4_SUPER_MAGIC, TMPFS_MAGIC, F2FS_SUPER_MAGIC, RAMFS].contains(&kind),
    }
}

/// The device of the file system that a file lies on, by the mount that it was opened through.
fn device_below(handle: &OwnedFd) -> Option<u32> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).ok()?;
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let mounts = String::from_utf8_lossy(&mounts);
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let numbers =
        fields.find_map(|mut line| line.next().filter(|id| *id == mount).and(line.nth(1)));
    let (major, minor) = numbers?.split_once(':')?;
    packed(major.parse().ok()?, minor.parse().ok()?)
}

/// A device as the kernel packs it.
fn packed(major: u64, minor: u64) -> Option<u32> {
    u32::try_from(major << 20 | minor).ok()
}

/// A bound socket, as the kernel lists it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Bound {
    /// The inode of the socket itself.
    socket: u32,
    /// The name that it was bound under.
    name: Vec<u8>,
    /// The inode of its file, of which the kernel tells 32 bits, and the device.
    file: Option<(u32, u32)>,
}

impl Bound {
    /// The path that it was bound under.
    fn path(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Whether there are such sockets, and a process in reach has every one of them open. Which processes
/// have one need not be known where nobody else could have made it: not all can be looked at.
fn holds_all(bound: &[&Bound], reach: &Reach) -> bool {
    let is_own = |bound: &&Bound| *reach == Reach::Network || is_held(bound.socket, reach);
    !bound.is_empty() && bound.iter().all(is_own)
}

/// Whether a process of this pid namespace that is in reach has a socket open.
fn is_held(socket: u32, reach: &Reach) -> bool {
    if reach.has(socket) {
        return true;
    }
    let link = format!("socket:[{socket}]");
    let processes = || numbered(Path::new("/proc"));
    let is_held = |folder: &Path| has_open(&folder.join("fd"), &link);
    let is_in_reach = |process: &Path| reach.covers(process);
    processes().any(|process| is_held(&process) && is_in_reach(&process))
        // A thread may have descriptors of its own, or be what is left of its process.
        || processes().any(|process| {
            numbered(&process.join("task")).any(|thread| is_held(&thread)) && is_in_reach(&process)
        })
}

/// The folders in one of procfs that are named by a number.
fn numbered(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter(move |entry| is_number(&entry.file_name())).map(|entry| entry.path())
}

/// Whether a link is one of the descriptors in a folder.
fn has_open(descriptors: &Path, link: &str) -> bool {
    let mut all = fs::read_dir(descriptors).into_iter().flatten().flatten();
    all.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link))
}

/// Every unix socket of this network namespace that has a name.
fn list() -> nix::Result<Vec<Bound>> {
    list_by(line()?.as_fd())
}

/// A socket that asks the kernel for the list of the network namespace in which it is made, wherever
/// it goes.
pub(crate) fn line() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)
}

/// The same of the network namespace of a line.
fn list_by(line: BorrowedFd<'_>) -> nix::Result<Vec<Bound>> {
    send(line.as_raw_fd(), &question(), MsgFlags::empty())?;
    let (mut all, mut answer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let length = recv(line.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        if !read_answer(answer.get(..length).unwrap_or_default(), &mut all)? {
            return Ok(all);
        }
    }
}

/// The question for all of them, with name and file (`struct unix_diag_req` of
/// `linux/unix_diag.h`, behind a netlink header).
fn question() -> Vec<u8> {
    const BY_FAMILY: u16 = 20;
    const REQUEST_DUMP: u16 = 0x301;
    const NAME_AND_FILE: u32 = 1 | 2;
    const ANY: u32 = u32::MAX;
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40_u32.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([1, 0, 0, 0]);
    for word in [ANY, 0, NAME_AND_FILE, ANY, ANY] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// Reads some of the answer. False when it was the last.
fn read_answer(mut bytes: &[u8], all: &mut Vec<Bound>) -> nix::Result<bool> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const HEADER: usize = 16;
    while let Some(length) = word(bytes, 0).and_then(|length| usize::try_from(length).ok()) {
        let kind = word(bytes, 4).unwrap_or_default() & 0xffff;
        let message = bytes.get(HEADER..length).ok_or(nix::Error::EPROTO)?;
        if kind == u32::from(DONE) {
            return Ok(false);
        }
        if kind == u32::from(ERROR) {
            let number = word(message, 0).unwrap_or_default().cast_signed();
            return Err(nix::Error::from_raw(number.wrapping_neg()));
        }
        all.extend(bound(message));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// One socket (`struct unix_diag_msg`, then attributes), if it has a name and a call could lead to it: what
/// a server has accepted has the server's name as well.
fn bound(message: &[u8]) -> Option<Bound> {
    const MESSAGE: usize = 16;
    const ESTABLISHED: u8 = 1;
    const NAME: u32 = 0;
    const FILE: u32 = 1;
    let (kind, state) = (i32::from(*message.get(1)?), *message.get(2)?);
    if kind != libc::SOCK_DGRAM && state == ESTABLISHED {
        return None;
    }
    let mut found = Bound { socket: word(message, 4)?, ..Bound::default() };
    let mut rest = message.get(MESSAGE..)?;
    while let Some(head) = word(rest, 0) {
        let length = usize::try_from(head & 0xffff).ok().filter(|length| *length >= 4)?;
        let value = rest.get(4..length)?;
        match head >> 16 {
            NAME => found.name = value.to_vec(),
            FILE => found.file = Some((word(value, 0)?, word(value, 4)?)),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    (!found.name.is_empty()).then_some(found)
}

/// Four bytes at a place, as the kernel wrote them.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Whether a file is a socket.
pub(in crate::jail) fn is_socket(at: &FileStat) -> bool {
    at.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::super::thread::Thread;
    use super::*;

    #[test]
    fn a_socket_is_known_by_its_file_and_by_its_name() {
        let folder = std::env::temp_dir().join(format!("peer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let handle = open(&path, OFlag::O_PATH, Mode::empty()).unwrap();
        let at = fstat(&handle).unwrap();
        let node = Node::of(&at, &handle);
        assert!(is_socket(&at));
        let (from, _other) = UnixStream::pair().unwrap();
        let from = OwnedFd::from(from);
        let rights = Thread::new(std::process::id()).rights().unwrap();
        let caller = Caller { from: &from, rights: &rights, is_there: &|| true };
        let has_it = |reach| Own::default().has_file((&node, &handle), reach, &caller).unwrap();
        assert!(has_it(&Reach::Session), "this process has it open");
        let here = Host::by(None);
        assert!(Listed::at(&path, &here).is(&at, &node).unwrap());
        let by_line = Host::by(Some(line().unwrap()));
        assert!(Listed::at(&path, &by_line).is(&at, &node).unwrap());
        assert!(!Listed::at(Path::new("/elsewhere"), &here).is(&at, &node).unwrap());
        drop(listener);
        assert!(!has_it(&Reach::Session), "nobody has it open");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_room_reaches_what_is_inside_it_and_not_what_is_around() {
        let of = |text: &str| Reach::of(text, "boundary-7", Some(7));
        assert_eq!(of("1:cpu:/\n0::/user.slice/boundary-7\n"), Some(Reach::Session));
        let room = "/boundary-7/nested-0";
        assert_eq!(of(&format!("0::{room}\n")), Some(Reach::Room(room.to_owned(), Some(7))));
        assert_eq!(of("1:cpu:/boundary-7\n"), None, "no cgroup of version 2, no answer");
        let folder = std::env::temp_dir().join(format!("reach-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let reach = Reach::Room(room.to_owned(), Some(7));
        assert!(
            reach.has(7) && !reach.has(8) && !Reach::Session.has(7),
            "the door, and nothing else"
        );
        for (path, is_inside) in [
            ("/boundary-7/nested-0", true),
            ("/boundary-7/nested-0/nested-3", true),
            ("/boundary-7/nested-01", false),
            ("/boundary-7", false),
            ("/", false),
        ] {
            fs::write(folder.join("cgroup"), format!("0::{path}\n")).unwrap();
            assert_eq!(reach.covers(&folder), is_inside, "{path}");
            assert!(Reach::Session.covers(&folder));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_listed_socket_was_bound_under_one_of_its_names() {
        let folder = std::env::temp_dir().join(format!("listed-{}", std::process::id()));
        fs::create_dir_all(folder.join("a")).unwrap();
        std::os::unix::fs::symlink("a", folder.join("b")).unwrap();
        let known = |path: &Path| {
            let handle = open(path, OFlag::O_PATH, Mode::empty()).unwrap();
            (fstat(&handle).unwrap(), handle)
        };
        let [real, linked] = ["a/s", "b/s"].map(|name| folder.join(name));
        // Bound by either spelling, listed by the other.
        for (bound, listed) in [(&real, &linked), (&linked, &real)] {
            let _listener = UnixListener::bind(bound).unwrap();
            let listed = Listed::at(listed, &Host::by(None));
            let (at, handle) = known(&real);
            assert!(listed.is(&at, &Node::of(&at, &handle)).unwrap());
            fs::remove_file(&real).unwrap();
        }
        // Another one in its place.
        let listed = Listed::at(&real, &Host::by(None));
        let _other = UnixListener::bind(folder.join("other")).unwrap();
        fs::rename(folder.join("other"), &real).unwrap();
        let (at, handle) = known(&real);
        assert!(!listed.is(&at, &Node::of(&at, &handle)).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_abstract_name_is_compared_whole() {
        let name = format!("peer-{}", std::process::id());
        let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
        assert!(has_name(format!("\0{name}").as_bytes(), &Reach::Session).unwrap());
        assert!(!has_name(format!("\0{name}x").as_bytes(), &Reach::Session).unwrap());
    }
}
