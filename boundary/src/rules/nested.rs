//! Policies inside a policy: each permits what it grants and every one around it grants too.
//!
//! *Standing*: boundary inside boundary. The usher makes a cgroup for the inner command, and the proxy
//! judges what comes from there by the policy that was entered for it.
//! *Never*: widens. A cgroup of which nobody has told is judged by the outermost policy.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{DomainMatch, Rule, RuleSet};

/// The policies inside one, by the number of the cgroup that each is for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Nested(Arc<RwLock<HashMap<u64, RuleSet>>>);

impl RuleSet {
    /// The policy for a process of a cgroup.
    #[must_use]
    pub fn of(&self, cgroup: u64) -> Self {
        let all = self.nested.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&cgroup).cloned().unwrap_or_else(|| self.clone())
    }

    /// Enters a policy for a cgroup: these rules, inside the policy that another cgroup has.
    pub fn enter(&self, cgroup: u64, inside: u64, rules: Vec<Rule>, reading: DomainMatch) {
        let around = Some(Arc::new(self.of(inside)));
        let entered = Self { around, ..Self::new(rules, reading) };
        self.nested.0.write().unwrap_or_else(PoisonError::into_inner).insert(cgroup, entered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Host, Intent, Scheme};

    fn rules(text: &[&str]) -> Vec<Rule> {
        text.iter().map(|rule| rule.parse().expect("a rule")).collect()
    }

    fn grants(set: &RuleSet, host: &str) -> bool {
        let host = Host::parse(host).expect("a host");
        let covered = set.names_host(&host);
        let intent = Intent::http(Scheme::Https, "GET", host, 443, "/").expect("an intent");
        assert!(
            covered || set.decide(intent.clone()).is_err(),
            "a name that may be reached is told"
        );
        set.decide(intent).is_ok()
    }

    #[test]
    fn a_policy_inside_another_permits_what_both_do() {
        let outer =
            RuleSet::new(rules(&["domain=y.test", "domain=z.test"]), DomainMatch::default());
        outer.enter(2, 1, rules(&["domain=x.test", "domain=y.test"]), DomainMatch::default());
        let inner = outer.of(2);
        let granted = |set: &RuleSet| ["x.test", "y.test", "z.test"].map(|host| grants(set, host));
        assert_eq!(granted(&inner), [false, true, false]);
        assert_eq!(granted(&outer.of(1)), [false, true, true], "the outer one is as it was");
    }

    #[test]
    fn each_further_policy_is_narrower_and_an_empty_one_permits_nothing() {
        let outer = RuleSet::new(rules(&["domain=*"]), DomainMatch::default());
        outer.enter(2, 1, rules(&["domain=x.test", "domain=y.test"]), DomainMatch::default());
        outer.enter(3, 2, rules(&["domain=y.test", "domain=z.test"]), DomainMatch::default());
        outer.enter(4, 3, rules(&[]), DomainMatch::default());
        let granted =
            |cgroup| ["x.test", "y.test", "z.test"].map(|host| grants(&outer.of(cgroup), host));
        assert_eq!(granted(3), [false, true, false]);
        assert_eq!(granted(4), [false; 3]);
    }

    #[test]
    fn an_address_has_to_be_admitted_by_every_policy() {
        let host = || Host::parse("x.test").expect("a host");
        let local = "127.0.0.1".parse().expect("an address");
        let outer = RuleSet::new(rules(&["host=x.test"]), DomainMatch::default());
        outer.enter(2, 1, rules(&["host=x.test,127.0.0.1"]), DomainMatch::default());
        let intent = Intent::http(Scheme::Http, "GET", host(), 80, "/").expect("an intent");
        assert!(outer.of(2).decide(intent).expect("both grant it").admits(local).is_err());
    }
}
