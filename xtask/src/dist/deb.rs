//! The Debian package: an `ar` archive of two `tar.gz` (deb(5)).

use std::io::Write as _;

use anyhow::Result;

use super::Release;
use super::archive::{Entry, packed};
use crate::arch::Arch;

/// Writes the package of an architecture, of files below `./`.
pub(super) fn write(release: &Release<'_>, arch: Arch, entries: &[Entry]) -> Result<()> {
    let size: usize = entries.iter().map(|entry| entry.bytes.len().div_ceil(1024)).sum();
    let control = control(&release.version, arch, size);
    let control = Entry { path: "./control".into(), bytes: control.into_bytes(), mode: 0o644 };
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", packed(&[control], release.time)?),
        ("data.tar.gz", packed(entries, release.time)?),
    ];
    let name = format!("boundary_{}_{}.deb", release.version, arch.debian());
    release.put(&name, &joined(&members, release.time)?)
}

/// What dpkg is told about the package. It needs nothing: the program is static.
fn control(version: &str, arch: Arch, size: usize) -> String {
    format!(
        "Package: boundary\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: The boundary project <boundary@localhost>\n\
         Installed-Size: {size}\n\
         Recommends: ca-certificates\n\
         Section: admin\n\
         Priority: optional\n\
         Description: run a command behind a network policy\n \
         Runs a command so that nothing it does reaches the network except what a\n \
         policy allows, and every decision is on record.\n",
        arch.debian()
    )
}

/// The members as an `ar` archive.
fn joined(members: &[(&str, Vec<u8>)], time: u64) -> Result<Vec<u8>> {
    let mode = "100644";
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let size = bytes.len();
        writeln!(archive, "{name:<16}{time:<12}{0:<6}{0:<6}{mode:<8}{size:<10}`", 0)?;
        archive.extend(bytes);
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn every_member_begins_at_an_even_place() {
        let archive = joined(&[("a", b"x".to_vec()), ("b", b"yz".to_vec())], 0).unwrap();
        assert_eq!(archive.len(), 8 + 60 + 2 + 60 + 2);
        assert_eq!(&archive[8 + 60..8 + 62], b"x\n");
        assert!(archive[8 + 62..].starts_with(b"b "));
    }
}
