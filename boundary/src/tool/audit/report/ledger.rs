//! The sums of a record.
//!
//! *Never*: keeps a record itself; a file of any size makes a page of some.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::audit::file::{Event, Saved};

/// How many kinds of process are told apart. A command can name itself as it likes, and often.
const MOST_NODES: usize = 2_000;
/// How many hosts, and how many refusals, are told apart.
const MOST_KEYS: usize = 50_000;

/// Allowed and denied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdicts {
    pub(super) allowed: u64,
    pub(super) denied: u64,
}

impl Verdicts {
    /// One more.
    fn count(&mut self, is_allowed: bool) {
        if is_allowed { self.allowed += 1 } else { self.denied += 1 }
    }

    /// All of them.
    pub(super) fn sum(self) -> u64 {
        self.allowed + self.denied
    }
}

/// Bytes in both directions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) up: u64,
    pub(super) down: u64,
}

impl Bytes {
    /// Adds what a decision carried.
    fn add(&mut self, closing: &Saved) {
        self.up = self.up.saturating_add(closing.bytes_up.unwrap_or(0));
        self.down = self.down.saturating_add(closing.bytes_down.unwrap_or(0));
    }

    /// Both.
    pub(super) fn sum(self) -> u64 {
        self.up.saturating_add(self.down)
    }
}

/// What refusals have in common that are shown as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) proto: String,
    /// The host or the address, with its port.
    pub(super) place: String,
    /// The rule that would permit it, if one could.
    pub(super) remedy: Option<String>,
}

/// Refusals that are shown as one.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) count: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    /// An example.
    pub(super) url: Option<String>,
    /// Names of the processes.
    pub(super) by: BTreeSet<String>,
}

/// Processes of one name below the same others.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) exes: BTreeSet<String>,
    pub(super) pids: BTreeSet<u32>,
    pub(super) verdicts: Verdicts,
    pub(super) hosts: BTreeMap<String, Verdicts>,
    pub(super) children: BTreeMap<String, Self>,
}

/// A policy, and what it came to.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) rules: Vec<String>,
    pub(super) domain_match: String,
    /// How often each rule granted something.
    pub(super) used: BTreeMap<String, u64>,
    pub(super) sessions: u64,
}

/// A session.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    pub(super) start: Option<Box<Saved>>,
    pub(super) end: Option<Box<Saved>>,
    pub(super) verdicts: Verdicts,
    pub(super) bytes: Bytes,
    pub(super) lost: u64,
    policy: Option<usize>,
    /// Those that it had, the present one too.
    policies: BTreeSet<usize>,
}

impl Session {
    /// Notes the policy that it has from a record on.
    fn enter(&mut self, policies: &mut Vec<Policy>, saved: &Saved) {
        let index = place_of(policies, saved);
        if self.policies.insert(index) {
            policies.iter_mut().skip(index).take(1).for_each(|policy| policy.sessions += 1);
        }
        self.policy = Some(index);
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) verdicts: Verdicts,
    /// Questions to the resolver; those that it answered count for nothing else.
    pub(super) questions: u64,
    pub(super) bytes: Bytes,
    pub(super) lost: u64,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) policies: Vec<Policy>,
    pub(super) hosts: BTreeMap<String, (Verdicts, Bytes)>,
    pub(super) refusals: BTreeMap<Refusal, Refused>,
    /// By second since the epoch.
    pub(super) seconds: BTreeMap<i64, Verdicts>,
    pub(super) tree: Node,
    nodes: usize,
    /// The hosts of decisions that have no end yet.
    open: HashMap<(String, u64), String>,
}

impl Ledger {
    /// Adds a record.
    pub(super) fn take(&mut self, saved: Saved) {
        self.note_time(&saved);
        if saved.is_closing() {
            self.close(&saved);
        } else if saved.is_opening() {
            self.decide(&saved);
        } else {
            self.note_session(saved);
        }
    }

