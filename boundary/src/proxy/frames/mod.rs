//! The strict front of HTTP/2: counts what the other side can say for nothing, and how long it takes.
//!
//! *Standing*: lies between a stream and the library that speaks HTTP/2, like [`super::heads`] before
//! HTTP/1. That library bounds heads, tables and windows; here are the floods of frames that it
//! answers one by one for ever, the clocks that it does not have, and what it refuses without a word
//! to anybody else. *Never*: changes a byte, or looks into a frame's payload but for an error.

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;
use super::farewell::Farewell;

mod refused;

pub(super) use refused::Refusals;
use refused::{Watch, carries};

/// Bytes before a frame's payload (RFC 9113 §4.1).
const HEAD: usize = 9;
/// What a client says before its first frame.
const PREFACE: usize = 24;
/// Room made for one read.
const READ: usize = 8 * 1024;
/// In which time a spent budget is whole again.
const FORGIVEN: Duration = Duration::from_secs(30);
/// So many bytes in either direction excuse one frame that carries nothing.
const EXCUSE: usize = 256;
/// So many of them one does that carries something, however little: gRPC answers each small message with a
/// window and a PING, by which it measures how fast the connection is.
const EXCUSED: usize = 3;

/// Kinds and flags of frames (RFC 9113 §6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// Too many streams were reset.
    Resets,
    /// Too many frames carried nothing.
    Frames,
    /// A preface, or the fields of a request, did not come in time.
    Late,
}

/// Where the front says why it ended the connection, if it did.
pub(super) type Verdict = Arc<OnceLock<Excess>>;

/// So many of something at once, and as many again in a while.
#[derive(Debug)]
struct Budget {
    most: usize,
    left: usize,
    since: Instant,
}

impl Budget {
    fn new(most: usize) -> Self {
        Self { most, left: most, since: Instant::now() }
    }

