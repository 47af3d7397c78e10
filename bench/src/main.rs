//! The origin, the load and the contestants of `cargo xtask bench proxy`.
//!
//! *Standing*: xtask builds it for release and calls `conduct`, which calls the other parts, each a
//! process of its own. *Never*: touches the network outside the namespaces that it makes.

mod authority;
mod conduct;
mod load;
mod minimal;
mod origin;
mod stage;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::authority::Authority;
use crate::load::Way;

/// The parts.
#[derive(Debug, Parser)]
enum Part {
    /// Measures everything, and writes the result to standard output; needs root.
    Conduct(conduct::Plan),
    /// Measures what recording costs; needs root.
    Record(conduct::record::Plan),
    /// Serves what is asked for; says when it does, and ends with its input.
    Origin {
        /// Where its authority is written.
        #[arg(long)]
        folder: PathBuf,
    },
    /// The least that a proxy can be.
    Minimal {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Whom it believes.
        #[arg(long)]
        roots: PathBuf,
        /// Where its authority is written.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Asks for what its input says.
    Load {
        /// The address to connect to, whatever the host's name says.
        #[arg(long)]
        at: Option<SocketAddr>,
        /// The proxy to go through.
        #[arg(long, conflicts_with = "at")]
        through: Option<SocketAddr>,
        /// Whom it believes; else the file that `SSL_CERT_FILE` names.
        #[arg(long, env = "SSL_CERT_FILE")]
        roots: PathBuf,
    },
}

fn main() -> ExitCode {
    match perform(Part::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Plays one part.
fn perform(part: Part) -> Result<()> {
    match part {
        Part::Conduct(plan) => conduct::conduct(&plan),
        Part::Record(plan) => conduct::record::conduct(&plan),
        Part::Origin { folder } => {
            let authority = Authority::new("the origin's authority")?;
            authority.write(&folder, "origin")?;
            let runtime = runtime()?;
            origin::serve(&runtime, &authority)?;
            writeln!(io::stdout(), "ready")?;
            io::copy(&mut io::stdin(), &mut io::sink())?;
            Ok(())
        }
        Part::Minimal { listen, roots, folder } => {
            runtime()?.block_on(minimal::serve(listen, &roots, &folder))
        }
        Part::Load { at, through, roots } => {
            let way = at.map(Way::At).or(through.map(Way::Through)).unwrap_or_default();
            load::obey(&runtime()?, way, &roots)
        }
    }
}

/// A runtime with as many threads as the measured proxy has.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("a runtime")
}

/// Says one line to the person who called.
fn say(line: &str) {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "{line}"));
}
