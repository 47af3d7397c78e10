//! One request at a time: CONNECT, absolute-form and redirected become the same Intent.
//!
//! *Standing*: [`super::http1`] and [`super::http2`] bring the requests of a connection. Each is named,
//! asked about, recorded and sent on, whatever came before it. *Never*: sends what was not matched:
//! method, path, host and port go upstream in the spelling of the Intent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;
use hyper::header::{EXPECT, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::body::{Account, Answer, Course, Upload};
use super::correlation::Correlation;
use super::ending::Cut;
use super::flow::Call;
use super::framing::Fault;
use super::http2::Tasks;
use super::identity::{self, Heard};
use super::peek::Speech;
use super::relay::Ended;
use super::respond::Manner;
use super::short::{Begun, Errand};
use super::turns::Turns;
use super::upstream::{Failure, Order, Reply, Stop};
use super::{Limits, Proxy, headers, relay, respond, websocket};
use crate::rules::{Code, Denial, Intent, Permit};

/// A refused body up to this size is read away, so that the connection can go on.
const READ_AWAY: u64 = 64 * 1024;

/// What a connection turns into when it stops being HTTP.
pub(super) type After = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the version of a client's connection brings with it.
pub(super) enum Side {
    /// One request after the other; perhaps the connection turns into something else.
    Http1(Arc<Turns>, Arc<Mutex<Option<After>>>),
    /// Many at once; each may turn into something else.
    Http2(Tasks),
}

/// One client connection and what was heard of it.
pub(super) struct Talk {
    proxy: Arc<Proxy>,
    call: Call,
    heard: Heard,
    side: Side,
    /// What the short way did for the first request.
    begun: Mutex<Option<Box<Begun>>>,
}

impl Talk {
    /// A connection of which nothing was asked yet.
    pub(super) fn new(proxy: Arc<Proxy>, call: Call, heard: Heard, side: Side) -> Self {
        Self { proxy, call, heard, side, begun: Mutex::default() }
    }

    /// One whose first request the short way may have begun.
    pub(super) fn going_on(self, begun: Option<Box<Begun>>) -> Self {
        Self { begun: Mutex::new(begun), ..self }
    }

    /// The bounds that hold for it.
    pub(super) fn limits(&self) -> &Limits {
        &self.proxy.limits
    }

    /// Whether there is memory for one more of its streams.
    pub(super) fn has_room(&self) -> bool {
        self.proxy.weight.has_room()
    }

    /// What is spoken on it.
    fn speech(&self) -> Speech {
        match self.side {
            Side::Http1(..) => Speech::Http1,
            Side::Http2(_) => Speech::Http2,
        }
    }

    /// How the client garbled the request that is being answered, if it did.
    fn fault(&self, course: &Course) -> Option<Fault> {
        let own = match &self.side {
            Side::Http1(turns, _) => turns.own_fault(),
            Side::Http2(_) => None,
        };
        own.or_else(|| course.fault())
    }

    /// Answers one request: name it, ask, record, send, or say no.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut parts, body) = request.into_parts();
        let switch = match parts.extensions.remove::<Protocol>() {
            None if parts.method == Method::CONNECT => return self.connect(parts, body).await,
            None => headers::upgrade(&parts.headers),
            Some(protocol) => {
                // The same request as an upgrade in HTTP/1.1, and judged as that.
                parts.method = Method::GET;
                match headers::protocol(&protocol) {
                    Some(protocol) => Some(protocol),
                    None => {
                        return self.refuse(&parts, body, Denial::new(Code::BadRequest)).await;
                    }
                }
            }
        };
        // What the short way decided is decided: a policy that changed since is for the next request.
        let decided = match begun.map(|begun| *begun) {
            None => self.decide(&parts).await.map(|permit| (permit, None)),
            Some(Begun::Judged(permit)) => Ok((permit, None)),
            Some(Begun::Permitted(permit, errand, late)) => Ok((permit, Some((errand, late)))),
            Some(Begun::Denied(denial)) => Err(denial),
        };
        let (permit, begun) = match decided {
            Ok(decided) => decided,
            Err(denial) => return self.refuse(&parts, body, denial).await,
        };
        // The time of one that was begun runs on.
        let (begun, late) = begun.map_or_else(
            || (None, self.limits().answer_by()),
            |(errand, late)| (Some(*errand), late),
        );
        let (speech, meant) = (self.speech(), self.proxy.meant(&self.heard.target, &permit));
        let mut order = Order { permit: &permit, speech, switch, correlation: None, late, meant };
        let errand = match begun {
            Some(errand) => errand,
            None => match self.begin(&mut order).await {
                Ok(errand) => errand,
                Err(denial) => return self.refuse(&parts, body, denial).await,
            },
        };
        self.forward(Request::from_parts(parts, body), &order, errand).await
    }

    /// Asks the rules about a request, and where they say no whoever may be asked.
    async fn decide(&self, parts: &Parts) -> Result<Permit, Denial> {
        let time = self.proxy.recorder.time();
        let judged = identity::intent(parts, &self.heard)
            .and_then(|intent| self.proxy.rules_of(&self.call).decide(intent));
        // How long a person thinks is no time that boundary takes.
        time.decided();
        let decided = match judged {
            Ok(permit) => Ok(permit),
            Err(denial) => self.proxy.appeal(&self.call, denial).await,
        };
        decided
            .and_then(|permit| self.permits_overrides(parts, permit))
            .and_then(|permit| self.proxy.recorded(permit))
    }

    /// Finds how a permitted request gets out, and puts it on record.
    async fn begin(&self, order: &mut Order<'_>) -> Result<Errand, Denial> {
        let promise = self.proxy.promise(&self.call, order.permit);
        let found = self.proxy.upstream.way(order).await;
        promise.taken_over();
        let way = match found {
            Ok(way) => Ok((way, self.proxy.recorder.time())),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Denied(denial)) => return Err(denial),
        };
        let entry = self.proxy.allow(&self.call, order.permit);
        let correlation =
            || Correlation { session: self.proxy.recorder.session(), number: entry.sequence() };
        order.correlation = self.proxy.upstream.correlates(order.intent()).then(correlation);
        Ok(Errand { account: Account::new(entry), way })
    }

    /// The permit, if the rules permit everything else too that the request asks to be taken for.
    fn permits_overrides(&self, parts: &Parts, permit: Permit) -> Result<Permit, Denial> {
        let overrides = identity::overrides(parts, permit.intent())?.into_iter();
        let also = overrides.map(|intent| self.proxy.rules_of(&self.call).decide(intent));
        Ok(permit.along(also.collect::<Result<_, _>>()?))
    }

    /// Sends a permitted request, and brings back the answer.
    async fn forward(
        &self,
        request: Request<Incoming>,
        order: &Order<'_>,
        errand: Errand,
    ) -> Response<Answer> {
        let Errand { mut account, way } = errand;
        let (mut parts, body) = request.into_parts();
        let client = parts.extensions.remove::<OnUpgrade>();
        let manner = Manner::of(&parts.headers);
        let key = self.websocket_key(order);
        if let Some(key) = &key {
            parts.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        }
        let mut upload = Upload::new(body, &account);
        self.bound(&mut upload);
        let course = upload.course();
        let request = Request::from_parts(parts, upload);
        let sent = match way {
            Ok((way, time)) => {
                let opened = |address| account.dialled(address);
                let reply = self.proxy.upstream.send(order, way, request, opened).await;
                time.answered();
                reply
            }
            Err(failure) => Err(failure),
        };
        if sent.is_ok() {
            course.answered();
        }
        let replied = sent.and_then(|reply| {
            let is_switched = self.is_switched(&reply, order, key.as_ref())?;
            Ok((reply, client.filter(|_| is_switched)))
        });
        match replied {
            Ok((reply, Some(client))) => self.switch(reply, client, account, order),
            Ok((reply, None)) => self.pass_back(reply, account),
            Err(failure) => {
                let intent = order.intent();
                let answer = match self.fault(&course) {
                    // Not the upstream's failure: the client's body has no end.
                    Some(fault) => self.unclear(intent, fault),
                    None => respond::failed(&failure, intent, manner),
                };
                told(answer, account)
            }
        }
    }

    /// Bounds the time in which nothing comes of a body, where the strict front does not.
    fn bound(&self, upload: &mut Upload) {
        match self.side {
            Side::Http1(..) => {}
            Side::Http2(_) => upload.bound(self.limits().idle),
        }
    }

    /// The answer to a request whose body is at fault. In HTTP/1 nothing can follow that.
    fn unclear(&self, intent: &Intent, fault: Fault) -> Response<Answer> {
        let mut response = respond::unclear(intent, fault);
        if let Side::Http1(..) = self.side {
            respond::last(&mut response);
        }
        response
    }

    /// The key of a WebSocket that a client asked for in HTTP/2, where there are none.
    fn websocket_key(&self, order: &Order<'_>) -> Option<HeaderValue> {
        let is_asked = self.speech() == Speech::Http2
            && order.switch.as_ref().is_some_and(|to| to == websocket::WEBSOCKET);
        is_asked.then(websocket::key).flatten()
    }

    /// Whether both sides leave HTTP now. An upstream that does so unasked is none; one that answers
    /// as if nothing had been asked cannot be told to a client that takes any success for a yes.
    fn is_switched(
        &self,
        Reply { response, connection }: &Reply,
        order: &Order<'_>,
        key: Option<&HeaderValue>,
    ) -> Result<bool, Failure> {
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let asked = order.switch.as_ref();
            let is_meant = asked.is_some_and(|asked| headers::is_switch_to(response, asked));
            let is_ours = is_meant && websocket::is_answer(key, response.headers());
            return if is_ours { Ok(true) } else { Err(Failure::Switched) };
        }
        if order.switch.is_none() || connection.speech() == Speech::Http2 {
            return Ok(order.switch.is_some() && status == StatusCode::OK);
        }
        match self.speech() {
            Speech::Http2 if status.is_success() => Err(Failure::Unswitched),
            Speech::Http1 | Speech::Http2 => Ok(false),
        }
    }

    /// An upstream's answer as the client gets it.
    fn pass_back(&self, reply: Reply, mut account: Account) -> Response<Answer> {
        let Reply { response, mut connection } = reply;
        let (mut parts, body) = response.into_parts();
        if parts.version == Version::HTTP_10 {
            // The parser would ask again as the server answered, and an upload in chunks not be sent.
            connection.end();
        }
        parts.version = Version::HTTP_11;
        parts.headers = headers::response(parts.headers, None);
        account.status = Some(parts.status.as_u16());
        let mut answer = Answer::upstream(body, connection, self.proxy.upstream.pool());
        answer.charge(account);
        Response::from_parts(parts, answer)
    }

    /// Both sides switch: what follows is relayed. The request was judged like any other.
    fn switch(
        &self,
        reply: Reply,
        client: OnUpgrade,
        mut account: Account,
        order: &Order<'_>,
    ) -> Response<Answer> {
        let Reply { response, connection } = reply;
        let (mut parts, body) = response.into_parts();
        drop(body);
        match self.speech() {
            Speech::Http1 => {
                let protocol = parts.headers.get(UPGRADE).cloned();
                parts.headers = headers::response(parts.headers, protocol.as_ref());
            }
            Speech::Http2 => {
                parts.status = StatusCode::OK;
                parts.headers = headers::response(parts.headers, None);
                websocket::forget(&mut parts.headers);
            }
        }
        account.status = Some(parts.status.as_u16());
        let upstream = parts.extensions.remove::<OnUpgrade>();
        let idle = self.proxy.limits.idle;
        let cut = self.cut();
        let (proxy, call) = (Arc::clone(&self.proxy), self.call.clone());
        let (intent, address) = (order.intent().clone(), connection.address());
        self.turn_into(Box::pin(async move {
            let Some(upstream) = upstream else { return };
            if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                let closing = proxy.closing();
                let ended = tokio::select! {
                    ended = relay::relay(&mut client, &mut upstream, &account, idle, closing) => ended,
                    () = proxy.withdrawn(&call, &intent, address) => Ended::Broken,
                };
                ended.tell(&cut);
                connection.cut().map(|cut| ended.tell(cut)).unwrap_or_default();
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
        let mut call = self.call.tunnel(target);
        call.cut = self.cut();
        self.turn_into(tunnel(Arc::clone(&self.proxy), client, call));
        Response::new(Answer::own(""))
    }

    /// Tells the client no, and the record. In HTTP/1 a small body is read away for the connection's
    /// sake; behind a large one, or one that the client holds back until it is wanted, it ends.
    pub(super) async fn refuse(
        &self,
        parts: &Parts,
        body: Incoming,
        denial: Denial,
    ) -> Response<Answer> {
        let denial = denial.asking(|| identity::asked(parts, &self.heard));
        let entry = self.proxy.deny(&self.call, denial.clone());
        let mut response = respond::denied(&denial, entry.sequence(), parts);
        let mut account = Account::new(entry);
        account.status = Some(response.status().as_u16());
        let (longest, most) = (self.proxy.limits.linger, self.proxy.limits.linger_bytes);
        match &self.side {
            Side::Http1(..) => {
                let is_held_back = parts.headers.contains_key(EXPECT);
                let is_small = body.size_hint().upper().is_some_and(|size| size <= READ_AWAY);
                if is_held_back || !is_small || !read_away(body, longest, most).await {
                    respond::last(&mut response);
                }
            }
            Side::Http2(_) if body.is_end_stream() => {}
            // The answer does not wait for it. Some clients take the reset of a stream that they
            // are still sending for an error, even behind a whole answer.
            Side::Http2(tasks) => {
                tasks.spawn(async move {
                    let _whole = read_away(body, longest, most).await;
                });
            }
        }
        response.body_mut().charge(account);
        response
    }

    /// Records that the client put an end to its connection, by something that is no request.
    pub(super) fn refuse_garbled(&self, code: Code) {
        let line = match &self.side {
            Side::Http1(turns, _) => turns.garbled(),
            Side::Http2(_) => None,
        };
        let denial = Denial::new(code).asking(|| identity::garbled(&self.heard, line));
        self.proxy.refuse(&self.call, denial);
    }

    /// What is to be cut off when a tunnel breaks: the connection that it is, but not one that
    /// carries others too.
    fn cut(&self) -> Cut {
        match self.side {
            Side::Http1(..) => self.call.cut.clone(),
            Side::Http2(_) => Cut::default(),
        }
    }

    /// From here on the connection, or the stream of it, is not HTTP.
    fn turn_into(&self, then: After) {
        match &self.side {
            Side::Http1(turns, after) => {
                turns.open();
                *after.lock().unwrap_or_else(PoisonError::into_inner) = Some(then);
            }
            Side::Http2(tasks) => tasks.spawn(then),
        }
    }
}

/// What a CONNECT turns into: a stream carried like one that was accepted. Not an `async fn`, whose
/// type would contain itself.
fn tunnel(proxy: Arc<Proxy>, client: OnUpgrade, call: Call) -> After {
    Box::pin(async move {
        let asked = call.clone();
        if let Ok(client) = client.await {
            Arc::clone(&proxy).carry(TokioIo::new(client), call).await;
        }
        if !asked.is_told() {
            proxy.refuse_unused(&asked);
        }
    })
}

/// Charges an answer of our own to the account.
fn told(mut response: Response<Answer>, mut account: Account) -> Response<Answer> {
    account.status = Some(response.status().as_u16());
    response.body_mut().charge(account);
    response
}

/// Reads a body away, if it is not too large and comes soon.
async fn read_away(mut body: Incoming, longest: Duration, mut most: usize) -> bool {
    let all = async {
        while let Some(frame) = body.frame().await {
            let size = frame.as_ref().map(|frame| frame.data_ref().map_or(0, Bytes::len));
            match size.ok().and_then(|size| most.checked_sub(size)) {
                Some(left) => most = left,
                None => return false,
            }
        }
        true
    };
    timeout(longest, all).await.unwrap_or(false)
}
