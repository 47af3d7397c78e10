//! The session's cgroup: what the kernel half is attached to, and what ends with the session.
//!
//! It lies directly under the root of the cgroup2 hierarchy and belongs to whoever made it: inside
//! a subtree that is delegated to the user, the command could move itself out. While its keeper
//! lives it holds a lock on the folder, so that [`sweep`] tells a living session from a dead one
//! whatever process id or pid namespace the keeper has.
//!
//! *Never*: compared by id anywhere. What runs below it runs under its programs.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use uuid::Uuid;

use crate::audit::Usage;
use crate::jail::{Call, procfs};

/// How the name of every session's cgroup begins.
const PREFIX: &str = "boundary-";

/// How long the processes of a killed session may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a wait is rounded up by, since poll(2) counts in whole milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// How often a cgroup is made anew when a sweep of another session took it before it was locked.
const ATTEMPTS: usize = 16;

/// What a session's cgroup is called, known before it is made so that somebody can be told what to
/// clear away.
#[derive(Debug, Clone)]
pub struct Name(String);

impl Name {
    /// The name of a session's cgroup.
    pub fn of(session: &Uuid) -> Self {
        Self(format!("{PREFIX}{}", session.simple()))
    }

    /// A name that nobody else has.
    pub fn fresh() -> Self {
        Self::of(&Uuid::new_v4())
    }
}

/// A cgroup of a session. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// The folder, locked for as long as this process has it open.
    folder: File,
    /// Opened before any privilege is given up, for the child to enter by. Given up before the
    /// cgroup is removed: there may be no other descriptor left to do it with.
    entrance: Option<File>,
    /// Who made it. A forked child has a copy, and must not take the session down with it.
    keeper: Pid,
}

impl Cgroup {
    /// Makes one of this name in the mounted hierarchy.
    pub fn make(name: &Name) -> Result<Self, Call> {
        let root = mounted()?;
        let is_swept = |made: &Result<Self, Call>| {
            made.as_ref().is_err_and(|error| error.source.kind() == io::ErrorKind::NotFound)
        };
        let mut made = Self::make_in(&root, name);
        for _ in 1..ATTEMPTS {
            if !is_swept(&made) {
                break;
            }
            made = Self::make_in(&root, name);
        }
        made
    }

    /// Makes one below a cgroup.
    fn make_in(root: &Path, name: &Name) -> Result<Self, Call> {
        let path = root.join(&name.0);
        DirBuilder::new().mode(0o755).create(&path).map_err(Call::to("mkdir of a cgroup"))?;
        let taken = Self::take(path.clone());
        if taken.is_err() {
            // Nobody would be left to remove it. That a sweep was faster is fine.
            drop(fs::remove_dir(&path));
        }
        taken
    }

    /// Takes over the one of this name, whose keeper is dead, to clear it away.
    pub fn inherit(name: &Name) -> Result<Self, Call> {
        let path = mounted()?.join(&name.0);
        let folder = File::open(&path).map_err(Call::to("open of a cgroup"))?;
        let entrance = Some(entrance_of(&path)?);
        Ok(Self { path, folder, entrance, keeper: getpid() })
    }

    /// Locks a new folder and opens what is needed of it. A sweep that has it in hand is waited
    /// for: the folder is gone then, and only when it is gone is another of its name made.
    fn take(path: PathBuf) -> Result<Self, Call> {
        let folder = File::open(&path).map_err(Call::to("open of a cgroup"))?;
        folder.lock().map_err(Call::to("flock of a cgroup"))?;
        let entrance = Some(entrance_of(&path)?);
        Ok(Self { path, folder, entrance, keeper: getpid() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }

    /// The number by which the kernel half knows it.
    pub fn number(&self) -> Result<u64, Call> {
        Ok(self.folder.metadata().map_err(Call::to("stat of a cgroup"))?.ino())
    }

    /// Moves the calling process into it. For the forked child, which may have no right to open
    /// anything here by then.
    pub fn enter(&self) -> io::Result<()> {
        let mut entrance = self.entrance.as_ref().ok_or(Errno::EBADF)?;
        entrance.write_all(b"0")
    }

    /// Makes a cgroup below it. Returns its folder, and the number by which the kernel half knows it.
    pub fn make_room(&self, name: &str) -> Result<(File, u64), Call> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o755).create(&path).map_err(Call::to("mkdir of a cgroup"))?;
        let folder = File::open(&path).map_err(Call::to("open of a cgroup"))?;
        let number = folder.metadata().map_err(Call::to("stat of a cgroup"))?.ino();
        Ok((folder, number))
    }

