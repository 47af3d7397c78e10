//! The strict front of HTTP/1: only whole heads with one meaning get to the parser behind it.
//!
//! *Standing*: lies between a client's stream and hyper, which forgives what a proxy must not (a
//! bare LF, a length beside chunks). It follows the framing, holds each head back until it is
//! whole and judged, and keeps the connection's clocks. *Never*: changes a byte.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::clock::Clock;
use super::farewell::Farewell;
use super::framing::{self, Chunks, Fault, Framing, Said};
use super::turns::Turns;
use super::{Limits, respond};

/// Room made for one read.
const READ: usize = 8 * 1024;

/// A client's stream behind the strict front.
pub(super) struct Heads<S> {
    stream: S,
    turns: Arc<Turns>,
    limits: Limits,
    /// Bytes read and not handed on.
    held: BytesMut,
    /// How many of them may be.
    free: usize,
    /// How many of them were looked at as part of a head that is not whole.
    looked: usize,
    phase: Phase,
    /// When the last byte came; for a head, its first.
    heard: Instant,
    /// When the client shut its side.
    shut: Option<Instant>,
    /// When the client last took some of an answer.
    said: Instant,
    /// Whether it takes no more of one for now.
    is_full: bool,
    /// How many answers it has taken, all of each.
    flushed: usize,
    clock: Clock,
    /// What is still to be written, and then read away, once the connection is over.
    farewell: Option<Farewell>,
}

/// What the next bytes are.
enum Phase {
    /// A head.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// A chunked body.
    Chunked(Chunks),
    /// Nobody knows until the tunnel or the upgrade was answered.
    Waiting,
    /// Not HTTP any more.
    Open,
    /// Nothing: the front does not go on, but what was asked before is answered.
    Refused,
    /// Nothing: the client has shut its side. What it asked for is answered.
    HalfClosed,
    /// Nothing at all.
    Over,
}

impl<S> Heads<S> {
    /// Puts the front before a stream of which so much was read already, the first since then.
    pub(super) fn new(
        stream: S,
        (held, heard): (Vec<u8>, Instant),
        limits: &Limits,
        turns: Arc<Turns>,
    ) -> Self {
        Self {
            stream,
            turns,
            limits: limits.clone(),
            held: Bytes::from(held).into(),
            free: 0,
            looked: 0,
            phase: Phase::Head,
            heard,
            shut: None,
            said: heard,
            is_full: false,
            flushed: 0,
            clock: Clock::default(),
            farewell: None,
        }
    }

