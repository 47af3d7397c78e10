//! Who is asked where no rule permits a request.

use std::path::PathBuf;
use std::str::FromStr;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Nobody, whatever a setting of less weight says.
    Nobody,
    /// Whoever sits at the terminal that boundary was started from.
    Terminal,
    /// A program, which gets each question as a line and answers by one.
    Program(PathBuf),
}

/// What is neither of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of `terminal`, `none` and the path of a program, which begins with `/` or `./`")]
pub struct Unknown;

impl FromStr for Prompt {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text {
            "terminal" => Ok(Self::Terminal),
            "none" => Ok(Self::Nobody),
            path if path.contains('/') => Ok(Self::Program(path.into())),
            _ => Err(Unknown),
        }
    }
}
