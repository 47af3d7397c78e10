//! The proxy as the fuzzers see it: a client's bytes go in at a door.
//!
//! *Standing*: `fuzz/` is built with `--cfg fuzzing`, and so is this. *Never*: part of a program that
//! is shipped.

#![expect(missing_debug_implementations, reason = "nobody prints a scene")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::flow::Call;
use super::framing::{self, Fault};
use super::peek::{Peeked, peek};
use super::{Egress, Flow, Limits, Origin, Parts, Proxy};
use crate::audit::{Door, Format, Log, Process, Recorder, Session, Sinks};
use crate::ca::Authority;
use crate::dns::{Pins, Resolver};
use crate::rules::{DomainMatch, Policies, Rule, RuleSet};

/// Longer than anything takes that does not hang. Every limit's clock is far beyond it.
const HANG: Duration = Duration::from_secs(20);
/// Whose connections they are.
const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 1);

/// Where the front finds the end of an HTTP/1 head, and whether the length of its body is clear.
/// `None` where it takes no head from these bytes, or not yet.
pub fn head(bytes: &[u8]) -> Option<usize> {
    let read: Result<_, Fault> = framing::read(bytes, &Limits::default(), |_| {});
    read.ok().flatten().map(|(length, _)| length)
}

/// Looks at first bytes as a door does. True where they were taken for something.
pub fn peeked(runtime: &Runtime, bytes: &[u8]) -> bool {
    runtime.block_on(async {
        let (mut client, door) = duplex(256 * 1024);
        client.write_all(bytes).await.expect("there is room");
        drop(client.shutdown().await);
        let seen = timeout(HANG, peek(door, HANG, HANG)).await.expect("it must not hang");
        !matches!(seen, Peeked::Closed | Peeked::Unclear(_))
    })
}

/// A resolver with the rules of a policy.
pub fn resolver(rules: &[&str]) -> Resolver {
    Arc::into_inner(parts(rules).resolver).expect("nobody else has it")
}

/// A proxy whose clients all mean to go to one place.
pub struct Scene {
    runtime: Runtime,
    proxy: Arc<Proxy>,
    target: SocketAddr,
}

/// A jail that is not asked.
#[derive(Debug)]
struct Nobody;

impl Origin for Nobody {
    fn flow(&self, _client: SocketAddr, _local: SocketAddr) -> Option<Flow> {
        None
    }

    fn asker(&self, _client: SocketAddr, _asked: Option<IpAddr>) -> Option<Process> {
        None
    }
}

impl Scene {
    /// Opens a scene on a runtime, in which the target is served already.
    pub fn open(runtime: Runtime, target: SocketAddr, rules: &[&str]) -> Self {
        let proxy = {
            let _inside = runtime.enter();
            Proxy::new(parts(rules), Limits::default(), Egress::default()).expect("TLS")
        };
        Self { runtime, proxy: Arc::new(proxy), target }
    }

    /// Where the clients mean to go.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// A client says all of it at one door, shuts its side, and reads to the end. What it read.
    pub fn say(&self, door: Door, bytes: &[u8]) -> Vec<u8> {
        let client = SocketAddr::from(CLIENT);
        let flow = Flow { door, client, target: self.target, process: None };
        let call = Call::new(flow, &self.proxy.pins).expect("an address stands for itself");
        self.runtime.block_on(async {
            let (mut client, stream) = duplex(1024 * 1024);
            let carried = tokio::spawn(Arc::clone(&self.proxy).carry(stream, call));
            let said = async {
                // A refusal may come before the last byte is taken.
                drop(client.write_all(bytes).await);
                drop(client.shutdown().await);
                let mut answer = Vec::new();
                drop(client.read_to_end(&mut answer).await);
                answer
            };
            let answer = timeout(HANG, said).await.expect("the client must not hang");
            drop(client);
            timeout(HANG, carried).await.expect("the door must not hang").expect("no panic");
            answer
        })
    }
}

/// What a proxy with these rules is made of.
fn parts(rules: &[&str]) -> Parts {
    let log =
        Log { level: tracing::Level::ERROR, is_asked: false, format: Format::Text, dir: None };
    let sinks = Sinks::open(&log, None, None).expect("stderr");
    let session = Session { jail: "fuzz", query: true, ..Session::default() };
    let recorder = Recorder::start(sinks, session).expect("a recorder");
    let rules = rules.iter().map(|rule| rule.parse::<Rule>().expect("a rule")).collect();
    let rules = Arc::new(Policies::new(RuleSet::new(rules, DomainMatch::Subdomains)));
    let pins = Arc::new(Pins::default());
    let resolver = Resolver::new(Arc::clone(&pins), Arc::clone(&rules), recorder.clone());
    Parts {
        rules,
        authority: Arc::new(Authority::new().expect("an authority")),
        pins,
        resolver: Arc::new(resolver),
        recorder,
        origin: Arc::new(Nobody),
    }
}
