//! The name that the record is written under, whatever file that is: set aside when it has grown, and
//! followed when somebody else sets it aside.
//!
//! Where files are set aside, all of them are there from the start, empty at first, and only change
//! their names: `FILE` becomes `FILE.1`, that `FILE.2`, and the last, emptied, `FILE`. What keeps the
//! command's hands off a file stands on the file and goes with it, so that a new one would be without.
//! At every moment each name is there. Nothing is emptied before all names have changed: where they
//! cannot (a folder of somebody else's, a file system that does not exchange names), the record goes on
//! in the file that it has.
//!
//! *Standing*: the session opens it while it may; the record's writer asks before each batch whether to
//! go on elsewhere. *Never*: follows a link; waits for somebody who holds a lock, but a moment when it
//! opens.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc::{O_DIRECTORY, O_PATH};
use nix::sys::stat::{Mode, fstatat};

use crate::audit::Rotation;
use crate::sys::swap;

/// How often the name is looked up: somebody else may have given it to another file.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether a file is free to begin with, and how often that is done at most.
/// Emptying one takes less.
const FREE: (Duration, usize) = (Duration::from_millis(5), 100);

/// A name in a folder, and the file that is written.
#[derive(Debug)]
pub(in crate::audit) struct Place {
    /// The folder as it was found: the command can neither move it away nor put another in its place.
    folder: OwnedFd,
    name: OsString,
    rotation: Option<Rotation>,
    /// The files that change names, as they stood when they were opened.
    ring: Vec<Arc<File>>,
    current: Mutex<Current>,
}

/// What is written now.
#[derive(Debug)]
struct Current {
    file: Arc<File>,
    /// When the name was looked up.
    looked: Instant,
    /// How much was written since.
    written: u64,
    /// How long the file was then.
    length: u64,
    /// How it began then: somebody may have emptied it since, and written more than there was.
    begin: Vec<u8>,
}

impl Current {
    /// A file as it is now.
    fn new(file: Arc<File>) -> io::Result<Self> {
        let (length, begin) = (file.metadata()?.len(), begin_of(&file));
        Ok(Self { file, looked: Instant::now(), written: 0, length, begin })
    }

    /// Whether it is shorter than it was, or begins otherwise.
    fn is_emptied(&self, length: u64) -> bool {
        length < self.length.saturating_add(self.written)
            || !begin_of(&self.file).starts_with(&self.begin)
    }
}

/// How much of a file's beginning tells it from the same file begun anew: a time and a session.
const BEGIN: usize = 128;

/// How a file begins. A device begins with nothing.
fn begin_of(file: &File) -> Vec<u8> {
    let mut begin = vec![0; BEGIN];
    let length = file.read_at(&mut begin, 0).unwrap_or_default();
    begin.truncate(length);
    begin
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) enum Turn {
    /// Go on.
    Stay,
    /// Another file is written from now on, or this one begins anew.
    Begin,
    /// The same, and somebody else has seen to that.
    Follow,
}

/// The name that a file has when it was set aside so many times.
pub(super) fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

