//! The decision: pure, total, default no.
//!
//! *Standing*: the proxy and the resolver hand in an [`Intent`]; a [`Permit`] or a [`Denial`] comes back.
//! *Never*: touches a socket, a clock, a file or randomness.

mod address;
mod asked;
mod denial;
mod difference;
mod grammar;
mod host;
mod index;
mod intent;
mod lessons;
mod lint;
mod nearest;
mod path;
mod pattern;
mod policies;
#[cfg(test)]
mod tests;
mod typo;

pub use asked::Asked;
pub use denial::{Code, Denial, quoted};
pub use difference::{Side, difference};
pub use grammar::{Mistake, Part, Rule};
pub use host::{Host, Name};
pub use intent::{Intent, Method, Scheme, Unclear};
pub use lessons::{EVERYTHING, Lessons, readable_below};
pub use lint::{Finding, Kind, lint};
pub use nearest::{Near, nearest};
pub use policies::Policies;

use std::net::IpAddr;
use std::sync::Arc;

use index::Index;

/// How `domain=` reads a pattern without a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainMatch {
    /// The domain and everything below it.
    #[default]
    Subdomains,
    /// The domain alone.
    Exact,
}

impl DomainMatch {
    /// The reading's name, as settings and records have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subdomains => "subdomains",
            Self::Exact => "exact",
        }
    }
}

/// Every rule of a policy, ready to decide. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    index: Arc<Index>,
    /// The policy around it, which has to permit the same.
    around: Option<Arc<Self>>,
}

impl RuleSet {
    /// Builds the set from rules in the order they were given.
    pub fn new(rules: Vec<Rule>, reading: DomainMatch) -> Self {
        Self { index: Arc::new(Index::new(rules, reading)), ..Self::default() }
    }

    /// Whether nothing is permitted at all.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The set with one more rule behind the others.
    #[must_use]
    pub fn with(&self, rule: Rule) -> Self {
        Self { index: Arc::new(self.index.with(rule)), around: self.around.clone() }
    }

    /// Decides one request; the only maker of a [`Permit`].
    ///
    /// The first rule in order that grants it is the one on record. What no rule grants is denied.
    pub fn decide(&self, intent: Intent) -> Result<Permit, Denial> {
        let around =
            self.around.as_ref().map(|around| around.decide(intent.clone())).transpose()?;
        match self.index.grants(&intent).map(Arc::clone) {
            Some(rule) => {
                let (index, around) = (Arc::clone(&self.index), around.map(Arc::new));
                Ok(Permit { intent, rule, index, around, also: Vec::new() })
            }
            None if intent.host().is_guarded() && self.index.grants_unguarded(&intent) => {
                Err(Denial::of(Code::AddressRefused, intent))
            }
            None => Err(Denial::of(Code::NoRule, intent)),
        }
    }

    /// Whether a rule names a request whatever its method: the reading of a list of targets, in
    /// which a rule with a method of its own names none. No permit comes of it.
    pub fn targets(&self, intent: &Intent) -> bool {
        !self.is_empty() && self.index.grants(&intent.without_method()).is_some()
    }

    /// Whether any rule at all covers a host: whether its name is worth an answer.
    pub fn names_host(&self, host: &Host) -> bool {
        self.index.covers(host) && self.around.as_ref().is_none_or(|around| around.names_host(host))
    }

    /// Whether some rule covers a host and does not cover another as well.
    pub fn tells_apart(&self, host: &Host, other: &Host) -> bool {
        self.index.tells_apart(host, other)
    }
}

/// Proof that a rule grants an intent. Without one nothing is dialled.
///
/// It cannot be made but by [`RuleSet::decide`]:
///
/// ```compile_fail,E0451
/// use boundary::rules::{Intent, Permit};
/// fn forge(intent: Intent, other: Permit) -> Permit {
///     Permit { intent, ..other }
/// }
/// ```
#[must_use]
#[derive(Debug, Clone)]
pub struct Permit {
    intent: Intent,
    rule: Arc<Rule>,
    index: Arc<Index>,
    /// That of the policy around, where there is one.
    around: Option<Arc<Self>>,
    /// Those of what else the request may be taken for.
    also: Vec<Self>,
}

impl Permit {
    /// The same for a request that may be taken for others, each of which is permitted: it gets only
    /// where all of them may.
    pub fn along(self, also: Vec<Self>) -> Self {
        Self { also, ..self }
    }

    /// What was permitted.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// The text of the rule that granted it.
    pub fn rule(&self) -> &str {
        self.rule.as_str()
    }

    /// Whether the permitted name may be reached at the address it resolved to.
    ///
    /// A guarded address (this machine, its link, its cloud's metadata, many at once) may be
    /// reached only if a rule that grants the intent names that address too; loopback also by the
    /// name `localhost`. An intent whose host is an address is reached there and nowhere else.
    pub fn admits(&self, address: IpAddr) -> Result<(), Denial> {
        if let Some(around) = &self.around {
            around.admits(address)?;
        }
        self.also.iter().try_for_each(|also| also.admits(address))?;
        let address = address.to_canonical();
        let is_admitted = match self.intent.host() {
            Host::Address(own) => *own == address,
            Host::Name(name) => {
                !address::is_guarded(address)
                    || (name.is_localhost() && address.is_loopback())
                    || self.index.grants_at(&self.intent, address)
            }
        };
        if is_admitted {
            return Ok(());
        }
        let address = Some(address);
        Err(Denial { address, ..Denial::of(Code::AddressRefused, self.intent.clone()) })
    }
}
