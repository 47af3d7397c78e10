//! What is written whole, and who writes it: the file, and the way to a collector.
//!
//! *Standing*: the recorder starts the writers and hands them rows. *Never*: is waited for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::Level;

use super::Collector;
use super::alike::Alike;
use super::file::{Short, Turn, Writer};
use super::life::{Life, Moment};
use super::line::Line;
use super::object::{Fields, Value};
use super::otlp::{self, Export};
use super::queue::{Batch, Lane, Written};
use super::record::{Loss, Outcome, Record, Session};
use super::recorder::Clock;
use super::sink::{Output, Said, Target};

/// How many records may wait for a slow disk.
const BOUND: usize = 8192;

/// How long the writer lets records gather before it writes them: waking it for each would cost the
/// request more than the record does.
const GATHER: Duration = Duration::from_millis(20);

/// Starts the writer of the JSON Lines file. It complains in the log, once, when it cannot write.
pub(super) fn start_file(
    file: &Arc<Target>,
    log: &Arc<Output>,
    session: &Arc<Session>,
    clock: &Arc<dyn Clock>,
) -> io::Result<Lane<Row>> {
    let (file, log) = (Arc::clone(file), Arc::clone(log));
    let (mut session, clock) = (Arc::clone(session), Arc::clone(clock));
    let mut writer = Writer::new(file);
    let mut complaints = Complaints { log, clock: Arc::clone(&clock), said: Vec::new() };
    // Whether the file does not yet say that the session goes on in it: until it does, a reader has to
    // take what comes first for something that was cut.
    let mut begins = false;
    Lane::start("records", (BOUND, GATHER), move |batch: &mut Batch<Row>| {
        let count = batch.items.len() as u64;
        begins |= turned(&mut writer, &mut complaints);
        let begun = begins.then(|| {
            let (session, time) = (Arc::clone(&session), clock.now());
            Row::Life(Life { session, time, moment: Moment::Continued })
        });
        let extra = u64::from(begun.is_some());
        // Its loss is confessed at the end.
        let lost = (batch.lost > 0).then(|| confession(&session, &*clock, batch.lost));
        let rows = begun.iter().chain(&batch.items).chain(&lost);
        // It is in force also where that cannot be written.
        let changed = batch.items.iter().rev().find_map(Row::changed_policy).map(Arc::clone);
        let outcome = writer.append(rows);
        if let Some(changed) = changed {
            session = changed;
        }
        let Err(Short { written, error }) = outcome else {
            begins = false;
            return Written { items: count, is_told: true };
        };
        begins &= written == 0;
        let written = written.saturating_sub(extra);
        complaints.say(Level::ERROR, "the audit file cannot be written", Some(&error));
        Written { items: written.min(count), is_told: written > count }
    })
}

/// Whether what is written next begins a file.
fn turned(writer: &mut Writer, complaints: &mut Complaints) -> bool {
    match writer.turn() {
        Ok(Turn::Stay) => false,
        Ok(Turn::Begin) => true,
        Ok(Turn::Follow) => {
            let what = "the audit file was set aside or cut by somebody else, and is followed";
            complaints.say(Level::WARN, what, None);
            true
        }
        Err(error) => {
            complaints.say(Level::WARN, "the audit file cannot be set aside", Some(&error));
            false
        }
    }
}

/// What the writer of the file has to say in the log: each thing once.
struct Complaints {
    log: Arc<Output>,
    clock: Arc<dyn Clock>,
    said: Vec<&'static str>,
}

impl Complaints {
    /// Says it if it was not said.
    fn say(&mut self, level: Level, message: &'static str, error: Option<&io::Error>) {
        if self.said.contains(&message) {
            return;
        }
        self.said.push(message);
        let fields = error.iter().map(|error| ("error", error.to_string())).collect();
        let message = message.to_owned();
        self.log.say(Said::Line(Line { time: self.clock.now(), level, message, fields }));
    }
}

/// Starts the way to a collector.
pub(super) fn start_export(
    to: &Collector,
    session: &Arc<Session>,
    clock: &Arc<dyn Clock>,
) -> io::Result<Export<Row>> {
    let (about, clock) = (Arc::clone(session), Arc::clone(clock));
    Export::start(to, session, move |count| confession(&about, &*clock, count))
}

/// The confession that a sink could not take so many records.
fn confession(session: &Arc<Session>, clock: &dyn Clock, count: u64) -> Row {
    Row::Decision(Arc::new(Record::lost(session, clock.now(), (Loss::Records, count))))
}

/// A line of the file.
#[derive(Debug, Clone)]
pub(super) enum Row {
    /// A decision, or the confession that some are missing.
    Decision(Arc<Record>),
    /// What became of a decision.
    Outcome(Outcome),
    /// The session itself.
    Life(Life),
}

impl Row {
    /// The session, where it has another policy from here on.
    fn changed_policy(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Life(Life { session, moment: Moment::Policy(_), .. }) => Some(session),
            Self::Life(_) | Self::Decision(_) | Self::Outcome(_) => None,
        }
    }
}

impl Fields for Row {
    fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        match self {
            Self::Decision(record) => record.fields(tell),
            Self::Outcome(outcome) => outcome.fields(tell),
            Self::Life(life) => life.fields(tell),
        }
    }

    fn alike(&self) -> Option<Alike<'_>> {
        match self {
            Self::Decision(record) => record.alike(),
            Self::Outcome(_) | Self::Life(_) => None,
        }
    }
}

impl otlp::Line for Row {
    fn time(&self) -> Timestamp {
        match self {
            Self::Decision(record) => record.event_time,
            Self::Outcome(outcome) => outcome.event_time,
            Self::Life(life) => life.time,
        }
    }

    fn level(&self) -> Level {
        match self {
            Self::Decision(record) => record.level(),
            Self::Outcome(_) | Self::Life(_) => Level::INFO,
        }
    }
}
