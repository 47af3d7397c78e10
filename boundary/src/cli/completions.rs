//! What `boundary completions` and `boundary man` are told.

use std::path::PathBuf;

/// The arguments of `boundary completions`.
#[derive(Debug, Clone, clap::Args)]
pub struct Completions {
    /// The shell that is to complete
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// The arguments of `boundary man`.
#[derive(Debug, Clone, clap::Args)]
pub struct Man {
    /// The directory, which must exist
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
