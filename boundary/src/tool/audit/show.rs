//! `boundary audit show`: a line a decision, for a person at a terminal.
//!
//! *Never*: lets a terminal see a control character of a record; what is in it the command chose.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::super::Error;
use super::filter::{Filter, moment};
use super::follow::Tail;
use super::{named, open, readable};
use crate::audit::file::{Event, Line, Reader, Saved, files_of};
use crate::audit::printable;
use crate::cli::Show;
use crate::rules::quoted;

/// How many decisions may wait for what became of them.
const WAITING: usize = 65_536;

/// Shows what is asked for; with `follow` until interrupted.
pub(super) fn show(asked: &Show) -> Result<(), Error> {
    let now = Zoned::now();
    let since = asked.since.as_deref().map(|text| {
        moment(text, &now).ok_or_else(|| Error::Value {
            option: "--since",
            what: format!("`{}` is no time", printable(text)),
        })
    });
    let filter = Filter {
        hosts: asked.host.clone(),
        decision: asked.decision.clone(),
        processes: asked.process.clone(),
        since: since.transpose()?,
    };
    let look =
        Look { ink: ink(asked.color.as_deref()), json: asked.json, zone: TimeZone::system() };
    let mut screen = Screen { filter, look, out: io::stdout().lock(), shown: HashMap::new() };
    let mut all = Gathered { most: asked.last, ..Gathered::default() };
    match tell(asked, &mut all, &mut screen) {
        // Whoever looked has seen enough.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Shows what is there, and what comes.
fn tell<W: Write>(asked: &Show, all: &mut Gathered, screen: &mut Screen<W>) -> Result<(), Error> {
    let mut tails = Vec::new();
    for path in named(&asked.files) {
        tails.push(gather(path, asked.follow, all, screen)?);
    }
    let told = screen.tell(all);
    told.and_then(|()| if asked.follow { screen.follow(&mut tails) } else { Ok(()) })
        .map_err(Error::Output)
}

/// Reads what is in a file now; what was rotated away from it first.
fn gather<W: Write>(
    path: &Path,
    follow: bool,
    all: &mut Gathered,
    screen: &mut Screen<W>,
) -> Result<Option<Tail>, Error> {
    let mut files = files_of(path);
    let tail = if follow { files.pop() } else { None };
    for file in files {
        for line in Reader::new(open(&file)?) {
            let line = line.map_err(readable(&file))?;
            all.take(line, screen).map_err(Error::Output)?;
        }
    }
    let Some(path) = tail else { return Ok(None) };
    let mut tail = Tail::open(path.clone()).map_err(readable(&path))?;
    while let Some(line) = tail.next().map_err(readable(&path))? {
        all.take(line, screen).map_err(Error::Output)?;
    }
    Ok(Some(tail))
}

/// Whether to colour: where it is a terminal that takes it and nobody said otherwise.
fn ink(when: Option<&str>) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match when {
        Some("always") => true,
        Some("never") => false,
        _ => io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb,
    }
}

/// A decision and what became of it, as far as that is known; or something about a session.
#[derive(Debug)]
struct Asked {
    opening: Saved,
    closing: Option<Saved>,
    /// As they stand in the file, where that is asked for.
    raw: Vec<Vec<u8>>,
}

/// What was found so far, in order.
#[derive(Debug, Default)]
struct Gathered {
    found: VecDeque<Asked>,
    /// How many were let go at the front.
    gone: usize,
    /// Where the open ones are: session and sequence to the place counted from the first.
    open: HashMap<(String, u64), usize>,
    most: Option<usize>,
}

impl Gathered {
    /// Takes a line if it is looked for. Where nobody wants the last ones alone, what has waited for its
    /// end behind so many others is shown without it.
    fn take<W: Write>(&mut self, line: Line, screen: &mut Screen<W>) -> io::Result<()> {
        let Some(saved) = line.saved.as_ref() else { return Ok(()) };
        let key = key_of(saved);
        if saved.is_closing() {
            let index = key.and_then(|key| self.open.remove(&key));
            let at = index.and_then(|index| index.checked_sub(self.gone));
            let Some(asked) = at.and_then(|at| self.found.get_mut(at)) else {
                return screen.live(line);
            };
            asked.raw.extend(screen.look.json.then_some(line.bytes));
            asked.closing = line.saved;
            return Ok(());
        }
        if !is_wanted(saved, &screen.filter) {
            return Ok(());
        }
        if let Some(key) = key {
            self.open.insert(key, self.gone + self.found.len());
        }
        let raw = screen.look.json.then_some(line.bytes).into_iter().collect();
        self.found.extend(line.saved.map(|opening| Asked { opening, closing: None, raw }));
        if self.found.len() <= self.most.unwrap_or(WAITING) {
            return Ok(());
        }
        let Some(first) = self.found.pop_front() else { return Ok(()) };
        key_of(&first.opening).and_then(|key| self.open.remove(&key));
        self.gone += 1;
        if self.most.is_none() { screen.line(&first) } else { Ok(()) }
    }
}

/// What a decision and its end have in common.
fn key_of(saved: &Saved) -> Option<(String, u64)> {
    saved.sequence.map(|number| (saved.session_id.clone(), number))
}

/// Whether a record that opens something is looked for. What is said of a session stands between
/// its decisions, and says nothing where only some of them are shown.
fn is_wanted(saved: &Saved, filter: &Filter) -> bool {
    if saved.is_opening() {
        return filter.takes(saved);
    }
    saved.event.is_some() && !filter.is_narrow() && filter.is_since(saved)
}

/// How lines look.
#[derive(Debug)]
struct Look {
    ink: bool,
    json: bool,
    zone: TimeZone,
}

/// Where lines go.
struct Screen<W> {
    filter: Filter,
    look: Look,
    out: W,
    /// Decisions that were shown without what became of them, and as what.
    shown: HashMap<(String, u64), String>,
}

impl<W: Write> Screen<W> {
    /// Shows what was found.
    fn tell(&mut self, all: &mut Gathered) -> io::Result<()> {
        for asked in all.found.drain(..) {
            self.line(&asked)?;
        }
        self.out.flush()
    }

    /// Shows what is written from now on.
    fn follow(&mut self, tails: &mut [Option<Tail>]) -> io::Result<()> {
        loop {
            let mut is_quiet = true;
            for tail in tails.iter_mut().flatten() {
                is_quiet &= !self.catch_up(tail)?;
            }
            self.out.flush()?;
            if is_quiet {
                Tail::wait();
            }
        }
    }

    /// Shows what a file has got since it was last looked at; false if that is nothing.
    fn catch_up(&mut self, tail: &mut Tail) -> io::Result<bool> {
        let mut has_grown = false;
        while let Some(line) = tail.next()? {
            has_grown = true;
            self.live(line)?;
        }
        Ok(has_grown)
    }

    /// Shows a line that was just written: a decision, and later what became of it.
    fn live(&mut self, line: Line) -> io::Result<()> {
        let Some(saved) = line.saved else { return Ok(()) };
        if saved.is_closing() {
            let key = (saved.session_id.clone(), saved.sequence.unwrap_or(0));
            let Some(what) = self.shown.remove(&key) else { return Ok(()) };
            if self.look.json {
                return self.raw(&line.bytes);
            }
            // Nothing becomes of what was refused.
            let is_denied = saved.decision.as_deref() == Some("deny");
            return if is_denied { Ok(()) } else { self.look.ended(&saved, &what, &mut self.out) };
        }
        if !is_wanted(&saved, &self.filter) {
            return Ok(());
        }
        self.line(&Asked { opening: saved, closing: None, raw: vec![line.bytes] })
    }

    /// Shows a decision with what became of it.
    fn line(&mut self, asked: &Asked) -> io::Result<()> {
        let Asked { opening, closing, raw } = asked;
        if let (None, Some(number)) = (closing, opening.sequence) {
            // What never ends, or lost its end, must not fill the memory.
            if self.shown.len() >= WAITING {
                self.shown.clear();
            }
            self.shown.insert((opening.session_id.clone(), number), what(opening));
        }
        if self.look.json {
            return raw.iter().try_for_each(|bytes| self.raw(bytes));
        }
        if opening.event.is_some() {
            return self.look.session(opening, &mut self.out);
        }
        self.look.decision(opening, closing.as_ref(), &mut self.out)
    }

    /// Repeats a line of the file.
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(b"\n")
    }
}

