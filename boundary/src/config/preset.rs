//! Presets: rules that many policies need, by name.
//!
//! *Standing*: a policy includes them. A shipped one is a file of the repository, the same in every
//! place; one of a package manager asks that manager where it gets packages from, so that a mirror
//! is what it permits. *Never*: names a host of a package manager by itself.

use super::file::Included;
use super::manager::Manager;
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
    /// What a package manager says.
    Asked(Manager),
}

/// A shipped preset.
macro_rules! shipped {
    ($name:literal) => {
        Preset {
            name: $name,
            kind: Kind::Shipped(include_str!(concat!("../../presets/", $name, ".yaml"))),
        }
    };
}

/// A preset of a package manager.
const fn asked(name: &'static str, manager: Manager) -> Preset {
    Preset { name, kind: Kind::Asked(manager) }
}

/// Every preset, in the order of their names.
pub const ALL: &[Preset] = &[
    asked("apt", Manager::Apt),
    asked("cargo", Manager::Cargo),
    shipped!("claude-code"),
    shipped!("codex"),
    shipped!("github-readonly"),
    shipped!("gitlab-readonly"),
    asked("go", Manager::Go),
    asked("npm", Manager::Npm),
    asked("pip", Manager::Pip),
];

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
            Kind::Asked(manager) => manager.description().to_owned(),
        }
    }

    /// Where its hosts are documented.
    pub fn sources(&self) -> Vec<String> {
        match self.kind {
            Kind::Shipped(text) => included(self.name, text)
                .map(|included| included.sources.unwrap_or_default())
                .unwrap_or_default(),
            Kind::Asked(manager) => vec![manager.source().to_owned()],
        }
    }

    /// Whether its rules are what a program of the system says, at the moment when it is asked.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.kind, Kind::Asked(_))
    }

    /// Its rules, or why there are none to be had here.
    pub fn rules(&self, system: &dyn System, user: &Invoker) -> Result<Vec<Rule>, String> {
        match self.kind {
            Kind::Asked(manager) => manager.rules(system, user),
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
