//! The page as text: whole, safe, and true to the ledger.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::*;

/// The page for some records.
fn page_of(records: &[Value]) -> String {
    let mut ledger = Ledger::default();
    for record in records {
        ledger.take(serde_json::from_value(record.clone()).unwrap());
    }
    let now = "2026-05-01T12:00:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
    page(&ledger, &Sessions::default(), &now).into_string()
}

/// A refusal in which everything that the command chooses is this text.
fn denial(text: &str) -> Vec<Value> {
    let mut records = vec![json!({
        "event_time": "2026-05-01T11:00:00Z", "session_id": text, "event": "start", "jail": text,
        "command": text, "rules": [text], "domain_match": text, "version": text, "owner": text,
        "workspace_name": text,
    })];
    for decision in ["deny", "allow"] {
        records.push(json!({
            "event_time": "2026-05-01T11:00:00Z", "session_id": text, "sequence": 0,
            "decision": decision, "code": text, "proto": text, "http_method": text,
            "http_url": text, "host": text, "port": 443, "address": text, "pid": 7, "comm": text,
            "exe": text, "remedy": text, "matched_rule": text, "door": text,
            "parents": [{"pid": 6, "comm": text}],
        }));
    }
    records
}

#[test]
fn nothing_that_a_command_chooses_becomes_markup() {
    for hostile in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'><svg/onload=alert(1)>",
        "</style><style>*{display:none}",
        "</bdi></td></table>",
        "&lt;script&gt;",
    ] {
        let (page, plain) = (page_of(&denial(hostile)), page_of(&denial("plain")));
        let tags = |page: &str| page.matches('<').count();
        assert_eq!(tags(&page), tags(&plain), "{hostile}");
        assert!(!page.contains(hostile), "{hostile}");
    }
}

#[test]
fn what_is_to_be_pasted_into_a_shell_expands_nothing_there() {
    let page = page_of(&denial("path=/$(id)'"));
    assert!(page.contains(r"--allow <bdi>'path=/$(id)'\'''</bdi>"), "{page}");
}

#[test]
fn nothing_that_a_command_chooses_changes_the_direction_or_the_line() {
    let page = page_of(&denial("a\u{202e}b\u{1b}[31m\u{0}c\u{2066}"));
    assert!(!page.contains(['\u{202e}', '\u{1b}', '\u{0}', '\u{2066}']));
}

#[test]
fn the_page_refers_to_nothing_outside_and_runs_nothing() {
    let page = page_of(&denial("plain"));
    for word in ["<script", "src=", "@import", "url(", "style=", "<link", " onload", "http://"] {
        assert!(!page.contains(word), "{word}");
    }
    let links: Vec<_> = page.split("href=\"").skip(1).collect();
    assert!(!links.is_empty() && links.iter().all(|link| link.starts_with('#')));
    assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"));
}

#[test]
fn every_part_that_is_linked_is_there() {
    let page = page_of(&denial("plain"));
    for (id, _) in PARTS {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
}

#[test]
fn an_empty_record_makes_a_page_that_says_so() {
    let page = page_of(&[]);
    assert!(page.contains("There is nothing on record in these files."));
}

#[test]
fn thousands_stand_apart() {
    assert_eq!(number(0), "0");
    assert_eq!(number(999), "999");
    assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
}

#[test]
fn what_is_there_at_all_is_seen() {
    assert_eq!(scaled(0, 1_000_000, 1000), 0);
    assert_eq!(scaled(1, 1_000_000, 1000), 10);
    assert_eq!(scaled(u64::MAX, u64::MAX, 1000), 1000);
}
