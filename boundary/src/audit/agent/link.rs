//! One agent after another at the other end of a socket's path, and what it has not read yet.
//!
//! *Never*: lets go of a batch before the agent has read it.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::message::{self, Logs, Reporter, Status, Tag};
use super::{Queue, TEND, peer};
use crate::audit::record::Record;
use crate::sys::unread;

/// How many batches may be on their way.
const WINDOW: usize = 256;

/// How long one write may take.
const WRITE: Duration = Duration::from_secs(5);

/// How much is written at once, or little more.
const PIECE: usize = 16 * 1024;

/// How soon an agent that was just written to is looked at again: at its busiest a session fills two
/// hundred batches in the time, and each look costs as much as several.
const MOMENT: Duration = Duration::from_millis(10);

/// How long an agent that does not know a tag may take to hang up on it; and when the session is
/// over.
const PROOF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(200));

/// Requests that are reported together.
#[derive(Debug)]
pub(super) struct Batch {
    requests: Requests,
    /// What was dropped before them.
    status: Option<Status>,
}

/// What a batch holds.
#[derive(Debug)]
enum Requests {
    /// Records that nobody has written yet.
    Raw(Vec<Arc<Record>>),
    /// The same as they are sent, and sent again.
    Written(Logs),
}

impl Batch {
    /// Records that are to be sent, and how many were dropped before them.
    pub(super) fn new(records: Vec<Arc<Record>>, dropped: i64) -> Self {
        let status = (dropped > 0).then_some(Status { channel_full: dropped, batch_full: 0 });
        Self { requests: Requests::Raw(records), status }
    }

    /// How many there are.
    fn len(&self) -> u64 {
        match &self.requests {
            Requests::Raw(records) => records.len() as u64,
            Requests::Written(logs) => logs.len() as u64,
        }
    }

    /// Appends the frames that carry it.
    fn write(&mut self, reporter: &Reporter, tag: Tag, frames: &mut Vec<u8>) {
        if let Requests::Raw(records) = &self.requests {
            self.requests = Requests::Written(Logs::of(records));
        }
        if let Requests::Written(logs) = &self.requests {
            reporter.frames(tag, logs, frames);
        }
        if let Some(status) = self.status {
            message::status(tag, status, frames);
        }
    }
}

/// The way to the agent.
#[derive(Debug)]
pub(super) struct Link {
    path: PathBuf,
    reporter: Reporter,
    /// What is not known to be read, in its order.
    batches: VecDeque<Batch>,
    /// How many of them were written to the connection that there is.
    sent: usize,
    connection: Option<Connection>,
    /// What the next connection speaks.
    tag: Tag,
    was_there: bool,
    /// Room for what is written at once.
    frames: Vec<u8>,
}

/// A connection to an agent.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    tag: Tag,
    /// When the first frame was written.
    spoke: Option<Instant>,
    /// When the last one was.
    wrote: Instant,
}

impl Link {
    /// A way that is not tried yet.
    pub(super) fn new(path: PathBuf, reporter: Reporter) -> Self {
        Self {
            path,
            reporter,
            batches: VecDeque::new(),
            sent: 0,
            connection: None,
            tag: Tag::Message,
            was_there: false,
            frames: Vec::new(),
        }
    }

    /// Takes a batch that is to be sent next.
    pub(super) fn take(&mut self, batch: Batch) {
        self.batches.push_back(batch);
    }

    /// Whether another batch may be handed over.
    pub(super) fn has_room(&self) -> bool {
        self.batches.len() < WINDOW
    }

