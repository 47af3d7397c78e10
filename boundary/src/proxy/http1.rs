//! A client that speaks HTTP/1: one request after the other.
//!
//! *Standing*: [`super::Proxy::carry`] hands over the stream, [`super::http`] answers each request.
//! *Never*: lets a request through that the strict front before the parser did not understand.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;

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
    let is_old = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        is_old.store(request.version() == Version::HTTP_10, Ordering::Relaxed);
        let talk = Arc::clone(&talk);
        let turn = Turn(Arc::clone(&turns));
        async move {
            let mut response = talk.answer(request).await;
            response.body_mut().hold(turn);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    // A head that is too long or has too many fields was refused before: the parser has room.
    builder
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(proxy.limits.head_bytes.saturating_mul(2).max(16 * 1024));
    // Its own bound costs the parser less than the same number that it is told.
    if proxy.limits.headers != Limits::default().headers {
        builder.max_headers(proxy.limits.headers);
    }
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
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
        if is_old.load(Ordering::Relaxed) && !is_garbled {
            cut.mark();
        }
    }
    let fault = turns.fault().map(Fault::code);
    if let Some(code) = fault.or(is_garbled.then_some(Code::BadRequest)) {
        talk.refuse_garbled(code);
    }
    let after = after.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(after) = after {
        after.await;
    }
}
