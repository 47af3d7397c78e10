//! Runs the journeys behind the jails that need no BPF, and writes into `docs/jails.md` what became of
//! them: `cargo xtask test` runs them behind `ebpf`.
//!
//! *Standing*: what a run showed stands in `target/jails.json` until the same jail is tried again in the
//! same place for the same user; the document is made of that. Of a place where the jail cannot be
//! raised one test has shown so. *Never*: counts a test that skipped as one that passed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
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
use crate::tally::skipped;
use crate::workspace::Workspace;

/// Where the table stands.
const DOCUMENT: &str = "docs/jails.md";

/// What became of the tests, for the next run.
const RESULTS: &str = "jails.json";

/// How many tests run at once: most of them wait for something.
const THREADS: &str = "--test-threads=6";

/// What is the same behind every jail, or is about one that it names itself.
const ELSEWHERE: [&str; 17] = [
    "kernel::",
    "nsjail::",
    "landjail::",
    "signals::",
    "containers::",
    "contained::",
    "jails::",
    "parsing::",
    "policy::",
    "config::",
    "ctl::",
    "deploy::",
    "reconcile::",
    "documents::",
    "dashboard::",
    "installing::",
    "stage::",
];

/// What begins the names of tests that try to get out.
const ESCAPES: &str = "escape::";

/// Where boundary starts: by the name that the tests know, and in words.
const PLACES: [(&str, &str); 7] = [
    ("machine", "the machine"),
    ("default", "a container"),
    ("net-admin", "… with `--cap-add NET_ADMIN`"),
    ("sys-admin", "… with `--cap-add SYS_ADMIN`"),
    ("unconfined", "… with `seccomp=unconfined` and `systempaths=unconfined`"),
    ("privileged", "… with `--privileged`"),
    ("restricted", "Kubernetes, restricted"),
];

/// The jails, in the order of the table.
const JAILS: [&str; 3] = ["ebpf", "nsjail", "landjail"];

/// The test that finds whether the jail stands in a place, and that nothing runs where it does not.
const STANDS: &str = "containers::the_jail_of_the_run_judges_or_runs_nothing_and_names_the_row";

/// What is asked of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Jails {
    /// Only these jails, comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = ["nsjail".to_owned(), "landjail".to_owned()])]
    jail: Vec<String>,
    /// Starts boundary as an ordinary user wherever a test does not say as whom
    #[arg(long)]
    user: bool,
    /// Where boundary starts, comma-separated: the machine itself, or a container of a kind
    #[arg(long, value_delimiter = ',', default_values_t = ["machine".to_owned()],
          value_parser = PLACES.map(|(name, _)| name))]
    inside: Vec<String>,
    /// Every jail, everywhere, as root and as a user: takes an hour or two
    #[arg(long, conflicts_with_all = ["jail", "user", "inside"])]
    matrix: bool,
    /// Writes what became of them into the documentation
    #[arg(long)]
    document: bool,
    /// Parts of the names of tests; without any, all that depend on the jail
    tests: Vec<String>,
}

/// One row of the table: where, as whom, which jail.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    inside: String,
    is_user: bool,
    jail: String,
}

impl Row {
    /// Those of a run.
    fn asked(asked: &Jails) -> Vec<Self> {
        let rows = Self::all().into_iter();
        let is_asked = |row: &Self| {
            asked.matrix
                || asked.inside.contains(&row.inside)
                    && asked.user == row.is_user
                    && asked.jail.contains(&row.jail)
        };
        rows.filter(is_asked).collect()
    }

    /// All that there are. Kubernetes' restricted profile has no root; and where root has no right to mount, it
    /// maps nobody else's ids, as half of the tests take it to (`sudo`).
    fn all() -> Vec<Self> {
        let whom = |place| {
            if ["restricted", "unconfined"].contains(&place) { &[true][..] } else { &[false, true] }
        };
        let mut all = Vec::new();
        for (inside, _) in PLACES {
            for &is_user in whom(inside) {
                all.extend(JAILS.map(|jail| Self {
                    inside: inside.to_owned(),
                    is_user,
                    jail: jail.to_owned(),
                }));
            }
        }
        all
    }

    /// Who starts boundary.
    fn who(&self) -> &'static str {
        if self.is_user { "a user" } else { "root" }
    }

    /// By what its outcome is known.
    fn key(&self) -> String {
        format!("{}|{}|{}", self.inside, self.who(), self.jail)
    }

    /// Its place in words.
    fn place(&self) -> &'static str {
        let known = PLACES.into_iter().find(|(name, _)| *name == self.inside);
        known.map_or("", |(_, words)| words)
    }

    /// Tells the tests of it.
    fn tell(&self, runner: &mut Command) {
        runner.env("BOUNDARY_TEST_JAIL", &self.jail);
        if self.is_user {
            runner.env("BOUNDARY_TEST_AS", "user");
        }
        if self.inside != "machine" {
            runner.env("BOUNDARY_TEST_IN", &self.inside);
        }
    }
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
    /// What keeps the jail from being raised, if something does.
    refused: Option<String>,
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
        json!({ "escapes": self.count(true).json(), "journeys": self.count(false).json(),
                "refused": self.refused })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refused {
            Some(obstacle) if self.is_good() => write!(f, "refused, as it has to be: {obstacle}"),
            _ => write!(f, "escapes {}; others {}", self.count(true), self.count(false)),
        }
    }
}

