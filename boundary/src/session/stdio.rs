//! Standard input, output and error of the session's own processes.

use std::fs::OpenOptions;

use nix::errno::Errno;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::sys::errno_of;

/// Points all three to `/dev/null`, so that a pipe of the caller closes when the command is done
/// with it, not when boundary's own processes are.
pub(super) fn detach() -> nix::Result<()> {
    let null = null()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)
}

/// Keeps standard error, for the log.
pub(super) fn detach_but_stderr() -> nix::Result<()> {
    let null = null()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)
}

fn null() -> nix::Result<std::fs::File> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    null.map_err(|error| errno_of(&error, Errno::UnknownErrno))
}
