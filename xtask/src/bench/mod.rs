//! Measurements that compare contestants in one run, so that the machine's mood falls on all alike.
//!
//! *Standing*: a person calls `cargo xtask bench NAME`; the result goes into `docs/performance.md`
//! between its markers. *Never*: writes a number that was not measured in that run.

mod document;
mod machine;
mod spread;
mod startup;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::workspace::Workspace;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// How long `boundary -- true` takes beside plain `true` and bubblewrap; needs root.
    Startup {
        /// How often each contestant runs.
        #[arg(long, default_value_t = 200)]
        runs: u32,
        /// Say the table, but leave the document as it is.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Measures one thing.
pub(crate) fn bench(workspace: &Workspace, bench: &Bench) -> Result<ExitCode> {
    match *bench {
        Bench::Startup { runs, dry_run } => {
            let table = startup::measure(workspace, runs)?;
            document::publish(workspace, "startup", &table, dry_run)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
