//! The tables: every verdict that is promised, a named test each.

mod document;
mod grammar;
mod hosts;
mod properties;
mod reference;
mod requests;

use super::{Denial, DomainMatch, Host, Intent, Permit, Rule, RuleSet, Scheme};

/// What comes out for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// A permit.
    Allow,
    /// A denial.
    Deny,
    /// The rule does not parse.
    Reject,
}

/// An intent as a URL says it. A URL without a scheme is HTTPS; `tcp://` and `tls://` are streams.
fn ask(method: &str, url: &str) -> Result<Intent, Denial> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let (host, port) = Host::parse_authority(authority)?;
    let (scheme, default) = match scheme {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        "tls" => (Scheme::Tls, 443),
        "tcp" => (Scheme::Tcp, 22),
        other => panic!("{other} in a table"),
    };
    let port = port.unwrap_or(default);
    match scheme {
        Scheme::Http | Scheme::Https => Intent::http(scheme, method, host, port, target),
        Scheme::Tls | Scheme::Tcp => Ok(Intent::stream(scheme, host, port)),
    }
}

/// Rules of a table, `;` between them.
fn policy(text: &str, reading: DomainMatch) -> Result<RuleSet, super::Mistake> {
    let rules: Result<Vec<Rule>, _> = text.split(" ; ").map(str::parse).collect();
    Ok(RuleSet::new(rules?, reading))
}

/// Decides a row in the default reading; both must be well formed.
fn decide(rules: &str, method: &str, url: &str) -> Result<Permit, Denial> {
    policy(rules, DomainMatch::Subdomains).unwrap().decide(ask(method, url)?)
}

/// The verdict of a row.
fn verdict(rules: &str, method: &str, url: &str, reading: DomainMatch) -> Verdict {
    let Ok(rules) = policy(rules, reading) else { return Verdict::Reject };
    match ask(method, url).and_then(|intent| rules.decide(intent)) {
        Ok(_) => Verdict::Allow,
        Err(_) => Verdict::Deny,
    }
}
