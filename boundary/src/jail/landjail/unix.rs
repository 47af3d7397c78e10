//! Connections to unix sockets: to those of the session and those that the user has opened, and to
//! no other.
//!
//! What a name leads to is opened as the command would, looked at, and connected to by that handle:
//! there is no second look at the name.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::stat::{FileStat, fstat};

use super::kin;
use super::service::{Asked, Reply, Shared};
use super::sockets::{Connected, Entry, Told};
use crate::jail::mutation;
use crate::jail::usher::connect::{Patience, attempt, has_limit};
use crate::jail::usher::peer::{self, Caller, Node};
use crate::jail::usher::report::{What, pid_behind};
use crate::jail::usher::thread::{Name, Rights};
use crate::jail::usher::{address_of, is_cover};
use crate::sys::notify::Answer;
use crate::sys::{errno_of, pidfd};

/// Connects a unix socket to what a name leads to, if it may go there.
pub(super) fn connect(
    shared: &Arc<Shared>,
    (asked, inode): (&Asked, u64),
    socket: &Arc<OwnedFd>,
    address: Vec<u8>,
) -> nix::Result<Reply> {
    let rights = asked.thread.rights().map_err(|error| errno_of(&error, Errno::EIO))?;
    let (view, room) = (asked.thread.view()?, shared.room(asked)?);
    // All of that was the caller's if the caller is there still.
    if !shared.is_waiting(asked) {
        return Ok(Reply::Given);
    }
    let name = Name::in_address(&address);
    let file = match &name {
        Name::Path(path) => Some(borrow(&rights, || view.open(path))?),
        Name::Abstract(_) | Name::Unnamed => None,
    };
    let way = Way { address, file, room, rights };
    if way.is_in_doubt(shared)? {
        // To ask takes as long as the server likes.
        let (socket, asked) = (Arc::clone(socket), *asked);
        return shared.in_background(&asked, move |shared| {
            if !way.may_be_taken(shared, (&asked, &socket))? {
                return Err(refuse(shared, &asked, &way.address));
            }
            way.lead_in_the_end((shared, &asked), (&socket, inode))
        });
    }
    if !way.may_be_taken(shared, (asked, socket))? {
        return Err(refuse(shared, asked, &way.address));
    }
    match way.lead(shared, socket) {
        // A server that accepts nobody lets its clients wait; that is not to be our concern.
        Err(Errno::EAGAIN) => {
            let (socket, asked) = (Arc::clone(socket), *asked);
            shared.in_background(&asked, move |shared| {
                way.lead_in_the_end((shared, &asked), (&socket, inode))
            })
        }
        led => finish((shared, asked), inode, led?, &way.address),
    }
}

/// The way to what a name leads to.
struct Way {
    /// As the program gave it.
    address: Vec<u8>,
    /// The file that it is, if it is one.
    file: Option<OwnedFd>,
    room: u64,
    rights: Rights,
}

impl Way {
    /// Whether it leads to a file, if to one, of which only the server tells whose socket it is.
    fn is_in_doubt(&self, shared: &Shared) -> nix::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let at = fstat(file)?;
        let is_known = || self.room == 0 && shared.served.has(&Node::of(&at, file));
        Ok(!(peer::is_told_apart(&at, file) || is_known()))
    }

    /// Whether it leads to a socket of the session, or to one that is open to it.
    fn may_be_taken(
        &self,
        shared: &Shared,
        (asked, from): (&Asked, &OwnedFd),
    ) -> nix::Result<bool> {
        let is_there = || shared.is_waiting(asked);
        let caller = Caller { from, rights: &self.rights, is_there: &is_there };
        let file = self.file.as_ref().map(|file| (file, &caller));
        may_be_reached((shared, self.room), &Name::in_address(&self.address), file)
    }

    /// Connects a socket, without waiting. False if it may not go there: a name without a file may have
    /// become somebody else's at any time.
    fn lead(&self, shared: &Shared, socket: &OwnedFd) -> nix::Result<bool> {
        let name = Name::in_address(&self.address);
        let may_be_reached = || match self.file {
            Some(_) => Ok(true),
            None => may_be_reached((shared, self.room), &name, None),
        };
        if !may_be_reached()? {
            return Ok(false);
        }
        let address = self.file.as_ref().map_or_else(|| self.address.clone(), address_of);
        borrow(&self.rights, || attempt(socket, &address))?;
        let is_there = may_be_reached()?;
        if !is_there {
            shutdown(socket.as_raw_fd(), Shutdown::Both)?;
        }
        Ok(is_there)
    }

    /// The same for as long as the program waits, and notes what came of it.
    fn lead_in_the_end(
        &self,
        (shared, asked): (&Shared, &Asked),
        (socket, inode): (&OwnedFd, u64),
    ) -> nix::Result<Reply> {
        let (mut patience, waiter) = (Patience::at(socket)?, shared.waiter(asked));
        loop {
            match self.lead(shared, socket) {
                Err(Errno::EAGAIN) if patience.as_mut().is_some_and(Patience::lasts) => {}
                led => return finish((shared, asked), inode, led?, &self.address),
            }
            if !waiter.goes_on() {
                return Ok(Reply::Answer(waiter.answer(has_limit(socket))));
            }
        }
    }
}

