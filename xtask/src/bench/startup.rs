//! Start-up: what it costs to run `true` inside.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Uid;

use super::machine;
use super::spread::{Spread, milliseconds};
use crate::built::Built;
use crate::say::say;
use crate::setup::{find, setup};
use crate::workspace::{Workspace, forget_cargo_run};

/// Rounds before the first that counts: caches fill, the processor wakes.
const WARM_UP: u32 = 10;

/// What everything is compared with: no jail at all.
const PLAIN: &str = "`true`";

/// What the ratio is taken to: the least that a jail without a network costs.
const PEER: &str = "`bwrap --unshare-net`";

/// One way to run `true`, and how long it took each time.
#[derive(Debug)]
struct Contestant {
    name: &'static str,
    words: Vec<OsString>,
    times: Vec<Duration>,
}

/// Measures every contestant in turn, round after round, and writes the table.
pub(crate) fn measure(workspace: &Workspace, runs: u32) -> Result<String> {
    ensure!(Uid::effective().is_root(), "the eBPF jail is measured, which needs root");
    setup(workspace)?;
    let built = Built::build(workspace, &["--quiet", "--release", "--package", "boundary"])?;
    built.require_kernel_half()?;
    let machine = machine::describe();
    let policy = workspace.target().join("bench-policy.yaml");
    fs::write(&policy, policy_of(DOMAINS)).with_context(|| policy.display().to_string())?;
    let mut contestants = contestants(built.program("boundary")?, &policy)?;
    for round in 0..WARM_UP + runs {
        for contestant in &mut contestants {
            let time = run_once(workspace, contestant)?;
            if round >= WARM_UP {
                contestant.times.push(time);
            }
        }
    }
    table(contestants, runs, &machine)
}

/// Who takes part: plain first, then bubblewrap, to which the ratio is taken, then boundary.
fn contestants(boundary: &Path, policy: &Path) -> Result<Vec<Contestant>> {
    let inside = find("true").context("there is no program `true`")?.into_os_string();
    let contestant = |name, words: &[&str]| {
        let words = words.iter().map(OsString::from).chain([inside.clone()]).collect();
        Contestant { name, words, times: Vec::new() }
    };
    let boundary = boundary.to_str().context("the path of boundary is not text")?;
    let whole = ["--dev-bind", "/", "/", "--"];
    let mut all = vec![contestant(PLAIN, &[])];
    if find("bwrap").is_some() {
        let net = [&["bwrap", "--unshare-net"][..], &whole].concat();
        all.push(contestant(PEER, &net));
        let every = [&["bwrap", "--unshare-all"][..], &whole].concat();
        all.push(contestant("`bwrap --unshare-all`", &every));
    } else {
        say("bench: no bwrap here, so there is nothing to compare with");
    }
    let ebpf = [boundary, "--jail-type", "ebpf"];
    all.push(contestant("`boundary`, jail `ebpf`", &[&ebpf[..], &["--"]].concat()));
    let policy = ["--config", policy.to_str().context("the path of the policy is not text")?, "--"];
    all.push(contestant("the same, a policy of 180 domains", &[&ebpf[..], &policy].concat()));
    Ok(all)
}

/// How many rules the long policy has, each with a domain of its own.
const DOMAINS: usize = 180;

/// A policy of rules in the shapes that long ones have.
fn policy_of(rules: usize) -> String {
    let shapes = [
        "domain=site{n}.example",
        "method=GET,HEAD domain=cdn{n}.example.com",
        "domain=*.tenant{n}.example.net",
        "method=POST domain=api{n}.example.org path=/v1/*,/v2/models",
        "host=db{n}.example port=8443",
    ];
    let rules = shapes.iter().cycle().take(rules).enumerate();
    let rules = rules.map(|(n, shape)| format!("  - {}\n", shape.replace("{n}", &n.to_string())));
    std::iter::once("allowlist:\n".to_owned()).chain(rules).collect()
}

/// Runs a contestant once, from before it is started until it has been waited for.
fn run_once(workspace: &Workspace, contestant: &Contestant) -> Result<Duration> {
    let (program, args) = contestant.words.split_first().context("nothing to run")?;
    let mut command = Command::new(program);
    forget_cargo_run(&mut command);
    // Nobody's own policy is measured.
    command.env("XDG_CONFIG_HOME", workspace.target().join("no-configuration"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let status = command.status().with_context(|| contestant.name.to_owned())?;
    let time = begin.elapsed();
    if !status.success() {
        bail!("{} failed: {status}; run by hand: {:?}", contestant.name, contestant.words);
    }
    Ok(time)
}

/// The result as markdown.
fn table(contestants: Vec<Contestant>, runs: u32, machine: &str) -> Result<String> {
    let mut rows = Vec::new();
    for Contestant { name, times, words: _ } in contestants {
        rows.push((name, Spread::of(times).context("no runs, no result")?));
    }
    let median = |wanted: &str| {
        rows.iter().find(|(name, _)| *name == wanted).map(|(_, spread)| spread.median)
    };
    let plain = median(PLAIN).unwrap_or_default();
    let ratio = |time: Duration| match median(PEER) {
        Some(peer) => format!("{:.2}", time.as_secs_f64() / peer.as_secs_f64()),
        None => "–".to_owned(),
    };
    let mut text = String::from(
        "| command | p50 ms | p10–p90 ms | added to `true`, ms | ratio to `bwrap --unshare-net` |\n\
         |---|---|---|---|---|\n",
    );
    for (name, spread) in &rows {
        let added = milliseconds(spread.median.saturating_sub(plain));
        let ratio = ratio(spread.median);
        writeln!(text, "| {name} | {spread} | {added} | {ratio} |")?;
    }
    writeln!(text, "\n{runs} runs each, interleaved, warm. {machine}.")?;
    Ok(text)
}
