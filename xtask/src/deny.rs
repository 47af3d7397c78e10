//! Checks the dependencies with cargo-deny, by the rules of `deny.toml`.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::say::say;
use crate::setup::{CARGO_DENY, install};
use crate::workspace::Workspace;

/// Checks bans, licences and sources, which must hold, then advisories, which need a database from
/// the network and so may be out of reach.
pub(crate) fn deny(workspace: &Workspace) -> Result<ExitCode> {
    let program = install(workspace, CARGO_DENY)?;
    let cargo_deny = |args: &[&str]| {
        let mut command = workspace.command(&program);
        command.args(args);
        command
    };
    if !succeeds(&mut cargo_deny(&["check", "bans", "licenses", "sources"]))? {
        return Ok(ExitCode::FAILURE);
    }
    let mut fetch = cargo_deny(&["fetch", "db"]);
    if !succeeds(fetch.stdout(Stdio::null()).stderr(Stdio::null()))? {
        say("deny: the advisory database cannot be reached from here; advisories are not checked");
        return Ok(ExitCode::SUCCESS);
    }
    let good = succeeds(&mut cargo_deny(&["check", "advisories"]))?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a command succeeds.
fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(command.status().context("cargo-deny")?.success())
}
