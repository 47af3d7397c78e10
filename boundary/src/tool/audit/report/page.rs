//! The page as a whole: its frame, what it comes to, and what stands in which order.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, Zoned};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::ledger::Ledger;
use super::{policy, tables, timeline, tree};
use crate::audit::file::Sessions;
use crate::audit::printable;
use crate::tool::audit::size;

/// How the page looks.
const STYLE: &str = include_str!("style.css");

/// The parts, and what each is called in the address.
const PARTS: [(&str, &str); 6] = [
    ("timeline", "Timeline"),
    ("denied", "What was denied"),
    ("hosts", "Hosts"),
    ("processes", "Processes"),
    ("policy", "Policy"),
    ("sessions", "Sessions"),
];

/// The whole page.
pub(super) fn page(ledger: &Ledger, chain: &Sessions, now: &Zoned) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // Before anything that it is about.
                meta http-equiv="Content-Security-Policy" content=(content_policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "boundary: what was asked and what was answered" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#timeline" { "Skip to the timeline" }
                header { (head(ledger, now)) }
                main {
                    (sums(ledger))
                    (notes(ledger, chain))
                    (timeline::timeline(ledger, now.time_zone()))
                    (tables::denied(ledger, now.time_zone()))
                    (tables::hosts(ledger))
                    (tree::tree(ledger))
                    (policy::policies(ledger))
                    (policy::sessions(ledger, now.time_zone()))
                }
                footer {
                    p { "Made by boundary " (env!("CARGO_PKG_VERSION")) " on "
                        (moment(now.timestamp(), now)) ". This page loads nothing and runs nothing." }
                }
            }
        }
    }
}

/// Nothing is loaded and nothing runs; the one style is known by its hash.
fn content_policy() -> String {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'")
}

/// What it is about.
fn head(ledger: &Ledger, now: &Zoned) -> Markup {
    let count = ledger.sessions.len();
    html! {
        p.brand { "boundary audit report" }
        h1 { "What was asked, and what was answered" }
        p.faint {
            (count) @if count == 1 { " session" } @else { " sessions" }
            @if let Some((first, last)) = ledger.span() {
                ", " (moment(first, now)) " to " (moment(last, now))
            }
        }
        nav aria-label="Parts of this page" {
            ul { @for (id, name) in PARTS { li { a href={ "#" (id) } { (name) } } } }
        }
    }
}

/// A moment, to the second, in the reader's zone.
fn moment(time: Timestamp, now: &Zoned) -> String {
    let zoned = time.to_zoned(now.time_zone().clone());
    zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// What it came to.
fn sums(ledger: &Ledger) -> Markup {
    let denied_hosts = ledger.hosts.values().filter(|(verdicts, _)| verdicts.denied > 0).count();
    html! {
        dl.sums {
            div.allow { dt { "Allowed" } dd { (number(ledger.verdicts.allowed)) } }
            div.deny { dt { "Denied" } dd { (number(ledger.verdicts.denied)) } }
            div { dt { "Hosts asked for" } dd { (ledger.hosts.len()) } }
            div { dt { "Hosts denied" } dd { (denied_hosts) } }
            div { dt { "Sent" } dd { (size(ledger.bytes.up)) } }
            div { dt { "Received" } dd { (size(ledger.bytes.down)) } }
            div { dt { "Names asked" } dd { (number(ledger.questions)) } }
        }
    }
}

/// What a reader must know before believing the rest.
fn notes(ledger: &Ledger, chain: &Sessions) -> Markup {
    let (findings, torn) = (chain.findings.len(), chain.torn.len());
    let open = !chain.is_ended();
    html! {
        @if ledger.sessions.is_empty() {
            p.note.warn { "There is nothing on record in these files." }
        } @else if findings == 0 {
            p.note { "The chain of hashes is intact: every record follows from the one before it." }
        } @else {
            p.note.bad role="alert" {
                "The record was changed, or was not written in one piece: "
                (findings) @if findings == 1 { " place does" } @else { " places do" }
                " not follow from what is before. " code { "boundary audit verify" } " names each."
            }
        }
        @if ledger.lost > 0 {
            p.note.bad role="alert" {
                (number(ledger.lost)) " records could not be written and are missing here."
            }
        }
        @if torn > 0 { p.note.warn { (torn) " lines are no records and were passed over." } }
        @if open && !ledger.sessions.is_empty() {
            p.note.warn { "A session has no last record: it still runs, or was killed." }
        }
    }
}

/// A count with its thousands apart.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Text that the command chose: nothing in it moves what is around it.
pub(super) fn said(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

/// A share of the most as a bar; next to it the number stands in words.
pub(super) fn bar(parts: &[(u64, &'static str)], most: u64) -> Markup {
    let mut from = 0;
    let parts = parts.iter().map(|&(part, class)| {
        let start = from;
        from += scaled(part, most, 1000);
        (start, from - start, class)
    });
    let parts: Vec<_> = parts.collect();
    html! {
        svg.bar viewBox="0 0 1000 8" preserveAspectRatio="none" aria-hidden="true" {
            rect.well width="1000" height="8" {}
            @for (start, width, class) in parts {
                rect class=(class) x=(start) width=(width) height="8" {}
            }
        }
    }
}

/// A part of a whole on another scale; what is there at all stays visible.
pub(super) fn scaled(part: u64, whole: u64, scale: u64) -> u64 {
    let exact = u128::from(part) * u128::from(scale) / u128::from(whole.max(1));
    let length = u64::try_from(exact).unwrap_or(scale).min(scale);
    if part > 0 { length.max(scale / 100) } else { 0 }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
