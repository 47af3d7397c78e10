//! What a run asked for, as the smallest policy that a person can read.
//!
//! *Standing*: while boundary learns, the proxy notes every permit here; in the end the session writes
//! [`Lessons::yaml`] down. *Never*: learns of what was refused, or writes a program's name as it came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::denial::as_pattern;
use super::{DomainMatch, Host, Intent, Permit, Rule, Scheme};

/// The rule by which a session that learns permits the world. It means no guarded host.
pub const EVERYTHING: &str = "domain=*";

/// How many paths, or branches of them, are written out before they are folded into one pattern.
const FEW_PATHS: usize = 3;
/// How many hosts of one parent are written out before they are folded into one pattern.
const FEW_HOSTS: usize = 8;
/// How many paths of a host are remembered; beyond, all of them are permitted.
const MOST_PATHS: usize = 4096;
/// How many bytes of names, methods and paths are remembered in all; beyond, nothing new is learned.
const MOST_BYTES: usize = 64 << 20;
/// How many rules for streams are learned. They are in force while the session learns, and each is one
/// that every later decision passes by; beyond, a stream that no rule permits is refused.
const MOST_STREAMS: usize = 4096;
/// What remembering something takes beside its text.
const BESIDE: usize = 128;
/// How many programs a comment names.
const FEW_PROGRAMS: usize = 6;

/// What was permitted so far.
#[derive(Debug, Default)]
pub struct Lessons {
    owners: BTreeMap<String, Owner>,
    /// About how much of the memory is taken.
    held: usize,
    /// How many rules for streams were learned.
    streams: usize,
    /// How many requests were not noted for want of room.
    missed: u64,
}

/// What was asked of the hosts of one owner.
#[derive(Debug, Default)]
struct Owner {
    count: u64,
    programs: BTreeSet<String>,
    /// Rules of the policy that granted some of it: they stay as they are.
    kept: BTreeSet<String>,
    /// The rest.
    asked: BTreeMap<Place, BTreeMap<String, BTreeSet<String>>>,
}

/// A host and, where it is not the scheme's own, a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    host: String,
    port: Option<u16>,
}

impl Place {
    /// Where an intent leads.
    fn of(intent: &Intent) -> Self {
        let is_usual = intent.scheme().default_port() == Some(intent.port());
        Self { host: intent.host().to_string(), port: (!is_usual).then_some(intent.port()) }
    }
}

impl Lessons {
    /// Notes a permit and the program that asked.
    pub fn note(&mut self, permit: &Permit, program: Option<&str>) {
        let intent = permit.intent();
        if self.held > MOST_BYTES && !self.knows(permit) {
            self.missed += 1;
            return;
        }
        let owner = self.owners.entry(owner_of(intent.host())).or_default();
        owner.count += 1;
        if owner.programs.len() <= FEW_PROGRAMS {
            owner.programs.extend(program.map(harmless));
        }
        match (permit.rule(), intent.method(), intent.path()) {
            (EVERYTHING, Some(method), Some(path)) => {
                let place = Place::of(intent);
                let text = place.host.len() + path.len();
                let methods = owner.asked.entry(place).or_default();
                let paths = methods.entry(method.to_string()).or_default();
                if paths.len() < MOST_PATHS && paths.insert(path.to_owned()) {
                    self.held += text + BESIDE;
                }
            }
            (rule, ..) => {
                if owner.kept.insert(rule.to_owned()) {
                    self.held += rule.len() + BESIDE;
                }
            }
        }
    }

    /// Whether what is learned permits this already.
    fn knows(&self, permit: &Permit) -> bool {
        let intent = permit.intent();
        let Some(owner) = self.owners.get(&owner_of(intent.host())) else { return false };
        match (permit.rule(), intent.method(), intent.path()) {
            (EVERYTHING, Some(method), Some(path)) => {
                let methods = owner.asked.get(&Place::of(intent));
                let paths = methods.and_then(|methods| methods.get(method.as_str()));
                paths.is_some_and(|paths| paths.len() >= MOST_PATHS || paths.contains(path))
            }
            (rule, ..) => owner.kept.contains(rule),
        }
    }

    /// The rule for a stream that is not opened, where a session that learns comes upon one, and may
    /// learn it. It is noted when it permits something.
    pub fn stream(&mut self, intent: &Intent) -> Option<Rule> {
        let rule = lesson_of(intent)?;
        if self.streams >= MOST_STREAMS || self.held > MOST_BYTES {
            self.missed += 1;
            return None;
        }
        self.streams += 1;
        Some(rule)
    }

