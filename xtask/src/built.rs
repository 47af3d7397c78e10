//! Builds with cargo and finds what it built from cargo's own messages, never by guessing a path.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::workspace::Workspace;

/// The configuration that `boundary/build.rs` sets when it found no linker for the kernel half and
/// embedded an empty object.
const STUB: &str = "kernel_half_stub";

/// What a build left behind.
#[derive(Debug, Default)]
pub(crate) struct Built {
    programs: BTreeMap<String, PathBuf>,
    /// What runs the tests of a target.
    runners: BTreeMap<String, PathBuf>,
    stub: bool,
}

impl Built {
    /// Builds with the given cargo arguments.
    pub(crate) fn build(workspace: &Workspace, args: &[&str]) -> Result<Self> {
        let mut cargo = workspace.cargo();
        cargo.arg("build").args(args);
        Self::by(cargo)
    }

    /// Builds by a command that builds.
    pub(crate) fn by(mut command: Command) -> Result<Self> {
        let mut cargo = command
            .arg("--message-format=json-render-diagnostics")
            .stdout(Stdio::piped())
            .spawn()
            .context("cargo build")?;
        let mut built = Self::default();
        let messages = cargo.stdout.take().context("cargo build has no output")?;
        for line in BufReader::new(messages).lines() {
            built.note(&line.context("cargo build")?);
        }
        let status = cargo.wait().context("cargo build")?;
        ensure!(status.success(), "cargo build: {status}");
        Ok(built)
    }

    /// The program of a name.
    pub(crate) fn program(&self, name: &str) -> Result<&Path> {
        let path = self.programs.get(name).with_context(|| format!("cargo built no {name}"))?;
        Ok(path)
    }

    /// What runs the tests of a target of this name.
    pub(crate) fn runner(&self, name: &str) -> Result<&Path> {
        let path =
            self.runners.get(name).with_context(|| format!("cargo built no tests {name}"))?;
        Ok(path)
    }

    /// Whether boundary was built without its kernel half.
    pub(crate) fn is_stub(&self) -> bool {
        self.stub
    }

    /// Refuses a boundary without its kernel half.
    pub(crate) fn require_kernel_half(&self) -> Result<()> {
        if self.stub {
            bail!("boundary was built without its kernel half; see the build's own warnings");
        }
        Ok(())
    }

    /// Takes what one of cargo's messages says. A line that is none of cargo's is passed over.
    fn note(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        match text("/reason") {
            Some("compiler-artifact") => {
                let is_runner = message.pointer("/profile/test") == Some(&true.into());
                let of_kind = if is_runner { &mut self.runners } else { &mut self.programs };
                if let (Some(name), Some(path)) = (text("/target/name"), text("/executable")) {
                    of_kind.insert(name.to_owned(), path.into());
                }
            }
            Some("build-script-executed") => {
                let cfgs = message.pointer("/cfgs").and_then(Value::as_array);
                let stub = cfgs.is_some_and(|cfgs| cfgs.iter().any(|cfg| cfg == STUB));
                self.stub |= stub;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Built;

    fn noted(lines: &[&str]) -> Built {
        let mut built = Built::default();
        for line in lines {
            built.note(line);
        }
        built
    }

    #[test]
    fn a_program_is_found_by_its_name() {
        let built = noted(&[
            r#"{"reason":"compiler-artifact","target":{"name":"boundary"},"profile":{"test":false},"executable":"/t/boundary"}"#,
        ]);
        assert_eq!(built.program("boundary").unwrap().to_str(), Some("/t/boundary"));
    }

    #[test]
    fn a_test_runner_is_not_the_program() {
        let built = noted(&[
            r#"{"reason":"compiler-artifact","target":{"name":"boundary"},"profile":{"test":true},"executable":"/t/boundary-1"}"#,
        ]);
        assert!(built.program("boundary").is_err());
        assert!(built.runner("boundary").is_ok());
    }

    #[test]
    fn a_stub_is_refused() {
        let built = noted(&[r#"{"reason":"build-script-executed","cfgs":["kernel_half_stub"]}"#]);
        assert!(built.is_stub());
        assert!(built.require_kernel_half().is_err());
    }

    #[test]
    fn a_real_kernel_half_is_not_refused() {
        let built = noted(&[r#"{"reason":"build-script-executed","cfgs":["other"]}"#]);
        assert!(built.require_kernel_half().is_ok());
    }
}
