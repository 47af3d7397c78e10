//! Boots the kernels that people run, and has each pass the tests that a kernel can fail.
//!
//! Every kernel is one of Debian's, emulated by QEMU (no virtualization is needed of the machine), on
//! an initramfs of Debian's programs and static builds of boundary and its tests. Over each jail
//! the journeys run as root and as a user.
//!
//! *Standing*: `docs/kernels.md` has the table of the last whole run. *Never*: touches this machine's
//! network or kernel. What it installs is QEMU, a compiler, and what `setup` does.

mod features;
mod guest;
mod kernel;
mod machine;
mod outcome;
mod suites;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};

use crate::arch::Arch;
use crate::built::Built;
use crate::debian::Debian;
use crate::document;
use crate::musl::Static;
use crate::say::say;
use crate::setup::setup;
use crate::suite;
use crate::workspace::Workspace;
use kernel::Kernel;
use machine::{End, Machine};
use outcome::Outcome;

/// The kernels that are supported: the oldest, those of Debian's releases, the newest.
const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

/// The document with the table.
const DOCUMENT: &str = "docs/kernels.md";

/// Where it is kept what boundary finds on each kernel.
const FOUND: &str = "docs/kernels";

/// Boots kernels and runs the tests on them.
#[derive(Debug, Args)]
pub(crate) struct Vm {
    /// How the versions begin; all that are supported if none is named.
    kernels: Vec<String>,
    /// The architecture that is emulated.
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Boots what `cargo xtask test` has built, which needs this machine's C library, instead of static
    /// programs: sooner there, where that is built.
    #[arg(long)]
    shared: bool,
    /// Runs few of the usual tests, for whoever has little time.
    #[arg(long, conflicts_with = "filter")]
    brief: bool,
    /// Writes `docs/kernels.md` and `docs/kernels/` from the last whole run of each kernel.
    #[arg(long)]
    write: bool,
    /// How many minutes one kernel may take before it is killed.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Runs over this jail only.
    #[arg(long, requires = "filter", value_parser = suites::JAILS)]
    jail: Option<String>,
    /// Runs these tests instead of the usual ones, over every jail.
    #[arg(last = true)]
    filter: Vec<String>,
}

impl Vm {
    /// Whether all of the usual tests are run, so that the table may be made of what they come to.
    fn is_whole(&self) -> bool {
        self.filter.is_empty() && !self.brief
    }
}

/// Boots each kernel in turn; the exit code is the sum.
pub(crate) fn vm(workspace: &Workspace, asked: &Vm) -> Result<ExitCode> {
    setup(workspace)?;
    let arch = asked.arch.or_else(Arch::host).context("--arch")?;
    let built = if asked.shared { as_tested(workspace, arch)? } else { build(workspace, arch)? };
    let debian = Debian::open(workspace, arch)?;
    let all: Vec<String> = KERNELS.map(str::to_owned).to_vec();
    let kernels = if asked.kernels.is_empty() { &all } else { &asked.kernels };
    if arch.is_host() {
        suites::require(&built)?;
    }
    let runs = suites::script(&built, asked)?;
    let mut outcomes = Vec::new();
    for begins in kernels {
        let kernel = Kernel::newest(workspace, &debian, begins)?;
        let initramfs = guest::pack(workspace, &debian, &kernel, &built, &runs)?;
        let (said, outcome) = run(arch, &kernel, &initramfs, asked)?;
        if asked.is_whole() {
            fs::write(log(workspace, arch, begins), said).context("what the guest said")?;
        }
        outcomes.push(outcome);
    }
    for outcome in &outcomes {
        say(outcome);
    }
    let names = suites::names(&runs);
    for outcome in &outcomes {
        let (release, all) = (outcome.release(), names.join(", "));
        ensure!(
            outcome.names().eq(names.iter().copied()),
            "Linux {release} did not run all of {all}"
        );
    }
    if asked.write {
        write(workspace)?;
    }
    let is_good = outcomes.iter().all(Outcome::is_good);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where what a kernel said last is kept, when it ran everything.
fn log(workspace: &Workspace, arch: Arch, begins: &str) -> PathBuf {
    workspace.target().join("vm").join(arch.name()).join(format!("{begins}.log"))
}

/// Writes the tables, and what boundary found on each kernel, from the last run of each.
fn write(workspace: &Workspace) -> Result<()> {
    let mut columns = Vec::new();
    for arch in Arch::ALL {
        for begins in KERNELS {
            let Ok(said) = fs::read_to_string(log(workspace, arch, begins)) else { continue };
            let outcome = Outcome::of(&said);
            let name = table::name(arch, begins);
            ensure!(outcome.is_good(), "the last whole run of {name} was not good:\n{outcome}");
            let found = serde_json::to_string_pretty(&outcome.found()).context("doctor")?;
            let folder = workspace.root().join(FOUND);
            fs::create_dir_all(&folder).context(FOUND)?;
            let file = folder.join(format!("{}.json", name.replace(' ', "-")));
            fs::write(file, found + "\n").context(FOUND)?;
            columns.push((name, outcome));
        }
    }
    document::write(workspace, DOCUMENT, "features", &table::features(&columns)?)?;
    document::write(workspace, DOCUMENT, "kernels", &table::runs(&columns))
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

/// What the tests of this machine are built as. The guest has the same C library, of the same release.
fn as_tested(workspace: &Workspace, arch: Arch) -> Result<Built> {
    ensure!(arch.is_host(), "--shared: what is tested here is for another architecture");
    say("vm: building as the tests are built");
    let built = Built::build(workspace, &suite::EVERYTHING)?;
    built.require_kernel_half()?;
    Ok(built)
}

/// Boots one kernel, and what it came to. An emulated processor that patches the code it runs now and
/// then faults before there is a first process: that says nothing of boundary, so there is one more try.
fn run(arch: Arch, kernel: &Kernel, initramfs: &Path, asked: &Vm) -> Result<(String, Outcome)> {
    for _ in 0..2 {
        let said = boot(arch, kernel, initramfs, asked)?;
        let outcome = Outcome::of(&said);
        if outcome.has_booted() {
            return Ok((said, outcome));
        }
        say(format_args!("vm: Linux {} did not come as far as its first process", kernel.release));
    }
    bail!("Linux {} did not boot", kernel.release)
}

/// Boots one kernel and says what it says, to the end.
fn boot(arch: Arch, kernel: &Kernel, initramfs: &Path, asked: &Vm) -> Result<String> {
    say(format_args!("vm: booting Linux {} ({arch})", kernel.release));
    let (started, before) = (Instant::now(), emulated()?);
    let most = Duration::from_mins(asked.minutes);
    let machine = Machine::boot(arch, kernel, initramfs, most)?;
    let mut all = String::new();
    let end = machine.follow(|line| {
        say(format_args!("[{} {:>3} s] {line}", kernel.release, started.elapsed().as_secs()));
        all.extend([line, "\n"]);
    })?;
    if end != End::Off {
        say(format_args!("vm: Linux {} was killed: {end:?}", kernel.release));
        all += outcome::KILLED;
    }
    let took = started.elapsed().as_secs();
    let busy = emulated()?.saturating_sub(before);
    Ok(format!("{all}{} {took} {busy}\n", outcome::TOOK))
}

/// For how many seconds the machines that have ended kept processors busy, and whatever else this
/// program has waited for: a machine beside others takes longer and works as much.
fn emulated() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let times = [usage.user_time(), usage.system_time()];
    Ok(times.iter().map(|time| time.tv_sec().unsigned_abs()).sum())
}
