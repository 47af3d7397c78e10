//! Questions on the terminal that boundary was started from.
//!
//! *Never*: asks while another program has the terminal for itself (an editor, an agent's screen); takes
//! a line for a yes that does not repeat the number of this question.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, tcgetattr};
use uuid::Uuid;

use super::{Answer, Asked};
use crate::rules::quoted;

/// The terminal of whoever opens it.
const TERMINAL: &str = "/dev/tty";
/// The longest line that is read at once.
const LINE: usize = 4096;

/// A terminal.
#[derive(Debug)]
pub(in crate::session) struct Terminal(File);

impl AsRawFd for Terminal {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Terminal {
    /// Opens the terminal of this process.
    pub(super) fn open() -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(TERMINAL).map(Self)
    }

    /// Puts a question, and waits for an answer to it.
    pub(super) fn ask(&mut self, asked: &Asked, until: Instant) -> Answer {
        self.converse(asked, until).unwrap_or_else(|error| {
            tracing::warn!(%error, "nobody can be asked on the terminal");
            Answer::Silence
        })
    }

    fn converse(&mut self, asked: &Asked, until: Instant) -> io::Result<Answer> {
        if !self.is_free()? {
            tracing::warn!("not asked: a program has the terminal for itself");
            return Ok(Answer::Silence);
        }
        let number = fresh();
        let seconds = until.saturating_duration_since(Instant::now()).as_secs();
        let (text, rule) = (asked.text(), quoted(asked.rule.as_str()));
        self.tell(&format!("{text} is permitted by no rule."));
        self.tell(&format!("  This rule would: {rule}"));
        self.tell(&format!(
            "  Within {seconds} s: {number} permits it while the session runs, {number} save also in \
             the policy file; no refuses it, never all from now on."
        ));
        while let Some(line) = self.line(until)? {
            match meant(&line, &number) {
                Some(answer) => return Ok(answer),
                None => {
                    self.tell(&format!("  That is none of: {number}, {number} save, no, never."));
                }
            }
        }
        self.tell("  Nobody answered: it is refused.");
        Ok(Answer::Silence)
    }

    /// Writes a line. A terminal that is gone is noticed when it is read.
    pub(super) fn tell(&mut self, text: &str) {
        drop(self.0.write_all(format!("\rboundary: {text}\r\n").as_bytes()));
    }

    /// Whether lines are read on it, and not keys.
    fn is_free(&self) -> io::Result<bool> {
        Ok(tcgetattr(&self.0)?.local_flags.contains(LocalFlags::ICANON))
    }

    /// The next line that somebody types, if one comes in time.
    fn line(&mut self, until: Instant) -> io::Result<Option<String>> {
        self.0.write_all(b"boundary> ")?;
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, left)? == 0 {
            return Ok(None);
        }
        let mut line = [0; LINE];
        match self.0.read(&mut line)? {
            0 => Ok(None),
            length => {
                Ok(Some(String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into()))
            }
        }
    }
}

/// Four digits that nobody can foresee.
fn fresh() -> String {
    format!("{:04}", Uuid::new_v4().as_u128() % 10_000)
}

/// What a line says to the question of a number, if it is an answer at all.
fn meant(line: &str, number: &str) -> Option<Answer> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["no" | "n"] => Some(Answer::Deny),
        ["never"] => Some(Answer::Never),
        [said] if *said == number => Some(Answer::Allow),
        [said, "save"] if *said == number => Some(Answer::Save),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_the_number_of_this_question_and_nothing_else() {
        assert_eq!(meant("4821\n", "4821"), Some(Answer::Allow));
        assert_eq!(meant(" 4821  save \n", "4821"), Some(Answer::Save));
        assert_eq!(meant("no\n", "4821"), Some(Answer::Deny));
        assert_eq!(meant("never\n", "4821"), Some(Answer::Never));
        for other in ["y", "yes", "", "482", "48210", "4821 yes", "4822", "save 4821", "4821 4821"]
        {
            assert_eq!(meant(other, "4821"), None, "{other}");
        }
    }

    #[test]
    fn numbers_are_four_digits_and_not_the_same_each_time() {
        let all: std::collections::HashSet<String> = (0..20).map(|_| fresh()).collect();
        assert!(all.len() > 1);
        assert!(all.iter().all(|it| it.len() == 4 && it.chars().all(|c| c.is_ascii_digit())));
    }
}
