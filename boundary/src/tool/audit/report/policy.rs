//! Under what it was decided, and in which sessions.

use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::ledger::{Ledger, Policy, Session};
use super::page::{number, said};
use crate::tool::audit::size;

/// The policies that were in force.
pub(super) fn policies(ledger: &Ledger) -> Markup {
    html! {
        section aria-labelledby="policy" {
            h2 #policy { "Policy" }
            @if ledger.policies.is_empty() {
                p.faint { "The files do not have the beginning of a session, which says what was in force." }
            }
            @for policy in &ledger.policies { (in_force(policy)) }
        }
    }
}

/// One of them.
fn in_force(policy: &Policy) -> Markup {
    let sessions = policy.sessions;
    let others = policy.used.iter().filter(|(rule, _)| !policy.rules.contains(rule));
    let others: Vec<_> = others.collect();
    html! {
        p.faint {
            "In force in " (number(sessions)) @if sessions == 1 { " session" } @else { " sessions" }
            ". What no rule permits is denied."
            @if policy.domain_match == "exact" { " " code { "domain=" } " stands for that name alone." }
        }
        @if policy.rules.is_empty() {
            p { "No rule: everything was denied." }
        } @else {
            ol.rules { @for rule in &policy.rules {
                @let used = policy.used.get(rule).copied().unwrap_or(0);
                li { code { (said(rule)) } " "
                    @if used == 0 { span.faint { "permitted nothing" } }
                    @else { span.tag.allow { "permitted " (number(used)) } } }
            } }
        }
        @if !others.is_empty() {
            p.faint { "Added during the session, or narrowed by a session inside:" }
            ul.rules { @for (rule, used) in others {
                li { code { (said(rule)) } " " span.tag.allow { "permitted " (number(*used)) } }
            } }
        }
    }
}

/// The sessions.
pub(super) fn sessions(ledger: &Ledger, zone: &TimeZone) -> Markup {
    html! {
        section aria-labelledby="sessions" {
            h2 #sessions { "Sessions" }
            table.cards {
                thead { tr {
                    th scope="col" { "Session" } th scope="col" { "From" } th scope="col" { "Jail" }
                    th.n scope="col" { "Allowed" } th.n scope="col" { "Denied" }
                    th.n scope="col" { "Sent" } th.n scope="col" { "Received" }
                    th.n scope="col" { "Processor" } th.n scope="col" { "Memory" }
                } }
                tbody { @for (id, session) in &ledger.sessions { (row(id, session, zone)) } }
            }
        }
    }
}

/// One of them.
fn row(id: &str, session: &Session, zone: &TimeZone) -> Markup {
    let start = session.start.as_deref();
    let end = session.end.as_deref();
    let word = |field: Option<&String>| said(field.map_or("", String::as_str));
    let from = session
        .first
        .map(|time| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string());
    let cpu =
        end.and_then(|end| end.cpu_ms).map(|cpu| format!("{}.{} s", cpu / 1000, cpu % 1000 / 100));
    let memory = end.and_then(|end| end.memory_peak).map(size);
    html! {
        tr {
            td.name data-name="Session" {
                (word(start.and_then(|it| it.command.as_ref())))
                span.why { (said(id)) }
                @for label in start.into_iter().flat_map(|it| [&it.owner, &it.workspace_name]).flatten() {
                    span.why { (said(label)) }
                }
                @if session.lost > 0 { span.tag.deny { (number(session.lost)) " records lost" } }
                @if end.is_none() { span.why { "no last record" } }
            }
            td data-name="From" { @if let Some(from) = from { time { (from) } } }
            td data-name="Jail" { (word(start.and_then(|it| it.jail.as_ref()))) }
            td.n data-name="Allowed" { (number(session.verdicts.allowed)) }
            td.n data-name="Denied" { (number(session.verdicts.denied)) }
            td.n data-name="Sent" { (size(session.bytes.up)) }
            td.n data-name="Received" { (size(session.bytes.down)) }
            td.n data-name="Processor" { (cpu.unwrap_or_default()) }
            td.n data-name="Memory" { (memory.unwrap_or_default()) }
        }
    }
}
