//! The only way out.
//!
//! *Standing*: the doors come with a [`Permit`]; a name is resolved, every address it leads to is
//! held against the permit, and the address that was checked is the one dialled. Connections that
//! can be used again wait in the [`Pool`]. *Never*: connects without a permit, nor to an address
//! that no permit admitted, nor to a server whose certificate does not hold.

mod bare;
mod dial;
mod exchange;
mod failure;
mod patience;
mod questions;
mod tunnel;

pub(super) use bare::{Bare, Near};
pub(super) use dial::Route;
pub(super) use exchange::{Connection, Order, Reply, Way};
pub(super) use failure::{Failure, Stop};
pub(super) use tunnel::Line;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use self::dial::Dialler;
use super::Limits;
use super::gateway::Gateways;
use super::pool::Pool;
use crate::dns::Directory;
use crate::rules::{Intent, Permit, RuleSet};

/// What the user says of the way out.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// Roots to trust beside the system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// Which proxies to go by.
    pub gateways: Gateways,
    /// Ports of this machine's loopback that are boundary's own: for the command there is nobody.
    pub own: Vec<u16>,
    /// Which requests carry the number of their record.
    pub correlated: RuleSet,
    /// Where names are, if not by the system's resolver, which reads files that the command could write.
    pub directory: Option<Arc<Directory>>,
}

/// Everything that leads out.
#[derive(Debug)]
pub(super) struct Upstream {
    dialler: Dialler,
    pool: Arc<Pool>,
    limits: Limits,
    correlated: RuleSet,
}

impl Upstream {
    /// The way out that the user described.
    pub(super) fn new(egress: Egress, limits: &Limits) -> Self {
        let pool = Arc::new(Pool::new(limits));
        let correlated = egress.correlated.clone();
        Self { dialler: Dialler::new(egress, limits), pool, limits: limits.clone(), correlated }
    }

    /// Whether a request carries the number of its record.
    pub(super) fn correlates(&self, intent: &Intent) -> bool {
        self.correlated.targets(intent)
    }

    /// Whether a gateway is asked for an intent, whose address no permit is asked about.
    pub(super) fn goes_by_gateway(&self, intent: &Intent) -> bool {
        self.dialler.gateway(intent).is_some()
    }

    /// The pool, for its keeper.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
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
}
