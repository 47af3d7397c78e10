//! The sockets that the usher made for the command, by inode.
//!
//! It keeps a handle of each until it is connected or listens, because it cannot get one again
//! everywhere (`pidfd_getfd` is refused in ordinary containers). That the command has closed one
//! nobody tells: what nobody has open any more is swept away, the less often the more there are and
//! the longer it takes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrStorage, getsockname};
use nix::time::{ClockId, clock_gettime};

use super::address::canonical;
use super::datagrams::Datagram;
use super::family;
use crate::jail::procfs;
use crate::sys::reach;

/// How many sockets there are at least when they are swept, however short a time after the last.
const FEW: usize = 512;

/// How many there are at least of those of which a handle is kept when they are swept in passing.
const FEW_HELD: usize = 16;

/// Of so many parts of the time, sweeps in passing take one.
const SHARE: u32 = 20;

/// What became of a socket.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// TCP, neither connected nor listening.
    Stream(Arc<OwnedFd>),
    /// Unix, neither connected nor listening.
    Unix(Arc<OwnedFd>),
    /// Connected, or about to be; no handle is left but of one that failed.
    Connected(Connected),
    /// It listens, or nobody showed that he has it when all were asked; no handle is left.
    Listening,
    /// A datagram socket, which the usher only pretends to be.
    Datagram(Arc<Datagram>),
}

impl Entry {
    /// Whether a handle of it is kept.
    fn is_held(&self) -> bool {
        match self {
            Self::Stream(_) | Self::Unix(_) | Self::Datagram(_) => true,
            Self::Connected(connected) => connected.has_failed(),
            Self::Listening => false,
        }
    }

    /// Keeps no handle of a stream, of which nothing else is known than that it was made.
    fn forget_handle(&mut self) {
        if let Self::Stream(_) | Self::Unix(_) = self {
            *self = Self::Listening;
        }
    }
}

/// A connection that was made for the command.
#[derive(Debug, Clone)]
pub(super) struct Connected {
    /// Where it was meant to go, if it was turned.
    pub(super) target: Option<SocketAddr>,
    /// What the command knows of it.
    pub(super) told: Told,
}

/// What the command knows of a connection.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// That it is under way, but it has failed; a handle to tell it with.
    Failed(Arc<OwnedFd>),
    /// That it is under way, and it is made, as a rule.
    NotYet,
    /// That it is made.
    Made,
}

impl Connected {
    /// Whether it has failed.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.told, Told::Failed(_))
    }
}

/// Descriptors that wait for a sweep, which may be wanted because there are none left: one for a
/// folder, one for a file in it.
type Spare = (io::PipeReader, io::PipeWriter);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    entries: HashMap<u64, Entry>,
    /// In which room of boundary inside boundary they were made, if in any.
    rooms: HashMap<u64, u64>,
    /// Of how many a handle is kept.
    held: usize,
    /// At how many they are swept next, and at how many that are held.
    limit: (usize, usize),
    /// When they may be swept in passing.
    due: Option<Instant>,
    spare: Option<Spare>,
    /// Whether there ever was a datagram socket.
    has_datagrams: bool,
    /// The one that was made last: it may be on its way to the command still.
    latest: Option<u64>,
    /// Those that the last look missed, and not the one before.
    missed: HashSet<u64>,
    /// Those that nobody has open, unless somebody who does not show it.
    unseen: HashSet<u64>,
}

impl Sockets {
    /// What became of the socket at an inode, if the usher made it.
    pub(super) fn at(&self, inode: u64) -> Option<&Entry> {
        self.entries.get(&inode)
    }

    /// The datagram socket at an inode.
    pub(super) fn datagram(&self, inode: u64) -> Option<Arc<Datagram>> {
        match self.entries.get(&inode) {
            Some(Entry::Datagram(datagram)) => Some(Arc::clone(datagram)),
            _ => None,
        }
    }

    /// The datagram socket that takes what another one sends to one of this machine's own addresses: one
    /// that somebody is seen to have before one that may be nobody's, and one that is connected to it before
    /// one that hears everybody.
    pub(super) fn datagram_for(
        &self,
        address: SocketAddr,
        from: &Datagram,
    ) -> Option<Arc<Datagram>> {
        let source = from.source_towards(address);
        let is_others =
            |datagram: &Datagram| datagram.peer().is_none_or(|peer| canonical(peer) != source);
        let all = self.known_datagrams().filter(|(datagram, _)| datagram.takes(address));
        all.min_by_key(|(datagram, is_seen)| (!is_seen, is_others(datagram)))
            .map(|(datagram, _)| Arc::clone(datagram))
    }