    /// From when to when.
    pub(super) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let first = self.sessions.values().filter_map(|session| session.first).min()?;
        let last = self.sessions.values().filter_map(|session| session.last).max()?;
        Some((first, last))
    }

    /// How long the session lasts as far as is known.
    fn note_time(&mut self, saved: &Saved) {
        let session = self.sessions.entry(saved.session_id.clone()).or_default();
        let Some(time) = saved.event_time else { return };
        session.first = Some(session.first.map_or(time, |first| first.min(time)));
        session.last = Some(session.last.map_or(time, |last| last.max(time)));
    }

    /// Adds what is said of a session itself.
    fn note_session(&mut self, saved: Saved) {
        let known = self.sessions.entry(saved.session_id.clone()).or_default();
        match saved.event {
            // The beginning may be in a file that is gone.
            Some(Event::Continued) if known.start.is_some() => {}
            Some(Event::Start | Event::Continued) => {
                known.enter(&mut self.policies, &saved);
                known.start = Some(Box::new(saved));
            }
            Some(Event::Policy) => known.enter(&mut self.policies, &saved),
            Some(Event::End) => known.end = Some(Box::new(saved)),
            Some(Event::Lost) => {
                let lost = saved.dropped.or(saved.refusals_lost).unwrap_or(0);
                known.lost = known.lost.saturating_add(lost);
                self.lost = self.lost.saturating_add(lost);
            }
            Some(Event::Other) | None => {}
        }
    }

    /// Adds a decision.
    fn decide(&mut self, saved: &Saved) {
        let is_allowed = saved.decision.as_deref() == Some("allow");
        let is_question = saved.proto.as_deref() == Some("dns");
        self.questions += u64::from(is_question);
        // What asked for a name only is told by the connection that follows.
        if is_question && is_allowed {
            return;
        }
        self.verdicts.count(is_allowed);
        let session = self.sessions.entry(saved.session_id.clone()).or_default();
        session.verdicts.count(is_allowed);
        if let (Some(rule), Some(policy)) =
            (&saved.matched_rule, session.policy.and_then(|index| self.policies.get_mut(index)))
        {
            *policy.used.entry(rule.clone()).or_default() += 1;
        }
        if let Some(time) = saved.event_time {
            self.seconds.entry(time.as_second()).or_default().count(is_allowed);
        }
        let host = saved.host.clone().or_else(|| saved.address.clone());
        let host = host.unwrap_or_else(|| "unknown".to_owned());
        self.climb(saved, &host, is_allowed);
        let host = kept(&self.hosts, host);
        self.hosts.entry(host.clone()).or_default().0.count(is_allowed);
        if is_allowed {
            self.open.extend(saved.sequence.map(|at| ((saved.session_id.clone(), at), host)));
        } else {
            self.refuse(saved);
        }
    }

    /// Adds what became of a decision.
    fn close(&mut self, saved: &Saved) {
        let Some(sequence) = saved.sequence else { return };
        let Some(host) = self.open.remove(&(saved.session_id.clone(), sequence)) else { return };
        self.bytes.add(saved);
        self.sessions.entry(saved.session_id.clone()).or_default().bytes.add(saved);
        self.hosts.entry(host).or_default().1.add(saved);
    }

    /// Adds a refusal.
    fn refuse(&mut self, saved: &Saved) {
        let place = saved.host.as_ref().or(saved.address.as_ref()).map_or("", String::as_str);
        let port = saved.port.filter(|_| saved.proto.as_deref() != Some("dns"));
        let key = Refusal {
            code: saved.code.clone().unwrap_or_default(),
            proto: saved.proto.clone().unwrap_or_default(),
            place: port.map_or_else(|| place.to_owned(), |port| format!("{place} port {port}")),
            remedy: saved.remedy.clone(),
        };
        let is_full = self.refusals.len() >= MOST_KEYS && !self.refusals.contains_key(&key);
        let key =
            if is_full { Refusal { place: "others".to_owned(), remedy: None, ..key } } else { key };
        let refused = self.refusals.entry(key).or_default();
        refused.count += 1;
        refused.first = refused.first.or(saved.event_time);
        refused.last = saved.event_time.or(refused.last);
        if refused.url.is_none() {
            refused.url.clone_from(&saved.http_url);
        }
        if refused.by.len() < 8 {
            refused.by.extend(saved.comm.clone().filter(|comm| !comm.is_empty()));
        }
    }

    /// Adds a decision to the process that asked for it, below those that started it.
    fn climb(&mut self, saved: &Saved, host: &str, is_allowed: bool) {
        let own = saved.comm.clone().filter(|comm| !comm.is_empty());
        let own = own.unwrap_or_else(|| "unknown".to_owned());
        let names = saved.parents.iter().rev().map(|it| (it.pid, it.comm.as_str()));
        let mut node = &mut self.tree;
        for (pid, name) in names.chain([(saved.pid.unwrap_or(0), own.as_str())]) {
            let is_new = !node.children.contains_key(name);
            if is_new && self.nodes >= MOST_NODES {
                break;
            }
            self.nodes += usize::from(is_new);
            node = node.children.entry(name.to_owned()).or_default();
            if pid != 0 {
                node.pids.insert(pid);
            }
        }
        if node.exes.len() < 4 {
            node.exes.extend(saved.exe.clone());
        }
        node.verdicts.count(is_allowed);
        let host = kept(&node.hosts, host.to_owned());
        node.hosts.entry(host).or_default().count(is_allowed);
    }
}

