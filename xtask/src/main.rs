//! What cargo cannot do for boundary, one line per task.
//!
//! *Standing*: a person, or `.ci/run`, calls `cargo xtask TASK`; every task that builds calls
//! `setup` first, so that no task has a list of preparations to read. *Never*: holds a rule of the
//! product; what boundary does is in the other crates.

mod bench;
mod built;
mod deny;
mod run;
mod say;
mod setup;
mod suite;
mod tally;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::say::say;
use crate::workspace::Workspace;

/// What cargo cannot do for boundary.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Installs what this machine lacks for building and testing, and says what it does.
    Setup,
    /// Builds boundary and runs it: `cargo xtask run -- --allow domain=example.com -- curl …`.
    Run {
        /// Boundary's own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Runs every test; closes with `N passed, N failed`.
    Test {
        /// More arguments for `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Checks the architecture and the habits that no compiler checks.
    Tidy,
    /// Checks licences, sources and duplicates of the dependencies.
    Deny,
    /// Measures, and writes the result into `docs/performance.md`.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match perform(Task::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Does one task. A task that ran and found faults is not an error, but a failing exit code.
fn perform(task: Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Setup => setup::setup(&workspace).map(|()| ExitCode::SUCCESS),
        Task::Run { args } => run::run(&workspace, &args),
        Task::Test { args } => suite::test(&workspace, &args),
        Task::Tidy => tidy::tidy(&workspace),
        Task::Deny => deny::deny(&workspace),
        Task::Bench(bench) => bench::bench(&workspace, &bench),
    }
}
