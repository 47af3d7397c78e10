//! Many requests at once over one HTTP/2 connection.

use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::{Notes, Outcome, Span, is_small};

/// The connection, as each stream has it.
type Sender = SendRequest<Empty<Bytes>>;

/// Asks on so many streams at once until the time is up.
pub(super) async fn ask(
    stream: TlsStream<TcpStream>,
    host: &str,
    streams: usize,
    millis: u64,
) -> Result<Outcome> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    one(&sender, host).await?;
    let span = Span::of(millis);
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn(keep_asking(sender.clone(), host.to_owned(), span));
    }
    let mut all = Notes::default();
    while let Some(notes) = tasks.join_next().await {
        all.add(notes??);
    }
    driver.abort();
    Ok(span.outcome(all))
}

/// One request after the other until the time is up.
async fn keep_asking(sender: Sender, host: String, span: Span) -> Result<Notes> {
    let mut notes = Notes::default();
    while !span.is_over() {
        let asked = Instant::now();
        notes.bytes += one(&sender, &host).await?;
        notes.times.push(asked.elapsed());
    }
    Ok(notes)
}

/// One request on a stream of its own; how long the answer's content was.
async fn one(sender: &Sender, host: &str) -> Result<u64> {
    let request = Request::get(format!("https://{host}/")).body(Empty::new())?;
    let mut sender = sender.clone();
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == 200, "answered {}", answer.status());
    let length = answer.into_body().collect().await?.to_bytes().len() as u64;
    ensure!(is_small(length), "an answer of {length} bytes");
    Ok(length)
}
