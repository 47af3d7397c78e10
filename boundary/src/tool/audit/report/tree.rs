//! Who asked, below who started them.

use maud::{Markup, html};

use super::ledger::{Ledger, Node, Verdicts};
use super::page::{number, said};

/// How many hosts of a process are named.
const HOSTS: usize = 12;
/// How many numbers of processes are named.
const NUMBERS: usize = 6;

/// The tree.
pub(super) fn tree(ledger: &Ledger) -> Markup {
    html! {
        section aria-labelledby="processes" {
            h2 #processes { "Processes" }
            @if ledger.tree.children.is_empty() {
                p.faint { "None asked for anything." }
            } @else {
                p.faint { "Who asked for what, below who started them. Processes of one name below "
                    "the same others are one entry." }
                ul.tree { @for (name, node) in &ledger.tree.children { (entry(name, node)) } }
            }
        }
    }
}

/// A process with those that it started.
fn entry(name: &str, node: &Node) -> Markup {
    html! {
        li {
            details open {
                summary {
                    strong { (said(name)) } " " span.faint { (numbers(node)) } " "
                    (verdicts(node.whole()))
                }
                @if !node.hosts.is_empty() || !node.exes.is_empty() { (own(node)) }
                @if !node.children.is_empty() {
                    ul { @for (name, child) in &node.children { (entry(name, child)) } }
                }
            }
        }
    }
}

/// What it asked for itself.
fn own(node: &Node) -> Markup {
    let mut hosts: Vec<_> = node.hosts.iter().collect();
    hosts.sort_by_key(|(_, verdicts)| std::cmp::Reverse(verdicts.sum()));
    html! {
        div.hosts {
            @for exe in &node.exes { div.faint { (said(exe)) } }
            @for (host, count) in hosts.iter().take(HOSTS) {
                div { (said(host)) " " (verdicts(**count)) }
            }
            @if hosts.len() > HOSTS { div.faint { "and " (hosts.len() - HOSTS) " more hosts" } }
        }
    }
}

/// The numbers of the processes, or how many there were.
fn numbers(node: &Node) -> String {
    if node.pids.len() > NUMBERS {
        return format!("{} processes", node.pids.len());
    }
    node.pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Both verdicts in words, so that colour is not all there is.
fn verdicts(count: Verdicts) -> Markup {
    html! {
        @if count.allowed > 0 { span.tag.allow { (number(count.allowed)) " allowed" } " " }
        @if count.denied > 0 { span.tag.deny { (number(count.denied)) " denied" } }
    }
}
