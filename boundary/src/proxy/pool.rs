//! Upstream connections that wait for their next request.
//!
//! *Standing*: [`super::upstream`] takes from it; the end of an answer's body puts back. *Never*:
//! lends a connection for another scheme, host or port than it was opened for, nor to a permit that
//! would not have dialled its address.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, interval};

use super::Limits;
use super::body::Upload;
use super::ending::Cut;
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
    /// By which it is cut off.
    pub(super) cut: Cut,
    /// Nothing more can be asked on it.
    pub(super) is_last: bool,
    since: Instant,
}

impl Idle {
    /// A new connection.
    pub(super) fn new(
        key: Key,
        (sender, driver): (SendRequest<Upload>, Driver),
        (address, cut): (SocketAddr, Cut),
    ) -> Self {
        Self { key, sender, driver, address, cut, is_last: false, since: Instant::now() }
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

/// What waits, by the order in which it came; and what waits for a key, the first to come first. Every
/// ticket of the one stands in the other.
#[derive(Debug, Default)]
struct Shelves {
    by_age: BTreeMap<Ticket, Kept>,
    by_key: HashMap<Key, Vec<Ticket>>,
    next: Ticket,
}

/// Stands for one connection for as long as it waits. A later one is larger.
type Ticket = u64;

impl Shelves {
    /// Puts one down behind all others. What has to go for it, where there are as many as there may be
    /// in all, and for one key.
    fn put(&mut self, kept: Kept, (in_all, per_host): (usize, usize)) -> Option<Kept> {
        let of_key = self.by_key.get(kept.key()).map_or(&[][..], Vec::as_slice);
        let longest = if of_key.len() >= per_host {
            of_key.first().copied()
        } else if self.by_age.len() >= in_all {
            self.by_age.first_key_value().map(|(ticket, _)| *ticket)
        } else {
            None
        };
        let gone = longest.and_then(|ticket| self.let_go(ticket));
        let ticket = self.next;
        self.next = ticket.saturating_add(1);
        match self.by_key.get_mut(kept.key()) {
            Some(waiting) => waiting.push(ticket),
            None => drop(self.by_key.insert(kept.key().clone(), vec![ticket])),
        }
        self.by_age.insert(ticket, kept);
        gone
    }

    /// The one that came last of those that wait for a key and fit.
    fn last(&self, key: &Key, fits: impl Fn(&Kept) -> bool) -> Option<Ticket> {
        let fits = |ticket: &&Ticket| self.by_age.get(ticket).is_some_and(&fits);
        self.by_key.get(key)?.iter().rev().find(fits).copied()
    }

    /// Takes one away that will be back before long: what it stood in stays for it.
    fn take(&mut self, ticket: Ticket) -> Option<Kept> {
        let kept = self.by_age.remove(&ticket)?;
        if let Some(waiting) = self.by_key.get_mut(kept.key()) {
            waiting.retain(|other| *other != ticket);
        }
        Some(kept)
    }

    /// Takes one away for good.
    fn let_go(&mut self, ticket: Ticket) -> Option<Kept> {
        let kept = self.take(ticket)?;
        if self.by_key.get(kept.key()).is_some_and(Vec::is_empty) {
            self.by_key.remove(kept.key());
        }
        Some(kept)
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
        self.lock().by_age.len()
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
        while let Some(ticket) = all.last(key, &fits) {
            let mut kept = all.take(ticket)?;
            if self.is_fresh(&mut kept) {
                return Some(kept);
            }
        }
        None
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
            let is_stale =
                |(ticket, kept): (&Ticket, &mut Kept)| (!self.is_fresh(kept)).then_some(*ticket);
            let stale: Vec<Ticket> = shelves.by_age.iter_mut().filter_map(is_stale).collect();
            for ticket in stale {
                drop(shelves.take(ticket));
            }
            shelves.by_key.retain(|_, waiting| !waiting.is_empty());
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
