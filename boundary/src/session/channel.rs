//! The keeper's line to one of its children: small framed messages over a socket pair.
//!
//! *Standing*: made before the fork, one end each side; its end of file is how either side learns
//! that the other is gone, however it went. *Never*: crosses into the command, which execs
//! without it.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::audit::Usage;
use crate::jail::Badge;

/// What one process of the session tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The child is prepared and waits. The proxy says so with the authority's certificate, PEM.
    Ready(Vec<u8>),
    /// The child is in its user namespace and waits for its maps.
    MapIds,
    /// The child could not be prepared: one line for the user.
    Failed(String),
    /// The command could not be started: the error number of execve(2).
    NotStarted(i32),
    /// Go on.
    Go,
    /// Take this badge, and go on.
    GoBadged(Badge),
    /// What the command used, when it has ended.
    Used(Usage),
    /// Everything that was decided is on record, or counted there as lost.
    Recorded,
}

/// The kinds of the messages, as they cross.
mod kind {
    pub(super) const READY: u8 = 0;
    pub(super) const MAP_IDS: u8 = 1;
    pub(super) const FAILED: u8 = 2;
    pub(super) const NOT_STARTED: u8 = 3;
    pub(super) const GO: u8 = 4;
    pub(super) const GO_BADGED: u8 = 5;
    pub(super) const USED: u8 = 6;
    pub(super) const RECORDED: u8 = 7;
}

/// The longest payload: a certificate or a line of text, with room.
const MAX: usize = 64 * 1024;

/// One end of the line.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        UnixStream::pair().map(|(one, other)| (Self(one), Self(other)))
    }

    /// Sends a message whole.
    pub(super) fn send(&mut self, message: &Message) -> io::Result<()> {
        let (errno, used, badged);
        let (kind, payload): (u8, &[u8]) = match message {
            Message::Ready(bytes) => (kind::READY, bytes),
            Message::MapIds => (kind::MAP_IDS, &[]),
            Message::Failed(text) => (kind::FAILED, text.as_bytes()),
            Message::NotStarted(number) => {
                errno = number.to_ne_bytes();
                (kind::NOT_STARTED, &errno)
            }
            Message::Go => (kind::GO, &[]),
            Message::GoBadged(badge) => {
                badged = serde_json::to_vec(badge)?;
                (kind::GO_BADGED, &badged)
            }
            Message::Recorded => (kind::RECORDED, &[]),
            Message::Used(usage) => {
                used = numbers(usage);
                (kind::USED, &used)
            }
        };
        let payload = payload.get(..MAX).unwrap_or(payload);
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut frame = vec![kind];
        frame.extend_from_slice(&length.to_ne_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame)
    }

    /// Bounds how long [`Channel::receive`] waits for each message. For a process that was started
    /// and has to say so: one that was stopped, or waits for a disk, never does.
    pub(super) fn bound(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))
    }

    /// Whether there is something to receive, be it the end.
    pub(super) fn has_something(&self) -> bool {
        let mut waiting = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// The next message; none when the other side is gone.
    pub(super) fn receive(&self) -> io::Result<Option<Message>> {
        let mut stream = &self.0;
        let mut kind = [0];
        if self.begin(&mut kind).map_err(late)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_ne_bytes(length)).map_err(io::Error::other)?;
        if length > MAX {
            return Err(io::Error::other("a message longer than any that is sent"));
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        decode(kind, payload).map(Some)
    }

    /// Reads the first byte of a message. Whoever is stopped and goes on waits anew: the kernel takes up
    /// by itself only a wait that is not bounded (signal(7)).
    fn begin(&self, kind: &mut [u8; 1]) -> io::Result<usize> {
        loop {
            match (&self.0).read(kind) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                begun => return begun,
            }
        }
    }

    /// Tells the other side that this was all.
    pub(super) fn conclude(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Tells the other side that this was all, and waits until it has said that everything is on
    /// record. False if it closes its end, or dies, without, or says nothing in time.
    pub(super) fn await_end(self, patience: Duration) -> bool {
        let told = self.conclude().and_then(|()| self.bound(patience));
        told.is_ok() && matches!(self.receive(), Ok(Some(Message::Recorded)))
    }

    /// The socket, for a process that waits on it in its own way.
    pub(super) fn into_stream(self) -> UnixStream {
        self.0
    }
}

