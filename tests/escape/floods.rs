//! F-13: clients that are slow, endless or too many, upstreams too. That connection ends and says
//! why, the others are served meanwhile, and the proxy needs no more memory than it may.

use std::fs;

use serde_json::Value;

use super::stalled::{go_on, of_boundary};
use crate::world::World;
use crate::world::needs::needs;

/// What the proxy may need at its worst, in KiB. It idles at a fifth of that.
const MOST: u64 = 64 * 1024;

/// Bounds at which a test need not wait long, and a policy.
const OPTIONS: [&str; 12] = [
    "--proxy-port",
    "18080",
    "--allow",
    "domain=allowed.test",
    "--limit",
    "head_time=1s",
    "--limit",
    "handshake_time=1s",
    "--limit",
    "idle=1s",
    "--limit",
    "linger=500ms",
];

/// The error of HTTP/2 that asks for calm.
const CALM: u64 = 11;

/// What a flood found, how often the record refuses, and the most memory that the proxy had.
struct Flood {
    kind: String,
    found: Value,
    refused: usize,
    peak: u64,
}

impl Flood {
    /// Runs one, and holds it against what must be so of every one.
    fn run(kind: &str) -> Self {
        let world = World::new();
        let script = world.file("flood.py", include_str!("flood.py"));
        let script = script.to_str().expect("our own name");
        let line = "/usr/bin/python3 $1 $2; $0 signals 1";
        let command = ["sh", "-c", line, world.attack(), script, kind];
        let session = world.boundary(&OPTIONS, &command).start();
        session.wait_for("ready");
        let status = format!("/proc/{}/status", of_boundary(&world, "boundary-proxy"));
        let status = fs::read_to_string(status).expect("it lives");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        go_on(&world);
        let out = session.finish();
        let found = out.findings().first().cloned().unwrap_or_default();
        let refused = out.records.iter().filter(|it| it["decision"] == "deny").count();
        let flood = Self { kind: kind.to_owned(), found, refused, peak: peak.unwrap_or(u64::MAX) };
        out.expect(flood.found["failed"].is_null(), &format!("{kind}: the neighbour is served"));
        let slowest = flood.found["slowest"].as_f64().unwrap_or(f64::MAX);
        out.expect(slowest < 5.0, &format!("{kind}: and soon, not in {slowest} s"));
        out.expect(flood.peak < MOST, &format!("{kind}: {} KiB are too much", flood.peak));
        eprintln!("{kind}: {} KiB at most, {}", flood.peak, flood.found);
        flood
    }

    /// So many connections ended, and each was told this; each is on record.
    #[track_caller]
    fn ended(&self, count: u64, told: Option<u64>) {
        assert_eq!(self.found["ended"], count, "{}: {}", self.kind, self.found);
        let words: Vec<u64> =
            self.found["told"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        match told {
            Some(told) => {
                assert!(words.contains(&told), "{}: {}", self.kind, self.found);
                assert!(words.iter().all(|word| *word == told), "{}: {}", self.kind, self.found);
            }
            None => assert!(words.is_empty(), "{}: {}", self.kind, self.found),
        }
        assert!(self.refused > 0, "{}: nothing is on record", self.kind);
    }
}

#[test]
fn f13_a_crowd_that_does_not_go_on_is_ended() {
    needs!(root, bpf, python3);
    Flood::run("slow_head").ended(100, Some(408));
    Flood::run("slow_connect").ended(100, Some(408));
    Flood::run("slow_greeting").ended(100, None);
    Flood::run("slow_preface").ended(100, None);
}

#[test]
fn f13_a_body_that_does_not_go_on_ends_with_its_request() {
    needs!(root, bpf, python3);
    for kind in ["slow_body", "slow_chunk"] {
        Flood::run(kind).ended(100, Some(408));
    }
}

#[test]
fn f13_a_head_that_never_ends_is_too_long() {
    needs!(root, bpf, python3);
    Flood::run("long_head").ended(1, Some(431));
    Flood::run("many_fields").ended(1, Some(431));
    Flood::run("long_chunk_line").ended(1, Some(431));
    Flood::run("long_trailers").ended(1, Some(431));
}

#[test]
fn f13_requests_in_a_row_are_taken_as_they_are_answered() {
    needs!(root, bpf, python3);
    let flood = Flood::run("pipelined");
    assert_eq!(flood.found["told"], serde_json::json!([20_001, 200]), "{}", flood.found);
    let flood = Flood::run("unread");
    assert_eq!(flood.found["ended"], 5, "who does not read is not heard: {}", flood.found);
}

#[test]
fn f13_frames_that_carry_nothing_are_counted() {
    needs!(root, bpf, python3);
    for kind in [
        "resets",
        "continuations",
        "empty_continuations",
        "pings",
        "settings",
        "priorities",
        "updates",
        "empty_data",
        "unknown",
    ] {
        Flood::run(kind).ended(1, Some(CALM));
    }
}

#[test]
fn f13_fields_that_dawdle_or_swell_end_their_connection() {
    needs!(root, bpf, python3);
    Flood::run("slow_fields").ended(1, Some(CALM));
    // A window beyond its bound is an error of flow control.
    Flood::run("overflow").ended(1, Some(3));
    let flood = Flood::run("bomb");
    assert_eq!(flood.found["ended"], 1, "{}", flood.found);
}

#[test]
fn f13_answers_that_nobody_takes_wait_upstream() {
    needs!(root, bpf, python3);
    Flood::run("held");
}