    /// Whether everything was read.
    pub(super) fn is_idle(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether there was an agent at any time.
    pub(super) fn was_there(&self) -> bool {
        self.was_there
    }

    /// How many requests are not known to be read.
    pub(super) fn left(&self) -> u64 {
        self.batches.iter().map(Batch::len).sum()
    }

    /// Writes what is not written, then sees for a while what was read.
    pub(super) fn deliver(&mut self, queue: &Queue) -> io::Result<()> {
        let outcome = self.write(queue).and_then(|()| self.tend(queue));
        if outcome.is_err() {
            self.hang_up();
        }
        outcome
    }

    /// Connects, where there is no connection.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.connection.is_some() {
            return Ok(());
        }
        let stream = connect(&self.path)?;
        if peer::is_of_session(&stream) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "not an agent"));
        }
        self.was_there = true;
        self.connection =
            Some(Connection { stream, tag: self.tag, spoke: None, wrote: Instant::now() });
        Ok(())
    }

    /// Connects, and writes what is not written yet.
    fn write(&mut self, queue: &Queue) -> io::Result<()> {
        // An agent that came anew since the last word is not told of by a failure.
        if let Some(connection) = &self.connection
            && connection.is_hung_up()?
        {
            self.hang_up();
        }
        self.open()?;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        // Several go in one piece, and count as sent when all of it is written.
        let (mut frames, mut held) = (mem::take(&mut self.frames), self.sent);
        frames.clear();
        while let Some(batch) = self.batches.get_mut(held) {
            batch.write(&self.reporter, connection.tag, &mut frames);
            held += 1;
            if frames.len() >= PIECE || held == self.batches.len() {
                connection.write(&frames, queue)?;
                frames.clear();
                self.sent = held;
            }
        }
        frames.shrink_to(2 * PIECE);
        self.frames = frames;
        Ok(())
    }

    /// Waits a moment for the agent to read, and forgets what it has read.
    fn tend(&mut self, queue: &Queue) -> io::Result<()> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let patience = if queue.deadline().is_some() { PROOF.1 } else { PROOF.0 };
        let until = Instant::now() + TEND;
        loop {
            if connection.is_hung_up()? {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let unproven =
                connection.spoke.map_or(patience, |spoke| patience.saturating_sub(spoke.elapsed()));
            let is_read = unread::is_read(&connection.stream)?;
            if is_read && unproven.is_zero() {
                self.batches.drain(..self.sent);
                self.sent = 0;
                return Ok(());
            }
            if Instant::now() >= until {
                return Ok(());
            }
            thread::park_timeout(pause(connection.wrote.elapsed(), is_read.then_some(unproven)));
        }
    }

    /// Lets a broken connection go. What the agent has read on it is done; what it may not have read
    /// is sent again, and in the other form where it hung up on the first words.
    fn hang_up(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let is_proven = connection.spoke.is_some_and(|spoke| spoke.elapsed() >= PROOF.0);
        // The kernel says so to whose words were thrown away.
        let is_reset = !matches!(connection.stream.take_error(), Ok(None));
        let is_gone = connection.is_hung_up().is_ok_and(|is_gone| is_gone);
        if is_proven && is_gone && !is_reset {
            self.batches.drain(..self.sent);
        }
        self.sent = 0;
        self.tag = match connection.tag {
            Tag::Message if !is_proven && connection.spoke.is_some() => Tag::Bare,
            Tag::Message | Tag::Bare => Tag::Message,
        };
    }
}

/// How long it is waited before the agent is looked at again: a moment while it is likely to read,
/// longer where it does not, and where everything is read until it must have hung up on the tag.
fn pause(since_written: Duration, unproven: Option<Duration>) -> Duration {
    match unproven {
        Some(left) => left.clamp(MOMENT, TEND),
        None if since_written < TEND => MOMENT,
        None => TEND,
    }
}

/// Connects, within a bounded time: where an agent accepts nothing, connecting waits.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let (family, kind, flags) = (AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let socket = socket(family, kind, flags, None)?;
    let micros = i64::try_from(TEND.as_micros()).unwrap_or(i64::MAX);
    setsockopt(&socket, SendTimeout, &TimeVal::microseconds(micros))?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

impl Connection {
    /// Writes all of it, within a bounded time. The connection's own bound is short, so that the
    /// session's end is noticed.
    fn write(&mut self, mut bytes: &[u8], queue: &Queue) -> io::Result<()> {
        let own = Instant::now() + WRITE;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let until = queue.deadline().map_or(own, |deadline| deadline.min(own));
                    (until > Instant::now()).then_some(()).ok_or(io::ErrorKind::TimedOut)?;
                }
                Err(error) => return Err(error),
            }
            self.wrote = Instant::now();
            self.spoke.get_or_insert(self.wrote);
        }
        Ok(())
    }

    /// Whether the agent has closed its end.
    fn is_hung_up(&self) -> io::Result<bool> {
        let mut ends = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        match poll(&mut ends, PollTimeout::ZERO) {
            Ok(_) => {}
            // It is asked again soon.
            Err(Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        Ok(ends.iter().any(|end| end.revents().is_some_and(|seen| seen.intersects(gone))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_does_not_read_is_looked_at_seldom() {
        let after = |millis| pause(Duration::from_millis(millis), None);
        assert_eq!((after(0), after(99)), (MOMENT, MOMENT));
        assert_eq!((after(100), after(60_000)), (TEND, TEND));
        // One that has read everything is looked at when its time to hang up is over.
        let proven_in = |millis| pause(Duration::ZERO, Some(Duration::from_millis(millis)));
        assert_eq!((proven_in(0), proven_in(40)), (MOMENT, Duration::from_millis(40)));
        assert_eq!(proven_in(1000), TEND);
    }
}
