//! Archives that the kernel unpacks into its first root, and rpm into any (`newc`,
//! initramfs-buffer-format.rst).

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::debian::entries;

/// The kind of a file in its mode.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Writes an archive. Everything in it is root's.
#[derive(Debug)]
pub(crate) struct Cpio<W> {
    into: W,
    number: u32,
    written: usize,
}

impl<W: Write> Cpio<W> {
    /// Begins an archive.
    pub(crate) fn new(into: W) -> Self {
        Self { into, number: 0, written: 0 }
    }

    /// Adds a folder, but none above it.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.entry(path.as_bytes(), FOLDER | mode, &[])
    }

    /// Adds the folders on the way to a path.
    pub(crate) fn way_to(&mut self, path: &Path) -> Result<()> {
        let folders: Vec<&Path> = path.ancestors().skip(1).collect();
        folders.into_iter().rev().try_for_each(|folder| {
            let name = folder.strip_prefix("/").unwrap_or(folder).as_os_str();
            if name.is_empty() { Ok(()) } else { self.entry(name.as_bytes(), FOLDER | 0o755, &[]) }
        })
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.entry(path.trim_start_matches('/').as_bytes(), FILE | mode, bytes)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.entry(path.as_bytes(), LINK | 0o777, target.as_bytes())
    }

    /// Adds everything below a folder, under the names that it has there.
    pub(crate) fn tree(&mut self, folder: &Path, leave: &dyn Fn(&Path) -> bool) -> Result<()> {
        self.below(folder, folder, leave)
    }

    fn below(&mut self, top: &Path, here: &Path, leave: &dyn Fn(&Path) -> bool) -> Result<()> {
        for path in entries(here)? {
            let name = path.strip_prefix(top).context("a path below its folder")?;
            if leave(name) {
                continue;
            }
            let name = name.as_os_str().as_bytes();
            let known = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
            let mode = known.permissions().mode() & 0o7777;
            if known.is_dir() {
                self.entry(name, FOLDER | mode, &[])?;
                self.below(top, &path, leave)?;
            } else if known.is_symlink() {
                let target = fs::read_link(&path).with_context(|| path.display().to_string())?;
                self.entry(name, LINK | mode, target.as_os_str().as_bytes())?;
            } else if known.is_file() {
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                self.entry(name, FILE | mode, &bytes)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.entry(b"TRAILER!!!", 0, &[])?;
        // The next archive may follow where this one ends.
        self.pad(512)?;
        self.into.flush().context("initramfs")?;
        Ok(self.into)
    }

    /// One entry: magic, thirteen numbers of eight digits, the name, the content.
    fn entry(&mut self, name: &[u8], mode: u32, content: &[u8]) -> Result<()> {
        self.number += 1;
        let size = u32::try_from(content.len()).context("a file of more than 4 GB")?;
        let length = u32::try_from(name.len() + 1).context("a name without end")?;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        let mut header = String::from("070701");
        for field in [self.number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, length, 0] {
            write!(header, "{field:08X}")?;
        }
        self.put(header.as_bytes())?;
        self.put(name)?;
        self.put(b"\0")?;
        self.pad(4)?;
        self.put(content)?;
        self.pad(4)
    }

    fn pad(&mut self, to: usize) -> Result<()> {
        let short = self.written.next_multiple_of(to) - self.written;
        self.put(&vec![0; short])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len();
        self.into.write_all(bytes).context("initramfs")
    }
}

#[cfg(test)]
mod tests {
    use super::Cpio;

    #[test]
    fn every_part_begins_at_a_multiple_of_four() {
        let mut archive = Cpio::new(Vec::new());
        archive.file("/abc", 0o644, b"x").unwrap();
        let bytes = archive.finish().unwrap();
        // 110 bytes of header and the name with its end are 114; the content is one.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!((bytes[110..114].as_ref(), bytes[116]), (b"abc\0".as_ref(), b'x'));
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 512, 0);
    }
}
