//! A call that has an address, read from the memory of whoever makes it, and made for him.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;

use super::connect::Patience;
use super::message::{Header, content, write_length};
use super::thread::Thread;
use crate::sys::notify::{self, Notification};
use crate::sys::{pidfd, reach};

/// The longest address that the kernel takes.
const MAX_ADDRESS: usize = 128;

/// The most that is carried at once. A stream takes what is left with the next call; no datagram is
/// longer.
const MOST: usize = 1 << 20;

/// A call that has an address.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) thread: Thread,
    pub(super) number: u32,
    descriptor: i32,
    /// Whether it names a unix socket, in whichever of its messages.
    pub(super) is_judged: bool,
    /// Empty only where it has none although another of several has one.
    pub(super) address: Vec<u8>,
    load: Load,
}

/// What a call does with the address.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// It connects.
    Nothing,
    /// It sends this: where it lies and how long it is, and the flags.
    Data((u64, u64), i32),
    /// It sends a message, with these flags.
    Message(Header, i32),
    /// It sends several, of which this is the first.
    First(Header, i32),
}

/// What is sent, in our own memory.
#[derive(Debug)]
pub(super) struct Parcel {
    data: Vec<u8>,
    flags: i32,
    /// The control messages, and the descriptors that they have.
    beside: (Vec<u8>, Vec<OwnedFd>),
}

impl Request {
    /// Reads the call, of which the kernel would read the address again if it went on there. None if it
    /// has no address; an error where it cannot have that one.
    pub(super) fn read(asked: &Notification) -> nix::Result<Option<Self>> {
        let thread = Thread::new(asked.thread());
        let flags = |place| low_half(asked.argument(place)).cast_signed();
        // The kernel takes lengths of addresses as ints.
        let place = |at, length| (asked.argument(at), u64::from(low_half(asked.argument(length))));
        let (name, load) = match asked.call() {
            libc::SYS_connect => (place(1, 2), Load::Nothing),
            libc::SYS_sendmsg => {
                let header = Header::read(thread, asked.argument(1))?;
                (header.name(), Load::Message(header, flags(2)))
            }
            libc::SYS_sendmmsg => {
                let count = u64::from(low_half(asked.argument(2)));
                let mut headers = Header::read_many(thread, asked.argument(1), count);
                let Some(first) = headers.next().transpose()? else { return Ok(None) };
                // What cannot be read here the kernel may read all the same.
                let rest = headers.map(|header| address(thread, header?.name()));
                let mut rest = rest.filter(|found| *found != Ok(Vec::new())).peekable();
                let (own, has_more) = (address(thread, first.name())?, rest.peek().is_some());
                if own.is_empty() && !has_more {
                    return Ok(None);
                }
                let is_judged = is_of_unix(&own)
                    || rest.any(|found| found.map_or(true, |address| is_of_unix(&address)));
                // Whoever sends several learns how many were sent, and goes on with the next.
                let load = Load::First(first, flags(3));
                return Ok(Some(Self { is_judged, ..Self::of(asked, own, load) }));
            }
            _ => (place(4, 5), Load::Data((asked.argument(1), asked.argument(2)), flags(3))),
        };
        let is_connect = matches!(load, Load::Nothing);
        match name {
            (0, _) if !is_connect => Ok(None),
            (_, 0 | 1) if is_connect => Err(Errno::EINVAL),
            name => Ok(Some(Self::of(asked, address(thread, name)?, load))),
        }
    }

    fn of(asked: &Notification, address: Vec<u8>, load: Load) -> Self {
        Self {
            id: asked.id(),
            thread: Thread::new(asked.thread()),
            number: asked.thread(),
            descriptor: low_half(asked.argument(0)).cast_signed(),
            is_judged: is_of_unix(&address),
            address,
            load,
        }
    }

    /// Whether the address that it is made with now is one that a unix socket takes.
    pub(super) fn suits_unix(&self) -> bool {
        /// `struct sockaddr_un`.
        const LONGEST: usize = 110;
        let is_named = is_of_unix(&self.address) && self.address.len() <= LONGEST;
        is_named || self.address.is_empty()
    }