    /// Every datagram socket.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &Arc<Datagram>> {
        self.known_datagrams().map(|(datagram, _)| datagram)
    }

    /// Every datagram socket that somebody was seen to have.
    pub(super) fn seen_datagrams(&self) -> impl Iterator<Item = &Arc<Datagram>> {
        self.known_datagrams().filter_map(|(datagram, is_seen)| is_seen.then_some(datagram))
    }

    /// Every datagram socket, and whether somebody was seen to have it.
    fn known_datagrams(&self) -> impl Iterator<Item = (&Arc<Datagram>, bool)> {
        self.entries.iter().filter_map(|(inode, entry)| match entry {
            Entry::Datagram(datagram) => Some((datagram, !self.unseen.contains(inode))),
            Entry::Stream(_) | Entry::Unix(_) | Entry::Connected(_) | Entry::Listening => None,
        })
    }

    /// Whether there ever was a datagram socket: where not, nothing is pretended.
    pub(super) fn has_datagrams(&self) -> bool {
        self.has_datagrams
    }

    /// Notes a socket that is made in a room.
    pub(super) fn made(&mut self, inode: u64, entry: Entry, room: u64) {
        // The number may have been another's before.
        if room == 0 {
            self.rooms.remove(&inode)
        } else {
            self.rooms.insert(inode, room)
        };
        self.note(inode, entry);
    }

    /// The room that a socket was made in, 0 if in none.
    pub(super) fn room(&self, inode: u64) -> u64 {
        self.rooms.get(&inode).copied().unwrap_or(0)
    }

    /// Notes what became of a socket.
    pub(super) fn note(&mut self, inode: u64, entry: Entry) {
        self.has_datagrams |= matches!(entry, Entry::Datagram(_));
        self.held += usize::from(entry.is_held());
        self.missed.remove(&inode);
        self.unseen.remove(&inode);
        match self.entries.insert(inode, entry) {
            Some(before) => self.held -= usize::from(before.is_held()),
            None => self.latest = Some(inode),
        }
        if self.spare.is_none() {
            // Without one a sweep has what is left.
            self.spare = io::pipe().ok();
        }
        let is_due = || self.due.is_none_or(|due| Instant::now() >= due);
        if self.entries.len() >= self.limit.0.max(FEW)
            || self.held >= self.limit.1.max(FEW_HELD) && is_due()
        {
            self.look();
        }
    }

    /// Notes what the command knows of a connection, of which no handle is needed.
    pub(super) fn note_told(&mut self, inode: u64, told: Told) {
        if let Some(Entry::Connected(Connected { target, .. })) = self.entries.get(&inode) {
            let target = *target;
            self.note(inode, Entry::Connected(Connected { target, told }));
        }
    }

    /// Lets go of what nobody has open, at once.
    pub(super) fn sweep(&mut self) {
        self.look();
        if !self.missed.is_empty() {
            self.look();
        }
    }

    /// Looks for what nobody has open.
    fn look(&mut self) {
        let before = worked();
        drop(self.spare.take());
        let missed = std::mem::take(&mut self.missed);
        if let Ok(look) = open_sockets() {
            self.let_go(&look, &missed);
        }
        self.spare = io::pipe().ok();
        let is_held = |inode: &u64| self.entries.get(inode).is_some_and(Entry::is_held);
        self.held = self.entries.keys().filter(|inode| is_held(inode)).count();
        // What was missed goes with the next look, as a rule.
        let held_still = self.held - self.missed.iter().filter(|inode| is_held(inode)).count();
        self.limit = ((self.entries.len() - self.missed.len()) * 2, held_still * 2);
        self.due = Some(Instant::now() + worked().saturating_sub(before) * SHARE);
    }

    /// Lets go of what a look missed, and the look before it, too: a socket that goes from hand to hand during a
    /// look may be in none of them when they are looked at. Where a process does not show what it has, that is
    /// known still, but no handle of a stream is kept: a port that was closed is free then, and whoever cannot
    /// be seen connects nothing.
    fn let_go(&mut self, look: &Look, missed: &HashSet<u64>) {
        let unseen = std::mem::take(&mut self.unseen);
        self.entries.retain(|inode, entry| {
            if look.open.contains(inode) || self.latest == Some(*inode) {
                return true;
            }
            if !missed.contains(inode) && !unseen.contains(inode) {
                return self.missed.insert(*inode);
            }
            if !look.is_whole {
                self.unseen.insert(*inode);
                entry.forget_handle();
            }
            !look.is_whole
        });
        self.rooms.retain(|inode, _| self.entries.contains_key(inode));
    }

    /// Lets go of a socket that keeps an address which somebody else wants, if nobody has it open.
    pub(super) fn free(&mut self, wanted: SocketAddr, by: u64) {
        let has_port = |file: &OwnedFd| {
            let name = getsockname::<SockaddrStorage>(file.as_raw_fd()).ok();
            let port = name.and_then(|name| {
                let v4 = name.as_sockaddr_in().map(SockaddrIn::port);
                v4.or_else(|| name.as_sockaddr_in6().map(SockaddrIn6::port))
            });
            port == Some(wanted.port())
        };
        let keeps = |entry: &Entry| match entry {
            Entry::Stream(file) => has_port(file),
            Entry::Datagram(datagram) => datagram.port() == Some(wanted.port()),
            Entry::Unix(_) | Entry::Connected(_) | Entry::Listening => false,
        };
        if self.entries.iter().any(|(inode, entry)| *inode != by && keeps(entry)) {
            self.sweep();
        }
    }
}