impl Place {
    /// Opens a file for appending, made for its owner alone, and those that it is set aside to. One
    /// that is large enough is set aside at once.
    pub(in crate::audit) fn open(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(O_PATH | O_DIRECTORY);
        let folder = OwnedFd::from(options.open(parent.unwrap_or(Path::new(".")))?);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let file = Arc::new(open(&folder, &name)?);
        // A device has no size and no successors.
        let is_file = file.metadata()?.is_file();
        let (often, most) = FREE;
        for _ in (0..most).take_while(|_| is_file && is_being_emptied(&file)) {
            thread::sleep(often);
        }
        let rotation = rotation.filter(|_| is_file);
        let others = 1..rotation.map_or(1, |rotation| rotation.files);
        let ring =
            others.map(|number| open(&folder, rotated(Path::new(&name), number).as_os_str()));
        let mut ring = ring.map(|file| file.map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
        ring.push(Arc::clone(&file));
        let current = Current::new(file)?;
        let is_full = rotation.is_some_and(|rotation| current.length >= rotation.size);
        let place = Self { folder, name, rotation, ring, current: Mutex::new(current) };
        if is_full {
            place.look()?;
        }
        Ok(place)
    }

    /// The file that is written now.
    pub(in crate::audit) fn file(&self) -> Arc<File> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner).file)
    }

    /// All files that may have been written.
    pub(in crate::audit) fn files(&self) -> Vec<Arc<File>> {
        self.ring.iter().cloned().chain([self.file()]).collect()
    }

    /// The descriptors that a process which forks must keep open for it.
    pub(in crate::audit) fn descriptors(&self) -> Vec<RawFd> {
        let files = self.files().into_iter().map(|file| file.as_raw_fd());
        files.chain([self.folder.as_raw_fd()]).collect()
    }

    /// Notes how much was written.
    pub(in crate::audit) fn wrote(&self, length: usize) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.written += length as u64;
        if current.begin.len() < BEGIN {
            current.begin = begin_of(&current.file);
        }
    }

    /// Sees whether to go on elsewhere: now and then, and when so much was written that it may be due.
    pub(in crate::audit) fn turn(&self) -> io::Result<Turn> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.rotation.map_or(u64::MAX, |rotation| rotation.size);
        let is_time = current.looked.elapsed() >= LOOK;
        // What could not be set aside is tried again, but not before every batch.
        let is_due =
            current.length < limit && current.length.saturating_add(current.written) >= limit;
        // A single file is emptied where it stands, by whichever session finds it full.
        let is_emptied = self.rotation.is_some_and(|rotation| rotation.files <= 1)
            && current.file.metadata().is_ok_and(|file| current.is_emptied(file.len()));
        let is_looked_up = is_emptied || is_due || is_time;
        drop(current);
        if is_looked_up { self.look() } else { Ok(Turn::Stay) }
    }

    /// Sees to it.
    fn look(&self) -> io::Result<Turn> {
        let file = self.file();
        let own = file.metadata()?;
        if !own.is_file() {
            return Ok(Turn::Stay);
        }
        let is_emptied = self.noted(own.len());
        match self.named()? {
            Some(there) if is_same(&own, there) => {
                if is_emptied {
                    return Ok(Turn::Follow);
                }
                match self.rotation.filter(|rotation| own.len() >= rotation.size) {
                    Some(_) => self.set_aside(&file),
                    None => Ok(Turn::Stay),
                }
            }
            // Another session has set it aside, or somebody else has.
            there => {
                let known = |file: &&Arc<File>| {
                    there.is_some_and(|there| file.metadata().is_ok_and(|it| is_same(&it, there)))
                };
                let next = match self.ring.iter().find(known) {
                    Some(known) => (Arc::clone(known), Turn::Begin),
                    None => (Arc::new(open(&self.folder, &self.name)?), Turn::Follow),
                };
                // What is written before it is empty would go with the rest: next time, then. Nobody
                // empties any other file, whoever holds it.
                if next.1 == Turn::Begin && is_being_emptied(&next.0) {
                    return Ok(Turn::Stay);
                }
                self.go_on(next.0)?;
                Ok(next.1)
            }
        }
    }

    /// Notes how the file is now, and says whether somebody has emptied it.
    fn noted(&self, length: u64) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_emptied = current.is_emptied(length);
        (current.looked, current.written, current.length) = (Instant::now(), 0, length);
        current.begin = begin_of(&current.file);
        is_emptied
    }

    /// Which file has the name: its device and its number. None if there is none.
    fn named(&self) -> io::Result<Option<(u64, u64)>> {
        match fstatat(&self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => Ok(Some((there.st_dev, there.st_ino))),
            Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives every file the next name. Whoever holds the lock is about to do so, or only says that
    /// they are: next time, then.
    fn set_aside(&self, file: &Arc<File>) -> io::Result<Turn> {
        if !is_locked_by_us(file)? {
            return Ok(Turn::Stay);
        }
        let turned = self.change_names(file);
        file.unlock()?;
        turned
    }

    /// Does so, where the name is still that file's.
    fn change_names(&self, file: &Arc<File>) -> io::Result<Turn> {
        if !self.named()?.is_some_and(|there| file.metadata().is_ok_and(|it| is_same(&it, there))) {
            return Ok(Turn::Stay);
        }
        let files = self.rotation.map_or(1, |rotation| rotation.files).max(1);
        let path = Path::new(&self.name);
        let mut names = vec![c_string(path.as_os_str())?];
        for number in 1..files {
            names.push(c_string(rotated(path, number).as_os_str())?);
        }
        // Of the files that were opened, so that no right is needed; one that somebody has put there
        // since is not ours to empty.
        let last = names.last().and_then(|name| self.of_ring(name)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the oldest file is not the one that was there")
        })?;
        // Nobody else writes to it from the moment it has the name until it is empty.
        if !is_locked_by_us(&last)? {
            return Ok(Turn::Stay);
        }
        let length = last.metadata()?.len();
        let turned = self.exchange(&names).and_then(|()| self.begin(&last, length));
        if !Arc::ptr_eq(&last, file) {
            last.unlock()?;
        }
        turned
    }

    /// Gives each name's file to the next, and the last one's to the first. Where one cannot be given
    /// they are given back.
    fn exchange(&self, names: &[CString]) -> io::Result<()> {
        let pairs: Vec<(&CString, &CString)> =
            names.iter().zip(names.iter().skip(1)).rev().collect();
        let swap =
            |(one, other): &(&CString, &CString)| swap::names(self.folder.as_fd(), one, other);
        for (done, pair) in pairs.iter().enumerate() {
            if let Err(error) = swap(pair) {
                pairs.iter().take(done).rev().try_for_each(swap)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Empties a file that has got the name, and goes on in it. Where somebody did not wait for that,
    /// it stays as it is: it is large enough to be set aside next time.
    fn begin(&self, file: &Arc<File>, length: u64) -> io::Result<Turn> {
        if file.metadata()?.len() == length {
            file.set_len(0)?;
        }
        self.go_on(Arc::clone(file))?;
        Ok(Turn::Begin)
    }

    /// The file of the ring that has a name.
    fn of_ring(&self, name: &CString) -> Option<Arc<File>> {
        let there = fstatat(&self.folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let there = (there.st_dev, there.st_ino);
        let is_it = |file: &&Arc<File>| file.metadata().is_ok_and(|it| is_same(&it, there));
        self.ring.iter().find(is_it).cloned()
    }

    /// Writes to another file from now on.
    fn go_on(&self, file: Arc<File>) -> io::Result<()> {
        let next = Current::new(file)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

/// Locks a file for ourselves, if nobody else has.
fn is_locked_by_us(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether somebody who sets files aside is at this one. Where there are no locks nobody is.
fn is_being_emptied(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            drop(file.unlock());
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    }
}

/// Whether a file is the one of that device and number.
fn is_same(file: &Metadata, there: (u64, u64)) -> bool {
    (file.dev(), file.ino()) == there
}

/// A name as the kernel takes it.
fn c_string(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes()).map_err(io::Error::other)
}

/// Opens a file for appending, made for its owner alone; never follows a link. A pipe is refused:
/// opening it would wait for a reader, and writing to it for as long as that reader likes.
fn open(folder: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::from(openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}
