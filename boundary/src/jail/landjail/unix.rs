//! Connections to unix sockets: to those of the session and those that the user has opened, and to
//! no other.
//!
//! What a name leads to is opened as the command would, looked at, and connected to by that handle:
//! there is no second look at the name.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FileStat, fstat};

use super::datagrams::errno;
use super::service::{Asked, Reply, Shared};
use super::sockets::{Connected, Entry};
use crate::jail::mutation;
use crate::jail::usher::peer::{self, Node};
use crate::jail::usher::report::What;
use crate::jail::usher::thread::{Name, Rights};
use crate::jail::usher::{address_of, is_cover};
use crate::sys::notify::Answer;
use crate::sys::reach;

/// Connects a unix socket to what a name leads to, if it may go there.
pub(super) fn connect(
    shared: &Arc<Shared>,
    (asked, inode): (&Asked, u64),
    socket: &Arc<OwnedFd>,
    address: Vec<u8>,
) -> nix::Result<Reply> {
    let rights = asked.thread.rights().map_err(|error| errno(&error))?;
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
    if !may_be_reached((shared, room), &name, file.as_ref())? {
        return Err(refuse(shared, asked, &address));
    }
    let address = file.as_ref().map_or(address, address_of);
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        return finish(shared, inode, borrow(&rights, || reach::connect(socket.as_fd(), &address)));
    }
    // A server that accepts nobody lets its clients wait; that is not to be our concern.
    let socket = Arc::clone(socket);
    shared.in_background(asked, move |shared| {
        let connected = borrow(&rights, || reach::connect(socket.as_fd(), &address));
        drop((file, socket));
        finish(shared, inode, connected)
    })
}

/// Notes that a socket is connected, if it is.
fn finish(shared: &Shared, inode: u64, connected: nix::Result<()>) -> nix::Result<Reply> {
    connected?;
    let connected = Connected { target: None, is_awaited: false };
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
    file: Option<&OwnedFd>,
) -> nix::Result<bool> {
    if !mutation::stands("unix") {
        return Ok(true);
    }
    let is_own = |socket: &u32| shared.is_own(u64::from(*socket), room);
    match (name, file) {
        (Name::Path(_), Some(file)) => {
            let at = fstat(file)?;
            if peer::is_socket(&at) {
                let node = Node::of(&at, file);
                let bound = peer::bound_at(&node)?;
                let is_sessions = !bound.is_empty() && bound.iter().all(is_own);
                Ok(is_sessions || is_open(shared, &at, &node)?)
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
    rights.borrow(work).map_err(|error| errno(&error))?
}
