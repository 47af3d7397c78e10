//! Where things are, and how cargo is called.
//!
//! *Standing*: every task gets a [`Workspace`] and calls cargo only through it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The checkout and its target folder.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace that this program belongs to, wherever it was called.
    pub(crate) fn find() -> Result<Self> {
        let here = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = here.parent().context("xtask lies in no workspace")?.to_path_buf();
        let target = target_folder(&root)?;
        Ok(Self { root, target })
    }

    /// The top of the checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where `setup` installs the tools that only this workspace needs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// What cargo knows of the packages, by `cargo metadata` with these arguments.
    pub(crate) fn metadata(&self, args: &[&str]) -> Result<Value> {
        metadata(&self.root, args)
    }

    /// A cargo command at the top of the checkout that finds the workspace's own tools first.
    pub(crate) fn cargo(&self) -> Command {
        self.command(cargo_program())
    }

    /// The same with every signal at its default action. What a shell starts in the background
    /// ignores interrupts and hands that on, and no test of an interrupt could pass below it.
    pub(crate) fn interruptible_cargo(&self) -> Command {
        let mut env = self.command("env");
        env.arg("--default-signal").arg(cargo_program());
        env
    }

    /// Any command, in the place and the environment that cargo gets.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        forget_cargo_run(&mut command);
        command.current_dir(&self.root).env("PATH", self.search_path());
        command
    }

    /// `PATH` with the workspace's own tools first.
    fn search_path(&self) -> OsString {
        let own = self.tools().join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(own).chain(env::split_paths(&path));
        env::join_paths(all).unwrap_or(path)
    }
}

/// Takes away what `cargo run` and `.cargo/config.toml` put into this program's environment, so that what a task starts
/// sees what the person who called it sees.
///
/// Cargo also puts its folders first in `LD_LIBRARY_PATH`; those are taken out of it again.
pub(crate) fn forget_cargo_run(command: &mut Command) {
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let whole = ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_BIN_NAME"];
        let listed = whole.contains(&name.as_ref())
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("AWS_LC_SYS_");
        if listed {
            command.env_remove(&key);
        }
    }
    let Some(libraries) = env::var_os("LD_LIBRARY_PATH") else { return };
    let kept: Vec<PathBuf> =
        env::split_paths(&libraries).filter(|folder| !is_of_cargo(folder)).collect();
    if kept.is_empty() {
        command.env_remove("LD_LIBRARY_PATH");
    } else if let Ok(kept) = env::join_paths(kept) {
        command.env("LD_LIBRARY_PATH", kept);
    }
}

/// Whether cargo, not the person, put a folder into the library path: it holds this program, or it
/// is the toolchain's.
fn is_of_cargo(folder: &Path) -> bool {
    let program = env::current_exe().unwrap_or_default();
    let built = program.parent().is_some_and(|own| folder.starts_with(own));
    built || folder.components().any(|part| part.as_os_str() == "rustlib") || is_sysroot(folder)
}

/// Whether a folder is the `lib` of the toolchain whose cargo runs this.
fn is_sysroot(folder: &Path) -> bool {
    let cargo = PathBuf::from(cargo_program());
    let sysroot = cargo.parent().and_then(Path::parent);
    sysroot.is_some_and(|sysroot| folder == sysroot.join("lib"))
}

/// The cargo that runs this program, else the one in `PATH`.
fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What cargo knows of the packages.
fn metadata(root: &Path, args: &[&str]) -> Result<Value> {
    let output = Command::new(cargo_program())
        .args(["metadata", "--format-version", "1"])
        .args(args)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

/// Asks cargo where it builds: a variable, a setting or the default may say.
fn target_folder(root: &Path) -> Result<PathBuf> {
    let metadata = metadata(root, &["--no-deps"])?;
    let folder = metadata.get("target_directory").and_then(Value::as_str);
    Ok(folder.context("cargo metadata names no target directory")?.into())
}
