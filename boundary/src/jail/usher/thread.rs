//! A thread of the command that waits for an answer: what it is, and how it sees the file system.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use crate::audit::Process;
use crate::jail::procfs;
use crate::sys::reach;

/// `CAP_SETGID` and `CAP_SETUID` of linux/capability.h.
const SETGID: u32 = 6;
const SETUID: u32 = 7;

/// A thread, by its number in our pid namespace. It is who it was as long as its call waits.
#[derive(Debug, Clone, Copy)]
pub(in crate::jail) struct Thread(u32);

/// Whether a signal is there for a thread that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jail) enum Signalled {
    /// None is.
    No,
    /// One is there for its process, which another thread may take.
    Perhaps,
    /// One is, or its process is being stopped by one.
    Surely,
}

/// Whose rights a thread acts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::jail) struct Rights {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Rights {
    /// Does something with these rights, and takes back our own.
    pub(in crate::jail) fn borrow<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        // In a user's own namespaces there is nobody else, and no id to come back from.
        if !geteuid().is_root() && geteuid().as_raw() == self.uid {
            return Ok(work());
        }
        reach::act_as(self.uid, self.gid, &self.groups)?;
        let done = work();
        reach::act_as_oneself()?;
        Ok(done)
    }

    /// Reads them from the text of a thread's `status` (proc(5)): the effective ids.
    fn in_status(status: &str) -> Option<Self> {
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
        };
        let uid = *numbers("Uid:")?.get(1)?;
        let gid = *numbers("Gid:")?.get(1)?;
        Some(Self { uid, gid, groups: numbers("Groups:")? })
    }
}

impl Thread {
    /// The thread of this number.
    pub(in crate::jail) fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub(in crate::jail) fn number(self) -> u32 {
        self.0
    }

    /// The text of its `cgroup` (proc(5)).
    pub(in crate::jail) fn cgroup(self) -> io::Result<String> {
        procfs::text(self.at("cgroup"))
    }

    /// Its rights.
    pub(in crate::jail) fn rights(self) -> io::Result<Rights> {
        let status = procfs::text(self.at("status"))?;
        Rights::in_status(&status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Whether it may say that it is this process, user and group, as the kernel judges that
    /// (`SCM_CREDENTIALS`, unix(7)): by any of its ids, or by the right to take on others.
    pub(in crate::jail) fn may_claim(self, [process, user, group]: [u32; 3]) -> bool {
        let Ok(status) = procfs::text(self.at("status")) else { return false };
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let numbers = |name: &str| -> Vec<u32> {
            let words = line(name).unwrap_or_default().split_ascii_whitespace();
            words.filter_map(|number| number.parse().ok()).collect()
        };
        let rights = line("CapEff:").and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
        let has = |right: u32| rights.unwrap_or_default() & 1 << right != 0;
        let is_among = |name: &str, id: &u32| numbers(name).iter().take(3).any(|own| own == id);
        numbers("Tgid:").first() == Some(&process)
            && (is_among("Uid:", &user) || has(SETUID))
            && (is_among("Gid:", &group) || has(SETGID))
    }

    /// Whether a signal is there for it.
    pub(in crate::jail) fn is_signalled(self) -> Signalled {
        let Ok(status) = procfs::text(self.at("status")) else { return Signalled::No };
        let number = |name: &str, radix| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| u64::from_str_radix(line.trim(), radix).ok()).unwrap_or_default()
        };
        let blocked = number("SigBlk:", 16);
        let is_there = |pending: &str| number(pending, 16) & !blocked != 0;
        let is_alone = number("Threads:", 10) == 1;
        if is_there("SigPnd:") || is_alone && is_there("ShdPnd:") {
            return Signalled::Surely;
        }
        // One that stops the process is nobody's any more when somebody has taken it.
        let leader = format!("/proc/{}/status", number("Tgid:", 10));
        let is_stopped =
            || procfs::text(leader).is_ok_and(|status| status.contains("\nState:\tT (stopped)"));
        if !is_alone && is_stopped() {
            Signalled::Surely
        } else if is_there("ShdPnd:") {
            Signalled::Perhaps
        } else {
            Signalled::No
        }
    }

    /// Its user, its name and its program.
    pub(in crate::jail) fn describe(self) -> io::Result<(u32, String, Option<PathBuf>)> {
        let comm = procfs::text(self.at("comm"))?.trim_end().to_owned();
        Ok((self.rights()?.uid, comm, fs::read_link(self.at("exe")).ok()))
    }

    /// The process that it belongs to, as the record shows it.
    pub(in crate::jail) fn process(self) -> io::Result<Process> {
        let status = procfs::text(self.at("status"))?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let number = |name: &str, place: usize| -> Option<u32> {
            line(name)?.split_ascii_whitespace().nth(place)?.parse().ok()
        };
        Ok(Process {
            pid: number("Tgid:", 0).unwrap_or(self.0),
            uid: number("Uid:", 1).unwrap_or(u32::MAX),
            comm: unescaped(line("Name:\t").unwrap_or_default()),
            exe: fs::read_link(self.at("exe")).ok(),
            ..Process::default()
        })
    }

