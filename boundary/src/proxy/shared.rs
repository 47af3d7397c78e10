//! Upstream connections that many requests share: HTTP/2.
//!
//! *Standing*: [`super::pool`] keeps them beside those that carry one request at a time; every
//! request has a [`Lane`] of one. *Never*: lends a lane for another scheme, host or port than the
//! connection was opened for, nor to a permit that would not have dialled its address.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;

use super::body::Upload;
use super::pool::Key;

/// Requests on one connection at once, where the upstream takes more.
const MOST_LANES: usize = 128;
/// What one answer may be ahead of its reader: enough for 100 Mbit/s over 160 ms.
pub(super) const STREAM_WINDOW: u32 = 2 << 20;
/// What all answers of a connection may be together: the bound of its memory.
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;
/// Answers of one connection that may wait for their readers: one more, and nothing would be left of its
/// window for anybody. Who comes then goes by another.
const MOST_UNREAD: usize = (CONNECTION_WINDOW / STREAM_WINDOW - 1) as usize;
/// How long a reader may be away before its answer counts as one that waits, in milliseconds.
const UNREAD: u64 = 250;
/// In place of a time: an answer that does not wait for its reader, and none.
const READ: u64 = 0;
const FREE: u64 = u64::MAX;
/// Hosts of which it is remembered that they speak HTTP/1.1 alone.
const MOST_PLAIN: usize = 4096;

/// What the driver of a connection and its lanes tell each other.
#[derive(Debug)]
pub(super) struct Load {
    /// Lanes in use.
    open: AtomicUsize,
    /// How many the upstream allows.
    most: AtomicUsize,
    /// Whether it takes an extended CONNECT (RFC 8441).
    takes_connect: AtomicBool,
    /// Whether it takes no more requests.
    is_gone: AtomicBool,
    /// When the last lane was given back.
    since: Mutex<Instant>,
    /// When it was opened.
    born: Instant,
    /// One for each lane: when its answer began to wait for its reader, in milliseconds since then;
    /// [`READ`], or [`FREE`].
    unread: [AtomicU64; MOST_LANES],
}

impl Load {
    /// A connection that carries nothing.
    pub(super) fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(MOST_LANES),
            takes_connect: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            since: Mutex::new(Instant::now()),
            born: Instant::now(),
            unread: [const { AtomicU64::new(FREE) }; MOST_LANES],
        }
    }

    /// What the upstream announced last.
    pub(super) fn announced(&self, most: usize, takes_connect: bool) {
        self.most.store(most.min(MOST_LANES), Ordering::Relaxed);
        self.takes_connect.store(takes_connect, Ordering::Relaxed);
    }

    /// From here on nobody gets a lane.
    pub(super) fn end(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// Takes one more lane, if there is room.
    fn enter(self: &Arc<Self>) -> bool {
        if self.open.load(Ordering::Acquire) >= MOST_UNREAD && self.unread() >= MOST_UNREAD {
            return false;
        }
        let most = self.most.load(Ordering::Relaxed);
        let enter = |open| (open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// How many answers wait for their readers.
    fn unread(&self) -> usize {
        let now = self.now();
        let waits = |since: &&AtomicU64| match since.load(Ordering::Relaxed) {
            READ | FREE => false,
            since => now.saturating_sub(since) >= UNREAD,
        };
        self.unread.iter().filter(waits).count()
    }

    /// The number of a new lane.
    fn number(&self) -> u8 {
        let (done, not) = (Ordering::AcqRel, Ordering::Relaxed);
        let takes = |it: &AtomicU64| it.compare_exchange(FREE, READ, done, not).is_ok();
        let number = self.unread.iter().position(takes);
        number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
    }

    /// What a lane's answer waits for.
    fn set(&self, number: u8, since: u64) {
        if let Some(unread) = self.unread.get(usize::from(number)) {
            unread.store(since, Ordering::Release);
        }
    }

    /// Milliseconds since the beginning.
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(FREE).clamp(READ + 1, FREE - 1)
    }

    /// Nothing panics while it is held.
    fn since(&self) -> MutexGuard<'_, Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, as long as it is shared.
#[derive(Debug)]
struct Shared {
    sender: SendRequest<Upload>,
    address: SocketAddr,
    load: Arc<Load>,
    /// The upstream takes nothing else: also a request that prefers HTTP/1.1 goes here.
    is_only: bool,
}

impl Shared {
    /// A lane, if there is one.
    fn lane(&self) -> Option<Lane> {
        self.load.enter().then(|| Lane::of(self))
    }

    fn is_busy(&self) -> bool {
        self.load.open.load(Ordering::Acquire) > 0
    }

    fn is_alive(&self) -> bool {
        !self.sender.is_closed() && !self.load.is_gone.load(Ordering::Relaxed)
    }
}

/// Room for one request on a shared connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Lane {
    sender: SendRequest<Upload>,
    /// The address it leads to.
    pub(super) address: SocketAddr,
    load: Arc<Load>,
    /// While an answer is awaited: from when on nobody knows whether there is anybody at the other end.
    doubt: Option<Instant>,
    /// Which of its connection's it is.
    number: u8,
}

impl Lane {
    /// One that is counted already.
    fn of(Shared { sender, address, load, .. }: &Shared) -> Self {
        let (sender, address, load) = (sender.clone(), *address, Arc::clone(load));
        let number = load.number();
        Self { sender, address, load, doubt: None, number }
    }

    /// Its answer waits from now on: for its reader, or for its upstream.
    pub(super) fn waits(&self, for_reader: bool) {
        self.load.set(self.number, if for_reader { self.load.now() } else { READ });
    }

    /// Sends a request, and waits for the head of its answer. Whoever gives up after the time at which
    /// the connection becomes doubtful abandons it.
    pub(super) async fn ask(
        &mut self,
        request: Request<Upload>,
        doubt: Option<Instant>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        self.doubt = doubt;
        let answer = self.sender.try_send_request(request).await;
        self.doubt = None;
        answer
    }

    /// Nobody else gets a lane of this connection.
    pub(super) fn abandon(&self) {
        self.load.end();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.doubt.is_some_and(|doubt| doubt <= Instant::now()) {
            self.abandon();
        }
        self.load.set(self.number, FREE);
        self.load.open.fetch_sub(1, Ordering::AcqRel);
        *self.load.since() = Instant::now();
    }
}

/// What a request needs of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// HTTP/1.1 would do better: only a connection without an alternative.
    pub(super) only: bool,
    /// It asks for a switch of protocols.
    pub(super) connect: bool,
}

