//! Rules beside requests and beside each other: which part disagrees, and which rule says it already.
//!
//! *Standing*: asked by the explanations and the lint, never by the decision. *Never*: claims that
//! one rule covers another unless it is certain.

use std::ops::RangeInclusive;

use super::super::host::is_below;
use super::super::pattern::{Domain, Path, Shape, is_open};
use super::super::{DomainMatch, Host, Intent, Scheme};
use super::{MethodPattern, Proto, Rule, agrees};

/// Rules without lists that one rule may be taken apart into.
const MOST_ATOMS: usize = 4096;

/// A part of a rule that a request can miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `domain=` or `host=`.
    Host,
    /// `proto=`.
    Proto,
    /// `port=`.
    Port,
    /// `method=`.
    Method,
    /// `path=`.
    Path,
}

impl Part {
    /// The key that says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Proto => "proto",
            Self::Port => "port",
            Self::Method => "method",
            Self::Path => "path",
        }
    }
}

impl Rule {
    /// The parts of the rule that an intent misses; none where the rule grants it.
    pub fn missed(&self, intent: &Intent, reading: DomainMatch) -> Vec<Part> {
        let speaks = match intent.scheme() {
            Scheme::Http | Scheme::Https => self.proto == Proto::Http,
            Scheme::Tls => self.proto == Proto::Tls,
            Scheme::Tcp => self.proto == Proto::Tcp,
        };
        let keys = &self.keys;
        let holds = [
            (Part::Host, self.reaches(intent.host(), reading)),
            (Part::Proto, speaks),
            (Part::Port, agrees(&keys.ports, |ports| ports.contains(&intent.port()))),
            (
                Part::Method,
                agrees(&keys.methods, |pattern| match pattern {
                    MethodPattern::Any => true,
                    MethodPattern::Exactly(own) => intent.method() == Some(own),
                }),
            ),
            (
                Part::Path,
                agrees(&keys.paths, |own| intent.path().is_some_and(|path| own.covers(path))),
            ),
        ];
        holds.into_iter().filter(|(_, holds)| !holds).map(|(part, _)| part).collect()
    }

    /// Whether the rule's keys of the host agree with one. A rule for any host means no guarded one.
    pub(in crate::rules) fn reaches(&self, host: &Host, reading: DomainMatch) -> bool {
        let keys = &self.keys;
        if keys.hosts.is_empty() && keys.domains.is_empty() {
            return !host.is_guarded();
        }
        let is_open = |domain: &Domain| *domain == Domain::Any;
        agrees(&keys.hosts, |own| own == host)
            && agrees(&keys.domains, |own| {
                own.covers(host, reading)
                    && !(keys.hosts.is_empty() && is_open(own) && host.is_guarded())
            })
    }

    /// Whether everything that another rule grants is granted by this one too, each under a reading
    /// of its own.
    pub(in crate::rules) fn covers(
        &self,
        reading: DomainMatch,
        (other, its_reading): (&Self, DomainMatch),
    ) -> bool {
        let (own, its) = (&self.keys, &other.keys);
        self.proto == other.proto
            && covers_all(&own.methods, &its.methods, covers_method, &MethodPattern::Any)
            && covers_all(&own.ports, &its.ports, covers_ports, &(1..=u16::MAX))
            && covers_all(&own.paths, &its.paths, covers_path, &Path::Any)
            && self.covers_hosts(reading, (other, its_reading))
    }

    /// The rule as rules without lists, which together grant the same; itself where there would be
    /// too many of them.
    pub(in crate::rules) fn atoms(&self) -> Vec<Self> {
        let keys = &self.keys;
        let names_guarded =
            keys.hosts.iter().any(Host::is_guarded) || keys.domains.iter().any(is_guarded);
        let mut texts = vec![String::new()];
        for (key, values) in
            self.text.split_ascii_whitespace().filter_map(|pair| pair.split_once('='))
        {
            // A name may lead to a guarded address of its own rule, and of no other.
            let is_whole = names_guarded && matches!(key, "host" | "domain");
            let one = |front: &String, value| format!("{front} {key}={value}");
            let values: Vec<&str> =
                if is_whole { vec![values] } else { values.split(',').collect() };
            let next = texts.iter().flat_map(|front| values.iter().map(|value| one(front, value)));
            texts = next.take(MOST_ATOMS + 1).collect();
        }
        let atoms: Option<Vec<Self>> = texts.iter().map(|text| text.parse().ok()).collect();
        // A key that may stand twice joins its lists; a product of both would ask for both.
        let is_joined = ["method=", "path="].iter().any(|key| self.text.matches(key).count() > 1);
        match atoms {
            Some(atoms) if atoms.len() <= MOST_ATOMS && !is_joined => atoms,
            Some(_) | None => vec![self.clone()],
        }
    }

    /// Whether every host of another rule is one of this rule's.
    pub(in crate::rules) fn covers_hosts(
        &self,
        reading: DomainMatch,
        (other, its_reading): (&Self, DomainMatch),
    ) -> bool {
        let its = &other.keys;
        if !its.hosts.is_empty() {
            return its.hosts.iter().all(|host| self.reaches(host, reading));
        }
        if !self.keys.hosts.is_empty() {
            return false;
        }
        if self.keys.domains.is_empty() {
            return !its.domains.iter().any(is_guarded);
        }
        if its.domains.is_empty() {
            return self.keys.domains.contains(&Domain::Any);
        }
        its.domains.iter().all(|its| {
            let its = Reach::of(its, its_reading);
            self.keys.domains.iter().any(|own| Reach::of(own, reading).covers(&its))
        })
    }

