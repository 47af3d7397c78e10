//! `boundary audit verify`: whether files are as they were written, and where not.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::super::{Error, answer};
use super::named;
use crate::audit::file::{Ending, Finding, Session, Sessions, Verdict, files_of, missing_of};
use crate::cli::Verify;

/// Verifies each of the files, those that it was rotated to with it.
pub(super) fn verify(asked: &Verify) -> Result<u8, Error> {
    let mut told = String::new();
    let mut is_fine = true;
    for path in named(&asked.files) {
        let files = files_of(path);
        let sessions = read(&files)?;
        let missing = missing_of(path);
        is_fine &= missing.is_empty();
        for path in &missing {
            let what = "no such file, though older ones are there: it was taken out";
            line_of(&mut told, &format!("{}: {what}", shown(path)));
        }
        is_fine &= sessions.is_intact() && sessions.is_whole(asked.running);
        is_fine &= !sessions.by_id.is_empty() && (asked.running || sessions.is_ended());
        tell(&files, &sessions, asked.running, &mut told);
    }
    answer(told.as_bytes())?;
    Ok(u8::from(!is_fine))
}

/// Reads files as one, the oldest first.
fn read(files: &[PathBuf]) -> Result<Sessions, Error> {
    let mut sessions = Sessions::default();
    for path in files {
        let failed = |error| Error::Read { path: path.clone(), error };
        let file = File::open(path).map_err(failed)?;
        sessions.read(BufReader::new(file)).map_err(failed)?;
    }
    Ok(sessions)
}

/// Says what was found, a line each.
fn tell(files: &[PathBuf], sessions: &Sessions, running: bool, told: &mut String) {
    let name = |file: usize| shown(files.get(file).map_or(Path::new(""), PathBuf::as_path));
    for Finding { file, line, what } in &sessions.findings {
        line_of(told, &format!("{}:{line}: {}", name(*file), wrong(what, &name)));
    }
    for (file, line) in &sessions.torn {
        let torn = "not a whole line; a full disk does that, and the chain around it says more";
        line_of(told, &format!("{}:{line}: {torn}", name(*file)));
    }
    for (id, session) in &sessions.by_id {
        let (file, line) = session.last;
        if session.ending == Ending::Open && !running {
            line_of(
                told,
                &format!(
                    "{}:{line}: session {} has no last record after this line: it still runs, was \
                     killed, or was cut off here",
                    name(file),
                    id.escape_debug()
                ),
            );
        }
    }
    for (id, session) in &sessions.by_id {
        line_of(told, &summary(id, session, sessions));
    }
    if sessions.by_id.is_empty() {
        line_of(told, &format!("{}: no record", name(files.len().saturating_sub(1))));
    }
}

/// One session in one line.
fn summary(id: &str, session: &Session, sessions: &Sessions) -> String {
    let Session { lines, dropped, ending, is_continued, head, .. } = session;
    let is_wrong = sessions.findings.iter().any(|finding| finding.what.session() == Some(id));
    let state = match (is_wrong, ending) {
        (true, _) => "changed",
        (false, Ending::Ended) => "intact",
        (false, Ending::Open) => "intact so far, not ended",
    };
    let lost = if *dropped == 0 { String::new() } else { format!(", {dropped} lost when written") };
    let gone = if *is_continued { ", its beginning in a file that is gone" } else { "" };
    format!("session {}: {state}, {lines} lines{lost}{gone}, hash {head}", id.escape_debug())
}

/// What is wrong, in words.
fn wrong(what: &Verdict, name: &impl Fn(usize) -> String) -> String {
    let id = what.session().unwrap_or_default().escape_debug();
    match what {
        Verdict::Unchained => "a line without a place in any session".to_owned(),
        Verdict::Broken { after: (file, line), .. } => format!(
            "session {id}: not what followed {}:{line}; that line was changed, or lines between \
             were taken out or added",
            name(*file)
        ),
        Verdict::Headless { .. } => {
            format!("session {id}: does not begin here; lines before this one were cut off")
        }
        Verdict::Trailing { .. } => format!("session {id}: had ended before this line"),
        Verdict::Miscounted { told, there, .. } => format!(
            "session {id}: its last record counts {} allowed and {} denied, and {} and {} are there",
            told.allowed, told.denied, there.allowed, there.denied
        ),
    }
}

/// A path as a terminal may show it.
fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// Adds a line.
fn line_of(told: &mut String, line: &str) {
    told.push_str(line);
    told.push('\n');
}
