//! Tries every known way out and writes down what became of it: the machine-readable table in
//! `target/escapes.json` (without walls: `target/mutations.json`), the readable one in
//! `docs/threat-model.md`.
//!
//! *Standing*: which walls hold what stands in `tests/escape/catalogue.txt`; the outcomes are those
//! of this run, beside those without walls of the last run that tried it. *Never*: writes an outcome
//! that no test had.

mod catalogue;
mod mutation;
mod table;
pub(crate) mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::document;
use crate::packets::Packets;
use crate::say::say;
use crate::setup::setup;
use crate::workspace::Workspace;
use catalogue::Catalogue;
use mutation::Mutants;
use table::Table;
use trial::Trial;

/// Where the readable table stands.
const DOCUMENT: &str = "docs/threat-model.md";

/// What became of the tests.
const RESULTS: &str = "escapes.json";

/// What became of them without walls.
const MUTANTS: &str = "mutations.json";

/// The stage's own tests: positive controls, without which nothing arriving means nothing.
const CONTROLS: &str = "stage::";

/// What is asked of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Escapes {
    /// Leaves off one wall after the other instead, and shows which tests notice
    #[arg(long)]
    mutations: bool,
    /// Only these walls, comma-separated; what was shown of the others stands
    #[arg(long, requires = "mutations", value_delimiter = ',')]
    walls: Vec<String>,
    /// Leaves off the walls of this jail, and shows it without writing it into the documentation
    #[arg(long, requires = "mutations", default_value = trial::USUAL)]
    jail: String,
    /// Writes one object for each way out to standard output
    #[arg(long, conflicts_with = "mutations")]
    json: bool,
}

/// Runs the tests as they are, or with `mutations` for each wall that can be left off.
pub(crate) fn escapes(workspace: &Workspace, asked: &Escapes) -> Result<ExitCode> {
    setup(workspace)?;
    let text =
        fs::read_to_string(workspace.root().join(catalogue::PLACE)).context(catalogue::PLACE)?;
    let catalogue = Catalogue::parse(&text)?;
    if asked.mutations {
        return if asked.jail == trial::USUAL {
            without_walls(workspace, &catalogue, &asked.walls)
        } else {
            elsewhere(workspace, &catalogue, asked)
        };
    }
    let (ran, packets) = with_walls(workspace, &catalogue)?;
    let mutants = last_mutants(workspace);
    let table = Table { catalogue: &catalogue, ran: &ran, mutants: &mutants, packets };
    keep(workspace, RESULTS, &table.json()?)?;
    document::write(workspace, DOCUMENT, "escapes", &table.markdown())?;
    if asked.json {
        io::stdout().write_all(table.rows()?.as_bytes()).context("standard output")?;
    }
    say(format_args!("escapes: {}", table.sum()));
    say(format_args!("escapes: {packets}"));
    Ok(if table.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs everything with every wall in place.
fn with_walls(
    workspace: &Workspace,
    catalogue: &Catalogue,
) -> Result<(BTreeMap<String, bool>, Packets)> {
    let toll = Packets::file(workspace)?;
    let mut all = filters(catalogue);
    all.push(CONTROLS.to_owned());
    let trial = Trial::usual(workspace)?.counting_in(&toll);
    let mut ran = trial.run(&all, "")?;
    // A machine that is busy with others may be too slow for a test; what arrived in its first attempt
    // stays in the sum.
    let again = failed(&ran);
    if !again.is_empty() {
        ran.extend(trial.alone().run(&again, "")?);
    }
    Ok((ran, Packets::read(&toll)?))
}

/// Runs the tests without one wall after the other. A wall that nobody misses is a failure, and so
/// is a way out at which nobody misses any.
fn without_walls(
    workspace: &Workspace,
    catalogue: &Catalogue,
    walls: &[String],
) -> Result<ExitCode> {
    let earlier = last_mutants(workspace);
    let mutants = mutation::all(workspace, catalogue, (walls, earlier), |mutants| {
        keep(workspace, MUTANTS, &mutants.json()?)?;
        document::write(workspace, DOCUMENT, "mutations", &table::of_mutants(mutants))?;
        again(workspace, catalogue, mutants)
    })?;
    let unmissed = mutants.unmissed();
    let held = catalogue.ways.iter().filter(|way| way.is_of_jail());
    let unshown: Vec<&str> =
        held.filter(|way| mutants.of(way).is_empty()).map(|way| way.id.as_str()).collect();
    for wall in &unmissed {
        say(format_args!("escapes: nobody misses {wall}"));
    }
    for id in &unshown {
        say(format_args!("escapes: nobody misses a wall at {id}"));
    }
    let is_good = unmissed.is_empty() && unshown.is_empty();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests without one wall after the other behind another jail, where some walls of the catalogue
/// do not stand at all. What nobody notices is told, and is no failure by itself: another wall may
/// hold alone there.
fn elsewhere(workspace: &Workspace, catalogue: &Catalogue, asked: &Escapes) -> Result<ExitCode> {
    let name = format!("mutations-{}.json", asked.jail);
    let mutants = mutation::each(workspace, catalogue, (&asked.walls, &asked.jail))?;
    fs::write(workspace.target().join(&name), mutants.json()?).context("the mutants")?;
    for wall in mutants.unmissed() {
        say(format_args!("escapes: {}: nobody misses {wall}", asked.jail));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the table of the last run again, with what is known by now of the walls.
fn again(workspace: &Workspace, catalogue: &Catalogue, mutants: &Mutants) -> Result<()> {
    let Some(text) = last(workspace, RESULTS) else { return Ok(()) };
    let (ran, packets) = table::parse(&text)?;
    let table = Table { catalogue, ran: &ran, mutants, packets };
    keep(workspace, RESULTS, &table.json()?)?;
    document::write(workspace, DOCUMENT, "escapes", &table.markdown())
}

/// What an earlier run showed without walls, if there was one.
fn last_mutants(workspace: &Workspace) -> Mutants {
    // What another version wrote is as good as nothing.
    last(workspace, MUTANTS).and_then(|text| Mutants::parse(&text).ok()).unwrap_or_default()
}

/// What an earlier run wrote, if there was one.
fn last(workspace: &Workspace, name: &str) -> Option<String> {
    fs::read_to_string(workspace.target().join(name)).ok()
}

/// Writes a result for machines.
fn keep(workspace: &Workspace, name: &'static str, text: &str) -> Result<()> {
    fs::write(workspace.target().join(name), text).context(name)
}

/// What names every test of the catalogue, for the runner.
fn filters(catalogue: &Catalogue) -> Vec<String> {
    let elsewhere = catalogue.ways.iter().flat_map(|way| way.elsewhere.clone());
    std::iter::once("escape::".to_owned()).chain(elsewhere).collect()
}

/// Which of the tests that ran failed.
fn failed(ran: &BTreeMap<String, bool>) -> Vec<String> {
    ran.iter().filter(|(_, fine)| !**fine).map(|(test, _)| test.clone()).collect()
}