/// What a piece of a line is to the eye.
#[derive(Debug, Clone, Copy)]
enum Ink {
    Good,
    Bad,
    Odd,
    Who,
    Faint,
}

impl Look {
    /// `time ALLOW what · outcome · who · rule`
    fn decision(&self, asked: &Saved, end: Option<&Saved>, out: &mut impl Write) -> io::Result<()> {
        self.time(asked.event_time, out)?;
        let is_allowed = asked.decision.as_deref() == Some("allow");
        let (word, ink) = if is_allowed { ("ALLOW", Ink::Good) } else { ("DENY ", Ink::Bad) };
        self.put(ink, word, out)?;
        write!(out, " {}", what(asked))?;
        if let Some(end) = end.filter(|_| is_allowed) {
            self.put(Ink::Faint, &format!("  {}", outcome(end)), out)?;
        }
        if let Some(who) = who(asked) {
            self.put(Ink::Who, &format!("  {who}"), out)?;
        }
        if let Some(code) = &asked.code {
            self.put(Ink::Odd, &format!("  {}", printable(code)), out)?;
        }
        let rule = asked.matched_rule.as_deref().map(|rule| format!("  by {}", printable(rule)));
        let remedy = asked.remedy.as_deref();
        let remedy =
            remedy.map(|rule| format!("  would take --allow {}", quoted(&printable(rule))));
        for why in rule.iter().chain(&remedy) {
            self.put(Ink::Faint, why, out)?;
        }
        writeln!(out)
    }

