//! boundary inside boundary: the session around it has the walls, and gives the inner command a room
//! of its own with a policy that is narrower by these rules.
//!
//! *Standing*: where [`DOOR`] says that there is a session around. What is decided is on the record
//! of that session. *Never*: runs the command without the room.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::channel::{Channel, Message};
use super::keeper::{Family, Signals};
use super::{END, Error, Outcome, status};
use crate::audit::Sinks;
use crate::config::Config;
use crate::jail::usher::{Answer, Request};
use crate::jail::{Badge, Call, Choice};
use crate::jail::{child, filter};
use crate::rules::DomainMatch;
use crate::sys::{notify, process};

/// The variable that names the door of the session around.
pub(super) const DOOR: &str = "BOUNDARY_SESSION_DOOR";

/// Runs the command in a room of the session around.
pub(super) fn run(config: &Config, door: &Path) -> Result<Outcome, Error> {
    if config.learn.is_some() {
        return Err(Error::Nested("the outermost session alone can learn".to_owned()));
    }
    if config.prompt.is_some() {
        return Err(Error::Nested("the outermost session alone can ask".to_owned()));
    }
    if !config.unix_sockets.is_empty() {
        return Err(Error::Nested("unix sockets are for the outermost session to list".to_owned()));
    }
    Sinks::open(&config.log, None, None)?.install();
    if let Some(file) = &config.audit_log {
        let file = file.display();
        if config.names_audit_log {
            let why = format!("the outermost one writes the record; {file} would stay empty");
            return Err(Error::Nested(why));
        }
        // The session around may well have it from the same place.
        tracing::warn!(%file, "the session around writes the record of this command");
    }
    let absent = |error: io::Error| {
        let has_none = error.kind() == io::ErrorKind::NotFound;
        let why = if has_none { "its jail has no rooms (nsjail)" } else { "it does not answer" };
        Error::Nested(format!("{}: {error}: {why}", door.display()))
    };
    let mut stream = UnixStream::connect(door).map_err(absent)?;
    let signals = Signals::block()?;
    let (mut line, mut far) = Channel::pair().map_err(Call::to("socketpair"))?;
    let kept = far.as_raw_fd();
    let command = process::fork(|| match process::keep_only(&[kept]) {
        Ok(()) => become_command(config, &mut far),
        Err(_) => FAILED,
    });
    let command = command.map_err(Call::to("fork"))?;
    drop(far);
    let entered =
        enter(config, command, &mut stream).and_then(|badge| let_go(config, &mut line, badge));
    if let Err(error) = entered {
        process::end(command, END);
        return Err(error);
    }
    let nobody = Pid::from_raw(0);
    let ended = signals.watch(Family { command, proxy: nobody, janitor: nobody, usher: None })?;
    // The room is cleared when the stream ends.
    drop(stream);
    Ok(Outcome { status: status(ended)?, is_recorded: true })
}

/// The status of a process that did not become the command.
const FAILED: u8 = 125;

/// Gets a room for the process that becomes the command: it is moved there, or has to take a badge.
fn enter(config: &Config, command: Pid, stream: &mut UnixStream) -> Result<Option<Badge>, Error> {
    let request = Request {
        pid: command.as_raw().unsigned_abs(),
        rules: config.policy.texts(),
        exact: config.policy.reading == DomainMatch::Exact,
    };
    config.announce_rules();
    let idle = config.outermost_alone();
    if !idle.is_empty() {
        let idle = idle.join(", ");
        tracing::warn!("for the outermost session to say, and of no effect here: {idle}");
    }
    let (jail, badge) = match request.ask(stream).map_err(Call::to("read(door)"))? {
        Answer::Moved => (Choice::Ebpf, None),
        Answer::Badged(badge) => (Choice::Landjail, Some(badge)),
        Answer::Refused(why) => return Err(Error::Nested(why)),
    };
    // Its walls are those of the session around.
    if ![Choice::Auto, jail].contains(&config.jail) {
        return Err(Error::Nested(format!("jail {} cannot be raised there", config.jail)));
    }
    Ok(badge)
}

/// Lets the command go.
fn let_go(config: &Config, line: &mut Channel, badge: Option<Badge>) -> Result<(), Error> {
    let go = badge.map_or(Message::Go, Message::GoBadged);
    line.send(&go).map_err(Call::to("write(command)"))?;
    match line.receive().map_err(Call::to("read(command)"))? {
        None => Ok(()),
        Some(Message::NotStarted(number)) => {
            let name = config.command.first().cloned().unwrap_or_default();
            Err(Error::NotStarted { name, source: Errno::from_raw(number) })
        }
        Some(Message::Failed(why)) => Err(Error::Enclosure(why)),
        Some(_) => Err(Error::Lost("command")),
    }
}

/// The child's side: waits until it is in its room, keeps off what is around it, becomes the
/// command.
fn become_command(config: &Config, line: &mut Channel) -> u8 {
    let badge = match line.receive() {
        Ok(Some(Message::Go)) => None,
        Ok(Some(Message::GoBadged(badge))) => Some(badge),
        Ok(_) | Err(_) => return FAILED,
    };
    if process::reset_signals().is_err() {
        return FAILED;
    }
    if let Err(error) = badge.as_ref().map_or(Ok(()), |badge| badge.take()) {
        drop(line.send(&Message::Failed(error.to_string())));
        return FAILED;
    }
    if let Err(why) = enclose(badge.is_some()) {
        drop(line.send(&Message::Failed(why)));
        return FAILED;
    }
    let environment: Vec<_> = std::env::vars_os().collect();
    let error = child::start(&config.command, &environment);
    drop(line.send(&Message::NotStarted(error as i32)));
    127
}

/// Keeps this process off what is around its room. The walls are the session's already.
///
/// What was opened outside the room would be judged by what is in force there; and behind sockets that a
/// usher made, what looks like a line to another process may lead to any.
fn enclose(is_of_usher: bool) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    child::refuse_ways_out().map_err(|error| said(&error))?;
    if is_of_usher {
        child::refuse_messages().map_err(|error| said(&error))?;
    }
    child::restrict().map_err(|error| format!("landlock: {error}"))?;
    notify::install_silent(&filter::of_a_room()).map_err(|error| format!("seccomp: {error}"))
}
