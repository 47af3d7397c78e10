//! What each jail costs beside none: start-up, connecting, requests and bulk, and system calls that are
//! none of its business, in one run.
//!
//! The server is a thread of this program on the machine's loopback, which a rule permits; the client
//! is this program again, inside each jail in turn and outside all of them. Requests go through the
//! proxy, so that they cost what judging and recording cost; the rows of one jail differ from those
//! of another by how a connection comes to the proxy.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{Uid, getppid};

use super::machine;
use super::spread::Spread;
use crate::built::Built;
use crate::say::say;
use crate::setup::{find, setup};
use crate::workspace::{Workspace, forget_cargo_run};

/// The jails; none comes first, to which the ratios are taken.
const PLACES: [&str; 4] = ["none", "ebpf", "nsjail", "landjail"];

/// What is measured, its unit, and whether more is better.
const ROWS: [(&str, &str, bool); 6] = [
    ("start-up of `true`", "ms", false),
    ("connect", "µs", false),
    ("requests", "1/s", true),
    ("bulk", "MB/s", true),
    ("`getppid`", "ns", false),
    ("`read` of 4 KiB of `/dev/zero`", "ns", false),
];

/// How many thousands of calls are made that no jail looks at.
const UNTOUCHED: u32 = 500;

/// How much is carried in bulk.
const BULK: usize = 256 * 1024 * 1024;

/// How much is written at once.
const BLOCK: usize = 64 * 1024;

/// Measures every jail that can be raised here, in turn, and writes the table.
pub(crate) fn measure(
    workspace: &Workspace,
    (rounds, calls): (u32, u32),
    program: Option<PathBuf>,
) -> Result<String> {
    ensure!(Uid::effective().is_root(), "every jail is measured, which needs root");
    setup(workspace)?;
    let boundary = if let Some(program) = program {
        program
    } else {
        let built = Built::build(workspace, &["--quiet", "--release", "--package", "boundary"])?;
        built.require_kernel_half()?;
        built.program("boundary")?.to_owned()
    };
    let machine = machine::describe();
    let server = serve()?;
    let mut found = Vec::new();
    for place in PLACES {
        match measured(&boundary, place, (server, calls)) {
            Ok(_) => found.push((place, vec![Vec::new(); ROWS.len()])),
            Err(error) if place != "none" => say(format_args!("bench: no {place} here: {error:#}")),
            Err(error) => return Err(error),
        }
    }
    for _ in 0..rounds {
        for (place, values) in &mut found {
            let told = measured(&boundary, place, (server, calls))?;
            values.iter_mut().zip(told).for_each(|(row, value)| row.push(value));
        }
    }
    table(&found, (rounds, calls), &machine)
}

/// One round in one place: a value for each of [`ROWS`].
fn measured(
    boundary: &Path,
    place: &str,
    (server, calls): (SocketAddr, u32),
) -> Result<Vec<Duration>> {
    let inside = find("true").context("there is no program `true`")?;
    let begin = Instant::now();
    let done = command(boundary, place, server, &inside).stdout(Stdio::null()).output()?;
    let start = begin.elapsed();
    ensure!(done.status.success(), "{place}: {}", String::from_utf8_lossy(&done.stderr).trim());
    let own = std::env::current_exe().context("this program's own path")?;
    let mut command = command(boundary, place, server, &own);
    let (calls, server) = (calls.to_string(), server.to_string());
    command.args(["bench", "jails", "--calls", &calls, "--inside", &server]);
    let done = command.output()?;
    ensure!(done.status.success(), "{place}: {}", String::from_utf8_lossy(&done.stderr).trim());
    let told = String::from_utf8(done.stdout).context("numbers are text")?;
    let told = told.lines().map(|line| line.parse().map(Duration::from_nanos));
    let told = told.collect::<Result<Vec<_>, _>>().context("a line is a number")?;
    ensure!(told.len() == ROWS.len() - 1, "{place}: the client says {} values", told.len());
    Ok(std::iter::once(start).chain(told).collect())
}

/// A program in a place, where it may reach the server.
fn command(boundary: &Path, place: &str, server: SocketAddr, program: &Path) -> Command {
    let mut command = if place == "none" {
        Command::new(program)
    } else {
        let rule = format!("host={} port={}", server.ip(), server.port());
        let mut command = Command::new(boundary);
        command.args(["--jail-type", place, "--disable-audit-logs", "--allow", &rule, "--"]);
        command.arg(program);
        command
    };
    forget_cargo_run(&mut command);
    command.stdin(Stdio::null());
    command
}

/// The side inside: says how long connecting takes in the middle, then how long a request does, how
/// long the bulk does, and how long a thousand calls do that no jail looks at, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a program inside that asks its server")]
pub(crate) fn ask(server: &str, calls: u32) -> Result<()> {
    let server: SocketAddr = server.parse().context("an address")?;
    let mut times = Vec::new();
    for _ in 0..calls {
        let begin = Instant::now();
        let stream = TcpStream::connect(server)?;
        times.push(begin.elapsed());
        drop(stream);
    }
    let connect = Spread::of(times).context("no calls, no result")?.median;
    let mut stream = BufReader::new(TcpStream::connect(server)?);
    stream.get_ref().set_nodelay(true)?;
    let host = server.to_string();
    let begin = Instant::now();
    for _ in 0..calls {
        ensure!(fetch(&mut stream, &host, "/small")? > 0, "an empty answer");
    }
    let request = begin.elapsed() / calls.max(1);
    let begin = Instant::now();
    ensure!(fetch(&mut stream, &host, "/bulk")? == BULK, "the bulk is not whole");
    let bulk = begin.elapsed();
    let [own, reading] = untouched()?;
    let mut out = io::stdout().lock();
    for time in [connect, request, bulk, own, reading] {
        writeln!(out, "{}", time.as_nanos())?;
    }
    Ok(())
}

