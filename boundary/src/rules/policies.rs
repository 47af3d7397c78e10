//! The policy in force, which can be replaced, and the policies inside it: each permits what it
//! grants and every one around it grants too.
//!
//! *Standing*: the proxy and the resolver ask it before every request, without waiting for anybody.
//! boundary inside boundary: the usher makes a cgroup for the inner command, and the proxy judges
//! what comes from there by the policy that was entered for it.
//! *Never*: widens. A cgroup of which nobody has told is judged by the outermost policy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::{DomainMatch, Host, Rule, RuleSet};

/// The policy in force and those inside it.
#[derive(Debug, Default)]
pub struct Policies {
    now: ArcSwap<Generation>,
    /// Held by whoever changes something, never by who asks.
    changing: Mutex<()>,
}

/// What is in force between two changes.
#[derive(Debug, Default)]
struct Generation {
    /// How often the outermost policy was replaced.
    number: u64,
    outer: Arc<RuleSet>,
    /// In the order in which they were entered, so that what is around comes first.
    rooms: Vec<Room>,
    by_cgroup: HashMap<u64, Arc<RuleSet>>,
}

/// A policy inside another.
#[derive(Debug, Clone)]
struct Room {
    cgroup: u64,
    inside: u64,
    /// Its own rules, without those around.
    own: RuleSet,
}

impl Policies {
    /// A policy without any inside it.
    pub fn new(outer: RuleSet) -> Self {
        let generation = Generation { outer: Arc::new(outer), ..Generation::default() };
        Self { now: ArcSwap::from_pointee(generation), changing: Mutex::default() }
    }

    /// The policy for a process of a cgroup.
    pub fn of(&self, cgroup: u64) -> Arc<RuleSet> {
        self.now.load().of(cgroup)
    }

    /// The outermost policy.
    pub fn outer(&self) -> Arc<RuleSet> {
        Arc::clone(&self.now.load().outer)
    }

    /// How often the outermost policy was replaced.
    pub fn generation(&self) -> u64 {
        self.now.load().number
    }

    /// Whether any rule of the outermost policy covers a host.
    pub fn names_host(&self, host: &Host) -> bool {
        self.now.load().outer.names_host(host)
    }

    /// Enters a policy for a cgroup: these rules, inside the policy that another cgroup has.
    pub fn enter(&self, cgroup: u64, inside: u64, rules: Vec<Rule>, reading: DomainMatch) {
        let _changing = self.changing();
        let now = self.now.load();
        let mut rooms = now.rooms.clone();
        // The kernel gives an id again only when the cgroup that had it is gone.
        rooms.retain(|room| room.cgroup != cgroup);
        rooms.push(Room { cgroup, inside, own: RuleSet::new(rules, reading) });
        self.now.store(Arc::new(Generation::new(now.number, Arc::clone(&now.outer), rooms)));
    }

    /// Puts another outermost policy in force, also around those inside.
    pub fn replace(&self, outer: RuleSet) {
        let _changing = self.changing();
        let now = self.now.load();
        let rooms = now.rooms.clone();
        self.now.store(Arc::new(Generation::new(now.number + 1, Arc::new(outer), rooms)));
    }

    /// Nothing panics while it is held.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generation {
    /// Puts every policy into the one around it.
    fn new(number: u64, outer: Arc<RuleSet>, rooms: Vec<Room>) -> Self {
        let mut generation = Self { number, outer, ..Self::default() };
        for room in &rooms {
            let around = Some(generation.of(room.inside));
            let entered = RuleSet { around, ..room.own.clone() };
            generation.by_cgroup.insert(room.cgroup, Arc::new(entered));
        }
        generation.rooms = rooms;
        generation
    }

    fn of(&self, cgroup: u64) -> Arc<RuleSet> {
        Arc::clone(self.by_cgroup.get(&cgroup).unwrap_or(&self.outer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Host, Intent, Scheme};

    fn rules(text: &[&str]) -> Vec<Rule> {
        text.iter().map(|rule| rule.parse().expect("a rule")).collect()
    }

    fn policies(text: &[&str]) -> Policies {
        Policies::new(RuleSet::new(rules(text), DomainMatch::default()))
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
        let outer = policies(&["domain=y.test", "domain=z.test"]);
        outer.enter(2, 1, rules(&["domain=x.test", "domain=y.test"]), DomainMatch::default());
        let inner = outer.of(2);
        let granted = |set: &RuleSet| ["x.test", "y.test", "z.test"].map(|host| grants(set, host));
        assert_eq!(granted(&inner), [false, true, false]);
        assert_eq!(granted(&outer.of(1)), [false, true, true], "the outer one is as it was");
    }

    #[test]
    fn each_further_policy_is_narrower_and_an_empty_one_permits_nothing() {
        let outer = policies(&["domain=*"]);
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
        let outer = policies(&["host=x.test"]);
        outer.enter(2, 1, rules(&["host=x.test,127.0.0.1"]), DomainMatch::default());
        let intent = Intent::http(Scheme::Http, "GET", host(), 80, "/").expect("an intent");
        assert!(outer.of(2).decide(intent).expect("both grant it").admits(local).is_err());
    }

    #[test]
    fn another_policy_is_around_those_inside_from_then_on() {
        let outer = policies(&["domain=x.test"]);
        outer.enter(2, 1, rules(&["domain=*"]), DomainMatch::default());
        outer.enter(3, 2, rules(&["domain=y.test"]), DomainMatch::default());
        let granted =
            |cgroup| ["x.test", "y.test", "z.test"].map(|host| grants(&outer.of(cgroup), host));
        let before = outer.of(2);
        assert_eq!(granted(2), [true, false, false]);
        outer.replace(RuleSet::new(rules(&["domain=y.test"]), DomainMatch::default()));
        assert_eq!(outer.generation(), 1);
        assert_eq!([granted(1), granted(2), granted(3)], [[false, true, false]; 3]);
        assert!(grants(&before, "x.test"), "what was asked before goes on by what was in force");
    }
}
