//! What a `connect` to a server of the command itself costs inside, where the filter asks the usher.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Uid;

use super::machine;
use super::spread::Spread;
use crate::built::Built;
use crate::setup::setup;
use crate::workspace::{Workspace, forget_cargo_run};

/// What is connected to: a stream and a datagram socket of loopback, and a unix socket.
const KINDS: [&str; 3] = ["tcp", "udp", "unix"];

/// Calls before the first that counts.
const WARM_UP: u32 = 100;

/// How often each side takes its turn.
const ROUNDS: u32 = 5;

/// Measures every kind with boundary and without, in turn, and writes the table.
pub(crate) fn measure(workspace: &Workspace, calls: u32, program: Option<&Path>) -> Result<String> {
    ensure!(Uid::effective().is_root(), "the eBPF jail is measured, which needs root");
    setup(workspace)?;
    let built;
    let boundary = if let Some(program) = program {
        program
    } else {
        built = Built::build(workspace, &["--quiet", "--release", "--package", "boundary"])?;
        built.require_kernel_half()?;
        built.program("boundary")?
    };
    let machine = machine::describe();
    let mut text = String::from(
        "| `connect` to | without boundary, p50 µs | p10–p90 µs | jail `ebpf`, p50 µs | p10–p90 µs \
         | added, µs |\n|---|---|---|---|---|---|\n",
    );
    for kind in KINDS {
        let (mut bare, mut inside) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.extend(run(None, kind, calls)?);
            inside.extend(run(Some(boundary), kind, calls)?);
        }
        let [bare, inside] =
            [bare, inside].map(|times| Spread::of(times).context("no calls, no result"));
        let (bare, inside) = (bare?, inside?);
        let added = microseconds(inside.median.saturating_sub(bare.median));
        writeln!(text, "| {kind} | {} | {} | {added} |", shown(bare), shown(inside))?;
    }
    writeln!(text, "\n{ROUNDS} rounds of {calls} calls each, one after the other. {machine}.")?;
    Ok(text)
}

/// Has this program measure itself, inside or not.
fn run(boundary: Option<&Path>, kind: &str, calls: u32) -> Result<Vec<Duration>> {
    let own = std::env::current_exe().context("this program's own path")?;
    let mut command = match boundary {
        None => Command::new(own),
        Some(boundary) => {
            let mut command = Command::new(boundary);
            command.args(["--jail-type", "ebpf", "--"]).arg(own);
            command
        }
    };
    forget_cargo_run(&mut command);
    let calls = calls.to_string();
    let done = command.args(["bench", "connect", "--calls", &calls, "--inside", kind]).output();
    let done = done.context("this program, or boundary")?;
    ensure!(done.status.success(), "{kind}: {}", String::from_utf8_lossy(&done.stderr));
    let told = String::from_utf8(done.stdout).context("numbers are text")?;
    let times = told.lines().map(|line| line.parse().map(Duration::from_nanos));
    times.collect::<Result<_, _>>().context("a line is a number")
}

/// The side that calls: says how long each call took, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a program inside that talks to itself")]
pub(crate) fn call(kind: &str, calls: u32) -> Result<()> {
    let mut times = match kind {
        "tcp" => {
            let server = TcpListener::bind("127.0.0.1:0")?;
            let place = server.local_addr()?;
            each(calls, || TcpStream::connect(place), || server.accept().map(drop))?
        }
        "udp" => {
            let server = UdpSocket::bind("127.0.0.1:0")?;
            let (place, client) = (server.local_addr()?, UdpSocket::bind("127.0.0.1:0")?);
            each(calls, || client.connect(place), || Ok(()))?
        }
        "unix" => {
            let folder = std::env::temp_dir().join(format!("connect-{}", std::process::id()));
            std::fs::create_dir(&folder)?;
            let (place, folder) = (folder.join("socket"), Remove(folder));
            let server = UnixListener::bind(&place)?;
            let times = each(calls, || UnixStream::connect(&place), || server.accept().map(drop));
            drop(folder);
            times?
        }
        other => bail!("tcp, udp or unix, not {other}"),
    };
    let mut out = io::stdout().lock();
    for time in times.drain(..) {
        writeln!(out, "{}", time.as_nanos())?;
    }
    Ok(())
}

/// A folder that goes with its holder.
struct Remove(std::path::PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Times a call again and again; what follows it is not timed.
fn each<T>(
    calls: u32,
    mut call: impl FnMut() -> io::Result<T>,
    mut after: impl FnMut() -> io::Result<()>,
) -> io::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for round in 0..WARM_UP + calls {
        let begin = Instant::now();
        let client = call();
        let time = begin.elapsed();
        client?;
        after()?;
        if round >= WARM_UP {
            times.push(time);
        }
    }
    Ok(times)
}

/// A spread in microseconds.
fn shown(spread: Spread) -> String {
    let [low, median, high] = [spread.low, spread.median, spread.high].map(microseconds);
    format!("{median} | {low}–{high}")
}

/// A duration in microseconds, to the tenth.
fn microseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e6)
}
