//! Where the record goes: stderr or a log file, and the JSON Lines file.
//!
//! *Standing*: the session opens them while it still has its rights; what is written later needs none.
//! *Never*: follows a link in place of its file, lets anybody else read it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use tracing::Level;

use super::file::{Place, Turn, files_of};
use super::line::Line;
use super::queue::{Batch, Lane, Written};
use super::record::{Record, Scratch};
use super::terminal::Terminal;
use super::{Collector, Format, Forward, Log, Rotation, plumbing};

/// How many lines may wait for a slow terminal or disk.
const BOUND: usize = 8192;

/// How long lines gather before they are written: a person does not see it, and waking the writer for
/// each would cost the request more than the line does.
const GATHER: Duration = Duration::from_millis(20);

/// How much room for lines is kept from one batch to the next.
const KEPT: usize = 64 * 1024;

/// A sink that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder for the logs.
    #[error("cannot create the log folder {}: {source}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file.
    #[error("cannot open {} for appending: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The open sinks of a session.
#[derive(Debug)]
pub struct Sinks {
    /// Decisions and plumbing, for people.
    pub(super) log: Arc<Output>,
    /// Decisions, for programs.
    pub(super) records: Option<Target>,
    /// Requests, for the workspace agent. Nothing is open yet.
    pub(super) agent: Option<Forward>,
    /// Everything, for a collector. Nothing is open yet.
    pub(super) collector: Option<Collector>,
    /// The files among them.
    files: Vec<PathBuf>,
}

impl Sinks {
    /// Opens what was asked for. Nothing is written yet.
    ///
    /// A file that is large enough is set aside first.
    pub fn open(
        log: &Log,
        audit_log: Option<&Path>,
        rotation: Option<Rotation>,
    ) -> Result<Self, Error> {
        let zone = TimeZone::system();
        let mut files = Vec::new();
        let target = match &log.dir {
            None => Target::Stderr(Terminal::new(log.is_asked)),
            Some(dir) => {
                create_folder(dir)?;
                let path = dir.join(file_name(Timestamp::now(), &zone, process::id()));
                let target = Target::append(&path)?;
                files.push(path);
                target
            }
        };
        let records = audit_log.map(|path| Target::named(path, rotation)).transpose()?;
        // What was set aside before is the record of others, and as little the command's to change; nor
        // is what this one is going to be set aside to.
        files.extend(audit_log.into_iter().flat_map(files_of));
        let log = Output::new(target, log.level, log.format, zone);
        Ok(Self { log: Arc::new(log), records, agent: None, collector: None, files })
    }

    /// Sends the record to a workspace agent too.
    #[must_use]
    pub fn forwarding(mut self, agent: Option<Forward>) -> Self {
        // An agent's socket that is there is as much the record's as a file.
        let there = agent.iter().map(|agent| &agent.socket).filter(|socket| socket.exists());
        self.files.extend(there.cloned());
        self.agent = agent;
        self
    }

    /// Sends the record to a collector too.
    #[must_use]
    pub fn exporting(self, collector: Option<Collector>) -> Self {
        Self { collector, ..self }
    }

    /// The files that are written, for whoever has to keep the command's hands off them.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The descriptors that a process which forks must keep open for them.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let targets = [Some(&*self.log.target), self.records.as_ref()];
        targets.into_iter().flatten().flat_map(Target::descriptors).collect()
    }

    /// Sends this process's plumbing log to the same place. Only the first call counts.
    pub fn install(&self) {
        plumbing::install(&self.log);
    }

    /// Sinks that a test can read.
    #[cfg(test)]
    pub(crate) fn memory(level: Level, format: Format) -> (Self, Memory, Memory) {
        let (log, records) = (Memory::default(), Memory::default());
        let output = Output::new(Target::Memory(log.clone()), level, format, TimeZone::UTC);
        let sinks = Self {
            log: Arc::new(output),
            records: Some(Target::Memory(records.clone())),
            agent: None,
            collector: None,
            files: Vec::new(),
        };
        (sinks, log, records)
    }
}

/// Makes a folder and what leads to it; one that is there is fine.
fn create_folder(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| Error::Folder { path: path.to_owned(), source })
}

/// The Go tool's name for a log file: local time and process.
fn file_name(now: Timestamp, zone: &TimeZone, pid: u32) -> String {
    let time = now.to_zoned(zone.clone());
    format!("boundary-{}-{pid}.log", time.strftime("%Y-%m-%d_%H-%M-%S"))
}

