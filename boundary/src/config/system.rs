//! The machine, as far as the configuration asks it; a test puts its own in place.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::{Uid, User, getegid, geteuid};

use super::{Invoker, ask};

/// What boundary was started with.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The variables, in no order.
    pub variables: Vec<(OsString, OsString)>,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
}

impl Environment {
    /// That of this process.
    pub fn own() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        }
    }

    /// A variable's value; an empty one counts as unset.
    ///
    /// A name in another case counts where the exact one is not there: the Go tool reads an
    /// upper-cased environment.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let value = |wanted: &dyn Fn(&OsStr) -> bool| {
            self.variables
                .iter()
                .find(|(name, value)| wanted(name) && !value.is_empty())
                .map(|(_, value)| value.as_os_str())
        };
        value(&|found| found == name).or_else(|| value(&|found| found.eq_ignore_ascii_case(name)))
    }
}

/// An account of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// Everything the configuration may ask of the system.
pub trait System {
    /// A file's content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The same file's one name: two paths may lead to it.
    fn name(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
    /// Whether something stands there.
    fn exists(&self, path: &Path) -> bool;
    /// A user's account.
    fn account(&self, uid: u32) -> Option<Account>;
    /// What lies in a folder, in order; nothing where it is not one.
    fn list(&self, _path: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
    /// A variable of the environment, for what programs of the system go by.
    fn variable(&self, _name: &str) -> Option<OsString> {
        None
    }
    /// What a program of the system says.
    fn ask(&self, question: &Question<'_>) -> Result<String, Unasked> {
        Err(Unasked::Missing { program: question.program.to_owned() })
    }
}

/// The machine boundary runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

impl System for Host {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn name(&self, path: &Path) -> PathBuf {
        fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn account(&self, uid: u32) -> Option<Account> {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
        let User { name, gid, dir: home, shell, .. } = user;
        Some(Account { name, gid: gid.as_raw(), home, shell })
    }

    fn list(&self, path: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    fn ask(&self, question: &Question<'_>) -> Result<String, Unasked> {
        ask::ask(question)
    }
}

/// A question to a program of the system.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The program, as it is found on the path.
    pub program: &'a str,
    /// What it is told.
    pub arguments: &'a [&'a str],
    /// What it finds in its environment besides.
    pub variables: &'a [(&'a str, &'a str)],
    /// As whom it runs, and whose home it finds.
    pub user: &'a Invoker,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unasked {
    /// It is not there.
    #[error("{program} is not installed here (not on PATH)")]
    Missing {
        /// The program.
        program: String,
    },
    /// It could not be run.
    #[error("{program} could not be asked: {error}")]
    Call {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// It ended otherwise than in order.
    #[error("{program} did not answer what it is configured for ({status})")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It took too long.
    #[error("{program} did not answer within {} seconds what it is configured for", .after.as_secs())]
    Late {
        /// The program.
        program: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// It has too much to say.
    #[error("{program} said more than {} KiB of what it is configured for", .most / 1024)]
    Long {
        /// The program.
        program: String,
        /// How many bytes are taken.
        most: usize,
    },
}
