//! Text to [`Rule`], with the column of the first mistake.
//!
//! *Standing*: the configuration reads every rule through here before anything runs.
//! *Never*: widens what it does not understand; what is left over is a mistake.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::pattern::{Domain, Path};
use super::{DomainMatch, Host, Intent, Method, Scheme};

mod compare;
mod element;

pub use compare::Part;

/// One rule of a policy: a conjunction of its keys, each a disjunction of its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    text: Box<str>,
    proto: Proto,
    keys: Keys,
}

/// What the keys of a rule say; an empty list says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Keys {
    methods: Vec<MethodPattern>,
    domains: Vec<Domain>,
    hosts: Vec<Host>,
    paths: Vec<Path>,
    ports: Vec<RangeInclusive<u16>>,
}

/// One element of `method=`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MethodPattern {
    Any,
    Exactly(Method),
}

/// What a rule lets be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Proto {
    /// HTTP, plain or in TLS that the proxy opens.
    #[default]
    Http,
    /// TLS that stays closed.
    Tls,
    /// Any bytes.
    Tcp,
}

impl Rule {
    /// The rule as it was written, without the blanks around it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether every key of the rule but those of the host agrees with an intent.
    pub(super) fn permits(&self, intent: &Intent) -> bool {
        let speaks = match intent.scheme() {
            Scheme::Http | Scheme::Https => self.proto == Proto::Http,
            Scheme::Tls => self.proto == Proto::Tls,
            Scheme::Tcp => self.proto == Proto::Tcp,
        };
        let Keys { methods, domains: _, hosts: _, paths, ports } = &self.keys;
        speaks
            && agrees(ports, |ports| ports.contains(&intent.port()))
            && agrees(methods, |pattern| match pattern {
                MethodPattern::Any => true,
                MethodPattern::Exactly(own) => intent.method() == Some(own),
            })
            && agrees(paths, |pattern| intent.path().is_some_and(|path| pattern.covers(path)))
    }

    /// Whether `host=` and `domain=` agree on a host that the index found under one of them.
    /// With only one of them there is nothing left to ask, however long its list.
    pub(super) fn agrees_on(&self, host: &Host, reading: DomainMatch) -> bool {
        self.keys.hosts.is_empty()
            || self.keys.domains.is_empty()
            || self.keys.domains.iter().any(|pattern| pattern.covers(host, reading))
    }

    /// Whether `host=` and `domain=` agree on a host, wherever the index has the rule.
    pub(super) fn covers_host(&self, host: &Host, reading: DomainMatch) -> bool {
        agrees(&self.keys.hosts, |own| own == host)
            && agrees(&self.keys.domains, |pattern| pattern.covers(host, reading))
    }

    /// Whether the rule names an address.
    pub fn names(&self, address: IpAddr) -> bool {
        self.keys.hosts.contains(&Host::Address(address))
            || self.keys.domains.contains(&Domain::Address(address))
    }

    /// Whether it says which hosts it is about, by `domain=` or by `host=`.
    pub fn names_hosts(&self) -> bool {
        !self.keys.domains.is_empty() || !self.keys.hosts.is_empty()
    }

    /// The patterns of `domain=`.
    pub(super) fn domains(&self) -> &[Domain] {
        &self.keys.domains
    }

    /// The hosts of `host=`.
    pub(super) fn hosts(&self) -> &[Host] {
        &self.keys.hosts
    }
}

/// Whether a key is absent or one of its list agrees.
fn agrees<T>(list: &[T], agree: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(agree)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Rule {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let mut draft = Draft::default();
        text.split_ascii_whitespace()
            .try_for_each(|pair| draft.read(pair))
            .and_then(|()| draft.finish(text))
            .map_err(|slip| slip.into_mistake(text))
    }
}

/// From a string, so that a file's mistakes carry their line.
impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Rule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule, such as `domain=example.com`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Rule, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Why a rule does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {what}")]
pub struct Mistake {
    /// The 1-based column of the first mistake, in characters.
    pub column: usize,
    /// What is wrong there, and what would be right.
    pub what: String,
}

