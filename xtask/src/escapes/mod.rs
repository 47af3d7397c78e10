//! Tries every known way out and writes down what became of it: the machine-readable table in
//! `target/escapes.json` (without walls: `target/mutations.json`), the readable one in
//! `docs/threat-model.md`.
//!
//! *Standing*: which walls hold what stands in `tests/escape/catalogue.txt`; the outcomes are those
//! of this run. *Never*: writes an outcome that no test had.

mod catalogue;
mod mutation;
mod table;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::document;
use crate::say::say;
use crate::setup::setup;
use crate::workspace::Workspace;
use catalogue::Catalogue;
use table::Table;
use trial::Trial;

/// Where the readable table stands.
const DOCUMENT: &str = "docs/threat-model.md";

/// Runs the tests as they are, or with `mutations` for each wall that can be left off.
pub(crate) fn escapes(
    workspace: &Workspace,
    mutations: bool,
    walls: &[String],
) -> Result<ExitCode> {
    setup(workspace)?;
    let text =
        fs::read_to_string(workspace.root().join(catalogue::PLACE)).context(catalogue::PLACE)?;
    let catalogue = Catalogue::parse(&text)?;
    if mutations {
        return without_walls(workspace, &catalogue, walls);
    }
    let ran = Trial::usual(workspace)?.run(&filters(&catalogue), "")?;
    let table = Table { catalogue: &catalogue, ran: &ran };
    keep(workspace, "escapes.json", &table.json()?)?;
    document::write(workspace, DOCUMENT, "escapes", &table.markdown())?;
    say(format_args!("escapes: {}", table.sum()));
    Ok(if table.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests without one wall after the other. A wall that nobody misses is a failure.
fn without_walls(
    workspace: &Workspace,
    catalogue: &Catalogue,
    walls: &[String],
) -> Result<ExitCode> {
    let mutants = mutation::all(workspace, catalogue, walls, |mutants| {
        if !walls.is_empty() {
            return Ok(());
        }
        keep(workspace, "mutations.json", &table::mutants_as_json(mutants)?)?;
        document::write(workspace, DOCUMENT, "mutations", &table::mutants(mutants))
    })?;
    let is_missed = mutation::each_is_missed(&mutants);
    Ok(if is_missed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes a result for machines.
fn keep(workspace: &Workspace, name: &'static str, text: &str) -> Result<()> {
    let path = workspace.target().join(name);
    fs::write(&path, text).context(name)?;
    say(format_args!("escapes: written into {}", path.display()));
    Ok(())
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
