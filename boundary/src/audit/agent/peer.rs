//! Who listens at the other end: an agent, or the command that puts itself in its place.
//!
//! *Never*: hands the record to whom it is about.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{Pid, getpid, getppid, getuid};

use crate::sys::{confinement, pidfd};

/// How long a line of parents may be.
const DEEPEST: usize = 1024;

/// Whether the listener is behind a session's walls, or of this session: below the keeper, whose child we
/// are. Everything that the command starts stays below it, because a pid namespace keeps its orphans.
///
/// One that has ended has left its socket to somebody else, and is taken for that one.
pub(super) fn is_of_session(stream: &UnixStream) -> bool {
    let Ok(credentials) = getsockopt(stream, PeerCredentials) else { return true };
    let listener = Pid::from_raw(credentials.pid());
    // A process of another pid namespace that is not below ours has no number here.
    if listener.as_raw() == 0 || listener == getpid() {
        return false;
    }
    let handle = match pidfd::of_peer(stream) {
        // Before Linux 6.5.
        Err(Errno::ENOPROTOOPT) => pidfd::open(listener),
        handle => handle,
    };
    let Ok(handle) = handle else { return true };
    // Where processes are hidden (`hidepid` of proc(5)), those of others: no command is another user's.
    let is_hidden = parent(listener).is_none() && credentials.uid() != getuid().as_raw();
    let is_behind_walls = !is_hidden && !confinement::is_no_command(listener);
    let is_inside = is_behind_walls || is_below(listener, getppid());
    // What is read of a number is of this process only as long as it runs.
    is_inside || pidfd::has_ended(handle.as_fd()).unwrap_or(true)
}

/// Whether a process is another one, or descends from it.
fn is_below(process: Pid, ancestor: Pid) -> bool {
    let mut process = process;
    for _ in 0..DEEPEST {
        if process == ancestor {
            return true;
        }
        match parent(process) {
            // The first of all may be the ancestor, in a container.
            Some(parent) if parent.as_raw() > 0 => process = parent,
            Some(_) | None => return false,
        }
    }
    true
}

/// The parent of a process that may be looked at.
fn parent(process: Pid) -> Option<Pid> {
    // Its name is in there, which may be no text.
    let status = fs::read(format!("/proc/{process}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::{Read as _, Write as _};
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn whoever_has_a_name_that_is_no_text_is_below_like_anybody_else() {
        let odd = OsStr::from_bytes(b"\xff\xfeodd");
        let folder = std::env::temp_dir().join(format!("boundary-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        // A process is named after its program.
        std::os::unix::fs::symlink("/bin/cat", folder.join(odd)).unwrap();
        let mut cat = Command::new(folder.join(odd));
        let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
        // Once it answers it has its name.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let name = fs::read(format!("/proc/{process}/comm")).unwrap();
        let is_below = is_below(process, getpid());
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(name, b"\xff\xfeodd\n");
        assert!(is_below);
    }

    #[test]
    fn a_child_is_below_and_a_stranger_is_not() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(is_below(process, getpid()) && is_below(process, getppid()));
        assert!(is_below(process, process));
        assert!(!is_below(getpid(), process));
        // Whoever is above all may be the keeper, in a container.
        let above = |process: &Pid| parent(*process).filter(|parent| parent.as_raw() > 0);
        let top = std::iter::successors(Some(process), above).last().unwrap();
        assert!(is_below(process, top));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
