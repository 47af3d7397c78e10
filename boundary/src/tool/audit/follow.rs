//! A file that grows, and is now and then another one under the same name.

use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::audit::file::{Line, Reader};

/// How long nothing may happen before a file is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// The end of a file.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    /// The same file as the reader's, to ask about it.
    file: File,
    reader: Reader<BufReader<File>>,
}

impl Tail {
    /// From the file's first line on.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let reader = Reader::new(BufReader::new(file.try_clone()?));
        Ok(Self { path, file, reader })
    }

    /// The next line, if it is there by now. After the last of a file that was rotated away comes
    /// the first of the one that has its name.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        // Asked first: what was written before the file was replaced is read before the new one.
        let is_replaced = self.is_replaced();
        if let Some(line) = self.reader.next().transpose()? {
            return Ok(Some(line));
        }
        if !is_replaced {
            return Ok(None);
        }
        *self = Self::open(self.path.clone())?;
        self.reader.next().transpose()
    }

    /// Lets some time pass.
    pub(super) fn wait() {
        thread::sleep(PAUSE);
    }

    /// Whether the name stands for another file, or this one was cut.
    fn is_replaced(&mut self) -> bool {
        // Between two files there is none under the name.
        let Ok(now) = fs::metadata(&self.path) else { return false };
        let Ok(ours) = self.file.metadata() else { return true };
        let is_cut = self.file.stream_position().is_ok_and(|read| ours.len() < read);
        (now.dev(), now.ino()) != (ours.dev(), ours.ino()) || is_cut
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn folder(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tail-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn append(path: &PathBuf, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn all(tail: &mut Tail) -> Vec<String> {
        let lines = std::iter::from_fn(|| tail.next().unwrap());
        lines.map(|line| String::from_utf8(line.bytes).unwrap()).collect()
    }

    #[test]
    fn a_line_is_read_when_it_is_whole() {
        let folder = folder("whole");
        let path = folder.0.join("a");
        append(&path, "one\ntw");
        let mut tail = Tail::open(path.clone()).unwrap();
        assert_eq!(all(&mut tail), ["one"]);
        append(&path, "o\nthree\n");
        assert_eq!(all(&mut tail), ["two", "three"]);
    }

    #[test]
    fn a_file_that_was_rotated_is_read_to_its_end_and_then_the_next_one() {
        let folder = folder("rotated");
        let path = folder.0.join("a");
        append(&path, "one\n");
        let mut tail = Tail::open(path.clone()).unwrap();
        assert_eq!(all(&mut tail), ["one"]);
        append(&path, "two\n");
        fs::rename(&path, folder.0.join("a.1")).unwrap();
        assert_eq!(all(&mut tail), ["two"]);
        append(&path, "three\n");
        assert_eq!(all(&mut tail), ["three"]);
    }

    #[test]
    fn a_file_that_was_cut_is_read_from_its_start() {
        let folder = folder("cut");
        let path = folder.0.join("a");
        append(&path, "one\ntwo\n");
        let mut tail = Tail::open(path.clone()).unwrap();
        assert_eq!(all(&mut tail).len(), 2);
        fs::write(&path, "x\n").unwrap();
        assert_eq!(all(&mut tail), ["x"]);
    }
}
