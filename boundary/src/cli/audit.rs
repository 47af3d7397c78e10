//! What `boundary audit` is told.

use std::path::PathBuf;

/// The tools that read audit files.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Audit {
    /// Show what is on record, a line a decision
    Show(Show),
    /// Make a page of what is on record, to be read in a browser without a network
    Report(Report),
    /// Say whether audit files are as they were written, and where not
    Verify(Verify),
}

/// The arguments of `boundary audit verify`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Files that FILE was rotated to (FILE.1, FILE.2, …) belong to it.\n\
                        Exit status: 0 if nothing was changed or cut, 1 if something was, \
                        125 if a file cannot be read.")]
pub struct Verify {
    /// Take a session without its last record for one that still runs
    #[arg(long)]
    pub running: bool,
    /// The files
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// What is shown of a record, and how.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Show {
    /// Go on when the file grows, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N that fit
    #[arg(short = 'n', long, value_name = "N")]
    pub last: Option<usize>,
    /// Only to this host and its subdomains, or to this address (repeat)
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Only what was allowed, or what was denied
    #[arg(long, value_name = "allow|deny", value_parser = ["allow", "deny"])]
    pub decision: Option<String>,
    /// Only what a process asked for, by its name, executable or number, or one that it started (repeat)
    #[arg(long, value_name = "PROCESS")]
    pub process: Vec<String>,
    /// Only since then: 10m, 2h, 1d ago, or a time such as 14:30 or 2026-05-01T14:30
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The records as they stand in the file
    #[arg(long)]
    pub json: bool,
    /// Colours: auto, always, never [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "always", "never"])]
    pub color: Option<String>,
    /// Files with one JSON record a line; those that they were rotated to are read as well
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// What page is made of which record.
#[derive(Debug, Clone, clap::Args)]
pub struct Report {
    /// The page; `-` for standard output
    #[arg(short, long, value_name = "PAGE")]
    pub output: PathBuf,
    /// Files with one JSON record a line; those that they were rotated to are read as well
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}
