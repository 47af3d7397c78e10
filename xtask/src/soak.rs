//! Lets every kind of client run at once for long, with faults in between.
//!
//! *Standing*: the soak is a test (`tests/soak`), which the suite runs for a moment; here it runs for
//! as long as a person likes, and says in its last line what it came to. *Never*: another test.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::built::Built;
use crate::setup::setup;
use crate::workspace::Workspace;

/// The test.
const TEST: &str =
    "soak::everything_at_once_with_faults_in_between_leaks_nothing_and_grows_nowhere";
/// How its closing line begins.
const CLOSING: &str = "soak: ";

/// Runs every kind of client at once, with faults in between.
#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
}

/// Builds, and runs it. The closing line is the last on stdout.
pub(crate) fn soak(workspace: &Workspace, asked: &Soak) -> Result<ExitCode> {
    setup(workspace)?;
    let packages = ["--package", "boundary", "--package", "boundary-tests"];
    let built = Built::build(
        workspace,
        &[&packages[..], &["--quiet", "--bins", "--test", "journey"]].concat(),
    )?;
    built.require_kernel_half()?;
    let mut runner = Command::new(built.runner("journey")?);
    runner.args(["--exact", TEST, "--nocapture"]).stdout(Stdio::piped());
    runner.env("BOUNDARY_BIN", built.program("boundary")?);
    runner.env("BOUNDARY_ATTACK", built.program("attack")?);
    runner.env("BOUNDARY_SOAK_MINUTES", asked.minutes.to_string());
    let mut running = runner.spawn().context("the soak")?;
    let output = running.stdout.take().context("the soak has no output")?;
    let mut closing = None;
    for line in BufReader::new(output).lines() {
        let line = line.context("the soak")?;
        // The test's name stands before what it says first.
        match line.find(CLOSING).and_then(|at| line.get(at..)) {
            Some(said) => closing = Some(said.to_owned()),
            None => writeln!(io::stdout(), "{line}").context("standard output")?,
        }
    }
    let status = running.wait().context("the soak")?;
    ensure!(closing.is_some() || !status.success(), "the soak was skipped");
    if let Some(closing) = closing {
        writeln!(io::stdout(), "{closing}").context("standard output")?;
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
