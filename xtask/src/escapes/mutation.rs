//! Leaves off one wall after the other: a test that cannot fail shows nothing.

use std::collections::BTreeSet;

use anyhow::Result;

use super::catalogue::{Catalogue, Wall};
use super::failed;
use super::trial::Trial;
use crate::say::say;
use crate::workspace::Workspace;

/// The canary would refuse to start without most of the walls, which shows only that it sings.
const CANARY: &str = "canary";

/// What became of the tests without some walls.
#[derive(Debug)]
pub(crate) struct Mutant {
    /// The walls that were off.
    pub(crate) without: Vec<String>,
    /// How many tests ran.
    pub(crate) ran: usize,
    /// Those that noticed.
    pub(crate) noticed: Vec<String>,
}

impl Mutant {
    /// One line about it.
    pub(crate) fn line(&self) -> String {
        let names: Vec<&str> =
            self.noticed.iter().filter_map(|test| test.rsplit("::").next()).collect();
        let walls = self.without.join(" and ");
        format!("without {walls}: {} of {} notice: {}", names.len(), self.ran, names.join(" "))
    }
}

/// Tries every wall that can be left off, or those that were asked for. Where another wall holds
/// what one held, so that nobody notices, the two are left off together. What is known is kept after
/// each wall.
pub(crate) fn all(
    workspace: &Workspace,
    catalogue: &Catalogue,
    asked: &[String],
    keep: impl Fn(&[Mutant]) -> Result<()>,
) -> Result<Vec<Mutant>> {
    let trial = Trial::mutable(workspace)?;
    let mut mutants = Vec::new();
    let wanted = |wall: &&Wall| asked.is_empty() || asked.contains(&wall.name);
    // The last ones first: without the first ones most things hang.
    for wall in catalogue.walls.iter().rev().filter(wanted) {
        if wall.switches.is_empty() {
            continue;
        }
        let alone = mutant(&trial, catalogue, &[wall])?;
        say(format_args!("escapes: {}", alone.line()));
        let is_silent = alone.noticed.is_empty();
        mutants.push(alone);
        if is_silent {
            mutants.extend(paired(&trial, catalogue, wall)?);
        }
        keep(&mutants)?;
    }
    Ok(mutants)
}

/// Whether each wall that was off is missed, alone or with another.
pub(crate) fn each_is_missed(mutants: &[Mutant]) -> bool {
    let missed = |wall: &String| {
        let mut with_it = mutants.iter().filter(|mutant| mutant.without.first() == Some(wall));
        with_it.any(|mutant| !mutant.noticed.is_empty())
    };
    mutants.iter().filter_map(|mutant| mutant.without.first()).all(missed)
}

/// The first wall without which the other one is missed too.
fn paired(trial: &Trial<'_>, catalogue: &Catalogue, wall: &Wall) -> Result<Option<Mutant>> {
    for name in beside(catalogue, wall) {
        let Some(other) = catalogue.walls.iter().find(|other| other.name == name) else { continue };
        if other.switches.is_empty() {
            continue;
        }
        let without_other: BTreeSet<String> =
            mutant(trial, catalogue, &[other])?.noticed.into_iter().collect();
        let mut both = mutant(trial, catalogue, &[wall, other])?;
        // What is noticed without the other alone says nothing of this one.
        both.noticed.retain(|test| !without_other.contains(test));
        say(format_args!("escapes: {}", both.line()));
        if !both.noticed.is_empty() {
            return Ok(Some(both));
        }
    }
    Ok(None)
}

/// The walls that stand beside one in any line of the catalogue.
fn beside(catalogue: &Catalogue, wall: &Wall) -> Vec<String> {
    let lines = catalogue.ways.iter().filter(|way| way.walls.contains(&wall.name));
    let names: BTreeSet<&String> = lines.flat_map(|way| &way.walls).collect();
    names.into_iter().filter(|name| **name != wall.name).cloned().collect()
}

/// Runs the tests of every way out that the walls hold, without them.
fn mutant(trial: &Trial<'_>, catalogue: &Catalogue, walls: &[&Wall]) -> Result<Mutant> {
    let held =
        catalogue.ways.iter().filter(|way| walls.iter().any(|wall| way.walls.contains(&wall.name)));
    let filters: Vec<String> = held.map(|way| filter(&way.id)).collect();
    let mut without: Vec<&str> = walls.iter().map(|wall| wall.switches.as_str()).collect();
    without.push(CANARY);
    let ran = trial.run(&filters, &without.join(","))?;
    Ok(Mutant {
        without: walls.iter().map(|wall| wall.name.clone()).collect(),
        ran: ran.len(),
        noticed: failed(&ran),
    })
}

/// How a number stands in the names of tests: `A-8` as `a08_`.
fn filter(id: &str) -> String {
    let (letter, digits) = id.split_once('-').unwrap_or((id, ""));
    format!("{}{digits:0>2}_", letter.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{Mutant, each_is_missed, filter};

    fn mutant(without: &[&str], noticed: &[&str]) -> Mutant {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Mutant { without: owned(without), ran: 1, noticed: owned(noticed) }
    }

    #[test]
    fn a_wall_that_is_missed_only_with_another_is_missed() {
        assert!(each_is_missed(&[mutant(&["a"], &[]), mutant(&["a", "b"], &["t"])]));
    }

    #[test]
    fn a_wall_that_nobody_misses_is_told() {
        assert!(!each_is_missed(&[mutant(&["a"], &[]), mutant(&["b"], &["t"])]));
    }

    #[test]
    fn a_number_is_found_in_the_names_of_its_tests() {
        assert_eq!(filter("A-8"), "a08_");
        assert_eq!(filter("H-12"), "h12_");
    }
}
