//! What goes to and fro between datagram sockets and the resolver, without a call that waits.

use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::fstat;

use super::datagrams::{self, Datagram, LONGEST, Line};
use super::service::Shared;

/// How much is brought at once.
const AT_ONCE: usize = 32;

/// Who waits for what arrives.
#[derive(Debug)]
pub(super) struct Post(Epoll);

impl Post {
    /// Waits for nothing yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Waits for what the command sends on a socket.
    pub(super) fn watch(&self, datagram: &Datagram) -> nix::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        self.0.add(datagram.ours(), EpollEvent::new(flags, inode(datagram)? << 1))
    }

    /// Waits for what the resolver answers to a socket.
    pub(super) fn watch_line(&self, datagram: &Datagram, line: &Line) -> nix::Result<()> {
        let number = inode(datagram)? << 1 | 1;
        self.0.add(line.socket(), EpollEvent::new(EpollFlags::EPOLLIN, number))
    }

    /// Waits no more for what the command sends on a socket.
    fn forget(&self, datagram: &Datagram) {
        if let Err(error) = self.0.delete(datagram.ours()) {
            tracing::debug!(%error, "a socket that was shut down is waited for");
        }
    }

    /// Brings what arrives, for as long as the usher lives.
    pub(super) fn carry(&self, shared: &Arc<Shared>) {
        let mut events = [EpollEvent::empty(); AT_ONCE];
        loop {
            let ready = match self.0.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "datagrams cannot be waited for");
                    return;
                }
            };
            for event in events.iter().take(ready) {
                bring(shared, event);
            }
        }
    }
}

/// Brings what has arrived for a socket, by the number that it is waited for under.
fn bring(shared: &Arc<Shared>, event: &EpollEvent) {
    let number = event.data();
    let is_shut = event.events().intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP);
    let datagram = shared.sockets().datagram(number >> 1);
    match datagram {
        Some(datagram) if number & 1 == 0 => sent(shared, &datagram, is_shut),
        Some(datagram) => answered(&datagram),
        None => {}
    }
}

/// The inode by which the command's end of a socket is known.
pub(super) fn inode(datagram: &Datagram) -> nix::Result<u64> {
    Ok(fstat(datagram.theirs())?.st_ino)
}

/// Takes what the command has sent on a connected socket. What is refused now can be told to nobody
/// but the record.
///
/// One that was shut down can be read for ever, and says nothing. What has descriptors with it is for nobody.
fn sent(shared: &Arc<Shared>, datagram: &Arc<Datagram>, is_shut: bool) {
    if datagram.has_descriptors() {
        shared.post.forget(datagram);
        let (shared, datagram) = (Arc::clone(shared), Arc::clone(datagram));
        let empty = move || {
            datagrams::empty(datagram.ours());
            shared.post.watch(&datagram).unwrap_or_default();
        };
        drop(std::thread::Builder::new().spawn(empty));
        return;
    }
    let mut data = vec![0; LONGEST + 1];
    let received = recv(datagram.ours().as_raw_fd(), &mut data, MsgFlags::MSG_DONTWAIT);
    if is_shut && matches!(received, Ok(0) | Err(_)) {
        shared.post.forget(datagram);
        return;
    }
    let Ok(length) = received else { return };
    // Without a target the call is to fail, but no call that writes is asked about.
    let Some(target) = datagram.peer() else { return };
    let data = data.get(..length).unwrap_or_default();
    if let Err(error) = shared.carry(datagram, target, data) {
        tracing::debug!(%error, %target, "a datagram was not carried");
    }
}

/// Hands over what the resolver has answered.
fn answered(datagram: &Datagram) {
    let Some(line) = datagram.line() else { return };
    let mut data = vec![0; LONGEST + 1];
    let number = line.socket().as_fd().as_raw_fd();
    while let Ok(length) = recv(number, &mut data, MsgFlags::MSG_DONTWAIT) {
        if let Err(error) = datagram.answer(data.get(..length).unwrap_or_default()) {
            tracing::debug!(%error, "an answer was not handed over");
        }
    }
}
