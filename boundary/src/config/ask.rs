//! A program of the system, run to hear what it is configured for.
//!
//! *Standing*: [`System::ask`](super::System::ask) of the real machine. *Never*: runs with more rights
//! than the user who called, or in a folder that a command may have worked in, be it the user's home:
//! what lies there would answer. Leaves anything running that stays in the program's process group.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::system::{Question, Unasked};

/// How long an answer may take. They take a second, on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const LONGEST: usize = 1 << 20;
/// How often it is looked whether a program that has answered is gone.
const LOOK: Duration = Duration::from_millis(5);

/// Asks, and waits for the answer. Nothing that the program started is left behind.
pub(super) fn ask(question: &Question<'_>) -> Result<String, Unasked> {
    let program = || question.program.to_owned();
    let call = |error| Unasked::Call { program: program(), error };
    let mut child = command(question).spawn().map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        if is_missing { Unasked::Missing { program: program() } } else { call(error) }
    })?;
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    let until = Instant::now() + PATIENCE;
    let heard = hear(&mut child, until);
    let has_ended = matches!(heard, Ok(Heard::All(_))) && ends(group, until);
    // The program is not collected yet, so that the group's number is nobody else's.
    killpg(group, Signal::SIGKILL).unwrap_or_default();
    let status = child.wait().map_err(call)?;
    match heard.map_err(call)? {
        Heard::All(text) if has_ended && status.success() => {
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Heard::All(_) if has_ended => Err(Unasked::Failed { program: program(), status }),
        Heard::TooMuch => Err(Unasked::Long { program: program(), most: LONGEST }),
        Heard::All(_) | Heard::Late => Err(Unasked::Late { program: program(), after: PATIENCE }),
    }
}

/// The program in the root folder, with nothing to read and nobody to complain to. Not in its user's
/// home: what a project has left there (`pip/`, `go.mod`, `rust-toolchain.toml`) would be run.
fn command(question: &Question<'_>) -> Command {
    let Question { program, arguments, variables, user } = question;
    let mut command = Command::new(program);
    command
        .args(*arguments)
        .envs(variables.iter().copied())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    if user.sudo {
        command.uid(user.uid).gid(user.gid).env("HOME", &user.home);
    }
    command
}

/// What a program had to say.
enum Heard {
    /// All of it.
    All(Vec<u8>),
    /// More than anybody has to say of a configuration.
    TooMuch,
    /// It was not done in time.
    Late,
}

/// What it writes until it is done.
fn hear(child: &mut Child, until: Instant) -> io::Result<Heard> {
    let mut text = Vec::new();
    let Some(mut output) = child.stdout.take() else { return Ok(Heard::Late) };
    while comes(&output, until)? {
        let mut part = [0; 8192];
        match output.read(&mut part)? {
            0 => return Ok(Heard::All(text)),
            length => text.extend_from_slice(part.get(..length).unwrap_or_default()),
        }
        if text.len() > LONGEST {
            return Ok(Heard::TooMuch);
        }
    }
    Ok(Heard::Late)
}

/// Whether there is something to read, be it the end, before it is too late.
fn comes(output: &ChildStdout, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut waiting, left)? > 0)
}

/// Whether it ends in time. It is left for its parent to collect.
fn ends(child: Pid, until: Instant) -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while Instant::now() < until {
        match waitid(Id::Pid(child), look) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => thread::sleep(LOOK),
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::config::Invoker;

    /// Asks a shell, for a user whose home is not there.
    fn ask_shell(script: &str) -> Result<String, Unasked> {
        let home = PathBuf::from("/nonexistent");
        let user = Invoker { uid: 1, gid: 1, name: None, home, shell: None, sudo: false };
        let arguments = ["-c", script];
        ask(&Question { program: "sh", arguments: &arguments, variables: &[], user: &user })
    }

    /// Waits until nobody has a file open any more, which a shared lock of theirs would show.
    fn is_let_go(path: &std::path::Path) -> bool {
        let file = fs::File::open(path).unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        while Instant::now() < deadline {
            if file.try_lock().is_ok() {
                return true;
            }
            thread::sleep(LOOK);
        }
        false
    }

    #[test]
    fn what_a_program_starts_ends_with_its_answer() {
        let path = std::env::temp_dir().join(format!("boundary-ask-{}", uuid::Uuid::new_v4()));
        fs::write(&path, "").unwrap();
        let lock = format!("exec 9<'{}'; flock -s 9; sleep 600 >&- &", path.display());
        let answers = ["echo told", "yes | head -c 3000000", "exit 3"]
            .map(|then| (ask_shell(&format!("{lock} {then}")), is_let_go(&path)));
        fs::remove_file(&path).unwrap();
        let [(told, one), (long, two), (failed, three)] = answers;
        assert_eq!(told.unwrap(), "told\n");
        assert!(matches!(long, Err(Unasked::Long { .. })), "{long:?}");
        assert!(matches!(failed, Err(Unasked::Failed { .. })), "{failed:?}");
        assert_eq!([one, two, three], [true; 3], "nothing of it runs on");
    }
}
