//! `boundary ctl`: told to the sessions that run.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::{Error, Page, answer};
use crate::audit::{printable, printable_json};
use crate::cli::{Ctl, CtlVerb};
use crate::control::{self, Answer, Ask, Denied, Peer, Session};
use crate::rules::quoted;

/// The exit status of something that was not done.
const NOT_DONE: u8 = 1;
/// How long a command may take to end before it is killed, in milliseconds.
const PATIENCE: u16 = 10_000;
/// How often its keeper is told to kill it before that is killed too, and the pause between. It takes
/// a moment; the rest is for the record.
const KILLS: u8 = 40;
const PAUSE: u16 = 1_000;

/// Does what was asked.
pub(super) fn ctl(asked: &Ctl) -> Result<u8, Error> {
    let found = found(asked.session.as_deref());
    match &asked.verb {
        CtlVerb::Ps { .. } if found.is_empty() && asked.session.is_some() => Err(Error::Session(0)),
        CtlVerb::Ps { json } => ps(&found, *json),
        CtlVerb::Denied { json } => denied(&one(found)?.0, *json),
        CtlVerb::Reload { replaced } => tell(&one(found)?.0, &Ask::Reload { replaced: *replaced }),
        CtlVerb::Allow { sequence, rule, save } => {
            let ask = Ask::Allow { sequence: *sequence, rule: rule.clone(), save: *save };
            tell(&one(found)?.0, &ask)
        }
        CtlVerb::Stop => stop(&one(found)?),
    }
}

/// The sessions that answer us, by how their number begins.
fn found(begin: Option<&str>) -> Vec<(PathBuf, Session)> {
    let begin = begin.unwrap_or_default();
    let sessions = control::sessions().into_iter().filter_map(|socket| {
        match control::ask_peer(&socket, &Ask::Ps) {
            Ok((Answer::Session(told), peer)) => Some((socket, session(&told, &peer))),
            // Gone, or somebody else's.
            Ok(_) | Err(_) => None,
        }
    });
    let mut sessions: Vec<_> =
        sessions.filter(|(_, session)| session.id.starts_with(begin)).collect();
    sessions.sort_by(|(_, one), (_, other)| one.id.cmp(&other.id));
    sessions
}

/// A session as it may be shown: with its keeper's number as the kernel tells it.
fn session(told: &Session, keeper: &Peer) -> Session {
    let shown = |text: &str| printable(text).into_owned();
    let (id, jail, command) = (shown(&told.id), shown(&told.jail), shown(&told.command));
    Session { id, jail, command, pid: keeper.pid().as_raw(), ..told.clone() }
}

/// The one that is meant.
fn one(mut found: Vec<(PathBuf, Session)>) -> Result<(PathBuf, Session), Error> {
    match found.len() {
        1 => found.pop().ok_or(Error::Session(0)),
        count => Err(Error::Session(count)),
    }
}

/// Lists sessions.
fn ps(found: &[(PathBuf, Session)], as_json: bool) -> Result<u8, Error> {
    if as_json {
        let sessions: Vec<&Session> = found.iter().map(|(_, session)| session).collect();
        answer(&printable_json(&sessions))?;
        return Ok(0);
    }
    let mut page = Page::default();
    page.line(format_args!(
        "{:<36}  {:>7}  {:<8}  {:>5}  COMMAND",
        "SESSION", "PID", "JAIL", "RULES"
    ));
    for (_, Session { id, pid, jail, command, rules, learning, .. }) in found {
        let note = if *learning { "  (learning)" } else { "" };
        page.line(format_args!("{id:<36}  {pid:>7}  {jail:<8}  {rules:>5}  {command}{note}"));
    }
    answer(page.0.as_bytes())?;
    Ok(0)
}

/// Lists what a session denied last.
fn denied(socket: &Path, as_json: bool) -> Result<u8, Error> {
    let said = control::ask(socket, &Ask::Denied);
    let said = said.map_err(|error| Error::Read { path: socket.to_owned(), error })?;
    let all = match said {
        Answer::Denied(all) => all,
        Answer::Session(_) | Answer::Done(_) | Answer::Failed(_) => Vec::new(),
    };
    if as_json {
        answer(&printable_json(&all))?;
        return Ok(0);
    }
    let mut page = Page::default();
    for Denied { sequence, asked, code, rule } in all {
        page.line(format_args!("{sequence:>5}  {}  {}", printable(&code), printable(&asked)));
        match rule {
            Some(rule) => page.line(format_args!("       {}", quoted(&printable(&rule)))),
            None => page.line("       no rule permits this"),
        }
    }
    answer(page.0.as_bytes())?;
    Ok(0)
}

/// Tells a session something, and what it says to that.
fn tell(socket: &Path, ask: &Ask) -> Result<u8, Error> {
    let said = control::ask(socket, ask);
    let said = said.map_err(|error| Error::Read { path: socket.to_owned(), error })?;
    let (text, status) = match said {
        Answer::Done(text) => (text, 0),
        Answer::Failed(text) => (text, NOT_DONE),
        Answer::Session(_) | Answer::Denied(_) => {
            ("it answered something else".to_owned(), NOT_DONE)
        }
    };
    answer(format!("{}\n", printable(&text)).as_bytes())?;
    Ok(status)
}

/// Ends a session as a user would: its keeper passes the signal on. Where the command does not heed it,
/// the keeper kills it, and writes the record to its end.
fn stop((socket, meant): &(PathBuf, Session)) -> Result<u8, Error> {
    let asked = control::ask_peer(socket, &Ask::Ps);
    let asked = asked.map_err(|error| Error::Read { path: socket.clone(), error })?;
    let (Answer::Session(told), keeper) = asked else { return Err(Error::Session(0)) };
    let found = session(&told, &keeper);
    if (&found.id, found.pid) != (&meant.id, meant.pid) {
        return Err(Error::Session(0));
    }
    keeper.signal(Signal::SIGTERM).map_err(crate::jail::Call::to("pidfd_send_signal"))?;
    if keeper.has_ended(PATIENCE).map_err(crate::jail::Call::to("poll"))? {
        answer(b"stopped\n")?;
        return Ok(0);
    }
    if !is_killed_by(&keeper)? {
        keeper.signal(Signal::SIGKILL).map_err(crate::jail::Call::to("pidfd_send_signal"))?;
    }
    answer(b"killed\n")?;
    Ok(0)
}

/// Has a keeper kill its command, and waits for its own end. False if it does not come to that.
fn is_killed_by(keeper: &Peer) -> Result<bool, Error> {
    for _ in 0..KILLS {
        let told = keeper.signal(Signal::SIGCONT).and_then(|()| keeper.end_command());
        match told {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(true),
            Err(error) => return Err(crate::jail::Call::to("pidfd_send_signal")(error).into()),
        }
        // Of a signal that waits already, where it was stopped, there is no second.
        if keeper.has_ended(PAUSE).map_err(crate::jail::Call::to("poll"))? {
            return Ok(true);
        }
    }
    Ok(false)
}
