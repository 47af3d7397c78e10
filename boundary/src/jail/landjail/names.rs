//! The calls that ask for a socket's addresses.

use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;

use super::service::{Asked, Reply, Shared};
use super::sockets::Entry;
use crate::sys::notify::Answer;

/// `getsockname(2)`.
pub(super) fn own(shared: &Arc<Shared>, asked: &Asked) -> nix::Result<Reply> {
    let Some(datagram) = shared.datagram(asked)? else { return Ok(Reply::Continue) };
    if datagram.family() == libc::AF_UNIX {
        return Ok(Reply::Continue);
    }
    write(asked, datagram.local())
}

/// `getpeername(2)`: of a connection that was turned, where it was meant to go.
pub(super) fn peer(shared: &Arc<Shared>, asked: &Asked) -> nix::Result<Reply> {
    let Ok(inode) = asked.socket() else { return Ok(Reply::Continue) };
    let entry = shared.sockets().at(inode).cloned();
    let peer = match entry {
        Some(Entry::Connected(connected)) if connected.has_failed() => None,
        Some(Entry::Connected(connected)) => connected.target,
        Some(Entry::Datagram(datagram)) => Some(datagram.peer().ok_or(Errno::ENOTCONN)?),
        Some(Entry::Stream(_) | Entry::Unix(_) | Entry::Listening) | None => None,
    };
    let Some(peer) = peer else { return Ok(Reply::Continue) };
    if !shared.is_waiting(asked) {
        return Ok(Reply::Given);
    }
    write(asked, peer)
}

fn write(asked: &Asked, address: std::net::SocketAddr) -> nix::Result<Reply> {
    asked.write_address(address, (asked.arguments[1], asked.arguments[2]))?;
    Ok(Reply::Answer(Answer::Done(0)))
}
