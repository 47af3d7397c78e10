//! Upstream connections with nothing on them: the short way writes and reads them itself.
//!
//! *Standing*: [`crate::proxy::short`] asks for one that is kept or dials; they wait in the pool beside
//! those of the long way, which puts its parser on one when it needs it. *Never*: goes by a gateway,
//! or sends a request for the long way that was sent already.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::exchange::LEAST_HEAD;
use super::{Connection, Failure, Line, Order, Route, Stop, Upstream};
use crate::proxy::body::Upload;
use crate::proxy::ending::Cut;
use crate::proxy::pool::{Driver, Idle, Key};
use crate::proxy::shared::Need;
use crate::proxy::{Limits, Stream};
use crate::rules::Scheme;

/// A connection that can carry one HTTP/1.1 request.
pub(in crate::proxy) struct Bare {
    /// What it was opened for.
    pub(in crate::proxy) key: Key,
    /// The bytes.
    pub(in crate::proxy) wire: Wire,
    /// The address it leads to.
    pub(in crate::proxy) address: SocketAddr,
    /// Since when it waits.
    pub(in crate::proxy) since: Instant,
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Where the short way finds a connection.
pub(in crate::proxy) enum Near {
    /// It is there already.
    Kept(Bare),
    /// It is dialled by this route.
    Fresh(Route),
    /// Nowhere: the long way has to go.
    Far,
}

impl Bare {
    /// Whether it can carry a request, as far as anybody knows: one on which the upstream speaks
    /// unasked, or has closed, cannot.
    pub(in crate::proxy) fn is_alive(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.wire).poll_read(&mut cx, &mut buf).is_pending()
    }
}

impl Upstream {
    /// How a permitted request gets out on the short way.
    pub(in crate::proxy) async fn near(&self, order: &Order<'_>) -> Result<Near, Stop> {
        let (permit, meant) = (order.permit, order.meant);
        if self.dialler.gateway(order.intent()).is_some() {
            return Ok(Near::Far);
        }
        let admitted = |address: SocketAddr| {
            meant.is_none_or(|meant| meant == address.ip()) && permit.admits(address.ip()).is_ok()
        };
        let key = Key::new(order.intent());
        if let Some(bare) = self.pool.take_bare(&key, admitted) {
            return Ok(Near::Kept(bare));
        }
        let need = Need { only: true, connect: false };
        if self.pool.lanes().take(&key, need, admitted).is_some() {
            return Ok(Near::Far);
        }
        self.route(permit, meant).await.map(Near::Fresh)
    }

    /// Makes a connection for a permitted request. In time, or none.
    pub(in crate::proxy) async fn bare(
        &self,
        order: &Order<'_>,
        route: &Route,
    ) -> Result<Bare, Failure> {
        let made = async {
            let (line, address) = self.dialler.dial(order.permit, route).await?;
            let wire = if order.intent().scheme() == Scheme::Https {
                let stream = self.dialler.secure(order.permit, line, &[b"http/1.1"]).await?;
                Wire::Tls(Box::new(stream))
            } else {
                Wire::Plain(Box::new(line))
            };
            Ok(Bare { key: Key::new(order.intent()), wire, address, since: Instant::now() })
        };
        timeout(self.limits.dial, made).await.unwrap_or(Err(Failure::TimedOut))
    }

    /// Puts the parser of the long way on a connection.
    pub(super) async fn clothe(&self, bare: Bare) -> hyper::Result<Box<Idle>> {
        let Bare { key, wire, address, .. } = bare;
        let cut = wire.cut();
        let ends = self.http1(wire).await?;
        Ok(Box::new(Idle::new(key, ends, (address, cut))))
    }

    /// The same on a connection on which the request was sent and so much was answered. It carries
    /// no other request after this one.
    pub(in crate::proxy) async fn begun(
        &self,
        bare: Bare,
        heard: Vec<u8>,
    ) -> hyper::Result<Connection> {
        let Bare { key, wire, address, .. } = bare;
        let cut = wire.cut();
        let ends = self.http1(Echo::new(wire, heard)).await?;
        let mut idle = Idle::new(key, ends, (address, cut));
        idle.is_last = true;
        Ok(Connection::Alone(Box::new(idle)))
    }

    /// An HTTP/1.1 client on a stream. Its driver ends with the connection.
    pub(super) async fn http1<S: Stream>(
        &self,
        stream: S,
    ) -> hyper::Result<(http1::SendRequest<Upload>, Driver)> {
        let mut builder = http1::Builder::new();
        builder.preserve_header_case(true).max_buf_size(self.limits.head_bytes.max(LEAST_HEAD));
        // What is the parser's own bound costs it less than the same when it is told.
        if self.limits.headers != Limits::default().headers {
            builder.max_headers(self.limits.headers);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let driver = Driver::new(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok((sender, driver))
    }
}

/// The bytes of a connection, inside TLS or not.
pub(in crate::proxy) enum Wire {
    /// As they are.
    Plain(Box<Line>),
    /// Inside TLS.
    Tls(Box<TlsStream<Line>>),
}

impl Wire {
    /// The mark of what carries them.
    fn cut(&self) -> Cut {
        match self {
            Self::Plain(stream) => stream.cut(),
            Self::Tls(stream) => stream.get_ref().0.cut(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection on which a request was sent: whoever sends it again is only told that it was, and
/// then hears the answer from its beginning.
struct Echo {
    wire: Wire,
    /// What was heard of the answer and not told yet.
    heard: Bytes,
    /// Whether somebody asked: an answer before that would be one that nobody asked for.
    is_asked: bool,
    waker: Option<Waker>,
}

impl Echo {
    fn new(wire: Wire, heard: Vec<u8>) -> Self {
        Self { wire, heard: heard.into(), is_asked: false, waker: None }
    }
}

impl AsyncRead for Echo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_asked {
            this.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if this.heard.is_empty() {
            return Pin::new(&mut this.wire).poll_read(cx, buf);
        }
        let here = this.heard.split_to(this.heard.len().min(buf.remaining()));
        buf.put_slice(&here);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Echo {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_asked = true;
        if let Some(waker) = this.waker.take() {
            waker.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
