//! The calls that send and receive, on a datagram socket that the usher pretends to be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollTimeout;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::time::TimeValLike as _;

use super::address::{self, Address, written};
use super::datagrams::{Datagram, LONGEST, Received, is_readable};
use super::service::{Asked, Reply, Shared};
use super::{options, unix};
use crate::jail::usher::message::{HEADERS, Header, MOST, content, write_length};
use crate::sys::notify::Answer;

/// How often whoever waits for a datagram is looked after.
const LOOK: u16 = 200;

/// `sendto(2)` with an address.
pub(super) fn send_to(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let Some(socket) = shared.datagram(asked)? else { return Ok(Reply::Continue) };
    let target = whom(shared, (asked, &socket), (asked.arguments[4], asked.arguments[5]))?;
    let data = content(asked.thread, (asked.arguments[1], asked.arguments[2]), LONGEST)?;
    let sent = shared.send(asked, (&socket, target), &data)?;
    Ok(done(sent))
}

/// `sendmsg(2)`. What names nobody goes the way of every write, but for what is sent beside it: of that
/// nothing is for a datagram of the internet.
pub(super) fn send_message(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let Some(socket) = shared.datagram(asked)? else { return Ok(Reply::Continue) };
    let header = Header::read(asked.thread, asked.arguments[1])?;
    let target = match header.name() {
        (0, _) if !header.has_more() => return Ok(Reply::Continue),
        (0, _) => socket.peer().ok_or(Errno::EDESTADDRREQ)?,
        name => whom(shared, (asked, &socket), name)?,
    };
    Ok(done(shared.send(asked, (&socket, target), &whole(asked, &header)?)?))
}

/// `sendmmsg(2)`. It fails only if nothing was sent.
pub(super) fn send_messages(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let Some(socket) = shared.datagram(asked)? else { return Ok(Reply::Continue) };
    let count = (asked.arguments[2] & u64::from(u32::MAX)).min(MOST);
    let mut sent = 0;
    for place in 0..count {
        let at = asked.arguments[1].wrapping_add(place * HEADERS);
        let outcome = Header::read(asked.thread, at).and_then(|header| {
            let target = match header.name() {
                (0, _) => socket.peer().ok_or(Errno::EDESTADDRREQ)?,
                name => whom(shared, (asked, &socket), name)?,
            };
            shared.send(asked, (&socket, target), &whole(asked, &header)?)
        });
        let length = match outcome {
            Ok(length) => length,
            Err(error) if place == 0 => return Err(error),
            Err(_) => break,
        };
        write_length(asked.thread, at, length)?;
        sent += 1;
    }
    Ok(done(sent))
}

/// The content of a message that is one datagram; an error if the kernel is to cut it into several.
fn whole(asked: &Asked, header: &Header) -> nix::Result<Vec<u8>> {
    if header.has_beside(asked.thread, options::SEGMENT)? {
        return Err(Errno::EIO);
    }
    header.data(asked.thread, LONGEST)
}

/// Whom a message of a socket is for. One of the unix family leads nowhere, which is told.
fn whom(
    shared: &Shared,
    (asked, socket): (&Asked, &Datagram),
    (at, length): (u64, u64),
) -> nix::Result<SocketAddr> {
    let is_unix = socket.family() == libc::AF_UNIX;
    match named(asked, at, length)? {
        Address::Inet(target) if !is_unix => Ok(target),
        Address::Unix(name) if is_unix => Err(unix::refuse(shared, asked, &name)),
        Address::Inet(_) | Address::Unix(_) | Address::Unspecified | Address::Other => {
            Err(Errno::EAFNOSUPPORT)
        }
    }
}

/// The address that a message names.
pub(super) fn named(asked: &Asked, at: u64, length: u64) -> nix::Result<Address> {
    Address::read(&asked.thread.read(at, address::length(length)?)?)
}

/// How somebody waits for a datagram.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// `recvfrom(2)`.
    From,
    /// `recvmsg(2)`.
    Message,
    /// `recvmmsg(2)`, of which the first message is waited for, and returned alone.
    Messages,
}

