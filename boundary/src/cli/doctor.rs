//! What `boundary doctor` is told.

/// The arguments of `boundary doctor`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Doctor {
    /// Print one JSON object for programs to read
    #[arg(long)]
    pub json: bool,
}
