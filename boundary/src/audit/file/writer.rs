//! The end of the file: whole lines, each attached to the one before.

use std::io;
use std::sync::Arc;

use super::chain::Chain;
use crate::audit::line::write_json;
use crate::audit::sink::Target;

/// Appends records to a file.
#[derive(Debug)]
pub(in crate::audit) struct Writer {
    target: Arc<Target>,
    chain: Chain,
    /// Whether the last thing written was not a whole line.
    is_torn: bool,
}

/// Not all lines could be written.
#[derive(Debug)]
pub(in crate::audit) struct Short {
    /// How many were.
    pub(in crate::audit) written: u64,
    /// What the system said.
    pub(in crate::audit) error: io::Error,
}

impl Writer {
    /// Begins a session's chain in a file.
    pub(in crate::audit) fn new(target: Arc<Target>) -> Self {
        let is_torn = target.is_torn();
        Self { target, chain: Chain::default(), is_torn }
    }

    /// Appends records, each a line. What could not be written is not part of the chain: the next
    /// line is attached to the last whole one, and the loss is told there.
    pub(in crate::audit) fn append(
        &mut self,
        records: impl Iterator<Item = impl serde::Serialize>,
    ) -> Result<(), Short> {
        let mut bytes = Vec::new();
        if self.is_torn {
            bytes.push(b'\n');
        }
        let begin = bytes.len();
        // Where each line ends, and the chain there.
        let mut ends: Vec<(usize, Chain)> = Vec::new();
        let mut chain = self.chain.clone();
        let mut line = Vec::new();
        for record in records {
            line.clear();
            write_json(&record, &mut line);
            chain.attach(&mut line);
            line.push(b'\n');
            bytes.extend_from_slice(&line);
            ends.push((bytes.len(), chain.clone()));
        }
        let (length, outcome) = self.target.append_some(&bytes);
        // A line that lacks its newline alone is there: a reader takes it for whole when one follows.
        let whole = ends.partition_point(|(end, _)| *end <= length + 1);
        let last = whole.checked_sub(1).and_then(|index| ends.get(index));
        if let Some((_, chain)) = last {
            self.chain = chain.clone();
        }
        let line_end = last.map_or(begin, |(end, _)| *end);
        match outcome {
            Ok(()) => {
                self.is_torn = false;
                Ok(())
            }
            Err(error) => {
                if length > 0 {
                    self.is_torn = length != line_end;
                }
                Err(Short { written: whole as u64, error })
            }
        }
    }
}
