//! One request and the head of its answer, on whichever connection has room.
//!
//! *Standing*: `http` brings an [`Order`] and a [`Way`]; a client that speaks HTTP/2 gets
//! HTTP/2 upstream where it is spoken, one that speaks HTTP/1.1 gets what can say the same without
//! translation. *Never*: opens a socket itself, or sends again what may have arrived.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, timeout, timeout_at};

use super::patience::Patience;
use super::{Failure, Route, Stop, Upstream, tunnel};
use crate::proxy::body::Upload;
use crate::proxy::correlation::Correlation;
use crate::proxy::ending::Cut;
use crate::proxy::frames::Frames;
use crate::proxy::gateway::Gateway;
use crate::proxy::peek::Speech;
use crate::proxy::pool::{Idle, Kept, Key};
use crate::proxy::shared::{CONNECTION_WINDOW, Lane, Load, Need, STREAM_WINDOW};
use crate::proxy::{Stream, headers};
use crate::rules::{Intent, Permit, Scheme};

/// What is taken from one request's body before the upstream reads it.
const SEND_BUFFER: usize = 256 << 10;
/// The least room for an answer's head.
pub(super) const LEAST_HEAD: usize = 8 * 1024;

/// A permitted request before it is put into words.
#[derive(Debug)]
pub(in crate::proxy) struct Order<'a> {
    /// What permits it.
    pub(in crate::proxy) permit: &'a Permit,
    /// What its client speaks.
    pub(in crate::proxy) speech: Speech,
    /// What it asks to switch to.
    pub(in crate::proxy) switch: Option<HeaderValue>,
    /// What ties it to its record, if its target is to know.
    pub(in crate::proxy) correlation: Option<Correlation>,
    /// By when its answer has to begin.
    pub(in crate::proxy) late: Option<Instant>,
    /// The address that the program connected to, where it did not get it from us: the host must be
    /// there, or the two disagree.
    pub(in crate::proxy) meant: Option<IpAddr>,
}

impl Order<'_> {
    /// What is asked for.
    pub(in crate::proxy) fn intent(&self) -> &Intent {
        self.permit.intent()
    }
}

/// How a permitted HTTP request gets out.
#[derive(Debug)]
pub(in crate::proxy) enum Way {
    /// On a connection that is there already.
    Kept(Connection),
    /// On one on which it was sent already, by the short way.
    Begun(Connection),
    /// On a new one.
    Fresh(Route),
}

/// An upstream connection with room for one request now.
#[derive(Debug)]
pub(in crate::proxy) enum Connection {
    /// It carries nothing else meanwhile.
    Alone(Box<Idle>),
    /// It carries others too.
    Shared(Lane),
}

impl Connection {
    /// The address it leads to.
    pub(in crate::proxy) fn address(&self) -> SocketAddr {
        match self {
            Self::Alone(idle) => idle.address,
            Self::Shared(lane) => lane.address,
        }
    }

    /// By which it is cut off, if it carries nothing else.
    pub(in crate::proxy) fn cut(&self) -> Option<&Cut> {
        match self {
            Self::Alone(idle) => Some(&idle.cut),
            Self::Shared(_) => None,
        }
    }

    /// Carries nothing after this, if it carries nothing else.
    pub(in crate::proxy) fn end(&mut self) {
        match self {
            Self::Alone(idle) => idle.is_last = true,
            Self::Shared(_) => {}
        }
    }

    /// What is spoken on it.
    pub(in crate::proxy) fn speech(&self) -> Speech {
        match self {
            Self::Alone(_) => Speech::Http1,
            Self::Shared(_) => Speech::Http2,
        }
    }

    /// Gives the connection a task of its own where it must not wait for whoever reads the answer:
    /// a body goes up while the answer comes down, and behind a switch there is no answer.
    fn prepare(&mut self, order: &Order<'_>, upload: &Upload) {
        if let Self::Alone(idle) = self
            && (order.switch.is_some() || !upload.is_empty())
        {
            idle.driver.leave();
        }
    }

    /// Sends a request in this connection's words, and waits for the head of its answer. One that is
    /// shared is doubtful where none has come by then.
    async fn ask(
        &mut self,
        request: Request<Upload>,
        doubt: Option<Instant>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Alone(idle) => {
                let Idle { sender, driver, .. } = &mut **idle;
                let mut answer = pin!(sender.try_send_request(request));
                poll_fn(|cx| {
                    driver.drive(cx);
                    answer.as_mut().poll(cx)
                })
                .await
            }
            Self::Shared(lane) => lane.ask(request, doubt).await,
        }
    }
}

