//! The first and the last record of a session: what it ran under, and what it came to.
//!
//! *Never*: holds the command's arguments or its environment, which may be secret.

use std::sync::Arc;

use jiff::Timestamp;

use super::object::{Fields, Value};
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

/// By what the policy of a session that runs has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was read again.
    Reload,
    /// Whoever called boundary has permitted what was denied under this number.
    Allow(u64),
    /// Whoever was asked has permitted it.
    Prompt,
}

/// A record of the session itself.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) session: Arc<Session>,
    pub(super) time: Timestamp,
    pub(super) moment: Moment,
}

/// Which moment of a session a record is about.
#[derive(Debug, Clone)]
pub(super) enum Moment {
    /// Its beginning.
    Start,
    /// It goes on in another file.
    Continued,
    /// Its policy has changed: by what is said here.
    Policy(Cause),
    /// Its end, and what it came to.
    End(Summary),
}

impl Life {
    /// What it ran under.
    fn beginning<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        let session = &self.session;
        tell("jail", session.jail.into());
        tell("version", env!("CARGO_PKG_VERSION").into());
        tell("command", session.command.as_str().into());
        session.policy(tell);
        for (name, texts) in [("modes", &session.modes), ("unix_sockets", &session.unix_sockets)] {
            if !texts.is_empty() {
                tell(name, Value::Texts(texts));
            }
        }
        session.labels.put(tell);
    }

    /// What it came to.
    fn ending<'a>(summary: &'a Summary, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        let Summary { totals, duration_ms, usage } = summary;
        let some = |count: u64| Some(count).filter(|&count| count > 0);
        for (name, value) in [
            ("allowed", Some(totals.allowed)),
            ("denied", Some(totals.denied)),
            ("dropped", Some(totals.dropped)),
            ("refusals_lost", some(totals.refusals_lost)),
            ("undelivered", some(totals.undelivered)),
            ("bytes_up", Some(totals.bytes_up)),
            ("bytes_down", Some(totals.bytes_down)),
            ("duration_ms", Some(*duration_ms)),
            ("cpu_ms", usage.cpu_ms),
            ("memory_peak", usage.memory_peak),
            ("tasks", usage.tasks),
        ] {
            if let Some(value) = value {
                tell(name, value.into());
            }
        }
    }
}

impl Fields for Life {
    fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        tell("event_time", Value::Time(self.time));
        tell("session_id", Value::Id(self.session.id));
        let event = match self.moment {
            Moment::Start => "start",
            Moment::Continued => "continued",
            Moment::Policy(_) => "policy",
            Moment::End(_) => "end",
        };
        tell("event", event.into());
        match &self.moment {
            // Whoever has only this file has to know the policy too.
            Moment::Start | Moment::Continued => self.beginning(tell),
            Moment::Policy(cause) => {
                let (word, denied) = match cause {
                    Cause::Reload => ("reload", None),
                    Cause::Allow(denied) => ("allow", Some(*denied)),
                    Cause::Prompt => ("prompt", None),
                };
                tell("cause", word.into());
                if let Some(denied) = denied {
                    tell("denied_sequence", denied.into());
                }
                self.session.policy(tell);
            }
            Moment::End(summary) => Self::ending(summary, tell),
        }
    }
}

impl Session {
    /// Tells what is permitted.
    fn policy<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        tell("rules", Value::Texts(&self.rules));
        tell("domain_match", self.domain_match.into());
    }
}
