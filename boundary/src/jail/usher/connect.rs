//! A connection that is made for somebody who may wait for it, by one who must not.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::reach;

/// How often whoever waits for a connection is looked after, in milliseconds.
const LOOK: u16 = 200;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jail) enum Attempt {
    /// It is there.
    Made,
    /// It is not, and the program does not wait for it.
    UnderWay,
    /// It is not, and the program waits.
    Waits,
}

/// Connects a socket without waiting, whether or not the program would.
pub(in crate::jail) fn attempt(socket: &OwnedFd, address: &[u8]) -> nix::Result<Attempt> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    let waits = !flags.contains(OFlag::O_NONBLOCK);
    if waits {
        fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    let outcome = reach::connect(socket.as_fd(), address);
    let outcome = match outcome {
        // On loopback it is over by now, as a rule. Under way already it is where a signal came before the
        // answer, and the call was made again.
        Err(Errno::EINPROGRESS | Errno::EALREADY) if waits => match conclude(socket, address) {
            Err(Errno::EALREADY) => Err(Errno::EINPROGRESS),
            concluded => concluded,
        },
        outcome => outcome,
    };
    if waits {
        fcntl(socket, FcntlArg::F_SETFL(flags))?;
    }
    match outcome {
        Ok(()) => Ok(Attempt::Made),
        Err(Errno::EINPROGRESS) if !waits => Ok(Attempt::UnderWay),
        Err(Errno::EINPROGRESS) => Ok(Attempt::Waits),
        Err(error) => Err(error),
    }
}

/// Waits for a connection, for as long as somebody waits for it.
pub(in crate::jail) fn wait(
    socket: &OwnedFd,
    address: &[u8],
    is_awaited: impl Fn() -> bool,
) -> nix::Result<()> {
    while !is_over(socket.as_fd(), PollTimeout::from(LOOK)) {
        if !is_awaited() {
            return Err(Errno::EINTR);
        }
    }
    conclude(socket, address)
}

/// Whether an attempt has come to its end.
fn is_over(socket: BorrowedFd<'_>, patience: PollTimeout) -> bool {
    poll(&mut [PollFd::new(socket, PollFlags::POLLOUT)], patience).is_ok_and(|ready| ready > 0)
}

/// What came of an attempt. Asked by connecting once more, which leaves the socket as a program that
/// waits for its connection would find it: one that failed can be tried again.
fn conclude(socket: &OwnedFd, address: &[u8]) -> nix::Result<()> {
    match reach::connect(socket.as_fd(), address) {
        Err(Errno::EISCONN) => Ok(()),
        concluded => concluded,
    }
}
