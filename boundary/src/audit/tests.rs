//! Golden lines, order, loss, and what may never be seen in a record.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tracing::Level;
use uuid::Uuid;

use super::line::Line;
use super::sink::Said;
use super::*;
use crate::rules::{DomainMatch, Host, Intent, RuleSet, Scheme};

/// A generous deadline for a writer thread on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that a test moves.
#[derive(Debug)]
struct Stopped(Mutex<Duration>);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2025-11-24T21:57:33.928000001Z".parse().expect("a time");
        start + SignedDuration::try_from(self.elapsed()).expect("short")
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().expect("no panic")
    }
}

/// A recorder on memory, and what there is to look at.
struct Stage {
    recorder: Recorder,
    clock: Arc<Stopped>,
    log: Memory,
    records: Memory,
}

impl Stage {
    fn new(level: Level, format: Format) -> Self {
        Self::with(level, format, session())
    }

    fn with(level: Level, format: Format, session: Session) -> Self {
        let (sinks, log, records) = Sinks::memory(level, format);
        let clock = Arc::new(Stopped(Mutex::default()));
        let recorder =
            Recorder::with_clock(sinks, session, Arc::clone(&clock) as _).expect("threads");
        Self { recorder, clock, log, records }
    }

    fn log(&self) -> Vec<String> {
        assert!(self.recorder.flush(PATIENCE));
        let lines = self.log.lines();
        lines.into_iter().filter(|line| !line.contains("boundary session")).collect()
    }

    fn json(&self) -> Vec<serde_json::Value> {
        assert!(self.recorder.flush(PATIENCE));
        self.records.decisions()
    }

    fn refuse_datagram(&self) {
        let dropped = Decision::Dropped { proto: "udp", code: Code::NoRule, host: None };
        self.recorder.decide(&subject(Door::Kernel), dropped).close(Tally::default());
    }

    fn answer(&self, name: &str, refused: Option<Code>) {
        let decision = Decision::Dns { name: name.to_owned(), kind: "A".to_owned(), refused };
        self.recorder.decide(&subject(Door::Dns), decision).close(Tally::default());
    }
}

fn session() -> Session {
    Session {
        id: Uuid::from_u128(0xe5f6_a7b8_c9d0_4e1f_8a2b_3c4d_5e6f_7a8b),
        jail: "ebpf",
        labels: Labels { workspace_id: Some("w-1".to_owned()), ..Labels::default() },
        query: true,
        on_error: OnError::Deny,
        command: "agent".to_owned(),
        rules: vec!["method=GET domain=github.com".to_owned()],
        domain_match: "subdomains",
        modes: vec!["use_real_dns".to_owned()],
        unix_sockets: Vec::new(),
    }
}

fn subject(door: Door) -> Subject {
    Subject {
        door,
        process: Some(Arc::new(Process {
            pid: 42,
            uid: 1000,
            comm: "curl".to_owned(),
            exe: Some(PathBuf::from("/usr/bin/curl")),
            cgroup: 7,
            room: 0,
            parents: [Parent { pid: 41, comm: "sh".to_owned() }].into(),
        })),
        target: Some("203.0.113.9:53".parse().expect("an address")),
    }
}

fn decide(url: (&str, &str, &str)) -> Decision {
    let (method, host, target) = url;
    let rule = "method=GET domain=github.com".parse().expect("a rule");
    let host = Host::parse(host).expect("a host");
    let intent = Intent::http(Scheme::Https, method, host, 443, target).expect("an intent");
    match RuleSet::new(vec![rule], DomainMatch::Subdomains).decide(intent) {
        Ok(permit) => Decision::Allow(permit),
        Err(denial) => Decision::Deny(denial),
    }
}

#[test]
fn an_allowed_request_is_the_go_tools_line_at_info() {
    let stage = Stage::new(Level::INFO, Format::Text);
    let entry =
        stage.recorder.decide(&subject(Door::Redirect), decide(("GET", "github.com", "/a?b=c")));
    drop(entry);
    assert_eq!(
        stage.log(),
        ["time=2025-11-24T21:57:33.928Z level=INFO msg=ALLOW method=GET \
          url=\"https://github.com/a?b=c\" host=github.com rule=\"method=GET domain=github.com\""]
    );
}

