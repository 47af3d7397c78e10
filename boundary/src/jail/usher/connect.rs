//! A connection that is made for somebody who may wait for it, by one who must not.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::request::is_of_unix;
use crate::sys::{interrupt, reach};

/// How often whoever waits for a connection is looked after, in milliseconds.
const LOOK: u16 = 200;

/// The address that is none (`AF_UNSPEC`).
pub(in crate::jail) const NOBODY: [u8; 16] = [0; 16];

/// An address of a family that no socket of the internet connects to. Of a connection that is under way the
/// kernel tells how it stands, whatever the address; where none is it begins none.
const NO_TARGET: [u8; 28] = {
    let mut address = [0; 28];
    [address[0], address[1], ..] = libc::AF_UNIX.to_ne_bytes();
    address
};

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
    let connect = || match interrupt::soon(|| reach::connect(socket.as_fd(), address)) {
        // Somebody has made it one that waits, and no server of the unix family has room. One of TCP goes on.
        Err(Errno::EINTR) if is_of_unix(address) => Err(Errno::EAGAIN),
        outcome => outcome,
    };
    if !waits(socket)? || !takes_long(socket, address)? {
        return match connect() {
            Ok(()) => Ok(Attempt::Made),
            Err(Errno::EINPROGRESS) => Ok(Attempt::UnderWay),
            Err(Errno::EINTR) => Ok(Attempt::Waits),
            Err(error) => Err(error),
        };
    }
    let outcome = without_waiting(socket, || match connect() {
        // On loopback it is over by now, as a rule. Under way already it is where a signal came before the
        // answer, and the call was made again.
        Err(Errno::EINPROGRESS | Errno::EALREADY) => match connect() {
            Err(Errno::EISCONN) => Ok(()),
            concluded => concluded,
        },
        outcome => outcome,
    })?;
    match outcome {
        Ok(()) => Ok(Attempt::Made),
        Err(Errno::EINPROGRESS | Errno::EALREADY | Errno::EINTR) => Ok(Attempt::Waits),
        Err(error) => Err(error),
    }
}

/// Waits for a connection that an attempt has begun, for as long as somebody waits for it.
///
/// What came of it is asked by connecting once more, which leaves the socket as a program that waits
/// for its connection would find it: one that failed can be tried again.
pub(in crate::jail) fn wait(socket: &OwnedFd, is_awaited: impl Fn() -> bool) -> nix::Result<()> {
    let until = limit(socket)?;
    loop {
        let is_over = is_over(socket.as_fd(), PollTimeout::from(LOOK));
        if !is_awaited() {
            return Err(Errno::EINTR);
        }
        if is_over {
            match without_waiting(socket, || outcome(socket))? {
                Ok(()) | Err(Errno::EISCONN) => return Ok(()),
                Err(Errno::EALREADY | Errno::EINTR) => {}
                // Somebody has shut it down meanwhile.
                Err(Errno::EAFNOSUPPORT) => return Err(Errno::ECONNRESET),
                Err(error) => return Err(error),
            }
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Errno::EINPROGRESS);
        }
    }
}

/// What came of a connection that is under way: once what `connect(2)` returns, and afterwards that it is
/// made. `EAFNOSUPPORT` where none is under way.
pub(in crate::jail) fn outcome(socket: &OwnedFd) -> nix::Result<()> {
    interrupt::soon(|| reach::connect(socket.as_fd(), &NO_TARGET))
}

/// How long somebody waits who makes a call.
#[derive(Debug)]
pub(in crate::jail) struct Patience {
    until: Option<Instant>,
    pause: Duration,
}

impl Patience {
    /// That of whoever waits at a socket; none if nobody does.
    pub(in crate::jail) fn at(socket: &OwnedFd) -> nix::Result<Option<Self>> {
        let pause = Duration::from_millis(1);
        Ok(if waits(socket)? { Some(Self { until: limit(socket)?, pause }) } else { None })
    }

    /// Waits a little, for longer each time: nothing tells when another's socket has room. False if it is
    /// over.
    pub(in crate::jail) fn lasts(&mut self) -> bool {
        /// The longest that room is left unused.
        const LONGEST: Duration = Duration::from_millis(50);
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }
}

/// Whether a program waits at a socket.
pub(in crate::jail) fn waits(socket: &OwnedFd) -> nix::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    Ok(!flags.contains(OFlag::O_NONBLOCK))
}

/// Whether a program that sends or connects waits for so long and no longer (`SO_SNDTIMEO`).
pub(in crate::jail) fn has_limit(socket: &OwnedFd) -> bool {
    !matches!(limit(socket), Ok(None))
}

/// Until when a program waits that sends or connects now (`SO_SNDTIMEO`), if not for ever.
fn limit(socket: &OwnedFd) -> nix::Result<Option<Instant>> {
    let limit = getsockopt(socket, sockopt::SendTimeout)?;
    let seconds = u64::try_from(limit.tv_sec()).unwrap_or_default();
    let rest = u64::try_from(limit.tv_usec()).unwrap_or_default();
    let limit = Duration::from_secs(seconds).saturating_add(Duration::from_micros(rest));
    Ok(if limit.is_zero() { None } else { Instant::now().checked_add(limit) })
}

/// Whether there is anything to wait for: a datagram socket is pointed somewhere at once, as one is
/// that forgets where to.
fn takes_long(socket: &OwnedFd, address: &[u8]) -> nix::Result<bool> {
    let unspecified = u16::try_from(libc::AF_UNSPEC).unwrap_or_default().to_ne_bytes();
    let is_datagram = getsockopt(socket, sockopt::SockType)? == SockType::Datagram;
    Ok(!is_datagram && !address.starts_with(&unspecified))
}

/// Does something with a socket at which nobody waits meanwhile.
fn without_waiting<T>(socket: &OwnedFd, work: impl FnOnce() -> T) -> nix::Result<T> {
    let set = |waits: bool| -> nix::Result<()> {
        // What others have changed meanwhile stays so.
        let mut flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, !waits);
        fcntl(socket, FcntlArg::F_SETFL(flags)).map(drop)
    };
    set(false)?;
    let done = work();
    set(true)?;
    Ok(done)
}

/// Whether an attempt has come to its end.
fn is_over(socket: BorrowedFd<'_>, patience: PollTimeout) -> bool {
    poll(&mut [PollFd::new(socket, PollFlags::POLLOUT)], patience).is_ok_and(|ready| ready > 0)
}

/// Whether a connection that was under way has failed.
pub(in crate::jail) fn has_failed(socket: &OwnedFd) -> bool {
    let failed = PollFlags::POLLERR | PollFlags::POLLHUP;
    let mut asked = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO).is_ok()
        && asked.iter().any(|one| one.revents().is_some_and(|told| told.intersects(failed)))
}
