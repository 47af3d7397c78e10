//! Datagrams: sent by a connected socket or by one that is not, with or without waiting for an
//! answer.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{self, MsgFlags, SockType, SockaddrStorage};

use crate::{address, open, peer, plain};

/// What is said.
const WORDS: &[u8] = b"hand";

/// Connects and sends.
pub(crate) fn connected(family: &str, target: &str) -> anyhow::Result<String> {
    connect(family, target).map(|_| String::new())
}

/// Sends without connecting.
pub(crate) fn unconnected(family: &str, target: &str) -> anyhow::Result<String> {
    send(family, target).map(|_| String::new())
}

/// Connects, asks twice, and tells from where the second answer came and where the socket believes
/// to be.
pub(crate) fn ask_connected(family: &str, target: &str) -> anyhow::Result<String> {
    let socket = connect(family, target)?;
    answer(&socket)?;
    socket::send(socket.as_raw_fd(), WORDS, MsgFlags::empty())?;
    Ok(format!("{} {}", answer(&socket)?, peer(&socket)?))
}

/// Asks without connecting, and tells from where the answer came.
pub(crate) fn ask_unconnected(family: &str, target: &str) -> anyhow::Result<String> {
    answer(&send(family, target)?)
}

/// A connected socket that has sent.
fn connect(family: &str, target: &str) -> anyhow::Result<OwnedFd> {
    let socket = open(family, SockType::Datagram)?;
    socket::connect(socket.as_raw_fd(), &address(family, target)?)?;
    socket::send(socket.as_raw_fd(), WORDS, MsgFlags::empty())?;
    Ok(socket)
}

/// A socket that has sent and is not connected.
fn send(family: &str, target: &str) -> anyhow::Result<OwnedFd> {
    let socket = open(family, SockType::Datagram)?;
    let target = address(family, target)?;
    socket::sendto(socket.as_raw_fd(), WORDS, &target, MsgFlags::empty())?;
    Ok(socket)
}

/// From where an answer comes.
fn answer(socket: &OwnedFd) -> anyhow::Result<String> {
    let mut bytes = [0; 64];
    let (_, source) = socket::recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut bytes)?;
    plain(&source.ok_or_else(|| anyhow::anyhow!("an answer from nowhere"))?)
}
