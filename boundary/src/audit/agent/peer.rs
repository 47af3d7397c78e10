//! Who listens at the other end: an agent, or the command that puts itself in its place.
//!
//! *Never*: hands the record to whom it is about.

use std::fs;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{Pid, getpid, getppid};

/// How long a line of parents may be.
const DEEPEST: usize = 1024;

/// Whether the listener is a process of this session: one below the keeper, whose child we are.
/// Everything that the command starts stays below it, because a pid namespace keeps its orphans.
pub(super) fn is_of_session(stream: &UnixStream) -> bool {
    let Ok(credentials) = getsockopt(stream, PeerCredentials) else { return true };
    let listener = Pid::from_raw(credentials.pid());
    // A process of another pid namespace that is not below ours has no number here.
    if listener.as_raw() == 0 || listener == getpid() {
        return false;
    }
    // One that has ended has left its socket to somebody else.
    if kill(listener, None) == Err(Errno::ESRCH) {
        return true;
    }
    is_below(listener, getppid())
}

/// Whether a process is another one, or descends from it.
fn is_below(process: Pid, ancestor: Pid) -> bool {
    let mut process = process;
    for _ in 0..DEEPEST {
        if process == ancestor {
            return true;
        }
        match parent(process) {
            Some(parent) if parent.as_raw() > 1 => process = parent,
            Some(_) | None => return false,
        }
    }
    true
}

/// The parent of a process that may be looked at.
fn parent(process: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_below_and_a_stranger_is_not() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(is_below(process, getpid()) && is_below(process, getppid()));
        assert!(is_below(process, process));
        assert!(!is_below(getpid(), process));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