#[test]
fn a_denied_request_is_the_go_tools_line_at_warn_without_a_rule() {
    let stage = Stage::new(Level::WARN, Format::Text);
    drop(stage.recorder.decide(&subject(Door::Redirect), decide(("GET", "github.com", "/"))));
    drop(stage.recorder.decide(&subject(Door::Redirect), decide(("POST", "evil.example", "/x"))));
    assert_eq!(
        stage.log(),
        ["time=2025-11-24T21:57:33.928Z level=WARN msg=DENY method=POST \
          url=https://evil.example/x host=evil.example"]
    );
}

#[test]
fn json_lines_say_the_same_in_slogs_other_form() {
    let stage = Stage::new(Level::WARN, Format::Json);
    drop(stage.recorder.decide(&subject(Door::Redirect), decide(("POST", "evil.example", "/x"))));
    assert_eq!(
        stage.log(),
        [concat!(
            r#"{"time":"2025-11-24T21:57:33.928000001Z","level":"WARN","msg":"DENY","#,
            r#""method":"POST","url":"https://evil.example/x","host":"evil.example"}"#
        )]
    );
}

#[test]
fn a_datagram_to_a_looked_up_name_is_everyday_and_told_only_at_info() {
    for (level, told) in [(Level::WARN, false), (Level::INFO, true)] {
        let stage = Stage::new(level, Format::Text);
        let host = Some(Host::parse("github.com").expect("a host"));
        let dropped = Decision::Dropped { proto: "udp", code: Code::Datagram, host };
        stage.recorder.decide(&subject(Door::Kernel), dropped).close(Tally::default());
        let [record] = &*stage.json() else { panic!("one record, whatever the level") };
        assert_eq!((&record["decision"], &record["host"]), (&"deny".into(), &"github.com".into()));
        assert_eq!(!stage.log().is_empty(), told, "at {level}");
    }
}

#[test]
fn a_refused_datagram_names_its_protocol_and_its_address() {
    let stage = Stage::new(Level::WARN, Format::Text);
    stage.refuse_datagram();
    assert_eq!(
        stage.log(),
        ["time=2025-11-24T21:57:33.928Z level=WARN msg=DENY proto=udp address=203.0.113.9 \
          port=53 code=no_rule"]
    );
}

#[test]
fn an_answered_question_is_a_line_at_debug_only() {
    for (level, lines) in [(Level::INFO, 0), (Level::DEBUG, 1)] {
        let stage = Stage::new(level, Format::Text);
        stage.answer("github.com", None);
        assert_eq!(stage.log().len(), lines, "{level}");
        assert_eq!(stage.json().len(), 1, "{level}");
    }
}

#[test]
fn a_record_has_every_field_and_its_closing_record_the_outcome() {
    let stage = Stage::new(Level::ERROR, Format::Text);
    let request = decide(("GET", "api.github.com", "/a?b=c"));
    let mut entry = stage.recorder.decide(&subject(Door::Redirect), request);
    entry.dialled("192.0.2.7:443".parse::<SocketAddr>().expect("an address"));
    *stage.clock.0.lock().expect("no panic") = Duration::from_millis(1234);
    entry.close(Tally { http_status: Some(200), bytes_up: 3, bytes_down: 4000 });
    let session = "e5f6a7b8-c9d0-4e1f-8a2b-3c4d5e6f7a8b";
    assert_eq!(
        stage.json(),
        [
            json!({
                "event_time": "2025-11-24T21:57:33.928000001Z", "session_id": session,
                "sequence": 0, "decision": "allow", "matched_rule": "method=GET domain=github.com",
                "proto": "http", "http_method": "GET", "http_url": "https://api.github.com/a?b=c",
                "host": "api.github.com", "port": 443, "address": "203.0.113.9",
                "door": "redirect", "jail": "ebpf", "pid": 42, "exe": "/usr/bin/curl",
                "comm": "curl", "uid": 1000, "cgroup": 7, "parents": [{"pid": 41, "comm": "sh"}], "workspace_id": "w-1",
            }),
            json!({
                "event_time": "2025-11-24T21:57:35.162000001Z", "session_id": session,
                "sequence": 0, "decision": "allow", "address": "192.0.2.7",
                "http_status": 200, "bytes_up": 3, "bytes_down": 4000, "duration_ms": 1234,
            }),
        ]
    );
}

