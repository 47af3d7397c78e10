//! What recording costs, measured by the package `boundary-bench`, which is built for release like what
//! it measures.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Uid;

use super::machine;
use crate::built::Built;
use crate::setup::setup;
use crate::workspace::{Workspace, forget_cargo_run};

/// Measures, and gives the table.
pub(crate) fn measure(workspace: &Workspace, rounds: u32) -> Result<String> {
    ensure!(Uid::effective().is_root(), "the eBPF jail is measured, which needs root");
    setup(workspace)?;
    let packages = ["--package", "boundary", "--package", "boundary-bench"];
    let built = Built::build(workspace, &[&["--quiet", "--release"], &packages[..]].concat())?;
    built.require_kernel_half()?;
    let machine = machine::describe();
    let mut bench = workspace.command(built.program("boundary-bench")?);
    forget_cargo_run(&mut bench);
    bench.arg("record").arg("--boundary").arg(built.program("boundary")?);
    bench.args(["--rounds", &rounds.to_string()]);
    let output = bench.stderr(Stdio::inherit()).output().context("boundary-bench")?;
    ensure!(output.status.success(), "boundary-bench: {}", output.status);
    let table = String::from_utf8(output.stdout).context("boundary-bench")?;
    Ok(format!("{table}\n{machine}.\n"))
}
