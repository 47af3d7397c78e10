//! Leaves off one wall after the other: a test that cannot fail shows nothing.
//!
//! *Standing*: first each wall alone, under the tests that it names in the catalogue. A way out at
//! which nobody has missed a wall by then is tried with its own tests, without each of its walls and
//! then without all of them together, because one may hold what another one lets through; a wall that
//! nobody misses is tried with each one beside it. *Never*: takes a test for a witness that fails with
//! every wall in place.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::catalogue::{Catalogue, Wall, Way};
use super::failed;
use super::trial::Trial;
use crate::say::say;
use crate::workspace::Workspace;

/// The canary would refuse to start without most of the walls, which shows only that it sings.
const CANARY: &str = "canary";

/// The name of no wall: nothing is left off, but tests are as impatient as if something were.
const NOTHING: &str = "nothing";

/// What became of the tests without some walls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mutant {
    /// The walls that were off, in the catalogue's order.
    pub(crate) without: Vec<String>,
    /// The tests that ran.
    pub(crate) ran: BTreeSet<String>,
    /// Those that noticed.
    pub(crate) noticed: BTreeSet<String>,
}

impl Mutant {
    /// One line about it.
    fn line(&self) -> String {
        let names: Vec<&str> =
            self.noticed.iter().filter_map(|test| test.rsplit("::").next()).collect();
        let walls = self.without.join(" and ");
        format!(
            "without {walls}: {} of {} notice: {}",
            names.len(),
            self.ran.len(),
            names.join(" ")
        )
    }

    /// For machines.
    fn json(&self) -> Value {
        json!({ "without": self.without, "ran": self.ran, "noticed": self.noticed })
    }

    /// From what a machine wrote.
    fn of(row: &Value) -> Option<Self> {
        let texts = |name| -> Option<Vec<String>> {
            let list = row.get(name)?.as_array()?;
            list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let set = |name| texts(name).map(|texts| texts.into_iter().collect());
        Some(Self { without: texts("without")?, ran: set("ran")?, noticed: set("noticed")? })
    }
}

/// All that was tried.
#[derive(Debug, Default)]
pub(crate) struct Mutants(Vec<Mutant>);

impl Mutants {
    /// Each of them, in the order they were tried.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mutant> {
        self.0.iter()
    }

    /// Reads what an earlier run wrote.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let rows: Vec<Value> = serde_json::from_str(text).context("the mutants' JSON")?;
        let mutants: Option<Vec<Mutant>> = rows.iter().map(Mutant::of).collect();
        mutants.map(Self).context("an odd mutant")
    }

    /// For machines.
    pub(crate) fn json(&self) -> Result<String> {
        let rows: Vec<Value> = self.iter().map(Mutant::json).collect();
        serde_json::to_string_pretty(&rows).context("the mutants as JSON")
    }

    /// What without shows that the tests of a way out can fail: the walls that were off, and who
    /// noticed. Each of its walls alone, or where none is missed alone all of them together.
    pub(crate) fn of<'a>(&'a self, way: &'a Way) -> Vec<(&'a [String], Vec<&'a str>)> {
        let witnesses = |mutant: &'a Mutant| -> Vec<&'a str> {
            let noticed = mutant.noticed.iter().map(String::as_str);
            noticed.filter(|test| way.is_shown_by(test)).collect()
        };
        let of_way =
            self.iter().filter(|it| it.without.iter().all(|wall| way.walls.contains(wall)));
        let shown = of_way.map(|mutant| (mutant.without.as_slice(), witnesses(mutant)));
        let shown: Vec<_> = shown.filter(|(_, witnesses)| !witnesses.is_empty()).collect();
        let fewest = shown.iter().map(|(without, _)| without.len()).min().unwrap_or_default();
        shown.into_iter().filter(|(without, _)| without.len() == fewest).collect()
    }

    /// The walls that were off and that nobody misses, neither alone nor with another.
    pub(crate) fn unmissed(&self) -> Vec<&str> {
        let tried: BTreeSet<&str> = self.0.iter().filter_map(Mutant::subject).collect();
        let is_missed = |wall: &&str| self.is_missed(wall);
        tried.into_iter().filter(|wall| !is_missed(wall)).collect()
    }

    /// Forgets what was without any of some walls, or everything.
    fn forget(&mut self, walls: &[String]) {
        let is_other = |mutant: &Mutant| !mutant.without.iter().any(|wall| walls.contains(wall));
        self.0.retain(|mutant| !walls.is_empty() && is_other(mutant));
    }

    /// Whether a wall is missed: more is noticed without it than without the ones that were off
    /// besides it.
    fn is_missed(&self, wall: &str) -> bool {
        let with_it = self.0.iter().filter(|it| it.without.iter().any(|off| off == wall));
        with_it.into_iter().any(|mutant| {
            let others: Vec<&String> = mutant.without.iter().filter(|off| *off != wall).collect();
            let known = self.0.iter().find(|it| it.without.iter().eq(others.iter().copied()));
            let alone = others.is_empty();
            let explained = |test: &String| known.is_some_and(|it| it.noticed.contains(test));
            (alone || known.is_some()) && !mutant.noticed.iter().all(explained)
        })
    }

    /// Notes what became of some tests without some walls; a line about them.
    fn note(
        &mut self,
        walls: &[&Wall],
        ran: BTreeSet<String>,
        noticed: BTreeSet<String>,
    ) -> String {
        let names = || walls.iter().map(|wall| &wall.name);
        if let Some(mutant) = self.0.iter_mut().find(|it| it.without.iter().eq(names())) {
            mutant.ran.extend(ran);
            mutant.noticed.extend(noticed);
            return mutant.line();
        }
        let mutant = Mutant { without: names().cloned().collect(), ran, noticed };
        let line = mutant.line();
        self.0.push(mutant);
        line
    }
}