    /// What became of a decision that was shown before.
    fn ended(&self, end: &Saved, what: &str, out: &mut impl Write) -> io::Result<()> {
        self.time(end.event_time, out)?;
        self.put(Ink::Faint, &format!("  end {what}  {}", outcome(end)), out)?;
        writeln!(out)
    }

    /// What happened to a session.
    fn session(&self, saved: &Saved, out: &mut impl Write) -> io::Result<()> {
        self.time(saved.event_time, out)?;
        let id = printable(&saved.session_id).into_owned();
        let word = |text: &Option<String>| printable(text.as_deref().unwrap_or("?")).into_owned();
        let (ink, text) = match saved.event {
            Some(Event::Start) => {
                let rules = saved.rules.as_ref().map_or(0, Vec::len);
                let (command, jail) = (word(&saved.command), word(&saved.jail));
                (Ink::Faint, format!("----- session {id}: {command} in {jail}, {rules} rules"))
            }
            Some(Event::Continued) => {
                (Ink::Faint, format!("----- session {id} goes on in another file"))
            }
            Some(Event::Policy) => {
                let rules = saved.rules.as_ref().map_or(0, Vec::len);
                let cause = word(&saved.cause);
                (Ink::Bad, format!("----- session {id}: another policy ({cause}), {rules} rules"))
            }
            Some(Event::End) => {
                let number = |count: Option<u64>| count.unwrap_or(0);
                let (allowed, denied) = (number(saved.allowed), number(saved.denied));
                (
                    Ink::Faint,
                    format!("----- session {id} ended: {allowed} allowed, {denied} denied"),
                )
            }
            Some(Event::Lost) => {
                let lost = saved.dropped.or(saved.refusals_lost).unwrap_or(0);
                (Ink::Bad, format!("LOST  {lost} records of session {id} are missing here"))
            }
            Some(Event::Other) | None => (Ink::Faint, format!("----- session {id}")),
        };
        self.put(ink, &text, out)?;
        writeln!(out)
    }

