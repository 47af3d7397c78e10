//! What `boundary ctl` and a running session say to each other: one line of JSON each way, over a unix
//! socket in the session's directory.
//!
//! *Standing*: the session answers (`session::control`), the tool asks. *Never*: within reach of the
//! command, whose mounts cover the socket's directory; takes the command of some session for a session.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, getsockopt};
use nix::unistd::{Pid, geteuid};
use serde::{Deserialize, Serialize};

use crate::sys::{confinement, pidfd};

/// The directory of the socket, in the session's.
pub const FOLDER: &str = "control";
/// The socket, in its directory.
const SOCKET: &str = "socket";
/// Where sessions have their directories: root's, and anybody's.
const BASES: [&str; 2] = ["/run", "/tmp"];
/// How the directory of a session is called, before its number.
const PREFIX: &str = "boundary-";
/// The longest line that is read.
pub const LONGEST: u64 = 1 << 20;
/// How long an answer is waited for: what a session is, it knows; a policy may have to ask a package
/// manager.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(1));

/// The number that comes with a `SIGTERM` which tells a keeper to kill its command: any other it
/// passes on, however often it comes.
pub const KILL: i32 = 0x626e_6479;

/// What may be asked of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// What it is.
    Ps,
    /// To read its policy again.
    Reload {
        /// Whether files that are not those of its beginning are taken, whoever wrote them.
        #[serde(default)]
        replaced: bool,
    },
    /// What it denied last.
    Denied,
    /// To permit what was denied under a number, by this rule or the narrowest there is.
    Allow {
        /// The number on record.
        sequence: u64,
        /// The rule.
        rule: Option<String>,
        /// Whether to write it into the policy's file too.
        #[serde(default)]
        save: bool,
    },
}

/// What a session answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What it is.
    Session(Session),
    /// What it denied last, the latest at the end.
    Denied(Vec<Denied>),
    /// It was done, and this is how things are now.
    Done(String),
    /// It was not done, and nothing has changed.
    Failed(String),
}

/// A session, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its number, as in the record.
    pub id: String,
    /// Its keeper's process, which takes signals for the command.
    pub pid: i32,
    /// Its jail.
    pub jail: String,
    /// The name of the command.
    pub command: String,
    /// How many rules are in force.
    pub rules: usize,
    /// How often the policy was replaced.
    pub generation: u64,
    /// Whether it learns.
    pub learning: bool,
}

/// Something that a session denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Its number on record.
    pub sequence: u64,
    /// What was asked, as far as it could be understood.
    pub asked: String,
    /// Why, as a code.
    pub code: String,
    /// The narrowest rule that permits it, if any does.
    pub rule: Option<String>,
}

/// The socket of a session's directory.
pub fn socket(directory: &Path) -> PathBuf {
    directory.join(FOLDER).join(SOCKET)
}

/// The sockets of all sessions here that are ours to ask.
pub fn sessions() -> Vec<PathBuf> {
    let entries = BASES.iter().flat_map(|base| fs::read_dir(base).into_iter().flatten().flatten());
    let is_session = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
    };
    entries.filter(is_session).map(|entry| socket(&entry.path())).collect()
}

/// Asks a session.
pub fn ask(socket: &Path, ask: &Ask) -> io::Result<Answer> {
    ask_peer(socket, ask).map(|(answer, _)| answer)
}

/// Asks a session, and tells who keeps it.
pub fn ask_peer(socket: &Path, ask: &Ask) -> io::Result<(Answer, Peer)> {
    let mut stream = connect(socket)?;
    let peer = Peer::of(&stream, socket)?;
    let patience = if *ask == Ask::Ps { PATIENCE.0 } else { PATIENCE.1 };
    let until = Instant::now() + patience;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&line)?;
    let answer = serde_json::from_slice(&read_line(&mut stream, until)?)?;
    Ok((answer, peer))
}

/// Connects, or not: where nobody accepts, that is not waited for.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let line = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(line.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(line);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Reads up to a newline or the end, within a time and a length.
fn read_line(stream: &mut UnixStream, until: Instant) -> io::Result<Vec<u8>> {
    let (mut line, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let length = match stream.read(&mut part) {
            // Whoever is stopped and goes on waits anew.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let read = part.get(..length).unwrap_or_default();
        line.extend_from_slice(read);
        if read.is_empty() || read.contains(&b'\n') || line.len() as u64 > LONGEST {
            return Ok(line);
        }
    }
}

/// Who keeps a session: the process that began to listen at its socket.
#[derive(Debug)]
pub struct Peer {
    pid: Pid,
    /// It, whoever has its number by now.
    handle: OwnedFd,
}

impl Peer {
    /// Who listens at a socket. Anybody may make one below `/tmp`, the command of a session too: it has
    /// to be whose the directory is, which is root or us unless we are root, and no command.
    fn of(stream: &UnixStream, socket: &Path) -> io::Result<Self> {
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        let credentials = getsockopt(stream, PeerCredentials)?;
        let directory = socket.parent().and_then(Path::parent).ok_or_else(refused)?;
        let (owner, own) = (fs::metadata(directory)?.uid(), geteuid());
        let is_ours = owner == 0 || owner == own.as_raw() || own.is_root();
        let pid = Pid::from_raw(credentials.pid());
        if credentials.uid() != owner || !is_ours || pid.as_raw() <= 1 {
            return Err(refused());
        }
        let handle = match pidfd::of_peer(stream) {
            // Before Linux 6.5. In a jail that shares our numbers the command can signal its user's
            // processes there by itself (docs/threat-model.md).
            Err(Errno::ENOPROTOOPT) => pidfd::open(pid)?,
            handle => handle?,
        };
        let peer = Self { pid, handle };
        // What is read of a number is of this process only as long as it runs.
        if !confinement::is_no_command(pid) || peer.has_ended(PollTimeout::ZERO)? {
            return Err(refused());
        }
        Ok(peer)
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Signals it, and nobody else.
    pub fn signal(&self, signal: Signal) -> nix::Result<()> {
        pidfd::signal(self.handle.as_fd(), signal)
    }

    /// Has it kill its command, tear down and write the record to its end.
    pub fn end_command(&self) -> nix::Result<()> {
        let signal = Signal::SIGTERM as i32;
        let details = pidfd::Details::queued(KILL).of_signal(signal);
        pidfd::send(self.handle.as_fd(), signal, Some(&details))
    }

    /// Waits until it has ended, for so many milliseconds. False if it has not.
    pub fn has_ended(&self, patience: impl Into<PollTimeout>) -> nix::Result<bool> {
        let mut handle = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut handle, patience)? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_known_and_whose_the_directory_is() {
        let folder = std::env::temp_dir().join(format!("control-{}", std::process::id()));
        let socket = socket(&folder);
        fs::create_dir_all(folder.join(FOLDER)).expect("a folder");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let stream = connect(&socket).expect("it listens");
        let peer = Peer::of(&stream, &socket).expect("this process is no command");
        assert_eq!(peer.pid(), Pid::this());
        assert!(!peer.has_ended(PollTimeout::ZERO).expect("a handle"));
        // Nobody accepts, and nobody waits for that.
        let mut lines = Vec::new();
        while let Ok(line) = connect(&socket) {
            lines.push(line);
        }
        drop(listener);
        fs::remove_dir_all(folder).expect("removed");
    }
}
