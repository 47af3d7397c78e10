//! What was typed: shapes only.
//!
//! *Standing*: `main` hands the arguments to [`parse`]; [`Args`] of a run go on to `config`, which
//! gives them a meaning, and a [`Tool`] to `tool`. A subcommand has its arguments in a file of its
//! own here. *Never*: reads a file or the environment, decides.

mod audit;
mod check;
mod completions;
mod ctl;
mod doctor;
mod policy;
mod presets;
mod run;
pub mod settings;

#[cfg(test)]
mod tests;

pub use audit::{Audit, Report, Show, Verify};
pub use check::Check;
pub use completions::{Completions, Man};
pub use ctl::{Ctl, CtlVerb};
pub use doctor::Doctor;
pub use policy::{PolicyArgs, PolicyDiff, PolicyTool, PolicyVerb};
pub use presets::Presets;
pub use run::Args;
pub use settings::Setting;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _, Subcommand as _};

/// A whole command line: a run, or a tool in its place.
#[derive(Debug, clap::Parser)]
#[command(
    name = "boundary",
    version,
    about = "Run a command so that nothing it does reaches the network except what a policy allows",
    // What this type is to the program is not what the program is to a user.
    long_about = None,
    // The last of a flag counts, as in the Go tool, so that a wrapper's flags can be overridden.
    args_override_self = true,
    // An option in front of a tool would mean nothing: each tool takes its own behind its name.
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Tools",
    subcommand_value_name = "TOOL",
    override_usage = USAGE,
    max_term_width = 100,
    after_help = "Most options have an environment variable and a key in the file as well.\n\
                  Without a rule, everything is denied.\n\
                  Exit status: the command's own; 125 if boundary itself fails."
)]
struct Line {
    #[command(flatten)]
    args: Box<Args>,
    #[command(subcommand)]
    tool: Option<Tool>,
}

/// What boundary does besides running a command; each has its arguments in a file of its own.
#[derive(Debug, clap::Subcommand)]
pub enum Tool {
    /// Say what the policy does with a URL; without one, look the policy over
    Check(Check),
    /// Ask or tell a running session: ps, denied, allow, reload, stop
    Ctl(Ctl),
    /// Compare policies
    Policy(PolicyTool),
    /// List the presets, or show what one permits
    Presets(Presets),
    /// Read audit files
    #[command(subcommand)]
    Audit(Audit),
    /// Print what a shell needs to complete boundary's options
    Completions(Completions),
    /// Tell which jails work here, and what is missing for the others
    Doctor(Doctor),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(Man),
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Request {
    /// A run.
    Run(Box<Args>),
    /// One of the tools beside it.
    Tool(Tool),
    /// Text for stdout, and nothing else: help or the version.
    Show(String),
}

/// Reads a command line, the program's own name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, Error> {
    match Line::try_parse_from(arguments) {
        Ok(Line { tool: Some(tool), .. }) => Ok(Request::Tool(tool)),
        Ok(Line { tool: None, args }) => Ok(Request::Run(args)),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            Ok(Request::Show(error.to_string()))
        }
        // The version alone, as the Go tool prints it, for scripts that compare it.
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            Ok(Request::Show(format!("{}\n", env!("CARGO_PKG_VERSION"))))
        }
        Err(error) => Err(Error::new(&error)),
    }
}

/// The command line's grammar, for help, completions and man pages.
pub fn grammar() -> clap::Command {
    Line::command()
}

/// A command line that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    what: String,
    hint: String,
}

impl Error {
    /// Keeps what the parser's message says, in one line, and its advice where it has some.
    fn new(error: &clap::Error) -> Self {
        let text = error.to_string();
        let lines: Vec<_> =
            text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let line = lines.join(" ");
        let what = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
        Self { what, hint: advice(error, &text) }
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Names the nearest option; a bare word most often is a command without its `--`.
fn advice(error: &clap::Error, text: &str) -> String {
    if let Some(ContextValue::String(near)) = error.get(ContextKind::SuggestedArg) {
        return format!("did you mean {near}? see boundary --help");
    }
    // What the tool that was asked for takes, where it was one.
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or(USAGE);
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if Tool::has_subcommand(word) => {
            format!("a tool comes first, its options behind it: boundary {word} --help")
        }
        Some(ContextValue::String(word)) if usage == USAGE && !word.starts_with('-') => {
            format!("the command follows `--`: {USAGE}")
        }
        _ => format!("{usage}; see boundary --help"),
    }
}

/// The one way to call it.
pub const USAGE: &str = "boundary [options] -- command [args…]";
