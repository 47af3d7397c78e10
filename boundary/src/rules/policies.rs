//! The policy in force, which can be replaced, and the policies inside it: each permits what it
//! grants and every one around it grants too.
//!
//! *Standing*: the proxy and the resolver ask it before every request, without waiting for anybody.
//! boundary inside boundary: the usher makes a room for the inner command, and the proxy judges
//! what comes from there by the policy that was entered for it.
//! *Never*: widens. Where there may be rooms, one of which nobody has told, or that was left, is granted
//! nothing.

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
#[derive(Debug, Clone, Default)]
struct Generation {
    /// How often the outermost policy was replaced.
    number: u64,
    outer: Arc<RuleSet>,
    /// Where the processes are that are in no room; none where there can be no rooms.
    home: Option<u64>,
    /// In the order in which they were entered, so that what is around comes first.
    rooms: Vec<Room>,
    by_place: HashMap<u64, Arc<RuleSet>>,
    /// The policy of whoever is in no room and not at home.
    nothing: Arc<RuleSet>,
}

/// A policy inside another.
#[derive(Debug, Clone)]
struct Room {
    place: u64,
    inside: u64,
    /// Its own rules, without those around.
    own: RuleSet,
}

impl Policies {
    /// A policy without any inside it, for good.
    pub fn new(outer: RuleSet) -> Self {
        Self::around(outer, None)
    }

    /// A policy for the processes that are at home. None is entered inside it where there is no home, and
    /// every process has it.
    pub fn around(outer: RuleSet, home: Option<u64>) -> Self {
        let generation = Generation { outer: Arc::new(outer), home, ..Generation::default() };
        Self { now: ArcSwap::from_pointee(generation), changing: Mutex::default() }
    }

