//! The run: contestants are started, take turns in every row, round after round, and are compared.
//!
//! *Standing*: `cargo xtask bench proxy` calls it as root. *Never*: compares two numbers that were
//! not measured in the same round.

mod agent;
mod contestants;
mod memory;
pub(crate) mod record;
mod rows;
mod special;
mod spread;
mod table;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::agent::Helper;
use crate::{say, stage};

/// What is measured, and with whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The program that is measured.
    #[arg(long)]
    pub(crate) boundary: PathBuf,
    /// mitmproxy's program.
    #[arg(long)]
    pub(crate) mitmdump: Option<PathBuf>,
    /// squid, built with OpenSSL.
    #[arg(long)]
    pub(crate) squid: Option<PathBuf>,
    /// A build of hudsucker: takes the address to listen on, the authority's key and certificate,
    /// and the file with the roots.
    #[arg(long)]
    pub(crate) hudsucker: Option<PathBuf>,
    /// How often every contestant takes its turn in every row.
    #[arg(long, default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Only the rows whose name has this in it; `memory`, `events` and `many` are names too.
    #[arg(long)]
    pub(crate) only: Option<String>,
}

/// Measures everything and writes the result.
pub(crate) fn conduct(plan: &Plan) -> Result<()> {
    let folder = Folder::make()?;
    stage::enter(folder.path())?;
    stage::answer_names()?;
    let _origin = Helper::origin(folder.path())?;
    let wanted = |name: &str| plan.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let mut text = String::new();
    if wanted("memory") || wanted("events") || rows::all().any(|row| wanted(row.name)) {
        let mut contestants = contestants::start(plan, folder.path())?;
        let results = rows::measure(&mut contestants, plan.rounds, wanted)?;
        text.push_str(&table::of_rows(&results, &contestants, plan.rounds)?);
        if wanted("events") {
            text.push_str(&special::of_events(&mut contestants)?);
        }
        if wanted("memory") {
            text.push_str(&special::of_memory(&mut contestants)?);
        }
    }
    if wanted("many") {
        match special::of_many(plan, folder.path()) {
            Ok(table) => text.push_str(&table),
            Err(error) => say(&format!("bench: no table of many connections: {error:#}")),
        }
    }
    io::stdout().write_all(text.as_bytes()).context("standard output")
}

/// A folder of the run's own, which goes with it. Everybody may look into it: a peer has a user of
/// its own.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("boundary-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            say(&format!("bench: {} stays: {error}", self.0.display()));
        }
    }
}
