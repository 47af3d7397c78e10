//! The machine, as far as the configuration asks it; a test puts its own in place.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, getegid, geteuid};

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
}

/// Everything the configuration may ask of the system.
pub trait System {
    /// A file's content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Whether something stands there.
    fn exists(&self, path: &Path) -> bool;
    /// A user's account.
    fn account(&self, uid: u32) -> Option<Account>;
}

/// The machine boundary runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

impl System for Host {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn account(&self, uid: u32) -> Option<Account> {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
        Some(Account { name: user.name, gid: user.gid.as_raw(), home: user.dir })
    }
}
