//! The RPM package: a lead that nobody reads any more, two headers of the same form, and a packed
//! `cpio` archive (rpm's `docs/manual/format_v4.md`).

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};

use super::archive::Entry;
use super::{Release, hex_sum};
use crate::arch::Arch;
use crate::cpio::Cpio;

/// The first bytes of a header, and four that are reserved.
const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];

/// The kinds of values: numbers of two and four bytes, text, bytes, list of texts, text of a language.
const SHORTS: u32 = 3;
const NUMBERS: u32 = 4;
const TEXT: u32 = 6;
const BYTES: u32 = 7;
const TEXTS: u32 = 8;
const SAYING: u32 = 9;

/// The tag of what a header is as a whole, and that of the header with the sums.
const WHOLE: u32 = 63;
const OF_SUMS: u32 = 62;

/// SHA-256, as `OpenPGP` numbers it (RFC 9580, section 9.5).
const SHA256: u32 = 8;

/// The kind of a plain file in its mode.
const FILE: u32 = 0o100_000;

/// What only an rpm that knows these may unpack (`rpmlib(…)`), and since which version it does.
const KNOWN: [(&str, &str); 2] =
    [("rpmlib(CompressedFileNames)", "3.0.4-1"), ("rpmlib(PayloadFilesHavePrefix)", "4.0-1")];

/// Of this version or older, told to rpm itself.
const OF_RPM: u32 = 1 << 24 | 1 << 3 | 1 << 1;
/// Of this version.
const EQUAL: u32 = 1 << 3;

/// Writes the package of an architecture, of files below `./`.
pub(super) fn write(release: &Release<'_>, arch: Arch, entries: &[Entry]) -> Result<()> {
    let package = package(&release.version, release.time, arch, entries)?;
    release.put(&format!("boundary-{}-1.{arch}.rpm", release.version), &package)
}

/// The package of a version, of that time.
fn package(version: &str, time: u64, arch: Arch, entries: &[Entry]) -> Result<Vec<u8>> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let time = u32::try_from(time).context("a time after 2106")?;
    let payload = payload(&entries)?;
    let mut header = Header::default();
    describe(&mut header, version, arch, time);
    header.texts(5092, [hex_sum(&payload)]);
    header.numbers(5093, [SHA256]);
    list(&mut header, &entries, time)?;
    let header = header.packed(WHOLE)?;
    let mut sums = Header::default();
    sums.text(273, TEXT, &hex_sum(&header));
    sums.numbers(1000, [u32::try_from(header.len() + payload.len()).context("too large")?]);
    let mut package = lead(version, arch);
    package.extend(sums.packed(OF_SUMS)?);
    package.resize(package.len().next_multiple_of(8), 0);
    package.extend(header);
    package.extend(payload);
    Ok(package)
}

/// The files, packed.
fn payload(entries: &[&Entry]) -> Result<Vec<u8>> {
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut archive = Cpio::new(gzip);
    for entry in entries {
        archive.file(&entry.path, entry.mode, &entry.bytes)?;
    }
    archive.finish()?.finish().context("gzip")
}

/// What the package is, and what it asks for: nothing but an rpm of this century.
fn describe(header: &mut Header, version: &str, arch: Arch, time: u32) {
    header.texts(100, ["C"]);
    header.text(1000, TEXT, "boundary");
    header.text(1001, TEXT, version);
    header.text(1002, TEXT, "1");
    header.text(1004, SAYING, "Run a command behind a network policy");
    let what = "Runs a command so that nothing it does reaches the network except what a\n\
                policy allows, and every decision is on record.";
    header.text(1005, SAYING, what);
    header.numbers(1006, [time]);
    header.text(1014, TEXT, "MIT");
    header.text(1016, SAYING, "Unspecified");
    header.text(1021, TEXT, "linux");
    header.text(1022, TEXT, arch.name());
    header.text(1044, TEXT, &format!("boundary-{version}-1.src.rpm"));
    header.texts(1047, ["boundary"]);
    header.numbers(1112, [EQUAL]);
    header.texts(1113, [format!("{version}-1")]);
    header.numbers(1048, KNOWN.map(|_| OF_RPM));
    header.texts(1049, KNOWN.map(|(name, _)| name));
    header.texts(1050, KNOWN.map(|(_, since)| since));
    header.text(1124, TEXT, "cpio");
    header.text(1125, TEXT, "gzip");
    header.text(1126, TEXT, "9");
}

