//! Leaves off one wall after the other: a test that cannot fail shows nothing.
//!
//! *Standing*: first each wall alone, under the tests of every way out that it holds. A way out that
//! nobody misses a wall at, because another one holds it too, is then tried without all of its walls
//! together; a wall that nobody misses anywhere is tried with each one beside it. *Never*: takes a
//! test for a witness that fails with every wall in place.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
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
    /// How many tests ran.
    pub(crate) ran: usize,
    /// Those that noticed.
    pub(crate) noticed: Vec<String>,
}

impl Mutant {
    /// One line about it.
    fn line(&self) -> String {
        let names: Vec<&str> =
            self.noticed.iter().filter_map(|test| test.rsplit("::").next()).collect();
        let walls = self.without.join(" and ");
        format!("without {walls}: {} of {} notice: {}", names.len(), self.ran, names.join(" "))
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
        let ran = usize::try_from(row.get("ran")?.as_u64()?).ok()?;
        Some(Self { without: texts("without")?, ran, noticed: texts("noticed")? })
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
            let explained = |test: &&String| known.is_some_and(|it| it.noticed.contains(test));
            (alone || known.is_some()) && !mutant.noticed.iter().all(|test| explained(&test))
        })
    }

    /// The one tried without exactly these.
    fn find(&self, walls: &[&Wall]) -> Option<&Mutant> {
        self.0.iter().find(|it| it.without.iter().eq(walls.iter().map(|wall| &wall.name)))
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
    /// Tests that fail with every wall in place: no witnesses.
    unfit: BTreeSet<String>,
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
    let mut course = Course { trial, catalogue, unfit: BTreeSet::new(), mutants };
    course.find_unfit()?;
    let wanted = |wall: &&Wall| asked.is_empty() || asked.contains(&wall.name);
    // The last ones first: without the first ones most things hang.
    let walls: Vec<&Wall> = catalogue.walls.iter().rev().filter(wanted).collect();
    for wall in &walls {
        course.try_without(&[wall])?;
        keep(&course.mutants)?;
    }
    course.try_ways()?;
    keep(&course.mutants)?;
    for wall in walls {
        course.pair(wall)?;
    }
    keep(&course.mutants)?;
    Ok(course.mutants)
}

impl Course<'_> {
    /// Runs everything with every wall in place.
    fn find_unfit(&mut self) -> Result<()> {
        let ran = self.trial.run(&super::filters(self.catalogue), NOTHING)?;
        ensure!(!ran.is_empty(), "no test ran");
        self.unfit = failed(&ran).into_iter().collect();
        for test in &self.unfit {
            say(format_args!("escapes: {test} fails with every wall in place"));
        }
        Ok(())
    }

    /// Tries each way out that nobody misses a single wall at without all of its walls.
    fn try_ways(&mut self) -> Result<()> {
        let catalogue = self.catalogue;
        let mut groups: BTreeMap<Vec<&str>, Vec<&Way>> = BTreeMap::new();
        for way in catalogue.ways.iter().filter(|way| way.is_of_jail()) {
            if self.mutants.of(way).is_empty() {
                groups.entry(way.walls.iter().map(String::as_str).collect()).or_default().push(way);
            }
        }
        for (names, ways) in groups {
            let named = |wall: &&Wall| names.contains(&wall.name.as_str());
            let walls: Vec<&Wall> = catalogue.walls.iter().filter(named).collect();
            self.try_ways_without(&walls, &ways)?;
        }
        Ok(())
    }

    /// Tries with each wall beside it one that nobody misses alone.
    fn pair(&mut self, wall: &Wall) -> Result<()> {
        let catalogue = self.catalogue;
        if self.mutants.is_missed(&wall.name) {
            return Ok(());
        }
        for name in beside(catalogue, wall) {
            let both = |it: &&Wall| it.name == name || it.name == wall.name;
            let other: Vec<&Wall> = catalogue.walls.iter().filter(|it| it.name == name).collect();
            let both: Vec<&Wall> = catalogue.walls.iter().filter(both).collect();
            self.try_without(&other)?;
            self.try_without(&both)?;
            if self.mutants.is_missed(&wall.name) {
                break;
            }
        }
        Ok(())
    }

    /// Runs the tests of every way out that any of the walls holds, without them.
    fn try_without(&mut self, walls: &[&Wall]) -> Result<()> {
        let ways = self.catalogue.ways.iter();
        let held = ways.filter(|way| walls.iter().any(|wall| way.walls.contains(&wall.name)));
        let held: Vec<&Way> = held.collect();
        self.try_ways_without(walls, &held)
    }

    /// Runs the tests of some ways out without some walls, unless that was done.
    fn try_ways_without(&mut self, walls: &[&Wall], ways: &[&Way]) -> Result<()> {
        if self.mutants.find(walls).is_some() {
            return Ok(());
        }
        let elsewhere = ways.iter().flat_map(|way| way.elsewhere.clone());
        let filters: Vec<String> =
            ways.iter().map(|way| filter(&way.id)).chain(elsewhere).collect();
        let mut without: Vec<&str> = walls.iter().map(|wall| wall.switches.as_str()).collect();
        without.push(CANARY);
        let mut ran = self.trial.run(&filters, &without.join(","))?;
        // A filter may be a part of another test's name.
        ran.retain(|test, _| ways.iter().any(|way| way.is_shown_by(test)));
        let noticed = failed(&ran).into_iter().filter(|test| !self.unfit.contains(test)).collect();
        let without = walls.iter().map(|wall| wall.name.clone()).collect();
        let mutant = Mutant { without, ran: ran.len(), noticed };
        say(format_args!("escapes: {}", mutant.line()));
        self.mutants.0.push(mutant);
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
        Mutant { without: owned(without), ran: 1, noticed: owned(noticed) }
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