#[test]
fn a_refusal_has_its_code_and_a_dropped_entry_is_closed_empty() {
    let stage = Stage::new(Level::ERROR, Format::Text);
    drop(stage.recorder.decide(&subject(Door::Explicit), decide(("POST", "evil.example", "/"))));
    let records = stage.json();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["decision"], "deny");
    assert_eq!(records[0]["code"], "no_rule");
    assert_eq!(records[0]["door"], "explicit");
    assert_eq!(records[1]["bytes_down"], 0);
    assert_eq!(records[1].get("http_status"), None);
}

/// What was refused without having become a request, and what it said if it said anything.
fn unclear(line: Option<(&str, &str)>) -> Decision {
    let asked = Asked::of(Scheme::Http, Host::parse("github.com").expect("a host"), 80);
    let asked = match line {
        Some((method, target)) => asked.with_line(method, target),
        None => asked,
    };
    Decision::Deny(Denial::new(Code::AmbiguousPath).asking(|| Some(asked)))
}

#[test]
fn what_is_no_request_is_told_in_its_own_words_and_why() {
    let stage = Stage::new(Level::WARN, Format::Text);
    for line in [Some(("get", "/..%2fx y?z=\u{1b}[2J")), None] {
        drop(stage.recorder.decide(&subject(Door::Redirect), unclear(line)));
    }
    assert_eq!(
        stage.log(),
        [
            "time=2025-11-24T21:57:33.928Z level=WARN msg=DENY method=GET \
             url=\"http://github.com/..%2fx%20y?z=%1B[2J\" host=github.com code=ambiguous_path",
            "time=2025-11-24T21:57:33.928Z level=WARN msg=DENY proto=http host=github.com \
             code=ambiguous_path"
        ]
    );
    let records = stage.json();
    let url = "http://github.com/..%2fx%20y?z=%1B[2J";
    for (key, first, second) in [
        ("http_method", json!("GET"), json!(null)),
        ("http_url", json!(url), json!(null)),
        ("proto", json!("http"), json!("http")),
        ("host", json!("github.com"), json!("github.com")),
        ("port", json!(80), json!(80)),
        ("address", json!("203.0.113.9"), json!("203.0.113.9")),
        ("code", json!("ambiguous_path"), json!("ambiguous_path")),
    ] {
        // The first is closed behind it.
        assert_eq!((&records[0][key], &records[2][key]), (&first, &second), "{key}");
    }
}

#[test]
fn a_query_is_left_out_everywhere_when_that_was_asked() {
    let stage = Stage::with(Level::INFO, Format::Text, Session { query: false, ..session() });
    for request in
        [decide(("GET", "github.com", "/a?token=canary")), unclear(Some(("GET", "/a?canary")))]
    {
        drop(stage.recorder.decide(&subject(Door::Redirect), request));
    }
    assert!(!format!("{:?}{:?}", stage.log(), stage.json()).contains("canary"));
}

