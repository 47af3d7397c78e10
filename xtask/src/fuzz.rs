//! Holds every parser to bytes that nobody thought of, with cargo-fuzz.
//!
//! *Standing*: `.ci/run` gives each target ten seconds, a person as long as they like. A finding is
//! left in `fuzz/artifacts`; it becomes a unit test before it is mended. *Never*: changes the
//! corpus; what is worth keeping is copied there by hand.

use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use crate::say::say;
use crate::setup::{CARGO_FUZZ, install};
use crate::workspace::Workspace;

/// Runs the targets of `fuzz/`, all or those that are named.
#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 10)]
    secs: u32,
    /// The targets; all of them without a name.
    targets: Vec<String>,
}

/// Builds the targets, and runs as many at once as there are processors. Findings are a failing exit code.
pub(crate) fn fuzz(workspace: &Workspace, asked: &Fuzz) -> Result<ExitCode> {
    install(workspace, CARGO_FUZZ)?;
    let all = targets(workspace)?;
    for name in &asked.targets {
        ensure!(all.contains(name), "no target `{name}`; there are {}", all.join(", "));
    }
    let chosen = if asked.targets.is_empty() { &all } else { &asked.targets };
    let built = cargo_fuzz(workspace, "build").status().context("cargo fuzz build")?;
    ensure!(built.success(), "cargo fuzz build: {built}");
    // Each has one thread, and the machine more.
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(target) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            match run(workspace, target, asked.secs)? {
                Some(done) => say(format_args!("fuzz: {target}: {done}")),
                None => found.push(target.as_str()),
            }
        }
        anyhow::Ok(found)
    };
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    let found = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        done.collect::<Result<Vec<_>>>()
    })?
    .concat();
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("fuzz: findings in {}, in fuzz/artifacts", found.join(", ")));
    Ok(ExitCode::FAILURE)
}

/// The targets that there are.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let name = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = files.flatten().filter_map(|file| name(&file.path())).collect();
    names.sort_unstable();
    Ok(names)
}

/// Runs one target; what it says of itself at the end, or nothing where it found something.
fn run(workspace: &Workspace, target: &str, secs: u32) -> Result<Option<String>> {
    let root = workspace.root().join("fuzz");
    // What is found on the way is kept beside cargo's files; the checked-in corpus is read alone.
    let grown = workspace.target().join("fuzz-corpus").join(target);
    fs::create_dir_all(&grown).with_context(|| grown.display().to_string())?;
    let mut command = cargo_fuzz(workspace, "run");
    command.arg(target).arg(grown);
    let seeds = root.join("corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.args(["--", &format!("-max_total_time={secs}"), "-print_final_stats=1", "-timeout=30"]);
    command.args(["-rss_limit_mb=2048", "-max_len=16384"]);
    let output = command.output().with_context(|| format!("cargo fuzz run {target}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        say(&said);
        return Ok(None);
    }
    let figure = |name: &str| {
        let line = said.lines().rev().find(|line| line.contains(name))?;
        line.split(':').next_back().map(|value| value.trim().to_owned())
    };
    let executed = figure("stat::number_of_executed_units:").unwrap_or_else(|| "?".to_owned());
    let covered = said.lines().rev().find_map(|line| {
        let rest = line.split(" cov: ").nth(1)?;
        rest.split(' ').next()
    });
    Ok(Some(format!("{executed} runs in {secs} s, {} edges", covered.unwrap_or("?"))))
}

/// cargo-fuzz in its folder. Coverage is a matter of flags that the stable compiler takes with this
/// variable alone.
fn cargo_fuzz(workspace: &Workspace, task: &str) -> Command {
    let mut command = workspace.cargo();
    command.args(["fuzz", task, "--sanitizer", "none", "--target-dir"]);
    command.arg(workspace.target().join("fuzz"));
    command.current_dir(workspace.root().join("fuzz")).env("RUSTC_BOOTSTRAP", "1");
    command
}
