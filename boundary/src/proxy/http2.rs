//! A client that speaks HTTP/2: many requests at once, each a stream of its own.
//!
//! *Standing*: [`super::Proxy::carry`] hands over the stream, [`super::http`] answers each request as
//! it does for HTTP/1. A stream that is refused, reset or broken does not touch the others. *Never*:
//! lets anything of a connection outlive it.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, COOKIE, HeaderMap};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::body::Answer;
use super::flow::Call;
use super::frames::{Frames, Refusals, Verdict};
use super::framing::Fault;
use super::http::{Side, Talk};
use super::identity::Heard;
use super::{Limits, Proxy, Stream, respond};
use crate::rules::{Code, Denial};

/// What a request's body may be ahead of the upstream.
const STREAM_WINDOW: u32 = 256 << 10;
/// What all bodies of a connection may be together: the bound of its memory. Several uploads that
/// stand still do not hold up the others.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What of one answer waits for the client to read.
const SEND_BUFFER: usize = 256 << 10;

/// Carries a stream that speaks HTTP/2, and everything that its requests turn into, to its end.
pub(super) async fn serve<S: Stream>(proxy: Arc<Proxy>, stream: S, call: Call, heard: Heard) {
    let tasks = Tasks::default();
    let _last = Last(tasks.clone());
    let side = Side::Http2(tasks.clone());
    let talk = Arc::new(Talk::new(Arc::clone(&proxy), call, heard, side));
    let refusals = Arc::<Refusals>::default();
    let service = service_fn(|request: Request<Incoming>| {
        refusals.given();
        let talk = Arc::clone(&talk);
        let method = request.method();
        let is_head = || method == Method::HEAD;
        let bodiless = method.as_str().eq_ignore_ascii_case("HEAD").then(is_head);
        // It is moved from hand to hand until it is a task: a few words, not some kilobytes.
        Box::pin(async move {
            let mut response = answer(&talk, request).await;
            match bodiless {
                Some(true) => behead(&mut response),
                // Asked as HEAD, it has no content, and whoever did not say so expects what is said.
                Some(false) => drop(response.headers_mut().remove(CONTENT_LENGTH)),
                None => {}
            }
            Ok::<_, Infallible>(response)
        })
    });
    let builder = builder(&proxy.limits, tasks.clone());
    let verdict = Verdict::default();
    let io = Frames::client(stream, &proxy.limits, Arc::clone(&verdict), Arc::clone(&refusals));
    let connection = Box::pin(builder.serve_connection(TokioIo::new(io), service));
    let mut watched = Watched { connection, talk: &talk, refusals: &refusals };
    let mut is_shut = true;
    let ended = tokio::select! {
        ended = &mut watched => {
            is_shut = false;
            Some(ended)
        }
        () = proxy.closing() => {
            watched.connection.as_mut().graceful_shutdown();
            Some((&mut watched).await)
        }
        () = tasks.idle(proxy.limits.idle) => {
            watched.connection.as_mut().graceful_shutdown();
            timeout(proxy.limits.linger, &mut watched).await.ok()
        }
    };
    drop(watched);
    match broken(&verdict, ended.as_ref()) {
        Some(code) => talk.refuse_garbled(code),
        // Whoever was not told that its streams are refused has not waited for it.
        None if !is_shut && matches!(ended, Some(Ok(()))) => {
            (0..refusals.unsaid()).for_each(|_| talk.refuse_garbled(Code::BadRequest));
        }
        None => {}
    }
    // Every stream has been told that its connection is gone: what is left are last words.
    tasks.finish(proxy.limits.linger).await;
}

/// A connection that puts on record which of its streams are refused without anybody being asked.
struct Watched<'a, C> {
    connection: Pin<Box<C>>,
    talk: &'a Talk,
    refusals: &'a Refusals,
}

impl<C: Future> Future for Watched<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let polled = self.connection.as_mut().poll(cx);
        for code in self.refusals.settle() {
            self.talk.refuse_garbled(code);
        }
        polled
    }
}

