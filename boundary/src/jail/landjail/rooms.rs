//! Rooms for boundary inside boundary: it asks at a door of the usher, gives a badge to the process that
//! becomes its command, and the usher tells of every connection from which room it comes.
//!
//! *Standing*: the same question as in the eBPF jail, and another answer: there is nobody to move. Who
//! asks for a room gets one inside its own, whatever it asks for; what is in a room is there because
//! of its own [`Badge`]. *Never*: opens again what was closed. When whoever asked hangs up, nothing is
//! permitted in the room any more, and what is in it is killed.

use std::fs::{self, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;

use super::family;
use super::service::Shared;
use crate::jail::badge::{Badge, Badges, Span};
use crate::jail::mutation;
use crate::jail::usher::{Answer, Entry, FULL, MAX_ROOMS, Request, question};

/// What is answered where there is no room inside a room.
const DEEP: &str = "there is no room left here: in landjail they go four deep";

/// How often the end of what is in a room is looked for, and how often at most.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 250;

/// How many of them in a row find nobody where nobody is, and how often orphans are killed in each.
const ENOUGH_LOOKS: usize = 3;
const STRIKES: usize = 50;

/// The rooms of a session.
#[derive(Debug)]
pub(super) struct Rooms {
    /// None where the limits of the session leave no room.
    badges: Option<Mutex<Badges>>,
    taken: AtomicUsize,
}

/// A room that somebody is in.
struct Room {
    number: u64,
    span: Span,
    badge: Badge,
}

/// The door to a session's rooms, where one can be made.
pub(super) fn door(at: &Path) -> Option<UnixListener> {
    let bound = UnixListener::bind(at).and_then(|listener| {
        fs::set_permissions(at, Permissions::from_mode(0o666))?;
        Ok(listener)
    });
    bound
        .inspect_err(
            |error| tracing::warn!(%error, "there is no room for boundary inside this one"),
        )
        .ok()
}

/// Lets in whoever asks at the door.
pub(super) fn open(shared: &Arc<Shared>, door: UnixListener) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let host = move || {
        for stream in door.incoming().flatten() {
            // The door may be seen from outside the session, and there is only so much room.
            if !is_guest(&stream) {
                continue;
            }
            let shared = Arc::clone(&shared);
            // Without a thread nobody is let in, and whoever asked is hung up on.
            drop(std::thread::Builder::new().spawn(move || host(&shared, stream)));
        }
    };
    std::thread::Builder::new().spawn(host).map(drop)
}

/// Whether who connected is of the session: then it was this process that did so.
fn is_guest(stream: &UnixStream) -> bool {
    let who = getsockopt(stream, sockopt::PeerCredentials).map(|who| who.pid().unsigned_abs());
    who == Ok(std::process::id())
}

impl Rooms {
    /// No rooms yet, below the limits of this process, which are those of the command.
    pub(super) fn new() -> io::Result<Self> {
        let badges = Badges::below(Badge::of(std::process::id())?).map(Mutex::new);
        Ok(Self { badges, taken: AtomicUsize::new(0) })
    }

    /// The room that a process is in, 0 if it is in none.
    pub(super) fn of(&self, process: u32) -> io::Result<u64> {
        match self.badges() {
            Some(badges) if badges.are_given() && mutation::stands("rooms") => {
                Ok(badges.room(badges.span(Badge::of(process)?)))
            }
            _ => Ok(0),
        }
    }

    /// Whether a room is another one, or inside it.
    pub(super) fn is_inside(&self, room: u64, other: u64) -> bool {
        self.badges().is_some_and(|badges| badges.is_inside(room, other))
    }

    fn badges(&self) -> Option<MutexGuard<'_, Badges>> {
        self.badges.as_ref().map(|badges| badges.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those of some processes that are in a span.
    fn members(&self, of: impl IntoIterator<Item = u32>, span: Span) -> Vec<u32> {
        let Some(badges) = self.badges() else { return Vec::new() };
        let is_in =
            |process: &u32| Badge::of(*process).is_ok_and(|badge| badges.span(badge).is_in(span));
        of.into_iter().filter(is_in).collect()
    }

    /// Ends what is in a span. Stopped first: what forks faster than it is killed would never be gone. What
    /// starts another one and ends at once is not found so, but comes to this process each time.
    fn clear(&self, span: Span) {
        let mut looks_in_vain = 0;
        for _ in 0..LOOKS {
            let mut members = self.members(family::descendants(std::process::id()), span);
            send_all(&members, Signal::SIGSTOP);
            send_all(&members, Signal::SIGKILL);
            for _ in 0..STRIKES {
                let orphans = self.members(family::adopted(), span);
                send_all(&orphans, Signal::SIGKILL);
                members.extend(orphans);
            }
            looks_in_vain = if members.is_empty() { looks_in_vain + 1 } else { 0 };
            if looks_in_vain >= ENOUGH_LOOKS {
                return;
            }
            if looks_in_vain == 0 {
                std::thread::park_timeout(LOOK);
            }
        }
    }
}

/// Signals each of some processes.
fn send_all(processes: &[u32], signal: Signal) {
    for process in processes.iter().filter_map(|&process| i32::try_from(process).ok()) {
        // It may have ended by now.
        kill(Pid::from_raw(process), signal).unwrap_or_default();
    }
}

/// Sees to one guest from the question to the end.
fn host(shared: &Shared, mut stream: UnixStream) {
    let rooms = &shared.rooms;
    if rooms.taken.fetch_add(1, Ordering::Relaxed) < MAX_ROOMS {
        match admit(shared, &stream) {
            Ok(room) => {
                if Answer::Badged(room.badge).give(&mut stream).is_ok() {
                    // Until it hangs up, however that comes.
                    drop(stream.read(&mut [0]));
                }
                close(shared, &room);
            }
            Err(error) => drop(Answer::Refused(error.to_string()).give(&mut stream)),
        }
    } else {
        drop(Answer::Refused(FULL.to_owned()).give(&mut stream));
    }
    rooms.taken.fetch_sub(1, Ordering::Relaxed);
}

/// Gives whoever asks a room inside its own, with the policy that it asks for.
///
/// Anybody in the session can take a badge that was not given yet, because each follows from the one
/// before: until its policy is entered nothing is granted to whoever has it.
fn admit(shared: &Shared, stream: &UnixStream) -> io::Result<Room> {
    let (asker, line) = question(stream)?;
    let Request { pid: _, rules, exact } = serde_json::from_slice(&line)?;
    if !family::descendants(std::process::id()).contains(&asker) {
        return Err(Errno::EPERM.into());
    }
    let inside = shared.rooms.of(asker)?;
    let given = shared.rooms.badges().and_then(|mut badges| badges.give(inside));
    let (number, span, badge) = given.ok_or_else(|| io::Error::other(DEEP))?;
    let room = Room { number, span, badge };
    let entered = match shared.enter(Entry { place: number, inside, rules, exact }) {
        Ok(true) => return Ok(room),
        Ok(false) => io::Error::other("the policy was not taken"),
        Err(error) => error,
    };
    close(shared, &room);
    Err(entered)
}

/// Grants nothing in a room any more, and ends what is in it.
fn close(shared: &Shared, room: &Room) {
    if !matches!(shared.leave(room.number), Ok(true)) {
        tracing::error!("the policy of a room was not forgotten");
    }
    shared.rooms.clear(room.span);
    if let Some(mut badges) = shared.rooms.badges() {
        badges.take_back(room.number);
    }
}
