//! The chain: each line carries the hash of the one before.

use aws_lc_rs::digest::{SHA256, digest};

/// The name of the field that carries the hash. It is the last of a line.
pub(super) const FIELD: &str = "prev";

/// What the first line of a session carries: no line was before it.
pub(super) const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A hash as it is written, in lower-case hexadecimal.
type Digits = [u8; 64];

/// The hash of a line without its newline, in lower-case hexadecimal.
pub(super) fn hash(line: &[u8]) -> String {
    digits(line).iter().copied().map(char::from).collect()
}

/// The same as it is written.
fn digits(line: &[u8]) -> Digits {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 64];
    let halves = digest(&SHA256, line);
    let halves = halves.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (digit, half) in text.iter_mut().zip(halves) {
        *digit = DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
    }
    text
}

/// The end of a session's chain, where the next line is attached.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) struct Chain(Digits);

impl Default for Chain {
    fn default() -> Self {
        Self([b'0'; 64])
    }
}

impl Chain {
    /// Attaches a line, which begins there: an object that ends in `}`, to which the field is added.
    pub(in crate::audit) fn attach(&mut self, start: usize, lines: &mut Vec<u8>) {
        if lines.pop_if(|last| *last == b'}').is_none() {
            return;
        }
        lines.extend_from_slice(b",\"");
        lines.extend_from_slice(FIELD.as_bytes());
        lines.extend_from_slice(b"\":\"");
        lines.extend_from_slice(&self.0);
        lines.extend_from_slice(b"\"}");
        self.0 = digits(lines.get(start..).unwrap_or_default());
    }
}
