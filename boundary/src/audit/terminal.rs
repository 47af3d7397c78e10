//! Standard error, which may be a terminal that a full-screen program draws on.
//!
//! Lines written into the middle of that program's picture would spoil it, and nobody could read them.
//! While the terminal hands on single keys instead of whole lines, they are held back; they appear soon
//! after it is a person's again, or at the end of the session. *Never*: holds back what was asked for.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use nix::sys::termios::{LocalFlags, tcgetattr};

/// How much is held back. What came first is what a person looks for.
const MOST: usize = 64 * 1024;
/// How often it is looked whether the program has ended, while something is held back.
const LOOK: Duration = Duration::from_millis(200);
/// How long the end of a session waits for lines that somebody is writing; a person may have stopped the
/// terminal.
const LAST: Duration = Duration::from_secs(1);
/// How often it tries.
const POLL: Duration = Duration::from_millis(5);

/// Standard error.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Whether lines are written whoever draws there.
    is_asked: bool,
    /// Locked by whoever writes, for as long as that takes: what was held back goes first.
    held: Arc<Mutex<Held>>,
}

/// Lines that wait for the terminal.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// How many more there were.
    left_out: usize,
    /// Whether somebody looks when they can be written.
    is_watched: bool,
}

impl Terminal {
    /// Holds lines back only where nobody asked for them.
    pub(super) fn new(is_asked: bool) -> Self {
        Self { is_asked, held: Arc::default() }
    }

    /// Writes whole lines, or holds them back.
    pub(super) fn write(&self, lines: &[u8]) -> io::Result<()> {
        let mut held = locked(&self.held);
        if !self.is_asked && is_drawn_on() {
            held.take(lines);
            if !held.is_watched {
                held.is_watched = watch(&self.held);
            }
            return Ok(());
        }
        held.write()?;
        io::stderr().lock().write_all(lines)
    }

    /// Writes what was held back, unless somebody is stuck with writing.
    pub(super) fn release(&self) -> io::Result<()> {
        let most = LAST.as_millis() / POLL.as_millis();
        for _ in 0..most {
            match self.held.try_lock() {
                Ok(mut held) => return held.write(),
                Err(TryLockError::Poisoned(held)) => return held.into_inner().write(),
                Err(TryLockError::WouldBlock) => thread::sleep(POLL),
            }
        }
        Ok(())
    }
}

/// No code panics while it holds the lock.
fn locked(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks until nobody draws any more, and writes what was held back then. Whether somebody does; else
/// it is written with the next line, or at the end.
fn watch(held: &Arc<Mutex<Held>>) -> bool {
    let held = Arc::clone(held);
    let watched = thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        loop {
            thread::sleep(LOOK);
            let mut held = locked(&held);
            if held.is_empty() || !is_drawn_on() {
                held.is_watched = false;
                // There is nowhere left to complain about a terminal that cannot be written.
                drop(held.write());
                return;
            }
        }
    });
    watched.is_ok()
}

impl Held {
    /// Keeps lines, as far as there is room for them.
    fn take(&mut self, lines: &[u8]) {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.left_out == 0 && self.bytes.len() + line.len() <= MOST {
                self.bytes.extend_from_slice(line);
            } else {
                self.left_out += 1;
            }
        }
    }

    /// Whether nothing waits.
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.left_out == 0
    }

    /// Everything that was kept, and how many more there were.
    fn give(&mut self) -> Option<Vec<u8>> {
        let (mut bytes, left_out) =
            (std::mem::take(&mut self.bytes), std::mem::take(&mut self.left_out));
        if left_out > 0 {
            // A vector takes every byte.
            drop(writeln!(bytes, "boundary: {left_out} more lines while the terminal was in use"));
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Writes it.
    fn write(&mut self) -> io::Result<()> {
        let Some(lines) = self.give() else { return Ok(()) };
        io::stderr().lock().write_all(&lines)
    }
}

/// Whether standard error is a terminal that hands on single keys: whoever has it so is drawing on it.
fn is_drawn_on() -> bool {
    tcgetattr(io::stderr()).is_ok_and(|how| !how.local_flags.contains(LocalFlags::ICANON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_back_is_given_once_and_in_order() {
        let mut held = Held::default();
        assert_eq!(held.give(), None);
        held.take(b"one\ntwo\n");
        held.take(b"three\n");
        assert_eq!(held.give().as_deref(), Some(&b"one\ntwo\nthree\n"[..]));
        assert_eq!(held.give(), None);
    }

    #[test]
    fn what_is_too_much_is_counted_and_nothing_later_is_kept() {
        let mut held = Held::default();
        let long = [vec![b'x'; MOST - 1], vec![b'\n']].concat();
        held.take(&long);
        held.take(b"one\ntwo\n");
        let given = String::from_utf8(held.give().unwrap()).unwrap();
        assert!(given.ends_with("x\nboundary: 2 more lines while the terminal was in use\n"));
        assert_eq!(held.give(), None);
    }
}
