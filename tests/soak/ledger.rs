//! What the clients did, held against what is on record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// Kinds whose attempts have no name in the record; of those it has as many as there were.
const COUNTED: [&str; 2] = ["tcp", "dns"];
/// What is refused by the kernel, which may tell of several at once.
const UNCOUNTED: [&str; 1] = ["stray"];

/// Both sides.
pub(super) struct Ledger {
    /// By kind, and by outcome.
    outcomes: BTreeMap<String, BTreeMap<String, usize>>,
    differences: Vec<String>,
    /// Which kind got what it wanted, and when, in seconds of the epoch.
    fine: Vec<(String, f64)>,
}

/// What an attempt of a kind should come to.
fn wanted(kind: &str) -> &'static str {
    if ["refused", "stray"].contains(&kind) { "denied" } else { "ok" }
}

/// Whether an outcome means that somebody answered, so that there must be a record.
fn is_answered(outcome: &str) -> bool {
    outcome != "failed"
}

impl Ledger {
    /// Reads the clients' results, a line each, and the records.
    pub(super) fn of(results: &str, records: &[Value]) -> Self {
        let mut outcomes: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        let mut attempts: BTreeMap<String, String> = BTreeMap::new();
        let mut fine = Vec::new();
        for line in results.lines() {
            let [kind, number, outcome, at] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("a client wrote {line:?}");
            };
            if outcome == wanted(kind) {
                fine.push((kind.to_owned(), at.parse().expect("a time")));
            }
            let row = outcomes.entry(kind.to_owned()).or_default();
            *row.entry(outcome.to_owned()).or_default() += 1;
            attempts.insert(format!("{kind}-{number}"), outcome.to_owned());
        }
        let differences = [
            by_name(&attempts, records),
            COUNTED.iter().filter_map(|kind| by_count(kind, &outcomes, records)).collect(),
            open(records),
        ];
        Self { outcomes, differences: differences.concat(), fine }
    }

    /// Where the two sides differ.
    pub(super) fn differences(&self) -> &[String] {
        &self.differences
    }

    /// How many seconds after a moment the first client got what it wanted, and how many until every
    /// kind of them had.
    pub(super) fn recovered(&self, since: f64) -> (f64, f64) {
        let mut first: BTreeMap<&str, f64> = BTreeMap::new();
        for (kind, at) in self.fine.iter().filter(|(_, at)| *at >= since) {
            let after = first.entry(kind).or_insert(f64::INFINITY);
            *after = after.min(at - since);
        }
        let least = first.values().copied().fold(f64::INFINITY, f64::min);
        (least, first.values().copied().fold(0.0, f64::max))
    }

    /// The kinds of which no attempt came to what it should.
    pub(super) fn idle(&self) -> Vec<&str> {
        let is_idle = |(kind, row): &(&String, &BTreeMap<String, usize>)| {
            kind.as_str() != "broken" && !row.contains_key(wanted(kind))
        };
        self.outcomes.iter().filter(is_idle).map(|(kind, _)| kind.as_str()).collect()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.outcomes.values().flat_map(BTreeMap::values).sum();
        write!(f, "{total} requests (")?;
        for (place, (kind, row)) in self.outcomes.iter().enumerate() {
            let row: Vec<String> =
                row.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
            write!(f, "{}{kind} {}", if place == 0 { "" } else { "; " }, row.join(" "))?;
        }
        write!(f, ")")
    }
}

/// Whether a record opens a decision rather than closes one.
fn is_opening(record: &Value) -> bool {
    record.get("duration_ms").is_none()
}

/// Every attempt with a name: on record once where it was answered, at most once where not, with the
/// same verdict; and no record of what nobody attempted.
fn by_name(attempts: &BTreeMap<String, String>, records: &[Value]) -> Vec<String> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in records.iter().filter(|record| is_opening(record)) {
        let name = record["http_url"].as_str().and_then(|url| url.split("/soak/").nth(1));
        if let Some(name) = name {
            found.entry(name).or_default().push(record["decision"].as_str().unwrap_or("none"));
        }
    }
    let mut differences = Vec::new();
    for (name, outcome) in attempts {
        let kind = name.split('-').next().unwrap_or_default();
        if COUNTED.contains(&kind) || UNCOUNTED.contains(&kind) {
            continue;
        }
        let wanted = if kind == "refused" { "deny" } else { "allow" };
        match found.remove(name.as_str()).as_deref() {
            Some([decision]) if *decision == wanted => {}
            None if !is_answered(outcome) => {}
            other => differences.push(format!("{name} was {outcome}, on record: {other:?}")),
        }
    }
    differences.extend(found.keys().map(|name| format!("{name} is on record, and nobody's")));
    differences
}

/// Attempts without a name: at least as many records as answers, at most as many as attempts.
fn by_count(
    kind: &str,
    outcomes: &BTreeMap<String, BTreeMap<String, usize>>,
    records: &[Value],
) -> Option<String> {
    let row = outcomes.get(kind)?;
    let attempts: usize = row.values().sum();
    let answers: usize =
        row.iter().filter(|(outcome, _)| is_answered(outcome)).map(|(_, count)| count).sum();
    let is_of_kind = |record: &&Value| {
        let host = record["host"].as_str().unwrap_or_default();
        let is_numbered = host
            .strip_prefix('n')
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        match kind {
            "tcp" => record["proto"] == "tcp" && record["port"] == 7,
            _ => record["proto"] == "dns" && is_numbered,
        }
    };
    let told: Vec<&Value> =
        records.iter().filter(|record| is_opening(record)).filter(is_of_kind).collect();
    if (answers..=attempts).contains(&told.len()) {
        return None;
    }
    let count = told.len();
    let told: Vec<String> =
        told.iter().map(|it| format!("{} {}", it["event_time"], it["decision"])).collect();
    Some(format!("{kind}: {answers} answers of {attempts}, {count} on record: {}", told.join(", ")))
}

/// Requests and streams that were permitted, and whose end is not on record.
fn open(records: &[Value]) -> Vec<String> {
    let closed: BTreeSet<u64> = records
        .iter()
        .filter(|record| !is_opening(record))
        .filter_map(|record| record["sequence"].as_u64())
        .collect();
    let carries = |record: &&Value| {
        let is_carried = record["http_url"].is_string() || record["proto"] == "tcp";
        is_opening(record) && record["decision"] == "allow" && is_carried
    };
    let is_open = |record: &&Value| {
        record["sequence"].as_u64().is_none_or(|number| !closed.contains(&number))
    };
    let open = records.iter().filter(carries).filter(is_open);
    open.map(|record| format!("never closed: {record}")).collect()
}
