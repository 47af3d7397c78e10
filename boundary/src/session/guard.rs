//! The policy's files as a session found them: a reload takes no other that its command may have put in
//! their place.
//!
//! What keeps the command from a file is a mount on that very file. Somebody outside who saves it by
//! giving a new one its name has taken the mount off with the old one, and what stands there then the
//! command can write.
//!
//! *Standing*: opened before the command starts; [`super::control`] reads a policy again through it.
//! *Never*: reads a file other than the one that it looked at.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_NONBLOCK, O_PATH};

use crate::config::{Account, Host as Machine, Policy, System};

/// The files with which a session began.
#[derive(Debug)]
pub(super) struct Guarded {
    /// Held, so that none of their numbers becomes another file's.
    files: Vec<File>,
    /// As whom the command runs.
    user: u32,
}

impl Guarded {
    /// Those of a policy. One that cannot be opened is not there to be read again either.
    pub(super) fn open(policy: &Policy, user: u32) -> Self {
        let open = |path| OpenOptions::new().read(true).custom_flags(O_PATH).open(path).ok();
        Self { files: policy.files.iter().filter_map(open).collect(), user }
    }

    /// The machine as a reload sees it: with every file, or only those that the command has not put
    /// there.
    pub(super) fn reading(&self, takes_any: bool) -> Reading<'_> {
        Reading { guarded: self, takes_any }
    }

    /// Whether a file is one of those with which the session began.
    fn knows(&self, there: &Metadata) -> bool {
        let is_it = |known: Metadata| (known.dev(), known.ino()) == (there.dev(), there.ino());
        self.files.iter().filter_map(|file| file.metadata().ok()).any(is_it)
    }

    /// Whether the command's user could neither write what has a name nor give the name to something
    /// else, on the way that was named and on the one that it leads.
    fn is_out_of_reach(&self, path: &Path) -> bool {
        let ways = [std::path::absolute(path).ok(), fs::canonicalize(path).ok()];
        let is_out = |way: &Option<PathBuf>| {
            way.as_deref().is_some_and(|way| way.ancestors().all(|part| !self.may_write(part)))
        };
        self.user != 0 && ways.iter().all(is_out)
    }

    /// Whether the command's user might write something, by its owner and its mode. Whose group it is
    /// does not count: an access control list shows there too.
    fn may_write(&self, path: &Path) -> bool {
        let is_open = |there: Metadata| there.uid() == self.user || there.mode() & 0o022 != 0;
        fs::metadata(path).map_or(true, is_open)
    }
}

/// The machine, but for files that the command may have put there.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    guarded: &'a Guarded,
    takes_any: bool,
}

/// What is said of one.
const REPLACED: &str = "it is not the file that this session began with, so that its command may have \
                        written it: see what it says, then boundary ctl reload --replaced";

impl System for Reading<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // A pipe that somebody has put there is not waited for.
        let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        let is_taken = self.takes_any
            || self.guarded.knows(&file.metadata()?)
            || self.guarded.is_out_of_reach(path);
        if !is_taken {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, REPLACED));
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    fn exists(&self, path: &Path) -> bool {
        Machine.exists(path)
    }

    fn account(&self, uid: u32) -> Option<Account> {
        Machine.account(uid)
    }

    fn list(&self, path: &Path) -> Vec<PathBuf> {
        Machine.list(path)
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        Machine.variable(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user who owns nothing here.
    const NOBODY: u32 = 61_234;

    /// What a reload reads at a path, for a command that runs as somebody.
    fn read(files: &[&Path], path: &Path, user: u32, takes_any: bool) -> io::Result<Vec<u8>> {
        let files = files.iter().map(|file| file.to_path_buf()).collect();
        let guarded = Guarded::open(&Policy { files, ..Policy::default() }, user);
        let other = path.with_extension("other");
        if other.exists() {
            fs::rename(&other, path).unwrap();
        }
        guarded.reading(takes_any).read(path)
    }

    #[test]
    fn a_file_that_was_replaced_is_taken_only_where_that_is_meant() {
        let folder = std::env::temp_dir().join(format!("boundary-guard-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("policy.yaml");
        let other = folder.join("policy.other");
        fs::write(&file, "one").unwrap();
        // Written by whoever can, but the same file.
        assert_eq!(read(&[&file], &file, 0, false).unwrap(), b"one");
        fs::write(&other, "two").unwrap();
        let refused = read(&[&file], &file, 0, false).unwrap_err();
        assert!(refused.to_string().contains("--replaced"), "{refused}");
        assert_eq!(read(&[], &file, 0, true).unwrap(), b"two");
        // One that was not there at all, of a user below whose folder it stands.
        assert!(read(&[], &file, NOBODY, false).is_err(), "anybody may write below /tmp");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_only_others_can_replace_is_taken() {
        let file = Path::new("/etc/passwd");
        assert!(read(&[], file, NOBODY, false).is_ok(), "root's alone, and so is the way to it");
        assert!(read(&[], file, 0, false).is_err(), "for root's command nothing is out of reach");
    }
}
