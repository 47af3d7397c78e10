//! Takes decisions, numbers them, hands them to the sinks.
//!
//! *Standing*: one per session, shared by every door. *Never*: waits for a sink.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::Level;
use uuid::Uuid;

use super::agent::Agent;
use super::life::{Cause, Life, Moment, Summary, Usage};
use super::line::Line;
use super::meters::{Meters, Stopwatch};
use super::otlp::Export;
use super::queue::Lane;
use super::record::{Loss, Outcome, Record, Session};
use super::rows::{Row, start_export, start_file};
use super::sink::{Output, Said, Sinks, Target};
use super::{Decision, OnError, Subject, Tally};

/// Tells the time; a test tells its own.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// A time that only goes forward, since any fixed moment.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
struct Machine(Instant);

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How many decisions there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Granted, questions to the resolver left out.
    pub allowed: u64,
    /// Refused at any door.
    pub denied: u64,
    /// Records and lines that a sink could not take.
    pub dropped: u64,
    /// Requests that the workspace agent did not get, where there is one.
    pub undelivered: u64,
    /// Records that the collector did not get, where there is one.
    pub unexported: u64,
    /// Refusals of the jail that came faster than they could be recorded.
    pub refusals_lost: u64,
    /// Bytes of content from the command.
    pub bytes_up: u64,
    /// Bytes of content to the command.
    pub bytes_down: u64,
}

/// Takes decisions and hands them to the sinks.
#[derive(Debug, Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

/// What all copies of a recorder share.
#[derive(Debug)]
struct Shared {
    session: Arc<Session>,
    clock: Arc<dyn Clock>,
    log: Arc<Output>,
    records: Option<Lane<Row>>,
    file: Option<Arc<Target>>,
    agent: Option<Agent>,
    export: Option<Export<Row>>,
    /// Held while a record gets its number and its place, so that both are the same order.
    count: Mutex<Count>,
    /// Where somebody counts.
    meters: OnceLock<Arc<Meters>>,
}

impl Shared {
    /// Whether somebody takes whole records.
    fn is_written(&self) -> bool {
        self.records.is_some() || self.export.is_some()
    }

    /// Hands a record to whoever takes whole ones.
    fn write(&self, row: Row) {
        if let Some(export) = &self.export {
            export.push(row.clone());
        }
        if let Some(records) = &self.records {
            records.push(row);
        }
    }

    /// Adds what an entry carried to the sums.
    fn carried(&self, tally: &Tally) {
        if let Some(meters) = self.meters.get() {
            meters.carried(tally);
        }
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.totals.bytes_up += tally.bytes_up;
        count.totals.bytes_down += tally.bytes_down;
    }
}

/// In which sum a decision is.
#[derive(Debug, Clone, Copy)]
enum Sum {
    /// What was granted.
    Allowed,
    /// What was refused.
    Denied,
    /// None: a question to the resolver that has its answer.
    Answered,
}

/// The next number, and the sums.
#[derive(Debug, Default)]
struct Count {
    sequence: u64,
    totals: Totals,
}

impl Recorder {
    /// Starts the writers. In a process that forks, call this after the fork.
    pub fn start(sinks: Sinks, session: Session) -> io::Result<Self> {
        Self::with_clock(sinks, session, Arc::new(Machine(Instant::now())))
    }

    /// Starts the writers on a clock of the caller's.
    pub fn with_clock(sinks: Sinks, session: Session, clock: Arc<dyn Clock>) -> io::Result<Self> {
        sinks.log.queue()?;
        let session = Arc::new(session);
        let file = sinks.records.map(Arc::new);
        let records =
            file.as_ref().map(|file| start_file(file, &sinks.log, &session, &clock)).transpose()?;
        let agent = sinks.agent.map(|agent| Agent::start(agent, &session)).transpose()?;
        let export = sinks.collector.map(|to| start_export(&to, &session, &clock)).transpose()?;
        let count = Mutex::default();
        let shared = Shared {
            session,
            clock,
            log: sinks.log,
            records,
            file,
            agent,
            export,
            count,
            meters: OnceLock::new(),
        };
        let recorder = Self { shared: Arc::new(shared) };
        recorder.live(Moment::Start);
        let id = recorder.shared.session.id.to_string();
        recorder.say(Level::INFO, "boundary session started", vec![("session_id", id)]);
        Ok(recorder)
    }