    /// Looks at what is held, and frees what may be handed on. False when more must be read.
    fn advance(&mut self) -> bool {
        if self.turns.is_open() {
            self.phase = Phase::Open;
        }
        match &mut self.phase {
            Phase::Open => self.free = self.held.len(),
            Phase::Refused | Phase::HalfClosed | Phase::Over => return true,
            Phase::Waiting if self.turns.is_busy() => return false,
            Phase::Waiting | Phase::Body(0) => self.phase = Phase::Head,
            Phase::Head => return self.advance_head(),
            Phase::Body(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.held.len());
                self.free = here;
                *left = left.saturating_sub(here as u64);
            }
            Phase::Chunked(chunks) => match chunks.advance(&self.held) {
                Ok(here) => {
                    self.free = here;
                    if chunks.is_over() {
                        self.phase = Phase::Head;
                    }
                }
                Err(fault) => return self.fail(fault),
            },
        }
        self.free > 0 || matches!(self.phase, Phase::Head) && !self.held.is_empty()
    }

    /// Frees a head that is whole and has one meaning.
    fn advance_head(&mut self) -> bool {
        // Only a line's end can change the verdict, and there are not many: a head that comes byte
        // by byte is not read through for every one.
        let fresh = self.held.get(self.looked..).unwrap_or_default();
        if !fresh.contains(&b'\n') && self.held.len() <= self.limits.head_bytes {
            return false;
        }
        self.looked = self.held.len();
        let mut is_sayable = true;
        let look = |said: Said<'_>| is_sayable &= said.is_sayable();
        match framing::read(&self.held, &self.limits, look) {
            Ok(None) => false,
            // The parser would refuse it too, without a word of what was asked.
            Ok(Some(_)) if !is_sayable => self.fail(Fault::Malformed),
            Ok(Some((length, framing))) => {
                self.free = length;
                self.looked = 0;
                self.turns.asks();
                self.phase = match framing {
                    Framing::Length(0) => Phase::Head,
                    Framing::Length(length) => Phase::Body(length),
                    Framing::Chunked => Phase::Chunked(Chunks::new(self.limits.headers)),
                    Framing::Switch => Phase::Waiting,
                };
                true
            }
            Err(fault) => self.fail(fault),
        }
    }

    /// Hands on what is free.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.free.min(buf.remaining());
        buf.put_slice(self.held.split_to(count).chunk());
        self.free = self.free.saturating_sub(count);
        if matches!(self.phase, Phase::Head) {
            self.heard = Instant::now();
        }
    }

    /// The client shut its side between two requests. The parser must not hear of it before what
    /// was asked is answered: it would take the client for gone. False when nothing was.
    fn half_close(&mut self) -> bool {
        if !self.held.is_empty() {
            return self.fail(Fault::Cut);
        }
        let is_waiting = self.owes();
        self.phase = if is_waiting { Phase::HalfClosed } else { Phase::Over };
        is_waiting
    }

    /// Whether something of an answer is still to come, or to be written: that is over when the parser has
    /// nothing left, and not yet when it has all of the answer. It drops what it has at the end of file.
    fn owes(&self) -> bool {
        self.turns.asked() != self.flushed
    }

    /// Notes whether the client's side took something.
    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        self.is_full = written.is_pending();
        if !self.is_full {
            self.said = Instant::now();
        }
        written
    }

    /// Ends the connection. The parser sees an end of file, answers what it has, and shuts down.
    fn fail(&mut self, fault: Fault) -> bool {
        // A fault in a body is the fault of the request that is being answered.
        let is_head = matches!(self.phase, Phase::Head);
        let line = if is_head { framing::asked(&self.held, &self.limits) } else { None };
        self.turns.fail(fault, is_head, line);
        self.phase = if is_head { Phase::Refused } else { Phase::Over };
        true
    }

    /// When our patience with the client ends. While it waits for us it has all the time, but the
    /// clock is kept going: nobody else would set it when the answer is over.
    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Head if self.turns.is_busy() => Some(Instant::now() + self.limits.idle),
            Phase::Head if !self.held.is_empty() => Some(self.heard + self.limits.head_time),
            Phase::Head | Phase::Body(_) | Phase::Chunked(_) => {
                let quiet = self.turns.ended().map_or(self.heard, |ended| ended.max(self.heard));
                Some(quiet + self.limits.idle)
            }
            Phase::HalfClosed | Phase::Waiting => {
                let shut = self.shut?;
                // Whoever does not read keeps itself waiting.
                let quiet = if self.is_full { Instant::now() } else { shut.max(self.said) };
                Some(quiet + self.limits.half_closed)
            }
            Phase::Open | Phase::Refused | Phase::Over => None,
        }
    }

    /// Whether the time is up; if not, arranges to be asked again when it may be.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline() else { return false };
        self.clock.is_past(deadline, cx)
    }
}

impl<S: AsyncRead + Unpin> Heads<S> {
    /// Reads a body of known length past what is held, straight to where it is wanted.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Phase::Body(left) = &mut self.phase else { return Poll::Pending };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let count = part.filled().len();
        buf.advance(count);
        *left = left.saturating_sub(count as u64);
        match read {
            Poll::Pending if self.is_late(cx) => {
                self.fail(Fault::Stalled);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(read) => {
                self.heard = Instant::now();
                Poll::Ready(read)
            }
        }
    }