/// Notes that a socket is connected, or tells that it may not be.
fn finish(
    (shared, asked): (&Shared, &Asked),
    inode: u64,
    is_made: bool,
    address: &[u8],
) -> nix::Result<Reply> {
    if !is_made {
        return Err(refuse(shared, asked, address));
    }
    let connected = Connected { target: None, told: Told::Made };
    shared.sockets().note(inode, Entry::Connected(connected));
    Ok(Reply::Answer(Answer::Done(0)))
}

/// Tells of a name that leads nowhere; what the call fails with.
pub(super) fn refuse(shared: &Shared, asked: &Asked, address: &[u8]) -> Errno {
    let shown = Name::in_address(address).shown();
    match shared.caller(asked) {
        Ok(process) => {
            shared.tell(process, What::Named(shown));
            Errno::EPERM
        }
        Err(error) => error,
    }
}

/// Whether a name leads to a socket of the session, or to one that is open to it.
fn may_be_reached(
    (shared, room): (&Shared, u64),
    name: &Name,
    file: Option<(&OwnedFd, &Caller<'_>)>,
) -> nix::Result<bool> {
    if !mutation::stands("unix") {
        return Ok(true);
    }
    let is_own = |socket: &u32| shared.is_own(u64::from(*socket), room);
    match (name, file) {
        (Name::Path(_), Some((file, caller))) => {
            let at = fstat(file)?;
            if peer::is_socket(&at) {
                let node = Node::of(&at, file);
                let bound = peer::bound_at(&node)?;
                let is_sessions = !bound.is_empty() && bound.iter().all(is_own);
                Ok(is_open(shared, &at, &node)?
                    || is_sessions && is_served_inside((shared, room), (&node, file), caller)?)
            } else if is_cover(&at) {
                Ok(false)
            } else {
                Err(Errno::ECONNREFUSED)
            }
        }
        (Name::Abstract(name), _) => {
            let bound = peer::named(name)?;
            Ok(!bound.is_empty() && bound.iter().all(is_own))
        }
        // The kernel refuses that by itself.
        (Name::Path(_) | Name::Unnamed, _) => Ok(true),
    }
}

/// Whether a process of the session began to listen at a file, where that is in doubt: one of the room, of
/// whoever is in one.
fn is_served_inside(
    (shared, room): (&Shared, u64),
    (node, file): (&Node, &OwnedFd),
    caller: &Caller<'_>,
) -> nix::Result<bool> {
    if node.is_told_apart() || room == 0 && shared.served.has(node) {
        return Ok(true);
    }
    let Some(socket) = caller.knock(file)? else { return Ok(false) };
    // Before Linux 6.5 there is none, and who has the number now need not be who had it then.
    let Ok(server) = pidfd::of_peer(&socket) else { return Ok(false) };
    let is_inside = |process: u32| -> io::Result<bool> {
        let is_below = kin::is_below(process, std::process::id())?;
        Ok(is_below && (room == 0 || shared.rooms.is_inside(shared.rooms.of(process)?, room)))
    };
    let number = || pid_behind(server.as_fd());
    // What was looked at was the server if it has its number still.
    let is_served = number()
        .is_some_and(|process| is_inside(process).unwrap_or(false) && number() == Some(process));
    if is_served && room == 0 {
        shared.served.note(node, file);
    }
    Ok(is_served)
}

/// Whether the socket at a file is one of those that the user has opened to the command.
fn is_open(shared: &Shared, at: &FileStat, node: &Node) -> nix::Result<bool> {
    for listed in &shared.open {
        if listed.is(at, node)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does something with somebody's rights.
fn borrow<T>(rights: &Rights, work: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    rights.borrow(work).map_err(|error| errno_of(&error, Errno::EIO))?
}
