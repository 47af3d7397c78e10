//! The doors: Flow → Intent → ask → carry. Makes no decision.
//!
//! *Standing*: the session binds the [`Doors`] and starts a [`Proxy`] on them; each accepted
//! connection is a [`Flow`] that a jail's [`Origin`] knows, and [`Proxy::carry`] is its whole way
//! out. *Never*: decides (the rules do), or opens a socket outside [`upstream`].

mod body;
mod clock;
mod correlation;
mod crowd;
mod doors;
mod ending;
mod farewell;
mod flow;
mod frames;
mod framing;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway;
mod headers;
mod heads;
mod http;
mod http1;
mod http2;
mod identity;
mod limits;
mod load;
mod peek;
mod policy;
mod pool;
mod prompt;
mod refusal;
mod relay;
mod respond;
mod shared;
mod short;
mod tls;
mod trust;
mod turns;
mod upstream;
mod websocket;
mod weight;

#[cfg(test)]
mod tests;

pub use doors::{Closed, Doors};
pub use flow::{Flow, Origin};
pub use gateway::{Exempt, Gateway, Gateways, Invalid};
pub use limits::{BadLimit, Bound, Limits};
pub use load::Load;
pub use prompt::{MOST_ASKED, Question};
pub use trust::roots_in;
pub use upstream::Egress;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boundary_common::steer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::body::Account;
use self::ending::{Cut, Socket};
use self::flow::{Call, Target};
use self::identity::Heard;
use self::peek::{Greeting, Peeked, Rewind, Speech};
use self::relay::Ended;
use self::tls::Interception;
use self::upstream::{Stop, Upstream};
use self::weight::Weight;
use crate::audit::{Decision, Process, Recorder};
use crate::ca::Authority;
use crate::dns::{Pins, Resolver};
use crate::rules::{Code, Denial, Host, Intent, Lessons, Permit, Policies, RuleSet, Scheme};

/// Ports on which a client speaks first, so that its silence is only leisure.
const HTTP_PORTS: [u16; 5] = [80, 443, 3128, 8080, 8443];
/// How long accepting pauses when there are no descriptors, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A stream of bytes to or from somebody.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// What a proxy asks and tells.
pub struct Parts {
    /// Who decides.
    pub rules: Arc<Policies>,
    /// Who vouches for intercepted hosts.
    pub authority: Arc<Authority>,
    /// Which address stands for which name.
    pub pins: Arc<Pins>,
    /// Who answers questions.
    pub resolver: Arc<Resolver>,
    /// Who writes it down.
    pub recorder: Recorder,
    /// Who knows where a connection comes from.
    pub origin: Arc<dyn Origin>,
}

/// The proxy of a session.
pub struct Proxy {
    rules: Arc<Policies>,
    authority: Arc<Authority>,
    pins: Arc<Pins>,
    resolver: Arc<Resolver>,
    recorder: Recorder,
    origin: Arc<dyn Origin>,
    interception: Interception,
    upstream: Upstream,
    limits: Limits,
    room: Arc<Semaphore>,
    weight: Weight,
    porch: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    /// Told whenever another policy is in force.
    changed: watch::Sender<()>,
    /// What was refused last, by its number.
    denied: Mutex<VecDeque<policy::Denied>>,
    /// What is learned, where the session is for that.
    lessons: Option<Arc<Mutex<Lessons>>>,
    /// Who is asked where no rule permits, if anybody is.
    prompt: Option<mpsc::Sender<Question>>,
}

