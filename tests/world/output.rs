//! What a run left: its end, its words, its record, and what the world saw of it.
//!
//! *Standing*: every check goes through [`Output::expect`], so that a failure prints the scene.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use nix::libc::O_NONBLOCK;
use serde_json::Value;

use super::names::Question;
use super::request::Request;
use super::wire::Packet;

/// The scene after a run.
pub(crate) struct Output {
    /// The command line.
    pub(crate) line: Vec<String>,
    /// How it ended; none if even killing it did not help.
    pub(crate) status: Option<ExitStatus>,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
    /// The audit file's records of decisions, in order.
    pub(crate) records: Vec<Value>,
    /// The audit file's records of the session itself.
    pub(crate) session: Vec<Value>,
    /// What arrived at the internet meanwhile.
    pub(crate) packets: Vec<Packet>,
    /// The requests that origins answered meanwhile.
    pub(crate) requests: Vec<Request>,
    /// The questions that reached the internet's resolver meanwhile.
    pub(crate) questions: Vec<Question>,
    /// What the kernel said meanwhile.
    pub(crate) kernel: String,
}

impl Output {
    /// Fails with the whole scene unless it is so.
    #[track_caller]
    pub(crate) fn expect(&self, fine: bool, what: &str) -> &Self {
        assert!(fine, "not so: {what}\n{self}");
        self
    }

    /// It ended with this status, as a shell counts: 128+n for a signal.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        let status = self.status.and_then(|status| {
            status.code().or_else(|| status.signal().map(|signal| 128 + signal))
        });
        self.expect(status == Some(code), &format!("it exits with {code}"))
    }

    /// It wrote this to stdout.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        self.expect(self.stdout.contains(text), &format!("stdout contains {text:?}"))
    }

    /// It wrote this to stderr.
    #[track_caller]
    pub(crate) fn complains(&self, text: &str) -> &Self {
        self.expect(self.stderr.contains(text), &format!("stderr contains {text:?}"))
    }

    /// Nothing at all reached the internet.
    #[track_caller]
    pub(crate) fn nothing_left(&self) -> &Self {
        self.expect(self.packets.is_empty(), "no packet reaches the internet")
    }

    /// At least one packet reached the address.
    #[track_caller]
    pub(crate) fn reached(&self, address: &str) -> &Self {
        let address = address.parse().ok();
        let arrived = self.packets.iter().any(|packet| packet.target == address);
        self.expect(arrived, &format!("a packet reaches {address:?}"))
    }

    /// A frame of this ethernet type arrived.
    #[track_caller]
    pub(crate) fn expect_frame(&self, kind: u16) -> &Self {
        let arrived =
            self.packets.iter().any(|it| it.frame.get(12..14) == Some(&kind.to_be_bytes()));
        self.expect(arrived, &format!("a frame of type {kind:#x} arrives"))
    }

    /// The first record that has all of these fields, as `[("decision", "deny"), …]`.
    #[track_caller]
    pub(crate) fn record(&self, fields: &[(&str, &str)]) -> &Value {
        let fits =
            |record: &&Value| fields.iter().all(|(name, value)| text(&record[*name]) == *value);
        let found = self.records.iter().find(fits);
        self.expect(found.is_some(), &format!("a record with {fields:?}"));
        found.expect("just checked")
    }

    /// The lines of stdout that are JSON: what the attack program found.
    pub(crate) fn findings(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The one finding of a single attack.
    #[track_caller]
    pub(crate) fn finding(&self) -> Value {
        let findings = self.findings();
        self.expect(findings.len() == 1, "the attack says one thing");
        findings[0].clone()
    }

    /// The attack was refused with one of these errors.
    #[track_caller]
    pub(crate) fn refused(&self, errors: &[&str]) -> &Self {
        let finding = self.finding();
        let fits = finding["ok"] == false
            && errors.iter().any(|error| finding["errno"] == *error || finding["error"] == *error);
        self.expect(fits, &format!("the attack is refused with one of {errors:?}"))
    }

    /// The attack succeeded.
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        self.expect(self.finding()["ok"] == true, "the attack succeeds")
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "── command: {}", self.line.join(" "))?;
        match self.status {
            Some(status) => writeln!(f, "── {status}")?,
            None => writeln!(f, "── still alive")?,
        }
        writeln!(f, "── stdout\n{}\n── stderr\n{}", self.stdout, self.stderr)?;
        writeln!(f, "── {} records", self.records.len())?;
        self.records.iter().try_for_each(|record| writeln!(f, "{record}"))?;
        writeln!(f, "── {} packets arrived", self.packets.len())?;
        self.packets.iter().take(40).try_for_each(|packet| writeln!(f, "{packet}"))?;
        writeln!(f, "── {} requests arrived", self.requests.len())?;
        self.requests.iter().try_for_each(|request| {
            writeln!(f, "{} {} at {}", request.method, request.target, request.connection.local)
        })?;
        writeln!(f, "── {} questions arrived", self.questions.len())?;
        self.questions.iter().try_for_each(|question| writeln!(f, "{question:?}"))?;
        writeln!(f, "── kernel log\n{}", self.kernel)
    }
}

/// A field as text, a string without its quotes.
fn text(field: &Value) -> String {
    field.as_str().map_or_else(|| field.to_string(), str::to_owned)
}

/// The records of an audit file but a session's first and last; a line that is not JSON becomes a
/// record that says so.
pub(crate) fn records(path: &Path) -> Vec<Value> {
    let mut records = lines(path);
    records.retain(|record| !is_of_session(record));
    records
}

/// Whether a record is a session's first or last.
pub(crate) fn is_of_session(record: &Value) -> bool {
    record["event"] == "start" || record["event"] == "end"
}

/// Every line of an audit file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
}

/// What the kernel says from now on.
pub(crate) struct KernelLog(Option<File>);

impl KernelLog {
    /// Starts at the log's end.
    pub(crate) fn open() -> Self {
        let log = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg");
        Self(log.ok().and_then(|mut log| log.seek(SeekFrom::End(0)).is_ok().then_some(log)))
    }

    /// What it has said since.
    pub(crate) fn read(self) -> String {
        let mut said = String::new();
        let mut line = [0; 8192];
        let Some(mut log) = self.0 else { return said };
        while let Ok(length @ 1..) = log.read(&mut line) {
            said.push_str(&String::from_utf8_lossy(&line[..length]));
        }
        said
    }
}
