//! A program of the system, run to hear what it is configured for.
//!
//! *Standing*: [`System::ask`](super::System::ask) of the real machine. *Never*: runs with more rights
//! than the user who called, or in the folder that the command works in: a project's own files would
//! answer there.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::system::{Question, Unasked};

/// How long an answer may take. They take a second, on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const LONGEST: usize = 1 << 20;
/// How often it is looked whether a program that has answered is gone.
const LOOK: Duration = Duration::from_millis(5);

/// Asks, and waits for the answer.
pub(super) fn ask(question: &Question<'_>) -> Result<String, Unasked> {
    let program = || question.program.to_owned();
    let call = |error| Unasked::Call { program: program(), error };
    let mut child = command(question).spawn().map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        if is_missing { Unasked::Missing { program: program() } } else { call(error) }
    })?;
    let until = Instant::now() + PATIENCE;
    let answered = hear(&mut child, until);
    if !matches!(answered, Ok(Some(_))) {
        // It may have ended by itself, and is collected in any case.
        drop(child.kill());
    }
    let status = wait(&mut child, until).map_err(call)?;
    match (answered, status) {
        (Err(error), _) => Err(call(error)),
        (Ok(Some(text)), Some(status)) if status.success() => {
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        (Ok(Some(_)), Some(status)) => Err(Unasked::Failed { program: program(), status }),
        (Ok(_), _) => Err(Unasked::Late { program: program(), after: PATIENCE }),
    }
}

/// The program in its user's home, with nothing to read and nobody to complain to.
fn command(question: &Question<'_>) -> Command {
    let Question { program, arguments, variables, user } = question;
    let mut command = Command::new(program);
    command
        .args(*arguments)
        .envs(variables.iter().copied())
        .current_dir(if user.home.is_dir() { user.home.as_path() } else { "/".as_ref() })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    if user.sudo {
        command.uid(user.uid).gid(user.gid).env("HOME", &user.home);
    }
    command
}

/// What it writes until it is done; nothing where that is too late or too much.
fn hear(child: &mut Child, until: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let Some(mut output) = child.stdout.take() else { return Ok(None) };
    while text.len() < LONGEST && comes(&output, until)? {
        let mut part = [0; 8192];
        match output.read(&mut part)? {
            0 => return Ok(Some(text)),
            length => text.extend_from_slice(part.get(..length).unwrap_or_default()),
        }
    }
    Ok(None)
}

/// Whether there is something to read, be it the end, before it is too late.
fn comes(output: &ChildStdout, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut waiting, left)? > 0)
}

/// How it ended; nothing, where it has to be killed for that.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
