//! The table of one run, for machines and for people.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::catalogue::{Catalogue, Kind, Way};
use super::mutation::{Mutant, Mutants};
use crate::packets::Packets;

/// The jail that the tests went through.
const JAIL: &str = "ebpf";

/// What a run showed.
pub(crate) struct Table<'a> {
    /// What was to be shown.
    pub(crate) catalogue: &'a Catalogue,
    /// The tests that ran, and how each ended.
    pub(crate) ran: &'a BTreeMap<String, bool>,
    /// What was noticed without walls, as far as it was tried.
    pub(crate) mutants: &'a Mutants,
    /// What arrived at the simulated internet.
    pub(crate) packets: Packets,
}

/// What became of one way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Every test of it went well.
    Pass,
    /// A test failed, or none ran.
    Fail,
    /// No test can show it; the reason is in the table.
    Info,
}

impl Outcome {
    /// As the table says it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Info => "INFO",
        }
    }
}

impl Table<'_> {
    /// What became of a way out.
    fn outcome(&self, way: &Way) -> Outcome {
        let ends: Vec<bool> = way.tests(self.ran).map(|(_, fine)| fine).collect();
        match (way.kind, ends.is_empty() || ends.contains(&false)) {
            (Kind::Info, _) => Outcome::Info,
            (Kind::Held | Kind::Works, true) => Outcome::Fail,
            (Kind::Held | Kind::Works, false) => Outcome::Pass,
        }
    }

    /// How many ways out have an outcome.
    fn count(&self, outcome: Outcome) -> usize {
        self.catalogue.ways.iter().filter(|way| self.outcome(way) == outcome).count()
    }

    /// Whether nothing failed, nothing arrived, and what should arrive did.
    pub(crate) fn is_good(&self) -> bool {
        self.count(Outcome::Fail) == 0 && self.packets.is_tight() && self.packets.is_controlled()
    }

    /// The sum in one line.
    pub(crate) fn sum(&self) -> String {
        let [pass, fail, info] =
            [Outcome::Pass, Outcome::Fail, Outcome::Info].map(|outcome| self.count(outcome));
        format!("{pass} PASS, {fail} FAIL, {info} INFO, {} tests", self.tests())
    }

    /// How many tests are of a way out.
    fn tests(&self) -> usize {
        let is_of_one = |test: &&String| self.catalogue.ways.iter().any(|it| it.is_shown_by(test));
        self.ran.keys().filter(is_of_one).count()
    }

    /// The whole result.
    pub(crate) fn json(&self) -> Result<String> {
        let whole = json!({
            "packets": self.packets.json(),
            "tests": self.ran,
            "ways": self.ways(),
        });
        serde_json::to_string_pretty(&whole).context("the table as JSON")
    }

    /// One object for each way out, one to a line.
    pub(crate) fn rows(&self) -> Result<String> {
        let rows = self.ways().into_iter().map(|row| {
            serde_json::to_string(&row).map(|row| row + "\n").context("a row of the table as JSON")
        });
        rows.collect()
    }

    /// One object for each way out.
    fn ways(&self) -> Vec<Value> {
        self.catalogue.ways.iter().map(|way| self.row(way)).collect()
    }

    /// One way out for machines.
    fn row(&self, way: &Way) -> Value {
        let tests: Vec<Value> = way
            .tests(self.ran)
            .map(|(test, fine)| json!({ "test": test, "outcome": if fine { "PASS" } else { "FAIL" } }))
            .collect();
        let shown = self.mutants.of(way).into_iter();
        let mutation: Vec<Value> = shown
            .map(|(without, noticed)| json!({ "without": without, "noticed": noticed }))
            .collect();
        let (title, reason) = match way.kind {
            Kind::Info => (None, Some(&way.words)),
            Kind::Held | Kind::Works => (Some(&way.words), None),
        };
        json!({
            "id": way.id,
            "jail": JAIL,
            "title": title,
            "outcome": self.outcome(way).as_str(),
            "walls": way.walls,
            "tests": tests,
            "mutation": mutation,
            "reason": reason,
        })
    }

    /// The ways out for people, and the walls.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = vec![
            "| id | way out | outcome | walls | tests | fails without |".to_owned(),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        lines.extend(self.catalogue.ways.iter().map(|way| self.line(way)));
        lines.push(format!("\nJail `{JAIL}`: {}.", self.sum()));
        lines.push(format!("\nOver the whole run, {}.", self.packets));
        lines.push("\n| wall | what it is |\n|---|---|".to_owned());
        let walls = self.catalogue.walls.iter();
        lines.extend(walls.map(|wall| format!("| {} | {} |", wall.name, wall.words)));
        lines.join("\n") + "\n"
    }

    /// One way out for people.
    fn line(&self, way: &Way) -> String {
        let outcome = self.outcome(way).as_str();
        let (walls, tests) = (way.walls.join(", "), way.tests(self.ran).count());
        let tests = if way.kind == Kind::Info { String::new() } else { tests.to_string() };
        let shown = self.mutants.of(way).into_iter().map(|(without, _)| without.join(" + "));
        let without = match way.kind {
            Kind::Held => shown.collect::<Vec<_>>().join(", "),
            Kind::Works => "(it works or it does not)".to_owned(),
            Kind::Info => String::new(),
        };
        format!("| {} | {} | {outcome} | {walls} | {tests} | {without} |", way.id, way.words)
    }
}

