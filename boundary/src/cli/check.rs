//! What `boundary check` is told.

use std::ffi::OsString;

use super::PolicyArgs;

/// The arguments of `boundary check`.
#[derive(Debug, Clone, clap::Args)]
#[command(override_usage = "boundary check [options] [[METHOD] URL]")]
pub struct Check {
    /// The policy that is asked.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
    /// A URL, with or without a method before it; without one, the policy itself is looked over.
    #[arg(
        num_args = 0..=2,
        value_name = "[METHOD] URL",
        help = "What to ask for: `https://host/path`, `POST https://host/path`, `tcp://host:port`, \
                `tls://host:port`; without it the policy is looked over"
    )]
    pub asked: Vec<OsString>,
}
