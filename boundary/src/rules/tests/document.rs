//! The documents, held against the code: the table of `docs/rules.md`, the codes of `docs/denials.md`.

use super::super::{Code, DomainMatch};
use super::{Verdict, verdict};
use crate::audit::OnError;

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

#[test]
fn every_code_is_explained_in_its_own_words_and_no_other_is() {
    let document = include_str!("../../../../docs/denials.md");
    let sections = document.split("\n## `").skip(1).filter_map(|section| section.split_once('`'));
    let sections: Vec<(&str, &str)> = sections.collect();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(sections.iter().map(|(code, _)| *code).collect::<Vec<_>>(), codes);
    for (code, (_, text)) in Code::ALL.iter().zip(sections) {
        assert!(text.contains(code.meaning()), "{}", code.as_str());
        assert!(text.contains("**What to do.**"), "{}", code.as_str());
    }
    for after in document.split("`audit_on_error: ").skip(1) {
        let (value, _) = after.split_once('`').unwrap();
        value.parse::<OnError>().unwrap_or_else(|error| panic!("{value}: {error}"));
    }
}
