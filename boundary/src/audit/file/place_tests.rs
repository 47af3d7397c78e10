//! A session that outlives its files: set aside by size, by somebody else, and shared.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::Level;
use uuid::Uuid;

use super::{Sessions, files_of, missing_of};
use crate::audit::{
    Decision, Door, Format, Log, Recorder, Rotation, Session, Sinks, Subject, Usage,
};
use crate::rules::Code;
use crate::sys::swap;

/// A generous deadline on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("boundary-place-{}", Uuid::new_v4()));
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn opened(path: &Path, rotation: Option<Rotation>) -> Result<Sinks, crate::audit::Error> {
    let log = Log { level: Level::ERROR, is_asked: true, format: Format::Text, dir: None };
    Sinks::open(&log, Some(path), rotation)
}

fn started(path: &Path, rotation: Option<Rotation>) -> Recorder {
    let session = Session { id: Uuid::new_v4(), jail: "ebpf", ..Session::default() };
    Recorder::start(opened(path, rotation).expect("opened"), session).expect("threads")
}

fn refuse(recorder: &Recorder) {
    let subject = Subject { door: Door::Kernel, process: None, target: None };
    let dropped = Decision::Dropped { proto: "udp", code: Code::NoRule, host: None };
    drop(recorder.decide(&subject, dropped));
    assert!(recorder.flush(PATIENCE));
}

fn verified(path: &Path) -> Sessions {
    let mut sessions = Sessions::default();
    for file in files_of(path) {
        sessions.read(&*fs::read(file).expect("read")).expect("lines");
    }
    sessions
}

/// Refuses something until it is so.
fn refuse_until(recorder: &Recorder, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to that");
        refuse(recorder);
    }
}

#[test]
fn a_running_session_goes_on_in_the_next_file_and_its_chain_with_it() {
    let folder = Folder::new();
    let rotation = Rotation { size: 2000, files: 3 };
    let recorder = started(&folder.file(), Some(rotation));
    for _ in 0..10 {
        refuse(&recorder);
    }
    let early = verified(&folder.file());
    assert!(early.is_intact(), "{:?}", early.findings);
    assert!(early.by_id.values().all(|session| !session.is_continued), "its beginning is there");
    assert!(fs::metadata(folder.0.join("audit.jsonl.1")).expect("there").len() >= 2000);
    for _ in 0..60 {
        refuse(&recorder);
    }
    assert!(recorder.finish(PATIENCE, Usage::default()));
    let files = files_of(&folder.file());
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let metadata = fs::metadata(file).expect("there");
        assert!(metadata.len() < 4000, "{} has {}", file.display(), metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let late = verified(&folder.file());
    assert!(late.is_intact() && late.is_ended() && late.torn.is_empty(), "{:?}", late.findings);
    assert!(late.by_id.values().all(|session| session.is_continued), "its beginning is gone");
}

#[test]
fn what_was_cut_out_of_files_that_a_session_went_through_is_found() {
    let folder = Folder::new();
    let recorder = started(&folder.file(), Some(Rotation { size: 2000, files: 40 }));
    for _ in 0..60 {
        refuse(&recorder);
    }
    assert!(recorder.finish(PATIENCE, Usage::default()));
    let middle = folder.0.join("audit.jsonl.2");
    let text = fs::read_to_string(&middle).expect("text");
    assert!(verified(&folder.file()).is_intact());
    let (_, rest) = text.split_once('\n').expect("lines");
    for cut in [rest, ""] {
        fs::write(&middle, cut).expect("written");
        assert!(!verified(&folder.file()).is_intact(), "{cut}");
    }
}

#[test]
fn a_file_that_was_taken_out_is_missed_unless_it_is_the_oldest() {
    let folder = Folder::new();
    let name = |number: u32| folder.0.join(format!("audit.jsonl.{number}"));
    for path in [folder.file(), name(1), name(2), name(3)] {
        fs::write(path, "").expect("written");
    }
    for other in ["audit.jsonl.20260101", "audit.jsonl.07", "audit.jsonl.x", "audit.jsonl2.9"] {
        fs::write(folder.0.join(other), "").expect("written");
    }
    assert_eq!(files_of(&folder.file()), [name(3), name(2), name(1), folder.file()]);
    assert!(missing_of(&folder.file()).is_empty());
    fs::remove_file(name(3)).expect("removed");
    assert!(missing_of(&folder.file()).is_empty(), "a rotation does that");
    fs::remove_file(name(1)).expect("removed");
    assert_eq!(files_of(&folder.file()), [name(2), folder.file()]);
    assert_eq!(missing_of(&folder.file()), [name(1)]);
    symlink(name(2), name(1)).expect("linked");
    assert_eq!(files_of(&folder.file()), [name(2), folder.file()]);
    assert_eq!(missing_of(&folder.file()), [name(1)]);
}

#[test]
fn the_files_are_there_from_the_start_and_stay_the_same_ones() {
    let folder = Folder::new();
    let numbers = || {
        let files = files_of(&folder.file()).into_iter();
        let mut all: Vec<u64> =
            files.map(|file| fs::metadata(file).expect("there").ino()).collect();
        all.sort_unstable();
        all
    };
    let recorder = started(&folder.file(), Some(Rotation { size: 1000, files: 4 }));
    let before = numbers();
    assert_eq!(before.len(), 4);
    for _ in 0..40 {
        refuse(&recorder);
    }
    assert_eq!(numbers(), before, "what is read-only for the command still is");
}

#[test]
fn two_sessions_go_on_in_the_same_files() {
    let folder = Folder::new();
    let rotation = Some(Rotation { size: 4000, files: 50 });
    let both = [started(&folder.file(), rotation), started(&folder.file(), rotation)];
    for _ in 0..60 {
        both.iter().for_each(refuse);
    }
    // One that has not looked for a while goes on where the other is.
    let deadline = Instant::now() + PATIENCE;
    loop {
        both.iter().for_each(refuse);
        let last = fs::read(folder.file()).expect("read");
        let mut alone = Sessions::default();
        alone.read(&*last).expect("lines");
        if alone.by_id.len() == 2 || Instant::now() > deadline {
            break;
        }
    }
    for recorder in &both {
        assert!(recorder.finish(PATIENCE, Usage::default()));
    }
    let sessions = verified(&folder.file());
    assert!(sessions.is_intact() && sessions.is_ended(), "{:?}", sessions.findings);
    assert_eq!(sessions.by_id.len(), 2);
}

#[test]
fn a_file_that_somebody_else_sets_aside_or_removes_or_cuts_is_followed() {
    let folder = Folder::new();
    let path = folder.file();
    let recorder = started(&path, None);
    refuse(&recorder);
    fs::rename(&path, folder.0.join("audit.jsonl.1")).expect("renamed");
    refuse_until(&recorder, || path.exists());
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(verified(&path).is_intact());
    fs::remove_file(&path).expect("removed");
    refuse_until(&recorder, || path.exists());
    let text = fs::read_to_string(&path).expect("text");
    assert!(text.lines().next().is_some_and(|line| line.contains("\"event\":\"continued\"")));
    fs::write(&path, "").expect("cut");
    refuse_until(&recorder, || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("\"event\":\"continued\""))
    });
}