    /// Records a decision. The entry is closed with what it carried, or empty when dropped.
    pub fn decide(&self, subject: &Subject, decision: Decision) -> Entry {
        let shared = &self.shared;
        if let Some(meters) = shared.meters.get() {
            meters.decided(subject.door, &decision);
        }
        let is_question = matches!(decision, Decision::Dns { .. });
        let is_refusal = matches!(decision, Decision::Dropped { .. } | Decision::Withheld { .. });
        let is_ended = is_question || is_refusal;
        let allowed = decision.is_allowed();
        let sum = match allowed {
            true if is_question => Sum::Answered,
            true => Sum::Allowed,
            false => Sum::Denied,
        };
        let is_said = shared.log.takes(decision.level());
        // Putting together what nobody takes costs every request a dozen allocations.
        let is_forwarded = shared.agent.is_some() && decision.request().is_some();
        let is_told = is_said || shared.is_written() || is_forwarded;
        let record = is_told.then(|| Arc::new(Record::opening(&shared.session, subject, decision)));
        let sequence = self.number(record, sum, is_said);
        Entry {
            recorder: self.clone(),
            sequence,
            allowed,
            since: shared.clock.elapsed(),
            address: None,
            is_ended,
        }
    }

    /// Has everything counted from now on. Only the first call counts.
    pub fn count_with(&self, meters: Arc<Meters>) {
        drop(self.shared.meters.set(meters));
    }

    /// Takes a time, if anybody wants to know it.
    pub fn time(&self) -> Stopwatch {
        Stopwatch::start(self.shared.meters.get())
    }

    /// Counts refusals of the jail that came faster than they could be recorded, and says so on
    /// record.
    pub fn missed(&self, count: u64) {
        let shared = &self.shared;
        if let Some(meters) = shared.meters.get() {
            meters.missed(count);
        }
        // The place among the other records says where they are missing.
        let mut counts = shared.count.lock().unwrap_or_else(PoisonError::into_inner);
        counts.totals.refusals_lost += count;
        let lost = (Loss::Refusals, count);
        shared.write(Row::Decision(Arc::new(Record::lost(
            &shared.session,
            shared.clock.now(),
            lost,
        ))));
    }

    /// Gives a decision its number and its place in both queues.
    fn number(&self, record: Option<Arc<Record>>, sum: Sum, is_said: bool) -> u64 {
        let shared = &self.shared;
        let mut count = shared.count.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = count.sequence;
        count.sequence += 1;
        match sum {
            Sum::Answered => {}
            Sum::Allowed => count.totals.allowed += 1,
            Sum::Denied => count.totals.denied += 1,
        }
        let Some(mut record) = record else { return sequence };
        // Nobody else has it yet.
        if let Some(record) = Arc::get_mut(&mut record) {
            record.event_time = shared.clock.now();
            record.sequence = Some(sequence);
        }
        if is_said {
            shared.log.say(Said::Record(Arc::clone(&record)));
        }
        if let Some(agent) = &shared.agent
            && record.request().is_some()
        {
            agent.push(Arc::clone(&record));
        }
        shared.write(Row::Decision(record));
        sequence
    }

    /// Whether nothing is to be permitted now, because its record would be lost.
    pub fn is_refusing(&self) -> bool {
        let shared = &self.shared;
        shared.session.on_error == OnError::Deny
            && shared.records.as_ref().is_some_and(Lane::is_losing)
    }

    /// The session's id.
    pub fn session(&self) -> Uuid {
        self.shared.session.id
    }

    /// How many decisions there were so far, and how much a sink could not take.
    pub fn totals(&self) -> Totals {
        self.totals_of(&self.shared.count.lock().unwrap_or_else(PoisonError::into_inner).totals)
    }

    /// The same, of those that are counted under the lock.
    fn totals_of(&self, counted: &Totals) -> Totals {
        let shared = &self.shared;
        let dropped = shared.records.as_ref().map_or(0, Lane::lost_in_all) + shared.log.lost();
        let undelivered = shared.agent.as_ref().map_or(0, Agent::lost);
        let unexported = shared.export.as_ref().map_or(0, Export::lost);
        Totals { dropped, undelivered, unexported, ..*counted }
    }

