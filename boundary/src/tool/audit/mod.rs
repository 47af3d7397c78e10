//! The tools that read audit files.
//!
//! *Never*: trusts what a file says: a name in it may be made to move a cursor.

mod verify;

use super::Error;
use crate::cli::Audit;

/// Does what a subcommand asks, and gives the exit status.
pub(super) fn run(asked: &Audit) -> Result<u8, Error> {
    match asked {
        Audit::Verify(asked) => verify::verify(asked),
    }
}
