//! Whether a file says what was written to it, and where not.
//!
//! A chain shows what was changed, taken out or cut off. Whoever can write the file can also compute
//! a whole session anew; against that helps only its last hash, kept where they cannot write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use super::chain;
use super::place::rotated;
use super::reader::{Line, Reader};
use super::saved::{Event, Saved};

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which file, counted from 0 in the order they were read.
    pub file: usize,
    /// In which line, from 1.
    pub line: u64,
    /// What.
    pub what: Verdict,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is a record without a place in any chain.
    Unchained,
    /// It is not what followed the line before it of its session.
    Broken {
        /// The session.
        session: String,
        /// Where that line before it stands, file and line.
        after: (usize, u64),
    },
    /// It is not the first of its session, and that is not there.
    Headless {
        /// The session.
        session: String,
    },
    /// It follows the session's last.
    Trailing {
        /// The session.
        session: String,
    },
    /// It is the session's last, and counts other decisions than there are.
    Miscounted {
        /// The session.
        session: String,
        /// What it counts.
        told: Decided,
        /// What is there.
        there: Decided,
    },
}

/// How many decisions there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decided {
    /// Granted, questions left out.
    pub allowed: u64,
    /// Refused.
    pub denied: u64,
}

impl Decided {
    /// Adds one, if it is the record of one.
    fn add(&mut self, saved: &Saved) {
        match saved.decision.as_deref().filter(|_| saved.is_opening()) {
            Some("allow") if saved.proto.as_deref() != Some("dns") => self.allowed += 1,
            Some("deny") => self.denied += 1,
            Some(_) | None => {}
        }
    }

    /// What a session's last record counts, where it says so and nothing is missing by its account.
    fn told(saved: &Saved) -> Option<Self> {
        let is_end = saved.event == Some(Event::End) && saved.dropped == Some(0);
        let (allowed, denied) = saved.allowed.zip(saved.denied).filter(|_| is_end)?;
        Some(Self { allowed, denied })
    }
}

impl Verdict {
    /// The session whose chain it breaks.
    pub fn session(&self) -> Option<&str> {
        match self {
            Self::Unchained => None,
            Self::Broken { session, .. }
            | Self::Headless { session }
            | Self::Trailing { session }
            | Self::Miscounted { session, .. } => Some(session),
        }
    }
}

/// How a session ends in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With its last record.
    Ended,
    /// Without: it still runs, was killed, or its last lines were cut off.
    Open,
}

/// What is known of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// How many lines it has.
    pub lines: u64,
    /// How many records it says that it lost.
    pub dropped: u64,
    /// How many decisions it has.
    pub decided: Decided,
    /// How it ends.
    pub ending: Ending,
    /// Whether it goes on here from a file that is gone.
    pub is_continued: bool,
    /// Where its last line stands, file and line.
    pub last: (usize, u64),
    /// The hash of its last line.
    pub head: String,
}

impl Session {
    /// What is wrong with the counts of its last record. Nothing can be said of that where its beginning
    /// is gone, or records were lost.
    fn miscounted(&self, saved: &Saved) -> Option<Verdict> {
        let told = Decided::told(saved).filter(|_| !self.is_continued && self.dropped == 0)?;
        let (session, there) = (saved.session_id.clone(), self.decided);
        (told != there).then_some(Verdict::Miscounted { session, told, there })
    }
}

/// The sessions of one file, or of a file and those that it was rotated to.
#[derive(Debug, Default)]
pub struct Sessions {
    /// By their ids.
    pub by_id: BTreeMap<String, Session>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Lines that are no records, by file and line. A full disk tears lines; whether one was more
    /// than that, the chain around it tells.
    pub torn: Vec<(usize, u64)>,
    files: usize,
}

impl Sessions {
    /// Goes on with the next file, the oldest first.
    pub fn read(&mut self, source: impl BufRead) -> io::Result<()> {
        self.read_each(source, drop)
    }

    /// The same, and hands on what each line says: a pipe can be read but once.
    pub fn read_each(
        &mut self,
        source: impl BufRead,
        mut each: impl FnMut(Saved),
    ) -> io::Result<()> {
        let file = self.files;
        self.files += 1;
        let mut lines = Reader::new(source);
        let mut number = 0;
        for line in &mut lines {
            let line = line?;
            number = line.number;
            self.take(file, &line);
            line.saved.into_iter().for_each(&mut each);
        }
        if !lines.begun().is_empty() {
            self.torn.push((file, number + 1));
        }
        Ok(())
    }