/// What keeps a jail from being raised, if a line tells of that.
fn refused(line: &str) -> Option<&str> {
    let (_, obstacle) = line.strip_prefix("refused: ")?.split_once(": ")?;
    Some(obstacle)
}

/// Runs them in one place after the other; closes with one line for each.
pub(crate) fn jails(workspace: &Workspace, asked: &Jails) -> Result<ExitCode> {
    setup(workspace)?;
    let built =
        Built::build(workspace, &[&suite::TESTED[..], &["--quiet", "--all-targets"]].concat())?;
    let (mut closing, mut is_good) = (Vec::new(), true);
    let mut results = last(workspace);
    for row in Row::asked(asked) {
        let toll = Packets::file(workspace)?;
        let outcome = row_of(workspace, &built, (asked, &row), &toll)?;
        let packets = Packets::read(&toll)?;
        is_good &= outcome.is_good() && packets.is_tight();
        let sum =
            format!("jails: {}, {}, {}: {outcome}; {packets}", row.inside, row.who(), row.jail);
        say(&sum);
        closing.push(sum);
        if asked.tests.is_empty() {
            results.insert(row.key(), outcome.json());
            fs::write(workspace.target().join(RESULTS), Value::from(results.clone()).to_string())
                .context(RESULTS)?;
        }
    }
    if asked.document {
        document::write(workspace, DOCUMENT, "matrix", &table(&results))?;
    }
    closing.iter().for_each(say);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs what is asked in one place; in a container, only where the jail stands.
fn row_of(
    workspace: &Workspace,
    built: &Built,
    (asked, row): (&Jails, &Row),
    toll: &Path,
) -> Result<Outcome> {
    let start = |words: &[&str]| -> Result<Outcome> {
        let mut runner = runner(workspace, built, words)?;
        row.tell(&mut runner);
        runner.env(packets::VARIABLE, toll);
        run(runner)
    };
    if row.inside != "machine" {
        let first = start(&["--exact", STANDS])?;
        if first.refused.is_some() || !first.is_good() {
            return Ok(first);
        }
    }
    if asked.tests.is_empty() {
        return start(&ELSEWHERE.map(|name| ["--skip", name]).concat());
    }
    start(&asked.tests.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The runner, with what is asked of it.
fn runner(workspace: &Workspace, built: &Built, words: &[&str]) -> Result<Command> {
    // Not by cargo, which would build again for another environment.
    let mut runner = Command::new(built.runner("journey")?);
    runner.arg(THREADS).args(words).current_dir(workspace.root().join("tests"));
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
    (outcome.skipped, outcome.refused) = errors.join().unwrap_or_default();
    Ok(outcome)
}

/// Hands on what tests say beside their output; which of them skip, and what keeps the jail.
fn listen(errors: ChildStderr) -> (BTreeSet<String>, Option<String>) {
    let (mut all, mut obstacle) = (BTreeSet::new(), None);
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        all.extend(skipped(&line).map(str::to_owned));
        obstacle = obstacle.or_else(|| refused(&line).map(str::to_owned));
        say(line);
    }
    (all, obstacle)
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
        "| where | started as | jail | escapes | other journeys |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(Row::all().iter().filter_map(|row| {
        let found = results.get(&row.key())?;
        let count = |name| found.get(name).map(Count::of).unwrap_or_default();
        let (escapes, others) = (count("escapes"), count("journeys"));
        let ended = match found.get("refused").and_then(Value::as_str) {
            Some(obstacle) if others.failed == 0 => {
                format!("refused with exit status 125: {obstacle} | – |")
            }
            _ => format!("{escapes} | {others} |"),
        };
        Some(format!("| {} | {} | `{}` | {ended}", row.place(), row.who(), row.jail))
    }));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::{Count, Outcome, Row, refused, skipped, table};

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
        let results = Map::from_iter([("machine|root|nsjail".to_owned(), outcome.json())]);
        let said = table(&results);
        let line = "| the machine | root | `nsjail` | 1 passed, 0 failed | 2 passed, 0 failed |\n";
        assert!(said.ends_with(line), "{said}");
    }

    #[test]
    fn a_refusal_is_told_only_where_a_test_has_found_it_right() {
        let refused = |line| {
            let refused = refused("refused: nsjail: user namespace: refused (EPERM)");
            let outcome = Outcome { refused: refused.map(str::to_owned), ..noted(&[line]) };
            table(&Map::from_iter([("default|a user|nsjail".to_owned(), outcome.json())]))
        };
        let said = refused("test containers::it ... ok");
        assert!(said.contains("125: user namespace: refused (EPERM)"), "{said}");
        let said = refused("test containers::it ... FAILED");
        assert!(said.contains("0 passed, 1 failed"), "{said}");
    }

    #[test]
    fn the_matrix_has_each_jail_everywhere_but_root_where_users_alone_are_tried() {
        let all = Row::all();
        assert_eq!(all.len(), 7 * 3 * 2 - 6);
        for place in ["restricted", "unconfined"] {
            assert!(!all.iter().any(|row| row.inside == place && !row.is_user));
        }
    }
}
