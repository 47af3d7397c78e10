//! Netlink, as far as a network namespace is made and asked with it: messages of attributes, a
//! socket that sends a batch and waits for what the kernel says to each.
//!
//! Formats: `include/uapi/linux/netlink.h` of Linux 6.18; all numbers in the machine's byte order,
//! but for what netfilter takes, which is in the network's.
//!
//! *Never*: knows what a message means.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// A message that asks for something (`NLM_F_REQUEST`).
pub(super) const REQUEST: u16 = 0x1;
/// A message whose outcome is to be told (`NLM_F_ACK`).
pub(super) const ACK: u16 = 0x4;
/// A message that makes something (`NLM_F_CREATE`).
pub(super) const CREATE: u16 = 0x400;
/// A message that adds at the end (`NLM_F_APPEND`).
pub(super) const APPEND: u16 = 0x800;

/// The kind of the kernel's answer about an outcome (`NLMSG_ERROR`); 0 is no error.
const OUTCOME: u16 = 2;
/// The header of a message.
const HEADER: usize = 16;
/// The mark of an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;
/// Room for what the kernel answers at once.
const ANSWERS: usize = 32 * 1024;
/// How long the kernel may take to answer, in milliseconds: it answers within the call.
const PATIENCE: i64 = 1_000;

/// Attributes, being written.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    /// Appends bytes, filled up to a multiple of four.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Appends an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        // What is written here is a few hundred bytes; the kernel refuses a length that is wrong.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// Appends a text, with the NUL at its end.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// Appends a number in the machine's byte order.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Appends a number in the network's byte order.
    pub(super) fn big(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that holds others.
    pub(super) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.attribute(kind | NESTED, &inner.0);
    }
}

/// Messages for the kernel, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// The number of the last message.
    sequence: u32,
    /// How many of them ask for their outcome.
    awaited: usize,
}

impl Batch {
    /// Appends a message.
    pub(super) fn message(&mut self, kind: u16, flags: u16, write: impl FnOnce(&mut Body)) {
        let mut body = Body::default();
        write(&mut body);
        self.sequence += 1;
        self.awaited += usize::from(flags & ACK != 0);
        let length = u32::try_from(body.0.len() + HEADER).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&body.0);
    }
}

/// A netlink socket. It belongs to the network namespace that it was opened in, wherever it goes.
#[derive(Debug)]
pub(in crate::jail) struct Socket(OwnedFd);

impl Socket {
    /// Opens one for a protocol.
    pub(in crate::jail) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Takes one that somebody else opened.
    pub(in crate::jail) fn from_descriptor(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Has so many bytes wait for whoever reads, or as many as may.
    pub(super) fn make_room(&self, bytes: usize) -> io::Result<()> {
        Ok(setsockopt(&self.0, sockopt::RcvBuf, &bytes)?)
    }

    /// Sends a batch and waits for every outcome that it asks for; the first failure is returned.
    pub(super) fn settle(&self, batch: &Batch) -> io::Result<()> {
        self.send(batch)?;
        let mut awaited = batch.awaited;
        while awaited > 0 {
            let answers = self.receive(MsgFlags::empty())?;
            let outcomes = messages(&answers).filter_map(|message| message.outcome());
            let told = outcomes.collect::<io::Result<Vec<()>>>()?.len();
            awaited = awaited.saturating_sub(told);
        }
        Ok(())
    }

    /// Sends a batch whose answers are read by [`Self::receive`].
    pub(super) fn send(&self, batch: &Batch) -> io::Result<()> {
        // Without an address a netlink socket sends to the kernel.
        let sent = send(self.0.as_raw_fd(), &batch.bytes, MsgFlags::empty())?;
        if sent == batch.bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// One datagram from the kernel: one or more messages.
    pub(super) fn receive(&self, flags: MsgFlags) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; ANSWERS];
        let length = loop {
            match recv(self.0.as_raw_fd(), &mut buffer, flags) {
                Err(Errno::EINTR) => {}
                received => break received?,
            }
        };
        buffer.truncate(length);
        Ok(buffer)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Its kind.
    pub(super) kind: u16,
    /// What follows its header.
    pub(super) body: &'a [u8],
}

impl Message<'_> {
    /// The outcome that it tells, if that is what it is for.
    pub(super) fn outcome(&self) -> Option<io::Result<()>> {
        let code = self.body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))?;
        (self.kind == OUTCOME).then(|| match code {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        })
    }
}

/// The messages of a datagram. What is cut off is left out.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes(*kind), body })
    })
}

/// The attributes of a body: kind and value. What is cut off is left out.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & !NESTED, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut body = Body::default();
        body.text(1, "boundary");
        body.nest(4, |inner| inner.big(2, 7));
        body.attribute(9, &[1, 2, 3]);
        let read: Vec<_> = attributes(&body.0).collect();
        assert_eq!(
            read,
            [(1, &b"boundary\0"[..]), (4, &[8, 0, 2, 0, 0, 0, 0, 7]), (9, &[1, 2, 3])]
        );
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let mut batch = Batch::default();
        batch.message(16, REQUEST | ACK, |body| body.raw(&[1, 2, 3, 4]));
        batch.message(20, REQUEST, |body| body.number(1, 5));
        assert_eq!((batch.awaited, batch.sequence), (1, 2));
        let read: Vec<_> = messages(&batch.bytes).map(|message| message.kind).collect();
        assert_eq!(read, [16, 20]);
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        assert_eq!(messages(&[32, 0, 0, 0, 1, 0, 0, 0]).count(), 0);
        assert_eq!(messages(&[4, 0, 0, 0, 1, 0]).count(), 0, "a length below the header's");
        assert_eq!(attributes(&[9, 0, 1, 0, 7]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0, "a length below the header's");
    }

    #[test]
    fn the_kernel_tells_why_it_refuses() {
        let socket = Socket::open(SockProtocol::NetlinkRoute).unwrap();
        let mut batch = Batch::default();
        batch.message(0x7fff, REQUEST | ACK, |_| {});
        assert_eq!(socket.settle(&batch).unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    }
    #[test]
    fn an_outcome_that_no_kernel_tells_is_read_too() {
        let body = i32::MIN.to_ne_bytes();
        let told = Message { kind: OUTCOME, body: &body }.outcome();
        assert!(told.unwrap().is_err());
    }
}
