//! The simulated internet's HTTP/2, as the ports of [`super::origin`] offer it.
//!
//! What it answers is in the path: `/echo` and every gRPC call the request's own pieces as they come,
//! with the trailer `grpc-status: 0`; a call to `…/Collect` one message that counts those it got, one
//! to `…/Expand` its message three times; `/count` how many bytes came; `/size/N` that many bytes;
//! `/stream/NAME` a piece, then another once the test opens the gate of that name; every other path a line
//! that names host and path.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

use super::authority::Authority;
use super::origin::Origins;
use super::request::{self, Head};

type Content = BoxBody<Bytes, Infallible>;

/// How much of a large answer is said at once.
const PIECE: usize = 64 << 10;

/// Serves a connection to its end, in TLS if it is a secure one.
pub(super) fn serve(
    origins: Origins,
    stream: TcpStream,
    mut head: Head,
    is_secure: bool,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        if !is_secure {
            return speak(origins, stream, head).await;
        }
        let greeting = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let named = greeting.client_hello().server_name().map(str::to_owned);
        let name = named.unwrap_or_else(|| head.local.ip().to_string());
        let mut config = rustls::ServerConfig::clone(&Authority::the().server(&name));
        config.alpn_protocols = vec![b"h2".to_vec()];
        head.sni = Some(name);
        let stream = greeting.into_stream(Arc::new(config)).await?;
        speak(origins, stream, head).await
    })
}

/// HTTP/2 on a stream.
async fn speak(
    origins: Origins,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    head: Head,
) -> io::Result<()> {
    let service = service_fn(move |request| {
        let (origins, head) = (origins.clone(), head.clone());
        async move { Ok::<_, Infallible>(answer(&origins, &head, request).await) }
    });
    let served = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    served.await.map_err(io::Error::other)
}

/// Answers as the path says.
async fn answer(origins: &Origins, head: &Head, request: Request<Incoming>) -> Response<Content> {
    origins.note(noted(head, &request));
    let path = request.uri().path().to_owned();
    let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let mut response = Response::default();
    let kind = request.headers().get(CONTENT_TYPE).cloned();
    let is_call =
        kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if let Some(kind) = kind.filter(|_| is_call) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (what, argument) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (sender, body) = Channel::new(1);
    let upload = request.into_body();
    match (what, argument) {
        (_, "Collect") => drop(tokio::spawn(collect(upload, sender))),
        (_, "Expand") => drop(tokio::spawn(expand(upload, sender))),
        ("size", size) => drop(tokio::spawn(large(size.parse().unwrap_or(0), sender))),
        ("stream", gate) => drop(tokio::spawn(halves(origins.clone(), gate.to_owned(), sender))),
        ("count", _) => {
            let count = count(upload).await;
            return response.map(|()| Full::from(format!("{count} bytes\n")).boxed());
        }
        ("echo", _) => drop(tokio::spawn(echo(upload, sender))),
        _ if is_call => drop(tokio::spawn(echo(upload, sender))),
        _ => return response.map(|()| Full::from(format!("this is {host} {path}\n")).boxed()),
    }
    response.map(|()| body.boxed())
}

/// The request for the test to look at.
fn noted(head: &Head, request: &Request<Incoming>) -> request::Request {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut headers: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    headers.push((":authority".into(), authority));
    request::Request {
        connection: head.clone(),
        method: request.method().to_string(),
        target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers,
        body: vec![],
        bytes: vec![],
    }
}

/// What a call ends with when all went well.
async fn end(mut sender: Sender<Bytes>) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    drop(sender.send_trailers(trailers).await);
}

/// Every piece as it comes.
async fn echo(mut upload: Incoming, mut sender: Sender<Bytes>) {
    while let Some(Ok(frame)) = upload.frame().await {
        if sender.send(frame).await.is_err() {
            return;
        }
    }
    end(sender).await;
}

/// One message that counts the messages.
async fn collect(upload: Incoming, mut sender: Sender<Bytes>) {
    let Ok(all) = upload.collect().await else { return };
    let (all, mut rest, mut count) = (all.to_bytes(), 0, 0);
    while let Some(length) = all.get(rest + 1..rest + 5) {
        rest += 5 + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        count += 1;
    }
    let message = format!("{count} messages");
    let length = u32::try_from(message.len()).expect("a short one").to_be_bytes();
    let framed = [&[0], &length[..], message.as_bytes()].concat();
    drop(sender.send_data(framed.into()).await);
    end(sender).await;
}

/// The one message three times.
async fn expand(upload: Incoming, mut sender: Sender<Bytes>) {
    let Ok(message) = upload.collect().await.map(http_body_util::Collected::to_bytes) else {
        return;
    };
    for _ in 0..3 {
        drop(sender.send_data(message.clone()).await);
    }
    end(sender).await;
}

/// How many bytes come, none of which is held.
async fn count(mut upload: Incoming) -> usize {
    let mut count = 0;
    while let Some(Ok(frame)) = upload.frame().await {
        count += frame.data_ref().map_or(0, Bytes::len);
    }
    count
}

/// So many bytes.
async fn large(mut left: usize, mut sender: Sender<Bytes>) {
    let piece = Bytes::from(vec![b'x'; PIECE]);
    while left > 0 {
        let now = left.min(PIECE);
        if sender.send_data(piece.slice(..now)).await.is_err() {
            return;
        }
        left -= now;
    }
}

/// A piece, and another when the gate is open.
async fn halves(origins: Origins, gate: String, mut sender: Sender<Bytes>) {
    drop(sender.send_data(Bytes::from_static(b"first\n")).await);
    let waited = tokio::task::spawn_blocking(move || origins.wait(&gate));
    drop(waited.await);
    drop(sender.send_data(Bytes::from_static(b"second\n")).await);
}