    /// The inode of the socket behind one of its descriptors.
    pub(in crate::jail) fn socket(self, number: i32) -> nix::Result<u64> {
        let link = fs::read_link(format!("/proc/{}/fd/{number}", self.0));
        let link = link.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) | None => Errno::EBADF,
            Some(other) => Errno::from_raw(other),
        })?;
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.and_then(|inode| inode.parse().ok()).ok_or(Errno::ENOTSOCK)
    }

    /// Copies into its memory.
    pub(in crate::jail) fn write(self, address: u64, bytes: &[u8]) -> nix::Result<()> {
        reach::write_memory(self.0, address, bytes)
    }

    /// Copies from its memory, exactly as much as asked.
    pub(in crate::jail) fn read(self, address: u64, length: usize) -> nix::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = reach::read_memory(self.0, address, &mut bytes)?;
        if read == length { Ok(bytes) } else { Err(nix::Error::EFAULT) }
    }

    /// From where it sees the file system: what its paths begin at.
    pub(in crate::jail) fn view(self) -> nix::Result<View> {
        let open = |name| open(&self.at(name), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let (root, directory) = (open("root")?, open("cwd")?);
        let inode = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let is_confined = inode(&self.at("root")) != inode(Path::new("/"));
        Ok(View { thread: self.0, root: is_confined.then_some(root), directory })
    }

    /// A file of its own in procfs.
    fn at(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}

/// A name as it is, of the text of a `status`, which keeps it on one line (proc(5)).
fn unescaped(name: &str) -> String {
    let mut rest = name.chars();
    let mut plain = String::new();
    while let Some(letter) = rest.next() {
        plain.extend(match letter {
            '\\' => rest.next().map(|letter| if letter == 'n' { '\n' } else { letter }),
            _ => Some(letter),
        });
    }
    plain
}

/// Where the paths of a thread begin.
#[derive(Debug)]
pub(in crate::jail) struct View {
    thread: u32,
    /// Its root, where that is not ours.
    root: Option<OwnedFd>,
    directory: OwnedFd,
}

impl View {
    /// Opens what a path leads to, without any right to it.
    pub(in crate::jail) fn open(&self, path: &Path) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let path = self.with_own_number(path);
        match &self.root {
            _ if path.is_relative() => openat(self.directory.as_fd(), &path, flags, Mode::empty()),
            Some(root) => {
                let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
                openat2(root.as_fd(), &path, how)
            }
            None => openat(AT_FDCWD, &path, flags, Mode::empty()),
        }
    }

    /// The path with the thread's number where it says `self`, which would be ours.
    fn with_own_number(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/proc/self") {
            Ok(rest) => Path::new("/proc").join(self.thread.to_string()).join(rest),
            Err(_) => path.to_path_buf(),
        }
    }
}

/// The name that a socket address of the unix family holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::jail) enum Name {
    /// A path.
    Path(PathBuf),
    /// An abstract name, with the zero that it begins with.
    Abstract(Vec<u8>),
    /// None.
    Unnamed,
}

impl Name {
    /// Reads it from an address as the kernel takes it (unix(7)).
    pub(in crate::jail) fn in_address(address: &[u8]) -> Self {
        let name = address.get(2..).unwrap_or_default();
        match name.first() {
            None => Self::Unnamed,
            Some(0) => Self::Abstract(name.to_vec()),
            Some(_) => {
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                let path = name.get(..end).unwrap_or_default();
                Self::Path(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
            }
        }
    }

    /// As people write it.
    pub(in crate::jail) fn shown(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Abstract(name) => {
                format!("@{}", String::from_utf8_lossy(name.get(1..).unwrap_or_default()))
            }
            Self::Unnamed => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is() {
        assert_eq!(unescaped(r"a\nb\\nc d"), "a\nb\\nc d");
        assert_eq!(unescaped("x\\"), "x");
    }

    #[test]
    fn a_path_ends_at_the_first_zero_and_an_abstract_name_at_the_end() {
        let path = |text: &str| Name::Path(PathBuf::from(text));
        assert_eq!(Name::in_address(b"\x01\0/tmp/a\0rest"), path("/tmp/a"));
        assert_eq!(Name::in_address(b"\x01\0a"), path("a"));
        assert_eq!(Name::in_address(b"\x01\0\0a\0b"), Name::Abstract(b"\0a\0b".to_vec()));
        assert_eq!(Name::in_address(b"\x01\0"), Name::Unnamed);
        assert_eq!(Name::Abstract(b"\0bus".to_vec()).shown(), "@bus");
    }

    #[test]
    fn rights_are_the_effective_ones() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        let rights = Rights::in_status(status);
        assert_eq!(rights, Some(Rights { uid: 2, gid: 6, groups: vec![9, 10] }));
    }

    #[test]
    fn nobody_claims_to_be_somebody_else() {
        let own = std::process::id();
        let (user, group) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let may = |who| Thread::new(own).may_claim(who);
        assert!(may([own, user, group]));
        assert!(!may([own + 1, user, group]) && !may([1, user, group]));
        let is_root = user == 0;
        assert_eq!((may([own, user + 1, group]), may([own, user, group + 1])), (is_root, is_root));
    }

    #[test]
    fn what_a_path_calls_self_is_the_thread() {
        let own = Thread::new(std::process::id());
        let view = own.view().unwrap();
        let opened = view.open(Path::new("/proc/self/status")).unwrap();
        let shown =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened)));
        assert_eq!(shown.unwrap(), PathBuf::from(format!("/proc/{}/status", std::process::id())));
    }
}
