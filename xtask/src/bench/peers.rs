//! The proxies that boundary is compared with: installed once, left out where that fails.
//!
//! *Standing*: the bench asks for each before it starts. What is not a Debian package goes into the
//! workspace's own tools folder. *Never*: fails a run; a peer that is not there is said, and the
//! table is made without it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Uid;

use crate::say::say;
use crate::setup::{apt_get, find};
use crate::workspace::Workspace;

/// The version of mitmproxy, from Python's registry.
const MITMPROXY: &str = "11.0.2";

/// What hudsucker is built of. A workspace of its own: nothing of it is in ours.
const HUDSUCKER: &str = r#"[package]
name = "hudsucker-peer"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
hudsucker = { version = "=0.25.0", features = ["http2"] }
hyper-rustls = { version = "0.27", default-features = false, features = ["aws-lc-rs", "http1", "http2", "tls12"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }

[profile.release]
lto = "thin"
codegen-units = 1
"#;

/// Its program.
const HUDSUCKER_MAIN: &str = include_str!("hudsucker.rs");

/// The peer's program, installed where it was missing; nothing where that could not be done.
pub(super) fn peer(
    name: &str,
    workspace: &Workspace,
    install: impl FnOnce(&Workspace) -> Result<PathBuf>,
) -> Option<PathBuf> {
    match install(workspace) {
        Ok(program) => Some(program),
        Err(error) => {
            say(format_args!("bench: without {name}, which could not be installed: {error:#}"));
            None
        }
    }
}

/// mitmproxy, in a Python environment of its own.
pub(super) fn mitmproxy(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.tools().join(format!("mitmproxy-{MITMPROXY}"));
    let program = folder.join("bin/mitmdump");
    if runs(&program) {
        return Ok(program);
    }
    say(format_args!("bench: installing mitmproxy {MITMPROXY} into {}", folder.display()));
    let mut make = Command::new("python3");
    succeed(make.args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut install = Command::new(folder.join("bin/pip"));
    let wanted = format!("mitmproxy=={MITMPROXY}");
    succeed(install.args(["install", "--quiet", "--disable-pip-version-check", &wanted]))?;
    ensure!(runs(&program), "{} does not run", program.display());
    Ok(program)
}

/// squid, built with OpenSSL: Debian has it under a name of its own.
pub(super) fn squid(_workspace: &Workspace) -> Result<PathBuf> {
    if find("squid").is_none_or(|squid| !opens_tls(&squid)) {
        ensure!(Uid::effective().is_root() && find("apt-get").is_some(), "no root, or no apt-get");
        say("bench: apt-get install squid-openssl");
        ensure!(apt_get(&["install", "squid-openssl"]), "apt-get failed");
    }
    let squid = find("squid").context("it is not in the package")?;
    ensure!(opens_tls(&squid), "{} was built without OpenSSL", squid.display());
    Ok(squid)
}

/// Whether a squid was built with what opening TLS needs.
fn opens_tls(squid: &PathBuf) -> bool {
    let said = Command::new(squid).arg("-v").output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("--with-openssl"))
}

/// hudsucker, as the smallest program around it.
pub(super) fn hudsucker(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.tools().join("hudsucker");
    fs::create_dir_all(folder.join("src"))?;
    for (name, text) in [("Cargo.toml", HUDSUCKER), ("src/main.rs", HUDSUCKER_MAIN)] {
        let path = folder.join(name);
        // Writing the same again would have it built again.
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        say(format_args!(
            "bench: building hudsucker in {} (a minute or two, once)",
            folder.display()
        ));
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--release"]).current_dir(&folder);
    // The flags and the target folder of this workspace are no business of another's.
    succeed(cargo.env_remove("RUSTFLAGS").env("CARGO_TARGET_DIR", folder.join("target")))?;
    Ok(folder.join("target/release/hudsucker-peer"))
}

/// Whether a program starts.
fn runs(program: &PathBuf) -> bool {
    let status =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs a command, which has to succeed; what it says goes to standard error.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdout(std::io::stderr()).status().with_context(|| name.clone())?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}
