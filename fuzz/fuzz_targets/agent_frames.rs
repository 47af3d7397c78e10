//! What goes to a workspace agent: every frame is one that a reader takes, and a second reader finds
//! every request in them, once and in order, and cut off only where it cannot fit.

#![no_main]

use boundary::audit::fuzzing::frames;
use boundary_fuzz::protobuf::{Field, fields};
use libfuzzer_sys::fuzz_target;

/// The longest payload that a reader takes.
const LONGEST: usize = 1 << 15;

/// A request, and how often each of its texts is said over again: no input is as long as a URL can be.
type Made<'a> = (&'a str, &'a str, &'a str, [u8; 3]);

fuzz_target!(|made: (&str, &str, bool, Vec<Made<'_>>, (i64, i64))| {
    let (session, process, is_first_form, requests, dropped) = made;
    let process: String = process.chars().take(1024).collect();
    let long = |text: &str, times: u8| text.repeat(usize::from(times).pow(2).max(1));
    let requests: Vec<_> = requests
        .into_iter()
        .take(32)
        .map(|(method, url, rule, times)| {
            (long(method, times[0] / 64), long(url, times[1]), long(rule, times[2] / 8))
        })
        .collect();
    let session: String = session.chars().take(64).collect();
    let who = (session.clone(), process.clone());
    let said = frames(who, is_first_form, requests.clone(), dropped);
    let mut heard = Vec::new();
    let mut rest = &said[..];
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let head = u32::from_be_bytes(*head);
        let (tag, length) = (head >> 24, (head & 0x00ff_ffff) as usize);
        assert_eq!(tag, if is_first_form { 1 } else { 2 });
        assert!(length <= LONGEST, "no reader takes {length} bytes");
        let (payload, after) = after.split_at(length);
        rest = after;
        let report = match (is_first_form, &fields(payload)[..]) {
            (true, _) => payload,
            (false, [(1, Field::Bytes(report))]) => report,
            (false, [(2, Field::Bytes(_))]) => continue,
            (false, other) => panic!("an envelope with {other:?}"),
        };
        for (number, field) in fields(report) {
            match (number, field) {
                (1, Field::Bytes(log)) => heard.push(log.to_vec()),
                (2, Field::Bytes(text)) => assert_eq!(text, session.as_bytes()),
                (3, Field::Bytes(text)) => assert_eq!(text, process.as_bytes()),
                (number, field) => panic!("field {number}: {field:?}"),
            }
        }
    }
    assert!(rest.is_empty(), "behind the last frame");
    assert_eq!(heard.len(), requests.len(), "each request once");
    for ((log, request), number) in heard.iter().zip(&requests).zip(0..) {
        check(log, request, number);
    }
});

/// Holds one log against the request that it tells of.
fn check(log: &[u8], (method, url, rule): &(String, String, String), number: u64) {
    let log = fields(log);
    let told = log.iter().find_map(|field| match field {
        (4, Field::Number(told)) => Some(*told),
        _ => None,
    });
    assert_eq!(told.unwrap_or(0), number);
    let request = log.iter().find_map(|field| match field {
        (3, Field::Bytes(request)) => Some(fields(request)),
        _ => None,
    });
    let request = request.expect("a log has a request");
    let text = |wanted: u64| {
        let found = request.iter().find_map(|field| match field {
            (number, Field::Bytes(text)) if *number == wanted => Some(*text),
            _ => None,
        });
        std::str::from_utf8(found.unwrap_or_default()).expect("text")
    };
    let fits = method.len() + url.len() + rule.len() < LONGEST / 2;
    for (said, meant) in [(text(1), method), (text(2), url), (text(3), rule)] {
        assert!(meant.starts_with(said), "other text");
        assert!(!fits || meant == said, "cut off without need");
    }
}
