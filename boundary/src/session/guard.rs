//! The policy's files as a session found them: a reload takes nothing that its command may have written.
//!
//! What keeps the command from a file is a mount on that file's one name, where the jail has one at all.
//! Somebody outside who saves it by giving a new one its name has taken the mount off with the old one,
//! and a second name of the same file never had it.
//!
//! *Standing*: opened before the command starts; [`super::control`] reads a policy again through it.
//! *Never*: takes a file other than the one that it looked at.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use nix::errno::Errno;
use nix::libc::{O_NONBLOCK, O_PATH};

use crate::config::{Account, Host as Machine, Policy, System};

/// How many folders, links and files a way may have: more than any that the kernel walks.
const LONGEST: usize = 4096;

/// The files with which a session began.
#[derive(Debug)]
pub(super) struct Guarded {
    files: Vec<Known>,
    /// As whom the command runs.
    user: u32,
    /// Whether a mount keeps the command from each.
    is_walled: bool,
}

/// A file as it was at the start.
#[derive(Debug)]
struct Known {
    /// As the policy names it.
    path: PathBuf,
    /// Held, so that its number does not become another file's.
    file: File,
    /// How many names it had: one that has two is behind a wall under one of them alone.
    names: u64,
    /// What it said: how long that is, and its digest.
    said: Option<(u64, Vec<u8>)>,
}

impl Guarded {
    /// Those of a policy. One that cannot be opened is not there to be read again either.
    pub(super) fn open(policy: &Policy, user: u32, is_walled: bool) -> Self {
        let files = policy.files.iter().filter_map(|path| Known::open(path).ok()).collect();
        Self { files, user, is_walled }
    }

    /// The machine as a reload sees it: with every file, or only those that the command has not
    /// written.
    pub(super) fn reading(&self, takes_any: bool) -> Reading<'_> {
        Reading { guarded: self, takes_any }
    }

    /// What was known at a path.
    fn known(&self, path: &Path) -> Option<&Known> {
        self.files.iter().find(|known| known.path == path)
    }

    /// Whether the command can have written what was opened under a path in no way.
    fn is_out_of_reach(&self, path: &Path, opened: &Metadata) -> bool {
        let is_behind_wall = self.is_walled && self.known(path).is_some_and(|it| it.is_it(opened));
        is_behind_wall || self.user != 0 && is_roots_alone(path, opened)
    }
}

impl Known {
    /// Opens a file. What is none (a pipe of the caller's) is not read: that would take it away.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(O_PATH).open(path)?;
        let there = file.metadata()?;
        let said = there.is_file().then(|| fs::read(path).ok()).flatten();
        let said = said.map(|content| (content.len() as u64, digest_of(&content)));
        Ok(Self { path: path.to_owned(), file, names: there.nlink(), said })
    }

    /// Whether a file is this one, and has had one name only. What has one more gets it from outside, or
    /// around the wall.
    fn is_it(&self, opened: &Metadata) -> bool {
        let is_same = |known: Metadata| (known.dev(), known.ino()) == (opened.dev(), opened.ino());
        let is_one = self.names == 1 && opened.nlink() == 1 && opened.is_file();
        is_one && self.file.metadata().is_ok_and(is_same)
    }

    /// What a file says, if that is what this one said. No more is read than that can be.
    fn unchanged(&self, file: &mut File) -> io::Result<Option<Vec<u8>>> {
        let Some((length, digest)) = &self.said else { return Ok(None) };
        let mut content = Vec::new();
        file.take(length.saturating_add(1)).read_to_end(&mut content)?;
        Ok((digest_of(&content) == *digest).then_some(content))
    }
}

/// The digest of a content.
fn digest_of(content: &[u8]) -> Vec<u8> {
    digest(&SHA256, content).as_ref().to_vec()
}

/// Whether nobody but root could write what was opened under a path, by whatever name, nor give the path
/// to something else: a folder that others may write is looked at before anything that is found there.
fn is_roots_alone(path: &Path, opened: &Metadata) -> bool {
    let Ok(way) = way_to(path) else { return false };
    let is_opened = |there: Metadata| (there.dev(), there.ino()) == (opened.dev(), opened.ino());
    let end = way.last().and_then(|end| fs::symlink_metadata(end).ok());
    let is_one = opened.is_file() && opened.nlink() == 1;
    is_one && way.iter().all(|part| is_roots(part)) && end.is_some_and(is_opened)
}

