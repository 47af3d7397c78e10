//! The calls that connect, bind and listen.
//!
//! A connection is made on the command's own open file, of which the usher holds a handle, so that
//! everything about it but its target is as the program made it. The address is copied once; what
//! the program does to it afterwards nobody looks at.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;

use boundary_common::steer::{Decision, Hook, Why};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockaddrStorage, getsockname};

use super::address::{self, Address, canonical, is_own, loopback, spelled, written};
use super::datagrams::Datagram;
use super::service::{Asked, Reply, Shared};
use super::sockets::{Connected, Entry, Told};
use super::unix;
use crate::jail::usher::connect::{
    Attempt, NOBODY, attempt, has_failed, has_limit, outcome, wait, waits,
};
use crate::sys::notify::Answer;
use crate::sys::{errno_of, pidfd, reach};

/// `connect(2)`.
pub(super) fn connect(shared: &Arc<Shared>, asked: &Asked) -> nix::Result<Reply> {
    let length = address::length(asked.arguments[2])?;
    let inode = asked.socket()?;
    let address = asked.thread.read(asked.arguments[1], length)?;
    if !shared.is_waiting(asked) {
        return Ok(Reply::Given);
    }
    let address = Address::read(&address)?;
    let entry = shared.sockets().at(inode).cloned();
    match (entry, address) {
        (Some(Entry::Stream(socket)), Address::Inet(target)) => {
            stream(shared, (asked, inode), &socket, target)
        }
        (Some(Entry::Stream(socket)), Address::Unspecified) => {
            reach::connect(socket.as_fd(), &NOBODY).map(|()| Reply::Answer(Answer::Done(0)))
        }
        (Some(Entry::Stream(_)), Address::Unix(_) | Address::Other) => Err(Errno::EAFNOSUPPORT),
        (Some(Entry::Unix(socket)), Address::Unix(name)) => {
            unix::connect(shared, (asked, inode), &socket, name)
        }
        (Some(Entry::Unix(_)), _) => Err(Errno::EINVAL),
        (Some(Entry::Datagram(datagram)), address) => aim(shared, asked, &datagram, address),
        (Some(Entry::Connected(Connected { target, told: Told::Failed(socket) })), address) => {
            ask_again(shared, (asked, inode), (&socket, target), &address)
        }
        (Some(Entry::Connected(_)), Address::Unspecified) => disconnect(shared, asked, inode),
        (Some(Entry::Connected(Connected { target, told: Told::NotYet })), address) => {
            match share(shared, asked, inode) {
                Ok(socket) => {
                    ask_again(shared, (asked, inode), (&Arc::new(socket), target), &address)
                }
                // We cannot get a handle of it everywhere, and it is made, as a rule.
                Err(_) => Ok(tell_made(shared, asked, inode)),
            }
        }
        // What is accepted, or one of a pair, is connected already.
        (Some(Entry::Connected(_) | Entry::Listening) | None, _) => Err(Errno::EISCONN),
    }
}

/// Connects a stream to where it may go.
fn stream(
    shared: &Arc<Shared>,
    (asked, inode): (&Asked, u64),
    socket: &Arc<OwnedFd>,
    target: SocketAddr,
) -> nix::Result<Reply> {
    let family = family_of(socket)?;
    if target.is_ipv6() && family == libc::AF_INET || target.is_ipv4() && family == libc::AF_INET6 {
        return Err(Errno::EAFNOSUPPORT);
    }
    let room = shared.room(asked)?;
    // It was the caller's if the caller is there still.
    if !shared.is_waiting(asked) {
        return Ok(Reply::Given);
    }
    let (address, turned) = match shared.steer_stream(target, room)? {
        Decision::Pass => (spelled(loopback(target), family), None),
        Decision::Turn(_) => (shared.doors.for_family(target, family), Some(target)),
        Decision::Refuse(_) => return Err(Errno::EPERM),
    };
    let outcome = match turned {
        None => own_server(shared, (socket, address), (target, room)),
        Some(target) => turn(shared, asked, (socket, address), target)?,
    };
    let connected = |told| Connected { target: turned, told };
    match outcome? {
        Attempt::Made => {
            shared.sockets().note(inode, Entry::Connected(connected(Told::Made)));
            Ok(tell_made(shared, asked, inode))
        }
        Attempt::UnderWay => {
            // On loopback it is over by now, as a rule. No handle is kept of one that is not: it would go on
            // when the command has closed it, and find whoever has the port then.
            let told =
                if has_failed(socket) { Told::Failed(Arc::clone(socket)) } else { Told::NotYet };
            shared.sockets().note(inode, Entry::Connected(connected(told)));
            Err(Errno::EINPROGRESS)
        }
        Attempt::Waits => wait_for(shared, (asked, inode), socket, turned),
    }
}

