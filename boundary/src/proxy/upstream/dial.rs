//! Making connections: where a permit leads, and TLS on top.
//!
//! *Standing*: [`super::Upstream`] asks for a [`Route`] before a request is recorded as allowed, and
//! dials it when there is no kept connection. *Never*: connects to an address that no permit
//! admitted, nor to a server whose certificate does not hold.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::InvalidMessage;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::questions::Questions;
use super::tunnel::Line;
use super::{Egress, Failure, Order, Stop};
use crate::proxy::ending::keep_alive;
use crate::proxy::gateway::{Gateway, Gateways};
use crate::proxy::trust::Trust;
use crate::proxy::{Limits, Stream};
use crate::rules::{Code, Denial, Host, Intent, Permit};

/// What makes connections.
#[derive(Debug)]
pub(super) struct Dialler {
    trust: Trust,
    gateways: Gateways,
    questions: Questions,
    own: Vec<u16>,
    limits: Limits,
}

/// Where a permitted intent is dialled. Made only by [`Dialler::route`] and [`Dialler::again`].
#[derive(Debug)]
pub(in crate::proxy) enum Route {
    /// At addresses that the permit admitted, in the order to try them.
    Direct(Vec<SocketAddr>),
    /// By a gateway, which gets the name as it is and resolves it.
    Through(Arc<Gateway>),
}

impl Route {
    /// Whether it leads to an address.
    pub(super) fn leads_to(&self, address: SocketAddr) -> bool {
        match self {
            Self::Direct(addresses) => addresses.contains(&address),
            Self::Through(_) => true,
        }
    }
}

impl Dialler {
    /// A dialler that goes by the user's gateways and trusts the user's roots.
    pub(super) fn new(egress: Egress, limits: &Limits) -> Self {
        let Egress { roots, gateways, own, correlated: _, directory } = egress;
        let questions = Questions::to(directory);
        Self { trust: Trust::new(roots), gateways, questions, own, limits: limits.clone() }
    }

    /// The gateway that an intent leaves by.
    pub(super) fn gateway(&self, intent: &Intent) -> Option<&Arc<Gateway>> {
        self.gateways.of(intent)
    }

    /// Where a permitted intent may be reached. Nothing is resolved for what is not permitted.
    ///
    /// What leaves by a gateway is resolved there, where its addresses cannot be held against the
    /// permit. One check stays: a program that connected to an address has to mean a host that is
    /// there, as far as this machine's resolver knows it.
    pub(super) async fn route(
        &self,
        permit: &Permit,
        meant: Option<IpAddr>,
    ) -> Result<Route, Stop> {
        match (self.gateway(permit.intent()), meant) {
            (None, _) => self.direct(permit, meant).await.map(Route::Direct),
            // A gateway on this machine would reach what is boundary's own.
            (Some(gateway), None) if !self.own.contains(&permit.intent().port()) => {
                Ok(Route::Through(Arc::clone(gateway)))
            }
            (Some(gateway), _) => {
                self.direct(permit, meant).await?;
                Ok(Route::Through(Arc::clone(gateway)))
            }
        }
    }

    /// The route of a kept connection that had died: to wherever its host is by now, else once more to
    /// where it was.
    pub(super) async fn again(&self, order: &Order<'_>, address: SocketAddr) -> Route {
        let found = self.route(order.permit, order.meant).await;
        found.unwrap_or_else(|_| match self.gateway(order.intent()) {
            Some(gateway) => Route::Through(Arc::clone(gateway)),
            None => Route::Direct(vec![address]),
        })
    }

    /// The admitted addresses of a permitted intent.
    async fn direct(
        &self,
        permit: &Permit,
        meant: Option<IpAddr>,
    ) -> Result<Vec<SocketAddr>, Stop> {
        let intent = permit.intent();
        let mut addresses =
            self.resolve(intent.host(), intent.port()).await.map_err(Stop::Failed)?;
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
        if let Some(denial) = refused.filter(|_| addresses.is_empty()) {
            return Err(Stop::Denied(denial));
        }
        match addresses.iter().find(|address| self.is_own(**address)) {
            Some(own) => Err(Stop::Failed(nobody(*own))),
            None => Ok(addresses),
        }
    }

    /// Whether boundary itself listens there, for operators.
    fn is_own(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.own.contains(&address.port()) && (ip.is_loopback() || ip.is_unspecified())
    }

    /// Where a host is: the system's resolver knows names.
    pub(super) async fn resolve(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let name = match host {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Host::Name(name) => name.as_str(),
        };
        let found = timeout(self.limits.dial, self.questions.ask(name))
            .await
            .map_err(|late| Failure::Unresolved(late.into()))?
            .map_err(Failure::Unresolved)?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    /// Dials a permitted intent.
    pub(super) async fn dial(
        &self,
        permit: &Permit,
        route: &Route,
    ) -> Result<(Line, SocketAddr), Failure> {
        match route {
            Route::Direct(addresses) => {
                let is_admitted = |address: &SocketAddr| permit.admits(address.ip()).is_ok();
                debug_assert!(
                    addresses.iter().all(is_admitted),
                    "a route's addresses are admitted"
                );
                let (stream, address) = self.first(addresses).await?;
                Ok((Line::direct(stream), address))
            }
            Route::Through(gateway) => {
                let through = self.through(gateway, permit.intent());
                timeout(self.limits.dial, through).await.unwrap_or(Err(Failure::TimedOut))
            }
        }
    }

    /// The addresses in order, the first that answers.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that dials")]
    pub(super) async fn first(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let mut last = Failure::TimedOut;
        if let Some(own) = addresses.iter().find(|address| self.is_own(**address)) {
            return Err(nobody(*own));
        }
        for (index, &address) in addresses.iter().enumerate() {
            let is_last = index + 1 == addresses.len();
            let patience = if is_last { self.limits.dial } else { self.limits.attempt };
            last = match timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    keep_alive(&stream);
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

    /// TLS to the permitted name, its certificate verified. What is offered to be spoken inside is
    /// said in the order of preference.
    pub(super) async fn secure<S: Stream>(
        &self,
        permit: &Permit,
        stream: S,
        offer: &[&[u8]],
    ) -> Result<TlsStream<S>, Failure> {
        self.handshake(permit.intent().host(), stream, offer).await
    }

    /// TLS to a host, its certificate verified.
    pub(super) async fn handshake<S: Stream>(
        &self,
        host: &Host,
        stream: S,
        offer: &[&[u8]],
    ) -> Result<TlsStream<S>, Failure> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| Failure::Handshake(io::Error::other(error)))?,
            Host::Address(address) => ServerName::from(*address),
        };
        let connector = self.trust.connector().await.map_err(Failure::Roots)?;
        let offer = offer.iter().map(|protocol| protocol.to_vec()).collect();
        connector.with_alpn(offer).connect(name, stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls @ rustls::Error::InvalidCertificate(_)) => {
                    Failure::Certificate(tls.clone())
                }
                Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                    Failure::NotTls
                }
                _ => Failure::Handshake(error),
            }
        })
    }
}

#[cfg(test)]
impl super::Upstream {
    /// Has nobody answer what is asked about a name.
    pub(in crate::proxy) fn stall(&self, name: &str) {
        self.dialler.questions.stall(name);
    }

    /// How many wait for that.
    pub(in crate::proxy) fn waiting(&self, name: &str) -> usize {
        self.dialler.questions.waiting(name)
    }
}

/// As if nobody listened there.
fn nobody(address: SocketAddr) -> Failure {
    Failure::Unreachable { address, source: io::ErrorKind::ConnectionRefused.into() }
}