/// All of them, by what they were opened for.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
    /// How many may be there on which nothing is carried.
    most_idle: usize,
}

#[derive(Debug, Default)]
struct State {
    by_key: HashMap<Key, Vec<Shared>>,
    /// Who is being opened now.
    opening: HashMap<Key, watch::Receiver<()>>,
    /// Who was offered HTTP/2 and chose HTTP/1.1.
    plain: HashSet<Key>,
}

impl State {
    /// Lets the connections go of which this is not so.
    fn keep(&mut self, is_so: impl Fn(&Shared) -> bool) {
        self.by_key.retain(|_, connections| {
            connections.retain(&is_so);
            !connections.is_empty()
        });
    }

    /// Lets those go that carried nothing for longest, where more than so many carry nothing.
    fn trim(&mut self, most_idle: usize) {
        let idle = self.by_key.values().flatten().filter(|shared| !shared.is_busy());
        let mut since: Vec<Instant> = idle.map(|shared| *shared.load.since()).collect();
        let Some(excess @ 1..) = since.len().checked_sub(most_idle) else { return };
        since.sort_unstable();
        if let Some(last) = since.get(excess.saturating_sub(1)).copied() {
            self.keep(|shared| shared.is_busy() || *shared.load.since() > last);
        }
    }
}

/// Says that a connection is being opened; dropping it says that it is, or is not.
pub(super) struct Opening {
    lanes: Arc<Lanes>,
    key: Key,
    _told: watch::Sender<()>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.lanes.lock().opening.remove(&self.key);
    }
}

impl Lanes {
    /// None yet, of which so many may wait for their next request.
    pub(super) fn new(most_idle: usize) -> Self {
        Self { most_idle, ..Self::default() }
    }

    /// How many connections are shared.
    pub(super) fn count(&self) -> usize {
        self.lock().by_key.values().map(Vec::len).sum()
    }

    /// How many hosts are known to speak HTTP/1.1 alone.
    pub(super) fn plain(&self) -> usize {
        self.lock().plain.len()
    }