    /// Whether something was asked of a host over HTTP, opened where it was TLS.
    pub fn has_seen_inside(&self, host: &Host) -> bool {
        let name = host.to_string();
        let owner = self.owners.get(&owner_of(host));
        owner.is_some_and(|owner| owner.asked.keys().any(|place| place.host == name))
    }

    /// About how many bytes are remembered.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The rules that permit all of it, without one that another covers.
    pub fn rules(&self) -> Vec<String> {
        self.sections().into_iter().flat_map(|(_, _, rules)| rules).collect()
    }

    /// A policy file. The head's lines become comments.
    pub fn yaml(&self, head: &[&str]) -> String {
        let mut text = String::new();
        let mut line = |written: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            writeln!(text, "{written}").unwrap_or_default();
        };
        for head in head {
            line(format_args!("# {}", comment(head)));
        }
        if self.missed > 0 {
            line(format_args!("# Too much was asked: {} requests were not learned.", self.missed));
        }
        let sections = self.sections();
        if sections.is_empty() {
            line(format_args!("allowlist: []"));
            return text;
        }
        line(format_args!("allowlist:"));
        for (name, owner, rules) in sections {
            line(format_args!("  # {}: {}", comment(name), owner.said()));
            for rule in rules {
                line(format_args!("  - {}", quoted(&rule)));
            }
        }
        text
    }

    /// Each owner with its rules.
    fn sections(&self) -> Vec<(&str, &Owner, Vec<String>)> {
        let parsed = |text: &String| text.parse::<Rule>().ok();
        let mut taken: Vec<Rule> = Vec::new();
        let all: Vec<(&String, &Owner, Vec<Rule>)> = self
            .owners
            .iter()
            .map(|(name, owner)| {
                let texts = owner.kept.iter().cloned().chain(owner.folded());
                (name, owner, texts.filter_map(|text| parsed(&text)).collect())
            })
            .collect();
        let reading = DomainMatch::Exact;
        let every: Vec<&Rule> = all.iter().flat_map(|(_, _, rules)| rules).collect();
        // Under the narrower reading, so that it is true under both.
        let is_wider = |one: &Rule, other: &Rule| {
            one.covers(reading, (other, reading)) && !other.covers(reading, (one, reading))
        };
        let mut is_new = |rule: &Rule| {
            let is_said = taken.iter().any(|taken| taken.covers(reading, (rule, reading)));
            let is_new = !is_said && !every.iter().any(|other| is_wider(other, rule));
            if is_new {
                taken.push(rule.clone());
            }
            is_new
        };
        let mut sections = Vec::new();
        for (name, owner, rules) in &all {
            let rules = rules.iter().filter(|rule| is_new(rule)).map(ToString::to_string);
            let rules: Vec<String> = rules.collect();
            if !rules.is_empty() {
                sections.push((name.as_str(), *owner, rules));
            }
        }
        sections
    }
}

/// Which methods are asked for with which paths; no path means all.
type Shape = (Option<u16>, Vec<String>, Option<Vec<String>>);

impl Owner {
    /// How often it was asked, and by whom.
    fn said(&self) -> String {
        let programs: Vec<&str> =
            self.programs.iter().take(FEW_PROGRAMS).map(String::as_str).collect();
        let more = if self.programs.len() > FEW_PROGRAMS { ", …" } else { "" };
        let by = if programs.is_empty() { "" } else { " by " };
        let times = match self.count {
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            count => format!("{count} times"),
        };
        format!("{times}{by}{}{more}", programs.join(", "))
    }

    /// Rules for what was asked: hosts that were asked the same share one.
    fn folded(&self) -> Vec<String> {
        let mut shapes: BTreeMap<Shape, Vec<&str>> = BTreeMap::new();
        for (place, methods) in &self.asked {
            let mut by_paths: BTreeMap<Option<Vec<String>>, Vec<String>> = BTreeMap::new();
            for (method, paths) in methods {
                by_paths.entry(fold(paths)).or_default().push(method.clone());
            }
            for (paths, methods) in by_paths {
                shapes.entry((place.port, methods, paths)).or_default().push(&place.host);
            }
        }
        let mut rules = Vec::new();
        for ((port, methods, paths), hosts) in shapes {
            let port = port.map(|port| format!(" port={port}")).unwrap_or_default();
            let paths = paths.map(|paths| format!(" path={}", paths.join(","))).unwrap_or_default();
            let methods = methods.join(",");
            for hosts in joined(&hosts) {
                rules.push(format!("method={methods} {hosts}{port}{paths}"));
            }
        }
        rules
    }
}

