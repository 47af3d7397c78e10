//! Every rule of a policy, found by host: the cost of a decision is that of the rules which name
//! the host, not of all.
//!
//! *Standing*: built once when the policy is loaded, asked for every request. A rule without a
//! host, and `domain=*`, stand apart and are looked through in order.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::pattern::Domain;
use super::{DomainMatch, Host, Intent, Name, Rule};

/// The rules and the ways to them.
#[derive(Debug, Default)]
pub(super) struct Index {
    rules: Vec<Arc<Rule>>,
    reading: DomainMatch,
    /// By the literal end of a pattern, in the order of the rules. The hash is keyed (std's
    /// `SipHash`): hosts are chosen by whoever may want them to collide.
    names: HashMap<Box<str>, Vec<Entry>>,
    addresses: HashMap<IpAddr, Vec<Entry>>,
    /// Rules for any host.
    open: Vec<usize>,
    /// Bit n is set if a key has n labels: no other end of a host is looked up.
    depths: u128,
}

/// A rule under a key, with what must hold of the host besides.
#[derive(Debug, Clone, Copy)]
struct Entry {
    rule: usize,
    reach: Reach,
}

/// Which hosts that end in the key a pattern covers.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The key alone.
    Itself,
    /// The key and everything below.
    Tree,
    /// Everything below.
    Below,
    /// What the pattern of this number in its rule says.
    Shape(usize),
}

impl Index {
    /// Builds the index. The order of the rules is kept.
    pub(super) fn new(rules: Vec<Rule>, reading: DomainMatch) -> Self {
        let mut index = Self { reading, ..Self::default() };
        for (number, rule) in rules.into_iter().map(Arc::new).enumerate() {
            index.enter(number, &rule);
            index.rules.push(rule);
        }
        index
    }

    /// The index with one more rule behind the others.
    pub(super) fn with(&self, rule: Rule) -> Self {
        let rules = self.rules.iter().map(|rule| (**rule).clone()).chain([rule]);
        Self::new(rules.collect(), self.reading)
    }

    /// Whether there is no rule.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first rule in order that grants an intent.
    pub(super) fn grants(&self, intent: &Intent) -> Option<&Arc<Rule>> {
        self.first(intent.host(), |rule| rule.permits(intent))
    }

    /// Whether some rule grants an intent and names an address beside it.
    pub(super) fn grants_at(&self, intent: &Intent, address: IpAddr) -> bool {
        self.first(intent.host(), |rule| rule.names(address) && rule.permits(intent)).is_some()
    }

    /// Whether a rule for any host would grant an intent if its host were not guarded.
    pub(super) fn grants_unguarded(&self, intent: &Intent) -> bool {
        let mut open = self.open.iter().filter_map(|number| self.rules.get(*number));
        open.any(|rule| rule.permits(intent))
    }

    /// Whether any rule covers a host, whatever else it asks for.
    pub(super) fn covers(&self, host: &Host) -> bool {
        self.first(host, |_| true).is_some()
    }

    /// Whether some rule covers a host and not another.
    pub(super) fn tells_apart(&self, host: &Host, other: &Host) -> bool {
        self.first(host, |rule| !rule.covers_host(other, self.reading)).is_some()
    }

    /// The first rule in order that covers the host and is accepted.
    fn first(&self, host: &Host, accept: impl Fn(&Rule) -> bool) -> Option<&Arc<Rule>> {
        let accept = |number: usize| {
            let rule = self.rules.get(number)?;
            (accept(rule) && rule.agrees_on(host, self.reading)).then_some(rule)
        };
        let mut best: Option<(usize, &Arc<Rule>)> = None;
        let mut consider = |numbers: &mut dyn Iterator<Item = usize>| {
            let limit = best.map_or(usize::MAX, |(number, _)| number);
            let found = numbers
                .take_while(|number| *number < limit)
                .find_map(|number| accept(number).map(|rule| (number, rule)));
            best = found.or(best);
        };
        match host {
            Host::Address(address) => {
                let bucket = self.addresses.get(address).into_iter().flatten();
                consider(&mut bucket.map(|entry| entry.rule));
            }
            Host::Name(name) => {
                for (end, bucket) in self.buckets(name) {
                    let reached = bucket.iter().filter(|entry| self.reaches(entry, name, end));
                    consider(&mut reached.map(|entry| entry.rule));
                }
            }
        }
        if !host.is_guarded() {
            consider(&mut self.open.iter().copied());
        }
        best.map(|(_, rule)| rule)
    }

