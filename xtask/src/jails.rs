//! Runs the journeys behind the jails that need no BPF, and writes into `docs/jails.md` what became of
//! them: `cargo xtask test` runs them behind `ebpf`.
//!
//! *Standing*: what a run showed stands in `target/jails.json` until the same jail is tried again for the
//! same user; the document is made of that. *Never*: counts a test that skipped as one that passed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{ChildStderr, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::built::Built;
use crate::document;
use crate::escapes::trial;
use crate::packets::{self, Packets};
use crate::say::say;
use crate::setup::setup;
use crate::suite;
use crate::workspace::Workspace;

/// Where the table stands.
const DOCUMENT: &str = "docs/jails.md";

/// What became of the tests, for the next run.
const RESULTS: &str = "jails.json";

/// How many tests run at once: most of them wait for something.
const THREADS: &str = "--test-threads=6";

/// What is the same behind every jail, or is about one that it names itself.
const ELSEWHERE: [&str; 12] = [
    "kernel::",
    "nsjail::",
    "landjail::",
    "containers::",
    "contained::",
    "jails::",
    "parsing::",
    "policy::",
    "config::",
    "ctl::",
    "deploy::",
    "reconcile::",
];

/// What begins the names of tests that try to get out.
const ESCAPES: &str = "escape::";

/// What is asked of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Jails {
    /// Only these jails, comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = ["nsjail".to_owned(), "landjail".to_owned()])]
    jail: Vec<String>,
    /// Starts boundary as an ordinary user wherever a test does not say as whom
    #[arg(long)]
    user: bool,
    /// Writes what became of them into the documentation
    #[arg(long)]
    document: bool,
    /// Parts of the names of tests; without any, all that depend on the jail
    tests: Vec<String>,
}

/// Tests of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    /// For machines.
    fn json(self) -> Value {
        json!({ "passed": self.passed, "failed": self.failed, "skipped": self.skipped })
    }

    /// From what a machine wrote.
    fn of(row: &Value) -> Self {
        let number = |name| row.get(name).and_then(Value::as_u64).unwrap_or(0);
        Self { passed: number("passed"), failed: number("failed"), skipped: number("skipped") }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, " ({} not for it)", self.skipped) } else { Ok(()) }
    }
}

/// What became of the tests behind one jail.
#[derive(Debug, Default)]
struct Outcome {
    /// How each ended.
    ran: BTreeMap<String, bool>,
    /// Those that had nothing to try.
    skipped: BTreeSet<String>,
    /// Whether the runner says that all is well.
    is_well: bool,
}

impl Outcome {
    /// Takes one line of a runner's output.
    fn note(&mut self, line: &str) {
        if let Some((test, fine)) = trial::ended(line) {
            self.ran.insert(test.to_owned(), fine);
        }
    }

    /// How those that try to get out ended, or all others.
    fn count(&self, are_escapes: bool) -> Count {
        let mut count = Count::default();
        let ran = self.ran.iter().filter(|(test, _)| test.starts_with(ESCAPES) == are_escapes);
        for (test, fine) in ran {
            match (fine, self.skipped.contains(test)) {
                (false, _) => count.failed += 1,
                (true, true) => count.skipped += 1,
                (true, false) => count.passed += 1,
            }
        }
        count
    }

    /// Whether something was shown, and nothing failed.
    fn is_good(&self) -> bool {
        let shown = self.ran.keys().any(|test| !self.skipped.contains(test));
        self.is_well && shown && self.ran.values().all(|fine| *fine)
    }

    /// For machines.
    fn json(&self) -> Value {
        json!({ "escapes": self.count(true).json(), "journeys": self.count(false).json() })
    }
}

/// The test that a line tells of which skips.
fn skipped(line: &str) -> Option<&str> {
    let (test, _) = line.strip_prefix("skipped: ")?.split_once(" needs ")?;
    Some(test)
}

