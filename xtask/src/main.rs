//! What cargo cannot do for boundary, one line per task.
//!
//! *Standing*: a person, or `.ci/run`, calls `cargo xtask TASK`; every task that builds calls
//! `setup` first, so that no task has a list of preparations to read. *Never*: holds a rule of the
//! product; what boundary does is in the other crates.

mod arch;
mod bench;
mod built;
mod cpio;
mod debian;
mod deny;
mod dist;
mod document;
mod escapes;
mod fuzz;
mod jails;
mod musl;
mod packets;
mod run;
mod say;
mod setup;
mod soak;
mod suite;
mod tally;
mod tidy;
mod vm;
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
    /// Runs the journeys and the escapes behind the jails that need no BPF; closes with a line for each.
    Jails(jails::Jails),
    /// Tries every known way out, and writes the table into `docs/threat-model.md`.
    Escapes(escapes::Escapes),
    /// Checks the architecture and the habits that no compiler checks.
    Tidy,
    /// Checks licences, sources and duplicates of the dependencies.
    Deny,
    /// Holds every parser to bytes that nobody thought of.
    Fuzz(fuzz::Fuzz),
    /// Lets every kind of client run at once for long, with faults in between.
    Soak(soak::Soak),
    /// Builds what is released, for both architectures, into `target/dist`.
    Dist(dist::Dist),
    /// Boots the kernels that people run, and runs the tests on each: `cargo xtask vm 5.10 -- http::`.
    Vm(vm::Vm),
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
        Task::Jails(asked) => jails::jails(&workspace, &asked),
        Task::Escapes(asked) => escapes::escapes(&workspace, &asked),
        Task::Tidy => tidy::tidy(&workspace),
        Task::Deny => deny::deny(&workspace),
        Task::Fuzz(asked) => fuzz::fuzz(&workspace, &asked),
        Task::Soak(asked) => soak::soak(&workspace, &asked),
        Task::Dist(asked) => dist::dist(&workspace, &asked),
        Task::Vm(asked) => vm::vm(&workspace, &asked),
        Task::Bench(bench) => bench::bench(&workspace, &bench),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Task;

    /// The arguments that a task hands on.
    fn handed_on(line: &str) -> Vec<String> {
        match Task::try_parse_from(line.split(' ')).unwrap() {
            Task::Run { args } | Task::Test { args } => {
                args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
            }
            Task::Setup
            | Task::Jails(_)
            | Task::Escapes(_)
            | Task::Tidy
            | Task::Deny
            | Task::Fuzz(_)
            | Task::Soak(_)
            | Task::Dist(_)
            | Task::Vm(_)
            | Task::Bench(_) => {
                panic!("hands nothing on")
            }
        }
    }

    #[test]
    fn the_grammar_is_sound() {
        Task::command().debug_assert();
    }

    #[test]
    fn what_follows_the_first_dashes_goes_to_boundary_as_it_is() {
        let args = handed_on("xtask run -- --allow domain=a.b -- curl -sS -- x");
        assert_eq!(args, ["--allow", "domain=a.b", "--", "curl", "-sS", "--", "x"]);
    }

    #[test]
    fn a_test_filter_and_the_runners_options_go_to_cargo() {
        assert_eq!(handed_on("xtask test dns -- --nocapture"), ["dns", "--", "--nocapture"]);
    }
}