impl Mutant {
    /// The wall that was off, if it was one alone.
    fn subject(&self) -> Option<&str> {
        match self.without.as_slice() {
            [wall] => Some(wall),
            _ => None,
        }
    }
}

/// The course of one whole trial.
struct Course<'a> {
    trial: Trial<'a>,
    catalogue: &'a Catalogue,
    /// How tests end with every wall in place, as far as anybody had to know.
    fit: BTreeMap<String, bool>,
    mutants: Mutants,
}

/// Tries every wall that can be left off; or those that were asked for, and whatever an earlier run
/// showed of the others stands. What is known is kept after each.
pub(crate) fn all(
    workspace: &Workspace,
    catalogue: &Catalogue,
    (asked, mut mutants): (&[String], Mutants),
    keep: impl Fn(&Mutants) -> Result<()>,
) -> Result<Mutants> {
    let trial = Trial::mutable(workspace)?;
    mutants.forget(asked);
    let mut course = Course { trial, catalogue, fit: BTreeMap::new(), mutants };
    let wanted = |wall: &&Wall| asked.is_empty() || asked.contains(&wall.name);
    // The last ones first: without the first ones most things hang.
    let walls: Vec<&Wall> = catalogue.walls.iter().rev().filter(wanted).collect();
    for wall in &walls {
        course.try_without(&[wall], &wall.tests)?;
        keep(&course.mutants)?;
    }
    for way in catalogue.ways.iter().filter(|way| way.is_of_jail()) {
        if asked.is_empty() || asked.iter().any(|wall| way.walls.contains(wall)) {
            course.try_way(way)?;
            keep(&course.mutants)?;
        }
    }
    for wall in walls {
        course.pair(wall)?;
    }
    keep(&course.mutants)?;
    Ok(course.mutants)
}

/// Tries every wall alone, or those that were asked for, behind a jail that is not the usual one.
pub(crate) fn each(
    workspace: &Workspace,
    catalogue: &Catalogue,
    (asked, jail): (&[String], &str),
) -> Result<Mutants> {
    let trial = Trial::mutable(workspace)?.behind(jail);
    let mut course = Course { trial, catalogue, fit: BTreeMap::new(), mutants: Mutants::default() };
    let wanted = |wall: &&Wall| asked.is_empty() || asked.contains(&wall.name);
    for wall in catalogue.walls_of(jail).filter(wanted) {
        course.try_without(&[wall], &wall.tests)?;
    }
    Ok(course.mutants)
}