/// Whether only root may write something, by its owner and its mode. Whose group it is does not count:
/// an access control list shows there too. A link's mode says nothing.
fn is_roots(part: &Path) -> bool {
    let is_closed = |it: &Metadata| it.is_symlink() || it.mode() & 0o022 == 0;
    fs::symlink_metadata(part).is_ok_and(|it| it.uid() == 0 && is_closed(&it))
}

/// Every folder and link on the way to a file, and the file, as the kernel walks them.
fn way_to(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut here = PathBuf::from("/");
    let mut way = vec![here.clone()];
    let mut ahead = steps(&std::path::absolute(path)?);
    while let Some(step) = ahead.pop() {
        if step == ".." {
            here.pop();
            continue;
        }
        here.push(step);
        way.push(here.clone());
        if way.len() > LONGEST {
            return Err(Errno::ELOOP.into());
        }
        if fs::symlink_metadata(&here)?.is_symlink() {
            let to = fs::read_link(&here)?;
            here.pop();
            if to.is_absolute() {
                here = PathBuf::from("/");
            }
            ahead.extend(steps(&to));
        }
    }
    Ok(way)
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let is_step =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let steps = path.components().filter(is_step).map(|part| part.as_os_str().to_owned());
    steps.rev().collect()
}

/// The machine, but for files that the command may have written.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    guarded: &'a Guarded,
    takes_any: bool,
}

/// What is said of one.
const REPLACED: &str = "it is not the file that this session began with, so that its command may have \
                        written it: see what it says, then boundary ctl reload --replaced";
/// What is said where no file is kept from the command.
const EDITED: &str = "it does not say what it said when this session began, and in landjail its command \
                      may have written it: see what it says, then boundary ctl reload --replaced";
/// What is said of one that is missed.
const GONE: &str = "it is gone, which may be its command's doing: boundary ctl reload --replaced goes on \
                    without it";

impl Reading<'_> {
    /// What a file says, if it is taken.
    fn taken(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        // A pipe that somebody has put there is not waited for.
        let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        let opened = file.metadata()?;
        if self.takes_any || self.guarded.is_out_of_reach(path, &opened) {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            return Ok(Some(content));
        }
        let known = self.guarded.known(path).filter(|_| opened.is_file());
        known.map_or(Ok(None), |known| known.unchanged(&mut file))
    }

    /// Whether a file of the start is missed.
    fn misses(&self, path: &Path) -> bool {
        !self.takes_any && self.guarded.known(path).is_some()
    }
}