/// Waits for a connection as its program does.
fn wait_for(
    shared: &Arc<Shared>,
    (asked, inode): (&Asked, u64),
    socket: &Arc<OwnedFd>,
    target: Option<SocketAddr>,
) -> nix::Result<Reply> {
    let (socket, asked) = (Arc::clone(socket), *asked);
    shared.in_background(&asked, move |shared| {
        let waiter = shared.waiter(&asked);
        match wait(&socket, || waiter.goes_on()) {
            Err(Errno::EINTR) => return Ok(Reply::Answer(waiter.answer(has_limit(&socket)))),
            outcome => outcome?,
        }
        let connected = Connected { target, told: Told::Made };
        shared.sockets().note(inode, Entry::Connected(connected));
        Ok(tell_made(shared, &asked, inode))
    })
}

/// Asks the kernel what became of a connection that was under way. One that failed leaves a socket that is
/// not connected, which may be tried again.
fn ask_again(
    shared: &Arc<Shared>,
    (asked, inode): (&Asked, u64),
    (socket, turned): (&Arc<OwnedFd>, Option<SocketAddr>),
    address: &Address,
) -> nix::Result<Reply> {
    let free = || shared.sockets().note(inode, Entry::Stream(Arc::clone(socket)));
    if *address == Address::Unspecified {
        free();
        return reach::connect(socket.as_fd(), &NOBODY).map(|()| Reply::Answer(Answer::Done(0)));
    }
    if waits(socket)? {
        free();
        return wait_for(shared, (asked, inode), socket, turned);
    }
    match outcome(socket) {
        Ok(()) | Err(Errno::EISCONN) => Ok(tell_made(shared, asked, inode)),
        Err(error @ (Errno::EALREADY | Errno::EINTR)) => Err(error),
        Err(Errno::EAFNOSUPPORT) => {
            free();
            let Address::Inet(target) = *address else { return Err(Errno::EAFNOSUPPORT) };
            stream(shared, (asked, inode), socket, target)
        }
        Err(error) => {
            free();
            Err(error)
        }
    }
}

/// Answers that a connection is made. Where a signal came first the call will be made again (before Linux
/// 5.19), and is to find it.
fn tell_made(shared: &Shared, asked: &Asked, inode: u64) -> Reply {
    shared.sockets().note_told(inode, Told::Made);
    if !shared.reply(asked, Ok(Reply::Answer(Answer::Done(0)))) {
        shared.sockets().note_told(inode, Told::NotYet);
    }
    Reply::Given
}

/// Connects a stream to a server of the command, which has to be there still when that is done: its port
/// may have become somebody else's in between.
fn own_server(
    shared: &Shared,
    (socket, address): (&OwnedFd, SocketAddr),
    (target, room): (SocketAddr, u64),
) -> nix::Result<Attempt> {
    let outcome = attempt(socket, &written(address))?;
    if matches!(shared.steer_stream(target, room), Ok(Decision::Pass)) {
        return Ok(outcome);
    }
    reach::connect(socket.as_fd(), &NOBODY)?;
    Err(Errno::ECONNREFUSED)
}

/// Connects a stream to a door, and tells the proxy where it was meant to go.
fn turn(
    shared: &Shared,
    asked: &Asked,
    (socket, door): (&OwnedFd, SocketAddr),
    target: SocketAddr,
) -> nix::Result<nix::Result<Attempt>> {
    let process = shared.caller(asked)?;
    let connect = || {
        let outcome = attempt(socket, &written(door));
        let from = if outcome.is_ok() { own_address(socket) } else { None };
        (outcome, from)
    };
    shared.teller.turn((target, &process), connect).map_err(|error| errno_of(&error, Errno::EIO))
}

/// The family of a socket.
fn family_of(socket: &OwnedFd) -> nix::Result<i32> {
    let own = own_address(socket).ok_or(Errno::EAFNOSUPPORT)?;
    Ok(if own.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 })
}

/// The address of a connection at its own end.
fn own_address(socket: &OwnedFd) -> Option<SocketAddr> {
    let name = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
    let v4 = name.as_sockaddr_in().map(|name| SocketAddr::V4((*name).into()));
    v4.or_else(|| name.as_sockaddr_in6().map(|name| SocketAddr::V6((*name).into())))
}