/// Lines for people, in one format, down to one level.
///
/// Before the recorder starts, a line is written where it is said. After that, lines go through a
/// queue: nobody who serves the command may wait for a terminal.
#[derive(Debug)]
pub(super) struct Output {
    target: Arc<Target>,
    level: Level,
    format: Format,
    zone: TimeZone,
    lane: OnceLock<Lane<Said>>,
}

impl Output {
    /// An output without a queue yet.
    fn new(target: Target, level: Level, format: Format, zone: TimeZone) -> Self {
        Self { target: Arc::new(target), level, format, zone, lane: OnceLock::new() }
    }

    /// Whether a line of that level is written at all.
    pub(super) fn takes(&self, level: Level) -> bool {
        level <= self.level
    }

    /// The least important level that is written.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Writes a line, or puts it into the queue if there is one.
    pub(super) fn say(&self, said: Said) {
        if !self.takes(said.level()) {
            return;
        }
        if let Some(lane) = self.lane.get() {
            lane.push(said);
        } else {
            let mut bytes = Vec::new();
            said.render((self.format, &self.zone), &mut Scratch::default(), &mut bytes);
            // There is nowhere left to complain about a log that cannot be written.
            drop(self.target.write(&bytes));
        }
    }

    /// Puts a queue in front. Only the first call counts.
    pub(super) fn queue(&self) -> io::Result<()> {
        let (target, format, zone) = (Arc::clone(&self.target), self.format, self.zone.clone());
        let (mut bytes, mut scratch) = (Vec::new(), Scratch::default());
        let lane = Lane::start("log", (BOUND, GATHER), move |batch: &mut Batch<Said>| {
            bytes.clear();
            for said in &batch.items {
                said.render((format, &zone), &mut scratch, &mut bytes);
            }
            if batch.lost > 0 {
                lost(batch.lost).render(format, &zone, &mut bytes);
            }
            let is_told = target.write(&bytes).is_ok();
            bytes.shrink_to(KEPT);
            Written { items: if is_told { batch.items.len() as u64 } else { 0 }, is_told }
        })?;
        // A second recorder on the same output shares the first one's queue; its own ends at once.
        drop(self.lane.set(lane));
        Ok(())
    }

    /// Waits until everything said so far is written; says whether it came to that.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        self.lane.get().is_none_or(|lane| lane.flush(patience)) && self.target.sync().is_ok()
    }

    /// How many lines were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lane.get().map_or(0, Lane::lost_in_all)
    }
}

/// What there is to say: a line, or a record whose line is put together where it is written.
#[derive(Debug)]
pub(super) enum Said {
    /// A line.
    Line(Line),
    /// A decision.
    Record(Arc<Record>),
}

impl Said {
    /// How important it is.
    fn level(&self) -> Level {
        match self {
            Self::Line(line) => line.level,
            Self::Record(record) => record.level(),
        }
    }

    /// Appends it as a line.
    fn render(
        &self,
        (format, zone): (Format, &TimeZone),
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Line(line) => line.render(format, zone, out),
            Self::Record(record) => record.render((format, zone), scratch, out),
        }
    }
}

/// The confession, in the Go tool's words.
fn lost(count: u64) -> Line {
    Line {
        time: Timestamp::now(),
        level: Level::WARN,
        message: "audit log dropped, channel full".to_owned(),
        fields: vec![("dropped", count.to_string())],
    }
}

/// An open place to write to.
#[derive(Debug)]
pub(super) enum Target {
    /// Standard error.
    Stderr(Terminal),
    /// A file, opened for appending.
    File(File),
    /// Whatever file has a name.
    Named(Place),
    /// A test's memory.
    #[cfg(test)]
    Memory(Memory),
}

