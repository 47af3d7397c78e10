//! Runs every test of the workspace and sums them up in one last line.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use landlock::{AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};
use nix::unistd::Uid;

use crate::built::Built;
use crate::packets::{self, Packets};
use crate::say::say;
use crate::setup::{installed, setup};
use crate::tally::Tally;
use crate::workspace::Workspace;

/// The packages that are tested on the host: all but the kernel half, whose decisions are in
/// `boundary-common`.
pub(crate) const TESTED: [&str; 3] = ["--workspace", "--exclude", "boundary-ebpf"];

/// What is built for it: all targets, so that programs and tests share one set of features and are
/// built once.
pub(crate) const EVERYTHING: [&str; 5] =
    [TESTED[0], TESTED[1], TESTED[2], "--quiet", "--all-targets"];

/// `CAP_NET_ADMIN`, `CAP_SYS_ADMIN` and `CAP_BPF`, which the eBPF jail needs, as bits of `CapEff`.
const CAPABILITIES: u64 = (1 << 12) | (1 << 21) | (1 << 39);

/// Builds and runs every test; the last line on stdout is `N passed, N failed`.
pub(crate) fn test(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup(workspace)?;
    let built = Built::build(workspace, &EVERYTHING)?;
    if built.is_stub() {
        say("test: boundary was built without its kernel half; tests that need it will say so");
    }
    let mut cargo = workspace.interruptible_cargo();
    cargo.arg("test").args(TESTED).arg("--no-fail-fast").args(args);
    cargo.env("BOUNDARY_BIN", built.program("boundary")?);
    cargo.env("BOUNDARY_ATTACK", built.program("attack")?);
    if let Some(promise) = promise() {
        cargo.env("BOUNDARY_TEST_PROMISE", promise);
    }
    let toll = Packets::file(workspace)?;
    cargo.env(packets::VARIABLE, &toll);
    let (status, tally) = stream(&mut cargo)?;
    let packets = Packets::read(&toll)?;
    say(format_args!("test: {packets}"));
    conclude(status, tally, packets)
}

/// Where continuous integration runs (`CI` is set), what this machine promises to the tests, so that a
/// test that skips for want of it fails. A promise made by the caller stands as it is.
pub(crate) fn promise() -> Option<String> {
    let promised = std::env::var_os("BOUNDARY_TEST_PROMISE").is_some();
    if promised || std::env::var_os("CI").is_none() {
        return None;
    }
    let here = [
        ("root", is_root()),
        ("bpf", has_bpf()),
        ("userns", has_userns()),
        ("landlock", has_landlock()),
        ("memcg", has_memcg()),
    ];
    let mut found: Vec<&str> =
        here.into_iter().filter_map(|(name, there)| there.then_some(name)).collect();
    found.extend(installed());
    let found = found.join(",");
    say(format_args!("test: this machine promises: {found}"));
    Some(found)
}

/// Whether the tests run as root.
fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whether the kernel has `bpf(2)`, a cgroup2 is mounted, and the capabilities are there.
fn has_bpf() -> bool {
    let cgroup2 = fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|mounts| mounts.lines().any(|mount| mount.contains(" - cgroup2 ")));
    let call = fs::exists("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or(false);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0);
    cgroup2 && call && effective & CAPABILITIES == CAPABILITIES
}

/// Whether a user namespace can be made.
fn has_userns() -> bool {
    let status = Command::new("unshare").args(["--user", "true"]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether the kernel has Landlock.
fn has_landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::Execute).and_then(Ruleset::create).is_ok()
}

/// Whether cgroups bound memory: those of the first version, or of the second where they are given it.
fn has_memcg() -> bool {
    let first = fs::exists("/sys/fs/cgroup/memory/memory.limit_in_bytes").unwrap_or(false);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let second = places.filter_map(|line| line.split(' ').nth(4)).any(|place| {
        let given = fs::read_to_string(format!("{place}/cgroup.subtree_control"));
        given.is_ok_and(|given| given.split_ascii_whitespace().any(|name| name == "memory"))
    });
    first || second
}

/// Runs cargo, hands its output on line by line and sums up on the way.
fn stream(cargo: &mut Command) -> Result<(ExitStatus, Tally)> {
    let mut child: Child = cargo.stdout(Stdio::piped()).spawn().context("cargo test")?;
    let mut output = BufReader::new(child.stdout.take().context("cargo test has no output")?);
    let mut tally = Tally::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).context("cargo test")? > 0 {
        io::stdout().write_all(&line).context("standard output")?;
        tally.note(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok((child.wait().context("cargo test")?, tally))
}

/// Says the closing line. Cargo's verdict and the sum must both be good: a runner that died has no
/// closing line to count. A packet that arrived where none should is a failure whatever the tests say.
fn conclude(status: ExitStatus, tally: Tally, packets: Packets) -> Result<ExitCode> {
    if !status.success() && !tally.has_failed() {
        say(format_args!("test: cargo test: {status}, though no runner reported a failed test"));
    }
    writeln!(io::stdout(), "{tally}").context("standard output")?;
    let good = status.success() && !tally.has_failed() && packets.is_tight();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
