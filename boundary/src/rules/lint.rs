//! What is wrong with a policy that parses: rules that can never match, that another rule says
//! already, that are likely slips, or wider than they look.
//!
//! *Standing*: `boundary check` asks; a run does not. *Never*: changes what a rule means.

use super::pattern::Domain;
use super::{DomainMatch, Host, Rule, typo};

/// One thing to say of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's number.
    pub rule: usize,
    /// What kind of thing it is, as a stable word.
    pub kind: Kind,
    /// What is said of it.
    pub what: String,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The rule, or a part of it, can never match.
    NeverMatches,
    /// An earlier rule says it already.
    Shadowed,
    /// What it asks for is passed on unopened by another rule.
    Unopened,
    /// Likely a slip of the hand.
    Typo,
    /// It covers names of many owners.
    Suffix,
    /// It has a path and no host.
    PathAlone,
    /// It has no host at all, or `*` for one.
    EveryHost,
}

impl Kind {
    /// The kind as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverMatches => "never_matches",
            Self::Shadowed => "shadowed",
            Self::Unopened => "unopened",
            Self::Typo => "typo",
            Self::Suffix => "public_suffix",
            Self::PathAlone => "path_without_domain",
            Self::EveryHost => "every_host",
        }
    }
}

/// Everything there is to say of a policy, in the order of its rules.
pub fn lint(rules: &[&Rule], reading: DomainMatch) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let mut say = |kind, what| findings.push(Finding { rule: number, kind, what });
        never_matches(rule, reading, &mut say);
        let mut earlier = rules.iter().take(number);
        if let Some(first) = earlier.find(|earlier| earlier.covers(reading, (rule, reading))) {
            say(Kind::Shadowed, format!("never asked: `{first}` grants all of it before"));
        }
        unopened(rule, rules, reading, &mut say);
        slips(rule, &mut say);
        suffixes(rule, reading, &mut say);
        if rule.is_path_alone() {
            let what = "`path=` without `domain=` permits that path on every host; add `domain=`";
            say(Kind::PathAlone, what.to_owned());
        } else if is_for_every_host(rule) {
            let what = "permits every host but guarded addresses; name the ones that are meant";
            say(Kind::EveryHost, what.to_owned());
        }
    }
    findings
}

/// `host=` beside `domain=`: both have to agree.
fn never_matches(rule: &Rule, reading: DomainMatch, say: &mut impl FnMut(Kind, String)) {
    let lost = rule.lost_hosts(reading);
    if lost.is_empty() {
        return;
    }
    let names: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let names = names.join(",");
    let what = if lost.len() == rule.hosts().len() {
        format!("can never match: no pattern of `domain=` covers `host={names}`; leave one out")
    } else {
        format!("`host={names}` can never match: no pattern of `domain=` covers it")
    };
    say(Kind::NeverMatches, what);
}

/// What a `proto=tls` or `proto=tcp` rule passes on is not opened for a rule about requests.
fn unopened(
    rule: &Rule,
    rules: &[&Rule],
    reading: DomainMatch,
    say: &mut impl FnMut(Kind, String),
) {
    if !rule.serves_https() || !rule.looks_inside() {
        return;
    }
    let passing =
        |other: &&&Rule| other.passes_https() && other.covers_hosts(reading, (rule, reading));
    if let Some(other) = rules.iter().find(passing) {
        let what = format!(
            "its method and path are not looked at over TLS: `{other}` passes that on unopened"
        );
        say(Kind::Unopened, what);
    }
}

/// Names and methods that are nearly others.
fn slips(rule: &Rule, say: &mut impl FnMut(Kind, String)) {
    for method in rule.methods() {
        if let Some(meant) = typo::method(method) {
            say(Kind::Typo, format!("`method={method}`: did you mean `{meant}`?"));
        }
    }
    let hosts = rule.hosts().iter().filter_map(|host| match host {
        Host::Name(name) => Some(name.as_str()),
        Host::Address(_) => None,
    });
    let domains = rule.domains().iter().filter_map(|domain| match domain {
        Domain::Plain(name) | Domain::Below(name) => Some(name.as_str()),
        Domain::Any | Domain::Address(_) | Domain::Shape(_) => None,
    });
    for name in hosts.chain(domains) {
        if let Some(meant) = typo::host(name) {
            say(Kind::Typo, format!("`{name}`: did you mean `{meant}`?"));
        }
    }
}

