//! Rules: whatever text there is, it is a rule or a mistake with its place; and a rule that is
//! written out again is the same rule.

#![no_main]

use boundary::rules::{DomainMatch, Host, Intent, Rule, RuleSet, Scheme};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Rule>() {
        Ok(rule) => {
            let again: Rule = rule.as_str().parse().expect("a rule is a rule");
            assert_eq!(again.as_str(), rule.as_str());
            for reading in [DomainMatch::Subdomains, DomainMatch::Exact] {
                let rules = RuleSet::new(vec![rule.clone()], reading);
                let host = Host::parse("a.example").expect("a host");
                let intent = Intent::http(Scheme::Https, "GET", host.clone(), 443, "/a/b?c");
                drop(rules.decide(intent.expect("a request")));
                rules.names_host(&host);
            }
        }
        Err(mistake) => assert!(mistake.column <= text.chars().count() + 1, "{mistake:?}"),
    }
});
