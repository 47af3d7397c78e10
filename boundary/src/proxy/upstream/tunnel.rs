//! Through a gateway: connecting to it, and asking it for a tunnel.
//!
//! *Standing*: [`super::dial`] comes here when a permitted intent leaves by a [`Gateway`]. *Never*:
//! resolves the permitted name, which is the gateway's to resolve; goes round a gateway that
//! refuses.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Failure;
use super::dial::Dialler;
use crate::proxy::ending::{Cut, Socket};
use crate::proxy::gateway::Gateway;
use crate::proxy::{Stream, headers};
use crate::rules::{Intent, Scheme};

/// A connection towards an upstream, and the mark by which it is cut off.
pub(in crate::proxy) struct Line {
    reach: Reach,
    cut: Cut,
}

/// How a connection gets there.
enum Reach {
    /// Straight there.
    Direct(Socket),
    /// By way of a gateway.
    Through(Box<dyn Stream>),
}

impl Dialler {
    /// A connection to a gateway on which an intent can be spoken, and the gateway's address. Plain
    /// HTTP is asked of the gateway itself; everything else goes through a tunnel.
    pub(super) async fn through(
        &self,
        gateway: &Arc<Gateway>,
        intent: &Intent,
    ) -> Result<(Line, SocketAddr), Failure> {
        let wrong =
            |source| Failure::Gateway { gateway: Arc::clone(gateway), source: Box::new(source) };
        let cut = Cut::default();
        let (mut stream, address) = self.reach(gateway, cut.clone()).await.map_err(wrong)?;
        if intent.scheme() != Scheme::Http {
            stream = tunnel(stream, gateway, intent).await?;
        }
        Ok((Line { reach: Reach::Through(stream), cut }, address))
    }

    /// Connects to a gateway: where it is was the user's word, not the command's, so that no rule
    /// is asked.
    async fn reach(
        &self,
        gateway: &Gateway,
        cut: Cut,
    ) -> Result<(Box<dyn Stream>, SocketAddr), Failure> {
        let addresses = self.resolve(gateway.host(), gateway.port()).await?;
        let (stream, address) = self.first(&addresses).await?;
        let stream = Socket::new(stream, cut);
        if gateway.is_secure() {
            let stream = self.handshake(gateway.host(), stream, &[b"http/1.1"]).await?;
            return Ok((Box::new(stream), address));
        }
        Ok((Box::new(stream), address))
    }
}

/// Asks for a tunnel to where an intent goes.
async fn tunnel(
    stream: Box<dyn Stream>,
    gateway: &Arc<Gateway>,
    intent: &Intent,
) -> Result<Box<dyn Stream>, Failure> {
    let broken = |source: hyper::Error| Failure::Gateway {
        gateway: Arc::clone(gateway),
        source: Box::new(Failure::Broken(source)),
    };
    let mut builder = http1::Builder::new();
    let (mut sender, connection) =
        builder.title_case_headers(true).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the gateway ended");
        }
    });
    let request = connect(gateway, intent).ok_or(Failure::Unsayable)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if !status.is_success() {
        return Err(Failure::Refused { gateway: Arc::clone(gateway), status: status.as_u16() });
    }
    let stream = hyper::upgrade::on(response).await.map_err(broken)?;
    Ok(Box::new(TokioIo::new(stream)))
}

/// The request for a tunnel. Says nothing of us but who may pass.
fn connect(gateway: &Gateway, intent: &Intent) -> Option<Request<Empty<Bytes>>> {
    // The port is always written: a tunnel has no default one.
    let authority = format!("{}:{}", intent.host(), intent.port());
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::try_from(&authority).ok()?;
    request.headers_mut().insert(HOST, HeaderValue::try_from(&authority).ok()?);
    if let Some(credentials) = gateway.credentials() {
        request.headers_mut().insert(PROXY_AUTHORIZATION, credentials.clone());
    }
    Some(request)
}

/// Turns a request into one that a gateway is asked itself: with the whole URL, and who may pass.
/// `None` if it cannot be said so: whoever answers a TRACE says again what it was asked with.
pub(super) fn ask_gateway<B>(
    gateway: &Gateway,
    intent: &Intent,
    request: &mut Request<B>,
) -> Option<()> {
    // A URL without any path cannot be told from one with the path `/` (RFC 9112 §3.2.4).
    if intent.path() == Some("*") {
        return None;
    }
    *request.uri_mut() = headers::sayable(intent.url(true))?;
    if let Some(credentials) = gateway.credentials() {
        if *request.method() == Method::TRACE {
            return None;
        }
        request.headers_mut().insert(PROXY_AUTHORIZATION, credentials.clone());
    }
    Some(())
}

impl Line {
    /// A connection straight to an upstream.
    pub(super) fn direct(stream: TcpStream) -> Self {
        let cut = Cut::default();
        Self { reach: Reach::Direct(Socket::new(stream, cut.clone())), cut }
    }

    /// Its mark, for whoever relays it.
    pub(in crate::proxy) fn cut(&self) -> Cut {
        self.cut.clone()
    }

    /// The stream inside, whichever it is.
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        match &mut self.get_mut().reach {
            Reach::Direct(stream) => Pin::new(stream),
            Reach::Through(stream) => Pin::new(&mut **stream),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.reach {
            Reach::Direct(stream) => stream.is_write_vectored(),
            Reach::Through(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
