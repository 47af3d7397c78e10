//! Files of proc(5), read in as few calls as it takes.
//!
//! They do not say how long they are, and whoever believes them reads in small pieces, each of which is
//! a call. Some are read for every connection. A process names itself with any bytes, and may be cut in
//! the middle of a character by the kernel: whoever is named so is looked at like anybody else.
//!
//! *Standing*: what finds out whose a connection is, and what descends from whom, reads with this.
//! *Never*: keeps a file open.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// How long such a text usually is at the most.
const LENGTH: usize = 4096;

/// What a file says; what is no text in it is replaced.
pub(super) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(LENGTH);
    // The file itself would ask for its length first.
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes);
    Ok(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_whole_however_long_it_is() {
        for path in ["/proc/self/limits", "/proc/filesystems"] {
            assert_eq!(text(path).unwrap(), fs::read_to_string(path).unwrap(), "{path}");
        }
        let long = std::env::temp_dir().join(format!("boundary-long-{}", uuid::Uuid::new_v4()));
        let content = "x".repeat(LENGTH * 5 + 1);
        fs::write(&long, &content).unwrap();
        let read = text(&long).unwrap();
        fs::remove_file(&long).unwrap();
        assert_eq!(read, content);
    }

    #[test]
    fn what_is_not_there_is_an_error_and_no_name_is() {
        assert_eq!(text("/proc/0/stat").unwrap_err().kind(), io::ErrorKind::NotFound);
        let odd = std::env::temp_dir().join(format!("boundary-odd-{}", uuid::Uuid::new_v4()));
        fs::write(&odd, b"7 (\xff\xfeodd) S 1").unwrap();
        let read = text(&odd);
        fs::remove_file(&odd).unwrap();
        assert_eq!(read.unwrap(), "7 (\u{fffd}\u{fffd}odd) S 1");
    }
}