    /// What the kernel has counted of everything in it. Memory only where its controller is on,
    /// which is the machine's owner's to say.
    pub fn usage(&self) -> Usage {
        usage_in(&self.path)
    }

    /// The same for whoever looks while the session runs.
    pub fn counts(&self) -> Counts {
        Counts(self.path.clone())
    }

    /// Kills everything in it and below, at once where the kernel can (5.14), else one by one.
    pub fn kill(&self) -> io::Result<()> {
        // `fs::write` would make a file that is not there, for which cgroupfs has another error.
        let kill = File::options().write(true).open(self.path.join("cgroup.kill"));
        match kill.and_then(|mut kill| kill.write_all(b"1")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_each(),
            answer => answer,
        }
    }

    /// Kills one by one, frozen, so that no process can fork away between reading and killing.
    fn kill_each(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        fs::write(self.path.join("cgroup.freeze"), "1")?;
        while is_populated(&self.path)? && Instant::now() < deadline {
            kill_below(&self.path)?;
            self.wait(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Waits until nothing lives in it. False if something still does after the given time.
    pub fn wait(&self, at_most: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + at_most;
        let mut events = File::open(self.path.join("cgroup.events"))?;
        loop {
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            if !says_populated(&text) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = PollTimeout::try_from(left + TICK).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            match poll(&mut waiting, left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes it and what the session made below it, once nothing lives there.
    fn remove(&self) -> io::Result<()> {
        self.wait(PATIENCE)?;
        remove_tree(&self.path)
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if getpid() != self.keeper {
            return;
        }
        self.entrance = None;
        // An empty one goes without a descriptor, for want of which it may be that it has to go.
        if fs::remove_dir(&self.path).is_ok() {
            return;
        }
        if let Err(error) = self.kill().and_then(|()| self.remove()) {
            let path = self.path.display();
            tracing::error!(%path, %error, "the session's cgroup could not be removed");
        }
    }
}

/// What a cgroup's files say was used in it.
fn usage_in(path: &Path) -> Usage {
    let cpu = fs::read_to_string(path.join("cpu.stat")).ok().and_then(|stat| {
        let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        line.trim().parse::<u64>().ok()
    });
    let memory_peak = number_in(path, "memory.peak");
    Usage { cpu_ms: cpu.map(|micros| micros / 1000), memory_peak, tasks: None }
}

/// The number that a cgroup's file has, where there is such a file.
fn number_in(path: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(path.join(file)).ok()?.trim().parse().ok()
}

/// What the kernel counts of everything in a cgroup. Anybody may read it, and it keeps nothing there.
#[derive(Debug, Clone)]
pub struct Counts(PathBuf);

impl Counts {
    /// What was used until now.
    pub fn usage(&self) -> Usage {
        usage_in(&self.0)
    }

    /// How much memory is in use now, in bytes.
    pub fn memory(&self) -> Option<u64> {
        number_in(&self.0, "memory.current")
    }
}

/// Removes what dead sessions left: cgroups that no keeper holds and in which nothing lives.
///
/// Returns how many. One that is being made in this moment may be taken before it is locked; its
/// maker makes another.
pub fn sweep() -> Result<usize, Call> {
    let root = mounted()?;
    let entries = fs::read_dir(&root).map_err(Call::to("opendir of the cgroups"))?;
    let stale = entries.filter_map(Result::ok).filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(PREFIX))
    });
    Ok(stale.filter(|entry| is_swept(&entry.path())).count())
}

/// Removes one cgroup if it is dead.
///
/// The lock is the folder's, the removal goes by its name: under that name there must be no other
/// by now, made after another sweep has removed the one that is locked here.
fn is_swept(path: &Path) -> bool {
    let Ok(folder) = File::open(path) else { return false };
    let is_dead = folder.try_lock().is_ok()
        && is_same(&folder, path)
        && is_populated(path).is_ok_and(|is| !is);
    is_dead && remove_tree(path).is_ok()
}

/// Whether a name still stands for an open folder.
fn is_same(folder: &File, path: &Path) -> bool {
    let number = |found: io::Result<fs::Metadata>| found.map(|found| found.ino()).ok();
    number(folder.metadata()).is_some_and(|own| number(fs::metadata(path)) == Some(own))
}

/// Where the cgroup2 hierarchy is mounted, by what the kernel says (it is somewhere else where the
/// older hierarchies are mounted too).
pub(super) fn mounted() -> Result<PathBuf, Call> {
    let mounts = fs::read("/proc/self/mountinfo").map_err(Call::to("open of mountinfo"))?;
    cgroup2_in(&mounts)
        .ok_or_else(|| Call { call: "no cgroup2 is mounted", source: Errno::ENOENT.into() })
}

/// The number of a process's cgroup, by which the kernel half knows it.
pub(in crate::jail) fn cgroup_of(pid: u32) -> Option<u64> {
    let text = procfs::text(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(fs::metadata(mounted().ok()?.join(path)).ok()?.ino())
}

/// Finds the mount in the text of mountinfo (proc(5)): the whole hierarchy if it is there, else
/// what there is of it.
fn cgroup2_in(mountinfo: &[u8]) -> Option<PathBuf> {
    let mut part = None;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, place) = (fields.nth(3), fields.next());
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        if kind != Some(b"cgroup2") {
            continue;
        }
        if root == Some(b"/") {
            return place.map(procfs::unescaped);
        }
        part = part.or_else(|| place.map(procfs::unescaped));
    }
    part
}

/// Whether anything lives in a cgroup or below it.
fn is_populated(path: &Path) -> io::Result<bool> {
    fs::read_to_string(path.join("cgroup.events")).map(|text| says_populated(&text))
}

/// What the text of `cgroup.events` says.
fn says_populated(text: &str) -> bool {
    text.lines().any(|line| line == "populated 1")
}

/// Signals every process in a cgroup and below it. What is gone already is all we want of it.
fn kill_below(path: &Path) -> io::Result<()> {
    for folder in folders(path)? {
        for pid in processes(&folder)? {
            kill(pid, Signal::SIGKILL).unwrap_or_default();
        }
    }
    Ok(())
}

/// The way into a cgroup, opened for writing.
fn entrance_of(path: &Path) -> Result<File, Call> {
    let entrance = File::options().write(true).open(path.join("cgroup.procs"));
    entrance.map_err(Call::to("open of cgroup.procs"))
}

/// The processes in one cgroup.
fn processes(folder: &Path) -> io::Result<Vec<Pid>> {
    let text = fs::read_to_string(folder.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect())
}

/// A cgroup and all below it, children before parents. One folder is open at a time.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut all, mut unseen) = (Vec::new(), vec![path.to_path_buf()]);
    while let Some(folder) = unseen.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                unseen.push(entry.path());
            }
        }
        // A parent is seen before its children.
        all.push(folder);
    }
    all.reverse();
    Ok(all)
}

