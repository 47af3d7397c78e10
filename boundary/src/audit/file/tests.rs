//! Chains that hold, and what is said of those that were changed, cut or torn.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::json;

use super::*;
use crate::audit::Memory;
use crate::audit::object::{Fields, Value};
use crate::audit::sink::Target;

/// A file in memory, and a session that writes to it.
struct Stage {
    writer: Writer,
    name: &'static str,
}

impl Stage {
    fn new(memory: &Memory, name: &'static str) -> Self {
        let writer = Writer::new(Arc::new(Target::Memory(memory.clone())));
        Self { writer, name }
    }

    fn write(&mut self, records: &[serde_json::Value]) -> Result<(), Short> {
        let records = records.iter().map(|record| {
            let mut record = record.clone();
            record["session_id"] = self.name.into();
            record
        });
        self.writer.append(records.collect::<Vec<_>>().iter())
    }

    fn start(&mut self) {
        self.write(&[json!({"event": "start"})]).expect("memory takes all");
    }

    fn end(&mut self) {
        self.write(&[json!({"event": "end"})]).expect("memory takes all");
    }

    fn decide(&mut self, count: u64) {
        let records: Vec<_> = (0..count).map(|number| json!({"sequence": number})).collect();
        self.write(&records).expect("memory takes all");
    }
}

impl Fields for serde_json::Value {
    fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        for name in [
            "allowed",
            "decision",
            "denied",
            "dropped",
            "duration_ms",
            "event",
            "proto",
            "sequence",
            "session_id",
        ] {
            if let Some(text) = self[name].as_str() {
                tell(name, text.into());
            }
            if let Some(number) = self[name].as_u64() {
                tell(name, number.into());
            }
        }
    }
}

/// A whole session of five lines.
fn whole() -> Vec<String> {
    let memory = Memory::default();
    let mut session = Stage::new(&memory, "one");
    session.start();
    session.decide(3);
    session.end();
    memory.lines()
}

fn verified(lines: &[String]) -> Sessions {
    let text = lines.join("\n") + "\n";
    let mut sessions = Sessions::default();
    sessions.read(text.as_bytes()).expect("memory");
    sessions
}

#[test]
fn a_whole_session_is_intact_and_ended() {
    let sessions = verified(&whole());
    assert!(sessions.is_intact() && sessions.is_ended(), "{sessions:?}");
    assert_eq!(sessions.by_id["one"].lines, 5);
    assert!(sessions.torn.is_empty());
}

#[test]
fn the_hash_is_of_the_line_before_as_it_stands() {
    let lines = whole();
    let second: Saved = serde_json::from_str(&lines[1]).expect("a record");
    // The first line's hash, computed with another tool.
    assert_eq!(
        lines[0],
        concat!(
            r#"{"event":"start","session_id":"one","prev":""#,
            r#"0000000000000000000000000000000000000000000000000000000000000000"}"#
        )
    );
    assert_eq!(second.prev.as_deref(), Some(HASH_OF_FIRST));
}

/// `printf '%s' LINE | sha256sum`.
const HASH_OF_FIRST: &str = "44568f9c43aac0e0f6a0cc37a6fe08fcd813830046a087085e5e79e81f4e9105";

#[test]
fn any_changed_byte_is_found_at_the_line_that_follows() {
    let lines = whole();
    for index in 0..lines.len() - 1 {
        for (from, to) in [("one", "One"), ("sequence\":1", "sequence\":9"), ("prev", "Prev")] {
            let mut changed = lines.clone();
            changed[index] = changed[index].replace(from, to);
            let is_same = changed == lines;
            let sessions = verified(&changed);
            assert_eq!(sessions.is_intact(), is_same, "line {index}, {from}: {sessions:?}");
        }
    }
    let mut changed = lines;
    changed[2] = changed[2].replace("sequence\":1", "sequence\":7");
    let expected = Verdict::Broken { session: "one".to_owned(), after: (0, 3) };
    assert_eq!(verified(&changed).findings, [Finding { file: 0, line: 4, what: expected }]);
}

#[test]
fn a_line_taken_out_moved_or_doubled_is_found_where_it_was() {
    let mut taken = whole();
    taken.remove(2);
    let mut swapped = whole();
    swapped.swap(1, 2);
    let mut doubled = whole();
    doubled.insert(2, doubled[1].clone());
    for (lines, line) in [(taken, 3), (swapped, 2), (doubled, 3)] {
        assert_eq!(verified(&lines).findings[0].line, line, "{lines:?}");
    }
}

