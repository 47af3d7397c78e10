//! Presets: rules that many policies need, by name.
//!
//! *Standing*: a policy includes them. A shipped one is a file of the repository, the same in every
//! place; one of a package manager asks that manager where it gets packages from, so that a mirror
//! is what it permits. *Never*: names a host of a package manager by itself.

use super::file::Included;
use super::{Invoker, System};
use crate::rules::Rule;

/// A preset.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// What it is called.
    pub name: &'static str,
    kind: Kind,
}

/// Where a preset's rules come from.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A file of the repository.
    Shipped(&'static str),
}

/// A shipped preset.
macro_rules! shipped {
    ($($name:literal),+) => {
        &[$(Preset {
            name: $name,
            kind: Kind::Shipped(include_str!(concat!("../../presets/", $name, ".yaml"))),
        }),+]
    };
}

/// Every preset, in the order of their names.
pub const ALL: &[Preset] = shipped!["claude-code", "codex", "github-readonly", "gitlab-readonly"];

impl Preset {
    /// The preset of a name.
    pub fn find(name: &str) -> Option<Self> {
        ALL.iter().copied().find(|preset| preset.name == name)
    }

    /// What it is for, in a line.
    pub fn description(&self) -> String {
        match self.kind {
            Kind::Shipped(text) => included(self.name, text)
                .map(|included| included.description.unwrap_or_default())
                .unwrap_or_default(),
        }
    }

    /// Where its hosts are documented.
    pub fn sources(&self) -> Vec<String> {
        match self.kind {
            Kind::Shipped(text) => included(self.name, text)
                .map(|included| included.sources.unwrap_or_default())
                .unwrap_or_default(),
        }
    }

    /// Its rules, or why there are none to be had here.
    pub fn rules(&self, _system: &dyn System, _user: &Invoker) -> Result<Vec<Rule>, String> {
        match self.kind {
            Kind::Shipped(text) => {
                let included = included(self.name, text)?;
                Ok(included.allowlist.into_iter().flatten().map(|read| read.0).collect())
            }
        }
    }
}

/// A shipped file, read.
fn included(name: &str, text: &str) -> Result<Included, String> {
    Included::parse(name.as_ref(), text.as_bytes()).map_err(|error| error.to_string())
}

/// What is said of a name that is no preset.
pub(super) fn unknown(name: &str) -> String {
    let names: Vec<&str> = ALL.iter().map(|preset| preset.name).collect();
    format!(
        "`{}` is no preset and no file; the presets are {}, and a file's name has a `/` or ends in .yaml",
        name.escape_debug(),
        names.join(", ")
    )
}