/// Removes a cgroup and all below it.
fn remove_tree(path: &Path) -> io::Result<()> {
    folders(path)?.iter().try_for_each(fs::remove_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_beside_the_older_ones() {
        let hybrid = b"\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw
";
        assert_eq!(cgroup2_in(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let unified = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2_in(unified), Some(PathBuf::from("/sys/fs/cgroup")));
    }

    #[test]
    fn the_whole_hierarchy_is_preferred_to_a_part() {
        let both = b"\
40 31 0:38 /some/part /run/part rw - cgroup2 cgroup2 rw
41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
";
        assert_eq!(cgroup2_in(both), Some(PathBuf::from("/sys/fs/cgroup")));
        let part = b"40 31 0:38 /some/part /run/part rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_in(part), Some(PathBuf::from("/run/part")));
    }

    #[test]
    fn a_mount_that_only_mentions_cgroup2_is_not_one() {
        let other = b"41 31 0:38 / /mnt/cgroup2 rw - tmpfs cgroup2 rw\n";
        assert_eq!(cgroup2_in(other), None);
        assert_eq!(cgroup2_in(b""), None);
    }

    #[test]
    fn what_was_used_is_told_as_far_as_the_kernel_counts_it() {
        let path = std::env::temp_dir().join(format!("boundary-usage-{}", Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        assert_eq!(usage_in(&path), Usage::default());
        fs::write(path.join("cpu.stat"), "usage_usec 1234567\nuser_usec 5\n").unwrap();
        assert_eq!(usage_in(&path), Usage { cpu_ms: Some(1234), ..Usage::default() });
        fs::write(path.join("memory.peak"), "104857600\n").unwrap();
        assert_eq!(usage_in(&path).memory_peak, Some(100 << 20));
        let counts = Counts(path.clone());
        assert_eq!((counts.usage(), counts.memory()), (usage_in(&path), None));
        fs::write(path.join("memory.current"), "4096\n").unwrap();
        assert_eq!(counts.memory(), Some(4096));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn populated_is_read_by_the_line() {
        assert!(says_populated("populated 1\nfrozen 0\n"));
        assert!(!says_populated("populated 0\nfrozen 1\n"));
    }
}
