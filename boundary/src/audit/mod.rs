//! The record: every decision once, in order; loss is counted and recorded.
//!
//! *Standing*: the session opens the [`Sinks`] while it may; the proxy process starts a [`Recorder`]
//! on them. The doors open an [`Entry`] when they decide and close it when the bytes have gone.
//! *Never*: blocks the path it records; writes a header, a body, a cookie or a URL's userinfo.

mod agent;
mod alike;
pub mod file;
mod life;
mod line;
mod meters;
mod object;
mod otlp;
mod plumbing;
mod queue;
mod record;
mod recorder;
mod rows;
mod settings;
mod sink;
mod terminal;
mod threads;
mod wire;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub use agent::fuzzing;
pub use life::{Cause, Usage};
pub use line::{printable, printable_json};
pub use meters::{Meters, Stopwatch};
pub use record::{Record, Session};
pub use recorder::{Clock, Entry, Recorder, Totals};
pub use settings::{
    Collector, Format, Forward, Labels, Log, OnError, Rotation, Size, UnknownFormat,
    UnknownOnError, UnknownSize,
};
pub use sink::{Error, Sinks};

#[cfg(test)]
pub(crate) use sink::Memory;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::Level;

use crate::rules::{Asked, Code, Denial, Host, Intent, Permit};
use record::Request;

/// By which door a flow came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// The jail turned the connection.
    Redirect,
    /// The program spoke to the proxy as a proxy (CONNECT, absolute-form).
    Explicit,
    /// The built-in resolver.
    Dns,
    /// The kernel refused it before there was a connection.
    Kernel,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Redirect, Self::Explicit, Self::Dns, Self::Kernel];

    /// The door's name in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Explicit => "explicit",
            Self::Dns => "dns",
            Self::Kernel => "kernel",
        }
    }
}

/// The process that asked, as the kernel knew it when it asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Thread-group id, in boundary's pid namespace.
    pub pid: u32,
    /// User id, in the initial user namespace.
    pub uid: u32,
    /// The thread's name.
    pub comm: String,
    /// The executable, where it could be read.
    pub exe: Option<PathBuf>,
    /// The cgroup's id.
    pub cgroup: u64,
    /// The room of boundary inside boundary that it is in, where no cgroup says so.
    pub room: u64,
    /// Who started it, the nearest first, up to the session's command.
    pub parents: Arc<[Parent]>,
}

impl Process {
    /// The number by which the policies know where it is.
    pub fn place(&self) -> u64 {
        if self.cgroup == 0 { self.room } else { self.cgroup }
    }
}

/// A process that started another, itself or by others in between.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parent {
    /// Thread-group id, in boundary's pid namespace.
    pub pid: u32,
    /// The thread's name, when the other was first asked about.
    pub comm: String,
}

/// Who asked and from where: what every record of one flow has in common.
#[derive(Debug, Clone)]
pub struct Subject {
    /// By which door.
    pub door: Door,
    /// Who, if the jail knows. All requests of a connection share it.
    pub process: Option<Arc<Process>>,
    /// The address the program meant to reach.
    pub target: Option<SocketAddr>,
}

/// What was decided.
#[derive(Debug, Clone)]
pub enum Decision {
    /// A rule granted it.
    Allow(Permit),
    /// It was refused.
    Deny(Denial),
    /// A name was answered by the built-in resolver, or refused with a code.
    Dns {
        /// The name asked for.
        name: String,
        /// The type asked for (`A`, `AAAA`, `HTTPS`, …).
        kind: String,
        /// Why it was refused, if it was.
        refused: Option<Code>,
    },
    /// The kernel half refused a socket or a datagram.
    Dropped {
        /// The protocol: `udp`, `icmp`, `raw`, ….
        proto: &'static str,
        /// Why.
        code: Code,
        /// The name that the target stands for, if it is one of the built-in resolver's.
        ///
        /// Resolvers sort what they found by connecting a datagram socket to each address
        /// (RFC 6724), which sends nothing, and programs try HTTP/3 before HTTP/2: refusing that
        /// is everyday, and people are told only when they ask for all.
        host: Option<Host>,
    },
    /// A unix socket of a process outside was not to be had.
    Withheld {
        /// Its name, as the program gave it; an abstract one begins with `@`.
        socket: String,
    },
}

impl Decision {
    /// Whether it was granted.
    pub(crate) fn is_allowed(&self) -> bool {
        match self {
            Self::Allow(_) => true,
            Self::Dns { refused, .. } => refused.is_none(),
            Self::Deny(_) | Self::Dropped { .. } | Self::Withheld { .. } => false,
        }
    }

    /// What was asked for, where it was understood.
    fn intent(&self) -> Option<&Intent> {
        match self {
            Self::Allow(permit) => Some(permit.intent()),
            Self::Deny(denial) => denial.intent.as_ref(),
            Self::Dns { .. } | Self::Dropped { .. } | Self::Withheld { .. } => None,
        }
    }

    /// What was asked for in its own words, where it was not understood.
    fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Deny(denial) => denial.asked.as_deref(),
            Self::Allow(_) | Self::Dns { .. } | Self::Dropped { .. } | Self::Withheld { .. } => {
                None
            }
        }
    }

    /// The request, where it is about one.
    fn request(&self) -> Option<Request<'_>> {
        let intent = self.intent().filter(|intent| intent.method().is_some());
        let asked = self.asked().filter(|asked| asked.method().is_some());
        intent.map(Request::Clear).or(asked.map(Request::Unclear))
    }

    /// Why it was refused; none if it was not.
    fn code(&self) -> Option<Code> {
        match self {
            Self::Allow(_) => None,
            Self::Deny(denial) => Some(denial.code),
            Self::Dns { refused, .. } => *refused,
            Self::Dropped { code, .. } => Some(*code),
            Self::Withheld { .. } => Some(Code::UnixSocket),
        }
    }

    /// How important it is to a person: a refusal always, unless programs provoke it without meaning
    /// anything by it; an answered question hardly.
    fn level(&self) -> Level {
        match self {
            Self::Dropped { code, host, .. } if *code == Code::Datagram && host.is_some() => {
                Level::INFO
            }
            Self::Dropped { code: Code::DatagramConnect, .. } | Self::Dns { refused: None, .. } => {
                Level::DEBUG
            }
            Self::Deny(Denial { code: Code::TunnelUnused, .. }) | Self::Allow(_) => Level::INFO,
            Self::Deny(_) | Self::Dns { .. } | Self::Dropped { .. } | Self::Withheld { .. } => {
                Level::WARN
            }
        }
    }
}

/// What an entry carried, known when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The status that the client saw, for HTTP.
    pub http_status: Option<u16>,
    /// Bytes of content from the client.
    pub bytes_up: u64,
    /// Bytes of content to the client.
    pub bytes_down: u64,
}
