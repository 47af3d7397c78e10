//! The edge: parse, run, exit code (the command's own · 125 ours · 126/127 exec · 128+n signal).

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use boundary::cli::{self, Request};
use boundary::config::{self, Config, Environment};
use boundary::jail::mutation;
use boundary::session;
use boundary::sys::{arguments, process};
use boundary::tool;

/// musl's own takes one lock for all threads (`docs/decisions/0016-an-allocator-beside-musl.md`).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit status of boundary's own failures.
const OURS: u8 = 125;

/// What is said when the record did not reach its sinks in time.
const INCOMPLETE: &str = "the record is incomplete: it could not be written in time \
                          (look at the disk that it is written to)";

/// What to do where the words of the command line stay readable.
const VARIABLE: &str = "name the proxy by BOUNDARY_UPSTREAM_PROXY; no command was run";

fn main() -> ExitCode {
    // Before there is a child. A kernel that refuses this refuses whatever a session is made of.
    let _is_done = process::hear_of_children();
    match cli::parse(std::env::args_os()) {
        Ok(Request::Show(text)) => show(&text),
        Ok(Request::Run(args)) => run(*args),
        Ok(Request::Tool(asked)) => match tool::run(asked) {
            Ok(status) => ExitCode::from(status),
            Err(error) => complain(&error, &error.hint(), OURS),
        },
        Err(error) => complain(&error, error.hint(), OURS),
    }
}

/// Gives the command line its meaning and runs it.
fn run(args: cli::Args) -> ExitCode {
    // What is forked has it too, and the command sees that.
    if let Err(error) = hide_password(args.upstream_proxy.as_deref()) {
        let told = format!("cannot hide the password of --upstream-proxy: {error}");
        return complain(&io::Error::other(told), VARIABLE, OURS);
    }
    let config = match Config::resolve(args, &Environment::own(), &config::Host) {
        Ok(config) => config,
        Err(error) => return complain(&error, &error.hint(), OURS),
    };
    match session::run(&config) {
        Ok(outcome) => {
            if !outcome.is_recorded {
                drop(writeln!(io::stderr(), "boundary: {INCOMPLETE}"));
            }
            ExitCode::from(outcome.status)
        }
        Err(error) => complain(&error, &error.hint(), error.status()),
    }
}

/// Covers who one is to a proxy, and by what password, in the words that everybody may read.
fn hide_password(url: Option<&OsStr>) -> io::Result<()> {
    let url = url.unwrap_or_default().as_bytes();
    let Some(end) = url.iter().rposition(|byte| *byte == b'@') else { return Ok(()) };
    let scheme = url.windows(3).position(|it| it == b"://").map_or(0, |place| place + 3);
    arguments::cover(url, scheme.min(end)..end)
}

/// Help and version go to standard output.
fn show(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // A closed pipe: whoever asked has seen enough.
        Err(_) => ExitCode::from(OURS),
    }
}

/// One line: what, why and what to do.
fn complain(error: &(dyn std::error::Error + 'static), hint: &str, status: u8) -> ExitCode {
    if let Some(status) = mutation::carried_on() {
        return ExitCode::from(status);
    }
    let why = session::chain(error);
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "boundary: {why} ({hint})"));
    ExitCode::from(status)
}
