//! Text to [`Rule`], with the column of the first mistake.

use std::str::FromStr;

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    text: Box<str>,
}

impl FromStr for Rule {
    type Err = Mistake;

    fn from_str(_text: &str) -> Result<Self, Mistake> {
        unimplemented!()
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