#[test]
fn a_cut_is_found_at_either_end() {
    let lines = whole();
    let head = verified(&lines[2..]);
    assert_eq!(head.findings[0].what, Verdict::Headless { session: "one".to_owned() });
    let tail = verified(&lines[..4]);
    assert!(tail.is_intact() && !tail.is_ended());
    assert_eq!(tail.by_id["one"].last, (0, 4));
}

#[test]
fn a_forged_line_is_found_wherever_it_stands() {
    let prev = "ab".repeat(32);
    let forged = [
        (json!({"session_id": "one", "decision": "allow"}).to_string(), 3),
        (json!({"session_id": "one", "decision": "allow", "prev": prev}).to_string(), 3),
        (json!({"session_id": "two", "decision": "allow", "prev": prev}).to_string(), 3),
        (json!({"session_id": "", "prev": prev}).to_string(), 3),
    ];
    for (line, at) in forged {
        let mut lines = whole();
        lines.insert(2, line);
        assert_eq!(verified(&lines).findings[0].line, at, "{lines:?}");
    }
    let mut late = whole();
    late.push(json!({"session_id": "one", "prev": chain::hash(late[4].as_bytes())}).to_string());
    let what = Verdict::Trailing { session: "one".to_owned() };
    assert_eq!(verified(&late).findings, [Finding { file: 0, line: 6, what }]);
}

#[test]
fn sessions_in_one_file_do_not_disturb_each_other() {
    let memory = Memory::default();
    let (mut one, mut two) = (Stage::new(&memory, "one"), Stage::new(&memory, "two"));
    one.start();
    two.start();
    one.decide(2);
    two.decide(1);
    one.end();
    two.decide(4);
    two.end();
    let sessions = verified(&memory.lines());
    assert!(sessions.is_intact() && sessions.is_ended(), "{sessions:?}");
    assert_eq!(sessions.by_id["two"].lines, 7);
    let mut lines = memory.lines();
    lines.remove(3);
    assert_eq!(verified(&lines).findings[0].what.session(), Some("one"));
}

/// What is wrong with a session that begins so, has two grants, a question, a refusal and its refused
/// question, and what may stand before its end.
fn counted(first: &str, before: &[serde_json::Value], end: (u64, u64, u64)) -> Vec<Finding> {
    let memory = Memory::default();
    let mut session = Stage::new(&memory, "one");
    let mut records = vec![
        json!({"event": first}),
        json!({"sequence": 0, "decision": "allow", "proto": "http"}),
        json!({"sequence": 1, "decision": "allow", "proto": "dns"}),
        json!({"sequence": 2, "decision": "deny", "proto": "udp"}),
        json!({"sequence": 0, "decision": "allow", "proto": "http", "duration_ms": 3}),
        json!({"sequence": 3, "decision": "allow", "proto": "tcp"}),
        json!({"sequence": 4, "decision": "deny", "proto": "dns"}),
    ];
    records.extend_from_slice(before);
    let (allowed, denied, dropped) = end;
    let end = json!({"event": "end", "allowed": allowed, "denied": denied, "dropped": dropped});
    records.push(end);
    session.write(&records).expect("memory takes all");
    verified(&memory.lines()).findings
}

#[test]
fn a_last_record_that_counts_other_decisions_than_there_are_is_found() {
    assert_eq!(counted("start", &[], (2, 2, 0)), []);
    for (allowed, denied) in [(3, 2), (2, 3), (1, 2), (2, 1)] {
        let told = Decided { allowed, denied };
        let there = Decided { allowed: 2, denied: 2 };
        let what = Verdict::Miscounted { session: "one".to_owned(), told, there };
        let expected = [Finding { file: 0, line: 8, what }];
        assert_eq!(counted("start", &[], (allowed, denied, 0)), expected);
    }
    // Where some are missing by the session's own account, or its beginning is gone.
    assert_eq!(counted("start", &[], (3, 2, 1)), []);
    assert_eq!(counted("start", &[json!({"event": "lost", "dropped": 1})], (3, 2, 0)), []);
    assert_eq!(counted("continued", &[], (9, 9, 0)), []);
}

#[test]
fn a_session_goes_on_in_the_next_file() {
    let lines = whole();
    for cut in 1..lines.len() {
        let mut sessions = Sessions::default();
        for part in [&lines[..cut], &lines[cut..]] {
            let text = part.join("\n") + "\n";
            sessions.read(text.as_bytes()).expect("memory");
        }
        assert!(sessions.is_intact() && sessions.is_ended(), "{cut}: {sessions:?}");
        assert_eq!(sessions.by_id["one"].last, (1, (lines.len() - cut) as u64));
    }
}

