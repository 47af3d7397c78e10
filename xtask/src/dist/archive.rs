//! Archives that are the same for the same files: sorted, of one time, nobody's.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::Release;
use crate::arch::Arch;

/// A file in an archive.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Where it is in there.
    pub(super) path: String,
    /// What it says.
    pub(super) bytes: Vec<u8>,
    /// Who may do what with it.
    pub(super) mode: u32,
}

/// Writes the archive of an architecture. The program has the name that the Go tool's archives give
/// it, so that what unpacks those unpacks this.
pub(super) fn write(release: &Release<'_>, arch: Arch, program: &Path) -> Result<()> {
    let name = format!("boundary-linux-{}", arch.debian());
    let bytes = std::fs::read(program).with_context(|| program.display().to_string())?;
    let mut entries = vec![Entry { path: name.clone(), bytes, mode: 0o755 }];
    entries.extend(release.pages.iter().cloned());
    for path in ["CHANGELOG.md", "LICENSE", "README.md"] {
        entries.push(Entry { path: path.into(), bytes: release.read(path)?, mode: 0o644 });
    }
    let bytes = packed(&entries, release.time)?;
    release.put(&format!("{name}.tar.gz"), &bytes)
}

/// The files as `tar.gz`, with the folders on the way to them.
pub(super) fn packed(entries: &[Entry], time: u64) -> Result<Vec<u8>> {
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut archive = Builder::new(gzip);
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let mut made: Vec<&Path> = vec![Path::new(""), Path::new(".")];
    for entry in entries {
        let folders: Vec<&Path> = Path::new(&entry.path).ancestors().skip(1).collect();
        for folder in folders.into_iter().rev() {
            if !made.contains(&folder) {
                let mut header = header(EntryType::Directory, 0o755, 0, time);
                archive.append_data(&mut header, folder, &[][..]).context("tar")?;
                made.push(folder);
            }
        }
        let size = entry.bytes.len() as u64;
        let mut header = header(EntryType::Regular, entry.mode, size, time);
        archive.append_data(&mut header, &entry.path, &*entry.bytes).context("tar")?;
    }
    let mut gzip = archive.into_inner().context("tar")?;
    gzip.flush().context("gzip")?;
    gzip.finish().context("gzip")
}

/// What stands before a file.
fn header(kind: EntryType, mode: u32, size: u64, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::{Entry, packed};

    fn entry(path: &str) -> Entry {
        Entry { path: path.into(), bytes: path.as_bytes().to_vec(), mode: 0o644 }
    }

    /// What is in an archive, in order.
    fn listed(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
        let entries = archive.entries().unwrap();
        entries.map(|it| it.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn the_order_in_which_files_are_given_does_not_matter() {
        let one = packed(&[entry("b"), entry("a/c")], 7).unwrap();
        let other = packed(&[entry("a/c"), entry("b")], 7).unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let bytes = packed(&[entry("./a/b/d"), entry("./a/b/c")], 7).unwrap();
        assert_eq!(listed(&bytes), ["a", "a/b", "a/b/c", "a/b/d"]);
    }
}