    /// A lane for this key on a connection whose address is admitted.
    pub(super) fn take(
        &self,
        key: &Key,
        need: Need,
        admits: impl Fn(SocketAddr) -> bool,
    ) -> Option<Lane> {
        let mut state = self.lock();
        let connections = state.by_key.get_mut(key)?;
        connections.retain(Shared::is_alive);
        let fits = |shared: &&Shared| {
            let takes = !need.connect || shared.load.takes_connect.load(Ordering::Relaxed);
            takes && (shared.is_only || !need.only) && admits(shared.address)
        };
        connections.iter().filter(fits).find_map(Shared::lane)
    }

    /// The right to open a connection for this key: a burst of requests to a new host opens one,
    /// and whoever comes meanwhile waits for it. `None` after waiting, or when there is nothing to
    /// wait for: the host is known to share none.
    pub(super) async fn opening(self: &Arc<Self>, key: &Key) -> Option<Opening> {
        let mut other = {
            let mut state = self.lock();
            if state.plain.contains(key) {
                return None;
            }
            let Some(other) = state.opening.get(key) else {
                let (told, telling) = watch::channel(());
                state.opening.insert(key.clone(), telling);
                return Some(Opening { lanes: Arc::clone(self), key: key.clone(), _told: told });
            };
            other.clone()
        };
        // An error says that it is open, or will not be.
        drop(other.changed().await);
        None
    }

    /// Remembers that nobody needs to wait for a shared connection to this key.
    pub(super) fn note_plain(&self, key: &Key) {
        let mut state = self.lock();
        if state.plain.len() < MOST_PLAIN {
            state.plain.insert(key.clone());
        }
    }

    /// Shares a new connection, and takes its first lane.
    pub(super) fn share(
        &self,
        key: &Key,
        sender: SendRequest<Upload>,
        address: SocketAddr,
        (load, is_only): (Arc<Load>, bool),
    ) -> Lane {
        load.open.fetch_add(1, Ordering::AcqRel);
        let shared = Shared { sender, address, load, is_only };
        let lane = Lane::of(&shared);
        let mut state = self.lock();
        state.plain.remove(key);
        state.by_key.entry(key.clone()).or_default().push(shared);
        state.trim(self.most_idle);
        lane
    }

    /// Lets connections go that are gone, or carried nothing for so long.
    pub(super) fn sweep(&self, longest: Duration) {
        let mut state = self.lock();
        state.keep(|shared| {
            shared.is_alive() && (shared.is_busy() || shared.load.since().elapsed() < longest)
        });
        state.trim(self.most_idle);
    }

    /// A panic elsewhere cannot have left the state half-changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http2::handshake;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::duplex;

    use super::*;
    use crate::rules::{Host, Intent, Scheme};

    fn key(port: u16) -> Key {
        let host = Host::parse("a.test").unwrap();
        Key::new(&Intent::http(Scheme::Https, "GET", host, port, "/").unwrap())
    }

    #[tokio::test]
    async fn connections_that_carry_nothing_are_bounded_and_the_longest_idle_goes() {
        let lanes = Lanes::new(2);
        let mut held = Vec::new();
        for port in 1..=4 {
            let (near, far) = duplex(4096);
            let made = handshake(TokioExecutor::new(), TokioIo::new(near)).await;
            let (sender, connection) = made.unwrap();
            held.push((far, tokio::spawn(connection)));
            let address = ([127, 0, 0, 1], port).into();
            let load = (Arc::new(Load::new()), false);
            drop(lanes.share(&key(port), sender, address, load));
        }
        assert_eq!(lanes.count(), 3, "two that waited, and the one that was in use");
        lanes.sweep(Duration::from_hours(1));
        assert_eq!(lanes.count(), 2);
        let need = Need { only: false, connect: false };
        assert!(lanes.take(&key(4), need, |_| true).is_some(), "the last is kept");
        assert!(lanes.take(&key(1), need, |_| true).is_none(), "the first is gone");
    }

    #[tokio::test]
    async fn so_many_hosts_are_known_to_share_nothing_and_the_next_is_asked_each_time() {
        let lanes = Arc::new(Lanes::new(2));
        for port in 1..=5000 {
            lanes.note_plain(&key(port));
        }
        assert_eq!(lanes.plain(), 4096);
        assert!(lanes.opening(&key(4096)).await.is_none(), "there is nothing to wait for");
        for _ in 0..2 {
            assert!(lanes.opening(&key(4097)).await.is_some(), "it may share one now");
        }
    }
}
