//! What recording costs: sessions that differ only in where their record goes, in one run.
//!
//! *Standing*: `cargo xtask bench record` calls it as root. The other ends (agent, collector) are
//! threads of this process that read and throw away. Turns are short and many: what else the machine
//! does falls on all sessions alike. *Never*: compares two numbers that were not measured in the same
//! round.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::agent::Helper;
use super::contestants::{Contestant, session};
use super::spread::Spread;
use super::{Folder, table};
use crate::load::{Outcome, Task};
use crate::{say, stage};

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The program that is measured.
    #[arg(long)]
    boundary: PathBuf,
    /// How often every session takes its turn in every row.
    #[arg(long, default_value_t = 24)]
    rounds: usize,
    /// Only the sessions whose sinks have this in their name, beside the one without any.
    #[arg(long)]
    only: Option<String>,
}

/// Where a session's record goes.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "one for each sink")]
struct Sinks {
    name: &'static str,
    log: bool,
    file: bool,
    agent: bool,
    metrics: bool,
    collector: bool,
}

/// No sink: what everything is compared with.
const NONE: Sinks = Sinks {
    name: "nothing",
    log: false,
    file: false,
    agent: false,
    metrics: false,
    collector: false,
};

/// Every session: none, one sink each, all of them.
const SESSIONS: [Sinks; 8] = [
    NONE,
    Sinks { name: "log, all requests", log: true, ..NONE },
    Sinks { name: "audit file", file: true, ..NONE },
    Sinks { name: "agent's socket", agent: true, ..NONE },
    Sinks { name: "metrics", metrics: true, ..NONE },
    Sinks { name: "collector (OTLP)", collector: true, ..NONE },
    Sinks { name: "all but the collector", collector: false, ..ALL },
    ALL,
];

/// Every sink at once.
const ALL: Sinks =
    Sinks { name: "all", log: true, file: true, agent: true, metrics: true, collector: true };

/// Where the collector listens, in the run's own network.
const COLLECTOR: &str = "127.0.0.1:4318";

/// How long a turn takes.
const MILLIS: u64 = 250;

/// How long after it everything is written down: longer than lines gather for a file, and for a
/// collector. What is done then is counted, and does not fall on whose turn is next.
const SETTLED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(650));

/// What every session does in every round.
const ROWS: [&str; 3] = [
    "keep-alive GET, 1 connection",
    "keep-alive GET, 32 connections",
    "new TLS connection, 8 at once",
];

/// What is done in a row.
fn task(row: usize) -> Task {
    match row {
        0 => Task::Requests { connections: 1, millis: MILLIS },
        1 => Task::Requests { connections: 32, millis: MILLIS },
        _ => Task::Connections { at_once: 8, millis: MILLIS, host: "www.rsa.test".into() },
    }
}

/// Measures and writes the result.
pub(crate) fn conduct(plan: &Plan) -> Result<()> {
    let folder = Folder::make()?;
    stage::enter(folder.path())?;
    stage::answer_names()?;
    let _origin = Helper::origin(folder.path())?;
    let agent = folder.path().join("agent.sock");
    listen_as_agent(&agent)?;
    listen_as_collector()?;
    let is_wanted = |sinks: &Sinks| {
        sinks.name == NONE.name || plan.only.as_ref().is_none_or(|part| sinks.name.contains(part))
    };
    let chosen: Vec<Sinks> = SESSIONS.into_iter().filter(is_wanted).collect();
    let start = |(number, sinks): (usize, &Sinks)| sinks.start(plan, folder.path(), number);
    let mut sessions = chosen.iter().enumerate().map(start).collect::<Result<Vec<Contestant>>>()?;
    let rounds = measure(&chosen, &mut sessions, plan.rounds)?;
    let text = shown(&chosen, &rounds, plan.rounds)?;
    io::stdout().write_all(text.as_bytes()).context("standard output")
}

impl Sinks {
    /// How long after a turn everything is written down.
    fn settled(&self) -> Duration {
        if self.collector { SETTLED.1 } else { SETTLED.0 }
    }

    /// Starts a session with these.
    fn start(&self, plan: &Plan, folder: &Path, number: usize) -> Result<Contestant> {
        let configure = |command: &mut Command| -> Result<()> {
            let place = |kind: &str| folder.join(format!("{kind}-{number}"));
            if self.log {
                command.args(["--log-level", "info"]).stderr(File::create(place("log"))?);
            }
            if self.file {
                command.arg("--audit-log").arg(place("audit"));
            }
            if self.agent {
                command.arg("--log-proxy-socket-path").arg(folder.join("agent.sock"));
            } else {
                command.arg("--disable-audit-logs");
            }
            if self.metrics {
                command.args(["--metrics-port", &format!("{}", 9464 + number)]);
            }
            if self.collector {
                command.args(["--otlp-endpoint", &format!("http://{COLLECTOR}")]);
            }
            Ok(())
        };
        session(&plan.boundary, folder, configure).with_context(|| self.name.to_owned())
    }
}

