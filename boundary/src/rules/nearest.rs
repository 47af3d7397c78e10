//! The rule that comes nearest to a refused request, for whoever has to understand the refusal.
//!
//! *Standing*: asked beside the decision, never by it.

use super::grammar::Part;
use super::pattern::Domain;
use super::{DomainMatch, Host, Intent, Rule, typo};

/// A rule that nearly grants a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// Its number among the rules that were asked about.
    pub rule: usize,
    /// What the request misses.
    pub missed: Vec<Part>,
}

/// The nearest rule, if one has anything to do with the request: it names the host, or a host of
/// the same domain, or one that is written nearly the same.
pub fn nearest<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    intent: &Intent,
    reading: DomainMatch,
) -> Option<Near> {
    let near = |(number, rule): (usize, &'a Rule)| {
        let missed = rule.missed(intent, reading);
        let distance =
            if missed.contains(&Part::Host) { 1 + distance(rule, intent.host())? } else { 0 };
        Some((distance, missed.len(), number, missed))
    };
    let best = rules.into_iter().enumerate().filter_map(near).min()?;
    let (_, _, rule, missed) = best;
    Some(Near { rule, missed })
}

/// How far a rule's hosts are from one; none where they have nothing in common.
fn distance(rule: &Rule, host: &Host) -> Option<usize> {
    let Host::Name(name) = host else { return None };
    let hosts = rule.hosts().iter().filter_map(|host| match host {
        Host::Name(name) => Some(name.as_str()),
        Host::Address(_) => None,
    });
    let domains = rule.domains().iter().filter_map(|domain| match domain {
        Domain::Plain(name) | Domain::Below(name) => Some(name.as_str()),
        Domain::Shape(shape) => Some(shape.tail()),
        Domain::Any | Domain::Address(_) => None,
    });
    hosts.chain(domains).filter_map(|own| between(own, name)).min()
}

/// Hosts of one owner are near, and so are slips of the hand.
fn between(own: &str, name: &str) -> Option<usize> {
    let slips = typo::slips(own, name);
    if slips <= 2 {
        return Some(slips);
    }
    let owner = |name: &str| psl::domain_str(name).map(str::to_owned);
    let is_kin = owner(own).is_some_and(|own| Some(own) == owner(name));
    is_kin.then_some(slips)
}
