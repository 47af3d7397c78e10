//! Bodies on their way, and the account that is closed when they have gone.
//!
//! *Standing*: hyper polls them; back-pressure is its, chunk by chunk. *Never*: holds a body.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Request, StatusCode};
use tokio::time::Instant;

use super::clock::Clock;
use super::framing::Fault;
use super::identity::Override;
use super::pool::Pool;
use super::turns::Turn;
use super::upstream::Connection;
use crate::audit::{Entry, Tally};

/// An open entry of the record. It is closed when dropped, whatever the reason, with what was
/// carried until then.
#[derive(Debug)]
pub(super) struct Account {
    entry: Option<Entry>,
    /// The status that the client sees.
    pub(super) status: Option<u16>,
    /// Bytes from the client.
    pub(super) up: Arc<AtomicU64>,
    /// Bytes to the client.
    pub(super) down: Arc<AtomicU64>,
}

impl Account {
    /// Opens the account of an entry.
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry: Some(entry), status: None, up: Arc::default(), down: Arc::default() }
    }

    /// Adds to what was carried, up and down.
    pub(super) fn carried(&self, up: u64, down: u64) {
        self.up.fetch_add(up, Ordering::Relaxed);
        self.down.fetch_add(down, Ordering::Relaxed);
    }

    /// Notes the address that carries it.
    pub(super) fn dialled(&mut self, address: std::net::SocketAddr) {
        if let Some(entry) = &mut self.entry {
            entry.dialled(address);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.close(Tally {
                http_status: self.status,
                bytes_up: self.up.load(Ordering::Relaxed),
                bytes_down: self.down.load(Ordering::Relaxed),
            });
        }
    }
}

/// A request's body on its way up.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<Incoming>,
    up: Arc<AtomicU64>,
    course: Arc<Course>,
    /// What bounds the time without a byte, where no front does.
    patience: Option<Patience>,
}

impl Upload {
    /// Counts a body into an account.
    pub(super) fn new(body: Incoming, account: &Account) -> Self {
        let body = if body.is_end_stream() { None } else { Some(body) };
        Self { body, up: Arc::clone(&account.up), course: Arc::default(), patience: None }
    }

    /// Bounds how long the client may send nothing of it before its answer has begun.
    pub(super) fn bound(&mut self, longest: Duration) {
        self.patience = Some(Patience { longest, since: None, clock: Clock::default() });
    }

    /// How it goes, for whoever sends it.
    pub(super) fn course(&self) -> Arc<Course> {
        Arc::clone(&self.course)
    }

    /// Whether there is nothing to be sent but the head.
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_none()
    }

    /// The same request once more, if it has no body. Whether sending it twice does no harm is not
    /// asked here.
    pub(super) fn spare(request: &Request<Self>) -> Option<Request<Self>> {
        if request.body().body.is_some() {
            return None;
        }
        let Self { up, course, .. } = request.body();
        let (up, course) = (Arc::clone(up), Arc::clone(course));
        let mut spare = Request::new(Self { body: None, up, course, patience: None });
        *spare.method_mut() = request.method().clone();
        *spare.uri_mut() = request.uri().clone();
        *spare.headers_mut() = request.headers().clone();
        *spare.extensions_mut() = request.extensions().clone();
        Some(spare)
    }
}

/// What an upload and whoever sends it tell each other.
#[derive(Debug, Default)]
pub(super) struct Course {
    is_answered: AtomicBool,
    has_stalled: AtomicBool,
    is_broken: AtomicBool,
}

impl Course {
    /// The answer has begun: the client may wait for more of it before it goes on.
    pub(super) fn answered(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    /// What was wrong with the upload, if it has no end.
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.has_stalled.load(Ordering::Relaxed) {
            return Some(Fault::Stalled);
        }
        self.is_broken.load(Ordering::Relaxed).then_some(Fault::Cut)
    }
}

/// A clock that runs while somebody wants the client's next byte and it does not come.
#[derive(Debug)]
struct Patience {
    longest: Duration,
    since: Option<Instant>,
    clock: Clock,
}

impl Patience {
    /// Something came. Empty frames are nothing.
    fn heard(&mut self, frame: &Frame<Bytes>) {
        if frame.data_ref().is_none_or(bytes::Buf::has_remaining) {
            self.since = None;
        }
    }

    /// Whether nothing came for too long; if not, arranges to be asked again when that may be.
    fn is_over(&mut self, course: &Course, cx: &mut Context<'_>) -> bool {
        if course.is_answered.load(Ordering::Relaxed) {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.clock.is_past(since + self.longest, cx)
    }
}

/// Why an upload has no end.
#[derive(Debug)]
struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body stood still")
    }
}