/// The list of files: everything root's, of one time.
fn list(header: &mut Header, entries: &[&Entry], time: u32) -> Result<()> {
    let sizes = entries.iter().map(|entry| u32::try_from(entry.bytes.len()).context("too large"));
    let sizes = sizes.collect::<Result<Vec<u32>>>()?;
    header.numbers(1009, [sizes.iter().sum()]);
    header.numbers(1028, sizes);
    let modes = entries.iter().map(|entry| u16::try_from(FILE | entry.mode).context("a mode"));
    header.shorts(1030, modes.collect::<Result<Vec<u16>>>()?);
    header.shorts(1033, entries.iter().map(|_| 0));
    header.numbers(1034, entries.iter().map(|_| time));
    header.texts(1035, entries.iter().map(|entry| hex_sum(&entry.bytes)));
    header.texts(1036, entries.iter().map(|_| ""));
    let is_document = |entry: &&Entry| entry.path.starts_with("./usr/share/doc/");
    // RPMFILE_DOC
    header.numbers(1037, entries.iter().map(|entry| u32::from(is_document(entry)) << 1));
    header.texts(1039, entries.iter().map(|_| "root"));
    header.texts(1040, entries.iter().map(|_| "root"));
    header.numbers(1045, entries.iter().map(|_| u32::MAX));
    header.numbers(1095, entries.iter().map(|_| 1));
    header.numbers(1096, (1..).take(entries.len()));
    header.texts(1097, entries.iter().map(|_| ""));
    header.numbers(5011, [SHA256]);
    let parts = entries.iter().map(|entry| {
        let (folder, name) = entry.path.rsplit_once('/')?;
        Some((format!("{}/", folder.strip_prefix('.')?), name))
    });
    let parts: Vec<_> = parts.collect::<Option<_>>().context("a path that is not below ./")?;
    let mut folders: Vec<&str> = parts.iter().map(|(folder, _)| folder.as_str()).collect();
    folders.dedup();
    folders.sort_unstable();
    folders.dedup();
    let number = |folder: &str| folders.binary_search(&folder).map_or(0, |number| number);
    let numbers = parts.iter().map(|(folder, _)| u32::try_from(number(folder)));
    header.numbers(1116, numbers.collect::<Result<Vec<u32>, _>>().context("too many")?);
    header.texts(1117, parts.iter().map(|(_, name)| *name));
    header.texts(1118, folders);
    Ok(())
}

/// What `file` knows an RPM package by.
fn lead(version: &str, arch: Arch) -> Vec<u8> {
    let number = match arch {
        Arch::X86 => 1,
        Arch::Arm => 19,
    };
    let mut lead = vec![0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0, 0, number];
    lead.extend(format!("boundary-{version}-1").bytes().take(65));
    lead.resize(76, 0);
    // Linux, and sums in a header.
    lead.extend([0, 1, 0, 5]);
    lead.resize(96, 0);
    lead
}

/// Values by their tags.
#[derive(Debug, Default)]
struct Header(BTreeMap<u32, Value>);

/// A value: its kind, how many it is, where it may begin, its bytes.
#[derive(Debug)]
struct Value {
    kind: u32,
    count: usize,
    aligned: usize,
    bytes: Vec<u8>,
}

impl Header {
    fn put(&mut self, tag: u32, value: Value) {
        self.0.insert(tag, value);
    }

    fn text(&mut self, tag: u32, kind: u32, text: &str) {
        let bytes = [text.as_bytes(), b"\0"].concat();
        self.put(tag, Value { kind, count: 1, aligned: 1, bytes });
    }

    fn texts<T: AsRef<str>>(&mut self, tag: u32, texts: impl IntoIterator<Item = T>) {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for text in texts {
            bytes.extend([text.as_ref().as_bytes(), b"\0"].concat());
            count += 1;
        }
        self.put(tag, Value { kind: TEXTS, count, aligned: 1, bytes });
    }