/// Lets a connected socket forget its connection, where we can get a handle of it again.
fn disconnect(shared: &Shared, asked: &Asked, inode: u64) -> nix::Result<Reply> {
    let socket = share(shared, asked, inode)?;
    reach::connect(socket.as_fd(), &NOBODY)?;
    shared.sockets().note(inode, Entry::Stream(Arc::new(socket)));
    Ok(Reply::Answer(Answer::Done(0)))
}

/// A handle of the socket that a call is about.
fn share(shared: &Shared, asked: &Asked, inode: u64) -> nix::Result<OwnedFd> {
    let handle = pidfd::open_thread_or_process(asked.thread.number())?;
    let socket = reach::share_descriptor(handle.as_fd(), asked.number(0))?;
    if nix::sys::stat::fstat(&socket)?.st_ino != inode || !shared.is_waiting(asked) {
        return Err(Errno::EINTR);
    }
    Ok(socket)
}

/// Points a datagram socket at a target.
fn aim(
    shared: &Shared,
    asked: &Asked,
    datagram: &Arc<Datagram>,
    address: Address,
) -> nix::Result<Reply> {
    let target = match address {
        Address::Inet(target) if datagram.family() != libc::AF_UNIX => target,
        Address::Unspecified => {
            datagram.connect(None);
            return Ok(Reply::Answer(Answer::Done(0)));
        }
        Address::Unix(name) if datagram.family() == libc::AF_UNIX => {
            return Err(unix::refuse(shared, asked, &name));
        }
        Address::Inet(_) | Address::Unix(_) | Address::Other => return Err(Errno::EAFNOSUPPORT),
    };
    datagram.note_user(shared.caller(asked)?);
    match shared.steer_datagram(Hook::Connect, (datagram, target)) {
        Decision::Pass | Decision::Turn(_) => {
            shared.give_address(datagram);
            datagram.connect(Some(canonical(if is_own(target) {
                loopback(target)
            } else {
                target
            })));
            Ok(Reply::Answer(Answer::Done(0)))
        }
        Decision::Refuse(_) => {
            shared.refuse_datagram(datagram, target, Why::Aim);
            Err(Errno::EPERM)
        }
    }
}

/// `bind(2)`. What a real socket is bound to does not matter, because it is kept to the loopback
/// device; so that goes on, once nobody of ours keeps the address who has closed his socket.
pub(super) fn bind(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let length = address::length(asked.arguments[2])?;
    let Ok(inode) = asked.socket() else { return Ok(Reply::Continue) };
    let address = asked.thread.read(asked.arguments[1], length)?;
    let Ok(Address::Inet(wanted)) = Address::read(&address) else {
        return match shared.datagram(asked)? {
            // It would give a name to what only we know.
            Some(_) => Err(Errno::EPERM),
            None => Ok(Reply::Continue),
        };
    };
    if wanted.port() != 0 {
        shared.sockets().free(wanted, inode);
    }
    let Some(datagram) = shared.datagram(asked)? else { return Ok(Reply::Continue) };
    let is_taken = |other: &Arc<Datagram>| {
        let is_other = !Arc::ptr_eq(other, &datagram) && other.family() == datagram.family();
        is_other && other.has(wanted) && !(other.shares_address() && datagram.shares_address())
    };
    if datagram.is_bound() {
        return Err(Errno::EINVAL);
    }
    if wanted.port() == 0 {
        let ip = wanted.ip();
        shared.give_address(&datagram);
        let port = datagram.port().unwrap_or_default();
        datagram.bind_again(SocketAddr::new(ip, port));
    } else if shared.sockets().seen_datagrams().any(is_taken) {
        return Err(Errno::EADDRINUSE);
    } else {
        datagram.bind(wanted);
    }
    Ok(Reply::Answer(Answer::Done(0)))
}

/// `listen(2)`: the command's alone from now on, or its address would be taken for as long as we
/// hold it.
pub(super) fn listen(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let Ok(inode) = asked.socket() else { return Ok(Reply::Continue) };
    let mut sockets = shared.sockets();
    match sockets.at(inode) {
        Some(Entry::Stream(_) | Entry::Unix(_)) => sockets.note(inode, Entry::Listening),
        Some(Entry::Datagram(_)) => return Err(Errno::EOPNOTSUPP),
        Some(Entry::Connected(_) | Entry::Listening) | None => {}
    }
    Ok(Reply::Continue)
}
