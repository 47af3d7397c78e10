//! The table of one run, for machines and for people.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::catalogue::{Catalogue, Way};
use super::mutation::Mutant;

/// The jail that the tests went through.
const JAIL: &str = "ebpf";

/// What a run showed.
pub(crate) struct Table<'a> {
    /// What was to be shown.
    pub(crate) catalogue: &'a Catalogue,
    /// The tests that ran, and how each ended.
    pub(crate) ran: &'a BTreeMap<String, bool>,
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
        match (way.is_held, ends.is_empty() || ends.contains(&false)) {
            (false, _) => Outcome::Info,
            (true, true) => Outcome::Fail,
            (true, false) => Outcome::Pass,
        }
    }

    /// How many ways out have an outcome.
    fn count(&self, outcome: Outcome) -> usize {
        self.catalogue.ways.iter().filter(|way| self.outcome(way) == outcome).count()
    }

    /// Whether nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        self.count(Outcome::Fail) == 0
    }

    /// The sum in one line.
    pub(crate) fn sum(&self) -> String {
        let [pass, fail, info] =
            [Outcome::Pass, Outcome::Fail, Outcome::Info].map(|outcome| self.count(outcome));
        format!("{pass} PASS, {fail} FAIL, {info} INFO, {} tests", self.ran.len())
    }

    /// One object for each way out.
    pub(crate) fn json(&self) -> Result<String> {
        let ways: Vec<Value> = self.catalogue.ways.iter().map(|way| self.row(way)).collect();
        serde_json::to_string_pretty(&ways).context("the table as JSON")
    }

    /// One way out for machines.
    fn row(&self, way: &Way) -> Value {
        let tests: Vec<Value> = way
            .tests(self.ran)
            .map(|(test, fine)| json!({ "test": test, "outcome": if fine { "PASS" } else { "FAIL" } }))
            .collect();
        json!({
            "id": way.id,
            "jail": JAIL,
            "outcome": self.outcome(way).as_str(),
            "tests": tests,
            "walls": way.walls,
            "words": way.words,
        })
    }

    /// The ways out for people, and the walls.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = vec![
            "| id | way out | outcome | walls | tests |".to_owned(),
            "|---|---|---|---|---|".to_owned(),
        ];
        lines.extend(self.catalogue.ways.iter().map(|way| {
            let outcome = self.outcome(way).as_str();
            let (walls, tests) = (way.walls.join(", "), way.tests(self.ran).count());
            let tests = if way.is_held { tests.to_string() } else { String::new() };
            format!("| {} | {} | {outcome} | {walls} | {tests} |", way.id, way.words)
        }));
        lines.push(format!("\nJail `{JAIL}`: {}.", self.sum()));
        lines.push("\n| wall | what it is |\n|---|---|".to_owned());
        let walls = self.catalogue.walls.iter();
        lines.extend(walls.map(|wall| format!("| {} | {} |", wall.name, wall.words)));
        lines.join("\n") + "\n"
    }
}

/// One object for each run without walls.
pub(crate) fn mutants_as_json(mutants: &[Mutant]) -> Result<String> {
    let rows: Vec<Value> = mutants
        .iter()
        .map(|it| json!({ "without": it.without, "ran": it.ran, "noticed": it.noticed }))
        .collect();
    serde_json::to_string_pretty(&rows).context("the mutants as JSON")
}

/// What is noticed without each wall, for people.
pub(crate) fn mutants(mutants: &[Mutant]) -> String {
    let mut lines =
        vec!["| without | tests run | noticed by |".to_owned(), "|---|---|---|".to_owned()];
    lines.extend(mutants.iter().map(|mutant| {
        let (without, ran) = (mutant.without.join(" and "), mutant.ran);
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

    use super::{Catalogue, Outcome, Table};

    fn outcomes(ran: &[(&str, bool)]) -> Vec<Outcome> {
        let text = "A-1 | held | w | | x\nA-2 | held | w | | y\nA-3 | info | | | z\n";
        let catalogue = Catalogue::parse(text).unwrap();
        let ran: BTreeMap<String, bool> =
            ran.iter().map(|(test, fine)| ((*test).to_owned(), *fine)).collect();
        let table = Table { catalogue: &catalogue, ran: &ran };
        catalogue.ways.iter().map(|way| table.outcome(way)).collect()
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
}
