//! What runs inside the jail and tries to get out: one subcommand, one thing, one JSON line.
//!
//! *Standing*: the journeys and the escape tests run it as boundary's command, and once without
//! boundary as the positive control. It speaks to the kernel through raw calls, so that no library
//! between it and the hook changes what is asked.
//! *Never*: decides whether a refusal is right. It says what the kernel answered.
#![expect(clippy::print_stdout, reason = "the line on stdout is its whole interface")]

mod dns;
mod inside;
mod name;
mod named;
mod options;
mod races;
mod reach;
mod sockets;
mod sys;

use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

/// One attack: its arguments in, what it found or the kernel's refusal out.
type Attack = fn(&Arguments) -> io::Result<Value>;

/// Every attack, by the name it is called by.
const ATTACKS: &[(&str, Attack)] = &[
    ("tcp", sockets::tcp),
    ("mptcp", sockets::mptcp),
    ("fastopen", sockets::fastopen),
    ("udp", sockets::udp),
    ("udplite", sockets::udplite),
    ("icmp", sockets::icmp),
    ("raw", sockets::raw),
    ("packet", sockets::packet),
    ("socket", sockets::plain),
    ("pair", sockets::pair),
    ("listen", sockets::listen),
    ("option", options::option),
    ("dns", dns::ask),
    ("fastopen-connect", sockets::fastopen_connect),
    ("autolisten", reach::autolisten),
    ("reply", reach::reply),
    ("bind", reach::bind),
    ("join", reach::join),
    ("pktinfo", reach::pktinfo),
    ("addrform", reach::addrform),
    ("unix", reach::unix),
    ("receive", reach::receive),
    ("open", reach::open),
    ("compat", reach::compat),
    ("race", races::race),
    ("race-unix", named::race),
    ("flood", races::flood),
    ("fds", inside::fds),
    ("status", inside::status),
    ("tiocsti", inside::tiocsti),
    ("programs", inside::programs),
    ("syscall", inside::syscall),
    ("signals", inside::signals),
    ("comet", inside::comet),
];

/// What follows the attack's name on the command line.
struct Arguments(Vec<String>);

impl Arguments {
    /// The argument at a place, or the mistake of leaving it out.
    fn text(&self, place: usize) -> io::Result<&str> {
        self.0.get(place).map(String::as_str).ok_or_else(|| usage("an argument is missing"))
    }

    /// The argument at a place, as a value.
    fn value<T: std::str::FromStr>(&self, place: usize) -> io::Result<T> {
        let text = self.text(place)?;
        text.parse().ok().ok_or_else(|| usage(&format!("cannot read {text:?}")))
    }
}

/// A mistake of the caller, told apart from the kernel's answers by having no errno.
fn usage(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Says a line at once, for a test that waits for it.
fn say(line: &str) {
    println!("{line}");
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let named = words.next().unwrap_or_default();
    let Some((name, attack)) = ATTACKS.iter().find(|(name, _)| *name == named) else {
        println!("{}", json!({ "attack": named, "usage": "no such attack" }));
        return ExitCode::from(2);
    };
    let mut line = match attack(&Arguments(words.collect())) {
        Ok(found) => json!({ "ok": true, "found": found }),
        Err(error) => match error.raw_os_error() {
            Some(number) => json!({ "ok": false, "errno": name::errno(number) }),
            None => json!({ "ok": false, "error": error.to_string() }),
        },
    };
    if let Some(fields) = line.as_object_mut() {
        fields.insert("attack".to_owned(), json!(name));
    }
    println!("{line}");
    ExitCode::SUCCESS
}
