//! The JSON Lines file: its lines chained when they are written, read back, and verified.
//!
//! Every line carries the hash of the line before it **of the same session**, so that sessions which
//! append to one file at the same time do not disturb each other, and a file that was rotated goes on
//! in the next one.
//!
//! *Never*: trusts what it reads back; a file may have been in anybody's hands.

mod chain;
mod place;
mod reader;
mod saved;
mod verify;
mod writer;

#[cfg(test)]
mod place_tests;
#[cfg(test)]
mod tests;

pub(super) use place::{Place, Turn};
pub use reader::{Line, Reader};
pub use saved::{Event, Saved};
pub use verify::{Decided, Ending, Finding, Session, Sessions, Verdict, files_of, missing_of};
pub(super) use writer::{Short, Writer};
