//! Bytes both ways: half-close, idle limit, counts.
//!
//! *Standing*: for streams that a rule passes on unopened, and for accepted upgrades. *Never*: looks
//! at a byte.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::sleep;

use super::Stream;
use super::body::Account;

/// Room for each direction: larger only costs memory.
const BUFFER: usize = 16 * 1024;

/// Relays until both sides are done, one breaks, or nothing moved for `idle`. The account counts
/// as it goes, so that it is right however this ends.
pub(super) async fn relay<C, U>(client: C, upstream: U, account: &Account, idle: Duration)
where
    C: Stream,
    U: Stream,
{
    let mut client = Counted { stream: client, read: Arc::clone(&account.up) };
    let mut upstream = Counted { stream: upstream, read: Arc::clone(&account.down) };
    let moved =
        || account.up.load(Ordering::Relaxed).wrapping_add(account.down.load(Ordering::Relaxed));
    let watch = async {
        let mut before = moved();
        loop {
            sleep(idle).await;
            let now = moved();
            if now == before {
                return;
            }
            before = now;
        }
    };
    tokio::select! {
        ended = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "relayed stream broke");
            }
        }
        () = watch => tracing::debug!("relayed stream was idle too long"),
    }
}

/// A stream that counts what is read from it.
struct Counted<S> {
    stream: S,
    read: Arc<AtomicU64>,
}

impl<S: Stream> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let count = buf.filled().len().saturating_sub(before);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
