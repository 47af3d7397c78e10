//! Rotation: a file that has grown large enough is set aside when a session begins.
//!
//! The names move up, `FILE` to `FILE.1`, `FILE.1` to `FILE.2`, and what was the last goes. Whoever
//! appends to a file goes on appending to it under its new name, so nothing is lost or torn.
//!
//! *Never*: follows a link.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::audit::Rotation;

/// The file that one was rotated to so many times ago.
pub(super) fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Sets a file aside if it is large enough. One that is not there, or no file, stays as it is.
pub(in crate::audit) fn rotate(path: &Path, rotation: Rotation) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    // Whoever opens it next says what is wrong with it.
    let Ok(file) = options.open(path) else { return Ok(()) };
    if !is_due(&file, rotation)? {
        return Ok(());
    }
    // Sessions that begin at once: the second finds that the first has done it.
    file.lock()?;
    let (ours, there) = (file.metadata()?, fs::symlink_metadata(path)?);
    if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
        return Ok(());
    }
    for number in (1..rotation.files.saturating_sub(1)).rev() {
        move_on(&rotated(path, number), &rotated(path, number + 1))?;
    }
    match rotation.files {
        0 | 1 => fs::remove_file(path),
        _ => fs::rename(path, rotated(path, 1)),
    }
}

/// Whether a file is one, and large enough.
fn is_due(file: &File, rotation: Rotation) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.is_file() && metadata.len() >= rotation.size)
}

/// Gives a file the next name, if it is there.
fn move_on(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}