impl Target {
    /// The descriptors of what was opened.
    fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::Stderr(_) => Vec::new(),
            Self::File(file) => vec![file.as_raw_fd()],
            Self::Named(place) => place.descriptors(),
            #[cfg(test)]
            Self::Memory(_) => Vec::new(),
        }
    }

    /// Opens the file of a name, and those that it is set aside to.
    fn named(path: &Path, rotation: Option<Rotation>) -> Result<Self, Error> {
        let place = Place::open(path, rotation);
        place.map(Self::Named).map_err(|source| Error::File { path: path.to_owned(), source })
    }

    /// Sees whether to go on in another file.
    pub(super) fn turn(&self) -> io::Result<Turn> {
        match self {
            Self::Named(place) => place.turn(),
            Self::Stderr(_) | Self::File(_) => Ok(Turn::Stay),
            #[cfg(test)]
            Self::Memory(memory) => Ok(memory.turn()),
        }
    }

    /// Opens a file for appending, made for its owner alone; never follows a link.
    fn append(path: &Path) -> Result<Self, Error> {
        open(path).map(Self::File).map_err(|source| Error::File { path: path.to_owned(), source })
    }

    /// Writes whole lines in one go where the system takes them so.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr(terminal) => terminal.write(bytes),
            Self::File(file) => append_whole(file, bytes),
            Self::Named(place) => append_whole(&place.file(), bytes),
            #[cfg(test)]
            Self::Memory(memory) => memory.append(bytes).1,
        }
    }

    /// Writes what it can; how many bytes that were, and why not all.
    pub(super) fn append_some(&self, bytes: &[u8]) -> (usize, io::Result<()>) {
        match self {
            Self::Stderr(_) => match self.write(bytes) {
                Ok(()) => (bytes.len(), Ok(())),
                Err(error) => (0, Err(error)),
            },
            Self::File(file) => append_some(file, bytes),
            Self::Named(place) => {
                let (length, outcome) = append_some(&place.file(), bytes);
                place.wrote(length);
                (length, outcome)
            }
            #[cfg(test)]
            Self::Memory(memory) => memory.append(bytes),
        }
    }

    /// Whether it ends in a line without an end, which a full disk has left.
    pub(super) fn is_torn(&self) -> bool {
        let Self::Named(place) = self else { return false };
        let file = place.file();
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let mut last = [b'\n'];
        let Some(end) = length.checked_sub(1) else { return false };
        file.read_exact_at(&mut last, end).is_ok() && last != [b'\n']
    }

    /// Puts what was written on the disk, and what was held back on the terminal.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Stderr(terminal) => terminal.release(),
            Self::File(file) => sync(file),
            Self::Named(place) => place.files().iter().try_for_each(|file| sync(file)),
            #[cfg(test)]
            Self::Memory(_) => Ok(()),
        }
    }
}

/// Puts a file on the disk.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        // A device or a pipe has nothing to sync, and says so.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Opens a file for appending. A pipe is refused: opening it would wait for a reader, and writing
/// to it for as long as that reader likes.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Appends until the system takes no more.
fn append_some(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut length = 0;
    while let Some(rest) = bytes.get(length..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (length, Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => length += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Err(error)),
        }
    }
    (length, Ok(()))
}

/// Appends all of it, or ends the torn line, so that what follows a full disk can be read again.
fn append_whole(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let written = file.write_all(bytes);
    if written.is_err() {
        drop(file.write_all(b"\n"));
    }
    written
}

/// What a test reads back; can be told to fail or to wait.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// What was written.
    pub(crate) bytes: Arc<std::sync::Mutex<Vec<u8>>>,
    /// Held by a test to keep the writer waiting.
    pub(crate) gate: Arc<std::sync::Mutex<()>>,
    /// Whether writing fails.
    pub(crate) broken: Arc<std::sync::atomic::AtomicBool>,
    /// How many bytes are still taken of a write that fails.
    pub(crate) room: Arc<std::sync::atomic::AtomicUsize>,
    /// Whether it is to be taken for another file, an empty one, from the next batch on.
    pub(crate) is_turned: Arc<std::sync::atomic::AtomicBool>,
}

#[cfg(test)]
impl Memory {
    fn append(&self, bytes: &[u8]) -> (usize, io::Result<()>) {
        use std::sync::atomic::Ordering::SeqCst;
        let _open = self.gate.lock().expect("no panic");
        let is_broken = self.broken.load(SeqCst);
        let length =
            if is_broken { self.room.swap(0, SeqCst).min(bytes.len()) } else { bytes.len() };
        self.bytes.lock().expect("no panic").extend_from_slice(&bytes[..length]);
        let outcome = if is_broken { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        (length, outcome)
    }

    fn turn(&self) -> Turn {
        if !self.is_turned.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return Turn::Stay;
        }
        self.bytes.lock().expect("no panic").clear();
        Turn::Begin
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.bytes.lock().expect("no panic");
        String::from_utf8(bytes.clone()).expect("text").lines().map(str::to_owned).collect()
    }

    /// The decisions so far, as JSON, without their place in the chain.
    pub(crate) fn decisions(&self) -> Vec<serde_json::Value> {
        let mut records = self.json();
        records.retain(|record| record["event"] != "start" && record["event"] != "end");
        for record in &mut records {
            record.as_object_mut().expect("an object").remove("prev").expect("a hash");
        }
        records
    }

    /// The lines so far, as JSON.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}