impl Course<'_> {
    /// Tries a way out that nobody has missed a wall at: without each of its walls, until somebody
    /// does, and then without all of them.
    fn try_way(&mut self, way: &Way) -> Result<()> {
        let catalogue = self.catalogue;
        let walls: Vec<&Wall> =
            catalogue.walls.iter().filter(|wall| way.walls.contains(&wall.name)).collect();
        let filters = [vec![filter(&way.id)], way.elsewhere.clone()].concat();
        let alone = walls.iter().map(std::slice::from_ref);
        for off in alone.chain([walls.as_slice()]) {
            if !self.mutants.of(way).is_empty() {
                break;
            }
            self.try_without(off, &filters)?;
        }
        Ok(())
    }

    /// Tries with each wall beside it one that nobody misses alone.
    fn pair(&mut self, wall: &Wall) -> Result<()> {
        let catalogue = self.catalogue;
        for name in beside(catalogue, wall) {
            if self.mutants.is_missed(&wall.name) {
                break;
            }
            let both = |it: &&Wall| it.name == name || it.name == wall.name;
            let other: Vec<&Wall> = catalogue.walls.iter().filter(|it| it.name == name).collect();
            let both: Vec<&Wall> = catalogue.walls.iter().filter(both).collect();
            self.try_without(&other, &wall.tests)?;
            self.try_without(&both, &wall.tests)?;
        }
        Ok(())
    }

    /// Runs some tests without some walls.
    fn try_without(&mut self, walls: &[&Wall], filters: &[String]) -> Result<()> {
        let mut without: Vec<&str> = walls.iter().map(|wall| wall.switches.as_str()).collect();
        without.push(CANARY);
        let ran = self.trial.run(filters, &without.join(","))?;
        let suspects = failed(&ran);
        self.compare(&suspects)?;
        let noticed = suspects.into_iter().filter(|test| self.fit.get(test) == Some(&true));
        let line = self.mutants.note(walls, ran.into_keys().collect(), noticed.collect());
        say(format_args!("escapes: {line}"));
        Ok(())
    }

    /// Runs tests with every wall in place, unless that was done: who fails then is no witness. A
    /// second attempt is for a busy machine.
    fn compare(&mut self, tests: &[String]) -> Result<()> {
        for _ in 0..2 {
            let open: Vec<String> =
                tests.iter().filter(|test| self.fit.get(*test) != Some(&true)).cloned().collect();
            if !open.is_empty() {
                self.fit.extend(self.trial.run(&open, NOTHING)?);
            }
        }
        for test in tests.iter().filter(|test| self.fit.get(*test) != Some(&true)) {
            say(format_args!("escapes: {test} fails with every wall in place"));
        }
        Ok(())
    }
}

/// The walls that stand beside one in any line of the catalogue.
fn beside(catalogue: &Catalogue, wall: &Wall) -> BTreeSet<String> {
    let lines = catalogue.ways.iter().filter(|way| way.walls.contains(&wall.name));
    lines.flat_map(|way| way.walls.clone()).filter(|name| *name != wall.name).collect()
}

/// How a number stands in the names of tests: `A-8` as `a08_`.
fn filter(id: &str) -> String {
    let (letter, digits) = id.split_once('-').unwrap_or((id, ""));
    format!("{}{digits:0>2}_", letter.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::Catalogue;
    use super::{Mutant, Mutants, filter};

    fn mutant(without: &[&str], noticed: &[&str]) -> Mutant {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let without = without.iter().map(|&wall| wall.to_owned()).collect();
        Mutant { without, ran: owned(noticed), noticed: owned(noticed) }
    }

    #[test]
    fn a_wall_that_is_missed_only_with_another_is_missed() {
        let both = [mutant(&["a"], &[]), mutant(&["b"], &["s"]), mutant(&["a", "b"], &["s", "t"])];
        assert!(Mutants(both.to_vec()).unmissed().is_empty());
    }

    #[test]
    fn what_is_noticed_without_the_other_alone_says_nothing_of_a_wall() {
        let both = [mutant(&["a"], &[]), mutant(&["b"], &["t"]), mutant(&["a", "b"], &["t"])];
        assert_eq!(Mutants(both.to_vec()).unmissed(), ["a"]);
    }

    #[test]
    fn a_wall_that_nobody_misses_is_told() {
        let mutants = Mutants(vec![mutant(&["a"], &[]), mutant(&["b"], &["t"])]);
        assert_eq!(mutants.unmissed(), ["a"]);
    }

    #[test]
    fn a_way_out_is_shown_by_its_own_tests_and_with_as_few_walls_off_as_do() {
        let catalogue =
            Catalogue::parse("A-1 | held | a b | | x\nA-2 | held | b c | | y\n").unwrap();
        let one = mutant(&["b"], &["escape::x::a02_t"]);
        let two = mutant(&["a", "b"], &["escape::x::a01_s", "escape::x::a02_t"]);
        let mutants = Mutants(vec![one, two]);
        let shown = |place: usize| mutants.of(&catalogue.ways[place]);
        assert_eq!(shown(0), [(&["a".to_owned(), "b".to_owned()][..], vec!["escape::x::a01_s"])]);
        assert_eq!(shown(1), [(&["b".to_owned()][..], vec!["escape::x::a02_t"])]);
    }

    #[test]
    fn what_is_tried_again_is_forgotten_and_the_rest_stands() {
        let all = [mutant(&["a"], &["t"]), mutant(&["b"], &["t"]), mutant(&["a", "b"], &["t"])];
        let mut mutants = Mutants(all.to_vec());
        mutants.forget(&["a".to_owned()]);
        assert_eq!(mutants.0, [all[1].clone()]);
        mutants.forget(&[]);
        assert!(mutants.0.is_empty());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mutants = Mutants(vec![mutant(&["a", "b"], &["t"])]);
        assert_eq!(Mutants::parse(&mutants.json().unwrap()).unwrap().0, mutants.0);
    }

    #[test]
    fn a_number_is_found_in_the_names_of_its_tests() {
        assert_eq!(filter("A-8"), "a08_");
        assert_eq!(filter("H-12"), "h12_");
    }
}
