//! The published vectors, and agents that come late, go, stall, or know only the first form.

use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use jiff::Timestamp;
use uuid::Uuid;

use super::message::{Logs, MAX_PAYLOAD, Status, Tag, status};
use super::*;
use crate::audit::record::Record;
use crate::audit::{Decision, Door, Subject};
use crate::rules::{Asked, Code, Denial, DomainMatch, Host, Intent, RuleSet, Scheme};

const ID: &str = "e5f6a7b8-c9d0-4e1f-8a2b-3c4d5e6f7a8b";

/// The payload of two logs, as the reference has it.
const TWO: &str = "0a4a0801120b0880e2cfaa0610959aef3a1a390a03474554121c68747470733a2f2f6465762e636f\
                   6465722e636f6d2f6170692f76321a14646f6d61696e3d6465762e636f6465722e636f6d0a2e1206\
                   0881e2cfaa061a220a04504f5354121a68747470733a2f2f6576696c2e6578616d706c652e636f6d\
                   2f782001122465356636613762382d633964302d346531662d386132622d33633464356536663761\
                   3862";

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text");
        text
    })
}

fn session() -> Session {
    Session { id: ID.parse().expect("an id"), query: true, ..Session::default() }
}

fn record(sequence: u64, method: &str, host: &str, target: &str, time: &str) -> Arc<Record> {
    let rule = "domain=dev.coder.com".parse().expect("a rule");
    let host = Host::parse(host).expect("a host");
    let intent = Intent::http(Scheme::Https, method, host, 443, target).expect("an intent");
    let decision = match RuleSet::new(vec![rule], DomainMatch::Subdomains).decide(intent) {
        Ok(permit) => Decision::Allow(permit),
        Err(denial) => Decision::Deny(denial),
    };
    let subject = Subject { door: Door::Redirect, process: None, target: None };
    let mut record = Record::opening(&Arc::new(session()), &subject, decision);
    record.sequence = Some(sequence);
    record.event_time = time.parse().expect("a time");
    Arc::new(record)
}

fn two() -> Vec<Arc<Record>> {
    vec![
        record(0, "GET", "dev.coder.com", "/api/v2", "2023-11-14T22:13:20.123456789Z"),
        record(1, "POST", "evil.example.com", "/x", "2023-11-14T22:13:21Z"),
    ]
}

fn framed(tag: Tag, process: &str, records: &[Arc<Record>]) -> Vec<u8> {
    let mut frames = Vec::new();
    let logs = Logs::of(records);
    Reporter::new(ID, process).frames(tag, &logs, &mut frames);
    frames
}

#[test]
fn two_logs_are_the_published_bytes() {
    assert_eq!(hex(&framed(Tag::Message, "", &two())), format!("020000a50aa201{TWO}"));
}

#[test]
fn what_is_no_request_is_told_where_it_said_what_it_asks_for() {
    let place = Asked::of(Scheme::Https, Host::parse("evil.example.com").expect("a host"), 443);
    let said = place.clone().with_line("POST", "/x");
    let subject = Subject { door: Door::Redirect, process: None, target: None };
    let records = [place, said].map(|asked| {
        let denial = Denial::new(Code::BadRequest).asking(|| Some(asked));
        let session = Arc::new(session());
        let mut record = Record::opening(&session, &subject, Decision::Deny(denial));
        record.sequence = Some(1);
        record.event_time = "2023-11-14T22:13:21Z".parse().expect("a time");
        Arc::new(record)
    });
    assert_eq!(framed(Tag::Bare, "", &records), framed(Tag::Bare, "", &two()[1..]));
}

#[test]
fn two_logs_in_the_first_form_are_the_bare_request() {
    assert_eq!(hex(&framed(Tag::Bare, "", &two())), format!("010000a2{TWO}"));
}

#[test]
fn the_programs_name_is_the_third_field() {
    let frame = hex(&framed(Tag::Message, "claude", &two()));
    assert!(frame.starts_with("020000ad0aaa01"), "{frame}");
    assert!(frame.ends_with("1a06636c61756465"), "{frame}");
}

#[test]
fn what_was_dropped_is_the_published_bytes_and_unknown_to_the_first_form() {
    let dropped = Status { channel_full: 3, batch_full: 2 };
    let mut frame = Vec::new();
    status(Tag::Message, dropped, &mut frame);
    assert_eq!(hex(&frame), "02000006120408031002");
    status(Tag::Bare, dropped, &mut frame);
    assert_eq!(frame.len(), 10);
}

