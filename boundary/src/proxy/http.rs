//! One request at a time: CONNECT, absolute-form and redirected become the same Intent.
//!
//! *Standing*: [`super::Proxy::carry`] hands over a stream that speaks HTTP/1. Each request is named,
//! asked about, recorded and sent on, whatever came before it on the connection. *Never*: sends
//! what was not matched: method, path, host and port go upstream in the spelling of the Intent.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{EXPECT, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::body::{Account, Answer, Upload};
use super::flow::Call;
use super::framing::Fault;
use super::heads::{Heads, Turn, Turns};
use super::identity::{self, Heard};
use super::upstream::{Failure, Reply, Stop, Way};
use super::{Proxy, Stream, headers, relay, respond};
use crate::audit::Decision;
use crate::rules::{Code, Denial, Intent, Permit};

/// A refused body up to this size is read away, so that the connection can go on.
const READ_AWAY: u64 = 64 * 1024;

/// What a connection turns into when it stops being HTTP.
type After = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Carries a stream that speaks HTTP/1 to its end.
pub(super) async fn serve<S: Stream>(proxy: Arc<Proxy>, stream: S, call: Call, heard: Heard) {
    let turns = Arc::new(Turns::default());
    let io = Heads::new(stream, &proxy.limits, Arc::clone(&turns));
    let talk = Arc::new(Talk { proxy, call, heard, turns, after: Mutex::default() });
    let service = service_fn(|request| {
        let talk = Arc::clone(&talk);
        async move {
            let turn = Turn(Arc::clone(&talk.turns));
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
        .max_headers(talk.proxy.limits.headers)
        .max_buf_size(talk.proxy.limits.head_bytes.saturating_mul(2).max(16 * 1024));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = talk.proxy.closing() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    // What passes the strict front and not the parser is answered by the parser alone.
    let is_garbled = ended.as_ref().is_err_and(hyper::Error::is_parse);
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
    let fault = talk.turns.fault().map(Fault::code);
    if let Some(code) = fault.or(is_garbled.then_some(Code::BadRequest)) {
        talk.proxy.refuse(&talk.call, Denial::new(code));
    }
    let after = talk.after.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(after) = after {
        after.await;
    }
}

/// One client connection and what was heard of it.
struct Talk {
    proxy: Arc<Proxy>,
    call: Call,
    heard: Heard,
    turns: Arc<Turns>,
    after: Mutex<Option<After>>,
}

impl Talk {
    /// Answers one request: name it, ask, record, send, or say no.
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return self.connect(parts, body).await;
        }
        let decided = identity::intent(&parts, &self.heard)
            .and_then(|intent| self.proxy.rules.decide(intent));
        let permit = match decided {
            Ok(permit) => permit,
            Err(denial) => return self.refuse(&parts, body, denial).await,
        };
        let way = match self
            .proxy
            .upstream
            .way(&permit, self.proxy.meant(&self.heard.target, &permit))
            .await
        {
            Ok(way) => Ok(way),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Denied(denial)) => return self.refuse(&parts, body, denial).await,
        };
        let allowed = Decision::Allow(permit.clone());
        let account = Account::new(self.proxy.recorder.decide(&self.call.subject, allowed));
        self.forward(Request::from_parts(parts, body), &permit, way, account).await
    }

    /// Sends a permitted request, and brings back the answer.
    async fn forward(
        &self,
        request: Request<Incoming>,
        permit: &Permit,
        way: Result<Way, Failure>,
        mut account: Account,
    ) -> Response<Answer> {
        let intent = permit.intent();
        let (mut parts, body) = request.into_parts();
        let client = parts.extensions.remove::<OnUpgrade>();
        let wish = headers::upgrade(&parts.headers);
        let upload = Upload::new(body, &account);
        let sent = match (way, onward(parts, intent, wish.as_ref())) {
            (Ok(way), Some(parts)) => {
                let request = Request::from_parts(parts, upload);
                let opened = |address| account.dialled(address);
                self.proxy.upstream.send(permit, way, request, opened).await
            }
            (Err(failure), _) => Err(failure),
            (Ok(_), None) => Err(Failure::Unsayable),
        };
        match (sent, wish, client) {
            (Ok(reply), wish, client) if is_switch(&reply) => match (wish, client) {
                (Some(wish), Some(client)) if headers::is_switch_to(&reply.response, &wish) => {
                    self.switch(reply, client, account)
                }
                _ => failed(&Failure::Switched, intent, account),
            },
            (Ok(reply), ..) => self.pass_back(reply, account),
            (Err(_), ..) if self.turns.fault().is_some() => {
                // Not the upstream's failure: the client's body has no end.
                told(respond::unclear(intent), account)
            }
            (Err(failure), ..) => failed(&failure, intent, account),
        }
    }

    /// An upstream's answer as the client gets it.
    fn pass_back(&self, reply: Reply, mut account: Account) -> Response<Answer> {
        let Reply { response, connection } = reply;
        let (mut parts, body) = response.into_parts();
        parts.version = Version::HTTP_11;
        parts.headers = headers::response(parts.headers, None);
        account.status = Some(parts.status.as_u16());
        let mut answer = Answer::upstream(body, connection, self.proxy.upstream.pool());
        answer.charge(account);
        Response::from_parts(parts, answer)
    }

    /// Both sides switch: what follows is relayed. The request was judged like any other.
    fn switch(&self, reply: Reply, client: OnUpgrade, mut account: Account) -> Response<Answer> {
        let (mut parts, body) = reply.response.into_parts();
        account.status = Some(parts.status.as_u16());
        let protocol = parts.headers.get(UPGRADE).cloned();
        parts.headers = headers::response(parts.headers, protocol.as_ref());
        let upstream = parts.extensions.remove::<OnUpgrade>();
        drop(body);
        let idle = self.proxy.limits.idle;
        let cut = self.call.cut.clone();
        self.turn_into(Box::pin(async move {
            let Some(upstream) = upstream else { return };
            if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                relay::relay(&mut client, &mut upstream, &account, idle).await.tell(&cut);
            }
        }));
        Response::from_parts(parts, Answer::own(""))
    }

    /// Answers a CONNECT. The tunnel is opened when some rule names the host at all; what is asked
    /// inside is asked like everywhere.
    async fn connect(&self, mut parts: Parts, body: Incoming) -> Response<Answer> {
        let target = match identity::tunnel(&parts, &self.heard, &self.proxy.pins) {
            Ok(target) => target,
            Err(denial) => return self.refuse(&parts, body, denial).await,
        };
        if let Some(denial) = self.proxy.refuses_host(&target) {
            return self.refuse(&parts, body, denial).await;
        }
        let Some(client) = parts.extensions.remove::<OnUpgrade>() else {
            return self.refuse(&parts, body, Denial::new(Code::BadRequest)).await;
        };
        self.turn_into(tunnel(Arc::clone(&self.proxy), client, self.call.tunnel(target)));
        Response::new(Answer::own(""))
    }

    /// Tells the client no, and the record. A small body is read away for the connection's sake;
    /// behind a large one, or one that the client holds back until it is wanted, it ends.
    async fn refuse(&self, parts: &Parts, body: Incoming, denial: Denial) -> Response<Answer> {
        let decision = Decision::Deny(denial.clone());
        let mut account = Account::new(self.proxy.recorder.decide(&self.call.subject, decision));
        let mut response = respond::denied(&denial, parts);
        account.status = Some(response.status().as_u16());
        let is_held_back = parts.headers.contains_key(EXPECT);
        if is_held_back || !read_away(body, self.proxy.limits.linger).await {
            respond::last(&mut response);
        }
        response.body_mut().charge(account);
        response
    }

    /// From here on the connection is not HTTP.
    fn turn_into(&self, after: After) {
        self.turns.open();
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = Some(after);
    }
}

