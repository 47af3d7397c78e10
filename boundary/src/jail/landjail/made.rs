//! The calls that make sockets: the usher makes each, and gives it to the command.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, getsockname, setsockopt, socket as open,
    socketpair, sockopt,
};
use nix::sys::stat::fstat;

use super::datagrams::Datagram;
use super::listeners::LOOPBACK;
use super::post;
use super::service::{Asked, Reply, Shared};
use super::sockets::Entry;
use crate::jail::mutation;
use crate::jail::usher::report::What;
use crate::sys::notify::{self, Answer};

/// The bits of a type that say the type.
const TYPE: i32 = 0xf;

/// `socket(2)`.
pub(super) fn socket(shared: &Arc<Shared>, asked: &Asked) -> nix::Result<Reply> {
    let [family, kind, protocol] = [0, 1, 2].map(|place| asked.number(place));
    match (family, kind & TYPE, protocol) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {
            let socket = stream(
                shared,
                if family == libc::AF_INET { AddressFamily::Inet } else { AddressFamily::Inet6 },
            )?;
            give(shared, asked, socket, Entry::Stream)
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => {
            datagram(shared, asked, family)
        }
        (libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_SEQPACKET, 0 | libc::AF_UNIX) => {
            let kind = if kind & TYPE == libc::SOCK_STREAM {
                SockType::Stream
            } else {
                SockType::SeqPacket
            };
            let socket =
                or_swept(shared, || open(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None))?;
            give(shared, asked, socket, Entry::Unix)
        }
        // Of the unix family there is no other that nobody can give a name to.
        (libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_RAW, _) => datagram(shared, asked, family),
        _ => refuse(shared, asked, [family, kind & TYPE, protocol]),
    }
}

/// A socket for streams that the kernel keeps to the loopback device, whatever is done to it.
fn stream(shared: &Shared, family: AddressFamily) -> nix::Result<OwnedFd> {
    let socket = or_swept(shared, || open(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None))?;
    if mutation::stands("loopback") {
        setsockopt(&socket, sockopt::BindToDevice, &LOOPBACK.into())?;
    }
    Ok(socket)
}

/// Makes something, a second time if there was no room and what nobody has open was swept away.
fn or_swept<T>(shared: &Shared, make: impl Fn() -> nix::Result<T>) -> nix::Result<T> {
    match make() {
        Err(Errno::EMFILE) => {
            shared.sockets().sweep();
            make()
        }
        outcome => outcome,
    }
}

/// Gives a socket to the command, and notes it.
fn give(
    shared: &Shared,
    asked: &Asked,
    socket: OwnedFd,
    entry: impl FnOnce(Arc<OwnedFd>) -> Entry,
) -> nix::Result<Reply> {
    let kind = asked.number(1);
    if kind & libc::SOCK_NONBLOCK != 0 {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let inode = fstat(&socket)?.st_ino;
    let socket = Arc::new(socket);
    // Noted first: the command may have it before we are told that it does. It gets it if it is there
    // still, and then the room was its own.
    let room = shared.room(asked)?;
    shared.sockets().made(inode, entry(Arc::clone(&socket)), room);
    let closes = kind & libc::SOCK_CLOEXEC != 0;
    notify::answer_with(shared.listener(), asked.id, std::os::fd::AsFd::as_fd(&*socket), closes)?;
    Ok(Reply::Given)
}

/// Gives the command what looks like a datagram socket.
fn datagram(shared: &Shared, asked: &Asked, family: i32) -> nix::Result<Reply> {
    let kind = asked.number(1);
    let process = shared.caller(asked)?;
    let waits = kind & libc::SOCK_NONBLOCK == 0;
    let made = Arc::new(or_swept(shared, || Datagram::new(family, process.clone(), waits))?);
    shared.sockets().note(post::inode(&made)?, Entry::Datagram(Arc::clone(&made)));
    shared.post.watch(&made)?;
    let closes = kind & libc::SOCK_CLOEXEC != 0;
    let theirs = std::os::fd::AsFd::as_fd(made.theirs());
    notify::answer_with(shared.listener(), asked.id, theirs, closes)?;
    Ok(Reply::Given)
}

/// `socketpair(2)` of unix datagram sockets: what is given keeps the bounds of what is sent, and
/// cannot send to anybody else by name.
pub(super) fn pair(shared: &Arc<Shared>, asked: &Asked) -> nix::Result<Reply> {
    let [family, kind, protocol] = [0, 1, 2].map(|place| asked.number(place));
    if family != libc::AF_UNIX || !matches!(kind & TYPE, libc::SOCK_DGRAM | libc::SOCK_RAW) {
        return refuse(shared, asked, [family, kind & TYPE, protocol]);
    }
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    let mut numbers = Vec::with_capacity(8);
    for end in [one, other] {
        if kind & libc::SOCK_NONBLOCK != 0 {
            fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let closes = kind & libc::SOCK_CLOEXEC != 0;
        let end = std::os::fd::AsFd::as_fd(&end);
        numbers.extend(notify::give(shared.listener(), asked.id, end, closes)?.to_ne_bytes());
    }
    asked.thread.write(asked.arguments[3], &numbers)?;
    Ok(Reply::Answer(Answer::Done(0)))
}

/// Refuses a socket, and tells of it.
fn refuse(shared: &Shared, asked: &Asked, made: [i32; 3]) -> nix::Result<Reply> {
    let [family, kind, protocol] = made.map(i32::cast_unsigned);
    shared.tell(shared.caller(asked)?, What::Made { family, kind, protocol });
    let is_inet = [libc::AF_INET, libc::AF_INET6].map(i32::cast_unsigned).contains(&family);
    Err(if is_inet { Errno::EPERM } else { Errno::EAFNOSUPPORT })
}

/// Whether this process can make a socket that the kernel keeps to the loopback device.
pub(super) fn probe() -> nix::Result<()> {
    let family = AddressFamily::Inet;
    let socket = open(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::BindToDevice, &LOOPBACK.into())?;
    getsockname::<SockaddrStorage>(socket.as_raw_fd()).map(drop)
}
