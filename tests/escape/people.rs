//! The two who attack, with boundary and without it, and the programs that they have outside.

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
    /// Starts one and waits until its socket is there.
    pub(super) fn start(run: Run<'w>, socket: &Path) -> Self {
        let helper = Self(run.start());
        eventually("the helper listens", || socket.exists());
        helper
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