/// The payloads of frames; each has to be one that a reader takes.
fn payloads(mut frames: &[u8], tag: u8) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some((head, rest)) = frames.split_first_chunk::<4>() {
        assert_eq!(head[0], tag);
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        assert!(length <= MAX_PAYLOAD, "{length}");
        payloads.push(rest[..length].to_vec());
        frames = &rest[length..];
    }
    payloads
}

#[test]
fn a_batch_that_is_too_long_becomes_several_in_order() {
    let long = format!("/{}", "x".repeat(9000));
    let time = "2023-11-14T22:13:20Z";
    let logs: Vec<_> = (0..10).map(|it| record(it, "GET", "dev.coder.com", &long, time)).collect();
    for (tag, number) in [(Tag::Message, 2), (Tag::Bare, 1)] {
        let payloads = payloads(&framed(tag, "claude", &logs), number);
        assert_eq!(payloads.len(), 4, "{tag:?}");
        let urls: usize = payloads.iter().map(|it| hex(it).matches("782f78").count()).sum();
        assert_eq!(urls, 0);
    }
}

#[test]
fn a_log_that_is_too_long_loses_the_end_of_its_url_and_nothing_else() {
    for length in [MAX_PAYLOAD - 200, MAX_PAYLOAD - 100, MAX_PAYLOAD, 3 * MAX_PAYLOAD] {
        let long = format!("/{}", "x".repeat(length));
        let one = record(7, "GET", "dev.coder.com", &long, "2023-11-14T22:13:20Z");
        let payloads = payloads(&framed(Tag::Message, "claude", &[one]), 2);
        assert_eq!(payloads.len(), 1, "{length}");
        let text = String::from_utf8_lossy(&payloads[0]);
        assert!(text.contains("domain=dev.coder.com") && text.contains("claude"), "{length}");
        assert!(payloads[0].len() > MAX_PAYLOAD - 400, "{}", payloads[0].len());
    }
}

/// A place for a socket, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("boundary-agent-{}.sock", Uuid::new_v4())))
    }

    fn listen(&self) -> UnixListener {
        drop(std::fs::remove_file(&self.0));
        UnixListener::bind(&self.0).expect("a socket")
    }

    fn agent(&self) -> Agent {
        let forward = Forward { socket: self.0.clone(), is_named: true };
        Agent::start(forward, &session()).expect("a thread")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn one(sequence: u64) -> Arc<Record> {
    let now = Timestamp::UNIX_EPOCH.to_string();
    record(sequence, "GET", "dev.coder.com", &format!("/{sequence}/"), &now)
}

/// Reads one frame whole: its tag and its payload.
fn frame(stream: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[0], payload))
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Which of the numbered requests a payload holds.
fn numbers(payload: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(payload).into_owned();
    let urls = text.split("https://dev.coder.com/").skip(1);
    urls.filter_map(|url| url.split('/').next()?.parse().ok()).collect()
}

#[test]
fn ten_make_a_batch_and_what_is_left_goes_at_the_end() {
    let place = Place::new();
    let listener = place.listen();
    let agent = place.agent();
    (0..13).for_each(|number| agent.push(one(number)));
    let (mut stream, _) = listener.accept().expect("a connection");
    let (tag, first) = frame(&mut stream).expect("a frame");
    assert_eq!((tag, numbers(&first)), (2, (0..10).collect()));
    agent.close(PATIENCE);
    let rest = frame(&mut stream).expect("a frame").1;
    assert_eq!(numbers(&rest), [10, 11, 12]);
    agent.wait();
    assert_eq!(agent.lost(), 0);
}

#[test]
fn a_single_request_waits_no_longer_than_the_batch_may_gather() {
    let place = Place::new();
    let listener = place.listen();
    let agent = place.agent();
    agent.push(one(0));
    let (mut stream, _) = listener.accept().expect("a connection");
    assert_eq!(numbers(&frame(&mut stream).expect("a frame").1), [0]);
}