    /// The end, once everything is answered and taken or the client is taken for gone.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let is_left = self.turns.is_closing() && self.turns.is_busy();
        if !self.owes() || is_left || self.is_late(cx) {
            return Poll::Ready(Ok(()));
        }
        self.turns.await_answer(cx);
        Poll::Pending
    }

    /// Reads more into what is held. `Ready(false)` is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        // While an upgrade waits for its answer, no more is taken in than a head may have.
        if matches!(self.phase, Phase::Waiting) && self.held.len() >= self.limits.head_bytes {
            return Poll::Pending;
        }
        if self.turns.is_busy() {
            self.turns.await_answer(cx);
        }
        let began = self.held.is_empty();
        self.held.reserve(READ);
        let read = pin!(self.stream.read_buf(&mut self.held)).poll(cx);
        match read {
            Poll::Ready(Ok(count)) => {
                // A head's time runs from its first byte: the later ones do not prolong it.
                if began || !matches!(self.phase, Phase::Head) {
                    self.heard = Instant::now();
                }
                if count == 0 {
                    self.shut.get_or_insert_with(Instant::now);
                }
                if count == 0 && matches!(self.phase, Phase::Head) {
                    return Poll::Ready(Ok(self.half_close()));
                }
                // Nor before it is told whether it gets its tunnel: there it hears of it.
                let is_waiting = matches!(self.phase, Phase::Waiting) && self.turns.is_busy();
                let is_left = self.turns.is_closing();
                if count == 0 && is_waiting && !is_left && !self.is_late(cx) {
                    return Poll::Pending;
                }
                Poll::Ready(Ok(count > 0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if self.is_late(cx) => {
                match self.phase {
                    Phase::Head if self.held.is_empty() => self.phase = Phase::Over,
                    Phase::Head => drop(self.fail(Fault::Late)),
                    Phase::Body(_) | Phase::Chunked(_) => drop(self.fail(Fault::Stalled)),
                    Phase::Waiting
                    | Phase::Open
                    | Phase::Refused
                    | Phase::HalfClosed
                    | Phase::Over => {}
                }
                Poll::Ready(Ok(false))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.free > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            match this.phase {
                Phase::Refused if this.owes() => {
                    this.turns.await_answer(cx);
                    return Poll::Pending;
                }
                Phase::HalfClosed => return this.poll_half_closed(cx),
                Phase::Refused | Phase::Over => return Poll::Ready(Ok(())),
                Phase::Body(1..) if this.held.is_empty() => return this.poll_body(cx, buf),
                Phase::Open if this.held.is_empty() => {
                    return Pin::new(&mut this.stream).poll_read(cx, buf);
                }
                Phase::Head | Phase::Body(_) | Phase::Chunked(_) | Phase::Waiting | Phase::Open => {
                }
            }
            if !this.advance() && !ready!(this.poll_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The parser asks for it when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        let answered = self.turns.answered();
        if std::mem::replace(&mut self.flushed, answered) != answered {
            self.turns.wake();
        }
        Poll::Ready(Ok(()))
    }

    /// Says the last word, shuts the write half, and reads away what the client still sends.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let limits = &this.limits;
        let fault = this.turns.fault();
        let is_refused = matches!(this.phase, Phase::Refused);
        let farewell = this.farewell.get_or_insert_with(|| {
            let answer = fault.filter(|_| is_refused).map(respond::fault).unwrap_or_default();
            Farewell::new(answer, (limits.linger, limits.linger_bytes))
        });
        ready!(farewell.poll_say(&mut this.stream, cx))?;
        let is_at_rest = match this.phase {
            Phase::Head | Phase::Open => true,
            Phase::HalfClosed | Phase::Over => fault.is_none(),
            Phase::Body(_) | Phase::Chunked(_) | Phase::Waiting | Phase::Refused => false,
        };
        let is_done = is_at_rest && this.held.is_empty();
        if is_done {
            return Poll::Ready(Ok(()));
        }
        farewell.poll_listen(&mut this.stream, cx)
    }
}
