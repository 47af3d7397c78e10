//! How an accepted connection ends: in order, or cut off.
//!
//! *Standing*: a stream that is refused, or whose other side broke, ends with a reset, which every
//! program takes for an error; the end of a stream it would take for an answer. Whoever carries a
//! connection marks its [`Cut`], and the [`Socket`] does it when it is dropped, below whatever was
//! laid over it. *Never*: cuts what was not marked.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The mark that a connection is to be cut off. Its copies are one mark.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<AtomicBool>);

impl Cut {
    /// The connection will end with a reset.
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it will.
    pub(super) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket that ends as its mark says.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    cut: Cut,
}

impl Socket {
    /// The socket under a mark.
    pub(super) fn new(stream: TcpStream, cut: Cut) -> Self {
        Self { stream, cut }
    }
}

/// Seconds after which a quiet peer is asked, well below what translators of addresses remember.
const KEEP_IDLE: u32 = 60;

/// Has the kernel ask a quiet peer now and then whether it is still there: whoever stands between
/// does not forget the connection, and one that is gone is found. What the program asked of its own
/// socket ends at ours.
pub(super) fn keep_alive(stream: &TcpStream) {
    let set = setsockopt(stream, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_IDLE));
    if let Err(error) = set {
        tracing::debug!(%error, "a quiet connection is not kept alive");
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.cut.is_marked()
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "a connection was closed instead of cut off");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