/// How a connection was broken off, if it was not merely closed.
fn broken(verdict: &Verdict, ended: Option<&hyper::Result<()>>) -> Option<Code> {
    let error = ended.and_then(|ended| ended.as_ref().err());
    if let Some(error) = error {
        tracing::debug!(%error, "client connection ended");
    }
    match verdict.get() {
        Some(excess) => {
            tracing::debug!(?excess, "client connection ended");
            Some(Code::OverLimit)
        }
        None => error.and_then(fault),
    }
}

/// The server's side of HTTP/2 within its bounds.
fn builder(limits: &Limits, tasks: Tasks) -> http2::Builder<Tasks> {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(tasks);
    builder
        .auto_date_header(false)
        .enable_connect_protocol()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(bounded(limits.h2_streams))
        .max_header_list_size(bounded(limits.head_bytes.saturating_mul(HEADROOM)));
    builder
}

/// Answers one stream. The bounds of a head that the strict front holds for HTTP/1 are held here.
async fn answer(talk: &Talk, request: Request<Incoming>) -> Response<Answer> {
    let limits = talk.limits();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let of = |fault: Fault| (fault.code(), respond::status(fault));
    let (code, status) = if target > limits.target_bytes {
        of(Fault::TargetTooLong)
    } else if fields(request.headers()) > limits.headers {
        of(Fault::TooMany)
    } else if size(request.headers()) > limits.head_bytes {
        of(Fault::TooLong)
    } else if !talk.has_room() {
        (Code::OverLimit, StatusCode::SERVICE_UNAVAILABLE)
    } else {
        return talk.answer(request).await;
    };
    let (parts, body) = request.into_parts();
    let mut response = talk.refuse(&parts, body, Denial::new(code)).await;
    *response.status_mut() = status;
    response.body_mut().restate(status);
    response
}

/// How much the library takes of a head beyond what is allowed: it answers those that are longer itself, and
/// resets their streams as if they might be tried again.
const HEADROOM: usize = 4;

/// How many bytes the fields are, as HTTP/1 writes them.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// How many fields there are: cookies may be cut into pieces, and are one (RFC 9113 §8.2.3).
fn fields(headers: &HeaderMap) -> usize {
    headers.len() - headers.get_all(COOKIE).iter().count().saturating_sub(1)
}

/// Leaves the content out of an answer of ours to HEAD, as the parser of HTTP/1 does by itself.
fn behead(response: &mut Response<Answer>) {
    if let Some(size @ 1..) = response.body_mut().unsaid() {
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
    }
}

/// How the client broke the protocol, and not merely the connection.
fn fault(error: &hyper::Error) -> Option<Code> {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    let cause = cause.filter(|cause| cause.is_library() && !cause.is_io())?;
    let is_excess = cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    Some(if is_excess { Code::OverLimit } else { Code::BadRequest })
}

/// The tasks of one connection: its streams, and what they turn into.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    running: JoinSet<()>,
    /// How many there have ever been.
    count: usize,
}

/// Ends what is left of a connection when it is dropped, however that came.
struct Last(Tasks);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.lock().running.abort_all();
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

impl Tasks {
    /// Runs a task of this connection.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut known = self.lock();
        while known.running.try_join_next().is_some() {}
        known.running.spawn(task);
        known.count += 1;
    }

    /// Resolves when nothing ran and nothing began for so long.
    async fn idle(&self, longest: Duration) {
        let mut before = None;
        loop {
            sleep(longest).await;
            let mut known = self.lock();
            while known.running.try_join_next().is_some() {}
            let now = known.running.is_empty().then_some(known.count);
            if now.is_some() && now == before {
                return;
            }
            before = now;
        }
    }

    /// Waits for the tasks' ends, not for ever.
    async fn finish(&self, longest: Duration) {
        let until = Instant::now() + longest;
        loop {
            // A task may begin another.
            let running = std::mem::take(&mut self.lock().running);
            // What has not ended by then is ended: the set that is dropped aborts it.
            if running.is_empty() || timeout_at(until, running.join_all()).await.is_err() {
                return;
            }
        }
    }

    /// A panic elsewhere cannot have left the set half-changed.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