impl System for Reading<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why);
        match self.taken(path) {
            Ok(Some(content)) => Ok(content),
            Ok(None) if self.guarded.is_walled => Err(refused(REPLACED)),
            Ok(None) => Err(refused(EDITED)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.misses(path) => {
                Err(refused(GONE))
            }
            Err(error) => Err(error),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        // Or the command could take a file away, and have the next one in its place.
        self.misses(path) || Machine.exists(path)
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
    use std::os::unix::fs::symlink;

    use super::*;

    /// A user who owns nothing here.
    const NOBODY: u32 = 61_234;

    /// The files of a session, for a command that runs as somebody.
    fn guarded(files: &[&Path], user: u32, is_walled: bool) -> Guarded {
        let files = files.iter().map(|file| file.to_path_buf()).collect();
        Guarded::open(&Policy { files, ..Policy::default() }, user, is_walled)
    }

    /// A folder of a test's own, without links on the way to it.
    fn folder() -> PathBuf {
        let name = format!("boundary-guard-{}", uuid::Uuid::new_v4());
        let folder = fs::canonicalize(std::env::temp_dir()).unwrap().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_that_was_replaced_is_taken_only_where_that_is_meant() {
        let folder = folder();
        let [file, other] = ["policy.yaml", "policy.other"].map(|name| folder.join(name));
        fs::write(&file, "one").unwrap();
        let session = guarded(&[&file], 0, true);
        fs::write(&file, "edited").unwrap();
        assert_eq!(session.reading(false).read(&file).unwrap(), b"edited");
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &file).unwrap();
        let refused = session.reading(false).read(&file).unwrap_err();
        assert!(refused.to_string().contains("--replaced"), "{refused}");
        assert_eq!(session.reading(true).read(&file).unwrap(), b"two");
        // One that says what the first one said cannot have been written by the command.
        fs::write(&file, "one").unwrap();
        assert_eq!(session.reading(false).read(&file).unwrap(), b"one");
        // One that was not there at all, of a user below whose folder it stands.
        let session = guarded(&[], NOBODY, true);
        assert!(session.reading(false).read(&file).is_err(), "anybody may write below /tmp");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_the_command_can_name_otherwise_is_edited_only_where_that_is_meant() {
        let folder = folder();
        let [file, second] = ["policy.yaml", "second"].map(|name| folder.join(name));
        fs::write(&file, "one").unwrap();
        let session = guarded(&[&file], 0, true);
        fs::hard_link(&file, &second).unwrap();
        fs::write(&second, "two").unwrap();
        assert!(session.reading(false).read(&file).is_err(), "the mount is on one name");
        // A session that began with both, of which one was taken away again.
        let session = guarded(&[&file], 0, true);
        fs::write(&second, "three").unwrap();
        fs::remove_file(&second).unwrap();
        assert!(session.reading(false).read(&file).is_err(), "it was written by then");
        // Where there is no mount at all.
        let session = guarded(&[&file], 0, false);
        assert_eq!(session.reading(false).read(&file).unwrap(), b"three");
        fs::write(&file, "three and more").unwrap();
        let refused = session.reading(false).read(&file).unwrap_err();
        assert!(refused.to_string().contains("landjail"), "{refused}");
        assert_eq!(session.reading(true).read(&file).unwrap(), b"three and more");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_is_taken_away_is_missed() {
        let folder = folder();
        let file = folder.join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let session = guarded(&[&file], 0, false);
        fs::remove_file(&file).unwrap();
        assert!(session.reading(false).exists(&file), "or the next one would be read");
        let refused = session.reading(false).read(&file).unwrap_err();
        assert!(refused.to_string().contains("it is gone"), "{refused}");
        assert!(!session.reading(true).exists(&file));
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Of three links, the middle one is where others may write: its folder is looked at, though the name
    /// does not say it, nor does the end.
    #[test]
    fn every_link_on_the_way_is_looked_at() {
        let folder = folder();
        let parts = ["named", "middle", "far"].map(|name| folder.join(name));
        for part in &parts {
            fs::create_dir(part).unwrap();
        }
        let [named, middle, far] = parts.each_ref().map(|part| part.join("link"));
        let end = Path::new("/etc/passwd");
        symlink("../middle/link", &named).unwrap();
        symlink(&far, &middle).unwrap();
        symlink(end, &far).unwrap();
        let way = way_to(&named).unwrap();
        for part in parts.iter().chain([&named, &middle, &far, &folder]) {
            assert!(way.contains(part), "{} in {way:?}", part.display());
        }
        assert_eq!(way.last().map(PathBuf::as_path), Some(end));
        // What it leads to is root's alone, and somebody else may lead it elsewhere.
        let opened = fs::metadata(&named).unwrap();
        assert!(is_roots_alone(end, &opened));
        assert!(!is_roots_alone(&named, &opened));
        // What was opened is not what stands there by now.
        fs::remove_file(&middle).unwrap();
        symlink(folder.join("mine"), &middle).unwrap();
        fs::write(folder.join("mine"), "two").unwrap();
        assert!(!is_roots_alone(end, &fs::metadata(&named).unwrap()));
        symlink("loop", folder.join("loop")).unwrap();
        assert!(way_to(&folder.join("loop")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_only_others_can_replace_is_taken() {
        let file = Path::new("/etc/passwd");
        let read = |user| guarded(&[], user, true).reading(false).read(file);
        assert!(read(NOBODY).is_ok(), "root's alone, and so is the way to it");
        assert!(read(0).is_err(), "for root's command nothing is out of reach");
    }
}
