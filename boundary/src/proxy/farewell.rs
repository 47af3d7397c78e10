//! The end of a connection whose other side may still be sending.
//!
//! *Standing*: a front has said its last word into it; it writes that, shuts the write half, and reads
//! away what still comes: closing on unread bytes would reset the connection, and the other side might
//! never see the word. *Never*: reads more, or waits longer, than it was told.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What is left of it.
pub(super) struct Farewell {
    /// What is still to be written.
    word: Bytes,
    is_shut: bool,
    /// How long, and how many bytes more, are read away.
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl Farewell {
    /// The word that is said, and for how long and how many bytes it is listened after it.
    pub(super) fn new(word: Bytes, (linger, left): (Duration, usize)) -> Self {
        Self { word, is_shut: false, until: Box::pin(sleep_until(Instant::now() + linger)), left }
    }

    /// Says the word and shuts the write half, once.
    pub(super) fn poll_say<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.word.has_remaining() {
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, &self.word))?;
            self.word.advance(count);
        }
        if !self.is_shut {
            ready!(Pin::new(stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads away what still comes.
    pub(super) fn poll_listen<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut away = [0; 4096];
        while self.left > 0 && self.until.as_mut().poll(cx).is_pending() {
            let mut away = ReadBuf::new(&mut away);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut away))?;
            if away.filled().is_empty() {
                break;
            }
            self.left = self.left.saturating_sub(away.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}