/// `recvfrom(2)` with room for an address, `recvmsg(2)` and `recvmmsg(2)`.
pub(super) fn receive(shared: &Arc<Shared>, asked: &Asked) -> nix::Result<Reply> {
    let Some(socket) = shared.datagram(asked)? else { return Ok(Reply::Continue) };
    let (form, flags) = match asked.call {
        libc::SYS_recvfrom => (Form::From, 3),
        libc::SYS_recvmmsg => (Form::Messages, 3),
        _ => (Form::Message, 2),
    };
    let flags = asked.number(flags);
    // There are none, and nobody waits for one.
    if flags & libc::MSG_ERRQUEUE != 0 {
        return Err(Errno::EAGAIN);
    }
    let is_nonblocking =
        nix::fcntl::fcntl(socket.theirs(), nix::fcntl::FcntlArg::F_GETFL)? & libc::O_NONBLOCK != 0;
    match receive_now(asked, &socket, (form, flags)) {
        Err(Errno::EAGAIN) if !is_nonblocking && flags & libc::MSG_DONTWAIT == 0 => {}
        received => return received,
    }
    let deadline = patience(&socket).map(|patience| Instant::now() + patience);
    let asked = *asked;
    shared.in_background(&asked, move |shared| {
        let waiter = shared.waiter(&asked);
        loop {
            let is_there = is_readable(&socket, PollTimeout::from(LOOK));
            if !shared.is_waiting(&asked) {
                return Ok(Reply::Given);
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let is_over = is_there || is_late;
            if !is_over && waiter.is_interrupted() {
                return Ok(Reply::Answer(waiter.answer(deadline.is_some())));
            }
            if !is_over {
                continue;
            }
            match receive_now(&asked, &socket, (form, flags)) {
                Err(Errno::EAGAIN) if !is_late => {}
                received => return received,
            }
        }
    })
}

/// How long a socket waits at most (`SO_RCVTIMEO`), if it has a limit.
fn patience(socket: &Datagram) -> Option<Duration> {
    let limit = getsockopt(socket.theirs(), sockopt::ReceiveTimeout).ok()?;
    let limit = u64::try_from(limit.num_microseconds()).ok().filter(|limit| *limit > 0)?;
    Some(Duration::from_micros(limit))
}

/// Receives what is there now.
fn receive_now(asked: &Asked, socket: &Datagram, (form, flags): (Form, i32)) -> nix::Result<Reply> {
    let received = socket.receive(flags & libc::MSG_PEEK != 0)?;
    let length = match form {
        Form::From => {
            let [_, at, room, _, name, name_length] = asked.arguments;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let taken = received.data.get(..room).unwrap_or(&received.data);
            asked.thread.write(at, taken)?;
            asked.write_address(received.source, (name, name_length))?;
            (taken.len(), received.data.len())
        }
        Form::Message | Form::Messages => scatter(asked, &received)?,
    };
    let (taken, whole) = length;
    let length = if flags & libc::MSG_TRUNC != 0 { whole } else { taken };
    if let Form::Messages = form {
        write_length(asked.thread, asked.arguments[1], length)?;
        return Ok(done(1));
    }
    Ok(done(length))
}

/// Puts what was received where a `struct msghdr` says; how much of it there was room for, and how
/// much there was.
pub(super) fn scatter(asked: &Asked, received: &Received) -> nix::Result<(usize, usize)> {
    let header = Header::read(asked.thread, asked.arguments[1])?;
    let mut rest = &received.data[..];
    for (at, room) in header.parts(asked.thread)? {
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
        let (part, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        asked.thread.write(at, part)?;
        rest = after;
    }
    let (at, room) = header.name();
    if at != 0 {
        let name = written(received.source);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        asked.thread.write(at, name.get(..room).unwrap_or(&name))?;
        let length = u32::try_from(name.len()).unwrap_or_default();
        asked.thread.write(header.at.wrapping_add(8), &length.to_ne_bytes())?;
    }
    // Nothing beside the message, and whether there was more of it.
    let flags = if rest.is_empty() { 0 } else { libc::MSG_TRUNC };
    asked.thread.write(header.at.wrapping_add(40), &0_u64.to_ne_bytes())?;
    asked.thread.write(header.at.wrapping_add(48), &flags.to_ne_bytes())?;
    Ok((received.data.len() - rest.len(), received.data.len()))
}

/// The answer that is a length.
fn done(length: usize) -> Reply {
    Reply::Answer(Answer::Done(i64::try_from(length).unwrap_or(i64::MAX)))
}