/// A session whose disk was full after so many bytes of a batch, twice.
fn torn_after(room: usize, records: &[serde_json::Value]) -> Memory {
    let memory = Memory::default();
    let mut session = Stage::new(&memory, "one");
    session.start();
    for _ in 0..2 {
        memory.broken.store(true, SeqCst);
        memory.room.store(room, SeqCst);
        let written = session.write(records).map_or_else(|short| short.written, |()| 0);
        memory.broken.store(false, SeqCst);
        session
            .write(&[json!({"event": "lost", "dropped": records.len() as u64 - written})])
            .expect("memory takes all");
    }
    session.end();
    memory
}

#[test]
fn a_line_torn_by_a_full_disk_leaves_the_chain_whole_wherever_it_is_torn() {
    let records: Vec<_> = (0..3).map(|number| json!({"sequence": number})).collect();
    let longest = 3 * whole()[1].len() + 9;
    for room in 0..=longest {
        let memory = torn_after(room, &records);
        let mut sessions = Sessions::default();
        sessions.read(&**memory.bytes.lock().expect("no panic")).expect("memory");
        assert!(sessions.is_intact() && sessions.is_ended(), "{room}: {sessions:?}");
        // What is told to be lost is what is not there.
        let session = &sessions.by_id["one"];
        assert_eq!(session.lines - 4 + session.dropped, 6, "{room}: {sessions:?}");
    }
}

#[test]
fn a_line_that_is_no_record_is_a_fault_unless_a_session_confesses_to_a_loss() {
    let read = |lines: &[String]| {
        let mut sessions = Sessions::default();
        sessions.read(&*lines.concat().into_bytes()).expect("memory");
        sessions
    };
    let is_whole = |sessions: &Sessions| [false, true].map(|running| sessions.is_whole(running));
    let whole = whole().into_iter().map(|line| line + "\n").collect::<Vec<_>>();
    assert_eq!(is_whole(&read(&whole)), [true, true]);
    let mut amid = whole.clone();
    amid.insert(2, "nothing\n".to_owned());
    assert_eq!(is_whole(&read(&amid)), [false, false]);
    let mut last = whole;
    last.push("{\"being writ".to_owned());
    assert_eq!(is_whole(&read(&last)), [false, true]);
    let memory = torn_after(9, &[json!({"sequence": 0})]);
    let mut torn = Sessions::default();
    torn.read(&**memory.bytes.lock().expect("no panic")).expect("memory");
    assert!(!torn.torn.is_empty() && is_whole(&torn) == [true, true], "{torn:?}");
}

#[test]
fn what_was_written_before_the_disk_was_full_is_counted_as_written() {
    let memory = Memory::default();
    let mut session = Stage::new(&memory, "one");
    session.start();
    let line = memory.bytes.lock().expect("no panic").len();
    memory.broken.store(true, SeqCst);
    // Room for two lines and a half of about that length.
    memory.room.store(line * 5 / 2, SeqCst);
    let records: Vec<_> = (0..9).map(|number| json!({"sequence": number})).collect();
    let short = session.write(&records).expect_err("the disk is full");
    assert_eq!(short.written, 2);
}

#[test]
fn a_reader_goes_on_when_the_file_has_grown() {
    let folder = std::env::temp_dir().join(format!("boundary-reader-{}", std::process::id()));
    std::fs::write(&folder, "{\"session_id\":\"a\"}\n{\"sess").expect("written");
    let file = std::io::BufReader::new(std::fs::File::open(&folder).expect("opened"));
    let mut reader = Reader::new(file);
    assert!(reader.next().is_some() && reader.next().is_none());
    assert_eq!(reader.begun(), b"{\"sess");
    let whole = "{\"session_id\":\"a\"}\n{\"session_id\":\"b\"}\n";
    std::fs::write(&folder, whole).expect("written");
    let line = reader.next().expect("a line").expect("read");
    std::fs::remove_file(&folder).expect("removed");
    assert_eq!((line.number, line.saved.expect("a record").session_id.as_str()), (2, "b"));
}

#[test]
fn a_line_without_end_is_an_error_and_no_memory() {
    let endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let error = Reader::new(endless).next().expect("something").expect_err("too long");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_size_has_a_unit_or_is_bytes() {
    let read = |text: &str| text.parse::<crate::audit::Size>().ok().map(|size| size.0);
    assert_eq!(read("4096"), Some(4096));
    assert_eq!(read("2MiB"), Some(2 << 20));
    for wrong in ["", "0", "MiB", "-1", "+1", "1 MiB", "1MB", "99999999999GiB"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
