//! Boots the kernels that people run, and has each pass the tests that a kernel can fail.
//!
//! Every kernel is one of Debian's, emulated by QEMU (no virtualization is needed of the machine), on
//! an initramfs of Debian's programs and static builds of boundary and its tests. Over each jail
//! the journeys run as root and as a user.
//!
//! *Standing*: `docs/kernels.md` has the table of the last whole run. *Never*: touches this machine's
//! network, kernel or packages, but for QEMU and the compilers that it installs.

mod cpio;
mod guest;
mod kernel;
mod machine;
mod outcome;
mod suites;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::arch::Arch;
use crate::built::Built;
use crate::debian::Debian;
use crate::document;
use crate::musl::Static;
use crate::say::say;
use crate::setup::setup;
use crate::workspace::Workspace;
use kernel::Kernel;
use machine::{End, Machine};
use outcome::Outcome;

/// The kernels that are supported: the oldest, those of Debian's releases, the newest.
const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

/// The document with the table.
const DOCUMENT: &str = "docs/kernels.md";

/// Boots kernels and runs the tests on them.
#[derive(Debug, Args)]
pub(crate) struct Vm {
    /// How the versions begin; all that are supported if none is named.
    kernels: Vec<String>,
    /// The architecture that is emulated.
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Writes the table into `docs/kernels.md`.
    #[arg(long)]
    write: bool,
    /// How many minutes one kernel may take.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Runs these tests instead of the usual ones, over every jail.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Boots each kernel in turn; the exit code is the sum.
pub(crate) fn vm(workspace: &Workspace, asked: &Vm) -> Result<ExitCode> {
    setup(workspace)?;
    let arch = asked.arch.or_else(Arch::host).context("--arch")?;
    let built = build(workspace, arch)?;
    let debian = Debian::open(workspace, arch)?;
    let all: Vec<String> = KERNELS.map(str::to_owned).to_vec();
    let kernels = if asked.kernels.is_empty() { &all } else { &asked.kernels };
    let runs = suites::script(&built, &asked.filter)?;
    let mut outcomes = Vec::new();
    for begins in kernels {
        let kernel = Kernel::newest(workspace, &debian, begins)?;
        let initramfs = guest::pack(workspace, &debian, &kernel, &built, &runs)?;
        outcomes.push(boot(arch, &kernel, &initramfs, asked)?);
    }
    for outcome in &outcomes {
        say(outcome);
    }
    if asked.write {
        document::write(workspace, DOCUMENT, "kernels", &outcome::table(arch, &outcomes))?;
    }
    let is_good = outcomes.iter().all(Outcome::is_good);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds boundary and its tests, which need nothing of the guest.
fn build(workspace: &Workspace, arch: Arch) -> Result<Built> {
    say(format_args!("vm: building for {arch}"));
    let means = Static::prepare(workspace, arch)?;
    let packages = ["--profile", "guest", "--package", "boundary", "--package", "boundary-tests"];
    let built =
        means.build(workspace, &[&packages[..], &["--bins", "--test", "journey"]].concat())?;
    built.require_kernel_half()?;
    Ok(built)
}

/// Boots one kernel, says what it says, and sums it up.
fn boot(arch: Arch, kernel: &Kernel, initramfs: &Path, asked: &Vm) -> Result<Outcome> {
    say(format_args!("vm: booting Linux {} ({arch})", kernel.release));
    let started = Instant::now();
    let most = Duration::from_mins(asked.minutes);
    let machine = Machine::boot(arch, kernel, initramfs, most)?;
    let mut outcome = Outcome::new(kernel.release.clone());
    let end = machine.follow(|line| {
        say(format_args!("[{}] {line}", kernel.release));
        outcome.note(line);
    })?;
    outcome.end(end == End::Off, started.elapsed());
    if end != End::Off {
        say(format_args!("vm: Linux {} was killed: {end:?}", kernel.release));
    }
    ensure!(outcome.has_booted(), "Linux {} did not boot", kernel.release);
    Ok(outcome)
}
