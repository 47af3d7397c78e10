//! The one voice of the tasks: lines on stderr, so that stdout stays what the called program writes.

use std::fmt::Display;

/// Says one line to the person who called.
#[expect(clippy::print_stderr, reason = "a task talks to a person; this is the one place")]
pub(crate) fn say(line: impl Display) {
    eprintln!("{line}");
}