    /// Whether nothing was changed or taken out.
    pub fn is_intact(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether every line that is no record has a session that says that it lost some: a full disk tears
    /// lines, and is confessed. The last ones may be being written, where that is to be thought of.
    pub fn is_whole(&self, running: bool) -> bool {
        let is_confessed = self.by_id.values().any(|session| session.dropped > 0);
        let is_new = |place: &(usize, u64)| {
            running && self.by_id.values().all(|session| session.last < *place)
        };
        is_confessed || self.torn.iter().all(is_new)
    }

    /// Whether every session has its last record.
    pub fn is_ended(&self) -> bool {
        self.by_id.values().all(|session| session.ending == Ending::Ended)
    }

    /// Looks at one line.
    fn take(&mut self, file: usize, line: &Line) {
        // What ends a line that a full disk tore.
        if line.bytes.is_empty() {
            return;
        }
        let place = (file, line.number);
        let Some(saved) = &line.saved else { return self.torn.push(place) };
        let Some(prev) = saved.prev.as_deref().filter(|_| !saved.session_id.is_empty()) else {
            return self.find(place, Verdict::Unchained);
        };
        let head = chain::hash(&line.bytes);
        let wrong = self.follow(place, saved, prev, head);
        if let Some(what) = wrong {
            self.find(place, what);
        }
    }

    /// Attaches a line to its session; what is wrong with it there.
    fn follow(
        &mut self,
        place: (usize, u64),
        saved: &Saved,
        prev: &str,
        head: String,
    ) -> Option<Verdict> {
        let session = saved.session_id.clone();
        let ending = match saved.event {
            Some(Event::End) => Ending::Ended,
            Some(Event::Start | Event::Continued | Event::Policy | Event::Lost | Event::Other)
            | None => Ending::Open,
        };
        let dropped = match saved.event {
            Some(Event::Lost) => saved.dropped.unwrap_or(0),
            Some(Event::Start | Event::Continued | Event::Policy | Event::End | Event::Other)
            | None => 0,
        };
        let Some(known) = self.by_id.get_mut(&session) else {
            // A session that has outlived its first files says so at the beginning of each.
            let is_continued = saved.event == Some(Event::Continued);
            let mut decided = Decided::default();
            decided.add(saved);
            let (lines, last) = (1, place);
            let new = Session { lines, dropped, decided, ending, is_continued, last, head };
            self.by_id.insert(session.clone(), new);
            let is_headless = prev != chain::START && !is_continued;
            return is_headless.then_some(Verdict::Headless { session });
        };
        let wrong = if known.head != prev {
            Some(Verdict::Broken { session, after: known.last })
        } else if known.ending == Ending::Ended {
            Some(Verdict::Trailing { session })
        } else {
            let is_found = |it: &Finding| it.what.session() == Some(&session);
            let is_found = self.findings.iter().any(is_found);
            known.miscounted(saved).filter(|_| !is_found)
        };
        known.lines += 1;
        known.dropped += dropped;
        known.decided.add(saved);
        (known.ending, known.last, known.head) = (ending, place, head);
        wrong
    }

    /// Notes what is wrong.
    fn find(&mut self, (file, line): (usize, u64), what: Verdict) {
        self.findings.push(Finding { file, line, what });
    }
}

/// The highest number that a rotated file has: what is higher is a date.
const MOST_FILES: u32 = 10_000;

/// A file and those that it was rotated to, the oldest first: `FILE.2`, `FILE.1`, `FILE`.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let numbers = numbers_of(path).into_iter().rev();
    let files = numbers.map(|number| rotated(path, number)).filter(|file| is_file(file));
    files.chain([path.to_owned()]).collect()
}

/// The names of rotated files that are no file while an older one is there, the oldest first. A
/// rotation takes away the oldest alone.
pub fn missing_of(path: &Path) -> Vec<PathBuf> {
    let oldest = numbers_of(path).last().copied().unwrap_or(0);
    let names = (1..=oldest).rev().map(|number| rotated(path, number));
    names.filter(|file| !is_file(file)).collect()
}

/// The numbers behind a file's name in its folder, whatever bears them.
fn numbers_of(path: &Path) -> BTreeSet<u32> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(entries) = fs::read_dir(folder.unwrap_or(Path::new("."))) else {
        // One whose files may be opened, but not listed.
        let numbers = 1..=MOST_FILES;
        return numbers.take_while(|number| is_file(&rotated(path, *number))).collect();
    };
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let number = |entry: fs::DirEntry| {
        let entry = entry.file_name();
        let rest = entry.as_encoded_bytes().strip_prefix(name)?.strip_prefix(b".")?;
        let number: u32 = str::from_utf8(rest).ok()?.parse().ok()?;
        let is_plain = number.to_string().as_bytes() == rest;
        (is_plain && (1..=MOST_FILES).contains(&number)).then_some(number)
    };
    entries.flatten().filter_map(number).collect()
}

/// Whether something is a file, and no link to one.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_file())
}