    /// A handle of whoever makes the call, and another one of the socket that it is about. He is who he was
    /// if the call waits still when this is done.
    pub(super) fn share(&self) -> nix::Result<(OwnedFd, OwnedFd)> {
        if let Some(thread) = pidfd::of_thread(self.number)? {
            let socket = reach::share_descriptor(thread.as_fd(), self.descriptor)?;
            return Ok((thread, socket));
        }
        // Where there are no handles of threads it is the process's, and a thread may have another
        // under this number: what is not looked at must not go on in the kernel.
        let process = pidfd::open_process_of(self.number)?;
        let socket = reach::share_descriptor(process.as_fd(), self.descriptor)?;
        if self.thread.socket(self.descriptor)? != fstat(&socket)?.st_ino {
            return Err(Errno::EBADF);
        }
        Ok((process, socket))
    }

    /// What is sent by a socket, if something is. Only we may read it, not the user.
    pub(super) fn parcel(
        &self,
        handle: BorrowedFd<'_>,
        socket: &OwnedFd,
    ) -> nix::Result<Option<Parcel>> {
        let thread = self.thread;
        let (data, flags, beside) = match self.load {
            Load::Nothing => return Ok(None),
            Load::Data((at, length), flags) => {
                let length = length.min(u64::try_from(MOST).unwrap_or(u64::MAX));
                (content(thread, (at, length), MOST)?, flags, Default::default())
            }
            Load::Message(header, flags) | Load::First(header, flags) => {
                (header.beginning(thread, MOST)?, flags, header.beside(thread, handle)?)
            }
        };
        if data.len() >= MOST && getsockopt(socket, sockopt::SockType)? != SockType::Stream {
            return Err(Errno::EMSGSIZE);
        }
        Ok(Some(Parcel { data, flags, beside }))
    }

    /// For how long whoever makes the call waits where it cannot be made at once, if he does.
    pub(super) fn patience(&self, socket: &OwnedFd) -> nix::Result<Option<Patience>> {
        let flags = match self.load {
            Load::Nothing => 0,
            Load::Data(_, flags) | Load::Message(_, flags) | Load::First(_, flags) => flags,
        };
        if flags & libc::MSG_DONTWAIT != 0 { Ok(None) } else { Patience::at(socket) }
    }

    /// What the call returns when so much was sent, to whom it is as long as he waits.
    pub(super) fn returns(&self, listener: BorrowedFd<'_>, sent: usize) -> nix::Result<i64> {
        match self.load {
            Load::Nothing | Load::Data(..) | Load::Message(..) => {
                i64::try_from(sent).map_err(|_wide| Errno::EMSGSIZE)
            }
            Load::First(header, _) => {
                if notify::is_waiting(listener, self.id) {
                    write_length(self.thread, header.at, sent)?;
                }
                Ok(1)
            }
        }
    }

    /// Whether it connects.
    pub(super) fn is_connect(&self) -> bool {
        matches!(self.load, Load::Nothing)
    }
}

impl Parcel {
    /// Sends it by a socket, if it need not wait; how much of it.
    pub(super) fn send(&self, socket: &OwnedFd, address: &[u8]) -> nix::Result<usize> {
        let Self { data, flags, beside: (beside, _lent) } = self;
        reach::send_message(socket.as_fd(), (address, data, beside), *flags | libc::MSG_DONTWAIT)
    }
}

/// An address in the memory of a thread: what the kernel would take of it.
fn address(thread: Thread, (at, length): (u64, u64)) -> nix::Result<Vec<u8>> {
    if at == 0 || length == 0 {
        return Ok(Vec::new());
    }
    let length = usize::try_from(length).ok().filter(|length| (2..=MAX_ADDRESS).contains(length));
    thread.read(at, length.ok_or(Errno::EINVAL)?)
}

/// Whether an address is one of the unix family.
pub(super) fn is_of_unix(address: &[u8]) -> bool {
    let family = address.first_chunk::<2>().map(|bytes| u16::from_ne_bytes(*bytes));
    family.is_some_and(|family| i32::from(family) == libc::AF_UNIX)
}

/// The half of an argument that a call takes as an int.
pub(super) fn low_half(argument: u64) -> u32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default()
}