    /// The hosts of `host=` that no pattern of `domain=` agrees with.
    pub(in crate::rules) fn lost_hosts(&self, reading: DomainMatch) -> Vec<&Host> {
        let lost =
            |host: &&Host| !agrees(&self.keys.domains, |domain| domain.covers(host, reading));
        self.keys.hosts.iter().filter(lost).collect()
    }

    /// Whether the rule looks into requests: at the method or the path.
    pub(in crate::rules) fn looks_inside(&self) -> bool {
        !self.keys.methods.is_empty() || !self.keys.paths.is_empty()
    }

    /// Whether the rule says which paths but not whose.
    pub(in crate::rules) fn is_path_alone(&self) -> bool {
        let keys = &self.keys;
        let is_any = keys.domains.iter().all(|domain| *domain == Domain::Any);
        !keys.paths.is_empty() && keys.hosts.is_empty() && is_any
    }

    /// Whether the rule passes HTTPS to its hosts on unopened.
    pub(in crate::rules) fn passes_https(&self) -> bool {
        self.proto != Proto::Http && agrees(&self.keys.ports, |ports| ports.contains(&443))
    }

    /// Whether the rule is for HTTP on the port of HTTPS.
    pub(in crate::rules) fn serves_https(&self) -> bool {
        self.proto == Proto::Http && agrees(&self.keys.ports, |ports| ports.contains(&443))
    }

    /// The methods that the rule names.
    pub(in crate::rules) fn methods(&self) -> impl Iterator<Item = &str> {
        self.keys.methods.iter().filter_map(|pattern| match pattern {
            MethodPattern::Any => None,
            MethodPattern::Exactly(method) => Some(method.as_str()),
        })
    }
}

/// Whether one list covers another; an empty list is `any`.
fn covers_all<T>(own: &[T], its: &[T], covers: impl Fn(&T, &T) -> bool, any: &T) -> bool {
    let one = |its: &T| own.iter().any(|own| covers(own, its));
    own.is_empty() || if its.is_empty() { one(any) } else { its.iter().all(one) }
}

fn covers_method(own: &MethodPattern, its: &MethodPattern) -> bool {
    *own == MethodPattern::Any || own == its
}

fn covers_ports(own: &RangeInclusive<u16>, its: &RangeInclusive<u16>) -> bool {
    own.contains(its.start()) && own.contains(its.end())
}

fn covers_path(own: &Path, its: &Path) -> bool {
    let (own, its) = match (own, its) {
        (Path::Any, _) => return true,
        (_, Path::Any) => return false,
        (
            Path::Segments { segments: own, slash: own_slash },
            Path::Segments { segments: its, slash: its_slash },
        ) => ((own, *own_slash), (its, *its_slash)),
    };
    let fits = own.0.iter().zip(its.0.iter()).all(|(own, its)| own.is_none() || own == its);
    if is_open(own.0, own.1) {
        return fits && own.0.len() <= its.0.len();
    }
    fits && own.0.len() == its.0.len() && !is_open(its.0, its.1) && (own.1 || !its.1)
}

/// What a pattern of `domain=` reaches, its reading applied.
enum Reach<'a> {
    Any,
    Address(&'a std::net::IpAddr),
    One(&'a str),
    Tree(&'a str),
    Below(&'a str),
    Shape(&'a Shape),
}

impl<'a> Reach<'a> {
    fn of(domain: &'a Domain, reading: DomainMatch) -> Self {
        match domain {
            Domain::Any => Self::Any,
            Domain::Address(address) => Self::Address(address),
            Domain::Plain(name) if reading == DomainMatch::Exact => Self::One(name),
            Domain::Plain(name) => Self::Tree(name),
            Domain::Below(name) => Self::Below(name),
            Domain::Shape(shape) => Self::Shape(shape),
        }
    }

    fn covers(&self, its: &Self) -> bool {
        let within = |name: &str, tree: &str| name == tree || is_below(name, tree);
        match (self, its) {
            (Self::Any, Self::Address(address)) => !Host::Address(**address).is_guarded(),
            (Self::Any, Self::One(name) | Self::Tree(name) | Self::Below(name)) => {
                !within(name, "localhost")
            }
            (Self::Any, Self::Shape(shape)) => !within(shape.tail(), "localhost"),
            (Self::Any, Self::Any) => true,
            (Self::Address(own), Self::Address(its)) => own == its,
            (Self::One(own), Self::One(its)) => own == its,
            (Self::Tree(own), Self::One(its) | Self::Tree(its) | Self::Below(its)) => {
                within(its, own)
            }
            (Self::Below(own), Self::One(its) | Self::Tree(its)) => is_below(its, own),
            (Self::Below(own), Self::Below(its)) => within(its, own),
            (Self::Tree(own) | Self::Below(own), Self::Shape(its)) => within(its.tail(), own),
            (Self::Shape(own), Self::Shape(its)) => own == its,
            (
                Self::Address(_) | Self::One(_) | Self::Tree(_) | Self::Below(_) | Self::Shape(_),
                _,
            ) => false,
        }
    }
}

/// Whether a pattern may name hosts that a rule for any host does not mean.
fn is_guarded(domain: &Domain) -> bool {
    match domain {
        Domain::Any => false,
        Domain::Address(address) => Host::Address(*address).is_guarded(),
        Domain::Plain(name) | Domain::Below(name) => name.is_localhost(),
        Domain::Shape(shape) => shape.tail() == "localhost" || is_below(shape.tail(), "localhost"),
    }
}
