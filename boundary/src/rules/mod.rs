//! The decision: pure, total, default no.
//!
//! *Standing*: the proxy and the resolver hand in an [`Intent`]; a [`Permit`] or a [`Denial`] comes back.
//! *Never*: touches a socket, a clock, a file or randomness.

mod grammar;
mod intent;
mod pattern;

pub use grammar::{Mistake, Rule};
pub use intent::{Host, Intent, Method, Scheme, Unclear};

use std::net::IpAddr;
use std::sync::Arc;

/// How `domain=` reads a pattern without a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainMatch {
    /// The domain and everything below it.
    #[default]
    Subdomains,
    /// The domain alone.
    Exact,
}

/// Every rule of a policy, ready to decide.
#[derive(Debug, Default)]
pub struct RuleSet {}

impl RuleSet {
    /// Builds the set from rules in the order they were given.
    pub fn new(_rules: Vec<Rule>, _reading: DomainMatch) -> Self {
        unimplemented!()
    }

    /// Whether nothing is permitted at all.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// Decides one request; the only maker of a [`Permit`].
    pub fn decide(&self, _intent: Intent) -> Result<Permit, Denial> {
        unimplemented!()
    }
}

/// Proof that a rule grants an intent. Without one nothing is dialled.
#[must_use]
#[derive(Debug, Clone)]
pub struct Permit {
    intent: Intent,
    rule: Arc<Rule>,
}

impl Permit {
    /// What was permitted.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// The text of the rule that granted it.
    pub fn rule(&self) -> &str {
        unimplemented!()
    }

    /// Whether the permitted name may be reached at the address it resolved to.
    pub fn admits(&self, _address: IpAddr) -> Result<(), Denial> {
        unimplemented!()
    }
}

/// A refusal: a value, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why, as a stable code.
    pub code: Code,
    /// What was asked, where it could be understood.
    pub intent: Option<Intent>,
}

impl Denial {
    /// The one `--allow` value that would permit it, if any could.
    pub fn remedy(&self) -> Option<String> {
        unimplemented!()
    }
}

/// Why something was refused. The text of a code never changes once published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No rule permits it.
    NoRule,
}

impl Code {
    /// The stable text of the code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
        }
    }
}