    fn numbers(&mut self, tag: u32, numbers: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_be_bytes).collect();
        self.put(tag, Value { kind: NUMBERS, count: bytes.len() / 4, aligned: 4, bytes });
    }

    fn shorts(&mut self, tag: u32, numbers: impl IntoIterator<Item = u16>) {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u16::to_be_bytes).collect();
        self.put(tag, Value { kind: SHORTS, count: bytes.len() / 2, aligned: 2, bytes });
    }

    /// The header as it is written: the index, then the values, which end with the tag of the whole
    /// and how far before its own place the index begins.
    fn packed(&self, whole: u32) -> Result<Vec<u8>> {
        let count = self.0.len() + 1;
        let (mut index, mut values) = (Vec::new(), Vec::new());
        for (tag, value) in &self.0 {
            values.resize(values.len().next_multiple_of(value.aligned), 0);
            index.extend(entry(*tag, value.kind, values.len(), value.count)?);
            values.extend(&value.bytes);
        }
        let before = entry(whole, BYTES, values.len(), 16)?;
        let back = i32::try_from(count * 16).context("too many values")?;
        values.extend(entry(whole, BYTES, 0, 16)?.get(..8).context("an entry")?);
        values.extend((-back).to_be_bytes());
        values.extend(16_u32.to_be_bytes());
        let mut packed = MAGIC.to_vec();
        for number in [count, values.len()] {
            packed.extend(u32::try_from(number).context("too large")?.to_be_bytes());
        }
        for part in [&before, &index, &values] {
            packed.write_all(part)?;
        }
        Ok(packed)
    }
}

/// What stands in an index of one value.
fn entry(tag: u32, kind: u32, place: usize, count: usize) -> Result<Vec<u8>> {
    let (place, count) = (u32::try_from(place)?, u32::try_from(count)?);
    Ok([tag, kind, place, count].into_iter().flat_map(u32::to_be_bytes).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::{Arch, Entry, Header, NUMBERS, OF_SUMS, TEXT, Value, package};

    #[test]
    fn every_value_begins_where_its_kind_may() {
        let mut header = Header::default();
        header.text(1, TEXT, "ab");
        header.numbers(2, [7]);
        let packed = header.packed(OF_SUMS).unwrap();
        // Magic, two sizes; three entries of 16 bytes; `ab`, one byte of nothing, a number.
        assert_eq!(packed[8..16], [0, 0, 0, 3, 0, 0, 0, 8 + 16]);
        assert_eq!(packed[16 + 48..][..8], *b"ab\0\0\0\0\0\x07");
        assert_eq!(packed.len(), 16 + 48 + 8 + 16);
        let Value { kind, count, .. } = &header.0[&2];
        assert_eq!((*kind, *count), (NUMBERS, 1));
    }

    #[test]
    fn the_whole_is_first_in_the_index_and_says_where_it_begins() {
        let mut header = Header::default();
        header.text(1, TEXT, "x");
        let packed = header.packed(OF_SUMS).unwrap();
        assert_eq!(packed[16..32], [0, 0, 0, 62, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 16]);
        assert_eq!(packed[packed.len() - 8..], [0xff, 0xff, 0xff, 0xe0, 0, 0, 0, 16]);
    }

    #[test]
    fn rpm_finds_a_package_sound_and_reads_what_is_in_it() {
        if crate::setup::find("rpm").is_none() {
            writeln!(std::io::stderr(), "skipped: needs rpm").unwrap();
            return;
        }
        let file = |path: &str| Entry { path: path.into(), bytes: b"#!\n".to_vec(), mode: 0o755 };
        let files = [file("./usr/share/doc/boundary/x"), file("./usr/bin/boundary")];
        let folder = std::env::temp_dir().join(format!("rpm-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let place = folder.join("boundary.rpm");
        std::fs::write(&place, package("1.2.3", 7, Arch::X86, &files).unwrap()).unwrap();
        let rpm = |words: &[&str]| {
            let mut rpm = Command::new("rpm");
            let output = rpm.arg("--root").arg(&folder).args(words).arg(&place).output().unwrap();
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
        };
        let what =
            rpm(&["-qp", "--queryformat", "%{NVRA} %{LICENSE} [%{FILENAMES} %{FILEMODES:perms},]"]);
        let sound = rpm(&["--checksig", "--verbose"]);
        let mut damaged = package("1.2.3", 7, Arch::X86, &files).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&place, damaged).unwrap();
        let unsound = rpm(&["--checksig", "--verbose"]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            what,
            "boundary-1.2.3-1.x86_64 MIT /usr/bin/boundary -rwxr-xr-x,\
             /usr/share/doc/boundary/x -rwxr-xr-x,"
        );
        for sum in ["Header SHA256 digest: OK", "Payload SHA256 digest: OK"] {
            assert!(sound.contains(sum), "{sound}");
        }
        assert!(unsound.contains("Payload SHA256 digest: BAD"), "{unsound}");
    }
}