/// Whether nothing in the rule says whose host it is.
fn is_for_every_host(rule: &Rule) -> bool {
    let domains = rule.domains();
    rule.hosts().is_empty() && (domains.is_empty() || domains.contains(&Domain::Any))
}

/// Patterns over the end of a name below which anybody can have one.
fn suffixes(rule: &Rule, reading: DomainMatch, say: &mut impl FnMut(Kind, String)) {
    if !rule.hosts().is_empty() {
        return;
    }
    for domain in rule.domains() {
        let end = match domain {
            Domain::Plain(name) if reading == DomainMatch::Subdomains => name.as_str(),
            Domain::Below(name) => name.as_str(),
            Domain::Shape(shape) => shape.tail(),
            Domain::Plain(_) | Domain::Any | Domain::Address(_) => continue,
        };
        let whose = match suffix(end) {
            Some(psl::Type::Private) => "is shared hosting: everybody's sites are below it".into(),
            Some(psl::Type::Icann) => "is a public suffix: everybody's domains are below it".into(),
            None => match shared_below(domain, end, reading) {
                Some(shared) => {
                    format!("covers shared hosting: everybody's sites are below `{shared}`")
                }
                None => continue,
            },
        };
        say(Kind::Suffix, format!("`{end}` {whose}; name the ones that are meant"));
    }
}

/// What kind of public suffix a name is, if it is one.
fn suffix(name: &str) -> Option<psl::Type> {
    let suffix = psl::suffix(name.as_bytes())?;
    let is_whole = suffix.as_bytes() == name.as_bytes() && suffix.is_known();
    is_whole.then(|| suffix.typ().unwrap_or(psl::Type::Icann))
}

/// What well-known hosters put in front of their own name, or of a region of it, to have a suffix that
/// they share out. The list of suffixes can be asked for one but not searched: of hosters that use
/// other words nothing is said. `x` stands for any word, where a list has `*`.
const SHARED: [&str; 11] = [
    "s3",
    "x",
    "x.elb",
    "x.compute",
    "execute-api",
    "x.execute-api",
    "lambda-url.us-east-1",
    "k8s",
    "blob.core",
    "blob",
    "global.ssl",
];

