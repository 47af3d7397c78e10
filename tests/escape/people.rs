//! The two who attack, with boundary and without it, and the programs that they have outside.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use nix::unistd::Pid;

use super::ALLOW;
use crate::world::processes::eventually;
use crate::world::{GUEST, Run, Session, World};

/// Who attacks, and whose the programs outside are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Root,
    Guest,
}

/// Both of them.
pub(super) const BOTH: [Who; 2] = [Who::Root, Who::Guest];

impl Who {
    /// A name for files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Guest => "guest",
        }
    }

    /// A run without boundary as this user.
    pub(super) fn bare<'w>(self, world: &'w World, command: &[&str]) -> Run<'w> {
        let id = GUEST.to_string();
        let run = world.bare(command);
        match self {
            Self::Root => run,
            Self::Guest => {
                run.under(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"])
            }
        }
    }

    /// A run with boundary as this user.
    pub(super) fn bounded<'w>(self, world: &'w World, command: &[&str]) -> Run<'w> {
        let run = world.boundary(&ALLOW, command);
        match self {
            Self::Root => run,
            Self::Guest => run.through_sudo(),
        }
    }
}

/// A helper that runs, and ends with the test however that ends.
pub(super) struct Helper<'w>(Session<'w>);

impl<'w> Helper<'w> {
    /// Starts one and waits until its sign is there: a file, or a socket at which it takes connections,
    /// which has its name a moment before.
    pub(super) fn start(run: Run<'w>, sign: &Path) -> Self {
        let helper = Self(run.start());
        let is_socket = || fs::symlink_metadata(sign).is_ok_and(|it| it.file_type().is_socket());
        let is_there = || sign.exists() && (!is_socket() || helper.takes_connections(sign));
        eventually("the helper is ready", is_there);
        helper
    }

    /// Whether there is a socket of its network that takes connections, or has no need to, at a path.
    fn takes_connections(&self, path: &Path) -> bool {
        const LISTENS: &str = "00010000";
        const STREAM: &str = "0001";
        let sockets = fs::read_to_string(format!("/proc/{}/net/unix", self.pid()));
        sockets.unwrap_or_default().lines().any(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, _, _, flags, kind, _, _, name] = fields[..] else { return false };
            Path::new(name) == path && (flags == LISTENS || kind != STREAM)
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        self.0.pid()
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// More numbers than the processes of a session have in a namespace of their own, where they begin anew:
/// the kernel itself never comes back to those below.
const SMALL: i32 = 300;

/// Sees to it that what is started next has no number which some process of a session has inside: an
/// attack by its number would meet that one. On a machine that has just started they are as small.
pub(super) fn pass_small_numbers(world: &World) {
    let next = || {
        let session = world.bare(&["true"]).start();
        let number = session.pid().as_raw();
        drop(session.finish());
        number
    };
    while next() < SMALL {}
}
