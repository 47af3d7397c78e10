//! Upstream connections that wait for their next request.
//!
//! *Standing*: [`super::upstream`] takes from it; the end of an answer's body puts back. *Never*:
//! lends a connection for another scheme, host or port than it was opened for, nor to a permit that
//! would not have dialled its address.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, interval};

use super::Limits;
use super::body::Upload;
use super::shared::Lanes;
use super::upstream::Bare;
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
    /// What moves its bytes.
    pub(super) driver: Driver,
    /// The address it leads to.
    pub(super) address: SocketAddr,
    /// Nothing more can be asked on it.
    pub(super) is_last: bool,
    since: Instant,
}

impl Idle {
    /// A new connection.
    pub(super) fn new(
        key: Key,
        (sender, driver): (SendRequest<Upload>, Driver),
        address: SocketAddr,
    ) -> Self {
        Self { key, sender, driver, address, is_last: false, since: Instant::now() }
    }

    /// Whether it can carry a request, as far as anybody knows.
    fn is_alive(&mut self) -> bool {
        // While it waits nobody else sees that the upstream has closed, or spoken unasked.
        self.driver.drive(&mut Context::from_waker(Waker::noop()));
        !self.sender.is_closed()
    }
}

/// A connection that waits.
#[derive(Debug)]
pub(super) enum Kept {
    /// With the parser of the long way on it.
    Idle(Box<Idle>),
    /// As it is.
    Bare(Bare),
}

impl Kept {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Idle(idle) => idle.address,
            Self::Bare(bare) => bare.address,
        }
    }

    /// Whether it can carry a request, as far as anybody knows.
    fn is_alive(&mut self) -> bool {
        match self {
            Self::Idle(idle) => idle.is_alive(),
            Self::Bare(bare) => bare.is_alive(),
        }
    }

    /// Since when it waits.
    fn since(&self) -> Instant {
        match self {
            Self::Idle(idle) => idle.since,
            Self::Bare(bare) => bare.since,
        }
    }

    /// From now on it waits.
    fn waits(&mut self) {
        match self {
            Self::Idle(idle) => idle.since = Instant::now(),
            Self::Bare(bare) => bare.since = Instant::now(),
        }
    }

    fn key(&self) -> &Key {
        match self {
            Self::Idle(idle) => &idle.key,
            Self::Bare(bare) => &bare.key,
        }
    }
}