/// A name of its own, unless there are too many.
fn kept<T>(known: &BTreeMap<String, T>, name: String) -> String {
    if known.len() < MOST_KEYS || known.contains_key(&name) { name } else { "others".to_owned() }
}

/// The place of a session's policy among those seen so far.
fn place_of(policies: &mut Vec<Policy>, saved: &Saved) -> usize {
    let rules = saved.rules.clone().unwrap_or_default();
    let domain_match = saved.domain_match.clone().unwrap_or_default();
    let same = |it: &Policy| it.rules == rules && it.domain_match == domain_match;
    let index = policies.iter().position(same).unwrap_or(policies.len());
    if index == policies.len() {
        policies.push(Policy { rules, domain_match, ..Policy::default() });
    }
    index
}

impl Node {
    /// Everything below it as well.
    pub(super) fn whole(&self) -> Verdicts {
        self.children.values().map(Self::whole).fold(self.verdicts, |sum, it| Verdicts {
            allowed: sum.allowed + it.allowed,
            denied: sum.denied + it.denied,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ledger(records: &[Value]) -> Ledger {
        let mut ledger = Ledger::default();
        for record in records {
            ledger.take(serde_json::from_value(record.clone()).unwrap());
        }
        ledger
    }

    fn allow(sequence: u64, host: &str) -> Value {
        json!({"event_time": "2026-05-01T12:00:00Z", "session_id": "s", "sequence": sequence,
            "decision": "allow", "matched_rule": "domain=a.test", "proto": "http", "host": host,
            "pid": 3, "comm": "curl", "parents": [{"pid": 2, "comm": "sh"}]})
    }

    fn end(sequence: u64) -> Value {
        json!({"session_id": "s", "sequence": sequence, "decision": "allow", "bytes_up": 5,
            "bytes_down": 7, "duration_ms": 1})
    }

    #[test]
    fn bytes_go_to_the_host_that_the_decision_was_about() {
        let ledger = ledger(&[allow(0, "a.test"), allow(1, "b.test"), end(1), end(1), end(9)]);
        assert_eq!(ledger.hosts["a.test"].1, Bytes::default());
        assert_eq!(ledger.hosts["b.test"].1, Bytes { up: 5, down: 7 });
        assert_eq!(ledger.bytes.sum(), 12);
    }

    #[test]
    fn a_question_that_was_answered_is_no_request() {
        let question = json!({"session_id": "s", "sequence": 0, "decision": "allow",
            "proto": "dns", "host": "a.test", "dns_type": "A"});
        let ledger = ledger(&[question]);
        assert_eq!((ledger.questions, ledger.verdicts.sum()), (1, 0));
    }

    #[test]
    fn refusals_of_a_kind_are_one_with_their_count() {
        let deny = |remedy: &str| {
            json!({"session_id": "s", "sequence": 0, "decision": "deny", "code": "no_rule",
                "host": "a.test", "port": 443, "remedy": remedy, "comm": "curl"})
        };
        let ledger = ledger(&[deny("x"), deny("x"), deny("y")]);
        let counts: Vec<_> = ledger.refusals.values().map(|refused| refused.count).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn the_tree_has_who_asked_below_who_started_it() {
        let ledger = ledger(&[allow(0, "a.test")]);
        let shell = &ledger.tree.children["sh"];
        assert_eq!((shell.verdicts.sum(), shell.whole().allowed), (0, 1));
        assert_eq!(shell.children["curl"].hosts["a.test"].allowed, 1);
    }

    #[test]
    fn a_rule_counts_what_it_granted_in_the_sessions_of_its_policy() {
        let start = |session: &str, rules: &[&str]| {
            json!({"session_id": session, "event": "start", "rules": rules,
                "domain_match": "subdomains"})
        };
        let records = [start("s", &["domain=a.test"]), start("t", &["domain=a.test"])];
        let ledger = ledger(&[&records[..], &[allow(0, "a.test")]].concat());
        assert_eq!(ledger.policies.len(), 1);
        assert_eq!(ledger.policies[0].sessions, 2);
        assert_eq!(ledger.policies[0].used["domain=a.test"], 1);
    }

    #[test]
    fn what_a_command_names_itself_does_not_grow_the_tree_for_ever() {
        let record = |number: usize| {
            json!({"session_id": "s", "sequence": number, "decision": "deny", "pid": number + 1,
                "comm": format!("c{number}")})
        };
        let records: Vec<_> = (0..MOST_NODES + 10).map(record).collect();
        let ledger = ledger(&records);
        assert_eq!(ledger.tree.children.len(), MOST_NODES);
        assert_eq!(ledger.tree.whole().denied, MOST_NODES as u64 + 10);
    }
}
