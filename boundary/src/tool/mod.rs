//! The tools beside a run: each reads, answers on standard output, and ends.
//!
//! *Standing*: `main` hands over what [`crate::cli`] read of a subcommand; the answer is the exit
//! status. A tool has a file of its own here. *Never*: raises a wall, dials.

mod audit;
mod check;
mod completions;
mod ctl;
mod doctor;
mod policy;
mod presets;

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::cli::Tool;

/// Does what a subcommand asks, and gives the exit status.
pub fn run(tool: Tool) -> Result<u8, Error> {
    match tool {
        Tool::Check(asked) => check::check(&asked),
        Tool::Ctl(asked) => ctl::ctl(&asked),
        Tool::Policy(asked) => policy::policy(&asked),
        Tool::Presets(asked) => presets::presets(&asked),
        Tool::Audit(asked) => audit::run(&asked),
        Tool::Completions(asked) => completions::completions(&asked),
        Tool::Doctor(asked) => doctor::doctor(asked),
        Tool::Man(asked) => completions::man(&asked),
    }
}

/// Writes an answer to standard output.
fn answer(text: &[u8]) -> Result<(), Error> {
    match io::stdout().write_all(text) {
        // Whoever asked has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::Output),
    }
}

/// An answer for people while it is written, line by line.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// Adds a line.
    fn line(&mut self, line: impl fmt::Display) {
        self.0.push_str(&line.to_string());
        self.0.push('\n');
    }
}

/// Why a tool has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy cannot be read, or as whom a command would run is not to be found out.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// What was asked about is no URL.
    #[error("not a URL to ask about: {0}")]
    Url(String),
    /// Not one session is meant.
    #[error("{}", match .0 { 0 => "no session that answers".to_owned(), n => format!("{n} sessions") })]
    Session(usize),
    /// There is no such preset.
    #[error("`{0}` is no preset")]
    Preset(String),
    /// The answer could not be given.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// A value that an option does not take.
    #[error("{option}: {what}")]
    Value {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A kernel call failed.
    #[error(transparent)]
    Call(#[from] crate::jail::Call),
    /// A file could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Config(error) => error.hint(),
            Self::Url(_) => "e.g. boundary check POST https://example.com/path".into(),
            Self::Session(0) => "boundary ctl ps lists those of this user; root's need sudo".into(),
            Self::Session(_) => "say which with --session; boundary ctl ps lists them".into(),
            Self::Preset(_) => "boundary presets lists all".into(),
            Self::Output(_) => "the answer is not complete".into(),
            Self::Value { option, .. } => format!("correct {option} or leave it out"),
            Self::Read { .. } => "name files that exist and can be read".into(),
            Self::Call(_) => "nothing could be found out".into(),
            Self::Write { .. } => "name a directory that exists and can be written".into(),
        }
    }
}
