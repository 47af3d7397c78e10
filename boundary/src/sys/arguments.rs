//! The words that this process was started with, as everybody reads them in proc(5): its own memory, which
//! whatever it forks has too.
//!
//! *Standing*: the program covers what is nobody's business before it forks. *Never*: what was read of them,
//! which is a copy.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// The words, each with a nought behind it.
const WORDS: &str = "/proc/self/cmdline";

/// Covers a part of a text with asterisks wherever it stands in the words.
///
/// It goes by a file, since nothing of Rust's refers to those bytes: the library copies them when it is asked.
pub fn cover(text: &[u8], part: Range<usize>) -> io::Result<()> {
    let stars = vec![b'*'; part.len()];
    if text.get(part.clone()).is_none_or(|hidden| hidden == stars) {
        return Ok(());
    }
    let words = fs::read(WORDS)?;
    let first = start()?;
    let memory = File::options().write(true).open("/proc/self/mem")?;
    for place in places(&words, text) {
        let at = u64::try_from(place + part.start).map_err(io::Error::other)?;
        memory.write_all_at(&stars, first + at)?;
    }
    if places(&fs::read(WORDS)?, text).next().is_some() {
        return Err(io::Error::other("the words stay as they are"));
    }
    Ok(())
}

/// Where a text stands in others.
fn places(words: &[u8], text: &[u8]) -> impl Iterator<Item = usize> {
    let windows = words.windows(text.len().max(1)).enumerate();
    windows.filter(move |(_, window)| *window == text).map(|(place, _)| place)
}

/// Where in memory the first word begins (`arg_start` of proc(5)).
fn start() -> io::Result<u64> {
    /// Its place behind the name, which is in brackets and may be anything.
    const FIELD: usize = 45;
    let stat = fs::read("/proc/self/stat")?;
    let fields = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 1..));
    let fields = fields.and_then(|fields| str::from_utf8(fields).ok()).unwrap_or_default();
    let field = fields.split_ascii_whitespace().nth(FIELD).and_then(|field| field.parse().ok());
    field.filter(|start| *start != 0).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_words_begin_there_they_are() {
        let words = fs::read(WORDS).unwrap();
        let mut read = vec![0; words.len()];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut read, start().unwrap()).unwrap();
        assert_eq!(read, words);
    }

    #[test]
    fn a_text_is_found_wherever_it_stands() {
        let found = |words: &[u8], text: &[u8]| places(words, text).collect::<Vec<_>>();
        assert_eq!(found(b"a\0--x=u:p@h\0u:p@h\0", b"u:p@h"), [6, 12]);
        assert!(found(b"a\0", b"longer").is_empty());
        assert!(found(b"", b"").is_empty());
    }
}
