//! The first and the last record of a session: what it ran under, and what it came to.
//!
//! *Never*: holds the command's arguments or its environment, which may be secret.

use std::sync::Arc;

use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::record::put;
use super::{Session, Totals};

/// What the jail measured of everything that the command started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// The most memory at once, in bytes.
    pub memory_peak: Option<u64>,
    /// Processes and threads started.
    pub tasks: Option<u64>,
}

/// What a session came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Summary {
    /// How many decisions there were.
    pub(super) totals: Totals,
    /// How long it took, in milliseconds.
    pub(super) duration_ms: u64,
    /// What the jail measured.
    pub(super) usage: Usage,
}

/// A record of the session itself.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) session: Arc<Session>,
    pub(super) time: Timestamp,
    /// At its end, what it came to.
    pub(super) end: Option<Summary>,
}

impl Life {
    /// What it ran under.
    fn beginning<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let session = &self.session;
        map.serialize_entry("jail", session.jail)?;
        map.serialize_entry("version", env!("CARGO_PKG_VERSION"))?;
        map.serialize_entry("command", &session.command)?;
        map.serialize_entry("rules", &session.rules)?;
        map.serialize_entry("domain_match", session.domain_match)?;
        session.labels.put(map)
    }

    /// What it came to.
    fn ending<M: SerializeMap>(summary: &Summary, map: &mut M) -> Result<(), M::Error> {
        let Summary { totals, duration_ms, usage } = summary;
        map.serialize_entry("allowed", &totals.allowed)?;
        map.serialize_entry("denied", &totals.denied)?;
        map.serialize_entry("dropped", &totals.dropped)?;
        put(map, "undelivered", Some(totals.undelivered).filter(|&count| count > 0))?;
        map.serialize_entry("bytes_up", &totals.bytes_up)?;
        map.serialize_entry("bytes_down", &totals.bytes_down)?;
        map.serialize_entry("duration_ms", duration_ms)?;
        put(map, "cpu_ms", usage.cpu_ms)?;
        put(map, "memory_peak", usage.memory_peak)?;
        put(map, "tasks", usage.tasks)
    }
}

impl Serialize for Life {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("event_time", &format_args!("{:.9}", self.time))?;
        map.serialize_entry("session_id", &format_args!("{}", self.session.id))?;
        map.serialize_entry("event", if self.end.is_none() { "start" } else { "end" })?;
        match &self.end {
            None => self.beginning(&mut map)?,
            Some(summary) => Self::ending(summary, &mut map)?,
        }
        map.end()
    }
}
