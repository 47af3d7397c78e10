//! The load: a client that is told, line by line, what to ask for, and says how it went.
//!
//! *Standing*: the conductor starts one for each contestant, for boundary as the command inside,
//! and speaks JSON with it over its standard streams. *Never*: takes a failure for a result.

mod multiplexed;
mod wire;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::authority::{Sessions, client};
use crate::origin::{SMALL, now};
pub(crate) use wire::Way;
use wire::{Line, dial};

/// The host that is asked when it does not matter which.
const HOST: &str = "www.rsa.test";

/// How many connections are opened at once where many are wanted.
const AT_ONCE: usize = 32;

/// What a load does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Small requests, one after the other on each of so many connections that are there already.
    Requests {
        /// How many connections.
        connections: usize,
        /// For how long.
        millis: u64,
    },
    /// New connections, one small request on each.
    Connections {
        /// How many at once.
        at_once: usize,
        /// For how long.
        millis: u64,
        /// The host; in front of it stands a number of its own each time, where it begins with a dot.
        host: String,
    },
    /// Large answers.
    Download {
        /// How large each is.
        bytes: u64,
        /// How many at once.
        streams: usize,
        /// For how long, or one answer each, whatever is longer.
        millis: u64,
    },
    /// A stream of events: how long the first takes from the request on.
    Events,
    /// A stream of events a second apart: how long after its sending the latest comes.
    Beats {
        /// How many are waited for.
        events: usize,
    },
    /// Small requests over one HTTP/2 connection.
    Multiplexed {
        /// How many at once.
        streams: usize,
        /// For how long.
        millis: u64,
    },
    /// Opens connections, asks once on each, and keeps them.
    Hold {
        /// How many.
        connections: usize,
    },
    /// Small requests on some of those that are kept.
    Use {
        /// On how many.
        connections: usize,
        /// For how long.
        millis: u64,
    },
    /// Closes those that are kept.
    Release,
}

/// How a task went.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How often it was done.
    pub(crate) count: u64,
    /// Bytes of content.
    pub(crate) bytes: u64,
    /// In how many seconds.
    pub(crate) seconds: f64,
    /// How long one took, in microseconds: the median.
    pub(crate) median: f64,
    /// What the proxy's processes spent on each, in microseconds of processor time. The load does
    /// not know it.
    #[serde(default)]
    pub(crate) spent: Option<f64>,
    /// The part of that which the record's writers had.
    #[serde(default)]
    pub(crate) writers: Option<f64>,
}

/// What a load says of a task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It was done.
    Done(Outcome),
    /// It could not be done.
    Failed(String),
}

/// Does what standard input says until it ends.
pub(crate) fn obey(runtime: &Runtime, way: Way, roots: &Path) -> Result<()> {
    let mut load = Load::new(way, roots)?;
    for line in io::stdin().lines() {
        let task: Task = serde_json::from_str(&line?).context("a task")?;
        let report = match runtime.block_on(load.perform(task)) {
            Ok(outcome) => Report::Done(outcome),
            Err(error) => Report::Failed(format!("{error:#}")),
        };
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    }
    Ok(())
}

/// A client and what it holds.
struct Load {
    way: Way,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    held: Vec<Line>,
    /// Numbers hosts, so that none comes twice.
    visits: u64,
}

/// What the tasks of one load note: how long each request took, and the bytes.
#[derive(Debug, Default)]
struct Notes {
    times: Vec<Duration>,
    bytes: u64,
    /// For a visitor, the number of the host that would be next.
    next: u64,
}

impl Load {
    fn new(way: Way, roots: &Path) -> Result<Self> {
        let http1 = client(roots, &[b"http/1.1"], Sessions::Whole)?;
        let http2 = client(roots, &[b"h2"], Sessions::Whole)?;
        Ok(Self { way, http1, http2, held: Vec::new(), visits: 0 })
    }