#[test]
fn an_agent_that_comes_late_gets_all() {
    let place = Place::new();
    let agent = place.agent();
    (0..25).for_each(|number| agent.push(one(number)));
    let listener = place.listen();
    let (mut stream, _) = listener.accept().expect("a connection");
    agent.close(PATIENCE);
    let mut got = Vec::new();
    while got.len() < 25 {
        got.extend(numbers(&frame(&mut stream).expect("a frame").1));
    }
    assert_eq!(got, (0..25).collect::<Vec<_>>());
    agent.wait();
    assert_eq!(agent.lost(), 0);
}

#[test]
fn an_agent_that_hangs_up_on_the_second_form_gets_the_first() {
    let place = Place::new();
    let listener = place.listen();
    let agent = place.agent();
    (0..10).for_each(|number| agent.push(one(number)));
    for read_all in [false, true] {
        let (mut old, _) = listener.accept().expect("a connection");
        if read_all {
            // An agent that had read the whole frame before it looked at the tag.
            let (tag, payload) = frame(&mut old).expect("a frame");
            assert_eq!((tag, numbers(&payload).len()), (1, 10));
            agent.close(PATIENCE);
            agent.wait();
        } else {
            let mut head = [0; 4];
            old.read_exact(&mut head).expect("a head");
            assert_eq!(head[0], 2);
        }
    }
    assert_eq!(agent.lost(), 0);
}

#[test]
fn what_an_agent_had_not_read_when_it_went_is_sent_to_the_next() {
    let place = Place::new();
    let listener = place.listen();
    let agent = place.agent();
    (0..40).for_each(|number| agent.push(one(number)));
    let (mut first, _) = listener.accept().expect("a connection");
    let mut got = numbers(&frame(&mut first).expect("a frame").1);
    drop((first, listener));
    let listener = place.listen();
    let (mut second, _) = listener.accept().expect("a connection");
    agent.close(PATIENCE);
    while got.last() != Some(&39) {
        got.extend(numbers(&frame(&mut second).expect("a frame").1));
    }
    agent.wait();
    got.sort_unstable();
    got.dedup();
    assert_eq!(got, (0..40).collect::<Vec<_>>());
    assert_eq!(agent.lost(), 0);
}

#[test]
fn what_does_not_fit_is_counted_and_told() {
    let place = Place::new();
    let agent = place.agent();
    let count = (BOUND + 2000) as u64;
    (0..count).for_each(|number| agent.push(one(number)));
    let dropped = agent.lost();
    assert!(dropped > 0);
    let listener = place.listen();
    let (mut stream, _) = listener.accept().expect("a connection");
    agent.close(PATIENCE);
    let (mut got, mut told) = (0, 0);
    while let Some((_, payload)) = frame(&mut stream) {
        // A status is short, and its first field is a number.
        if payload[0] == 0x12 {
            told = payload
                .iter()
                .skip(3)
                .enumerate()
                .fold(0, |sum, (at, byte)| sum | (u64::from(byte & 0x7f) << (7 * at)));
        } else {
            got += numbers(&payload).len() as u64;
        }
    }
    agent.wait();
    assert_eq!((told, got), (dropped, count - dropped));
    assert_eq!(agent.lost(), dropped);
}

#[test]
fn an_agent_that_reads_nothing_holds_up_neither_the_requests_nor_the_end() {
    let place = Place::new();
    let listener = place.listen();
    let agent = place.agent();
    let long = format!("/{}", "x".repeat(8000));
    let time = "2023-11-14T22:13:20Z";
    (0..2000).for_each(|it| agent.push(record(it, "GET", "dev.coder.com", &long, time)));
    let (stalled, _) = listener.accept().expect("a connection");
    agent.close(Duration::from_millis(300));
    agent.wait();
    assert_eq!(agent.lost(), 2000);
    drop(stalled);
}

#[test]
fn where_there_is_no_agent_nobody_waits_for_one_at_the_end() {
    let place = Place::new();
    let agent = place.agent();
    (0..3).for_each(|number| agent.push(one(number)));
    // Far longer than any test may take.
    agent.close(Duration::from_hours(1));
    agent.wait();
    assert_eq!(agent.lost(), 3);
}

#[test]
fn nobody_waits_for_an_agent_where_none_can_be() {
    let place = Place(PathBuf::from("/tmp").join("long/".repeat(30)));
    let agent = place.agent();
    agent.push(one(1));
    agent.close(Duration::from_hours(1));
    agent.wait();
    assert_eq!(agent.lost(), 1);
}