/// For how long this thread has had a processor: on a busy machine, or one that was stopped in the
/// middle, a sweep takes longer than it costs.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What was seen of the sockets that the session's processes have open.
#[derive(Debug)]
struct Look {
    /// Their inodes.
    open: HashSet<u64>,
    /// Whether every process showed its own.
    is_whole: bool,
}

/// Looks for all sockets that the session's processes have open. An error where that could not be done.
fn open_sockets() -> io::Result<Look> {
    let mut look = Look { open: HashSet::new(), is_whole: true };
    // Who is not found has closed nothing.
    for process in family::all_descendants(std::process::id())? {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let threads = fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
        // Most share the descriptors of the first.
        let of_their_own = threads.filter(|thread| {
            let number = thread.file_name().to_str().and_then(|name| name.parse().ok());
            number.is_some_and(|number| number != process && !reach::share_files(process, number))
        });
        for folder in of_their_own.map(|thread| thread.path()).chain([folder.clone()]) {
            match sockets_of(&folder) {
                Ok(sockets) => look.open.extend(sockets),
                Err(_) if has_ended(&folder) => {}
                // Not to be looked at.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    look.is_whole = false;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(look)
}

/// The inodes of the sockets that a thread has open, by its folder in procfs. What may be listed need not be
/// readable.
fn sockets_of(folder: &Path) -> io::Result<Vec<u64>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(folder.join("fd"))? {
        let link = match fs::read_link(entry?.path()) {
            // Closed meanwhile.
            Err(error) if procfs::is_gone(&error) => continue,
            link => link?,
        };
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:["));
        sockets.extend(inode.and_then(|inode| inode.strip_suffix(']')?.parse::<u64>().ok()));
    }
    Ok(sockets)
}

/// Whether a thread has ended, and so has nothing open, by its folder in procfs: nobody but root may look
/// into it then.
fn has_ended(folder: &Path) -> bool {
    match procfs::text(folder.join("stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(error) => procfs::is_gone(&error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_nobody_below_has_open_is_swept() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode =
            |stream: &std::os::unix::net::UnixStream| nix::sys::stat::fstat(stream).unwrap().st_ino;
        let (kept, gone) = (inode(&theirs), inode(&ours));
        let mut sockets = Sockets::default();
        sockets.note(kept, Entry::Listening);
        sockets.note(gone, Entry::Listening);
        sockets.note(1, Entry::Listening);
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let mut child = Command::new("sleep").arg("60").stdin(stdin).spawn().unwrap();
        // It has its program by now: its descriptors are those that it was given.
        sockets.sweep();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(sockets.at(kept).is_some());
        assert!(sockets.at(gone).is_none(), "this process is not below itself");
        assert!(sockets.at(1).is_some(), "it is on its way");
        drop(ours);
    }

    #[test]
    fn what_one_look_misses_may_be_in_other_hands_by_then() {
        let mut sockets = Sockets::default();
        let few = u64::try_from(FEW).unwrap();
        (1..=few).for_each(|inode| sockets.note(inode, Entry::Listening));
        assert!(sockets.at(1).is_some());
        sockets.note(few + 1, Entry::Listening);
        assert!(sockets.at(1).is_none(), "nobody had it then either");
    }
}