/// What an earlier run wrote: the tests that ran, and what arrived.
pub(crate) fn parse(text: &str) -> Result<(BTreeMap<String, bool>, Packets)> {
    let whole: Value = serde_json::from_str(text).context("the table's JSON")?;
    let ran = whole.get("tests").and_then(Value::as_object).context("the table has no tests")?;
    let ran = ran.iter().map(|(test, fine)| (test.clone(), *fine == json!(true))).collect();
    Ok((ran, whole.get("packets").map(Packets::of).unwrap_or_default()))
}

/// What is noticed without each wall, for people.
pub(crate) fn of_mutants(mutants: &Mutants) -> String {
    let mut lines =
        vec!["| without | tests run | noticed by |".to_owned(), "|---|---|---|".to_owned()];
    lines.extend(mutants.iter().map(|mutant| {
        let (without, ran) = (mutant.without.join(" + "), mutant.ran.len());
        format!("| {without} | {ran} | {} |", noticed(mutant))
    }));
    lines.join("\n") + "\n"
}

/// Who noticed, in one cell.
fn noticed(mutant: &Mutant) -> String {
    let names = mutant.noticed.iter().filter_map(|test| test.rsplit("::").next());
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Catalogue, Mutants, Outcome, Packets, Table, parse};

    /// Lets a function look at the table of a run.
    fn with_table<T>(ran: &[(&str, bool)], look: impl FnOnce(&Table<'_>) -> T) -> T {
        let text = "A-1 | held | w | | x\nA-2 | works | | | y\nA-3 | info | | | z\n";
        let catalogue = Catalogue::parse(text).unwrap();
        let ran: BTreeMap<String, bool> =
            ran.iter().map(|(test, fine)| ((*test).to_owned(), *fine)).collect();
        let (mutants, packets) = (Mutants::default(), Packets::default());
        look(&Table { catalogue: &catalogue, ran: &ran, mutants: &mutants, packets })
    }

    fn outcomes(ran: &[(&str, bool)]) -> Vec<Outcome> {
        with_table(ran, |it| it.catalogue.ways.iter().map(|way| it.outcome(way)).collect())
    }

    #[test]
    fn one_failed_test_of_a_way_out_is_a_failure_of_it() {
        let ran =
            [("escape::x::a01_p", true), ("escape::x::a01_q", false), ("escape::x::a02_r", true)];
        assert_eq!(outcomes(&ran), [Outcome::Fail, Outcome::Pass, Outcome::Info]);
    }

    #[test]
    fn what_no_test_showed_is_a_failure() {
        assert_eq!(outcomes(&[]), [Outcome::Fail, Outcome::Fail, Outcome::Info]);
    }

    #[test]
    fn a_run_without_positive_controls_is_not_good() {
        let ran = [("escape::x::a01_p", true), ("escape::x::a02_r", true)];
        assert!(with_table(&ran, |table| !table.is_good()));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = with_table(&[("escape::x::a01_p", true)], |table| table.json().unwrap());
        let (ran, packets) = parse(&text).unwrap();
        assert_eq!(ran, BTreeMap::from([("escape::x::a01_p".to_owned(), true)]));
        assert_eq!(packets, Packets::default());
    }
}