/// What moves the bytes of a connection: polled by whoever waits for the answer, which costs no
/// change from task to task; or a task of its own, where both directions have to go on by
/// themselves.
pub(super) struct Driver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Driver {
    /// A driver that is to be polled.
    pub(super) fn new(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(connection)))
    }

    /// Does what can be done now. At the connection's end it is gone, and the sender finds out.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
    }

    /// From here on it is a task of its own.
    pub(super) fn leave(&mut self) {
        if let Some(connection) = self.0.take() {
            tokio::spawn(connection);
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Driver").field(&self.0.is_some()).finish()
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
    by_key: HashMap<Key, Vec<Kept>>,
    count: usize,
}

impl Shelves {
    /// Puts one down behind all others of its key. What has to go for it, where there are as many as
    /// there may be in all, and for one key.
    fn put(&mut self, kept: Kept, (in_all, per_host): (usize, usize)) -> Option<Kept> {
        let of_key = self.by_key.get(kept.key()).map_or(0, Vec::len);
        let gone = if of_key >= per_host {
            self.take_first(&kept.key().clone())
        } else if self.count >= in_all {
            self.longest().and_then(|key| self.take_first(&key))
        } else {
            None
        };
        match self.by_key.get_mut(kept.key()) {
            Some(waiting) => waiting.push(kept),
            None => drop(self.by_key.insert(kept.key().clone(), vec![kept])),
        }
        self.count += 1;
        gone
    }

    /// What the one that waits for longest was opened for. Each key's stand in the order in which they
    /// came.
    fn longest(&self) -> Option<Key> {
        let firsts = self.by_key.iter().filter_map(|(key, all)| Some((all.first()?.since(), key)));
        firsts.min_by_key(|(since, _)| *since).map(|(_, key)| key.clone())
    }

    /// Takes the one of a key that waits for longest.
    fn take_first(&mut self, key: &Key) -> Option<Kept> {
        let waiting = self.by_key.get_mut(key).filter(|waiting| !waiting.is_empty())?;
        let first = waiting.remove(0);
        if waiting.is_empty() {
            self.by_key.remove(key);
        }
        self.count = self.count.saturating_sub(1);
        Some(first)
    }
}

impl Pool {
    /// An empty pool.
    pub(super) fn new(limits: &Limits) -> Self {
        let lanes = Arc::new(Lanes::new(limits.idle_upstream));
        Self { shelves: Mutex::default(), lanes, limits: limits.clone() }
    }

    /// The connections that many requests share.
    pub(super) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// The connection used last for this key whose address is admitted, if any still lives.
    pub(super) fn take(&self, key: &Key, admits: impl Fn(SocketAddr) -> bool) -> Option<Kept> {
        self.find(key, |kept| admits(kept.address()))
    }

    /// The same, of those that have nothing on them.
    pub(super) fn take_bare(&self, key: &Key, admits: impl Fn(SocketAddr) -> bool) -> Option<Bare> {
        let fits = |kept: &Kept| matches!(kept, Kept::Bare(_)) && admits(kept.address());
        match self.find(key, fits)? {
            Kept::Bare(bare) => Some(bare),
            Kept::Idle(_) => None,
        }
    }

    /// Takes the last that fits and lives.
    fn find(&self, key: &Key, fits: impl Fn(&Kept) -> bool) -> Option<Kept> {
        let mut all = self.lock();
        let waiting = all.by_key.get_mut(key)?;
        let before = waiting.len();
        let mut taken = None;
        while taken.is_none()
            && let Some(index) = waiting.iter().rposition(&fits)
        {
            let mut kept = waiting.remove(index);
            taken = self.is_fresh(&mut kept).then_some(kept);
        }
        let after = waiting.len();
        all.count = all.count.saturating_sub(before.saturating_sub(after));
        taken
    }

    /// Puts a connection back when it is ready for another request.
    pub(super) fn put_back(self: &Arc<Self>, mut idle: Idle) {
        if idle.is_last {
            return;
        }
        // The driver has still to see the end of the body.
        idle.driver.drive(&mut Context::from_waker(Waker::noop()));
        if idle.sender.is_ready() {
            self.keep(Kept::Idle(Box::new(idle)));
            return;
        }
        idle.driver.leave();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            if idle.sender.ready().await.is_ok() {
                pool.keep(Kept::Idle(Box::new(idle)));
            }
        });
    }

    /// Has a connection wait. Where enough wait, the one that does for longest goes.
    pub(super) fn keep(&self, mut kept: Kept) {
        let most = (self.limits.idle_upstream, self.limits.idle_per_host);
        if most.0 == 0 || most.1 == 0 {
            return;
        }
        kept.waits();
        let gone = self.lock().put(kept, most);
        // Closing takes its time, and nobody else has to wait for it.
        drop(gone);
    }

    /// Lets connections go that were idle too long, for as long as the session lasts.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut ticks = interval(self.limits.idle_upstream_time / 2);
        loop {
            ticks.tick().await;
            self.lanes.sweep(self.limits.idle_upstream_time);
            let mut shelves = self.lock();
            shelves.by_key.retain(|_, waiting| {
                waiting.retain_mut(|kept| self.is_fresh(kept));
                !waiting.is_empty()
            });
            shelves.count = shelves.by_key.values().map(Vec::len).sum();
        }
    }

    fn is_fresh(&self, kept: &mut Kept) -> bool {
        kept.is_alive() && kept.since().elapsed() < self.limits.idle_upstream_time
    }

    /// A panic elsewhere cannot have left the shelves half-changed.
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