/// A mistake as it is found: `at` is a part of the rule's text.
struct Slip<'a> {
    at: &'a str,
    what: String,
}

impl<'a> Slip<'a> {
    fn new(at: &'a str, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }

    /// Finds the column: the part lies inside the text, so its distance is how far it is in.
    fn into_mistake(self, text: &str) -> Mistake {
        let offset = self.at.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        let before = text.get(..offset).unwrap_or_default();
        Mistake { column: before.chars().count().saturating_add(1), what: self.what }
    }
}

/// A rule while its pairs are read.
#[derive(Default)]
struct Draft<'a> {
    keys: Keys,
    proto: Option<Proto>,
    /// The first pair that only HTTP has.
    http_pair: Option<&'a str>,
    /// The pair that says `proto=`.
    proto_pair: &'a str,
}

impl<'a> Draft<'a> {
    /// Reads one `key=value`.
    fn read(&mut self, pair: &'a str) -> Result<(), Slip<'a>> {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Slip::new(pair, element::without_key(pair)));
        };
        match key {
            "method" => {
                self.http_pair.get_or_insert(pair);
                list(value, element::method, &mut self.keys.methods)
            }
            "path" => {
                self.http_pair.get_or_insert(pair);
                list(value, element::path, &mut self.keys.paths)
            }
            "domain" => {
                once(pair, "domain", self.keys.domains.is_empty())?;
                list(value, element::domain, &mut self.keys.domains)
            }
            "host" => {
                once(pair, "host", self.keys.hosts.is_empty())?;
                list(value, element::host, &mut self.keys.hosts)
            }
            "port" => {
                once(pair, "port", self.keys.ports.is_empty())?;
                list(value, element::port, &mut self.keys.ports)
            }
            "proto" => {
                once(pair, "proto", self.proto.is_none())?;
                self.proto_pair = pair;
                let proto = element::proto(value).map_err(|what| Slip::new(value, what))?;
                self.proto = Some(proto);
                Ok(())
            }
            _ => Err(Slip::new(pair, element::unknown_key(key))),
        }
    }

    /// Checks what the pairs say together.
    fn finish(self, text: &'a str) -> Result<Rule, Slip<'a>> {
        let Self { keys, proto, http_pair, proto_pair } = self;
        if keys == Keys::default() && proto.is_none() {
            let what = "an empty rule would permit everything; write `domain=*` if that is meant";
            return Err(Slip::new(text, what));
        }
        let proto = proto.unwrap_or_default();
        if let (Proto::Tls | Proto::Tcp, Some(pair)) = (proto, http_pair) {
            let what = format!(
                "a connection under `{proto_pair}` is not opened, so it has no method and no path; leave this out"
            );
            return Err(Slip::new(pair, what));
        }
        if proto == Proto::Tcp && keys.ports.is_empty() {
            let what = "`proto=tcp` needs a port: `proto=tcp port=22`";
            return Err(Slip::new(proto_pair, what));
        }
        Ok(Rule { text: text.trim_ascii().into(), proto, keys })
    }
}

/// Refuses a key that was there before and does not accumulate.
fn once<'a>(pair: &'a str, key: &str, is_first: bool) -> Result<(), Slip<'a>> {
    if is_first {
        return Ok(());
    }
    let what = match key {
        "proto" => "`proto=` stands once in a rule; write a rule for each".to_owned(),
        _ => format!("`{key}=` stands once in a rule; write a list, `{key}=a,b`"),
    };
    Err(Slip::new(pair, what))
}

/// Reads a comma list.
fn list<'a, T>(
    value: &'a str,
    read: impl Fn(&str) -> Result<T, String>,
    out: &mut Vec<T>,
) -> Result<(), Slip<'a>> {
    for element in value.split(',') {
        if element.is_empty() {
            let what = if value.is_empty() {
                "a value is missing after `=`"
            } else {
                "an empty element in a list; a list is `a,b`, without blanks and without a comma at its ends"
            };
            return Err(Slip::new(element, what));
        }
        out.push(read(element).map_err(|what| Slip::new(element, what))?);
    }
    Ok(())
}
