//! The chain: each line carries the hash of the one before.

use aws_lc_rs::digest::{SHA256, digest};

/// The name of the field that carries the hash. It is the last of a line.
pub(super) const FIELD: &str = "prev";

/// What the first line of a session carries: no line was before it.
pub(super) const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The hash of a line without its newline, in lower-case hexadecimal.
pub(super) fn hash(line: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(START.len());
    for byte in digest(&SHA256, line).as_ref() {
        for half in [byte >> 4, byte & 15] {
            text.push(DIGITS.get(usize::from(half)).copied().map_or('0', char::from));
        }
    }
    text
}

/// The end of a session's chain, where the next line is attached.
#[derive(Debug, Clone)]
pub(in crate::audit) struct Chain(String);

impl Default for Chain {
    fn default() -> Self {
        Self(START.to_owned())
    }
}

impl Chain {
    /// Attaches a line: an object that ends in `}`, to which the field is added.
    pub(in crate::audit) fn attach(&mut self, line: &mut Vec<u8>) {
        if line.pop_if(|last| *last == b'}').is_none() {
            return;
        }
        line.extend_from_slice(b",\"");
        line.extend_from_slice(FIELD.as_bytes());
        line.extend_from_slice(b"\":\"");
        line.extend_from_slice(self.0.as_bytes());
        line.extend_from_slice(b"\"}");
        self.0 = hash(line);
    }
}
