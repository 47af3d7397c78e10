//! The jail that was asked for.

use std::fmt;
use std::str::FromStr;

/// Which jail was asked for; what was raised is the session's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Choice {
    /// The first of the others whose primitives all answer a probe.
    #[default]
    Auto,
    /// An own cgroup whose programs turn every connection.
    Ebpf,
    /// A network namespace with no way out.
    Nsjail,
    /// A supervisor that makes every socket.
    Landjail,
}

impl Choice {
    /// The name that a user writes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Nsjail => "nsjail",
            Self::Landjail => "landjail",
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The user namespace that the command of a network namespace jail is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Users {
    /// One of its own, which is all that it takes.
    #[default]
    Own,
    /// The machine's: it takes root to make the others, as where no user namespace may be made.
    Machine,
}

/// Text that names no jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a jail: one of auto, ebpf, nsjail, landjail")]
pub struct UnknownJail;

impl FromStr for Choice {
    type Err = UnknownJail;

    /// Takes the exact lower-case name only, as the Go tool does.
    fn from_str(text: &str) -> Result<Self, UnknownJail> {
        [Self::Auto, Self::Ebpf, Self::Nsjail, Self::Landjail]
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or(UnknownJail)
    }
}