/// Shared hosting somewhere below the end of a pattern, as far as the pattern covers sites there.
fn shared_below(domain: &Domain, end: &str, reading: DomainMatch) -> Option<String> {
    SHARED.iter().map(|label| format!("{label}.{end}")).find(|name| {
        let is_covered =
            Host::parse(&format!("anybody.{name}")).is_ok_and(|host| domain.covers(&host, reading));
        is_covered && suffix(name) == Some(psl::Type::Private)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of some rules: `number kind`.
    fn said(rules: &[&str], reading: DomainMatch) -> Vec<String> {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let findings = lint(&rules.iter().collect::<Vec<_>>(), reading);
        findings.iter().map(|found| format!("{} {}", found.rule, found.kind.as_str())).collect()
    }

    /// One row a case: the rules and what is said of them under the default reading.
    macro_rules! findings {
        ($($name:ident: [$($rule:literal),+] => [$($found:literal),*];)+) => {
            $(
                #[test]
                fn $name() {
                    let expected: &[&str] = &[$($found),*];
                    assert_eq!(said(&[$($rule),+], DomainMatch::Subdomains), expected);
                }
            )+
        };
    }

    findings! {
        a_good_policy_is_not_talked_about:
            ["method=GET domain=github.com", "domain=api.example.com path=/v1/*"] => [];
        a_rule_that_another_grants_before_is_shadowed:
            ["domain=github.com", "method=GET domain=api.github.com path=/x"] => ["1 shadowed"];
        the_wider_rule_behind_the_narrower_is_not:
            ["method=GET domain=api.github.com", "domain=github.com"] => [];
        the_same_rule_twice_is_shadowed:
            ["domain=a.example,b.example", "domain=b.example"] => ["1 shadowed"];
        a_narrower_port_does_not_shadow:
            ["domain=a.example port=443", "domain=a.example"] => [];
        a_path_below_an_open_one_is_shadowed:
            ["domain=a.example path=/x/*", "domain=a.example path=/x/y/z"] => ["1 shadowed"];
        a_path_beside_an_open_one_is_not:
            ["domain=a.example path=/x/*", "domain=a.example path=/x"] => [];
        any_host_is_no_guarded_one:
            ["domain=*", "host=127.0.0.1", "host=localhost"] => ["0 every_host"];
        a_host_outside_its_domain_never_matches:
            ["host=a.example domain=b.example"] => ["0 never_matches"];
        one_host_of_two_outside_never_matches:
            ["host=x.b.example,a.example domain=b.example"] => ["0 never_matches"];
        what_is_passed_unopened_is_not_looked_into:
            ["proto=tls domain=a.example", "method=GET domain=a.example"] => ["1 unopened"];
        a_slip_in_a_host_and_a_method: ["method=GTE domain=githb.com"] => ["0 typo", "0 typo"];
        a_public_suffix: ["domain=co.uk"] => ["0 public_suffix"];
        a_public_suffix_with_a_wildcard: ["domain=*.com"] => ["0 public_suffix"];
        shared_hosting: ["domain=*.github.io"] => ["0 public_suffix"];
        shared_hosting_somewhere_below: ["domain=amazonaws.com"] => ["0 public_suffix"];
        shared_hosting_below_a_wildcard: ["domain=*.amazonaws.com"] => ["0 public_suffix"];
        shared_hosting_of_a_region: ["domain=us-east-1.amazonaws.com"] => ["0 public_suffix"];
        shared_hosting_of_others:
            ["domain=*.windows.net", "domain=on.aws", "domain=fastly.net", "domain=linodeobjects.com"]
            => ["0 public_suffix", "1 public_suffix", "2 public_suffix", "3 public_suffix"];
        shared_hosting_below_several_wildcards: ["domain=*.*.amazonaws.com"] => ["0 public_suffix"];
        a_service_of_a_hoster_is_no_shared_hosting:
            ["domain=sts.amazonaws.com,sts.*.amazonaws.com", "domain=login.windows.net"] => [];
        every_host: ["domain=*"] => ["0 every_host"];
        every_host_by_a_method: ["method=GET"] => ["0 every_host"];
        every_host_beside_one: ["domain=a.example,*"] => ["0 every_host"];
        one_host_beside_a_wildcard_is_one: ["host=a.example domain=*"] => [];
        one_site_of_shared_hosting_is_fine: ["domain=me.github.io"] => [];
        an_intranet_is_no_public_suffix: ["domain=corp"] => [];
        a_path_without_a_host: ["path=/x"] => ["0 path_without_domain"];
        a_path_on_any_host: ["domain=* path=/x"] => ["0 path_without_domain"];
    }

    #[test]
    fn a_suffix_that_is_read_exactly_is_one_name() {
        assert_eq!(said(&["domain=github.io"], DomainMatch::Exact), [""; 0]);
        assert_eq!(said(&["domain=*.github.io"], DomainMatch::Exact), ["0 public_suffix"]);
        assert_eq!(said(&["domain=amazonaws.com"], DomainMatch::Exact), [""; 0]);
        assert_eq!(said(&["domain=*.amazonaws.com"], DomainMatch::Exact), ["0 public_suffix"]);
        let rules = ["domain=github.com", "domain=api.github.com"];
        assert_eq!(said(&rules, DomainMatch::Exact), [""; 0], "and nothing below is covered");
    }
}
