//! Whose a unix socket is: the session's, if one of its processes has it open.
//!
//! The kernel's list of sockets says which one is bound to a file; what the processes of the pid
//! namespace have open says whether it is one of theirs. A socket that is in no list, because
//! another network namespace made it, is a stranger's.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::sys::stat::{FileStat, major, minor};

/// How many sockets are known at once; the next one forgets them all.
const KNOWN: usize = 256;

/// The sockets of the session, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// By device and inode, with a handle that keeps the inode from becoming another file's.
    known: Mutex<HashMap<(u64, u64), OwnedFd>>,
}

impl Own {
    /// Whether a process of the session made the socket at an inode, of which a handle is given.
    pub(super) fn has_file(&self, at: &FileStat, handle: &OwnedFd) -> nix::Result<bool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(&(at.st_dev, at.st_ino)) {
            return Ok(true);
        }
        let is_own = holds_all(&at_file(&list()?, at));
        if is_own && let Ok(handle) = handle.try_clone() {
            if known.len() >= KNOWN {
                known.clear();
            }
            known.insert((at.st_dev, at.st_ino), handle);
        }
        Ok(is_own)
    }
}

/// Whether a process of the session has the socket of an abstract name.
pub(super) fn has_name(name: &[u8]) -> nix::Result<bool> {
    let all = list()?;
    let bound = all.iter().filter(|bound| bound.name == name);
    Ok(holds_all(&bound.map(|bound| bound.socket).collect::<Vec<_>>()))
}

/// Whether the socket at an inode was bound under this path, in any spelling of its directory.
/// Whoever may write there could have moved another socket to it.
pub(super) fn is_bound_as(at: &FileStat, path: &Path) -> nix::Result<bool> {
    let all = list()?;
    let sockets = at_file(&all, at);
    let place =
        |path: &Path| fs::canonicalize(path.parent()?).ok().zip(path.file_name().map(Into::into));
    let wanted: Option<(PathBuf, OsString)> = place(path);
    Ok(all.iter().filter(|bound| sockets.contains(&bound.socket)).any(|bound| {
        let name = bound.name.split(|byte| *byte == 0).next().unwrap_or_default();
        wanted.is_some() && place(Path::new(OsStr::from_bytes(name))) == wanted
    }))
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

/// The sockets at a file. Where the device is told otherwise (overlayfs, btrfs) the inode alone
/// decides, and more than one may be found.
fn at_file(all: &[Bound], at: &FileStat) -> Vec<u32> {
    let device = u32::try_from(major(at.st_dev) << 20 | minor(at.st_dev)).ok();
    let inode = at.st_ino & u64::from(u32::MAX);
    let here = |bound: &&Bound| bound.file.is_some_and(|file| u64::from(file.0) == inode);
    let exact = |bound: &&Bound| bound.file.map(|file| file.1) == device;
    let mut found: Vec<u32> =
        all.iter().filter(here).filter(exact).map(|bound| bound.socket).collect();
    if found.is_empty() {
        found = all.iter().filter(here).map(|bound| bound.socket).collect();
    }
    found
}

/// Whether there are such sockets, and a process of this pid namespace has every one of them open.
fn holds_all(sockets: &[u32]) -> bool {
    !sockets.is_empty() && sockets.iter().all(|socket| is_held(*socket))
}

/// Whether a process of this pid namespace has a socket open.
fn is_held(socket: u32) -> bool {
    let link = format!("socket:[{socket}]");
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    processes.flatten().filter(|process| is_number(&process.file_name())).any(|process| {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { return false };
        descriptors
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    })
}

/// Every unix socket of this network namespace that has a name.
fn list() -> nix::Result<Vec<Bound>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    let line = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    send(line.as_raw_fd(), &question(), MsgFlags::empty())?;
    let (mut all, mut answer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let length = recv(line.as_fd().as_raw_fd(), &mut answer, MsgFlags::empty())?;
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

/// One socket (`struct unix_diag_msg`, then attributes), if it has a name.
fn bound(message: &[u8]) -> Option<Bound> {
    const MESSAGE: usize = 16;
    const NAME: u32 = 0;
    const FILE: u32 = 1;
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
pub(super) fn is_socket(at: &FileStat) -> bool {
    at.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use nix::sys::stat::stat;

    use super::*;

    #[test]
    fn a_socket_is_known_by_its_file_and_by_its_name() {
        let folder = std::env::temp_dir().join(format!("peer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let handle: OwnedFd = fs::File::open(&folder).unwrap().into();
        let at = stat(&path).unwrap();
        assert!(is_socket(&at));
        assert!(Own::default().has_file(&at, &handle).unwrap(), "this process has it open");
        assert!(is_bound_as(&at, &path).unwrap());
        assert!(!is_bound_as(&at, Path::new("/elsewhere")).unwrap());
        drop(listener);
        assert!(!Own::default().has_file(&at, &handle).unwrap(), "nobody has it open");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_abstract_name_is_compared_whole() {
        let name = format!("peer-{}", std::process::id());
        let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
        assert!(has_name(format!("\0{name}").as_bytes()).unwrap());
        assert!(!has_name(format!("\0{name}x").as_bytes()).unwrap());
    }
}