/// An upstream's answer, and the connection to be used again when its body is over.
pub(in crate::proxy) struct Reply {
    /// The answer.
    pub(in crate::proxy) response: Response<Incoming>,
    /// The connection.
    pub(in crate::proxy) connection: Connection,
}

impl Upstream {
    /// How a permitted HTTP request gets out, by when its answer has to begin.
    pub(in crate::proxy) async fn way(&self, order: &Order<'_>) -> Result<Way, Stop> {
        let Some(late) = order.late else { return self.ways(order).await };
        let found = timeout_at(late, self.ways(order));
        found.await.unwrap_or(Err(Stop::Failed(Failure::Unanswered)))
    }

    /// The same, whenever that is.
    async fn ways(&self, order: &Order<'_>) -> Result<Way, Stop> {
        let (permit, meant) = (order.permit, order.meant);
        if self.dialler.gateway(order.intent()).is_some() {
            // The address is the gateway's, which no permit is asked about.
            let route = self.route(permit, meant).await?;
            return Ok(self.kept(order, |_| true).await.map_or(Way::Fresh(route), Way::Kept));
        }
        let admitted = |address: SocketAddr| {
            meant.is_none_or(|meant| meant == address.ip()) && permit.admits(address.ip()).is_ok()
        };
        match self.kept(order, admitted).await {
            Some(connection) => Ok(Way::Kept(connection)),
            None => self.route(permit, meant).await.map(Way::Fresh),
        }
    }

    /// A connection that is there already.
    async fn kept(
        &self,
        order: &Order<'_>,
        admits: impl Fn(SocketAddr) -> bool + Copy,
    ) -> Option<Connection> {
        let key = Key::new(order.intent());
        let is_own = order.speech == Speech::Http2;
        let lane = self.lane(order, &key, admits).map(Connection::Shared);
        // What began in HTTP/2 on a plain connection is spoken so: nothing else was agreed.
        if lane.is_some() || is_own && self.is_agreed(order) {
            return lane;
        }
        match self.pool.take(&key, admits)? {
            Kept::Idle(idle) => Some(Connection::Alone(idle)),
            Kept::Bare(bare) => self.clothe(bare).await.ok().map(Connection::Alone),
        }
    }

    /// A lane of a connection that is there already.
    fn lane(
        &self,
        order: &Order<'_>,
        key: &Key,
        admits: impl Fn(SocketAddr) -> bool,
    ) -> Option<Lane> {
        let is_own = order.speech == Speech::Http2;
        // A switch that was asked for in HTTP/1.1 is answered in its words.
        let may_share = is_own || order.switch.is_none();
        let need = Need { only: !is_own, connect: order.switch.is_some() };
        may_share.then(|| self.pool.lanes().take(key, need, admits)).flatten()
    }

    /// Whether the version was agreed on with the client alone: without TLS, straight to the target.
    fn is_agreed(&self, order: &Order<'_>) -> bool {
        order.intent().scheme() == Scheme::Http && self.asked(order).is_none()
    }

    /// The gateway that is asked for the resource itself, which it is for plain HTTP.
    fn asked(&self, order: &Order<'_>) -> Option<&Arc<Gateway>> {
        let gateway = self.dialler.gateway(order.intent());
        gateway.filter(|_| order.intent().scheme() == Scheme::Http)
    }

    /// The version that serves an order best. A switch of protocols is said in HTTP/1.1, which
    /// every upstream that knows the protocol speaks; so does every gateway.
    fn prefers(&self, order: &Order<'_>) -> Speech {
        let plainly = order.switch.is_some() || self.asked(order).is_some();
        if plainly { Speech::Http1 } else { order.speech }
    }