#[test]
fn numbers_are_dense_and_in_the_order_of_the_file_whoever_asks() {
    let stage = Stage::new(Level::ERROR, Format::Text);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..500).for_each(|_| stage.refuse_datagram()));
        }
    });
    let numbers: Vec<_> = stage.json().iter().map(|record| record["sequence"].as_u64()).collect();
    assert_eq!(numbers, (0..4000).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_stuck_sink_delays_nobody_and_its_loss_is_confessed() {
    let stage = Stage::new(Level::ERROR, Format::Text);
    let stuck = stage.records.gate.lock().expect("no panic");
    (0..20_000).for_each(|_| stage.refuse_datagram());
    let dropped = stage.recorder.totals().dropped;
    assert!(dropped >= 20_000 - 2 * 8192, "{dropped}");
    assert!(!stage.recorder.flush(Duration::from_millis(1)));
    drop(stuck);
    let records = stage.json();
    let confessed: u64 = records.iter().filter_map(|record| record["dropped"].as_u64()).sum();
    assert_eq!(confessed, dropped);
    let kept = records.iter().filter(|record| record.get("sequence").is_some()).count() as u64;
    assert_eq!(kept + confessed, 20_000);
}

#[test]
fn a_full_disk_is_told_once_in_the_log_and_counted() {
    let stage = Stage::new(Level::WARN, Format::Text);
    assert!(stage.recorder.flush(PATIENCE));
    stage.records.broken.store(true, Ordering::SeqCst);
    stage.answer("a.example", None);
    assert!(stage.recorder.flush(PATIENCE));
    stage.answer("b.example", None);
    assert!(stage.recorder.flush(PATIENCE));
    assert!(stage.recorder.is_refusing());
    stage.records.broken.store(false, Ordering::SeqCst);
    stage.answer("c.example", None);
    let records = stage.json();
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(!stage.recorder.is_refusing());
    assert_eq!(records[0]["sequence"], 2);
    assert_eq!(records[1]["dropped"], 2);
    assert_eq!(stage.recorder.totals().dropped, 2);
    let complaints = stage.log();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("msg=\"the audit file cannot be written\""), "{complaints:?}");
}

#[test]
fn a_file_that_begins_on_a_full_disk_says_so_once_there_is_room() {
    let stage = Stage::new(Level::ERROR, Format::Text);
    stage.refuse_datagram();
    assert!(stage.recorder.flush(PATIENCE));
    stage.records.is_turned.store(true, Ordering::SeqCst);
    stage.records.broken.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        stage.refuse_datagram();
        assert!(stage.recorder.flush(PATIENCE));
    }
    stage.records.broken.store(false, Ordering::SeqCst);
    stage.refuse_datagram();
    stage.refuse_datagram();
    assert!(stage.recorder.flush(PATIENCE));
    let events: Vec<_> = stage.records.json().iter().map(|row| row["event"].clone()).collect();
    assert_eq!(events[0], "continued", "{events:?}");
    assert_eq!(events.iter().filter(|event| **event == "continued").count(), 1, "{events:?}");
    let mut alone = file::Sessions::default();
    alone.read(&**stage.records.bytes.lock().expect("no panic")).expect("memory");
    assert!(alone.is_intact(), "{:?}", alone.findings);
}

#[test]
fn a_policy_that_changes_is_on_record_and_what_a_further_file_begins_with() {
    let stage = Stage::new(Level::ERROR, Format::Text);
    let rules = vec!["domain=other.example".to_owned()];
    stage.recorder.note_policy(rules.clone(), "exact", Cause::Allow(7));
    assert!(stage.recorder.flush(PATIENCE));
    let changed = stage.records.json();
    let changed = changed.last().expect("a row");
    for (name, value) in [("event", "policy"), ("cause", "allow"), ("domain_match", "exact")] {
        assert_eq!(changed[name], value, "{changed}");
    }
    assert_eq!((&changed["denied_sequence"], &changed["rules"]), (&json!(7), &json!(rules)));
    stage.records.is_turned.store(true, Ordering::SeqCst);
    stage.refuse_datagram();
    assert!(stage.recorder.flush(PATIENCE));
    let rows = stage.records.json();
    let begun = rows.iter().find(|row| row["event"] == "continued").expect("it goes on");
    assert_eq!((&begun["rules"], &begun["modes"]), (&json!(rules), &json!(["use_real_dns"])));
}

#[test]
fn the_end_says_how_many_there_were() {
    let stage = Stage::new(Level::INFO, Format::Text);
    stage.refuse_datagram();
    drop(stage.recorder.decide(&subject(Door::Redirect), decide(("GET", "github.com", "/"))));
    stage.answer("github.com", None);
    assert!(stage.recorder.finish(PATIENCE, Usage::default()));
    let last = stage.log.lines().pop().expect("a line");
    assert!(
        last.ends_with("msg=\"boundary session ended\" allowed=1 denied=1 dropped=0"),
        "{last}"
    );
}

