//! The only way out.
//!
//! *Standing*: the doors come with a [`Permit`]; a name is resolved, every address it leads to is
//! held against the permit, and the address that was checked is the one dialled. Connections that
//! can be used again wait in the [`Pool`]. *Never*: connects without a permit, nor to an address
//! that no permit admitted, nor to a server whose certificate does not hold.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::body::Upload;
use super::pool::{Idle, Key, Pool};
use super::trust::Trust;
use super::{Limits, Stream};
use crate::rules::{Code, Denial, Host, Permit, Scheme};

/// Everything that leads out.
#[derive(Debug)]
pub(super) struct Upstream {
    trust: Trust,
    pool: Arc<Pool>,
    limits: Limits,
}

/// Addresses that a permit admitted, in the order to try them. Made only by [`Upstream::way`].
#[derive(Debug)]
pub(super) struct Route {
    addresses: Vec<SocketAddr>,
}

/// How a permitted request gets out.
#[derive(Debug)]
pub(super) enum Way {
    /// On a connection that is there already.
    Idle(Box<Idle>),
    /// On a new one.
    Fresh(Route),
}

/// Why a permitted request does not get out.
#[derive(Debug)]
pub(super) enum Stop {
    /// The name leads where it must not.
    Denied(Denial),
    /// It could not be reached.
    Failed(Failure),
}

