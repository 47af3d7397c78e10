//! Questions to a program: one line of JSON each, and one line back.
//!
//! *Standing*: started once, as the user, before the command is: what the command writes in its place
//! afterwards is not run. *Never*: outlives the proxy.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Answer, Asked};
use crate::sys::process::end_with_parent;

/// The longest answer.
const LONGEST: usize = 4096;

/// A program that answers.
#[derive(Debug)]
pub(super) struct Program {
    input: ChildStdin,
    output: ChildStdout,
    /// What was read and is not a whole line yet.
    heard: Vec<u8>,
    /// Questions whose answers came too late, and are still to come.
    owed: usize,
}

impl Program {
    /// Starts it. It is this process's child, and ends when this ends.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let mut command = Command::new(path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = end_with_parent(&mut command).spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = (input.ok_or_else(gone)?, output.ok_or_else(gone)?);
        Ok(Self { input, output, heard: Vec::new(), owed: 0 })
    }

    /// Puts a question, and waits for the answer to it. An answer that is late counts for nothing.
    pub(super) fn ask(&mut self, asked: &Asked, until: Instant) -> Answer {
        let line = format!("{}\n", asked.json(until));
        if self.owed == 0 {
            self.forget();
        }
        let answer = self.input.write_all(line.as_bytes()).and_then(|()| {
            self.owed += 1;
            self.answer(until)
        });
        match answer {
            Ok(Some(line)) => meant(&line),
            Ok(None) => Answer::Silence,
            Err(error) => {
                tracing::warn!(%error, "the prompting program cannot be asked");
                Answer::Silence
            }
        }
    }

    /// Forgets what was said unasked: it answers nothing, and what answers this would answer the next.
    fn forget(&mut self) {
        let mut part = [0; LONGEST];
        let is_there = |output: &ChildStdout| {
            let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
            poll(&mut waiting, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        };
        while is_there(&self.output) && self.output.read(&mut part).is_ok_and(|length| length > 0) {
        }
        self.heard.clear();
    }

    /// The line that answers the last question, if it comes in time.
    fn answer(&mut self, until: Instant) -> io::Result<Option<String>> {
        while let Some(line) = self.line(until)? {
            self.owed = self.owed.saturating_sub(1);
            if self.owed == 0 {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The next line, if it comes in time.
    fn line(&mut self, until: Instant) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            let left = until.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            if self.heard.len() > LONGEST {
                return Err(io::Error::other("a line longer than any answer"));
            }
            if poll(&mut waiting, left)? == 0 {
                return Ok(None);
            }
            let mut part = [0; 256];
            match self.output.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.heard.extend_from_slice(part.get(..length).unwrap_or_default()),
            }
        }
    }
}

/// What a line says.
fn meant(line: &str) -> Answer {
    match line.trim() {
        "allow" => Answer::Allow,
        "save" => Answer::Save,
        "never" => Answer::Never,
        _ => Answer::Deny,
    }
}