#[test]
fn a_link_is_never_followed_wherever_it_stands() {
    let folder = Folder::new();
    let victim = folder.0.join("victim");
    fs::write(&victim, "untouched").expect("written");
    let rotation = Some(Rotation { size: 1, files: 3 });
    symlink(&victim, folder.0.join("audit.jsonl.1")).expect("a link");
    opened(&folder.file(), rotation).expect_err("where it is set aside to");
    fs::remove_file(folder.0.join("audit.jsonl.1")).expect("removed");
    // One that is put there later is not written to, and what it stands for is neither.
    let recorder = started(&folder.file(), None);
    refuse(&recorder);
    fs::remove_file(folder.file()).expect("removed");
    symlink(&victim, folder.file()).expect("a link");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1500) {
        refuse(&recorder);
    }
    assert_eq!(fs::read_to_string(&victim).expect("text"), "untouched");
}

#[test]
fn whoever_holds_a_lock_holds_nobody_up() {
    let folder = Folder::new();
    let rotation = Some(Rotation { size: 1000, files: 2 });
    let recorder = started(&folder.file(), rotation);
    let lock = fs::File::open(folder.file()).expect("opened");
    lock.lock().expect("free");
    for _ in 0..20 {
        refuse(&recorder);
    }
    assert!(fs::metadata(folder.file()).expect("there").len() > 2000, "it is set aside later");
    drop(lock);
    refuse_until(&recorder, || {
        fs::metadata(folder.file()).is_ok_and(|metadata| metadata.len() < 2000)
    });
    drop(started(&folder.file(), rotation));
    assert!(verified(&folder.file()).is_intact());
}

/// What a file holds.
fn text_of(path: &Path) -> String {
    fs::read_to_string(path).expect("text")
}