    /// Does one task.
    async fn perform(&mut self, task: Task) -> Result<Outcome> {
        match task {
            Task::Requests { connections, millis } => {
                let lines = self.open(connections).await?;
                Ok(ask_on(lines, millis).await?.1)
            }
            Task::Connections { at_once, millis, host } => {
                self.connect_anew(at_once, millis, &host).await
            }
            Task::Download { bytes, streams, millis } => {
                self.download(bytes, streams, millis).await
            }
            Task::Events => self.await_event().await,
            Task::Beats { events } => self.await_beats(events).await,
            Task::Multiplexed { streams, millis } => {
                let stream = dial(&self.way, HOST, &self.http2).await?;
                multiplexed::ask(stream, HOST, streams, millis).await
            }
            Task::Hold { connections } => {
                let span = Span::of(0);
                self.held = self.open(connections).await?;
                Ok(span.outcome(Notes::default()))
            }
            Task::Use { connections, millis } => {
                let rest = self.held.split_off(connections.min(self.held.len()));
                let used = std::mem::replace(&mut self.held, rest);
                let (used, outcome) = ask_on(used, millis).await?;
                self.held.extend(used);
                Ok(outcome)
            }
            Task::Release => {
                self.held = Vec::new();
                Ok(Outcome::default())
            }
        }
    }

    /// Opens connections and asks once on each.
    async fn open(&self, count: usize) -> Result<Vec<Line>> {
        let mut tasks = JoinSet::new();
        let mut lines = Vec::with_capacity(count);
        for number in 0..count {
            if number >= AT_ONCE
                && let Some(line) = tasks.join_next().await
            {
                lines.push(line??);
            }
            tasks.spawn(first_ask(self.way.clone(), Arc::clone(&self.http1)));
        }
        while let Some(line) = tasks.join_next().await {
            lines.push(line??);
        }
        Ok(lines)
    }

    /// Opens a connection for every request.
    async fn connect_anew(&mut self, at_once: usize, millis: u64, host: &str) -> Result<Outcome> {
        let span = Span::of(millis);
        let mut tasks = JoinSet::new();
        for number in 0..at_once as u64 {
            let visitor = Visitor {
                way: self.way.clone(),
                config: Arc::clone(&self.http1),
                host: host.to_owned(),
                next: self.visits + number,
                step: at_once as u64,
            };
            tasks.spawn(visitor.keep_coming(span));
        }
        let mut all = Notes::default();
        while let Some(notes) = tasks.join_next().await {
            let notes = notes??;
            self.visits = self.visits.max(notes.next);
            all.add(notes);
        }
        Ok(span.outcome(all))
    }

    /// Asks for large answers until the time is up; the last may take longer.
    async fn download(&self, bytes: u64, streams: usize, millis: u64) -> Result<Outcome> {
        let lines = self.open(streams).await?;
        let span = Span::of(millis);
        let mut tasks = JoinSet::new();
        for line in lines {
            tasks.spawn(keep_downloading(line, bytes, span));
        }
        let mut all = Notes::default();
        while let Some(notes) = tasks.join_next().await {
            all.add(notes??);
        }
        Ok(span.outcome(all))
    }

    /// Asks for events on a connection that is there, and waits for the first.
    async fn await_event(&self) -> Result<Outcome> {
        let mut line = self.open(1).await?.pop().context("a connection")?;
        let span = Span::of(0);
        line.await_text(HOST, "/events", b"data: 0").await?;
        let mut notes = Notes::default();
        notes.times.push(span.since.elapsed());
        Ok(span.outcome(notes))
    }

    /// Asks for events a second apart, and waits for so many. What it shows is the latest.
    async fn await_beats(&self, events: usize) -> Result<Outcome> {
        let mut line = self.open(1).await?.pop().context("a connection")?;
        let span = Span::of(0);
        line.send(HOST, &format!("/events/{SECOND}")).await?;
        let mut latest = 0;
        for number in 0..events {
            let sent = line.event(&format!("data: {number} ")).await?;
            latest = latest.max(now()?.saturating_sub(sent));
        }
        let mut notes = Notes::default();
        notes.times.push(Duration::from_micros(latest));
        Ok(span.outcome(notes))
    }
}

