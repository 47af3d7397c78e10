//! Sums what arrived at the simulated internet over a whole run of tests: from commands that boundary
//! ran, which must be nothing, and from the positive controls, which must be something.
//!
//! *Standing*: the tests write one line for each run into the file that [`VARIABLE`] names
//! (`tests/world/toll.rs`). *Never*: counts what a policy permitted.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::workspace::Workspace;

/// What tells the tests where to write.
pub(crate) const VARIABLE: &str = "BOUNDARY_TEST_TOLL";

/// Packets of one kind of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    /// Runs that were looked at.
    runs: u64,
    /// Over IPv4.
    v4: u64,
    /// Over IPv6.
    v6: u64,
    /// Frames that are neither.
    other: u64,
}

impl Count {
    /// One more run.
    fn add(&mut self, row: &Value) {
        let number = |name| row.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.runs += 1;
        self.v4 += number("v4");
        self.v6 += number("v6");
        self.other += number("other");
    }

    /// From what a machine wrote.
    fn of(row: &Value) -> Self {
        let mut count = Self::default();
        count.add(row);
        count.runs = row.get("runs").and_then(Value::as_u64).unwrap_or(0);
        count
    }

    /// For machines.
    fn json(self) -> Value {
        json!({ "runs": self.runs, "v4": self.v4, "v6": self.v6, "other": self.other })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, v4, v6, other } = self;
        write!(f, "{v4} over IPv4, {v6} over IPv6, {other} others ({runs} runs)")
    }
}

/// What arrived that no policy permits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Packets {
    /// From what boundary ran.
    denied: Count,
    /// From what ran without it.
    controls: Count,
}

impl Packets {
    /// An empty file for the tests to write into.
    pub(crate) fn file(workspace: &Workspace) -> Result<PathBuf> {
        let path = workspace.target().join("packets.jsonl");
        fs::write(&path, []).context("packets.jsonl")?;
        Ok(path)
    }

    /// Sums up a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Ok(Self::sum(&fs::read_to_string(path).context("packets.jsonl")?))
    }

    /// Sums up the text of one. A line that cannot be read is a run that nobody looked at.
    fn sum(text: &str) -> Self {
        let mut packets = Self::default();
        for row in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            match row.get("run").and_then(Value::as_str) {
                Some("bounded") => packets.denied.add(&row),
                Some("bare") => packets.controls.add(&row),
                _ => {}
            }
        }
        packets
    }

    /// Whether nothing arrived that should not have.
    pub(crate) fn is_tight(self) -> bool {
        self.denied.v4 + self.denied.v6 + self.denied.other == 0
    }

    /// Whether what should have arrived did, so that the nothing means something.
    pub(crate) fn is_controlled(self) -> bool {
        self.denied.runs > 0 && self.controls.v4 > 0 && self.controls.v6 > 0
    }

    /// From what a machine wrote.
    pub(crate) fn of(row: &Value) -> Self {
        let count = |name| row.get(name).map(Count::of).unwrap_or_default();
        Self { denied: count("denied"), controls: count("controls") }
    }

    /// For machines.
    pub(crate) fn json(self) -> Value {
        json!({ "denied": self.denied.json(), "controls": self.controls.json() })
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "denied packets that arrived: {}; of controls: {}", self.denied, self.controls)
    }
}

#[cfg(test)]
mod tests {
    use super::Packets;

    const CONTROLS: &str = r#"{"run":"bare","v4":2,"v6":1,"other":0}"#;
    const NOTHING: &str = r#"{"run":"bounded","v4":0,"v6":0,"other":0}"#;

    #[test]
    fn nothing_means_something_only_beside_controls() {
        let both = Packets::sum(&format!("{CONTROLS}\n{NOTHING}\n{NOTHING}\n"));
        assert!(both.is_tight() && both.is_controlled());
        assert_eq!(both.denied.runs, 2);
        assert!(!Packets::sum(NOTHING).is_controlled());
        assert!(!Packets::sum(CONTROLS).is_controlled());
    }

    #[test]
    fn one_packet_is_one_too_many() {
        for kind in ["v4", "v6", "other"] {
            let leak = format!(r#"{{"run":"bounded","{kind}":1}}"#);
            assert!(!Packets::sum(&leak).is_tight());
        }
    }
}