/// How long a thousand calls take that no jail looks at: the least that a call can do, and one that
/// does some work.
fn untouched() -> Result<[Duration; 2]> {
    let calls = UNTOUCHED * 1000;
    let begin = Instant::now();
    for _ in 0..calls {
        std::hint::black_box(getppid());
    }
    let own = begin.elapsed() / UNTOUCHED;
    let mut zeros = File::open("/dev/zero").context("/dev/zero")?;
    let mut block = [0; 4096];
    let begin = Instant::now();
    for _ in 0..calls {
        zeros.read_exact(&mut block).context("/dev/zero")?;
    }
    Ok([own, begin.elapsed() / UNTOUCHED])
}

/// Makes a request and reads the answer to its end; how long its body was.
fn fetch(stream: &mut BufReader<TcpStream>, host: &str, path: &str) -> Result<usize> {
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let mut length = None;
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the answer ends in its head");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let length: usize = length.context("an answer without a length")?;
    let mut left = length;
    let mut block = vec![0; BLOCK];
    while left > 0 {
        let wanted = block.get_mut(..left.min(BLOCK)).context("a block is as long")?;
        let read = stream.read(wanted)?;
        ensure!(read > 0, "the answer ends in its body");
        left -= read;
    }
    Ok(length)
}

/// Serves in threads, until this program ends.
fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a port of loopback")?;
    let place = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who hangs up has had enough.
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    Ok(place)
}

/// Answers the requests of one connection.
fn answer(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let block = vec![b'x'; BLOCK];
    let mut path = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("GET ") {
            rest.split(' ').next().unwrap_or_default().clone_into(&mut path);
        }
        if line != "\r\n" {
            continue;
        }
        let length = match path.as_str() {
            "/small" => 2,
            "/bulk" => BULK,
            other => bail!("nobody asks for {other}"),
        };
        write!(stream.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
        let mut left = length;
        while left > 0 {
            let part = block.get(..left.min(BLOCK)).context("a block is as long")?;
            stream.get_mut().write_all(part)?;
            left -= part.len();
        }
    }
}

/// The result as markdown.
fn table(
    found: &[(&str, Vec<Vec<Duration>>)],
    (rounds, calls): (u32, u32),
    machine: &str,
) -> Result<String> {
    let mut text = String::from("| |");
    for (place, _) in found {
        let name = if *place == "none" { "no jail".to_owned() } else { format!("`{place}`") };
        write!(text, " {name} | {} |", if *place == "none" { "p10–p90" } else { "ratio to none" })?;
    }
    writeln!(text, "\n|---|{}", "---|---|".repeat(found.len()))?;
    for (row, (name, unit, is_rate)) in ROWS.iter().enumerate() {
        write!(text, "| {name}, {unit} |")?;
        let mut native = None;
        for (_, values) in found {
            let sample = values.get(row).cloned().unwrap_or_default();
            let spread = Spread::of(sample).context("no rounds, no result")?;
            let shown = |time: Duration| shown(row, time);
            write!(text, " {} |", shown(spread.median))?;
            let beside = match native {
                None => format!("{}–{}", shown(spread.low), shown(spread.high)),
                Some(native) => ratio(spread.median, native, *is_rate),
            };
            write!(text, " {beside} |")?;
            native = native.or(Some(spread.median));
        }
        text.push('\n');
    }
    writeln!(
        text,
        "\n{rounds} rounds, interleaved, each with {calls} connections, {calls} requests on one \
         connection, {} MB in one answer, and {UNTOUCHED},000 system calls of a kind. {machine}.",
        BULK / 1024 / 1024
    )?;
    Ok(text)
}

/// How much more time something takes, or, of a rate, how much of it is left.
fn ratio(own: Duration, native: Duration, is_rate: bool) -> String {
    let [own, native] = [own, native].map(|time| time.as_secs_f64());
    format!("{:.2}", if is_rate { native / own } else { own / native })
}

/// A time in the unit of its row.
fn shown(row: usize, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match row {
        0 => format!("{:.2}", seconds * 1e3),
        // Of system calls, a thousand.
        1 | 4 | 5 => format!("{:.1}", seconds * 1e6),
        2 => format!("{:.0}", 1.0 / seconds),
        _ => format!("{:.0}", f64::from(u32::try_from(BULK).unwrap_or(u32::MAX)) / 1e6 / seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_to_none_and_a_rate_is_the_other_way_round() {
        let none = vec![vec![Duration::from_millis(10)]; ROWS.len()];
        let jail = vec![vec![Duration::from_millis(20)]; ROWS.len()];
        let text = table(&[("none", none), ("nsjail", jail)], (1, 1), "here").unwrap();
        assert!(text.contains("| start-up of `true`, ms | 10.00 | 10.00–10.00 | 20.00 | 2.00 |"));
        assert!(text.contains("| requests, 1/s | 100 | 100–100 | 50 | 0.50 |"), "{text}");
    }

    #[test]
    fn the_client_gets_from_the_server_what_it_asks_for() {
        let server = serve().unwrap();
        #[expect(clippy::disallowed_methods, reason = "loopback")]
        let mut stream = BufReader::new(TcpStream::connect(server).unwrap());
        assert_eq!(fetch(&mut stream, "host", "/small").unwrap(), 2);
        assert_eq!(fetch(&mut stream, "host", "/bulk").unwrap(), BULK);
        assert_eq!(fetch(&mut stream, "host", "/small").unwrap(), 2);
    }
}
