//! One run of the escape tests: which ran, and how each ended.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::built::Built;
use crate::packets;
use crate::say::say;
use crate::workspace::Workspace;

/// The packages: the program, and the tests that run it.
const TESTED: [&str; 4] = ["--package", "boundary", "--package", "boundary-tests"];

/// How many tests run at once where a wall is off: most of them wait for something to hang.
const THREADS: &str = "--test-threads=6";

/// What the machine has to have, so that no test is skipped.
const PROMISE: &str = "root,bpf,curl,setsid,setpriv,bash,ip,python3";

/// What makes boundary able to leave a wall off, in a target folder of its own.
const MUTABLE: [&str; 2] = ["--features", "boundary/mutations"];

/// A build that can be tried.
pub(crate) struct Trial<'w> {
    workspace: &'w Workspace,
    built: Built,
    /// What makes it another build than the usual one.
    arguments: Vec<String>,
    /// Where the tests write down what arrived.
    toll: Option<PathBuf>,
}

impl<'w> Trial<'w> {
    /// Builds the program as everybody else has it.
    pub(crate) fn usual(workspace: &'w Workspace) -> Result<Self> {
        Self::build(workspace, Vec::new())
    }

    /// Builds a program that leaves off a wall when it is told to.
    pub(crate) fn mutable(workspace: &'w Workspace) -> Result<Self> {
        let folder = workspace.target().join("mutations");
        let folder = folder.to_str().context("the target folder has an odd name")?;
        let own = ["--target-dir", folder];
        Self::build(workspace, MUTABLE.iter().chain(&own).map(|&it| it.to_owned()).collect())
    }

    /// Has the tests write down what arrived.
    pub(crate) fn counting_in(mut self, toll: &Path) -> Self {
        self.toll = Some(toll.to_owned());
        self
    }

    /// Builds.
    fn build(workspace: &'w Workspace, arguments: Vec<String>) -> Result<Self> {
        let mut all: Vec<&str> = TESTED.to_vec();
        all.extend(["--quiet", "--all-targets"]);
        all.extend(arguments.iter().map(String::as_str));
        let built = Built::build(workspace, &all)?;
        built.require_kernel_half()?;
        Ok(Self { workspace, built, arguments, toll: None })
    }

    /// Runs the tests whose names contain one of the filters, with these switches off. A skipped
    /// test is a failed one.
    pub(crate) fn run(&self, filters: &[String], without: &str) -> Result<BTreeMap<String, bool>> {
        let mut cargo = self.workspace.cargo();
        cargo.arg("test").args(TESTED).args(&self.arguments).args(["--test", "journey", "--"]);
        cargo.args(filters);
        if without.is_empty() {
            cargo.env("BOUNDARY_TEST_LONG", "1");
        } else {
            cargo.arg(THREADS);
        }
        if let Some(toll) = &self.toll {
            cargo.env(packets::VARIABLE, toll);
        }
        cargo.env("BOUNDARY_BIN", self.built.program("boundary")?);
        cargo.env("BOUNDARY_ATTACK", self.built.program("attack")?);
        cargo.env("BOUNDARY_TEST_PROMISE", PROMISE);
        cargo.env("BOUNDARY_WITHOUT", without).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = cargo.spawn().context("cargo test")?;
        let output = child.stdout.take().context("cargo test has no output")?;
        let mut ran = BTreeMap::new();
        for line in BufReader::new(output).lines() {
            let line = line.context("cargo test")?;
            let Some((test, fine)) = ended(&line) else { continue };
            if !fine && without.is_empty() {
                say(format_args!("escapes: {test} fails"));
            }
            ran.insert(test.to_owned(), fine);
        }
        child.wait().context("cargo test")?;
        Ok(ran)
    }
}

/// The test that a line of the runner tells of, and whether it went well.
fn ended(line: &str) -> Option<(&str, bool)> {
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