/// An upstream that was permitted and did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Failure {
    /// The name does not resolve.
    #[error("the name could not be resolved")]
    Unresolved(#[source] io::Error),
    /// No address takes a connection.
    #[error("{address} did not take the connection")]
    Unreachable {
        /// The last one that was tried.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("no connection in time")]
    TimedOut,
    /// The certificate does not hold.
    #[error("the upstream's certificate was not accepted")]
    Certificate(#[source] rustls::Error),
    /// The handshake failed for another reason.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The roots to trust could not be read.
    #[error("the certificates to trust could not be read")]
    Roots(#[source] io::Error),
    /// The connection broke before there was an answer, or the answer was none.
    #[error("the upstream broke the connection or its answer is not HTTP")]
    Broken(#[source] hyper::Error),
    /// The upstream switched to a protocol that nobody asked for.
    #[error("the upstream switched protocols unasked")]
    Switched,
    /// The canonical request cannot be written as HTTP/1.1.
    #[error("the request cannot be written as HTTP/1.1")]
    Unsayable,
}

/// An upstream's answer, and the connection to be used again when its body is over.
pub(super) struct Reply {
    /// The answer.
    pub(super) response: Response<Incoming>,
    /// The connection.
    pub(super) connection: Idle,
}

impl Upstream {
    /// A way out that trusts the system's roots and those in the files (PEM).
    pub(super) fn new(extra_roots: Vec<PathBuf>, limits: &Limits) -> Self {
        let pool = Arc::new(Pool::new(limits));
        Self { trust: Trust::new(extra_roots), pool, limits: limits.clone() }
    }

    /// The pool, for its keeper.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// How a permitted HTTP request gets out. `meant` is the address that the program connected
    /// to, where it did not get it from us: the host must be there, or the two disagree.
    pub(super) async fn way(&self, permit: &Permit, meant: Option<IpAddr>) -> Result<Way, Stop> {
        let admitted = |address: SocketAddr| {
            meant.is_none_or(|meant| meant == address.ip()) && permit.admits(address.ip()).is_ok()
        };
        match self.pool.take(&Key::new(permit.intent()), admitted) {
            Some(idle) => Ok(Way::Idle(Box::new(idle))),
            None => self.route(permit, meant).await.map(Way::Fresh),
        }
    }

    /// Where a permitted intent may be reached. Nothing is resolved for what is not permitted.
    pub(super) async fn route(
        &self,
        permit: &Permit,
        meant: Option<IpAddr>,
    ) -> Result<Route, Stop> {
        let intent = permit.intent();
        let mut addresses = match intent.host() {
            Host::Address(address) => vec![SocketAddr::new(*address, intent.port())],
            Host::Name(name) => self.resolve(name.as_str(), intent.port()).await?,
        };
        if let Some(meant) = meant {
            addresses.retain(|address| address.ip().to_canonical() == meant);
            if addresses.is_empty() {
                return Err(Stop::Denied(Denial::of(Code::HostMismatch, intent.clone())));
            }
        }
        let mut refused = None;
        addresses.retain(|address| match permit.admits(address.ip()) {
            Ok(()) => true,
            Err(denial) => {
                refused.get_or_insert(denial);
                false
            }
        });
        match refused {
            Some(denial) if addresses.is_empty() => Err(Stop::Denied(denial)),
            _ => Ok(Route { addresses }),
        }
    }

    /// Asks the system's resolver.
    async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Stop> {
        let failed = |source| Stop::Failed(Failure::Unresolved(source));
        let found = timeout(self.limits.dial, lookup_host((name, port)))
            .await
            .map_err(|late| failed(late.into()))?
            .map_err(failed)?;
        let addresses: Vec<_> = found.collect();
        if addresses.is_empty() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Ok(addresses)
    }

    /// Sends a request and waits for the head of its answer. `opened` hears which address carries
    /// it, once there is a connection.
    pub(super) async fn send(
        &self,
        permit: &Permit,
        way: Way,
        mut request: Request<Upload>,
        mut opened: impl FnMut(SocketAddr),
    ) -> Result<Reply, Failure> {
        let route = match way {
            Way::Fresh(route) => route,
            Way::Idle(mut connection) => {
                opened(connection.address);
                // An idle connection may die at any moment. What certainly did no harm goes again.
                let spare = Upload::spare(&request);
                match connection.sender.try_send_request(request).await {
                    Ok(response) => return Ok(Reply { response, connection: *connection }),
                    Err(mut lost) => {
                        // An answer that is garbled is an answer: the request arrived.
                        let spare = spare.filter(|_| !lost.error().is_parse());
                        match lost.take_message().or(spare) {
                            Some(again) => request = again,
                            None => return Err(Failure::Broken(lost.into_error())),
                        }
                        tracing::debug!(address = %connection.address, "a kept connection had died");
                    }
                }
                Route { addresses: vec![connection.address] }
            }
        };
        let mut connection = self.open(permit, &route).await?;
        opened(connection.address);
        match connection.sender.send_request(request).await {
            Ok(response) => Ok(Reply { response, connection }),
            Err(error) => Err(Failure::Broken(error)),
        }
    }

    /// Opens a connection for HTTP.
    async fn open(&self, permit: &Permit, route: &Route) -> Result<Idle, Failure> {
        let whole = async {
            let (stream, address) = self.dial(permit, route).await?;
            let sender = match permit.intent().scheme() {
                Scheme::Https => self.http(self.secure(permit, stream).await?).await,
                Scheme::Http | Scheme::Tls | Scheme::Tcp => self.http(stream).await,
            };
            let sender = sender.map_err(Failure::Broken)?;
            Ok(Idle::new(Key::new(permit.intent()), sender, address))
        };
        timeout(self.limits.dial, whole).await.unwrap_or(Err(Failure::TimedOut))
    }

    /// Dials a permitted intent: the route's addresses in order, the first that answers.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that dials")]
    pub(super) async fn dial(
        &self,
        permit: &Permit,
        route: &Route,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let mut last = Failure::TimedOut;
        for (index, &address) in route.addresses.iter().enumerate() {
            debug_assert!(permit.admits(address.ip()).is_ok(), "a route holds admitted addresses");
            let is_last = index + 1 == route.addresses.len();
            let patience = if is_last { self.limits.dial } else { self.limits.attempt };
            last = match timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it every small write waits for the acknowledgement of the last.
                    match stream.set_nodelay(true) {
                        Ok(()) => return Ok((stream, address)),
                        Err(source) => Failure::Unreachable { address, source },
                    }
                }
                Ok(Err(source)) => Failure::Unreachable { address, source },
                Err(_) => Failure::TimedOut,
            };
        }
        Err(last)
    }

    /// TLS to the permitted name, its certificate verified.
    async fn secure<S>(&self, permit: &Permit, stream: S) -> Result<impl Stream + use<S>, Failure>
    where
        S: Stream,
    {
        let name = match permit.intent().host() {
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| Failure::Handshake(io::Error::other(error)))?,
            Host::Address(address) => ServerName::from(*address),
        };
        let connector = self.trust.connector().await.map_err(Failure::Roots)?;
        connector.connect(name, stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls @ rustls::Error::InvalidCertificate(_)) => {
                    Failure::Certificate(tls.clone())
                }
                _ => Failure::Handshake(error),
            }
        })
    }

    /// An HTTP/1.1 client on a stream. Its driver ends with the connection.
    async fn http<S>(&self, stream: S) -> hyper::Result<http1::SendRequest<Upload>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.preserve_header_case(true).max_buf_size(self.limits.head_bytes.max(8 * 1024));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(sender)
    }
}

impl Failure {
    /// The failure as a short stable word.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unresolved(_) => "unresolved",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Certificate(_) => "bad_certificate",
            Self::Handshake(_) => "handshake_failed",
            Self::Roots(_) => "no_roots",
            Self::Broken(_) => "broken",
            Self::Switched => "switched",
            Self::Unsayable => "unsayable",
        }
    }

    /// The status that the client sees.
    pub(super) fn http_status(&self) -> u16 {
        match self {
            Self::TimedOut => 504,
            Self::Unresolved(_)
            | Self::Unreachable { .. }
            | Self::Certificate(_)
            | Self::Handshake(_)
            | Self::Roots(_)
            | Self::Broken(_)
            | Self::Switched
            | Self::Unsayable => 502,
        }
    }
}