/// What a CONNECT turns into: a stream carried like one that was accepted. Not an `async fn`, whose
/// type would contain itself.
fn tunnel(proxy: Arc<Proxy>, client: OnUpgrade, call: Call) -> After {
    Box::pin(async move {
        if let Ok(client) = client.await {
            proxy.carry(TokioIo::new(client), call).await;
        }
    })
}

/// The head that goes upstream: the Intent's words, and the fields that go further than one hop.
fn onward(mut parts: Parts, intent: &Intent, upgrade: Option<&HeaderValue>) -> Option<Parts> {
    parts.method = Method::from_bytes(intent.method()?.as_str().as_bytes()).ok()?;
    parts.uri = Uri::try_from(intent.path_and_query()?).ok()?;
    parts.version = Version::HTTP_11;
    let host = HeaderValue::try_from(intent.authority()).ok()?;
    parts.headers = headers::request(parts.headers, host, upgrade);
    Some(parts)
}

/// Whether an upstream wants to speak something else.
fn is_switch(reply: &Reply) -> bool {
    reply.response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Tells the client that the upstream failed.
fn failed(failure: &Failure, intent: &Intent, account: Account) -> Response<Answer> {
    told(respond::failed(failure, intent), account)
}

/// Charges an answer of our own to the account.
fn told(mut response: Response<Answer>, mut account: Account) -> Response<Answer> {
    account.status = Some(response.status().as_u16());
    response.body_mut().charge(account);
    response
}

/// Reads a body away if it is small and comes soon.
async fn read_away(mut body: Incoming, patience: Duration) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if body.size_hint().upper().is_none_or(|size| size > READ_AWAY) {
        return false;
    }
    let all = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    timeout(patience, all).await.unwrap_or(false)
}
