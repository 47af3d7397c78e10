//! The lines of a file, one at a time, whoever wrote them.
//!
//! *Never*: holds more than one line.

use std::io::{self, BufRead};
use std::mem;

use super::saved::Saved;

/// The longest line that is read. The longest that is written names every rule of the policy.
const LONGEST: usize = 256 * 1024 * 1024;

/// A line of a file.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: u64,
    /// It, without its newline.
    pub bytes: Vec<u8>,
    /// What it says; none if it is no record.
    pub saved: Option<Saved>,
}

/// Reads lines.
///
/// After the last whole line it yields nothing, and goes on when the file has grown: what has no
/// newline yet is still being written.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    number: u64,
    begun: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from a place.
    pub fn new(source: R) -> Self {
        Self { source, number: 0, begun: Vec::new() }
    }

    /// What stands behind the last newline.
    pub fn begun(&self) -> &[u8] {
        &self.begun
    }

    /// Completes the line that is begun. False if it has no end yet.
    fn complete(&mut self) -> io::Result<bool> {
        loop {
            let some = self.source.fill_buf()?;
            if some.is_empty() {
                return Ok(false);
            }
            let (length, ended) = match some.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end, true),
                None => (some.len(), false),
            };
            if self.begun.len() + length > LONGEST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            self.begun.extend(some.iter().take(length));
            self.source.consume(length + usize::from(ended));
            if ended {
                return Ok(true);
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<io::Result<Line>> {
        match self.complete() {
            Ok(false) => None,
            Ok(true) => {
                self.number += 1;
                let bytes = mem::take(&mut self.begun);
                let saved = serde_json::from_slice(&bytes).ok();
                Some(Ok(Line { number: self.number, bytes, saved }))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
