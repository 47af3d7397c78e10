//! A client that speaks HTTP/1: one request after the other.
//!
//! *Standing*: [`super::Proxy::carry`] hands over the stream, [`super::http`] answers each request.
//! *Never*: lets a request through that the strict front before the parser did not understand.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::flow::Call;
use super::framing::Fault;
use super::heads::Heads;
use super::http::{After, Side, Talk};
use super::identity::Heard;
use super::short::{self, Rest};
use super::turns::{Turn, Turns};
use super::{Limits, Proxy, Stream};
use crate::rules::Code;

/// Carries a stream that speaks HTTP/1 to its end, and what it turns into to its own: by the short
/// way as long as every request is plain.
pub(super) async fn serve<S: Stream>(proxy: Arc<Proxy>, stream: S, call: Call, heard: Heard) {
    if let Some(rest) = short::serve(&proxy, stream, &call, &heard).await {
        // A connection that never needs it does not make room for it.
        Box::pin(go_on(proxy, rest, call, heard)).await;
    }
}

/// The long way: every request that there is.
async fn go_on<S: Stream>(proxy: Arc<Proxy>, rest: Rest<S>, call: Call, heard: Heard) {
    let turns = Arc::new(Turns::default());
    let after: Arc<Mutex<Option<After>>> = Arc::default();
    let Rest { stream, held, begun } = rest;
    let io = Heads::new(stream, held, &proxy.limits, Arc::clone(&turns));
    let side = Side::Http1(Arc::clone(&turns), Arc::clone(&after));
    let cut = call.cut.clone();
    let talk = Talk::new(Arc::clone(&proxy), call, heard, side);
    let talk = Arc::new(talk.going_on(begun));
    let asked = Asked::default();
    let service = service_fn(|request: Request<Incoming>| {
        asked.note(&request);
        let talk = Arc::clone(&talk);
        let turn = Turn(Arc::clone(&turns));
        async move {
            let mut response = talk.answer(request).await;
            response.body_mut().hold(turn);
            Ok::<_, Infallible>(response)
        }
    });
    // Whoever waits for its stream hears that there is none when the connection is dropped.
    let is_garbled = {
        let connection = builder(&proxy.limits).serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection.with_upgrades());
        let ended = tokio::select! {
            // The connection first: told to shut down before it has read anything, the parser's library
            // closes it, with the request that the short way has begun unanswered.
            biased;
            ended = connection.as_mut() => ended,
            () = proxy.closing() => {
                turns.close();
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        // What passes the strict front and not the parser is answered by the parser alone.
        let is_garbled = ended.as_ref().is_err_and(hyper::Error::is_parse);
        if let Err(error) = ended {
            tracing::debug!(%error, "client connection ended");
            // To an old client the end of the connection is that of the answer.
            if asked.is_old.load(Ordering::Relaxed) && !is_garbled {
                cut.mark();
            }
        }
        is_garbled
    };
    let fault = turns.fault().map(Fault::code);
    if let Some(code) = fault.or(is_garbled.then_some(Code::BadRequest)) {
        talk.refuse_garbled(code);
    }
    let after = after.lock().unwrap_or_else(PoisonError::into_inner).take();
    let wish = asked.wish.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (after, wish) {
        (Some(after), _) => after.await,
        (None, Some(wish)) => drop(timeout(proxy.limits.linger, end(wish)).await),
        (None, None) => {}
    }
}

/// What the requests of a connection mean for its end.
#[derive(Debug, Default)]
struct Asked {
    /// Whether the last was in HTTP/1.0.
    is_old: AtomicBool,
    /// The last wish to switch.
    wish: Mutex<Option<OnUpgrade>>,
}

impl Asked {
    fn note(&self, request: &Request<Incoming>) {
        self.is_old.store(request.version() == Version::HTTP_10, Ordering::Relaxed);
        if let Some(wish) = request.extensions().get::<OnUpgrade>() {
            let mut last = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(wish.clone());
        }
    }
}

/// How the parser reads a client.
fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // A head that is too long or has too many fields was refused before: the parser has room.
    builder
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(limits.head_bytes.saturating_mul(2).max(16 * 1024));
    // Its own bound costs the parser less than the same number that it is told.
    if limits.headers != Limits::default().headers {
        builder.max_headers(limits.headers);
    }
    builder
}

/// The end of a connection on which a wish to switch was not met: the parser has given its stream away
/// for that, and leaves the end to whoever has it.
async fn end(wish: OnUpgrade) -> io::Result<()> {
    match wish.await {
        Ok(stream) => TokioIo::new(stream).shutdown().await,
        // It had an end.
        Err(_) => Ok(()),
    }
}