/// `host=` with all hosts, but `domain=*.parent` for many of one parent.
fn joined(hosts: &[&str]) -> Vec<String> {
    let mut by_parent: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let parent = host.split_once('.').map_or("", |(_, parent)| parent);
        by_parent.entry(parent).or_default().push(host);
    }
    let (mut few, mut pairs) = (Vec::new(), Vec::new());
    for (parent, hosts) in by_parent {
        let is_owned =
            psl::domain_str(parent).is_some() && parent.parse::<std::net::IpAddr>().is_err();
        if hosts.len() > FEW_HOSTS && is_owned {
            pairs.push(format!("domain=*.{parent}"));
        } else {
            few.extend(hosts);
        }
    }
    if !few.is_empty() {
        pairs.insert(0, format!("host={}", few.join(",")));
    }
    pairs
}

/// Paths as patterns; none where all are meant.
fn fold(paths: &BTreeSet<String>) -> Option<Vec<String>> {
    if paths.len() >= MOST_PATHS || paths.contains("*") {
        return None;
    }
    // A star that is a whole segment would stand for any.
    let segment = |text: &str| if text == "*" { "%2A".to_owned() } else { as_pattern(text) };
    let split = |path: &String| -> Vec<String> { path.split('/').skip(1).map(segment).collect() };
    let mut patterns = Vec::new();
    branch("", paths.iter().map(split).collect(), &mut patterns);
    (!patterns.iter().any(|pattern| pattern == "/*")).then_some(patterns)
}

/// The patterns for what lies below a prefix: written out while it is little, then folded where
/// there are many branches.
fn branch(prefix: &str, paths: Vec<Vec<String>>, patterns: &mut Vec<String>) {
    if paths.len() <= FEW_PATHS {
        patterns.extend(paths.iter().map(|path| format!("{prefix}/{}", path.join("/"))));
        return;
    }
    let mut branches: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for path in paths {
        let mut path = path.into_iter();
        if let Some(first) = path.next() {
            branches.entry(first).or_default().push(path.collect());
        }
    }
    if branches.len() > FEW_PATHS {
        patterns.push(format!("{prefix}/*"));
        return;
    }
    for (first, rest) in branches {
        let prefix = format!("{prefix}/{first}");
        let (ends, deeper): (Vec<_>, Vec<_>) = rest.into_iter().partition(Vec::is_empty);
        if !ends.is_empty() {
            patterns.push(prefix.clone());
        }
        branch(&prefix, deeper, patterns);
    }
}

/// The domain that somebody owns, by which rules are grouped.
fn owner_of(host: &Host) -> String {
    match host {
        Host::Name(name) => psl::domain_str(name).unwrap_or(name).to_owned(),
        Host::Address(_) => host.to_string(),
    }
}

/// The rule for a stream that is not opened, if there may be one.
fn lesson_of(intent: &Intent) -> Option<Rule> {
    let is_stream = matches!(intent.scheme(), Scheme::Tls | Scheme::Tcp);
    if !is_stream || intent.host().is_guarded() || intent.port() == 0 {
        return None;
    }
    let (proto, host, port) = (intent.scheme().as_str(), intent.host(), intent.port());
    format!("proto={proto} host={host} port={port}").parse().ok()
}

/// The rule by which everything below a place, and the place itself, may be read.
pub fn readable_below(place: &Intent) -> Option<Rule> {
    let (host, port) = (place.host(), place.port());
    let path = as_pattern(place.path()?.trim_end_matches('/'));
    let path = if path.is_empty() { path } else { format!(" path={path},{path}/*") };
    format!("method=GET,HEAD host={host} port={port}{path}").parse().ok()
}

