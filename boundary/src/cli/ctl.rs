//! What `boundary ctl` is told.

/// The arguments of `boundary ctl`.
#[derive(Debug, Clone, clap::Args)]
pub struct Ctl {
    /// The session, or how its number begins; needed where there is more than one
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub verb: CtlVerb,
}

/// What there is to do with a running session.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CtlVerb {
    /// List the sessions that run
    Ps {
        /// Answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read the policy again; one that does not parse changes nothing
    Reload {
        /// Take files that were replaced since the session began; its command may have written them
        #[arg(long)]
        replaced: bool,
    },
    /// List what was denied last, with the number by which it may be permitted
    Denied {
        /// Answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Permit, for the rest of the session, what was denied under a number of the record
    Allow {
        /// The `sequence` of the denial
        #[arg(value_name = "SEQUENCE")]
        sequence: u64,
        /// The rule; without one, the narrowest that permits it
        #[arg(value_name = "RULE")]
        rule: Option<String>,
        /// Write it into the policy file too
        #[arg(long)]
        save: bool,
    },
    /// End a session: its command gets SIGTERM, and is killed if it stays
    Stop,
}
