//! What `boundary ctl` and a running session say to each other: one line of JSON each way, over a unix
//! socket in the session's directory.
//!
//! *Standing*: the session answers (`session::control`), the tool asks. *Never*: within reach of the
//! command, whose mounts cover the socket's directory.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

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
/// How long an answer is waited for. A policy may have to ask a package manager.
const PATIENCE: Duration = Duration::from_mins(1);

/// What may be asked of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// What it is.
    Ps,
    /// To read its policy again.
    Reload,
    /// To permit what was denied under a number, by this rule or the narrowest there is.
    Allow {
        /// The number on record.
        sequence: u64,
        /// The rule.
        rule: Option<String>,
    },
}

/// What a session answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What it is.
    Session(Session),
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

/// Asks a session. What answers has to be ours or root's: anybody may make a socket below `/tmp`.
pub fn ask(socket: &Path, ask: &Ask) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    let peer = getsockopt(&stream, PeerCredentials)?;
    if peer.uid() != 0 && peer.uid() != geteuid().as_raw() && !geteuid().is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).take(LONGEST).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