    /// The entries under every end of a name, the shortest end first.
    fn buckets<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = (&'a str, &'a Vec<Entry>)> {
        let inner = name.rmatch_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
        inner
            .chain(std::iter::once(name.as_str()))
            .zip(1..=127_u32.saturating_sub(self.depths.leading_zeros()))
            .filter(|(_, labels)| self.depths & bit(*labels) != 0)
            .filter_map(|(end, _)| self.names.get(end).map(|bucket| (end, bucket)))
    }

    fn reaches(&self, entry: &Entry, name: &Name, end: &str) -> bool {
        let is_whole = end.len() == name.len();
        match entry.reach {
            Reach::Itself => is_whole,
            Reach::Tree => true,
            Reach::Below => !is_whole,
            Reach::Shape(pattern) => {
                let rule = self.rules.get(entry.rule);
                match rule.and_then(|rule| rule.domains().get(pattern)) {
                    Some(Domain::Shape(shape)) => shape.covers(name),
                    _ => false,
                }
            }
        }
    }

    /// Enters a rule under every host it names: its `host=` list where it has one, since that is
    /// the narrower, else its `domain=` list.
    fn enter(&mut self, number: usize, rule: &Rule) {
        if rule.hosts().is_empty() && rule.domains().is_empty() {
            self.open.push(number);
        }
        for host in rule.hosts() {
            match host {
                Host::Name(name) => {
                    self.enter_name(name, Entry { rule: number, reach: Reach::Itself });
                }
                Host::Address(address) => self.enter_address(*address, number),
            }
        }
        if rule.hosts().is_empty() {
            for (pattern, domain) in rule.domains().iter().enumerate() {
                self.enter_domain(number, pattern, domain);
            }
        }
    }

    fn enter_domain(&mut self, rule: usize, pattern: usize, domain: &Domain) {
        match domain {
            Domain::Any => self.open.push(rule),
            Domain::Address(address) => self.enter_address(*address, rule),
            Domain::Plain(name) => {
                let reach = match self.reading {
                    DomainMatch::Subdomains => Reach::Tree,
                    DomainMatch::Exact => Reach::Itself,
                };
                self.enter_name(name, Entry { rule, reach });
            }
            Domain::Below(name) => self.enter_name(name, Entry { rule, reach: Reach::Below }),
            Domain::Shape(shape) => {
                self.enter_name(shape.tail(), Entry { rule, reach: Reach::Shape(pattern) });
            }
        }
    }

    fn enter_name(&mut self, key: &str, entry: Entry) {
        self.depths |= bit(key.split('.').map(|_| 1).sum());
        self.names.entry(key.into()).or_default().push(entry);
    }

    fn enter_address(&mut self, address: IpAddr, rule: usize) {
        let entry = Entry { rule, reach: Reach::Itself };
        self.addresses.entry(address).or_default().push(entry);
    }
}

/// The bit of a number of labels. A name has 127 at most; more would share the last bit.
fn bit(labels: u32) -> u128 {
    1 << labels.min(127)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How many rules were looked at to find the first that is accepted.
    fn looked_at(index: &Index, host: &str) -> usize {
        let count = Cell::new(0);
        let host = Host::parse(host).unwrap();
        let found = index.first(&host, |_| {
            count.set(count.get() + 1);
            false
        });
        assert!(found.is_none());
        count.get()
    }

    #[test]
    fn only_rules_that_name_the_host_are_looked_at() {
        let rules = (0..100_000).map(|number| {
            let shape = ["domain=d", "domain=*.d", "host=d", "domain=x.*.d"][number % 4];
            format!("{shape}{number}.example").parse().unwrap()
        });
        let mut rules: Vec<Rule> = rules.collect();
        rules.push("path=/x".parse().unwrap());
        let index = Index::new(rules, DomainMatch::Subdomains);
        assert_eq!(looked_at(&index, "d4.example"), 2, "the domain, and the rule for any host");
        assert_eq!(looked_at(&index, "a.d4.example"), 2);
        assert_eq!(looked_at(&index, "d5.example"), 1, "not what is below");
        assert_eq!(looked_at(&index, "a.d6.example"), 1, "not the host");
        assert_eq!(looked_at(&index, "x.a.d7.example"), 2, "the shape");
        assert_eq!(looked_at(&index, "y.a.d7.example"), 1, "not the shape");
        assert_eq!(looked_at(&index, "example"), 1);
        assert_eq!(looked_at(&index, "10.0.0.7"), 1);
    }
}
