//! How much of everything there is right now.

use std::sync::PoisonError;

use super::Proxy;

/// What a proxy holds at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections of the command.
    pub connections: usize,
    /// Upstream connections that wait for their next request.
    pub idle: usize,
    /// Upstream connections that many requests share.
    pub shared: usize,
    /// Leaves in the authority's cache.
    pub leaves: usize,
    /// Names that have an address of their own.
    pub names: usize,
    /// Hosts that are known to speak HTTP/1.1 alone.
    pub plain: usize,
    /// Addresses of real answers that are known.
    pub answered: usize,
    /// Questions that are being asked outside.
    pub forwarded: usize,
    /// Flows that the jail knows and nobody has taken yet.
    pub flows: Option<usize>,
    /// Policies of rooms.
    pub rooms: usize,
    /// Bytes of what was learned, where the session learns.
    pub learned: Option<usize>,
}

impl Proxy {
    /// How many connections there are, on either side. Cheaper to ask for than everything.
    pub fn held(&self) -> usize {
        let open = self.limits.connections.saturating_sub(self.room.available_permits());
        open.saturating_add(self.upstream.pool().count())
    }

    /// What there is now.
    pub fn load(&self) -> Load {
        let pool = self.upstream.pool();
        Load {
            connections: self.limits.connections.saturating_sub(self.room.available_permits()),
            idle: pool.count(),
            shared: pool.lanes().count(),
            leaves: self.authority.count(),
            names: self.pins.count(),
            plain: pool.lanes().plain(),
            answered: self.pins.answered(),
            forwarded: self.resolver.forwarded(),
            flows: self.origin.count(),
            rooms: self.rules.count(),
            learned: self
                .lessons
                .as_ref()
                .map(|lessons| lessons.lock().unwrap_or_else(PoisonError::into_inner).held()),
        }
    }
}