/// Runs them behind one jail after the other; closes with one line for each.
pub(crate) fn jails(workspace: &Workspace, asked: &Jails) -> Result<ExitCode> {
    setup(workspace)?;
    let built =
        Built::build(workspace, &[&suite::TESTED[..], &["--quiet", "--all-targets"]].concat())?;
    let (mut closing, mut is_good) = (Vec::new(), true);
    let mut results = last(workspace);
    for jail in &asked.jail {
        let toll = Packets::file(workspace)?;
        let mut runner = runner(workspace, &built, asked)?;
        runner.env("BOUNDARY_TEST_JAIL", jail).env(packets::VARIABLE, &toll);
        let outcome = run(runner)?;
        let packets = Packets::read(&toll)?;
        is_good &= outcome.is_good() && packets.is_tight();
        let who = if asked.user { "a user" } else { "root" };
        let (escapes, journeys) = (outcome.count(true), outcome.count(false));
        let sum =
            format!("jails: {jail} as {who}: escapes {escapes}; others {journeys}; {packets}");
        closing.push(sum);
        if asked.tests.is_empty() {
            results.insert(format!("{who}|{jail}"), outcome.json());
        }
    }
    if asked.document {
        fs::write(workspace.target().join(RESULTS), Value::from(results.clone()).to_string())
            .context(RESULTS)?;
        document::write(workspace, DOCUMENT, "matrix", &table(&results))?;
    }
    closing.iter().for_each(say);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The runner, with what is asked of it.
fn runner(workspace: &Workspace, built: &Built, asked: &Jails) -> Result<Command> {
    // Not by cargo, which would build again for another environment.
    let mut runner = Command::new(built.runner("journey")?);
    runner.arg(THREADS).current_dir(workspace.root().join("tests"));
    if asked.tests.is_empty() {
        runner.args(ELSEWHERE.iter().flat_map(|name| ["--skip", name]));
    } else {
        runner.args(&asked.tests);
    }
    if asked.user {
        runner.env("BOUNDARY_TEST_AS", "user");
    }
    runner.env("BOUNDARY_BIN", built.program("boundary")?);
    runner.env("BOUNDARY_ATTACK", built.program("attack")?);
    if let Some(promise) = suite::promise() {
        runner.env("BOUNDARY_TEST_PROMISE", promise);
    }
    Ok(runner)
}

/// Runs it, hands on what it says line by line, and sums up on the way.
fn run(mut runner: Command) -> Result<Outcome> {
    runner.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = runner.spawn().context("the tests")?;
    let output = child.stdout.take().context("the tests have no output")?;
    let errors = child.stderr.take().context("the tests have no output for errors")?;
    let errors = std::thread::spawn(|| listen(errors));
    let mut outcome = Outcome::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("the tests")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(io::stdout(), "{line}").context("standard output")?;
        outcome.note(&line);
    }
    outcome.is_well = child.wait().context("the tests")?.success();
    // It ends with what it reads; a panic of it would be one here.
    outcome.skipped = errors.join().unwrap_or_default();
    Ok(outcome)
}

/// Hands on what tests say beside their output; which of them skip.
fn listen(errors: ChildStderr) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        all.extend(skipped(&line).map(str::to_owned));
        say(line);
    }
    all
}

/// What earlier runs showed.
fn last(workspace: &Workspace) -> Map<String, Value> {
    // What another version wrote is as good as nothing.
    let text = fs::read_to_string(workspace.target().join(RESULTS)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// What runs showed, for people.
fn table(results: &Map<String, Value>) -> String {
    let mut lines = vec![
        "| started as | jail | escapes | other journeys |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    lines.extend(results.iter().filter_map(|(place, row)| {
        let (who, jail) = place.split_once('|')?;
        let count = |name| row.get(name).map(Count::of).unwrap_or_default();
        Some(format!("| {who} | `{jail}` | {} | {} |", count("escapes"), count("journeys")))
    }));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::{Count, Outcome, skipped, table};

    /// What lines of a runner come to.
    fn noted(lines: &[&str]) -> Outcome {
        let mut outcome = Outcome { is_well: true, ..Outcome::default() };
        for line in lines {
            outcome.note(line);
        }
        outcome.skipped =
            lines.iter().filter_map(|line| skipped(line)).map(str::to_owned).collect();
        outcome
    }

    #[test]
    fn a_test_that_skipped_has_not_passed() {
        let outcome = noted(&[
            "skipped: escape::a::b needs ebpf",
            "test escape::a::b ... ok",
            "test escape::a::c ... ok",
            "test http::d ... FAILED",
        ]);
        assert_eq!(outcome.count(true), Count { passed: 1, failed: 0, skipped: 1 });
        assert_eq!(outcome.count(false), Count { passed: 0, failed: 1, skipped: 0 });
        assert!(!outcome.is_good());
    }

    #[test]
    fn a_run_that_shows_nothing_is_not_good() {
        assert!(!noted(&["skipped: a::b needs ebpf", "test a::b ... ok"]).is_good());
        assert!(noted(&["test a::b ... ok"]).is_good());
    }

    #[test]
    fn a_runner_that_died_is_not_good() {
        let outcome = Outcome { is_well: false, ..noted(&["test a::b ... ok"]) };
        assert!(!outcome.is_good());
    }

    #[test]
    fn the_table_has_a_line_for_each_jail() {
        let outcome = noted(&["test escape::a ... ok", "test b ... ok", "test c ... ok"]);
        let results = Map::from_iter([("root|nsjail".to_owned(), outcome.json())]);
        let said = table(&results);
        let line = "| root | `nsjail` | 1 passed, 0 failed | 2 passed, 0 failed |\n";
        assert!(said.ends_with(line), "{said}");
    }
}