/// The proxy could not be made, or could not open its doors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// TLS towards the command could not be prepared.
    #[error("TLS towards the command could not be prepared")]
    Tls(#[from] rustls::Error),
    /// A listening socket could not be served.
    #[error("a listening socket could not be served")]
    Listen(#[source] io::Error),
}

impl Proxy {
    /// Makes a proxy.
    pub fn new(parts: Parts, limits: Limits, egress: Egress) -> Result<Self, Error> {
        let Parts { rules, authority, pins, resolver, recorder, origin } = parts;
        Ok(Self {
            rules,
            authority,
            pins,
            resolver,
            recorder,
            origin,
            interception: Interception::new()?,
            upstream: Upstream::new(egress, &limits),
            room: Arc::new(Semaphore::new(limits.connections)),
            weight: Weight::new(limits.memory),
            porch: Arc::new(Semaphore::new(crowd::PORCH)),
            closing: watch::Sender::new(false),
            changed: watch::Sender::new(()),
            denied: Mutex::default(),
            lessons: None,
            prompt: None,
            limits,
        })
    }

    /// Serves the doors until `shutdown`, then lets open connections finish for a while.
    pub async fn serve(
        self: Arc<Self>,
        doors: Doors,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Doors { tcp, dns } = doors;
        let mut loops = JoinSet::new();
        for door in tcp {
            door.set_nonblocking(true).map_err(Error::Listen)?;
            let listener = TcpListener::from_std(door).map_err(Error::Listen)?;
            loops.spawn(Arc::clone(&self).accept(listener));
        }
        // What never ends by itself; dropping the set ends it.
        let mut helpers = JoinSet::new();
        helpers.spawn(Arc::clone(self.upstream.pool()).sweep());
        for socket in dns {
            helpers.spawn(Arc::clone(&self).answer(socket));
        }
        shutdown.await;
        self.closing.send_replace(true);
        loops.join_all().await;
        Ok(())
    }

    /// Lets the resolver answer a socket's datagrams.
    async fn answer(self: Arc<Self>, socket: UdpSocket) {
        let asker = |client, asked| self.origin.asker(client, asked);
        let Err(error) = self.resolver.serve_udp(socket, asker).await;
        tracing::error!(%error, "the resolver cannot use its socket");
    }

    /// Accepts until the session ends. An error of accept is never the listener's end: without
    /// descriptors it pauses, and goes on when there are some.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut pause = PAUSE.0;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        pause = PAUSE.0;
                        self.admit(&mut connections, stream, client);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSE.1);
                    }
                },
                Some(_) = connections.join_next() => {}
                () = self.closing() => break,
            }
        }
        drop(listener);
        let drained =
            timeout(self.limits.drain, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::debug!(left = connections.len(), "connections cut off at the session's end");
            connections.shutdown().await;
        }
    }

    /// Gives a connection a task, if there is room. What the session did not open is closed.
    fn admit(
        self: &Arc<Self>,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        client: SocketAddr,
    ) {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let Some(flow) = self.flow(&stream, client) else {
            tracing::debug!(%client, "a connection that the session did not open was closed");
            return;
        };
        match room {
            Ok(room) if self.weight.has_room() => {
                drop(connections.spawn(Arc::clone(self).take(stream, flow, room)));
            }
            Ok(_) | Err(_) => self.turn_away(connections, stream, flow),
        }
    }

    /// What the jail knows of a connection. A fault in finding that out is this connection's end, and
    /// not that of everybody who comes after it.
    fn flow(&self, stream: &TcpStream, client: SocketAddr) -> Option<Flow> {
        let find = || {
            let turned_from = self.origin.turned_from(stream.as_fd()).ok()?;
            let local = turned_from.map_or_else(|| stream.local_addr(), Ok).ok()?;
            self.origin.flow(client, local)
        };
        catch_unwind(AssertUnwindSafe(find)).ok().flatten()
    }

    /// Takes an accepted connection from its flow to its end.
    async fn take(self: Arc<Self>, stream: TcpStream, flow: Flow, _room: OwnedSemaphorePermit) {
        // Without it every small write waits for the acknowledgement of the last: 40 ms each.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "client connection is gone");
            return;
        }
        match Call::new(flow, &self.pins) {
            Ok(call) => {
                let door = Socket::new(stream, call.cut.clone());
                self.carry(door, call).await;
            }
            Err(refused) => {
                let (subject, denial) = *refused;
                let cut = Cut::default();
                cut.mark();
                drop(Socket::new(stream, cut));
                drop(self.recorder.decide(&subject, Decision::Deny(denial)));
            }
        }
    }

    /// Carries a stream from its first byte to its last: the whole way out.
    ///
    /// Questions go to the resolver, whatever server they were meant for. A stream that a rule
    /// passes on by name and port is not even looked at, so that whoever speaks first is not
    /// delayed. Else the first bytes tell: TLS is passed on if a rule says so and answered by us if
    /// not; HTTP is served; anything else is refused.
    async fn carry<S: Stream>(self: Arc<Self>, stream: S, call: Call) {
        if call.target.host().is_some_and(|(_, port)| port == steer::DNS) {
            return self.resolve(stream, call).await;
        }
        if let Some(permit) = self.permit_stream(Scheme::Tcp, &call, None) {
            return self.pass(stream, &call, permit).await;
        }
        match peek::peek(stream, self.patience(&call), self.limits.head_time).await {
            Peeked::Closed => {}
            Peeked::Unclear(stream) => self.carry_unclear(stream, &call).await,
            Peeked::Http(stream) => {
                let heard = Heard::plain(&call);
                http1::serve(self, stream, call, heard).await;
            }
            Peeked::Http2(stream) => {
                let heard = Heard::plain(&call);
                http2::serve(self, stream, call, heard).await;
            }
            Peeked::Tls(greeting, stream) => match Heard::greeting(&call, &greeting) {
                Ok(heard) => self.carry_tls(*greeting, stream, call, heard).await,
                Err(denial) => self.cut_off(&call, denial),
            },
        }
    }

    /// Carries a TLS stream: unopened if a rule says so, else opened, and served as HTTP.
    async fn carry_tls<S: Stream>(
        self: Arc<Self>,
        greeting: Greeting,
        stream: S,
        call: Call,
        heard: Heard,
    ) {
        match self.permit_stream(Scheme::Tls, &call, heard.sni.as_ref()) {
            // Its greeting goes on as it is: what is in it is what was permitted, and nothing shorter.
            Some(permit)
                if heard.agrees_with(permit.intent()) && heard.is_in_full(permit.intent()) =>
            {
                self.pass(Rewind::new(greeting.seen, stream), &call, permit).await;
            }
            Some(permit) => {
                let intent = permit.intent().clone();
                self.cut_off(&call, Denial::of(Code::HostMismatch, intent));
            }
            None => match self.answer_as_host(greeting, stream, &heard).await {
                Some((stream, Speech::Http1)) => http1::serve(self, stream, call, heard).await,
                Some((stream, Speech::Http2)) => http2::serve(self, stream, call, heard).await,
                None => self.refuse_unfinished(&call, &heard),
            },
        }
    }

    /// Lets the resolver answer a stream of questions. One of anything else is cut off.
    async fn resolve<S: Stream>(&self, mut stream: S, call: Call) {
        let process = call.subject.process.map(Arc::unwrap_or_clone);
        if let Err(error) = self.resolver.serve_stream(&mut stream, process).await {
            tracing::debug!(%error, "a stream of questions broke");
            if error.kind() == io::ErrorKind::InvalidData {
                call.cut.mark();
            }
        }
    }

    /// The policy for whoever opened a call: boundary inside boundary has one of its own.
    fn rules_of(&self, call: &Call) -> Arc<RuleSet> {
        self.rules.of(Self::place(call))
    }

    /// Where whoever opened a call is: a cgroup or a room.
    fn place(call: &Call) -> u64 {
        call.subject.process.as_deref().map_or(0, Process::place)
    }

    /// The permit to pass a stream on unopened, if a rule says so.
    ///
    /// A program that connects to an address may name a host in its greeting, which has to be there.
    /// One that names none, and has the address from a real answer, means a name that the answer
    /// was for. Of several it is one that is permitted: what is dialled is that name, wherever it
    /// leads then, so that the program gets no further than by the name.
    fn permit_stream(&self, scheme: Scheme, call: &Call, named: Option<&Host>) -> Option<Permit> {
        let (target, port) = call.target.host()?;
        let rules = self.rules_of(call);
        let decide = |host: &Host| rules.decide(Intent::stream(scheme, host.clone(), port)).ok();
        if let Some(permit) = decide(target) {
            return Some(permit);
        }
        let (address, _) = call.target.address()?;
        match named {
            Some(named) => decide(named),
            None => self.pins.names_at(address).iter().rev().find_map(decide),
        }
    }

    /// The address at which a permitted host must be: the one that the program connected to, unless
    /// that was given to it for this host.
    fn meant(&self, target: &Target, permit: &Permit) -> Option<IpAddr> {
        let (address, _) = target.address()?;
        let host = permit.intent().host();
        let is_open = matches!(host, Host::Name(_)) && !self.pins.names_at(address).contains(host);
        is_open.then_some(address)
    }

    /// Passes a permitted stream on.
    async fn pass<S: Stream>(&self, mut stream: S, call: &Call, permit: Permit) {
        let permit = match self.recorded(permit) {
            Ok(permit) => permit,
            Err(denial) => return self.cut_off(call, denial),
        };
        let meant = self.meant(&call.target, &permit);
        let promise = self.promise(call, &permit);
        let found = self.upstream.route(&permit, meant).await;
        promise.taken_over();
        let route = match found {
            Err(Stop::Denied(denial)) => return self.cut_off(call, denial),
            Err(Stop::Failed(failure)) => Err(failure),
            Ok(route) => Ok(route),
        };
        let mut account = Account::new(self.allow(call, &permit));
        let dialled = match route {
            Ok(route) => self.upstream.dial(&permit, &route).await,
            Err(failure) => Err(failure),
        };
        match dialled {
            Ok((mut upstream, address)) => {
                account.dialled(address);
                let cut = upstream.cut();
                let (idle, closing) = (self.limits.stream_idle, self.closing());
                let ended = tokio::select! {
                    ended = relay::relay(&mut stream, &mut upstream, &account, idle, closing) => ended,
                    () = self.withdrawn(call, permit.intent(), address) => Ended::Broken,
                };
                ended.tell(&cut);
                ended.tell(&call.cut);
            }
            Err(failure) => {
                call.cut.mark();
                tracing::warn!(url = permit.intent().url(false), %failure, "not reached");
            }
        }
    }

    /// Finishes a TLS handshake as the host that the greeting, or else the connection, names. Which
    /// HTTP follows was agreed in it.
    async fn answer_as_host<S: Stream>(
        &self,
        greeting: Greeting,
        stream: S,
        heard: &Heard,
    ) -> Option<(impl Stream + use<S>, Speech)> {
        let host = heard.sni.as_ref().or(heard.target.host().map(|(host, _)| host))?;
        let leaf = match self.authority.leaf(host) {
            Ok(leaf) => leaf,
            Err(error) => {
                tracing::warn!(%host, %error, "no certificate for this host");
                return None;
            }
        };
        let handshake = self.interception.accept(greeting.accepted, stream, leaf);
        match timeout(self.limits.handshake_time, handshake).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let speech = if is_http2 { Speech::Http2 } else { Speech::Http1 };
                Some((stream, speech))
            }
            Ok(Err(error)) => {
                tracing::debug!(%host, %error, "the client did not finish its TLS handshake");
                None
            }
            Err(_) => None,
        }
    }

    /// How long a client may be silent at first. Where a rule has TLS, nobody waits for the server.
    fn patience(&self, call: &Call) -> Duration {
        match &call.target {
            Target::Host(_, port) if HTTP_PORTS.contains(port) => self.limits.head_time,
            Target::Host(..) if self.permit_stream(Scheme::Tls, call, None).is_none() => {
                self.limits.silence
            }
            Target::Host(..) | Target::Open => self.limits.head_time,
        }
    }

    /// Whether the session ends.
    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when the session ends.
    async fn closing(&self) {
        let mut closing = self.closing.subscribe();
        // An error means that the proxy itself is gone, which is an end too.
        drop(closing.wait_for(|is_closing| *is_closing).await);
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("limits", &self.limits).finish_non_exhaustive()
    }
}