impl From<UnixStream> for Channel {
    fn from(stream: UnixStream) -> Self {
        Self(stream)
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Says of a wait that was bounded what it was.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(io::ErrorKind::TimedOut, "no word in time");
    }
    error
}

/// What was used as numbers; the highest stands for none.
fn numbers(Usage { cpu_ms, memory_peak, tasks }: &Usage) -> Vec<u8> {
    let all = [cpu_ms, memory_peak, tasks];
    all.iter().flat_map(|number| number.unwrap_or(u64::MAX).to_ne_bytes()).collect()
}

/// What numbers say was used.
fn usage(payload: &[u8]) -> Usage {
    let number = |index: usize| {
        let bytes = payload.as_chunks::<8>().0.get(index)?;
        Some(u64::from_ne_bytes(*bytes)).filter(|number| *number != u64::MAX)
    };
    Usage { cpu_ms: number(0), memory_peak: number(1), tasks: number(2) }
}

/// What was used, as the bytes say that came over a line which somebody else has read.
pub(super) fn used_in(mut bytes: &[u8]) -> Usage {
    let mut last = Usage::default();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let [kind, length @ ..] = *head;
        let length = usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if kind == kind::USED {
            last = usage(payload);
        }
        bytes = rest;
    }
    last
}

/// Gives a frame its meaning.
fn decode([kind]: [u8; 1], payload: Vec<u8>) -> io::Result<Message> {
    match kind {
        kind::READY => Ok(Message::Ready(payload)),
        kind::MAP_IDS => Ok(Message::MapIds),
        kind::FAILED => Ok(Message::Failed(String::from_utf8_lossy(&payload).into_owned())),
        kind::NOT_STARTED => <[u8; 4]>::try_from(payload.as_slice())
            .map(|bytes| Message::NotStarted(i32::from_ne_bytes(bytes)))
            .map_err(io::Error::other),
        kind::GO => Ok(Message::Go),
        kind::RECORDED => Ok(Message::Recorded),
        kind::USED => Ok(Message::Used(usage(&payload))),
        kind::GO_BADGED => Ok(Message::GoBadged(serde_json::from_slice(&payload)?)),
        other => Err(io::Error::other(format!("a message of unknown kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let (mut one, other) = Channel::pair().unwrap();
        for message in [
            Message::Ready(b"-----BEGIN".to_vec()),
            Message::MapIds,
            Message::Failed("mount(proc): EPERM".to_owned()),
            Message::NotStarted(2),
            Message::Go,
            Message::Used(Usage { cpu_ms: Some(7), memory_peak: None, tasks: Some(0) }),
            Message::Recorded,
            Message::GoBadged(serde_json::from_str(r#"{"locks":7,"real_time":9}"#).unwrap()),
        ] {
            one.send(&message).unwrap();
            assert_eq!(other.receive().unwrap(), Some(message));
        }
    }

    #[test]
    fn what_was_used_is_found_behind_what_else_was_said() {
        let (mut one, mut other) = Channel::pair().unwrap();
        let usage = Usage { cpu_ms: Some(1), memory_peak: Some(2), tasks: None };
        one.send(&Message::Go).unwrap();
        one.send(&Message::Used(usage)).unwrap();
        drop(one);
        let mut bytes = Vec::new();
        other.0.read_to_end(&mut bytes).unwrap();
        assert_eq!(used_in(&bytes), usage);
        bytes.pop();
        assert_eq!(used_in(&bytes), Usage::default());
    }

    #[test]
    fn a_closed_line_is_an_end_not_an_error() {
        let (one, other) = Channel::pair().unwrap();
        drop(one);
        assert_eq!(other.receive().unwrap(), None);
    }

    #[test]
    fn a_side_that_says_nothing_is_waited_for_no_longer_than_bound() {
        let (_one, other) = Channel::pair().unwrap();
        other.bound(Duration::from_millis(1)).unwrap();
        assert_eq!(other.receive().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!other.await_end(Duration::from_millis(1)));
    }

    #[test]
    fn a_frame_that_was_never_sent_is_an_error() {
        let (mut one, other) = Channel::pair().unwrap();
        one.0.write_all(&[9, 0, 0, 0, 0]).unwrap();
        assert!(other.receive().is_err());
    }
}
