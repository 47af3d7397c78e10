//! The tools that read audit files.
//!
//! *Never*: trusts what a file says: a name in it may be made to move a cursor.

mod filter;
mod follow;
mod report;
mod show;
mod verify;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::Error;
use crate::audit::file::files_of;
use crate::cli::Audit;

/// Does what a subcommand asks, and gives the exit status.
pub(super) fn run(asked: &Audit) -> Result<u8, Error> {
    match asked {
        Audit::Show(asked) => show::show(asked).map(|()| 0),
        Audit::Report(asked) => report::report(asked).map(|()| 0),
        Audit::Verify(asked) => verify::verify(asked),
    }
}

/// The files that are named, each once: what was rotated away from one of them is read with that.
fn named(files: &[PathBuf]) -> impl Iterator<Item = &Path> {
    let is_of_another = |index: usize, path: &Path| {
        files.iter().enumerate().any(|(other, file)| {
            let is_rotated = file != path && files_of(file).iter().any(|it| it == path);
            is_rotated || (other < index && file == path)
        })
    };
    let once = files.iter().enumerate().filter(move |(index, path)| !is_of_another(*index, path));
    once.map(|(_, path)| path.as_path())
}

/// Opens a file of records.
fn open(path: &Path) -> Result<BufReader<File>, Error> {
    File::open(path).map(BufReader::new).map_err(readable(path))
}

/// Says which file could not be read.
fn readable(path: &Path) -> impl Fn(io::Error) -> Error {
    |error| Error::Read { path: path.to_owned(), error }
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let (mut whole, mut tenth, mut name) = (bytes, 0, "B");
    for unit in UNITS {
        if whole < 1000 {
            break;
        }
        (whole, tenth, name) = (whole / 1000, whole % 1000 / 100, unit);
    }
    if name == "B" || whole >= 100 {
        format!("{whole} {name}")
    } else {
        format!("{whole}.{tenth} {name}")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{named, size};

    #[test]
    fn a_file_is_read_once_however_it_is_named() {
        let folder = std::env::temp_dir().join(format!("boundary-named-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).expect("a folder");
        let files = ["a", "a.1", "a.2", "b"].map(|name| folder.join(name));
        for path in &files {
            fs::write(path, "").expect("a file");
        }
        let [main, first, second, other] = &files;
        let once = |given: &[&PathBuf]| {
            let given: Vec<PathBuf> = given.iter().copied().cloned().collect();
            named(&given).map(Path::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(once(&[first, main, other, second]), [main.clone(), other.clone()]);
        assert_eq!(once(&[other, other]), std::slice::from_ref(other));
        assert_eq!(once(&[first]), std::slice::from_ref(first));
        fs::remove_dir_all(&folder).expect("it is ours");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_550, "1.5 kB"),
            (123_456, "123 kB"),
            (2_300_000, "2.3 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
