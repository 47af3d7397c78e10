//! Whether a file says what was written to it, and where not.
//!
//! A chain shows what was changed, taken out or cut off. Whoever can write the file can also compute
//! a whole session anew; against that helps only its last hash, kept where they cannot write.

use std::collections::BTreeMap;
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
}

impl Verdict {
    /// The session whose chain it breaks.
    pub fn session(&self) -> Option<&str> {
        match self {
            Self::Unchained => None,
            Self::Broken { session, .. }
            | Self::Headless { session }
            | Self::Trailing { session } => Some(session),
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
    /// How it ends.
    pub ending: Ending,
    /// Whether it goes on here from a file that is gone.
    pub is_continued: bool,
    /// Where its last line stands, file and line.
    pub last: (usize, u64),
    /// The hash of its last line.
    pub head: String,
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
        let file = self.files;
        self.files += 1;
        let mut lines = Reader::new(source);
        let mut number = 0;
        for line in &mut lines {
            let line = line?;
            number = line.number;
            self.take(file, line);
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
    fn take(&mut self, file: usize, line: Line) {
        // What ends a line that a full disk tore.
        if line.bytes.is_empty() {
            return;
        }
        let place = (file, line.number);
        let Some(mut saved) = line.saved else { return self.torn.push(place) };
        let Some(prev) = saved.prev.take().filter(|_| !saved.session_id.is_empty()) else {
            return self.find(place, Verdict::Unchained);
        };
        let head = chain::hash(&line.bytes);
        let wrong = self.follow(place, &saved, &prev, head);
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
        let lost = match saved.event {
            Some(Event::Lost) => saved.dropped.unwrap_or(0),
            Some(Event::Start | Event::Continued | Event::Policy | Event::End | Event::Other)
            | None => 0,
        };
        let Some(known) = self.by_id.get_mut(&session) else {
            // A session that has outlived its first files says so at the beginning of each.
            let is_continued = saved.event == Some(Event::Continued);
            let new = Session { lines: 1, dropped: lost, ending, is_continued, last: place, head };
            self.by_id.insert(session.clone(), new);
            let is_headless = prev != chain::START && !is_continued;
            return is_headless.then_some(Verdict::Headless { session });
        };
        let wrong = if known.head != prev {
            Some(Verdict::Broken { session, after: known.last })
        } else if known.ending == Ending::Ended {
            Some(Verdict::Trailing { session })
        } else {
            None
        };
        known.lines += 1;
        known.dropped += lost;
        (known.ending, known.last, known.head) = (ending, place, head);
        wrong
    }

    /// Notes what is wrong.
    fn find(&mut self, (file, line): (usize, u64), what: Verdict) {
        self.findings.push(Finding { file, line, what });
    }
}

/// How many rotated files are looked for.
const MOST_FILES: u32 = 10_000;

/// A file and those that it was rotated to, the oldest first: `FILE.2`, `FILE.1`, `FILE`.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok_and(|it| it.is_file());
    let numbers = (1..=MOST_FILES).map(|number| rotated(path, number));
    let mut files: Vec<PathBuf> = numbers.take_while(is_there).collect();
    files.reverse();
    files.push(path.to_owned());
    files
}
