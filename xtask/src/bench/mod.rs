//! Measurements that compare contestants in one run, so that the machine's mood falls on all alike.
//!
//! *Standing*: a person calls `cargo xtask bench NAME`; the result goes into `docs/performance.md`
//! between its markers. *Never*: writes a number that was not measured in that run.

mod connect;
mod document;
mod jails;
mod machine;
mod peers;
mod proxy;
mod record;
mod spread;
mod startup;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::workspace::Workspace;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The proxy beside the direct connection, the least that a proxy can be, and its peers, which
    /// it installs; needs root, and ten minutes.
    Proxy {
        /// How often every contestant takes its turn in every row.
        #[arg(long, default_value_t = 7)]
        rounds: u32,
        /// Only the rows with this in their name; the document is left as it is.
        #[arg(long)]
        only: Option<String>,
        /// Say the table, but leave the document as it is.
        #[arg(long)]
        dry_run: bool,
    },
    /// How long a program inside takes to connect to a server of its own; needs root.
    Connect {
        /// How often each is called in a round.
        #[arg(long, default_value_t = 2000)]
        calls: u32,
        /// Another boundary than the one that is built for it.
        #[arg(long)]
        program: Option<PathBuf>,
        /// The side that calls.
        #[arg(long, hide = true)]
        inside: Option<String>,
        /// Say the table, but leave the document as it is.
        #[arg(long)]
        dry_run: bool,
    },
    /// What each jail costs beside none: start-up, connecting, requests, bulk; needs root.
    Jails {
        /// How often each takes its turn.
        #[arg(long, default_value_t = 15)]
        rounds: u32,
        /// How many connections and requests there are in a turn.
        #[arg(long, default_value_t = 1000)]
        calls: u32,
        /// Another boundary than the one that is built for it.
        #[arg(long)]
        program: Option<PathBuf>,
        /// The side that asks, and whom.
        #[arg(long, hide = true)]
        inside: Option<String>,
        /// Say the table, but leave the document as it is.
        #[arg(long)]
        dry_run: bool,
    },
    /// What recording costs, by every sink and all of them beside none; needs root.
    Record {
        /// How often every session takes its turn in every row.
        #[arg(long, default_value_t = 24)]
        rounds: u32,
        /// Say the table, but leave the document as it is.
        #[arg(long)]
        dry_run: bool,
    },
    /// How long `boundary -- true` takes beside plain `true` and bubblewrap; needs root.
    Startup {
        /// How often each contestant runs.
        #[arg(long, default_value_t = 200)]
        runs: u32,
        /// Say the table, but leave the document as it is.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Measures one thing.
pub(crate) fn bench(workspace: &Workspace, bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Proxy { rounds, only, dry_run } => {
            let table = proxy::measure(workspace, *rounds, only.as_deref())?;
            document::publish(workspace, "proxy", &table, *dry_run || only.is_some())?;
        }
        Bench::Connect { calls, inside: Some(kind), .. } => connect::call(kind, *calls)?,
        Bench::Connect { calls, program, inside: None, dry_run } => {
            let table = connect::measure(workspace, *calls, program.as_deref())?;
            document::publish(workspace, "connect", &table, *dry_run)?;
        }
        Bench::Jails { calls, inside: Some(server), .. } => jails::ask(server, *calls)?,
        Bench::Jails { rounds, calls, program, inside: None, dry_run } => {
            let table = jails::measure(workspace, (*rounds, *calls), program.clone())?;
            document::publish(workspace, "jails", &table, *dry_run)?;
        }
        Bench::Record { rounds, dry_run } => {
            let table = record::measure(workspace, *rounds)?;
            document::publish(workspace, "record", &table, *dry_run)?;
        }
        Bench::Startup { runs, dry_run } => {
            let table = startup::measure(workspace, *runs)?;
            document::publish(workspace, "startup", &table, *dry_run)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
