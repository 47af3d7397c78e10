//! The origin: small answers, large ones, and events, over TLS 1.3, as cheaply as can be.
//!
//! Everything that the origin costs is in the direct row as well, so the dearer it were, the less a
//! ratio would say of a proxy. Hence heads and answers of HTTP/1 are written by hand.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, Kind};
use crate::stage::{ECDSA, RSA};

/// The small answer.
pub(crate) const SMALL: &str = "Hello, world!";

/// What large answers are made of.
static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// How far events lie apart where nothing else is asked for.
const BEAT: Duration = Duration::from_millis(100);

/// How many events there are.
const EVENTS: usize = 10;

/// Serves on both addresses until the process ends.
pub(crate) fn serve(runtime: &Runtime, authority: &Authority) -> Result<()> {
    let _inside = runtime.enter();
    for (address, zone, kind) in [(RSA, "rsa", Kind::Rsa), (ECDSA, "ecdsa", Kind::Ecdsa)] {
        let names = [format!("{zone}.test"), format!("*.{zone}.test")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let config = authority.server(&names, kind, &[b"h2", b"http/1.1"])?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = listen(address).context("the origin's address")?;
        tokio::spawn(accept(listener, acceptor));
    }
    Ok(())
}

/// A listener with a long queue.
fn listen(address: Ipv4Addr) -> Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((address, 443)))?;
    Ok(socket.listen(4096)?)
}

/// Gives every connection a task. A client that leaves in between is none of our business.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move { converse(stream, acceptor).await.ok() });
    }
}

/// One connection.
async fn converse(stream: TcpStream, acceptor: TlsAcceptor) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let answer = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(Response::new(Content::of(request.uri().path().as_bytes())))
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        return Ok(server.serve_connection(TokioIo::new(stream), answer).await?);
    }
    answer_all(stream).await
}

/// The content of an answer over HTTP/2.
enum Content {
    /// So many bytes.
    Bytes(usize),
    /// Events from this number on, when the clock rings.
    Events(usize, Pin<Box<Sleep>>),
    /// The small answer, once.
    Small(bool),
}

impl Content {
    /// What a path stands for.
    fn of(path: &[u8]) -> Self {
        match path.strip_prefix(b"/bytes/").and_then(number) {
            Some(length) => Self::Bytes(length),
            None if path == b"/events" => Self::Events(0, Box::pin(sleep(Duration::ZERO))),
            None => Self::Small(false),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Bytes(0) | Self::Events(EVENTS, _) | Self::Small(true) => {
                return Poll::Ready(None);
            }
            Self::Bytes(left) => {
                let part = FILLER.get(..FILLER.len().min(*left)).unwrap_or_default();
                *left -= part.len();
                Bytes::from_static(part)
            }
            Self::Events(number, clock) => {
                ready!(clock.as_mut().poll(cx));
                clock.as_mut().reset(Instant::now() + BEAT);
                let event = format!("data: {number}\n\n");
                *number += 1;
                event.into()
            }
            Self::Small(is_told) => {
                *is_told = true;
                Bytes::from_static(SMALL.as_bytes())
            }
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Bytes(0) | Self::Small(true))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(left) => SizeHint::with_exact(*left as u64),
            Self::Small(is_told) => {
                SizeHint::with_exact(if *is_told { 0 } else { SMALL.len() as u64 })
            }
            Self::Events(..) => SizeHint::new(),
        }
    }
}

/// Answers the requests of an HTTP/1 connection.
async fn answer_all(mut stream: TlsStream<TcpStream>) -> Result<()> {
    let mut heard = BytesMut::with_capacity(4096);
    loop {
        let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") else {
            if stream.read_buf(&mut heard).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let asked = heard.split_to(end + 4);
        match path(&asked) {
            b"/events" => tell(&mut stream, BEAT).await?,
            path => match (path.strip_prefix(b"/bytes/"), path.strip_prefix(b"/events/")) {
                (Some(length), _) => {
                    pour(&mut stream, number(length).context("a length")?).await?;
                }
                (_, Some(apart)) => {
                    let apart = u64::try_from(number(apart).context("milliseconds")?)?;
                    tell(&mut stream, Duration::from_millis(apart)).await?;
                }
                (None, None) => stream.write_all(&small()).await?,
            },
        }
    }
}

/// The path of a request.
fn path(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// A decimal number.
fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The small answer, head and all.
fn small() -> Vec<u8> {
    let length = SMALL.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{SMALL}"
    )
    .into_bytes()
}

/// A large answer.
async fn pour(stream: &mut TlsStream<TcpStream>, length: usize) -> Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut left = length;
    while left > 0 {
        let part = FILLER.get(..left.min(FILLER.len())).unwrap_or_default();
        stream.write_all(part).await?;
        left -= part.len();
    }
    Ok(stream.flush().await?)
}

/// Events, a beat apart, as chunks. Each says when it was sent.
async fn tell(stream: &mut TlsStream<TcpStream>, beat: Duration) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for number in 0..EVENTS {
        let event = format!("data: {number} {}\n\n", now()?);
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream.write_all(chunk.as_bytes()).await?;
        stream.flush().await?;
        sleep(beat).await;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    Ok(stream.flush().await?)
}

/// The time of day in microseconds, the same for all processes of the run.
pub(crate) fn now() -> Result<u64> {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
    Ok(u64::try_from(passed.as_micros())?)
}
