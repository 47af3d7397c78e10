//! One run, start to end: the keeper's story.
//!
//! ```text
//! keeper ── parses, raises the walls, starts the others, waits, takes down
//!  ├─ init     first process of the command's pid namespace; clears up if the keeper is killed
//!  ├─ proxy    no privilege; listens, asks the rules, dials, records
//!  ├─ usher    beside the command: makes its calls that name a socket, where they may lead
//!  └─ command  inside the walls, as the invoking user
//! ```
//!
//! Whatever ends first, the others end, and nothing of the session is left.
//!
//! *Never*: handles a byte from the network.

mod bounds;
mod channel;
mod command;
mod control;
mod faults;
mod frugal;
mod gauges;
mod guard;
mod janitor;
mod keeper;
mod keystore;
mod learn;
mod names;
mod nested;
mod prompt;
mod proxy;
mod raise;
mod save;
mod stdio;
mod trust;
mod windows;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use uuid::Uuid;

use crate::audit::{Sinks, Usage};
use crate::config::{Config, Invoker, Prompt};
use crate::jail::child::Identity;
use crate::jail::{self, Call, Walls, mutation};
use crate::sys::process;
use command::{Held, Plan};
use janitor::Remains;
use keeper::{Ended, Family, Signals};
use prompt::Opened;
use proxy::{ProxyProcess, Setup};
use raise::Raised;
use trust::{Roots, SessionFiles};

/// How long a process of the session may take to say that it is ready. It takes milliseconds; one
/// that was stopped, or waits for a disk, must not hold its caller for ever.
const START: Duration = Duration::from_secs(30);

/// How long a killed process may take to be gone.
const END: Duration = Duration::from_secs(2);

/// Runs the command of a configuration.
pub fn run(config: &Config) -> Result<Outcome, Error> {
    if let Some(door) = std::env::var_os(nested::DOOR).filter(|door| !door.is_empty()) {
        return nested::run(config, Path::new(&door));
    }
    let identity = identity(&config.user)?;
    outermost(config, &identity).map_err(|error| raise::explained(error, config, &identity))
}

/// The policy's files, as far as they stay: no pipe of the caller's.
fn policy_files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let paths = config.policy.files.iter().filter_map(|path| fs::canonicalize(path).ok());
    paths.filter(|path| path.is_file())
}

/// What the command may read and not change: the record, the policy, and who answers for the user.
fn guarded(config: &Config, sinks: &Sinks) -> Vec<PathBuf> {
    let program = match &config.prompt {
        Some(Prompt::Program(program)) => fs::canonicalize(program).ok(),
        Some(Prompt::Terminal | Prompt::Nobody) | None => None,
    };
    sinks.files().iter().cloned().chain(policy_files(config)).chain(program).collect()
}

/// Runs it in walls of its own.
fn outermost(config: &Config, identity: &Identity) -> Result<Outcome, Error> {
    let sinks = Sinks::open(&config.log, config.audit_log.as_deref(), config.audit_rotation)?;
    let sinks = sinks.forwarding(config.forward.clone()).exporting(config.collector.clone());
    sinks.install();
    let guarded = guarded(config, &sinks);
    let signals = Signals::block()?;
    let session = Uuid::new_v4();
    let remains = Remains::of(&session);
    let Raised { mut janitor, alarm, doors, walls } = raise::raise(config, &remains, identity)?;
    let files = SessionFiles::create(remains.files.clone());
    let files = files.map_err(|source| Error::Folder { path: remains.files.clone(), source })?;
    if let Some(gateway) = config.egress.gateways.looping(&doors) {
        return Err(Error::Circle(gateway.to_string()));
    }
    let control =
        control::Door::bind(&remains.files, identity).map_err(Call::to("bind(control)"))?;
    let prompt = prompt(config, &walls)?;
    let setup = Setup { config, session, identity, doors, sinks, control, prompt, walls: &walls };
    let mut proxy = ProxyProcess::start(setup)?;
    // Meanwhile the proxy prepares itself.
    let roots = Roots::read().map_err(Call::to("read(bundle)"))?;
    proxy.ready()?;
    let written = files.write_bundle(roots, proxy.certificate());
    let bundle = written.map_err(Call::to("write(bundle)"))?;
    let door = files.door();
    let ours = environment_of(&config.user, std::env::vars_os().collect());
    let mut environment = trust::environment(ours.into_iter(), &bundle);
    environment.push((nested::DOOR.into(), door.clone().into()));
    let plan = Plan {
        command: &config.command,
        environment: &environment,
        identity,
        bundle: &bundle,
        guarded: &guarded,
        alarm,
        door,
        open: &config.unix_sockets,
    };
    let held = Held::start(plan, &walls, &janitor)?;
    config.announce();
    walls.forget_refusals()?;
    proxy.go()?;
    let command = held.go()?;
    let usher = walls.usher_line();
    let family = Family { command, proxy: proxy.pid(), janitor: janitor.pid, usher };
    let ended = signals.watch(family);
    let ended = if janitor.take_loss_of_usher() { Ok(Ended::Lost("usher")) } else { ended };
    // The command's remaining processes end before the proxy does, so that what they did last is
    // on record.
    let usage = Usage { tasks: janitor.tasks(), ..walls.usage() };
    let killed = walls.kill().and_then(|()| janitor.kill_others()).map_err(Call::to("kill"));
    // Where it was cut off it is still to be collected, or its pid namespace could not end.
    process::end(command, END);
    proxy.conclude(usage);
    // What the command has read goes while the proxy writes.
    drop(files);
    let is_recorded = proxy.await_record();
    killed?;
    Ok(Outcome { status: status(ended?)?, is_recorded })
}