    /// The policy for a process in a place: a cgroup or a room, by number.
    pub fn of(&self, place: u64) -> Arc<RuleSet> {
        self.now.load().of(place)
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

    /// Whether some rule of the outermost policy covers a host and not another.
    pub fn tells_apart(&self, host: &Host, other: &Host) -> bool {
        self.now.load().outer.tells_apart(host, other)
    }

    /// Enters a policy for a room: these rules, inside the policy of another place. False if the room
    /// has one already, or that place has none.
    pub fn enter(&self, place: u64, inside: u64, rules: Vec<Rule>, reading: DomainMatch) -> bool {
        let own = RuleSet::new(rules, reading);
        self.change(|now| {
            let is_new = now.home.is_some() && !now.knows(place) && now.knows(inside);
            is_new.then(|| {
                let mut next = now.clone();
                next.add(Room { place, inside, own });
                next
            })
        })
    }

    /// How many rooms have a policy.
    pub fn count(&self) -> usize {
        self.now.load().rooms.len()
    }

    /// Forgets the policy of a room. What is still in it, or in one inside it, is granted nothing.
    /// It always can.
    pub fn leave(&self, place: u64) -> bool {
        self.change(|now| {
            let rooms = now.rooms.iter().filter(|room| room.place != place).cloned();
            Some(now.with(now.number, Arc::clone(&now.outer), rooms))
        })
    }

    /// Puts another outermost policy in force, also around those inside.
    pub fn replace(&self, outer: RuleSet) {
        self.change(|now| {
            Some(now.with(now.number + 1, Arc::new(outer), now.rooms.iter().cloned()))
        });
    }

    /// Puts what comes next in force. False if nothing does.
    fn change(&self, next: impl FnOnce(&Generation) -> Option<Generation>) -> bool {
        let _changing = self.changing();
        let next = next(&self.now.load());
        let is_another = next.is_some();
        if let Some(next) = next {
            self.now.store(Arc::new(next));
        }
        is_another
    }

    /// Nothing panics while it is held.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generation {
    /// The same home with another outermost policy and these rooms in it.
    fn with(&self, number: u64, outer: Arc<RuleSet>, rooms: impl Iterator<Item = Room>) -> Self {
        let mut next = Self { number, outer, home: self.home, ..Self::default() };
        rooms.for_each(|room| next.add(room));
        next
    }

    /// Puts a policy into the one around it.
    fn add(&mut self, room: Room) {
        let entered = RuleSet { around: Some(self.of(room.inside)), ..room.own.clone() };
        self.by_place.insert(room.place, Arc::new(entered));
        self.rooms.push(room);
    }

    /// Whether a place is home, or a room.
    fn knows(&self, place: u64) -> bool {
        self.home == Some(place) || self.by_place.contains_key(&place)
    }

    fn of(&self, place: u64) -> Arc<RuleSet> {
        let is_home = self.home.is_none_or(|home| home == place);
        let elsewhere = if is_home { &self.outer } else { &self.nothing };
        Arc::clone(self.by_place.get(&place).unwrap_or(elsewhere))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Host, Intent, Scheme};

    const HOME: u64 = 1;

    /// Enters a policy, which has to be taken.
    fn enter(policies: &Policies, place: u64, inside: u64, text: &[&str]) {
        assert!(policies.enter(place, inside, rules(text), DomainMatch::default()));
    }

    fn rules(text: &[&str]) -> Vec<Rule> {
        text.iter().map(|rule| rule.parse().expect("a rule")).collect()
    }

    fn policies(text: &[&str]) -> Policies {
        Policies::around(RuleSet::new(rules(text), DomainMatch::default()), Some(HOME))
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
        enter(&outer, 2, 1, &["domain=x.test", "domain=y.test"]);
        let inner = outer.of(2);
        let granted = |set: &RuleSet| ["x.test", "y.test", "z.test"].map(|host| grants(set, host));
        assert_eq!(granted(&inner), [false, true, false]);
        assert_eq!(granted(&outer.of(1)), [false, true, true], "the outer one is as it was");
    }

    #[test]
    fn each_further_policy_is_narrower_and_an_empty_one_permits_nothing() {
        let outer = policies(&["domain=*"]);
        enter(&outer, 2, 1, &["domain=x.test", "domain=y.test"]);
        enter(&outer, 3, 2, &["domain=y.test", "domain=z.test"]);
        enter(&outer, 4, 3, &[]);
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
        enter(&outer, 2, 1, &["host=x.test,127.0.0.1"]);
        let intent = Intent::http(Scheme::Http, "GET", host(), 80, "/").expect("an intent");
        assert!(outer.of(2).decide(intent).expect("both grant it").admits(local).is_err());
    }

    #[test]
    fn another_policy_is_around_those_inside_from_then_on() {
        let outer = policies(&["domain=x.test"]);
        enter(&outer, 2, 1, &["domain=*"]);
        enter(&outer, 3, 2, &["domain=y.test"]);
        let granted =
            |cgroup| ["x.test", "y.test", "z.test"].map(|host| grants(&outer.of(cgroup), host));
        let before = outer.of(2);
        assert_eq!(granted(2), [true, false, false]);
        outer.replace(RuleSet::new(rules(&["domain=y.test"]), DomainMatch::default()));
        assert_eq!(outer.generation(), 1);
        assert_eq!([granted(1), granted(2), granted(3)], [[false, true, false]; 3]);
        assert!(grants(&before, "x.test"), "what was asked before goes on by what was in force");
    }

    #[test]
    fn a_place_of_which_nobody_has_told_is_granted_nothing_where_there_are_rooms() {
        let outer = policies(&["domain=*"]);
        assert!(grants(&outer.of(HOME), "x.test"));
        assert!(!grants(&outer.of(2), "x.test"), "nobody has entered a policy for it");
        let entered = |place, inside| {
            outer.enter(place, inside, rules(&["domain=*"]), DomainMatch::default())
        };
        assert!(!entered(3, 2), "there is no policy around it");
        assert!(entered(2, HOME) && !entered(2, HOME) && !entered(HOME, 2), "once and for all");
        let alone = Policies::new(RuleSet::new(rules(&["domain=*"]), DomainMatch::default()));
        assert!(grants(&alone.of(7), "x.test"), "where there are no rooms, everybody has the one");
        assert!(!alone.enter(7, 0, rules(&[]), DomainMatch::default()), "and gets no other");
    }

    #[test]
    fn whoever_is_inside_a_room_that_was_left_is_granted_nothing() {
        let outer = policies(&["domain=*"]);
        enter(&outer, 2, HOME, &["domain=x.test"]);
        enter(&outer, 3, 2, &["domain=*"]);
        enter(&outer, 4, HOME, &["domain=y.test"]);
        outer.leave(2);
        outer.replace(RuleSet::new(rules(&["domain=*"]), DomainMatch::default()));
        for place in [2, 3] {
            assert!(
                !["x.test", "y.test"].map(|host| grants(&outer.of(place), host)).contains(&true)
            );
        }
        assert!(grants(&outer.of(4), "y.test"), "the room beside it stays");
    }

    #[test]
    fn rooms_that_were_left_are_forgotten() {
        let outer = policies(&["domain=*"]);
        for place in 2..1000 {
            enter(&outer, place, HOME, &["domain=x.test"]);
            outer.leave(place);
        }
        assert_eq!(outer.now.load().rooms.len() + outer.now.load().by_place.len(), 0);
    }
}