    /// Says how many decisions there were and what the jail measured, then flushes. For the end of
    /// a session.
    pub fn finish(&self, patience: Duration, usage: Usage) -> bool {
        let shared = &self.shared;
        if let Some(agent) = &shared.agent {
            agent.close(patience);
        }
        // Both have the same time.
        let is_taking = shared.export.as_ref().is_none_or(|export| export.flush(patience));
        if let Some(agent) = &shared.agent {
            agent.wait();
        }
        let totals = self.end(usage);
        if totals.undelivered > 0 {
            let fields = vec![("count", totals.undelivered.to_string())];
            self.say(Level::WARN, "requests could not be forwarded to the workspace agent", fields);
        }
        let fields = vec![
            ("allowed", totals.allowed.to_string()),
            ("denied", totals.denied.to_string()),
            ("dropped", totals.dropped.to_string()),
        ];
        self.say(Level::INFO, "boundary session ended", fields);
        self.finish_export(patience, is_taking);
        self.flush(patience)
    }

    /// Writes the session's last record; what it came to. No decision comes between the count and that.
    fn end(&self, usage: Usage) -> Totals {
        let count = self.shared.count.lock().unwrap_or_else(PoisonError::into_inner);
        let unexported = self.shared.export.as_ref().map_or(0, Export::missing);
        let totals = Totals { unexported, ..self.totals_of(&count.totals) };
        let duration_ms = milliseconds(self.shared.clock.elapsed());
        self.live(Moment::End(Summary { totals, duration_ms, usage }));
        drop(count);
        totals
    }

    /// Sends what is left to a collector that is taking anything, and says what it did not get.
    fn finish_export(&self, patience: Duration, is_taking: bool) {
        let Some(export) = &self.shared.export else { return };
        export.flush(if is_taking { patience } else { Duration::ZERO });
        let lost = export.missing();
        if lost > 0 {
            let fields = vec![("count", lost.to_string())];
            self.say(Level::WARN, "records could not be sent to the collector", fields);
        }
    }

    /// Waits until everything recorded so far is on disk; says whether it came to that in time.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let records = self.shared.records.as_ref().is_none_or(|lane| lane.flush(patience));
        let synced = self.shared.file.as_ref().is_none_or(|file| file.sync().is_ok());
        // The line about a file that failed is said while that is flushed, so the log comes last.
        let log = self.shared.log.flush(deadline.saturating_duration_since(Instant::now()));
        records && synced && log
    }

    /// Records that the session has another policy from now on.
    pub fn note_policy(&self, rules: Vec<String>, domain_match: &'static str, cause: Cause) {
        let about = Session::clone(&self.shared.session);
        self.live_as(Arc::new(Session { rules, domain_match, ..about }), Moment::Policy(cause));
    }

    /// A record of the session itself.
    fn live(&self, moment: Moment) {
        self.live_as(Arc::clone(&self.shared.session), moment);
    }

    /// The same of a session that has another policy.
    fn live_as(&self, session: Arc<Session>, moment: Moment) {
        let shared = &self.shared;
        if shared.is_written() {
            let time = shared.clock.now();
            shared.write(Row::Life(Life { session, time, moment }));
        }
    }

    /// A line of the session itself.
    fn say(&self, level: Level, message: &str, fields: Vec<(&'static str, String)>) {
        let time = self.shared.clock.now();
        self.shared.log.say(Said::Line(Line { time, level, message: message.to_owned(), fields }));
    }
}

/// A time as records tell it.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A decision on record whose outcome is still to come.
#[must_use]
#[derive(Debug)]
pub struct Entry {
    recorder: Recorder,
    sequence: u64,
    allowed: bool,
    since: Duration,
    address: Option<IpAddr>,
    /// A decision with no outcome, or one that was told.
    is_ended: bool,
}

impl Entry {
    /// The dense number of the decision, from 0.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Notes the address that was dialled for it.
    pub fn dialled(&mut self, address: SocketAddr) {
        self.address = Some(address.ip());
    }

    /// Closes the entry.
    pub fn close(mut self, tally: Tally) {
        self.end(tally);
    }

    /// Records the outcome, once.
    fn end(&mut self, tally: Tally) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let shared = &self.recorder.shared;
        shared.carried(&tally);
        if !shared.is_written() {
            return;
        }
        shared.write(Row::Outcome(Outcome {
            session: shared.session.id,
            event_time: shared.clock.now(),
            sequence: self.sequence,
            is_allowed: self.allowed,
            address: self.address,
            tally,
            duration_ms: milliseconds(shared.clock.elapsed().saturating_sub(self.since)),
        }));
    }
}

impl Drop for Entry {
    /// A flow that was torn down carried nothing that anybody counted.
    fn drop(&mut self) {
        self.end(Tally::default());
    }
}