#[test]
fn files_that_cannot_change_their_names_lose_nothing() {
    let folder = Folder::new();
    let numbered = |number: u32| folder.0.join(format!("audit.jsonl.{number}"));
    let recorder = started(&folder.file(), Some(Rotation { size: 2000, files: 4 }));
    let old = "what was written before\n";
    for number in [2, 3] {
        fs::write(numbered(number), format!("{number}: {old}")).expect("written");
    }
    // One name is missing, so that the oldest two can be exchanged and the next two cannot: what a
    // folder without rights, or a file system without such exchanges, does to the first already.
    fs::remove_file(numbered(1)).expect("removed");
    refuse_until(&recorder, || fs::metadata(folder.file()).is_ok_and(|it| it.len() > 4000));
    for number in [2, 3] {
        assert_eq!(text_of(&numbered(number)), format!("{number}: {old}"));
    }
    fs::write(numbered(1), "").expect("made");
    assert!(recorder.finish(PATIENCE, Usage::default()));
    let mut alone = Sessions::default();
    alone.read(&*fs::read(folder.file()).expect("read")).expect("lines");
    assert!(alone.is_intact() && alone.is_ended(), "it went on where it was: {:?}", alone.findings);
}

#[test]
fn nobody_writes_to_a_file_that_is_about_to_be_emptied() {
    let folder = Folder::new();
    let next = folder.0.join("audit.jsonl.1");
    // This one never sets anything aside; somebody else does, and takes long for it.
    let recorder = started(&folder.file(), Some(Rotation { size: u64::MAX, files: 2 }));
    refuse(&recorder);
    fs::write(&next, "of last week\n").expect("written");
    let other = fs::OpenOptions::new().append(true).open(&next).expect("opened");
    other.lock().expect("free");
    let names = fs::File::open(&folder.0).expect("a folder");
    swap::names(names.as_fd(), c"audit.jsonl", c"audit.jsonl.1").expect("exchanged");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2500) {
        refuse(&recorder);
    }
    assert_eq!(text_of(&folder.file()), "of last week\n");
    other.set_len(0).expect("emptied");
    other.unlock().expect("locked");
    refuse_until(&recorder, || text_of(&folder.file()).contains("\"event\":\"continued\""));
    assert!(recorder.finish(PATIENCE, Usage::default()));
    let sessions = verified(&folder.file());
    assert!(sessions.is_intact() && sessions.is_ended(), "{:?}", sessions.findings);
}

#[test]
fn whoever_holds_a_file_that_nobody_empties_is_not_waited_for() {
    let folder = Folder::new();
    let recorder = started(&folder.file(), Some(Rotation { size: u64::MAX, files: 2 }));
    refuse(&recorder);
    // Somebody sets the record aside and makes a new file, which the command holds for good.
    fs::rename(folder.file(), folder.0.join("set-aside")).expect("renamed");
    let holder = fs::File::create(folder.file()).expect("made");
    holder.lock().expect("free");
    refuse_until(&recorder, || text_of(&folder.file()).contains("\"event\":"));
    assert!(recorder.finish(PATIENCE, Usage::default()));
    holder.unlock().expect("held until here");
}

#[test]
fn a_file_that_was_emptied_and_has_grown_again_begins_anew_for_whoever_was_idle() {
    let folder = Folder::new();
    let idle = started(&folder.file(), Some(Rotation { size: u64::MAX, files: 2 }));
    refuse(&idle);
    let before = fs::metadata(folder.file()).expect("it is there").len();
    fs::OpenOptions::new().write(true).truncate(true).open(folder.file()).expect("emptied");
    let busy = started(&folder.file(), Some(Rotation { size: u64::MAX, files: 2 }));
    let length = || fs::metadata(folder.file()).expect("it is there").len();
    refuse_until(&busy, || length() > 2 * before);
    std::thread::sleep(Duration::from_millis(1200));
    refuse(&idle);
    assert!(idle.finish(PATIENCE, Usage::default()) && busy.finish(PATIENCE, Usage::default()));
    let sessions = verified(&folder.file());
    assert!(sessions.is_intact() && sessions.is_ended(), "{:?}", sessions.findings);
}

#[test]
fn a_line_without_an_end_takes_no_other_sessions_line_with_it() {
    use std::io::Write as _;
    let folder = Folder::new();
    let recorder = started(&folder.file(), None);
    refuse(&recorder);
    // Somebody was killed while it wrote.
    let mut other = fs::OpenOptions::new().append(true).open(folder.file()).expect("opened");
    other.write_all(b"{\"event_time\":\"20").expect("written");
    refuse(&recorder);
    assert!(recorder.finish(PATIENCE, Usage::default()));
    let sessions = verified(&folder.file());
    let is_all = sessions.findings.len() <= 1 && sessions.is_ended();
    assert!(is_all, "{:?}", sessions.findings);
    let text = text_of(&folder.file());
    let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert_eq!(whole.count(), 4, "{text}");
}
