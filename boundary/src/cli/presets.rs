//! What `boundary presets` is told.

/// The arguments of `boundary presets`.
#[derive(Debug, Clone, clap::Args)]
pub struct Presets {
    /// The presets to show with their rules; without one, all are listed
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}