/// Who is asked where no rule permits a request, if anybody is.
fn prompt(config: &Config, walls: &Walls) -> Result<Option<Opened>, Error> {
    let Some(prompt) = &config.prompt else { return Ok(None) };
    let is_guarded = walls.jail() != jail::Choice::Landjail || !mutation::stands("prompt");
    Opened::open(prompt, is_guarded, &config.user).map_err(Error::Prompt)
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The exit status, as a shell would report the command's.
    pub status: u8,
    /// Whether everything that was decided has reached its sinks, or is counted there as lost.
    pub is_recorded: bool,
}

/// An error and what caused it, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_said = cause.to_string();
        if !said.ends_with(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        source = cause.source();
    }
    said
}

/// What the end of a session means for whoever called boundary.
fn status(ended: Ended) -> Result<u8, Error> {
    match ended {
        Ended::Exited(code) => Ok(code),
        Ended::Signalled(signal) => Ok(128_u8.saturating_add(signal)),
        Ended::Lost(process) => Err(Error::Lost(process)),
    }
}

/// Whom the command and the proxy run as.
fn identity(user: &Invoker) -> Result<Identity, Error> {
    Ok(Identity::of(user.uid, user.gid, user.name.as_deref())?)
}

/// The environment of whoever called, which sudo has changed to root's in parts. What is not known of
/// the user is left out rather than root's.
fn environment_of(
    user: &Invoker,
    mut given: Vec<(OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    if !user.sudo {
        return given;
    }
    let name = user.name.as_ref().map(OsString::from);
    let mail = given.iter().find(|(name, _)| name == "MAIL");
    let mail = mail.zip(user.name.as_ref()).and_then(|((_, mail), name)| mailbox(mail, name));
    let ours = [
        ("HOME", Some(user.home.clone().into_os_string())),
        ("USER", name.clone()),
        ("LOGNAME", name),
        ("SHELL", user.shell.clone().map(PathBuf::into_os_string)),
        ("MAIL", mail),
    ];
    given.retain(|(name, _)| {
        let is_sudos = name.to_str().is_some_and(|name| name.starts_with("SUDO_"));
        !is_sudos && ours.iter().all(|(own, _)| name != own)
    });
    given.extend(ours.into_iter().filter_map(|(name, value)| Some((name.into(), value?))));
    given
}

/// The user's mailbox, beside root's. Where root's is not one of a folder with everybody's, nobody
/// knows where the user's is.
fn mailbox(mail: &OsStr, name: &str) -> Option<OsString> {
    let path = Path::new(mail);
    let owner = path.file_name()?;
    (owner == "root" || owner == name).then(|| path.with_file_name(name).into_os_string())
}

/// Why a session could not be run, or did not end by its command's end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record has nowhere to go.
    #[error(transparent)]
    Sinks(#[from] crate::audit::Error),
    /// A kernel call failed.
    #[error(transparent)]
    Call(#[from] Call),
    /// The session's files have no place.
    #[error("cannot make {}: {source}", .path.display())]
    Folder {
        /// Where they were to be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The doors could not be opened.
    #[error(transparent)]
    Doors(#[from] crate::proxy::Closed),
    /// There is nobody to ask.
    #[error("--prompt: {0}")]
    Prompt(#[source] std::io::Error),
    /// The upstream proxy is boundary's own.
    #[error("the upstream proxy {0} is boundary's own door")]
    Circle(String),
    /// The walls could not be raised.
    #[error(transparent)]
    Walls(#[from] jail::Error),
    /// A jail lacks what it is made of: the rows of `boundary doctor` that say so.
    #[error("{told}")]
    Hindered {
        /// For each jail that was tried, what was refused.
        told: String,
        /// What to do about it.
        remedy: String,
    },
    /// The command could not be brought behind the walls.
    #[error("cannot enclose the command: {0}")]
    Enclosure(String),
    /// The proxy could not be prepared.
    #[error("cannot start the proxy: {0}")]
    Proxy(String),
    /// The command could not be started.
    #[error("{}: {source}", .name.display())]
    NotStarted {
        /// What the user called it.
        name: OsString,
        /// What execve(2) said.
        source: Errno,
    },
    /// The session around this one has no room for it.
    #[error("inside another session: {0}")]
    Nested(String),
    /// A process of the session ended before its time.
    #[error("the {0} process ended unexpectedly; the command was cut off")]
    Lost(&'static str),
}

impl Error {
    /// The exit status for it: 126 and 127 as shells use them, 125 for boundary's own failures.
    pub fn status(&self) -> u8 {
        match self {
            Self::NotStarted { source: Errno::ENOENT | Errno::ENOTDIR, .. } => 127,
            Self::NotStarted { .. } => 126,
            Self::Sinks(_)
            | Self::Call(_)
            | Self::Folder { .. }
            | Self::Doors(_)
            | Self::Circle(_)
            | Self::Prompt(_)
            | Self::Walls(_)
            | Self::Hindered { .. }
            | Self::Enclosure(_)
            | Self::Proxy(_)
            | Self::Nested(_)
            | Self::Lost(_) => 125,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Hindered { remedy, .. } => {
                let remedy = if remedy.is_empty() { String::new() } else { format!("{remedy}; ") };
                return format!("{remedy}boundary doctor tells all; no command was run");
            }
            Self::Call(_) => "the kernel refused a call that a jail needs",
            Self::Folder { .. } => {
                "what a session makes for its command is below /run where root may write there, else \
                 below /tmp; no command was run"
            }
            Self::Doors(_) => "name a free port with --proxy-port, or none to have one chosen",
            Self::Prompt(_) => "name a program that asks, --prompt=/path; no command was run",
            Self::Circle(_) => {
                "name another with --upstream-proxy, or --upstream-proxy '' for none"
            }
            Self::Walls(jail::Error::Crashes(_)) => {
                "set kernel.core_pattern to a program or a file, or take the ebpf jail (root, Linux 6.7); \
                 no command was run"
            }
            Self::Walls(jail::Error::Landjail(_)) => {
                "the landjail jail needs seccomp notifications, which only one filter of a process may \
                 ask for; no command was run"
            }
            Self::Walls(jail::Error::Nsjail(_)) => {
                "the nsjail jail needs user namespaces, or root; no command was run"
            }
            Self::Walls(_) => {
                "the ebpf jail needs root (sudo) and a writable cgroup2; no command was run"
            }
            Self::Enclosure(_) | Self::Proxy(_) => "no command was run",
            Self::Sinks(_) => "name a directory and a file that can be written",
            Self::Nested(_) => "no command was run; the outer session's policy would have held too",
            Self::NotStarted { .. } => "check the command's name and its permissions",
            Self::Lost(_) => "run it again; if it recurs, look at the log for the cause",
        };
        hint.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables of a session that sudo began, for a user whom the system may know.
    fn behind_sudo(is_known: bool, given: &[(&str, &str)]) -> Vec<(String, String)> {
        let user = Invoker {
            uid: 1000,
            gid: 1000,
            name: is_known.then(|| "ann".to_owned()),
            home: "/home/ann".into(),
            shell: is_known.then(|| "/bin/zsh".into()),
            sudo: true,
        };
        let given = given.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let text = |text: OsString| text.into_string().unwrap();
        environment_of(&user, given).into_iter().map(|(n, v)| (text(n), text(v))).collect()
    }

    /// What sudo leaves.
    const SUDOS: [(&str, &str); 8] = [
        ("PATH", "/bin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/bash"),
        ("MAIL", "/var/mail/root"),
        ("SUDO_UID", "1000"),
        ("SUDO_COMMAND", "boundary"),
    ];

    #[test]
    fn behind_sudo_nothing_is_left_of_root() {
        let expected = [
            ("PATH", "/bin"),
            ("HOME", "/home/ann"),
            ("USER", "ann"),
            ("LOGNAME", "ann"),
            ("SHELL", "/bin/zsh"),
            ("MAIL", "/var/mail/ann"),
        ];
        assert_eq!(
            behind_sudo(true, &SUDOS),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        let unknown = behind_sudo(false, &SUDOS);
        let names: Vec<&str> = unknown.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["PATH", "HOME"], "{unknown:?}");
    }

    #[test]
    fn a_mailbox_is_the_users_or_none() {
        for (given, kept) in [
            ("/var/mail/root", Some("/var/mail/ann")),
            ("/var/spool/mail/ann", Some("/var/spool/mail/ann")),
            ("/srv/Maildir", None),
            ("/", None),
        ] {
            let told = behind_sudo(true, &[("MAIL", given)]);
            let mail = told.iter().find(|(name, _)| name == "MAIL");
            assert_eq!(mail.map(|(_, value)| value.as_str()), kept, "{given}");
        }
        assert!(behind_sudo(true, &[]).iter().all(|(name, _)| name != "MAIL"));
    }
}
