//! One run of the escape tests: which ran, and how each ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::built::Built;
use crate::packets;
use crate::say::say;
use crate::setup::installed;
use crate::workspace::Workspace;

/// The packages: the program, and the tests that run it.
const TESTED: [&str; 4] = ["--package", "boundary", "--package", "boundary-tests"];

/// How many tests run at once: most of them wait for something.
const THREADS: &str = "--test-threads=6";

/// One after the other.
const ALONE: &str = "--test-threads=1";

/// What every machine has that can run these tests.
const BASE: [&str; 6] = ["root", "bpf", "bash", "setpriv", "setsid", "unshare"];

/// What makes boundary able to leave a wall off, in a target folder of its own.
const MUTABLE: [&str; 2] = ["--features", "boundary/mutations"];

/// The jail that the tables are of.
pub(crate) const USUAL: &str = "ebpf";

/// A build that can be tried.
pub(crate) struct Trial<'w> {
    workspace: &'w Workspace,
    built: Built,
    /// Where the tests write down what arrived.
    toll: Option<PathBuf>,
    threads: &'static str,
    /// The jail that is tried.
    jail: String,
}

impl<'w> Trial<'w> {
    /// Builds the program as everybody else has it.
    pub(crate) fn usual(workspace: &'w Workspace) -> Result<Self> {
        Self::build(workspace, &[])
    }

    /// Builds a program that leaves off a wall when it is told to.
    pub(crate) fn mutable(workspace: &'w Workspace) -> Result<Self> {
        let folder = workspace.target().join("mutations");
        let folder = folder.to_str().context("the target folder has an odd name")?;
        let own = ["--target-dir", folder];
        Self::build(workspace, &[&MUTABLE[..], &own].concat())
    }

    /// Has the tests write down what arrived.
    pub(crate) fn counting_in(mut self, toll: &Path) -> Self {
        self.toll = Some(toll.to_owned());
        self
    }

    /// Tries another jail.
    pub(crate) fn behind(self, jail: &str) -> Self {
        Self { jail: jail.to_owned(), ..self }
    }

    /// Runs one test after the other.
    pub(crate) fn alone(self) -> Self {
        Self { threads: ALONE, ..self }
    }

    /// Builds, with the arguments that make it another build than the usual one.
    fn build(workspace: &'w Workspace, arguments: &[&str]) -> Result<Self> {
        let all = [&TESTED[..], &["--quiet", "--all-targets"], arguments].concat();
        let built = Built::build(workspace, &all)?;
        built.require_kernel_half()?;
        Ok(Self { workspace, built, toll: None, threads: THREADS, jail: USUAL.to_owned() })
    }

    /// Runs the tests whose names contain one of the filters, with these switches off. A skipped
    /// test is a failed one.
    pub(crate) fn run(&self, filters: &[String], without: &str) -> Result<BTreeMap<String, bool>> {
        // Not by cargo: what is changed meanwhile is of no build that is tried here.
        let mut runner = Command::new(self.built.runner("journey")?);
        runner.args(filters).arg(self.threads).current_dir(self.workspace.root().join("tests"));
        if without.is_empty() {
            runner.env("BOUNDARY_TEST_LONG", "1");
        }
        if let Some(toll) = &self.toll {
            runner.env(packets::VARIABLE, toll);
        }
        runner.env("BOUNDARY_BIN", self.built.program("boundary")?);
        runner.env("BOUNDARY_ATTACK", self.built.program("attack")?);
        runner.env("BOUNDARY_TEST_PROMISE", promise());
        runner.env("BOUNDARY_TEST_JAIL", &self.jail);
        runner.env("BOUNDARY_WITHOUT", without).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = runner.spawn().context("the tests")?;
        let output = child.stdout.take().context("the tests have no output")?;
        let mut ran = BTreeMap::new();
        for line in BufReader::new(output).lines() {
            let line = line.context("the tests")?;
            let Some((test, fine)) = ended(&line) else { continue };
            if !fine && without.is_empty() {
                say(format_args!("escapes: {test} fails"));
            }
            ran.insert(test.to_owned(), fine);
        }
        child.wait().context("the tests")?;
        if !without.is_empty() {
            self.end_what_is_left(child.id())?;
        }
        Ok(ran)
    }

    /// Kills what a test that failed has left running: without the walls that end it, it stays. What
    /// is not boundary has the test's folder in its command line, which is named for the runner.
    fn end_what_is_left(&self, runner: u32) -> Result<()> {
        let own = self.built.program("boundary")?;
        let folder = format!("/stage-{runner}-");
        let entries = fs::read_dir("/proc").context("procfs")?.flatten();
        let processes = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
        for pid in processes {
            let is_own = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own);
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // It may have ended just now.
            if is_own || String::from_utf8_lossy(&line).contains(&folder) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// What the machine has to have, so that no test is skipped.
fn promise() -> String {
    BASE.into_iter().chain(installed()).collect::<Vec<&str>>().join(",")
}

/// The test that a line of the runner tells of, and whether it went well.
pub(crate) fn ended(line: &str) -> Option<(&str, bool)> {
    let (test, how) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    matches!(how, "ok" | "FAILED").then_some((test, how == "ok"))
}

#[cfg(test)]
mod tests {
    use super::ended;

    #[test]
    fn a_runners_line_tells_the_test_and_its_end() {
        assert_eq!(ended("test a::b ... ok"), Some(("a::b", true)));
        assert_eq!(ended("test a::b ... FAILED"), Some(("a::b", false)));
        assert_eq!(ended("test result: ok. 1 passed"), None);
        assert_eq!(ended("test a::b has been running for over 60 seconds"), None);
    }
}
