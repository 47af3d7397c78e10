//! Who, whither, by which door.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ending::Cut;
use crate::audit::{Decision, Door, Entry, Process, Recorder, Subject};
use crate::dns::Pins;
use crate::rules::{Code, Denial, Host};

/// One connection of the command: who opened it, where it meant to go, by which door it came.
#[derive(Debug, Clone)]
pub struct Flow {
    /// By which door.
    pub door: Door,
    /// The jailed socket's own address.
    pub client: SocketAddr,
    /// Where the program meant to go.
    pub target: SocketAddr,
    /// Who opened it, if the jail knows.
    pub process: Option<Process>,
}

/// Where connections come from: each jail knows in its own way.
pub trait Origin: fmt::Debug + Send + Sync {
    /// The flow behind an accepted connection, asked exactly once. `None` means that the
    /// session did not open it, and it is closed without a word.
    ///
    /// `local` is what [`Self::turned_from`] says, else the accepted socket's own address; `client` is
    /// its peer's.
    fn flow(&self, client: SocketAddr, local: SocketAddr) -> Option<Flow>;

    /// Where an accepted connection went before it was turned, where the jail's kernel rewrites that
    /// and remembers it.
    fn turned_from(&self, _accepted: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
        Ok(None)
    }

    /// The process behind a datagram to the resolver. `None` means that the session did not send
    /// it, and it is not answered. `asked` is the server that it was sent to, where the jail does
    /// not turn it to another.
    fn asker(&self, client: SocketAddr, asked: Option<IpAddr>) -> Option<Process>;

    /// How many flows are known that nobody has asked about yet, where the jail keeps them.
    fn count(&self) -> Option<usize> {
        None
    }
}

/// A flow or a tunnel inside one, with its target understood: what [`super::Proxy::carry`] carries.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// What its records have in common.
    pub(super) subject: Subject,
    /// Where the program meant to go.
    pub(super) target: Target,
    /// What it may call that: shorter names, of which the host's search list makes the target's.
    pub(super) short: Vec<Host>,
    /// Whether its connection is to end with a reset.
    pub(super) cut: Cut,
    /// Whether anything that it asked for is on record.
    told: Arc<AtomicBool>,
}

/// Where a program meant to go, as far as the connection alone tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// To the proxy itself, as a proxy: each request says where.
    Open,
    /// To one host. A name where the built-in resolver or CONNECT named it; an address where the
    /// program had one from elsewhere, and then a request may still name a host that is there.
    Host(Host, u16),
}

impl Call {
    /// Understands a flow. A synthetic address that stands for no name goes nowhere.
    pub(super) fn new(flow: Flow, pins: &Pins) -> Result<Self, Box<(Subject, Denial)>> {
        let Flow { door, client: _, target, process } = flow;
        let process = process.map(Arc::new);
        let subject = Subject { door, process, target: Some(target) };
        if door == Door::Explicit {
            return Ok(Self::with(subject, Target::Open, Cut::default()));
        }
        match Target::at(target.ip(), target.port(), pins) {
            Ok(target) => {
                let short = target.host().map(|(host, _)| pins.short(host)).unwrap_or_default();
                Ok(Self { short, ..Self::with(subject, target, Cut::default()) })
            }
            Err(denial) => Err(Box::new((subject, denial))),
        }
    }

    /// The call inside a tunnel that this one asked for.
    pub(super) fn tunnel(&self, target: Target) -> Self {
        let Subject { door, process, target: _ } = self.subject.clone();
        let address = target.address().map(|(ip, port)| SocketAddr::new(ip, port));
        let subject = Subject { door, process, target: address };
        Self::with(subject, target, self.cut.clone())
    }

    /// A call of which nothing is on record yet.
    fn with(subject: Subject, target: Target, cut: Cut) -> Self {
        Self { subject, target, short: Vec::new(), cut, told: Arc::default() }
    }

    /// Puts a decision about it on record.
    pub(super) fn record(&self, recorder: &Recorder, decision: Decision) -> Entry {
        self.told.store(true, Ordering::Relaxed);
        recorder.decide(&self.subject, decision)
    }

    /// Whether anything that it asked for is on record.
    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

impl Target {
    /// The target behind an address: the name that the resolver gave it for, or the address.
    pub(super) fn at(ip: IpAddr, port: u16, pins: &Pins) -> Result<Self, Denial> {
        let ip = ip.to_canonical();
        if !pins.is_synthetic(ip) {
            return Ok(Self::Host(Host::Address(ip), port));
        }
        match pins.name(ip) {
            Some(name) => Ok(Self::Host(name, port)),
            None => Err(Denial::new(Code::AddressRefused)),
        }
    }

    /// The host and port, where the connection alone tells.
    pub(super) fn host(&self) -> Option<(&Host, u16)> {
        match self {
            Self::Open => None,
            Self::Host(host, port) => Some((host, *port)),
        }
    }

    /// The address and port, where the program had an address that stands for itself.
    pub(super) fn address(&self) -> Option<(IpAddr, u16)> {
        match self {
            Self::Host(Host::Address(ip), port) => Some((*ip, *port)),
            Self::Host(Host::Name(_), _) | Self::Open => None,
        }
    }
}
