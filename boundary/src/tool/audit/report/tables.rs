//! What was denied, and who was asked.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::ledger::{Bytes, Ledger, Refusal, Refused, Verdicts};
use super::page::{bar, number, said};
use crate::rules::{Code, quoted};
use crate::tool::audit::size;

/// How many rows a table has at the most. Who needs all has `boundary audit show`.
const ROWS: usize = 100;

/// Every kind of refusal with the rule that would permit it.
pub(super) fn denied(ledger: &Ledger, zone: &TimeZone) -> Markup {
    let mut all: Vec<_> = ledger.refusals.iter().collect();
    all.sort_by_key(|(_, refused)| std::cmp::Reverse(refused.count));
    html! {
        section aria-labelledby="denied" {
            h2 #denied { "What was denied" }
            @if all.is_empty() {
                p.faint { "Nothing." }
            } @else {
                p.faint { "With the rule that would permit it and as little else as a rule can say, "
                    "where one could. Whether it should be permitted is yours to judge." }
                table.cards {
                    thead { tr {
                        th scope="col" { "Asked for" } th scope="col" { "Why, and what would permit it" }
                        th scope="col" { "By" } th.n scope="col" { "Times" } th scope="col" { "Last" }
                    } }
                    tbody { @for (refusal, refused) in all.iter().take(ROWS) {
                        (refused_row(refusal, refused, zone))
                    } }
                }
                (rest(all.len()))
            }
        }
    }
}

/// A kind of refusal.
fn refused_row(refusal: &Refusal, refused: &Refused, zone: &TimeZone) -> Markup {
    let time =
        |time: Timestamp| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let last = refused.last.map(time);
    html! {
        tr {
            td.name data-name="Asked for" {
                (said(&refusal.proto)) " " (said(&refusal.place))
                @if let Some(url) = &refused.url { span.why { (said(url)) } }
            }
            td.wide data-name="Why" {
                span.tag.deny { (said(&refusal.code)) }
                @if let Some(meaning) = meaning(&refusal.code) { span.why { (meaning) } }
                @if let Some(rule) = &refusal.remedy {
                    code { "--allow " (said(&quoted(rule))) }
                } @else {
                    span.why { "No rule permits this." }
                }
            }
            td.by data-name="By" {
                @for (index, name) in refused.by.iter().enumerate() {
                    @if index > 0 { ", " } (said(name))
                }
            }
            td.n data-name="Times" { (number(refused.count)) }
            td data-name="Last" { @if let Some(last) = last { time { (last) } } }
        }
    }
}

/// What a code means, if it is one of ours.
fn meaning(code: &str) -> Option<&'static str> {
    let known = Code::ALL.into_iter().find(|it| it.as_str() == code);
    known.map(Code::meaning)
}

/// Who was asked most, and who carried most.
pub(super) fn hosts(ledger: &Ledger) -> Markup {
    let mut by_requests: Vec<_> = ledger.hosts.iter().collect();
    by_requests.sort_by_key(|(_, (verdicts, _))| std::cmp::Reverse(verdicts.sum()));
    let mut by_bytes: Vec<_> = ledger.hosts.iter().filter(|(_, (_, it))| it.sum() > 0).collect();
    by_bytes.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(bytes.sum()));
    html! {
        section aria-labelledby="hosts" {
            h2 #hosts { "Hosts" }
            @if by_requests.is_empty() {
                p.faint { "None was asked for." }
            } @else {
                h3 { "By requests" }
                (requests_table(&by_requests))
                (rest(by_requests.len()))
            }
            @if !by_bytes.is_empty() {
                h3 { "By bytes" }
                (bytes_table(&by_bytes))
                (rest(by_bytes.len()))
            }
        }
    }
}

/// Hosts with their verdicts.
fn requests_table(rows: &[(&String, &(Verdicts, Bytes))]) -> Markup {
    let most = rows.first().map_or(0, |(_, (verdicts, _))| verdicts.sum());
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Host" } th.n scope="col" { "Allowed" } th.n scope="col" { "Denied" }
                th scope="col" { "Share" }
            } }
            tbody { @for (host, (verdicts, _)) in rows.iter().take(ROWS) { tr {
                td.name data-name="Host" { (said(host)) }
                td.n data-name="Allowed" { (number(verdicts.allowed)) }
                td.n data-name="Denied" { (number(verdicts.denied)) }
                td.share { (bar(&[(verdicts.allowed, "allow"), (verdicts.denied, "deny")], most)) }
            } } }
        }
    }
}

/// Hosts with what they carried.
fn bytes_table(rows: &[(&String, &(Verdicts, Bytes))]) -> Markup {
    let most = rows.first().map_or(0, |(_, (_, bytes))| bytes.sum());
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Host" } th.n scope="col" { "Sent" } th.n scope="col" { "Received" }
                th scope="col" { "Share" }
            } }
            tbody { @for (host, (_, bytes)) in rows.iter().take(ROWS) { tr {
                td.name data-name="Host" { (said(host)) }
                td.n data-name="Sent" { (size(bytes.up)) }
                td.n data-name="Received" { (size(bytes.down)) }
                td.share { (bar(&[(bytes.sum(), "mark")], most)) }
            } } }
        }
    }
}

/// What is not shown.
fn rest(count: usize) -> Markup {
    html! {
        @if count > ROWS {
            p.faint { "And " (count - ROWS) " more; " code { "boundary audit show" } " has all." }
        }
    }
}