impl std::error::Error for Stalled {}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, up, course, patience } = self.get_mut();
        let Some(body) = body else { return Poll::Ready(None) };
        let Poll::Ready(mut frame) = Pin::new(body).poll_frame(cx) else {
            if !patience.as_mut().is_some_and(|patience| patience.is_over(course, cx)) {
                return Poll::Pending;
            }
            course.has_stalled.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(Stalled.into())));
        };
        match &mut frame {
            Some(Ok(frame)) => {
                count(up, frame);
                if let Some(trailers) = frame.trailers_mut() {
                    forget_overrides(trailers);
                }
                if let Some(patience) = patience {
                    patience.heard(frame);
                }
            }
            Some(Err(_)) => course.is_broken.store(true, Ordering::Relaxed),
            None => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// An answer's body on its way down, or one of our own.
#[derive(Debug)]
pub(super) struct Answer {
    content: Content,
    account: Option<Account>,
    /// The turn is over when the body is.
    turn: Option<Turn>,
    /// How the upstream's body broke, until what came before it is on its way to the client.
    broken: Option<hyper::Error>,
}

#[derive(Debug)]
enum Content {
    /// Our own words.
    Own(Bytes),
    /// An upstream's body, and the connection that is free after it.
    Upstream(Incoming, Option<(Connection, Arc<Pool>)>),
}

impl Answer {
    /// An answer of our own.
    pub(super) fn own(text: impl Into<Bytes>) -> Self {
        Self { content: Content::Own(text.into()), account: None, turn: None, broken: None }
    }

    /// An upstream's answer.
    pub(super) fn upstream(body: Incoming, connection: Connection, pool: &Arc<Pool>) -> Self {
        if body.is_end_stream() {
            give_back(connection, pool);
            return Self::own(Bytes::new());
        }
        if let Connection::Shared(lane) = &connection {
            lane.waits(true);
        }
        let lease = Some((connection, Arc::clone(pool)));
        Self { content: Content::Upstream(body, lease), account: None, turn: None, broken: None }
    }

    /// The same without its words, and how many bytes they were. Only an upstream's answer keeps
    /// its own: whether it may have any was its to know.
    pub(super) fn unsaid(&mut self) -> Option<u64> {
        match &mut self.content {
            Content::Own(text) => Some(std::mem::take(text).len() as u64),
            Content::Upstream(..) => None,
        }
    }

    /// Another status than the account was opened with.
    pub(super) fn restate(&mut self, status: StatusCode) {
        if let Some(account) = &mut self.account {
            account.status = Some(status.as_u16());
        }
    }

    /// The account to close when it has gone.
    pub(super) fn charge(&mut self, account: Account) {
        self.account = Some(account);
    }

    /// The turn to end when it has gone.
    pub(super) fn hold(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match &mut self.content {
            Content::Own(text) if text.is_empty() => None,
            Content::Own(text) => Some(Ok(Frame::data(std::mem::take(text)))),
            Content::Upstream(body, lease) => {
                let frame = ready!(poll_upstream(body, lease, cx));
                if let Some(Err(error)) = frame {
                    // The client's connection ends at once with an error, unflushed.
                    self.broken = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let is_over = frame.is_none() || body.is_end_stream();
                if is_over && let Some((connection, pool)) = lease.take() {
                    give_back(connection, &pool);
                }
                frame
            }
        };
        if let (Some(Ok(frame)), Some(account)) = (&frame, &self.account) {
            count(&account.down, frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(text) => text.is_empty(),
            Content::Upstream(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(text) => SizeHint::with_exact(text.len() as u64),
            Content::Upstream(body, _) => body.size_hint(),
        }
    }
}

/// The next frame of an upstream's body. Where nobody else moves the connection's bytes it is done
/// here, and once more when the body has said that it wants some.
fn poll_upstream(
    body: &mut Incoming,
    lease: &mut Option<(Connection, Arc<Pool>)>,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    let frame = Pin::new(&mut *body).poll_frame(cx);
    match lease {
        Some((Connection::Shared(lane), _)) => lane.waits(frame.is_ready()),
        Some((Connection::Alone(idle), _)) if frame.is_pending() => {
            idle.driver.drive(cx);
            return Pin::new(body).poll_frame(cx);
        }
        Some((Connection::Alone(_), _)) | None => {}
    }
    frame
}

/// The connection is free for the next request.
fn give_back(connection: Connection, pool: &Arc<Pool>) {
    match connection {
        Connection::Alone(idle) => pool.put_back(*idle),
        Connection::Shared(lane) => drop(lane),
    }
}

/// Takes out of trailers what would ask for another request than the one that was judged.
fn forget_overrides(trailers: &mut HeaderMap) {
    let asks = |name: &&HeaderName| Override::of(name.as_ref()).is_some();
    let asking: Vec<HeaderName> = trailers.keys().filter(asks).cloned().collect();
    for name in asking {
        trailers.remove(name);
    }
}

/// Adds a frame's data to a count.
fn count(to: &AtomicU64, frame: &Frame<Bytes>) {
    if let Some(data) = frame.data_ref() {
        to.fetch_add(data.remaining() as u64, Ordering::Relaxed);
    }
}