    /// Takes one. False when there is none left.
    fn spend(&mut self) -> bool {
        if self.left == 0 {
            self.forgive();
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Gives back what time has earned.
    fn forgive(&mut self) {
        let passed = self.since.elapsed().min(FORGIVEN).as_micros();
        let earned = (self.most as u128).saturating_mul(passed) / FORGIVEN.as_micros();
        if let Ok(earned @ 1..) = usize::try_from(earned) {
            self.since = Instant::now();
            self.earn(earned);
        }
    }

    fn earn(&mut self, count: usize) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

/// Where in the frames the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of the preface are still to come.
    Preface(usize),
    /// Between frames, or inside the head of one, which is held back until it is whole.
    Head,
    /// So many bytes of a payload are still to come; of fields, or of anything else.
    Payload { left: usize, is_fields: bool },
}

/// A stream behind the front.
pub(super) struct Frames<S> {
    stream: S,
    verdict: Verdict,
    head_time: Duration,
    linger: (Duration, usize),
    resets: Budget,
    idling: Budget,
    /// Bytes that passed and excuse frames that carry nothing.
    passed: usize,
    /// Frames that came, carried something and excuse some.
    carried: usize,
    at: At,
    /// Bytes read and not handed on.
    held: BytesMut,
    /// How many of them may be.
    free: usize,
    /// Whether fields of a request are to go on in the next frame.
    in_fields: bool,
    /// Since when something has begun that must end in time.
    begun: Option<Instant>,
    clock: Option<Pin<Box<Sleep>>>,
    farewell: Option<Farewell>,
    /// Whether what is to be written has waited for more.
    has_waited: bool,
    /// Follows what is to be written.
    watch: Watch,
    /// How the client's bytes have ended, until the library is told.
    ended: Option<std::io::Result<()>>,
}

impl<S> Frames<S> {
    /// The front before a client.
    pub(super) fn client(
        stream: S,
        limits: &Limits,
        verdict: Verdict,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            begun: Some(Instant::now()),
            watch: Watch::client(refusals),
            ..Self::new(stream, limits, verdict, At::Preface(PREFACE))
        }
    }

    /// The front before an upstream, which has no preface.
    pub(super) fn upstream(stream: S, limits: &Limits) -> Self {
        Self::new(stream, limits, Arc::default(), At::Head)
    }

    fn new(stream: S, limits: &Limits, verdict: Verdict, at: At) -> Self {
        Self {
            stream,
            verdict,
            head_time: limits.head_time,
            linger: (limits.linger, limits.linger_bytes),
            resets: Budget::new(limits.h2_resets),
            idling: Budget::new(limits.h2_frames),
            passed: 0,
            carried: 0,
            at,
            held: BytesMut::new(),
            free: 0,
            in_fields: false,
            begun: None,
            clock: None,
            farewell: None,
            has_waited: false,
            watch: Watch::upstream(),
            ended: None,
        }
    }

    /// Lets whoever else is ready speak first, once before each flush: many streams become ready
    /// together, and what they say leaves in one packet instead of one for each. What is large
    /// enough by itself does not wait.
    fn poll_gathered(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<()> {
        if length >= READ || std::mem::replace(&mut self.has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Follows the bytes that came, and says how many of them may be handed on: all but the head of
    /// a frame that is not whole, or that is one too many.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                0 => break,
                count => used += count,
            }
        }
        self.mark(bytes.len() > used);
        used
    }

    /// How many of the bytes are the next piece: of the preface, a frame's head, or a payload.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let (left, is_fields) = match self.at {
            At::Preface(left) => (left, None),
            At::Payload { left, is_fields } => (left, Some(is_fields)),
            At::Head => return self.step_head(bytes),
        };
        let here = left.min(bytes.len());
        self.at = match (left.saturating_sub(here), is_fields) {
            (0, Some(true)) => {
                self.close_fields();
                At::Head
            }
            (0, _) => At::Head,
            (left, None) => At::Preface(left),
            (left, Some(is_fields)) => At::Payload { left, is_fields },
        };
        here
    }

    /// A frame's head, if it is whole and not one too many.
    fn step_head(&mut self, bytes: &[u8]) -> usize {
        let Some(&[a, b, c, kind, flags, ref stream @ ..]) = bytes.first_chunk::<HEAD>() else {
            return 0;
        };
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        if let Some(excess) = self.weigh(kind, flags, length) {
            self.verdict.get_or_init(|| excess);
            return 0;
        }
        // The first bit of a stream's number means nothing.
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        if kind == kind::HEADERS {
            self.watch.begin(stream);
        }
        self.enter(kind, flags, length);
        HEAD
    }

    /// What a frame costs, if it is more than is left.
    fn weigh(&mut self, kind: u8, flags: u8, length: usize) -> Option<Excess> {
        let is_free = match kind {
            kind::DATA => length > 0 || flags & kind::END_STREAM != 0,
            kind::HEADERS | kind::PUSH_PROMISE | kind::GOAWAY => true,
            kind::CONTINUATION => length > 0,
            kind::RST_STREAM => return (!self.resets.spend()).then_some(Excess::Resets),
            _ => false,
        };
        if is_free {
            self.carried += usize::from(carries(kind, flags, length));
            return None;
        }
        let carried = std::mem::take(&mut self.carried) + self.watch.carried();
        self.idling.earn(self.passed / EXCUSE + EXCUSED * carried);
        self.passed %= EXCUSE;
        (!self.idling.spend()).then_some(Excess::Frames)
    }

    /// A frame's head has gone by.
    fn enter(&mut self, kind: u8, flags: u8, length: usize) {
        let is_fields = matches!(kind, kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION);
        if kind != kind::CONTINUATION {
            // What had begun is whole.
            self.begun = None;
        }
        if is_fields {
            self.in_fields = flags & kind::END_HEADERS == 0;
        }
        self.at = if length == 0 { At::Head } else { At::Payload { left: length, is_fields } };
        if length == 0 && is_fields {
            self.close_fields();
        }
    }

    /// A frame of fields has gone by: they are whole, or go on in the next.
    fn close_fields(&self) {
        if !self.in_fields {
            self.watch.end();
        }
    }

    /// So much of what was to be written is.
    fn written(&mut self, count: usize) {
        self.pass(count);
        self.watch.taken(count);
    }

    /// Starts or stops the clock of what must be whole in time. Its later bytes do not prolong it.
    fn mark(&mut self, is_cut: bool) {
        let in_payload = matches!(self.at, At::Payload { is_fields: true, .. });
        let must_end = is_cut || in_payload || self.in_fields || matches!(self.at, At::Preface(_));
        self.begun = if must_end { self.begun.or_else(|| Some(Instant::now())) } else { None };
    }

    /// Whether what was begun took too long; if not, arranges to be asked again when it may have.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(begun) = self.begun else { return false };
        let deadline = begun + self.head_time;
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if clock.deadline() != deadline {
            clock.as_mut().reset(deadline);
        }
        let is_late = clock.as_mut().poll(cx).is_ready();
        if is_late {
            self.verdict.get_or_init(|| Excess::Late);
        }
        is_late
    }

    /// Bytes went by, in either direction.
    fn pass(&mut self, count: usize) {
        self.passed = self.passed.saturating_add(count);
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// Reads a payload past what is held, straight to where it is wanted.
    fn poll_payload(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        left: usize,
    ) -> Poll<std::io::Result<()>> {
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(left.min(buf.remaining())));
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let count = part.filled().len();
        match read {
            Poll::Pending => {
                return if self.is_late(cx) { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {}
        }
        self.pass(count);
        let filled = buf.filled().len();
        buf.advance(count);
        let fresh = buf.filled().get(filled..).unwrap_or_default();
        // A payload has no head that could be cut or one too many: all of it is followed.
        self.follow(fresh);
        Poll::Ready(Ok(()))
    }

    /// Hands on what may be, or reads.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            if self.free > 0 {
                let count = self.free.min(buf.remaining());
                buf.put_slice(self.held.split_to(count).chunk());
                self.free = self.free.saturating_sub(count);
                return Poll::Ready(Ok(()));
            }
            if self.verdict.get().is_some() {
                return Poll::Ready(Ok(()));
            }
            if let At::Payload { left, .. } = self.at
                && self.held.is_empty()
            {
                return self.poll_payload(cx, buf, left);
            }
            if !ready!(self.poll_more(cx))? {
                return Poll::Ready(Ok(()));
            }
            let held = std::mem::take(&mut self.held);
            self.free = self.follow(&held);
            self.held = held;
        }
    }

    /// Reads more into what is held. `Ready(false)` is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        self.held.reserve(READ);
        let read = pin!(self.stream.read_buf(&mut self.held)).poll(cx);
        match read {
            Poll::Pending if self.is_late(cx) => Poll::Ready(Ok(false)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(count)) => {
                self.pass(count);
                Poll::Ready(Ok(count > 0))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    /// The library is told of the end in a turn of its own: what came just before it would be dropped,
    /// given to nobody and refused by nobody.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if let Some(ended) = this.ended.take() {
            return Poll::Ready(ended);
        }
        let before = buf.filled().len();
        let read = ready!(this.poll_next(cx, buf));
        let is_over = read.is_err() || buf.filled().len() == before && buf.remaining() > 0;
        if is_over && this.watch.is_client() {
            this.ended = Some(read);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        this.watch.offered(&[std::io::IoSlice::new(buf)]);
        ready!(this.poll_gathered(buf.len(), cx));
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.written(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        this.watch.offered(bufs);
        ready!(this.poll_gathered(bufs.iter().map(|part| part.len()).sum(), cx));
        let count = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.written(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.has_waited = false;
        Poll::Ready(Ok(()))
    }

    /// Says why, shuts the write half, and reads away what still comes: closing on unread bytes
    /// would reset the connection, and the other side might never see the reason.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let Some(&excess) = this.verdict.get() else {
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        };
        let linger = this.linger;
        let farewell = this.farewell.get_or_insert_with(|| Farewell::new(goaway(excess), linger));
        ready!(farewell.poll_say(&mut this.stream, cx))?;
        farewell.poll_listen(&mut this.stream, cx)
    }
}

/// A GOAWAY frame that says `ENHANCE_YOUR_CALM`, with the reason in words.
fn goaway(excess: Excess) -> Bytes {
    let reason: &[u8] = match excess {
        Excess::Resets => b"over_limit: too many streams were reset",
        Excess::Frames => b"over_limit: too many frames that carry nothing",
        Excess::Late => b"over_limit: a request did not come in time",
    };
    // Length, kind, flags, stream 0; the last stream that may have been looked at; the error.
    let length = u8::try_from(reason.len() + 8).unwrap_or(u8::MAX);
    let head = [0, 0, length, kind::GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];
    Bytes::from([head.as_slice(), reason].concat())
}

#[cfg(test)]
mod tests;
