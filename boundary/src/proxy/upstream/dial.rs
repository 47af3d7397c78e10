//! Making connections: where a permit leads, and TLS on top.
//!
//! *Standing*: [`super::Upstream`] asks for a [`Route`] before a request is recorded as allowed, and
//! dials it when there is no kept connection. *Never*: connects to an address that no permit
//! admitted, nor to a server whose certificate does not hold.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{Failure, Stop};
use crate::proxy::trust::Trust;
use crate::proxy::{Limits, Stream};
use crate::rules::{Code, Denial, Host, Permit};

/// What makes connections.
#[derive(Debug)]
pub(super) struct Dialler {
    trust: Trust,
    limits: Limits,
}

/// Addresses that a permit admitted, in the order to try them. Made only by [`Dialler::route`].
#[derive(Debug)]
pub(in crate::proxy) struct Route {
    pub(super) addresses: Vec<SocketAddr>,
}

impl Dialler {
    /// One that trusts the system's roots and those in the files (PEM).
    pub(super) fn new(extra_roots: Vec<PathBuf>, limits: &Limits) -> Self {
        Self { trust: Trust::new(extra_roots), limits: limits.clone() }
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
    pub(super) async fn secure<S>(
        &self,
        permit: &Permit,
        stream: S,
    ) -> Result<impl Stream + use<S>, Failure>
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
}
