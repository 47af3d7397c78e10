//! The only way out.
//!
//! *Standing*: the doors come with a [`Permit`]; a name is resolved, every address it leads to is
//! held against the permit, and the address that was checked is the one dialled. Connections that
//! can be used again wait in the [`Pool`]. *Never*: connects without a permit, nor to an address
//! that no permit admitted, nor to a server whose certificate does not hold.

mod dial;
mod failure;
mod tunnel;

pub(super) use dial::Route;
pub(super) use failure::{Failure, Stop};
pub(super) use tunnel::Line;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use self::dial::Dialler;
use super::Limits;
use super::body::Upload;
use super::gateway::Gateways;
use super::pool::{Idle, Key, Pool};
use crate::rules::{Permit, Scheme};

/// What the user says of the way out.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// PEM files with roots to trust beside the system's. They are read before the first dial.
    pub roots: Vec<PathBuf>,
    /// Which proxies to go by.
    pub gateways: Gateways,
}

/// Everything that leads out.
#[derive(Debug)]
pub(super) struct Upstream {
    dialler: Dialler,
    pool: Arc<Pool>,
    limits: Limits,
}

/// How a permitted request gets out.
#[derive(Debug)]
pub(super) enum Way {
    /// On a connection that is there already.
    Idle(Box<Idle>),
    /// On a new one.
    Fresh(Route),
}

/// An upstream's answer, and the connection to be used again when its body is over.
pub(super) struct Reply {
    /// The answer.
    pub(super) response: Response<Incoming>,
    /// The connection.
    pub(super) connection: Idle,
}

impl Upstream {
    /// The way out that the user described.
    pub(super) fn new(egress: Egress, limits: &Limits) -> Self {
        let pool = Arc::new(Pool::new(limits));
        Self { dialler: Dialler::new(egress, limits), pool, limits: limits.clone() }
    }

    /// The pool, for its keeper.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// How a permitted HTTP request gets out. `meant` is the address that the program connected
    /// to, where it did not get it from us: the host must be there, or the two disagree.
    pub(super) async fn way(&self, permit: &Permit, meant: Option<IpAddr>) -> Result<Way, Stop> {
        if self.dialler.gateway(permit.intent()).is_some() {
            // The address is the gateway's, which no permit is asked about.
            let route = self.route(permit, meant).await?;
            let kept = self.pool.take(&Key::new(permit.intent()), |_| true);
            return Ok(kept.map_or(Way::Fresh(route), |idle| Way::Idle(Box::new(idle))));
        }
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
        self.dialler.route(permit, meant).await
    }

    /// Dials a permitted intent, for a stream that is passed on unopened.
    pub(super) async fn dial(
        &self,
        permit: &Permit,
        route: &Route,
    ) -> Result<(Line, SocketAddr), Failure> {
        self.dialler.dial(permit, route).await
    }

    /// Sends a request and waits for the head of its answer. `opened` hears which address carries
    /// it, once there is a connection.
    pub(super) async fn send(
        &self,
        permit: &Permit,
        way: Way,
        mut request: Request<Upload>,
        opened: impl FnMut(SocketAddr),
    ) -> Result<Reply, Failure> {
        let intent = permit.intent();
        let asked = self.dialler.gateway(intent).filter(|_| intent.scheme() == Scheme::Http);
        let Some(gateway) = asked else {
            return self.exchange(permit, way, request, opened).await;
        };
        tunnel::ask_gateway(gateway, intent, &mut request).ok_or(Failure::Unsayable)?;
        let reply = self.exchange(permit, way, request, opened).await?;
        if reply.response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            // No origin says this, and the client has no credentials of ours to offer.
            let (gateway, status) = (Arc::clone(gateway), reply.response.status().as_u16());
            return Err(Failure::Refused { gateway, status });
        }
        Ok(reply)
    }

    /// Sends a request as it is, on a kept connection or a new one.
    async fn exchange(
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
                self.dialler.again(permit, connection.address)
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
            let (stream, address) = self.dialler.dial(permit, route).await?;
            let sender = match permit.intent().scheme() {
                Scheme::Https => self.http(self.dialler.secure(permit, stream).await?).await,
                Scheme::Http | Scheme::Tls | Scheme::Tcp => self.http(stream).await,
            };
            let sender = sender.map_err(Failure::Broken)?;
            Ok(Idle::new(Key::new(permit.intent()), sender, address))
        };
        timeout(self.limits.dial, whole).await.unwrap_or(Err(Failure::TimedOut))
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
