//! Which policy is meant: the options that a run and the tools have in common.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where rules come from.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct PolicyArgs {
    /// The policy file.
    #[arg(
        long,
        value_name = "PATH",
        help_heading = "Policy",
        help = "Policy file [default: ~/.config/coder_boundary/config.yaml]"
    )]
    pub config: Option<OsString>,
    /// Permit RULE, e.g. "method=GET domain=github.com" (repeat)
    #[arg(long, value_name = "RULE", help_heading = "Policy")]
    pub allow: Vec<OsString>,
    /// Add a preset's or a file's rules; see boundary presets (repeat)
    #[arg(long, value_name = "NAME", help_heading = "Policy")]
    pub preset: Vec<OsString>,
    /// domain= means: subdomains, or exact [default: subdomains]
    #[arg(long, value_name = "READING", help_heading = "Policy")]
    pub domain_match: Option<OsString>,
}

/// The arguments of `boundary policy`.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyTool {
    #[command(subcommand)]
    /// What to do with policies.
    pub what: PolicyVerb,
}

/// What there is to do with policies.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum PolicyVerb {
    /// Say what policy B newly allows and newly denies
    Diff(PolicyDiff),
}

/// The arguments of `boundary policy diff`.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyDiff {
    /// The policy file before
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The policy file after
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}
