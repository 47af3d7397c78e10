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
use std::path::Path;

use super::Error;
use crate::cli::Audit;

/// Does what a subcommand asks, and gives the exit status.
pub(super) fn run(asked: &Audit) -> Result<u8, Error> {
    match asked {
        Audit::Show(asked) => show::show(asked).map(|()| 0),
        Audit::Report(asked) => report::report(asked).map(|()| 0),
        Audit::Verify(asked) => verify::verify(asked),
    }
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
    use super::size;

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
