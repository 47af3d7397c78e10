//! The client on the short way: its bytes, its patience, and its leaving while it waits.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use super::answer::Body;
use crate::proxy::body::Account;
use crate::proxy::clock::Clock;
use crate::proxy::{Limits, Stream};

/// Room for one read of a head.
pub(super) const READ: usize = 4 * 1024;
/// How long a body may be behind its head. One that takes longer is sent on as it comes, by the long way.
const BEHIND: Duration = Duration::from_millis(5);
/// What is taken of a client that goes on asking before it is answered.
const AHEAD: usize = 16 * 1024;
/// Room for a body: at first, and where more comes than fits. TLS reads its socket a record at a time,
/// 100 MiB in 6400 reads, and what is here leaves in 1650 writes. Reading ahead of it would save half of
/// the reads, and copy every byte once more.
const ROOM: (usize, usize) = (16 * 1024, 64 * 1024);

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// More bytes.
    More,
    /// The end, in order.
    Over,
    /// The end of patience with an answer.
    Late,
    /// Something for the long way.
    Odd,
    /// The client is gone.
    Gone,
}

/// Why something was not waited for to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It took too long.
    Late,
    /// The client is gone.
    Gone,
}

/// The client's side of a connection.
pub(super) struct Client<S> {
    stream: S,
    /// What was read and not answered.
    pub(super) held: Vec<u8>,
    /// How much of it is a request that is not answered yet.
    asked: usize,
    /// How much of it was read through without finding a whole request.
    looked: usize,
    /// How much it has to be until a body is whole, and since when that is awaited.
    wanted: Option<(usize, Instant)>,
    /// Since when a request is awaited, or since its first byte.
    since: Instant,
    clock: Clock,
    /// When it shut its side.
    shut: Option<Instant>,
}

impl<S: Stream> Client<S> {
    /// A client of which nothing was heard.
    pub(super) fn new(stream: S) -> Self {
        let (held, clock) = (Vec::new(), Clock::default());
        let since = Instant::now();
        Self { stream, held, asked: 0, looked: 0, wanted: None, since, clock, shut: None }
    }

    /// The stream, and what is held of it since when.
    pub(super) fn parted(self) -> (S, (Vec<u8>, Instant)) {
        (self.stream, (self.held, self.since))
    }

    /// Whether something came by which a request may have become whole.
    pub(super) fn is_worth_reading(&mut self) -> bool {
        let fresh = self.held.get(self.looked..).unwrap_or_default();
        let is_worth = match self.wanted {
            Some((wanted, _)) => self.held.len() >= wanted,
            None => fresh.contains(&b'\n'),
        };
        self.looked = self.held.len();
        is_worth
    }

    /// A request is whole when so many bytes of it have come.
    pub(super) fn await_body(&mut self, wanted: usize) {
        self.wanted = Some((wanted, Instant::now()));
    }

    /// A request of so many bytes is to be answered.
    pub(super) fn asks(&mut self, length: usize) {
        self.asked = length;
    }

    /// It is being answered, and need not be held any more.
    pub(super) fn answered(&mut self) {
        self.held.drain(..self.asked.min(self.held.len()));
        (self.asked, self.looked) = (0, 0);
        self.wanted = None;
    }