/// How many milliseconds lie between the events of a slow stream.
const SECOND: u64 = 1000;

/// Connects and asks once.
async fn first_ask(way: Way, config: Arc<ClientConfig>) -> Result<Line> {
    let mut line = Line::new(dial(&way, HOST, &config).await?);
    line.ask(HOST, "/").await?;
    Ok(line)
}

/// Asks on every line, one request after the other, until the time is up.
async fn ask_on(lines: Vec<Line>, millis: u64) -> Result<(Vec<Line>, Outcome)> {
    let span = Span::of(millis);
    let mut tasks = JoinSet::new();
    for line in lines {
        tasks.spawn(keep_asking(line, span));
    }
    let (mut lines, mut all) = (Vec::new(), Notes::default());
    while let Some(done) = tasks.join_next().await {
        let (line, notes) = done??;
        lines.push(line);
        all.add(notes);
    }
    Ok((lines, span.outcome(all)))
}

/// Asks on one line until the time is up.
async fn keep_asking(mut line: Line, span: Span) -> Result<(Line, Notes)> {
    let mut notes = Notes::default();
    while !span.is_over() {
        let asked = Instant::now();
        notes.bytes += line.ask(HOST, "/").await?;
        notes.times.push(asked.elapsed());
    }
    Ok((line, notes))
}

/// Asks for large answers, at least for one, until the time is up.
async fn keep_downloading(mut line: Line, bytes: u64, span: Span) -> Result<Notes> {
    let mut notes = Notes::default();
    while notes.times.is_empty() || !span.is_over() {
        let asked = Instant::now();
        let got = line.ask(HOST, &format!("/bytes/{bytes}")).await?;
        ensure!(got == bytes, "{got} bytes came of {bytes}");
        notes.bytes += got;
        notes.times.push(asked.elapsed());
    }
    Ok(notes)
}

/// One that comes on a new connection every time.
struct Visitor {
    way: Way,
    config: Arc<ClientConfig>,
    host: String,
    /// The number of its next host, and how far the one after lies from it.
    next: u64,
    step: u64,
}

impl Visitor {
    /// Comes until the time is up.
    async fn keep_coming(mut self, span: Span) -> Result<Notes> {
        let mut notes = Notes::default();
        while !span.is_over() {
            let is_new = self.host.starts_with('.');
            let host =
                if is_new { format!("v{}{}", self.next, self.host) } else { self.host.clone() };
            self.next += self.step;
            let asked = Instant::now();
            let mut line = Line::new(dial(&self.way, &host, &self.config).await?);
            notes.bytes += line.ask(&host, "/").await?;
            notes.times.push(asked.elapsed());
        }
        notes.next = self.next;
        Ok(notes)
    }
}

/// The time in which something is done.
#[derive(Debug, Clone, Copy)]
struct Span {
    since: Instant,
    until: Instant,
}

impl Span {
    /// From now on.
    fn of(millis: u64) -> Self {
        let since = Instant::now();
        Self { since, until: since + Duration::from_millis(millis) }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// What came of it, from its beginning until now.
    fn outcome(&self, notes: Notes) -> Outcome {
        let seconds = self.since.elapsed().as_secs_f64();
        let Notes { mut times, bytes, .. } = notes;
        times.sort_unstable();
        let median = times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6);
        let count = times.len() as u64;
        Outcome { count, bytes, seconds, median, spent: None, writers: None }
    }
}

impl Notes {
    /// Adds another's.
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.bytes += other.bytes;
    }
}

/// Whether an answer is the one that the origin gives.
fn is_small(length: u64) -> bool {
    length == SMALL.len() as u64
}
