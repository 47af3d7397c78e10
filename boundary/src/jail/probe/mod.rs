//! What this machine lets us do: every primitive that a jail is made of, tried by itself.
//!
//! ```text
//! primitive ── yes | refused (errno) | error | not asked ──┐
//!                                                          ├→ which jail it decides → what to do
//! ```
//!
//! *Standing*: `boundary doctor` shows the whole [`Report`]; a session that cannot raise its jail
//! names the row that decided it. What a machine is called, or what runs it, is nowhere looked at:
//! only what it lets us do. *Never*: leaves anything behind. What is tried is tried in a process of
//! its own, which ends.

mod advice;
mod hooks;
mod spaces;
mod steps;
mod way_in;

use std::fmt;

use boundary_common::PROGRAMS;
use nix::errno::Errno;

use super::child::Identity;
use super::{Call, Choice};

/// One thing that a jail is made of.
#[derive(Debug, Clone, Copy)]
pub struct Primitive {
    /// What it is called, in few words.
    pub name: &'static str,
    /// The jails that it decides.
    pub jails: &'static [Choice],
    /// Whether they can be raised without it.
    pub is_optional: bool,
    /// What it needs, where the errno does not tell by itself.
    pub needs: &'static str,
}

impl Primitive {
    /// What it is called where nothing around says what it is.
    pub fn title(&self) -> String {
        let kind = if PROGRAMS.contains(&self.name) { "hook " } else { "" };
        format!("{kind}{}", self.name)
    }
}

/// What became of trying it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there; with what is worth knowing of it.
    Yes(String),
    /// The kernel, or what guards it, says no.
    Refused(Errno),
    /// It could not be tried.
    Failed(String),
    /// Not tried, because something before it that it needs is not there.
    Unasked,
}

impl Found {
    /// What an attempt came to.
    fn of(tried: Result<(), Errno>) -> Self {
        match tried {
            Ok(()) => Self::Yes(String::new()),
            Err(error) => Self::Refused(error),
        }
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        matches!(self, Self::Yes(_))
    }

    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Yes(_) => "yes",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "error",
            Self::Unasked => "unasked",
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes(detail) if detail.is_empty() => f.write_str("yes"),
            Self::Yes(detail) => write!(f, "yes, {detail}"),
            Self::Refused(error) => write!(f, "refused ({})", name_of(*error)),
            Self::Failed(why) => write!(f, "error: {why}"),
            Self::Unasked => f.write_str("not tried"),
        }
    }
}

/// The name of an errno, as manual pages write it.
fn name_of(error: Errno) -> String {
    format!("{error:?}")
}

/// A row of the report.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was tried.
    pub primitive: Primitive,
    /// What came of it.
    pub found: Found,
    /// What to do where it is not there; several things may each help.
    pub remedies: Vec<String>,
}

impl Row {
    /// A row, with advice where there is need of it.
    fn new(primitive: Primitive, found: Found) -> Self {
        let remedies = match &found {
            Found::Refused(error) => advice::on(&primitive, *error),
            Found::Yes(_) | Found::Failed(_) | Found::Unasked => Vec::new(),
        };
        Self { primitive, found, remedies }
    }

    /// Whether it keeps a jail from being raised.
    fn hinders(&self, jail: Choice) -> bool {
        let is_needed = self.primitive.jails.contains(&jail) && !self.primitive.is_optional;
        is_needed && !self.found.is_there()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.primitive.title(), self.found)
    }
}

/// The jails in the order in which `auto` takes them.
pub const ORDER: [Choice; 3] = [Choice::Ebpf, Choice::Nsjail, Choice::Landjail];

/// Everything that was tried.
#[derive(Debug, Clone)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Tries everything, for a command of this user.
    ///
    /// The process must have one thread, as for every fork.
    pub fn examine(identity: &Identity) -> Self {
        let mut rows = hooks::rows(identity);
        rows.extend(spaces::rows(identity));
        rows.extend(way_in::rows(identity));
        Self { rows }
    }

    /// Every row, in the order in which they were tried.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The first row that keeps a jail from being raised; none if it can be.
    pub fn obstacle(&self, jail: Choice) -> Option<&Row> {
        self.rows.iter().find(|row| row.hinders(jail))
    }

    /// The jail that `auto` takes; none if there is none to take.
    pub fn auto(&self) -> Option<Choice> {
        ORDER.into_iter().find(|jail| self.obstacle(*jail).is_none())
    }
}

/// What a jail needs beside its walls and what can be found out without a process.
///
/// That descriptors may be shared, and that the root is a mount of its own, as it is not in a plain
/// `chroot`. To be asked before any of the jail is raised.
pub fn before(jail: Choice) -> Result<(), Call> {
    match jail {
        Choice::Ebpf | Choice::Nsjail => {
            way_in::shares_descriptors().map_err(Call::to("pidfd_getfd"))?;
            way_in::has_own_root().map_err(Call::to("mount /"))
        }
        Choice::Landjail | Choice::Auto => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(jails: &'static [Choice], is_optional: bool, found: Found) -> Row {
        Row::new(Primitive { name: "a thing", jails, is_optional, needs: "" }, found)
    }

    fn yes() -> Found {
        Found::Yes(String::new())
    }

    #[test]
    fn auto_takes_the_first_jail_that_nothing_hinders() {
        let refused = || Found::Refused(Errno::EPERM);
        let ebpf = row(&[Choice::Ebpf], false, refused());
        let nsjail = row(&[Choice::Nsjail], false, yes());
        let all = row(&ORDER, false, yes());
        let report = Report { rows: vec![ebpf.clone(), nsjail, all] };
        assert_eq!(report.auto(), Some(Choice::Nsjail));
        assert_eq!(report.obstacle(Choice::Ebpf).map(ToString::to_string), Some(ebpf.to_string()));
        let report = Report { rows: vec![row(&ORDER, false, refused())] };
        assert_eq!(report.auto(), None);
    }

    #[test]
    fn what_could_not_be_tried_hinders_and_what_is_optional_does_not() {
        for found in [Found::Unasked, Found::Failed("why".into()), Found::Refused(Errno::ENOSYS)] {
            assert!(row(&[Choice::Ebpf], false, found.clone()).hinders(Choice::Ebpf));
            assert!(!row(&[Choice::Ebpf], true, found.clone()).hinders(Choice::Ebpf));
            assert!(!row(&[Choice::Ebpf], false, found).hinders(Choice::Nsjail));
        }
        assert!(!row(&[Choice::Ebpf], false, yes()).hinders(Choice::Ebpf));
    }

    #[test]
    fn a_row_says_what_was_refused_by_its_number() {
        let row = row(&[Choice::Nsjail], false, Found::Refused(Errno::EPERM));
        assert_eq!(row.to_string(), "a thing: refused (EPERM)");
    }
}