    /// Sends a request and waits for the head of its answer. `opened` hears which address carries
    /// it, once there is a connection.
    pub(in crate::proxy) async fn send(
        &self,
        order: &Order<'_>,
        way: Way,
        mut request: Request<Upload>,
        opened: impl FnMut(SocketAddr),
    ) -> Result<Reply, Failure> {
        let patience = Patience::new(order.late, self.limits.interim, &mut request);
        let reply = tokio::select! {
            reply = self.exchange(order, way, request, opened) => reply?,
            failure = patience.end() => return Err(failure),
        };
        if reply.response.headers().len() > self.limits.headers {
            return Err(Failure::Swollen);
        }
        let status = reply.response.status();
        match self.asked(order) {
            // No origin says this, and the client has no credentials of ours to offer.
            Some(gateway) if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let (gateway, status) = (Arc::clone(gateway), status.as_u16());
                Err(Failure::Refused { gateway, status })
            }
            _ => Ok(reply),
        }
    }

    /// Sends a request on a kept connection or a new one.
    async fn exchange(
        &self,
        order: &Order<'_>,
        way: Way,
        request: Request<Upload>,
        mut opened: impl FnMut(SocketAddr),
    ) -> Result<Reply, Failure> {
        let (mut connection, is_kept) = match way {
            Way::Kept(connection) => (connection, true),
            Way::Begun(connection) => (connection, false),
            // Whoever has a connection does not make room for dialling one.
            Way::Fresh(route) => Box::pin(self.open(order, &route)).await?,
        };
        let address = connection.address();
        opened(address);
        connection.prepare(order, request.body());
        let request = self.phrase(order, connection.speech(), request)?;
        // A kept connection may die at any moment. What certainly did no harm goes again.
        let spare = if is_kept { Upload::spare(&request) } else { None };
        let again = match connection.ask(request, self.doubt(order)).await {
            Ok(response) => return Ok(Reply { response, connection }),
            Err(lost) if is_kept => salvaged(lost, spare)?,
            Err(lost) => return Err(Failure::Broken(lost.into_error())),
        };
        tracing::debug!(%address, "a kept connection had died");
        if let Connection::Shared(lane) = &connection {
            lane.abandon();
        }
        drop(connection);
        let route = self.dialler.again(order, address).await;
        let (mut connection, _) = Box::pin(self.open(order, &route)).await?;
        opened(connection.address());
        connection.prepare(order, again.body());
        let request = self.phrase(order, connection.speech(), again)?;
        match connection.ask(request, self.doubt(order)).await {
            Ok(response) => Ok(Reply { response, connection }),
            Err(lost) => Err(Failure::Broken(lost.into_error())),
        }
    }

    /// When a shared connection becomes doubtful on which a request is not answered: whether its other end
    /// is gone without a word, or thinks, is not to be seen.
    fn doubt(&self, order: &Order<'_>) -> Option<Instant> {
        let patience = Instant::now().checked_add(self.limits.attempt);
        order.late.into_iter().chain(patience).min()
    }

    /// The request in the words of a version: the Intent's method, host and path, and the fields
    /// that go further than one hop. A request that was phrased before may be phrased again.
    fn phrase(
        &self,
        order: &Order<'_>,
        speech: Speech,
        request: Request<Upload>,
    ) -> Result<Request<Upload>, Failure> {
        let (mut parts, upload) = request.into_parts();
        let (intent, switch) = (order.intent(), order.switch.as_ref());
        let said = match speech {
            Speech::Http1 => headers::say_http1(&mut parts, intent, switch, !upload.is_empty()),
            Speech::Http2 => headers::say_http2(&mut parts, intent, switch),
        };
        // Behind the words that go one hop only: no client can name this as one of them.
        let correlated = order.correlation.as_ref();
        let correlated = correlated.map_or(Some(()), |numbers| numbers.put(&mut parts.headers));
        let mut request = Request::from_parts(parts, upload);
        let asked = self.asked(order);
        said.and(correlated)
            .and_then(|()| match asked {
                Some(gateway) => tunnel::ask_gateway(gateway, intent, &mut request),
                None => Some(()),
            })
            .ok_or(Failure::Unsayable)?;
        Ok(request)
    }

    /// A connection by this route, and whether somebody else had opened it. In time, or none.
    async fn open(&self, order: &Order<'_>, route: &Route) -> Result<(Connection, bool), Failure> {
        let found = timeout(self.limits.dial, self.find(order, route));
        found.await.unwrap_or(Err(Failure::TimedOut))
    }

    /// A connection by this route, and whether somebody else had opened it.
    async fn find(&self, order: &Order<'_>, route: &Route) -> Result<(Connection, bool), Failure> {
        let key = Key::new(order.intent());
        let is_shared = self.prefers(order) == Speech::Http2;
        let _opening = if is_shared { self.pool.lanes().opening(&key).await } else { None };
        // Whoever had the right before us may have opened one.
        let theirs = is_shared.then(|| self.lane(order, &key, |address| route.leads_to(address)));
        match theirs.flatten() {
            Some(lane) => Ok((Connection::Shared(lane), true)),
            None => Ok((self.connect(order, &key, route).await?, false)),
        }
    }

    /// A new connection. An upstream that speaks only what it was not offered is offered that.
    async fn connect(
        &self,
        order: &Order<'_>,
        key: &Key,
        route: &Route,
    ) -> Result<Connection, Failure> {
        match self.attempt(order, key, route, self.prefers(order)).await {
            Err(refused) if refused.is_about_version() && order.switch.is_none() => {
                self.attempt(order, key, route, Speech::Http2).await
            }
            other => other,
        }
    }

    /// A new connection. Which version is spoken inside TLS the two sides agree on; without TLS it
    /// is what the client began with.
    async fn attempt(
        &self,
        order: &Order<'_>,
        key: &Key,
        route: &Route,
        prefers: Speech,
    ) -> Result<Connection, Failure> {
        let (stream, address) = self.dialler.dial(order.permit, route).await?;
        let end = (address, stream.cut());
        if order.intent().scheme() != Scheme::Https {
            return self.begin(stream, key, end, (self.prefers(order), false)).await;
        }
        let is_only = prefers != self.prefers(order);
        let offer: &[&[u8]] = match prefers {
            Speech::Http1 => &[b"http/1.1"],
            Speech::Http2 if is_only => &[b"h2"],
            Speech::Http2 => &[b"h2", b"http/1.1"],
        };
        let stream = self.dialler.secure(order.permit, stream, offer).await?;
        let agreed = stream.get_ref().1.alpn_protocol();
        let speech = if agreed == Some(b"h2") { Speech::Http2 } else { Speech::Http1 };
        if speech != prefers {
            self.pool.lanes().note_plain(key);
        }
        self.begin(stream, key, end, (speech, is_only)).await
    }

    /// HTTP on a stream. Its driver ends with the connection.
    async fn begin<S: Stream>(
        &self,
        stream: S,
        key: &Key,
        (address, cut): (SocketAddr, Cut),
        (speech, is_only): (Speech, bool),
    ) -> Result<Connection, Failure> {
        match speech {
            Speech::Http1 => {
                let ends = self.http1(stream).await.map_err(Failure::Broken)?;
                Ok(Connection::Alone(Box::new(Idle::new(key.clone(), ends, (address, cut)))))
            }
            Speech::Http2 => {
                let (sender, load) = self.http2(stream).await.map_err(Failure::Broken)?;
                let lanes = self.pool.lanes();
                Ok(Connection::Shared(lanes.share(key, sender, address, (load, is_only))))
            }
        }
    }

    /// An HTTP/2 client on a stream.
    async fn http2<S: Stream>(
        &self,
        stream: S,
    ) -> hyper::Result<(http2::SendRequest<Upload>, Arc<Load>)> {
        let head = u32::try_from(self.limits.head_bytes.max(LEAST_HEAD)).unwrap_or(u32::MAX);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(head);
        let (sender, connection) =
            builder.handshake(TokioIo::new(Frames::upstream(stream, &self.limits))).await?;
        let load = Arc::new(Load::new());
        let told = Arc::clone(&load);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let polled = Pin::as_mut(&mut connection).poll(cx);
                let most = connection.current_max_send_streams();
                told.announced(most, connection.is_extended_connect_protocol_enabled());
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "upstream connection ended");
            }
            told.end();
        });
        Ok((sender, load))
    }
}

/// What of a request that a kept connection did not answer may be sent again.
fn salvaged(
    mut lost: TrySendError<Request<Upload>>,
    spare: Option<Request<Upload>>,
) -> Result<Request<Upload>, Failure> {
    if let Some(unsent) = lost.take_message() {
        return Ok(unsent);
    }
    let error = lost.into_error();
    // An answer that is garbled is an answer: the request arrived.
    let may_go = |spare: &Request<Upload>| {
        is_untouched(&error) || spare.method().is_idempotent() && !error.is_parse()
    };
    spare.filter(may_go).ok_or(Failure::Broken(error))
}

/// Whether the upstream says that it did nothing with the request (RFC 9113 §8.7).
fn is_untouched(error: &hyper::Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_remote()
            && match cause.reason() {
                Some(h2::Reason::REFUSED_STREAM) => true,
                Some(h2::Reason::NO_ERROR) => cause.is_go_away(),
                _ => false,
            }
    })
}
