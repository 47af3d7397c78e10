//! The table of `docs/rules.md`, run.

use super::super::DomainMatch;
use super::{Verdict, verdict};

#[test]
fn every_verdict_in_the_document_is_given() {
    let document = include_str!("../../../../docs/rules.md");
    let mut rows = 0;
    for line in document.lines() {
        let cells: Vec<&str> =
            line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let &[rules, request, said, ..] = cells.as_slice() else { continue };
        let expected = match said {
            "allow" => Verdict::Allow,
            "deny" => Verdict::Deny,
            "mistake" => Verdict::Reject,
            _ => continue,
        };
        let request = request.trim_matches('`');
        let (method, url) = request.split_once(' ').unwrap_or(("GET", request));
        let given = verdict(rules.trim_matches('`'), method, url, DomainMatch::default());
        assert_eq!(given, expected, "{line}");
        rows += 1;
    }
    assert!(rows >= 40, "only {rows} rows were found");
}
