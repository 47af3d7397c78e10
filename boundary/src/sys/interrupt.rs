//! Calls that must not wait, and may be made to wait all the same: whether a call on a socket waits is a
//! flag of the open file (`O_NONBLOCK`), which whoever shares that changes at will.
//!
//! *Standing*: the ushers connect the command's sockets with it. *Never*: interrupts what is asked of the
//! kernel elsewhere: the timer is one thread's, and runs for no longer than the call.

#![expect(unsafe_code, reason = "a handler for a signal")]

use std::cell::RefCell;
use std::time::Duration;

use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

/// After how long a call is interrupted, and again where the signal came before the call.
const PATIENCE: Duration = Duration::from_millis(20);

/// The signal. Nobody sends it to an usher.
const SIGNAL: Signal = Signal::SIGVTALRM;

thread_local! {
    /// This thread's timer; none where the kernel gives none.
    static TIMER: RefCell<Option<Timer>> = RefCell::new(timer().ok());
}

/// Does something in which every call that waits for long fails with `EINTR`.
///
/// Where a process has no timer to spare (`RLIMIT_SIGPENDING`) it waits.
pub fn soon<T>(work: impl FnOnce() -> T) -> T {
    TIMER.with_borrow_mut(|timer| {
        let every = TimeSpec::from_duration(PATIENCE);
        set(timer, Expiration::IntervalDelayed(every, every));
        let done = work();
        set(timer, Expiration::OneShot(TimeSpec::from_duration(Duration::ZERO)));
        done
    })
}

/// Sets a timer; to nothing, where the time is none.
fn set(timer: &mut Option<Timer>, to: Expiration) {
    if let Some(timer) = timer {
        // The kernel refuses no time that is a time.
        timer.set(to, TimerSetTimeFlags::empty()).unwrap_or_default();
    }
}

/// A timer that signals the calling thread, in which the signal does nothing but interrupt.
fn timer() -> nix::Result<Timer> {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(SIGNAL, &action) }?;
    SigSet::from(SIGNAL).thread_unblock()?;
    let thread_id = gettid().as_raw();
    let notify = SigevNotify::SigevThreadId { signal: SIGNAL, thread_id, si_value: 0 };
    Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixListener;

    use nix::errno::Errno;
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, listen, socket,
    };

    use super::*;

    #[test]
    fn a_connection_that_waits_is_interrupted_and_nothing_after_it() {
        let place = std::env::temp_dir().join(format!("boundary-{}", uuid::Uuid::new_v4()));
        let listener = UnixListener::bind(&place).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let address = UnixAddr::new(&place).unwrap();
        let new = || {
            let flags = SockFlag::empty();
            socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
        };
        let sockets: Vec<_> = std::iter::repeat_with(new).take(3).collect();
        let outcomes: Vec<_> = sockets
            .iter()
            .map(|socket| soon(|| connect(socket.as_raw_fd(), &address)))
            .take_while(Result::is_ok)
            .collect();
        assert!(outcomes.len() < 3, "the third has no place in the queue");
        let late = sockets.last().unwrap();
        assert_eq!(soon(|| connect(late.as_raw_fd(), &address)), Err(Errno::EINTR));
        // The timer is off: a sleep of std's goes on after a signal, one of the kernel's does not.
        let pause = Duration::from_millis(60);
        assert_eq!(nix::poll::poll(&mut [], u16::try_from(pause.as_millis()).unwrap()), Ok(0));
        std::fs::remove_file(place).unwrap();
    }
}
