//! The kernel's replies as the fuzzers see them.
//!
//! *Standing*: `fuzz/` is built with `--cfg fuzzing`, and so is this. *Never*: part of a program that
//! is shipped.

use super::netlink::{attributes, messages};

/// Reads a datagram of messages to the last attribute, as the jail does. Gives back how many bytes
/// were taken for values, which cannot be more than there were.
pub fn values(bytes: &[u8]) -> usize {
    let read = messages(bytes).map(|message| {
        drop(message.outcome());
        // A reply's fixed part is of many lengths: attributes may begin at any multiple of four.
        let starts = (0..message.body.len().min(64)).step_by(4);
        let of = |start| attributes(message.body.get(start..).unwrap_or_default());
        let value = |(_, value): (u16, &[u8])| value.len();
        starts.map(|start| of(start).map(value).sum::<usize>()).max().unwrap_or_default()
    });
    read.sum()
}
