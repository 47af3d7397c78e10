//! The end of the file: whole lines, each attached to the one before.

use std::io;
use std::mem;
use std::sync::Arc;

use super::chain::Chain;
use crate::audit::alike::Kept;
use crate::audit::file::Turn;
use crate::audit::object::{Fields, write_object};
use crate::audit::sink::Target;

/// Appends records to a file.
#[derive(Debug)]
pub(in crate::audit) struct Writer {
    target: Arc<Target>,
    chain: Chain,
    /// Whether the last thing written was not a whole line.
    is_torn: bool,
    /// Room for the lines of a batch, so that not every batch asks for its own.
    bytes: Vec<u8>,
    /// What many records have alike, as it is written.
    kept: Kept,
}

/// How much of that is kept.
const KEPT: usize = 256 * 1024;

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
        Self { target, chain: Chain::default(), is_torn, bytes: Vec::new(), kept: Kept::default() }
    }

    /// Sees whether to go on in another file. What is written next says so there.
    pub(in crate::audit) fn turn(&mut self) -> io::Result<Turn> {
        let turn = self.target.turn()?;
        if turn != Turn::Stay {
            self.is_torn = self.target.is_torn();
        }
        Ok(turn)
    }

    /// Appends records, each a line. What could not be written is not part of the chain: the next
    /// line is attached to the last whole one, and the loss is told there.
    pub(in crate::audit) fn append<'r>(
        &mut self,
        records: impl Iterator<Item = &'r (impl Fields + 'r)>,
    ) -> Result<(), Short> {
        let mut bytes = mem::take(&mut self.bytes);
        bytes.clear();
        // Another session's line may have no end either.
        if self.is_torn || self.target.is_torn() {
            bytes.push(b'\n');
        }
        let begin = bytes.len();
        // Where each line ends, and the chain there.
        let mut ends: Vec<(usize, Chain)> = Vec::new();
        let mut chain = self.chain;
        for record in records {
            let start = bytes.len();
            write_object(record, &mut self.kept, &mut bytes);
            chain.attach(start, &mut bytes);
            bytes.push(b'\n');
            ends.push((bytes.len(), chain));
        }
        let (length, outcome) = self.target.append_some(&bytes);
        self.bytes = bytes;
        self.bytes.shrink_to(KEPT);
        // A line that lacks its newline alone is there: a reader takes it for whole when one follows.
        let whole = ends.partition_point(|(end, _)| *end <= length + 1);
        let last = whole.checked_sub(1).and_then(|index| ends.get(index));
        if let Some((_, chain)) = last {
            self.chain = *chain;
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
