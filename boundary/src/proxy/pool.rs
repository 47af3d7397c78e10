//! Upstream connections that wait for their next request.
//!
//! *Standing*: [`super::upstream`] takes from it; the end of an answer's body puts back. *Never*:
//! lends a connection for another scheme, host or port than it was opened for, nor to a permit that
//! would not have dialled its address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, interval};

use super::Limits;
use super::body::Upload;
use super::shared::Lanes;
use crate::rules::{Host, Intent, Scheme};

/// What a connection was opened for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    scheme: Scheme,
    host: Host,
    port: u16,
}

impl Key {
    /// The key of an intent.
    pub(super) fn new(intent: &Intent) -> Self {
        Self { scheme: intent.scheme(), host: intent.host().clone(), port: intent.port() }
    }
}

/// A connection that can carry one request at a time: HTTP/1.1.
#[derive(Debug)]
pub(super) struct Idle {
    key: Key,
    /// The connection.
    pub(super) sender: SendRequest<Upload>,
    /// The address it leads to.
    pub(super) address: SocketAddr,
    since: Instant,
}

impl Idle {
    /// A new connection.
    pub(super) fn new(key: Key, sender: SendRequest<Upload>, address: SocketAddr) -> Self {
        Self { key, sender, address, since: Instant::now() }
    }
}

/// The connections, by what they were opened for.
#[derive(Debug)]
pub(super) struct Pool {
    shelves: Mutex<Shelves>,
    lanes: Arc<Lanes>,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Shelves {
    by_key: HashMap<Key, Vec<Idle>>,
    count: usize,
}

impl Pool {
    /// An empty pool.
    pub(super) fn new(limits: &Limits) -> Self {
        Self { shelves: Mutex::default(), lanes: Arc::default(), limits: limits.clone() }
    }

    /// The connections that many requests share.
    pub(super) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// The connection used last for this key whose address is admitted, if any still lives.
    pub(super) fn take(&self, key: &Key, admits: impl Fn(SocketAddr) -> bool) -> Option<Idle> {
        let mut all = self.lock();
        let waiting = all.by_key.get_mut(key)?;
        let before = waiting.len();
        waiting.retain(|idle| self.is_fresh(idle));
        let found = waiting.iter().rposition(|idle| admits(idle.address));
        let taken = found.map(|index| waiting.remove(index));
        let after = waiting.len();
        if after == 0 {
            all.by_key.remove(key);
        }
        all.count = all.count.saturating_sub(before.saturating_sub(after));
        taken
    }

    /// Puts a connection back when it is ready for another request.
    pub(super) fn put_back(self: &Arc<Self>, mut idle: Idle) {
        if idle.sender.is_ready() {
            self.keep(idle);
            return;
        }
        // The driver has still to see the end of the body.
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            if idle.sender.ready().await.is_ok() {
                pool.keep(idle);
            }
        });
    }

    /// Puts a connection on its waiting, unless there are enough.
    fn keep(&self, mut idle: Idle) {
        idle.since = Instant::now();
        let mut all = self.lock();
        if all.count >= self.limits.idle_upstream {
            return;
        }
        let waiting = all.by_key.entry(idle.key.clone()).or_default();
        if waiting.len() < self.limits.idle_per_host {
            waiting.push(idle);
            all.count += 1;
        }
    }

    /// Lets connections go that were idle too long, for as long as the session lasts.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut ticks = interval(self.limits.idle_upstream_time / 2);
        loop {
            ticks.tick().await;
            self.lanes.sweep(self.limits.idle_upstream_time);
            let mut shelves = self.lock();
            shelves.by_key.retain(|_, waiting| {
                waiting.retain(|idle| self.is_fresh(idle));
                !waiting.is_empty()
            });
            shelves.count = shelves.by_key.values().map(Vec::len).sum();
        }
    }

    fn is_fresh(&self, idle: &Idle) -> bool {
        !idle.sender.is_closed() && idle.since.elapsed() < self.limits.idle_upstream_time
    }

    /// A panic elsewhere cannot have left the shelves half-changed.
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