#[test]
fn refusals_that_came_too_fast_are_counted_where_they_are_missing_and_in_all() {
    let stage = Stage::new(Level::ERROR, Format::Text);
    for count in [3, 4] {
        stage.refuse_datagram();
        stage.recorder.missed(count);
    }
    let lost: Vec<_> = stage.json().iter().map(|record| record["refusals_lost"].as_u64()).collect();
    assert_eq!(lost, [None, Some(3), None, Some(4)]);
    assert!(stage.recorder.finish(PATIENCE, Usage::default()));
    let end = stage.records.json().pop().expect("a last record");
    assert_eq!((&end["refusals_lost"], &end["dropped"]), (&7.into(), &0.into()));
}

#[test]
fn the_plumbing_log_has_the_same_form_level_and_place() {
    let (sinks, log, _) = Sinks::memory(Level::WARN, Format::Text);
    tracing::subscriber::with_default(plumbing::subscriber(&sinks.log), || {
        tracing::warn!(socket = %"/tmp/a b", attempts = 3, "no agent");
        tracing::info!("too quiet");
        tracing::info!(target: "hyper", "someone else's");
    });
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with(" level=WARN msg=\"no agent\" socket=\"/tmp/a b\" attempts=3"));
}

#[test]
fn what_the_command_chose_cannot_move_the_cursor_or_end_the_line() {
    for format in [Format::Text, Format::Json] {
        let stage = Stage::new(Level::WARN, format);
        let name = "a\u{1b}[2Jb\nlevel=INFO\r\u{9b}1m\u{7f}\u{202e}\u{2028}";
        stage.answer(name, Some(Code::NoRule));
        let log = stage.log();
        let mut records = stage.records.lines();
        records.remove(0);
        for lines in [log, records] {
            assert_eq!(lines.len(), 1, "{lines:?}");
            let plain = |c: char| c == ' ' || c.is_ascii_graphic();
            assert!(lines[0].chars().all(plain), "{}", lines[0].escape_debug());
        }
        assert_eq!(stage.json()[0]["host"], name);
    }
}

/// One row: a value, and how Go's slog text handler writes it.
macro_rules! quoting {
    ($($name:ident: $value:expr => $written:expr;)+) => {
        mod quoting {
            use super::*;
            $(
                #[test]
                fn $name() {
                    let line = Line {
                        time: Timestamp::UNIX_EPOCH,
                        level: Level::INFO,
                        message: "m".to_owned(),
                        fields: vec![("k", $value.to_owned())],
                    };
                    let mut bytes = Vec::new();
                    line.render(Format::Text, &TimeZone::UTC, &mut bytes);
                    let head = "time=1970-01-01T00:00:00.000Z level=INFO msg=m k=";
                    let text = String::from_utf8(bytes).expect("text");
                    assert_eq!(text, format!("{head}{}\n", $written));
                }
            )+
        }
    };
}

quoting! {
    a_bare_word_stays_bare: "abc" => "abc";
    nothing_is_quoted: "" => "\"\"";
    a_space_is_quoted: "a b" => "\"a b\"";
    an_equals_sign_is_quoted: "a=b" => "\"a=b\"";
    a_quote_is_escaped: "a\"b" => "\"a\\\"b\"";
    a_backslash_alone_stays_bare: "a\\b" => "a\\b";
    a_backslash_in_quotes_is_doubled: "a\\ b" => "\"a\\\\ b\"";
    controls_have_gos_names: "\u{7}\u{8}\t\n\u{b}\u{c}\r" => "\"\\a\\b\\t\\n\\v\\f\\r\"";
    an_escape_is_hexadecimal: "\u{1b}[m" => "\"\\x1b[m\"";
    letters_of_any_script_stay_bare: "grün漢" => "grün漢";
    a_change_of_direction_is_escaped: "a\u{202e}b" => "\"a\\u202eb\"";
    a_no_break_space_is_escaped: "a\u{a0}b" => "\"a\\u00a0b\"";
    what_is_unassigned_is_escaped: "\u{e0001}" => "\"\\U000e0001\"";
}