    /// The local time, to the millisecond.
    fn time(&self, time: Option<Timestamp>, out: &mut impl Write) -> io::Result<()> {
        let text = time.map_or_else(
            || "-".repeat(23),
            |time| time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        );
        self.put(Ink::Faint, &text, out)?;
        write!(out, " ")
    }

    /// A piece in its colour.
    fn put(&self, ink: Ink, text: &str, out: &mut impl Write) -> io::Result<()> {
        if !self.ink {
            return out.write_all(text.as_bytes());
        }
        let code = match ink {
            Ink::Good => "32",
            Ink::Bad => "1;31",
            Ink::Odd => "33",
            Ink::Who => "36",
            Ink::Faint => "2",
        };
        write!(out, "\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// What was asked for.
fn what(asked: &Saved) -> String {
    let text = |field: &Option<String>| printable(field.as_deref().unwrap_or("?")).into_owned();
    if asked.http_url.is_some() {
        return format!("{} {}", text(&asked.http_method), text(&asked.http_url));
    }
    let place = asked.host.as_ref().or(asked.address.as_ref());
    let place = printable(place.map_or("?", |place| place.as_str())).into_owned();
    match (&asked.dns_type, asked.port) {
        (Some(kind), _) => format!("dns {} {place}", printable(kind)),
        (None, Some(port)) => format!("{} {place} port {port}", text(&asked.proto)),
        (None, None) => format!("{} {place}", text(&asked.proto)),
    }
}

/// What became of it.
fn outcome(end: &Saved) -> String {
    let status = end.http_status.map_or_else(String::new, |status| format!("{status} "));
    let (up, down) = (end.bytes_up.unwrap_or(0), end.bytes_down.unwrap_or(0));
    let time = end.duration_ms.unwrap_or(0);
    format!("{status}{} up, {} down, {time} ms", super::size(up), super::size(down))
}

/// Who asked.
fn who(asked: &Saved) -> Option<String> {
    let pid = asked.pid.filter(|pid| *pid != 0)?;
    Some(format!("{}[{pid}]", printable(asked.comm.as_deref().unwrap_or("?"))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(value: &Value) -> Line {
        let bytes = value.to_string().into_bytes();
        Line { number: 1, saved: serde_json::from_slice(&bytes).ok(), bytes }
    }

    fn screen(ink: bool, filter: Filter) -> Screen<Vec<u8>> {
        let look = Look { ink, json: false, zone: TimeZone::UTC };
        Screen { filter, look, out: Vec::new(), shown: HashMap::new() }
    }

    fn shown(screen: Screen<Vec<u8>>) -> String {
        String::from_utf8(screen.out).unwrap()
    }

    fn allowed() -> [Value; 2] {
        let open = json!({
            "event_time": "2026-05-01T12:00:00.123456789Z", "session_id": "s", "sequence": 7,
            "decision": "allow", "matched_rule": "domain=a.test", "proto": "http",
            "http_method": "GET", "http_url": "https://a.test/x", "host": "a.test", "port": 443,
            "pid": 42, "comm": "curl",
        });
        let end = json!({
            "event_time": "2026-05-01T12:00:01Z", "session_id": "s", "sequence": 7,
            "decision": "allow", "http_status": 200, "bytes_up": 0, "bytes_down": 13,
            "duration_ms": 34,
        });
        [open, end]
    }

    #[test]
    fn a_decision_is_one_line_with_what_became_of_it() {
        let mut screen = screen(false, Filter::default());
        let mut all = Gathered::default();
        for value in allowed() {
            all.take(line(&value), &mut screen).unwrap();
        }
        screen.tell(&mut all).unwrap();
        assert_eq!(
            shown(screen),
            "2026-05-01 12:00:00.123 ALLOW GET https://a.test/x  200 0 B up, 13 B down, 34 ms  \
             curl[42]  by domain=a.test\n"
        );
    }

    #[test]
    fn what_is_followed_ends_in_a_line_of_its_own() {
        let mut screen = screen(false, Filter::default());
        for value in allowed() {
            screen.live(line(&value)).unwrap();
        }
        let text = shown(screen);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.ends_with("end GET https://a.test/x  200 0 B up, 13 B down, 34 ms\n"),
            "{text}"
        );
    }

    #[test]
    fn only_the_last_are_kept_and_their_ends_still_found() {
        let mut screen = screen(false, Filter::default());
        let mut all = Gathered { most: Some(1), ..Gathered::default() };
        let [mut early, end] = allowed();
        early["sequence"] = 6.into();
        for value in [&early, &allowed()[0], &end] {
            all.take(line(value), &mut screen).unwrap();
        }
        screen.tell(&mut all).unwrap();
        let text = shown(screen);
        assert!(text.lines().count() == 1 && text.contains("  200 "), "{text}");
    }

    #[test]
    fn what_waits_too_long_for_its_end_is_shown_without_and_does_not_fill_the_memory() {
        let mut screen = screen(false, Filter::default());
        let mut all = Gathered::default();
        let [open, end] = allowed();
        let count = u64::try_from(WAITING).unwrap() + 2;
        for number in 0..count {
            let mut open = open.clone();
            open["sequence"] = number.into();
            all.take(line(&open), &mut screen).unwrap();
        }
        assert_eq!((all.found.len(), all.open.len(), screen.shown.len()), (WAITING, WAITING, 2));
        for number in [1, count - 1] {
            let mut end = end.clone();
            end["sequence"] = number.into();
            all.take(line(&end), &mut screen).unwrap();
        }
        screen.tell(&mut all).unwrap();
        let text = shown(screen);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(u64::try_from(lines.len()).unwrap(), count + 1);
        assert!(lines[2].contains("  end GET https://a.test/x  200 "), "{}", lines[2]);
        assert!(lines[lines.len() - 1].contains("ALLOW GET https://a.test/x  200 "));
    }

    #[test]
    fn nothing_in_a_record_moves_the_cursor() {
        let mut screen = screen(false, Filter::default());
        let hostile = "\u{1b}[2Jx\u{202e}y\nDENY";
        let value = json!({
            "session_id": hostile, "sequence": 1, "decision": "deny", "code": hostile,
            "proto": hostile, "http_method": hostile, "http_url": hostile, "host": hostile,
            "pid": 1, "comm": hostile, "remedy": hostile, "matched_rule": hostile,
        });
        screen.live(line(&value)).unwrap();
        let event =
            json!({"session_id": hostile, "event": "start", "command": hostile, "jail": hostile});
        screen.live(line(&event)).unwrap();
        let text = shown(screen);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }

    #[test]
    fn what_is_to_be_pasted_into_a_shell_expands_nothing_there() {
        let mut screen = screen(false, Filter::default());
        let rule = "method=GET domain=x.test path=/$(id)`id`'";
        let value = json!({"session_id": "s", "sequence": 1, "decision": "deny", "remedy": rule});
        screen.live(line(&value)).unwrap();
        let text = shown(screen);
        let quoted = r"--allow 'method=GET domain=x.test path=/$(id)`id`'\'''";
        assert!(text.trim_end().ends_with(quoted), "{text}");
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        for (ink, expected) in [(true, true), (false, false)] {
            let mut screen = screen(ink, Filter::default());
            screen.live(line(&allowed()[0])).unwrap();
            assert_eq!(shown(screen).contains("\u{1b}[32mALLOW\u{1b}[0m"), expected);
        }
    }

    #[test]
    fn what_happens_to_a_session_is_shown_unless_only_some_decisions_are() {
        let event = json!({"session_id": "s", "event": "lost", "dropped": 3});
        let mut all = screen(false, Filter::default());
        all.live(line(&event)).unwrap();
        assert!(shown(all).contains("3 records of session s are missing here"));
        let narrow = Filter { decision: Some("deny".to_owned()), ..Filter::default() };
        let mut some = screen(false, narrow);
        some.live(line(&event)).unwrap();
        assert_eq!(shown(some), "");
    }
}