    /// Waits for more of a request.
    pub(super) async fn hear(
        &mut self,
        limits: &Limits,
        mut closing: Pin<&mut impl Future<Output = ()>>,
    ) -> News {
        if self.held.len() > limits.head_bytes {
            return News::Odd;
        }
        if self.shut.is_some() {
            return if self.held.is_empty() { News::Over } else { News::Odd };
        }
        poll_fn(|cx| {
            let began = self.held.is_empty();
            match poll_some(&mut self.stream, &mut self.held, cx) {
                Poll::Ready(Ok(0)) if began => Poll::Ready(News::Over),
                Poll::Ready(Ok(0)) => Poll::Ready(News::Odd),
                Poll::Ready(Ok(_)) => {
                    self.begin(began);
                    Poll::Ready(News::More)
                }
                Poll::Ready(Err(_)) => Poll::Ready(News::Gone),
                Poll::Pending if began => {
                    // An idle connection holds nothing.
                    self.held = Vec::new();
                    let is_late = self.clock.is_past(self.since + limits.idle, cx);
                    let is_over = is_late || closing.as_mut().poll(cx).is_ready();
                    is_over.then_some(News::Over).map_or(Poll::Pending, Poll::Ready)
                }
                Poll::Pending if self.clock.is_past(self.deadline(limits), cx) => {
                    Poll::Ready(News::Odd)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Until when the rest of a request is awaited.
    fn deadline(&self, limits: &Limits) -> Instant {
        let head = self.since + limits.head_time;
        self.wanted.map_or(head, |(_, since)| head.min(since + BEHIND))
    }

    /// Bytes of a request came. Its time runs from the first: the later ones do not prolong it.
    fn begin(&mut self, is_first: bool) {
        if is_first {
            self.since = Instant::now();
        }
    }

    /// Waits for what an upstream does, while the client is listened to.
    pub(super) async fn attend<T>(
        &mut self,
        what: impl Future<Output = T>,
        late: Option<Instant>,
        limits: &Limits,
    ) -> Result<T, Left> {
        let mut what = pin!(what);
        poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if self.poll_gone(limits, cx).is_ready() => Poll::Ready(Err(Left::Gone)),
            Poll::Pending if late.is_some_and(|late| self.clock.is_past(late, cx)) => {
                Poll::Ready(Err(Left::Late))
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Waits for an upstream's bytes, while the client is listened to. When the session ends, one that has
    /// shut its side has ended with it.
    pub(super) async fn await_bytes(
        &mut self,
        upstream: &mut (impl AsyncRead + Unpin),
        told: &mut Vec<u8>,
        limits: &Limits,
        (late, mut closing): (Option<Instant>, Pin<&mut impl Future<Output = ()>>),
    ) -> News {
        poll_fn(|cx| match poll_some(upstream, told, cx) {
            Poll::Ready(Ok(1..)) => Poll::Ready(News::More),
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(News::Odd),
            Poll::Pending if self.poll_gone(limits, cx).is_ready() => Poll::Ready(News::Gone),
            Poll::Pending if late.is_some_and(|late| self.clock.is_past(late, cx)) => {
                Poll::Ready(News::Late)
            }
            Poll::Pending if self.shut.is_some() => closing.as_mut().poll(cx).map(|()| News::Gone),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Resolves when the client is gone: broken off, or shut and not worth waiting for. What it asks
    /// meanwhile is held.
    fn poll_gone(&mut self, limits: &Limits, cx: &mut Context<'_>) -> Poll<()> {
        let most = self.asked.saturating_add(AHEAD);
        while self.shut.is_none() && self.held.len() < most {
            match poll_some(&mut self.stream, &mut self.held, cx) {
                Poll::Ready(Ok(0)) => self.shut = Some(Instant::now()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.shut {
            Some(shut) => {
                let quiet = shut.max(self.since);
                let is_past = self.clock.is_past(quiet + limits.half_closed, cx);
                if is_past { Poll::Ready(()) } else { Poll::Pending }
            }
            None => Poll::Pending,
        }
    }

    /// Says something, all of it.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        self.since = Instant::now();
        Ok(())
    }

    /// Brings the rest of a body. Whether nothing came behind it; none if it broke, or the client.
    /// When the session ends, one that has shut its side has ended with it.
    pub(super) async fn relay(
        &mut self,
        upstream: &mut (impl AsyncRead + Unpin),
        body: &mut Body,
        account: &Account,
        (limits, mut closing): (&Limits, Pin<&mut impl Future<Output = ()>>),
    ) -> Option<bool> {
        let mut room = BytesMut::new();
        let mut most = ROOM.0;
        loop {
            let wanted = body.at_most(most);
            room.reserve(wanted);
            poll_fn(|cx| match poll_all(upstream, &mut room, wanted, cx) {
                Poll::Ready(read) => Poll::Ready(read.ok().filter(|read| *read > 0)),
                Poll::Pending if self.poll_gone(limits, cx).is_ready() => Poll::Ready(None),
                Poll::Pending if self.shut.is_some() => closing.as_mut().poll(cx).map(|()| None),
                Poll::Pending => Poll::Pending,
            })
            .await?;
            let (here, content) = body.advance(&room)?;
            self.say(room.get(..here)?).await.ok()?;
            account.carried(0, content);
            if body.is_over() {
                return Some(here == room.len());
            }
            most = if room.len() == most { ROOM.1 } else { most };
            room.clear();
        }
    }

    /// Ends the connection in order. What the client still says is read away, within bounds: closing
    /// on unread bytes would reset the connection, and it might not see its last answer.
    pub(super) async fn end(&mut self, limits: &Limits) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut left = if self.held.is_empty() { 0 } else { limits.linger_bytes };
        let mut away = [0; 1024];
        while left > 0 {
            match self.stream.read(&mut away).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }
}

/// Reads what is there. Nothing is held while nothing comes.
fn poll_some(
    stream: &mut (impl AsyncRead + Unpin),
    to: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut room = [MaybeUninit::uninit(); READ];
    let mut room = ReadBuf::uninit(&mut room);
    Pin::new(stream).poll_read(cx, &mut room).map_ok(|()| {
        to.extend_from_slice(room.filled());
        room.filled().len()
    })
}

/// Reads everything that is there, up to so many bytes: the fewer writes, the less each costs.
fn poll_all(
    stream: &mut (impl AsyncRead + Unpin),
    to: &mut BytesMut,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    while to.len() < most {
        let left = most.saturating_sub(to.len());
        let mut room = (&mut *to).limit(left);
        let read = pin!(stream.read_buf(&mut room)).poll(cx);
        match read {
            Poll::Ready(Ok(0)) => break,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) if to.is_empty() => return Poll::Ready(Err(error)),
            Poll::Pending if to.is_empty() => return Poll::Pending,
            // It comes again.
            Poll::Ready(Err(_)) | Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(to.len()))
}