/// Has every session take its turn in every row, round after round. The first round warms up; in
/// each, another is the first. By round, row and session.
fn measure(
    chosen: &[Sinks],
    sessions: &mut [Contestant],
    rounds: usize,
) -> Result<Vec<Vec<Vec<Outcome>>>> {
    let mut all = Vec::new();
    for round in 0..=rounds {
        say(&format!("bench: round {round} of {rounds}"));
        let mut rows = Vec::new();
        for row in 0..ROWS.len() {
            let mut outcomes = vec![Outcome::default(); sessions.len()];
            for turn in 0..sessions.len() {
                let index = (turn + round) % sessions.len();
                let session = sessions.get_mut(index).context("a session")?;
                let settled = chosen.get(index).context("sinks")?.settled();
                let outcome = session.perform_and_settle(&task(row), settled)?;
                *outcomes.get_mut(index).context("a place")? = outcome;
            }
            rows.push(outcomes);
        }
        if round > 0 {
            all.push(rows);
        }
    }
    Ok(all)
}

/// The result as markdown.
fn shown(chosen: &[Sinks], rounds: &[Vec<Vec<Outcome>>], count: usize) -> Result<String> {
    let mut text = String::from("| recorded by |");
    for row in ROWS {
        write!(
            text,
            " {row}: processor time of each, µs | more than without | of that the writers' | of the \
             rate without |"
        )?;
    }
    writeln!(text, "\n|---|{}", "---|---|---|---|".repeat(ROWS.len()))?;
    for (index, sinks) in chosen.iter().enumerate() {
        let mut cells = Vec::new();
        for row in 0..ROWS.len() {
            let of = |make| spread(rounds, (row, index), make);
            cells.push(of(|own, _| own.spent.unwrap_or(0.0)));
            if index == 0 {
                cells.extend(["–", "–", "–"].map(str::to_owned));
            } else {
                cells.push(of(|own, none| own.spent.unwrap_or(0.0) - none.spent.unwrap_or(0.0)));
                cells.push(of(|own, _| own.writers.unwrap_or(0.0)));
                cells.push(of(|own, none| rate(own) / rate(none)));
            }
        }
        text.push_str(&table::line(sinks.name, &cells)?);
    }
    writeln!(
        text,
        "\n{count} rounds in which the sessions took turns of {MILLIS} ms: median [the half in the \
         middle]. The processor time is that of all of boundary's processes; the writers are threads \
         of its own for each sink. An allowed request is two records. Client, proxy, origin and the \
         other ends of the sinks share the processors."
    )?;
    Ok(text)
}

/// What is made of a session's outcome in a row and of the one that records nothing, by all rounds.
fn spread(
    rounds: &[Vec<Vec<Outcome>>],
    (row, index): (usize, usize),
    make: fn(&Outcome, &Outcome) -> f64,
) -> String {
    let pairs = rounds.iter().filter_map(|rows| {
        let outcomes = rows.get(row)?;
        Some(make(outcomes.get(index)?, outcomes.first()?))
    });
    Spread::of_the_middle(pairs).map_or("–".to_owned(), |spread| spread.to_string())
}

/// How often in a second.
fn rate(outcome: &Outcome) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of a second fits")]
    let count = outcome.count as f64;
    count / outcome.seconds
}

/// Reads what a workspace agent gets, until the process ends.
fn listen_as_agent(path: &Path) -> Result<()> {
    let listener = UnixListener::bind(path).context("the agent's socket")?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || swallow(&mut stream));
        }
    });
    Ok(())
}

/// Reads to the end.
fn swallow(stream: &mut impl Read) {
    let mut some = vec![0; 64 * 1024];
    while stream.read(&mut some).is_ok_and(|length| length > 0) {}
}

/// Reads what a collector gets and says that it has it, until the process ends.
fn listen_as_collector() -> Result<()> {
    let listener = TcpListener::bind(COLLECTOR).context("the collector's port")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who hangs up has had enough.
            thread::spawn(move || drop(collect(&stream)));
        }
    });
    Ok(())
}

/// Answers every request of a connection.
fn collect(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().context("a length")?;
            }
            if line.is_empty() {
                break;
            }
        }
        io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
        let mut out = stream;
        out.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
        )?;
    }
}
