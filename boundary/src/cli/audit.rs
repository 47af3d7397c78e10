//! What `boundary audit` is told.

use std::path::PathBuf;

/// The tools that read audit files.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Audit {
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
