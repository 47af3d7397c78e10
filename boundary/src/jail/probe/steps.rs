//! Steps that are tried one after the other in a process that is forked for them and ends.
//!
//! *Never*: in the process that asks, which goes on as it was.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::wait::waitpid;

use super::{Found, Primitive, Row};
use crate::jail::Call;
use crate::sys::process;

/// The process that tries: it tells what came of each step, in order.
pub(super) struct Steps {
    line: UnixStream,
}

/// A step was not possible; those after it are not tried.
pub(super) struct Over;

/// What precedes a number when a step is told: its place in the list is the count of those before.
const TOLD: u8 = 1;
/// What is said instead, when somebody outside is to do something.
const ASKED: u8 = 2;

impl Steps {
    /// Tells what came of a step.
    pub(super) fn tell(&mut self, done: Result<(), Errno>) -> Result<(), Over> {
        let number = done.map_or_else(|error| error as i32, |()| 0);
        let [a, b, c, d] = number.to_ne_bytes();
        self.line.write_all(&[TOLD, a, b, c, d]).map_err(|_hung_up| Over)?;
        done.map_err(|_told| Over)
    }

    /// Has somebody outside do a step, and tells what came of it.
    pub(super) fn ask(&mut self) -> Result<(), Over> {
        let mut answer = [0; 4];
        let asked = self.line.write_all(&[ASKED, 0, 0, 0, 0]);
        asked.and_then(|()| self.line.read_exact(&mut answer)).map_err(|_hung_up| Over)?;
        let number = i32::from_ne_bytes(answer);
        self.tell(if number == 0 { Ok(()) } else { Err(Errno::from_raw(number)) })
    }
}

/// Tries `work` in a process of its own: rows for the primitives, in the order in which it tells of
/// them. `outside` does what it asks for, and is given its number.
pub(super) fn try_out(
    primitives: &[Primitive],
    work: impl FnOnce(&mut Steps) -> Result<(), Over>,
    outside: impl Fn(nix::unistd::Pid) -> Result<(), Errno>,
) -> Vec<Row> {
    let found = match attempt(work, outside) {
        Ok(found) => found,
        Err(error) => vec![Found::Failed(error.to_string())],
    };
    let all = found.into_iter().chain(std::iter::repeat(Found::Unasked));
    primitives.iter().zip(all).map(|(primitive, found)| Row::new(*primitive, found)).collect()
}

fn attempt(
    work: impl FnOnce(&mut Steps) -> Result<(), Over>,
    outside: impl Fn(nix::unistd::Pid) -> Result<(), Errno>,
) -> Result<Vec<Found>, Call> {
    let (mut ours, line) = UnixStream::pair().map_err(Call::to("socketpair"))?;
    let pid = process::fork(|| u8::from(work(&mut Steps { line }).is_err()));
    let pid = pid.map_err(Call::to("fork"))?;
    let mut found = Vec::new();
    let mut told = [0; 5];
    while ours.read_exact(&mut told).is_ok() {
        let [kind, number @ ..] = told;
        if kind == ASKED {
            let done = outside(pid).map_or_else(|error| error as i32, |()| 0);
            if ours.write_all(&done.to_ne_bytes()).is_err() {
                break;
            }
            continue;
        }
        found.push(match i32::from_ne_bytes(number) {
            0 => Found::Yes(String::new()),
            number => Found::Refused(Errno::from_raw(number)),
        });
    }
    while waitpid(pid, None) == Err(Errno::EINTR) {}
    Ok(found)
}
