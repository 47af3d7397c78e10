//! The proxy beside its peers: everything is built or installed here, and measured by the package
//! `boundary-bench`, which is built for release like what it measures.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Uid;

use super::machine;
use super::peers::{hudsucker, mitmproxy, peer, squid};
use crate::built::Built;
use crate::setup::setup;
use crate::workspace::{Workspace, forget_cargo_run};

/// Measures, and gives the tables.
pub(super) fn measure(workspace: &Workspace, rounds: u32, only: Option<&str>) -> Result<String> {
    ensure!(Uid::effective().is_root(), "the eBPF jail is measured, which needs root");
    setup(workspace)?;
    let packages = ["--package", "boundary", "--package", "boundary-bench"];
    let built = Built::build(workspace, &[&["--quiet", "--release"], &packages[..]].concat())?;
    built.require_kernel_half()?;
    let peers = [
        ("--hudsucker", peer("hudsucker", workspace, hudsucker)),
        ("--squid", peer("squid", workspace, squid)),
        ("--mitmdump", peer("mitmproxy", workspace, mitmproxy)),
    ];
    let machine = machine::describe();
    let mut bench = workspace.command(built.program("boundary-bench")?);
    forget_cargo_run(&mut bench);
    bench.arg("conduct").arg("--boundary").arg(built.program("boundary")?);
    bench.args(["--rounds", &rounds.to_string()]);
    bench.args(only.iter().flat_map(|part| ["--only", part]));
    for (option, program) in &peers {
        bench.args(program.iter().flat_map(|program| [option.as_ref(), program.as_os_str()]));
    }
    let output = bench.stderr(Stdio::inherit()).output().context("boundary-bench")?;
    ensure!(output.status.success(), "boundary-bench: {}", output.status);
    let tables = String::from_utf8(output.stdout).context("boundary-bench")?;
    Ok(format!("{tables}\n{machine}.\n"))
}