/// A program's name without anything that means something in the file: a command names itself. Of a
/// title, as `npm install x`, the first word is what people call it.
fn harmless(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let name = name.trim_start().split(' ').next().unwrap_or_default();
    name.chars().take(32).map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// A rule as an element of a list: on one line, and quoted where it would be something else in YAML.
fn quoted(rule: &str) -> String {
    let words: Vec<&str> = rule.split_ascii_whitespace().collect();
    let rule = words.join(" ");
    let yaml = serde_yaml::to_string(&rule).unwrap_or_default();
    let yaml = yaml.trim_end();
    if yaml.lines().count() == 1 { yaml.to_owned() } else { format!("{rule:?}") }
}

/// Text that stays on its line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RuleSet;

    /// Learns from requests under a policy that begins with these rules.
    fn learn(rules: &[&str], asked: &[(&str, &str, &str)]) -> Lessons {
        let all = rules.iter().chain([&EVERYTHING]).map(|rule| rule.parse().unwrap()).collect();
        let set = RuleSet::new(all, DomainMatch::Subdomains);
        let mut lessons = Lessons::default();
        for (method, host, path) in asked {
            let host = Host::parse(host).unwrap();
            let intent = Intent::http(Scheme::Https, method, host, 443, path).unwrap();
            lessons.note(&set.decide(intent).unwrap(), Some("curl\n- domain=*"));
        }
        lessons
    }

    #[test]
    fn a_few_paths_are_written_out_and_many_are_folded_below_their_prefix() {
        let few = learn(&[], &[("GET", "a.test", "/x?q=1"), ("GET", "a.test", "/y,z/*")]);
        assert_eq!(few.rules(), ["method=GET host=a.test path=/x,/y%2Cz/%2A"]);
        let many: Vec<_> = (0..9).map(|n| format!("/v1/items/{n}/x")).collect();
        let mut asked: Vec<_> = many.iter().map(|path| ("GET", "a.test", &**path)).collect();
        asked.push(("GET", "a.test", "/v1"));
        assert_eq!(learn(&[], &asked).rules(), ["method=GET host=a.test path=/v1,/v1/items/*"]);
    }

    #[test]
    fn what_is_remembered_has_an_end_and_says_so() {
        let set = RuleSet::new(vec![EVERYTHING.parse().unwrap()], DomainMatch::Subdomains);
        let mut lessons = Lessons { held: MOST_BYTES - BESIDE, ..Lessons::default() };
        for number in 0..9 {
            let host = Host::parse(&format!("h{number}.test")).unwrap();
            let intent = Intent::http(Scheme::Https, "GET", host, 443, "/").unwrap();
            lessons.note(&set.decide(intent).unwrap(), None);
        }
        assert_eq!((lessons.owners.len(), lessons.missed), (1, 8));
        assert!((MOST_BYTES..MOST_BYTES + 2 * BESIDE).contains(&lessons.held()));
        assert!(lessons.yaml(&[]).starts_with("# Too much was asked: 8 requests"));
    }

    #[test]
    fn what_was_learned_before_the_end_is_not_missed_after_it() {
        let rule = "proto=tcp host=db.test port=1-65535";
        let rules = [rule, EVERYTHING].map(|rule| rule.parse().unwrap()).to_vec();
        let set = RuleSet::new(rules, DomainMatch::Subdomains);
        let host = |name: &str| Host::parse(name).unwrap();
        let get = |path| Intent::http(Scheme::Https, "GET", host("a.test"), 443, path).unwrap();
        let stream = |port| Intent::stream(Scheme::Tcp, host("db.test"), port);
        let mut lessons = Lessons::default();
        let note = |lessons: &mut Lessons, intent| {
            lessons.note(&set.decide(intent).unwrap(), None);
        };
        note(&mut lessons, get("/x"));
        let held = lessons.held;
        note(&mut lessons, stream(1));
        assert_eq!(lessons.held, held + rule.len() + BESIDE, "rules for streams count too");
        lessons.held = MOST_BYTES + 1;
        for intent in [get("/x"), stream(1), stream(2), get("/y")] {
            note(&mut lessons, intent);
        }
        assert_eq!(lessons.missed, 1, "{lessons:?}");
        assert!(lessons.yaml(&[]).contains("a.test: twice"), "{}", lessons.yaml(&[]));
        assert_eq!(lessons.stream(&stream(3)), None);
    }

    #[test]
    fn streams_that_are_learned_have_an_end() {
        let mut lessons = Lessons::default();
        let stream = |port| Intent::stream(Scheme::Tls, Host::parse("a.test").unwrap(), port);
        let learned = (1..=5000).filter_map(|port| lessons.stream(&stream(port))).count();
        assert_eq!((learned, lessons.missed), (MOST_STREAMS, (5000 - MOST_STREAMS) as u64));
        // What there may be no rule for is not missed.
        let guarded = Intent::stream(Scheme::Tcp, Host::parse("127.0.0.1").unwrap(), 1);
        assert_eq!((lessons.stream(&guarded), lessons.missed), (None, 904));
    }

    #[test]
    fn paths_without_anything_in_common_are_all_paths() {
        let asked = ["/a", "/b", "/c", "/d"].map(|path| ("GET", "a.test", path));
        assert_eq!(learn(&[], &asked).rules(), ["method=GET host=a.test"]);
    }

    #[test]
    fn methods_and_hosts_that_ask_the_same_share_a_rule() {
        let asked = [
            ("GET", "b.example.com", "/x"),
            ("HEAD", "b.example.com", "/x"),
            ("GET", "a.example.com", "/x"),
            ("HEAD", "a.example.com", "/x"),
            ("POST", "a.example.com", "/up"),
        ];
        assert_eq!(
            learn(&[], &asked).rules(),
            [
                "method=GET,HEAD host=a.example.com,b.example.com path=/x",
                "method=POST host=a.example.com path=/up",
            ]
        );
    }

    #[test]
    fn many_hosts_of_one_parent_are_one_pattern_but_never_over_a_public_suffix() {
        let hosts: Vec<_> = (0..9).map(|n| format!("s{n}.cdn.example.com")).collect();
        let asked: Vec<_> = hosts.iter().map(|host| ("GET", &**host, "/")).collect();
        assert_eq!(learn(&[], &asked).rules(), ["method=GET domain=*.cdn.example.com path=/"]);
        let hosts: Vec<_> = (0..9).map(|n| format!("s{n}.github.io")).collect();
        let asked: Vec<_> = hosts.iter().map(|host| ("GET", &**host, "/")).collect();
        assert_eq!(learn(&[], &asked).rules().len(), 9);
    }

    #[test]
    fn a_rule_of_the_policy_that_granted_something_stays_as_it_is() {
        let lessons = learn(&["domain=a.test path=/x/*"], &[("GET", "a.test", "/x/y")]);
        assert_eq!(lessons.rules(), ["domain=a.test path=/x/*"]);
    }

    #[test]
    fn a_rule_of_the_policy_is_one_line_of_the_file_however_it_was_written() {
        let rules = ["method=GET\n domain=a.test", "path=/x: domain=b.test"];
        let lessons = learn(&rules, &[("GET", "a.test", "/"), ("GET", "b.test", "/x:")]);
        let read: serde_yaml::Value = serde_yaml::from_str(&lessons.yaml(&[])).unwrap();
        let read = read["allowlist"].as_sequence().unwrap();
        let read: Vec<_> = read.iter().map(|rule| rule.as_str().unwrap()).collect();
        assert_eq!(read, ["method=GET domain=a.test", "path=/x: domain=b.test"]);
    }

    #[test]
    fn the_file_can_be_read_whatever_the_programs_call_themselves() {
        let lessons = learn(&[], &[("GET", "a.test", "/x:"), ("GET", "bücher.test", "/")]);
        let text = lessons.yaml(&["one\ntwo: three"]);
        let read: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let rules = read["allowlist"].as_sequence().unwrap();
        let rules: Vec<_> = rules.iter().map(|rule| rule.as_str().unwrap()).collect();
        assert_eq!(rules, lessons.rules());
        assert!(text.contains("  # a.test: once by curl_-\n"), "{text}");
        assert!(text.contains("xn--bcher-kva.test"), "{text}");
        let read =
            serde_yaml::from_str::<serde_yaml::Value>(&Lessons::default().yaml(&[])).unwrap();
        assert!(read["allowlist"].as_sequence().unwrap().is_empty());
    }

    mod whatever_was_asked {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn the_learned_policy_permits_it(
                asked in proptest::collection::vec(
                    (
                        "(GET|POST|X\\*)",
                        "([a-c]\\.){0,2}(a\\.test|co\\.uk|b\\.github\\.io|10\\.0\\.0\\.[1-9])",
                        "(/|/a|/b|/\\*|/,|/%2F|/:|//){0,5}(\\?x)?",
                    ),
                    0..40,
                ),
            ) {
                let asked: Vec<_> = asked
                    .iter()
                    .map(|(method, host, path)| (&**method, &**host, &**path))
                    .filter(|(method, host, path)| {
                        Host::parse(host).is_ok_and(|host| {
                            Intent::http(Scheme::Https, method, host, 443, path).is_ok()
                        })
                    })
                    .collect();
                let rules = learn(&[], &asked).rules();
                let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
                for reading in [DomainMatch::Subdomains, DomainMatch::Exact] {
                    let set = RuleSet::new(rules.clone(), reading);
                    for (method, host, path) in &asked {
                        let host = Host::parse(host).unwrap();
                        let intent = Intent::http(Scheme::Https, method, host, 443, path).unwrap();
                        prop_assert!(set.decide(intent.clone()).is_ok(), "{} {:?}", intent.url(true), rules);
                    }
                }
            }
        }
    }
}
