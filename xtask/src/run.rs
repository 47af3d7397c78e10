//! Builds boundary and becomes it.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use nix::unistd::Uid;

use crate::built::Built;
use crate::say::say;
use crate::setup::{find, setup};
use crate::workspace::{Workspace, forget_cargo_run};

/// Builds boundary with its kernel half and runs it in this process's place, as root where that
/// can be had.
pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup(workspace)?;
    if !workspace.target().join("release/boundary").exists() {
        say("run: building boundary (some minutes, once)");
    }
    let built = Built::build(workspace, &["--quiet", "--release", "--package", "boundary"])?;
    built.require_kernel_half()?;
    become_boundary(built.program("boundary")?, args).map(|never| match never {})
}

/// Replaces this process; comes back only with the reason why it could not.
fn become_boundary(program: &Path, args: &[OsString]) -> Result<Infallible> {
    let mut command = as_root(program);
    command.args(args);
    forget_cargo_run(&mut command);
    forget_rustup(&mut command);
    Err(command.exec()).with_context(|| format!("starting {}", program.display()))
}

/// Takes away the toolchain that rustup chose for this checkout, unless the person had chosen it:
/// the command may be a build of something else.
fn forget_rustup(command: &mut Command) {
    if env::var_os("RUSTUP_TOOLCHAIN_SOURCE").is_some_and(|source| source != "env") {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    command.env_remove("RUSTUP_TOOLCHAIN_SOURCE").env_remove("RUST_RECURSION_COUNT");
}

/// The program as it is called here: as it is for root, else through sudo, else as the user, with
/// whichever jail needs no more.
///
/// Sudo keeps the environment, because what the command sees is the caller's; it would replace
/// `PATH` all the same, so that goes in by `env`.
fn as_root(program: &Path) -> Command {
    if Uid::effective().is_root() {
        return Command::new(program);
    }
    let Some(sudo) = find("sudo") else {
        say("run: not root and no sudo here, so boundary runs without privilege");
        return Command::new(program);
    };
    let mut path = OsString::from("PATH=");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(sudo);
    command.args(["--preserve-env", "--", "env"]).arg(path).arg(program);
    command
}