#[test]
fn an_offset_is_written_where_there_is_one() {
    let line = Line {
        time: "2025-11-24T21:57:33.928Z".parse().expect("a time"),
        level: Level::WARN,
        message: "DENY".to_owned(),
        fields: Vec::new(),
    };
    let mut bytes = Vec::new();
    line.render(Format::Text, &TimeZone::fixed(jiff::tz::offset(2)), &mut bytes);
    assert_eq!(bytes, b"time=2025-11-24T23:57:33.928+02:00 level=WARN msg=DENY\n");
}

mod files {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A folder of the test's own, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("boundary-test-{}-{name}", Uuid::new_v4()));
            fs::create_dir(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn quiet(dir: Option<PathBuf>) -> Log {
        Log { level: Level::WARN, is_asked: false, format: Format::Text, dir }
    }

    #[test]
    fn the_audit_file_is_its_owners_alone_and_appended_to() {
        let folder = Folder::new("append");
        let path = folder.0.join("audit.jsonl");
        fs::write(&path, "{}\n").expect("written");
        fs::remove_file(&path).expect("removed");
        for _ in 0..2 {
            let sinks =
                Sinks::open(&quiet(Some(folder.0.clone())), Some(&path), None).expect("opened");
            let recorder = Recorder::start(sinks, session()).expect("threads");
            let dropped = Decision::Dropped { proto: "udp", code: Code::NoRule, host: None };
            drop(recorder.decide(&subject(Door::Kernel), dropped));
            assert!(recorder.flush(PATIENCE));
        }
        assert_eq!(fs::read_to_string(&path).expect("text").lines().count(), 4);
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_link_is_never_followed() {
        let folder = Folder::new("link");
        let victim = folder.0.join("victim");
        fs::write(&victim, "untouched").expect("written");
        let path = folder.0.join("audit.jsonl");
        symlink(&victim, &path).expect("a link");
        let error =
            Sinks::open(&quiet(Some(folder.0.clone())), Some(&path), None).expect_err("refused");
        assert!(error.to_string().contains("audit.jsonl"), "{error}");
        assert_eq!(fs::read_to_string(&victim).expect("text"), "untouched");
    }

    #[test]
    fn a_pipe_is_refused_at_once_with_or_without_a_reader() {
        let folder = Folder::new("pipe");
        let path = folder.0.join("audit.jsonl");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        Sinks::open(&quiet(None), Some(&path), None).expect_err("no reader");
        let reader = fs::OpenOptions::new().read(true).write(true).open(&path).expect("a reader");
        let error = Sinks::open(&quiet(None), Some(&path), None).expect_err("a pipe");
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
        drop(reader);
    }

    #[test]
    fn a_device_that_takes_everything_is_fine() {
        let sinks = Sinks::open(&quiet(None), Some("/dev/null".as_ref()), None).expect("opened");
        let recorder = Recorder::start(sinks, session()).expect("threads");
        assert!(recorder.flush(PATIENCE));
    }

    #[test]
    fn the_log_folder_is_made_and_its_file_named_for_time_and_process() {
        let folder = Folder::new("made");
        let dir = folder.0.join("a/b");
        let sinks = Sinks::open(&quiet(Some(dir.clone())), None, None).expect("opened");
        sinks.log.say(Said::Line(Line {
            time: Timestamp::UNIX_EPOCH,
            level: Level::WARN,
            message: "m".to_owned(),
            fields: Vec::new(),
        }));
        let entry = fs::read_dir(&dir).expect("a folder").next().expect("a file").expect("read");
        let name = entry.file_name().into_string().expect("text");
        let pattern = format!("boundary-0000-00-00_00-00-00-{}.log", std::process::id());
        assert_eq!(name.len(), pattern.len(), "{name}");
        let alike = |(c, p): (char, char)| c == p || (p == '0' && c.is_ascii_digit());
        assert!(name.chars().zip(pattern.chars()).all(alike), "{name}");
        assert!(fs::read_to_string(entry.path()).expect("text").ends_with("level=WARN msg=m\n"));
    }
}
