//! What was meant: flags, environment and file become a Config that cannot be invalid.
//!
//! *Standing*: `main` hands in what [`cli`] read and a picture of the environment; the
//! session runs from the [`Config`]. *Never*: touches the system beyond reading its files, looking up
//! an account and asking package managers, all through [`System`].

mod ask;
mod export;
mod file;
mod gateways;
mod manager;
mod policy;
pub mod preset;
mod prompt;
mod record;
mod system;
mod value;

#[cfg(test)]
mod tests;

pub use policy::{Policy, Written};
pub use prompt::{Prompt, Unknown};
pub use system::{Account, Environment, Host, Question, System, Unasked};
pub use value::Source;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::audit::{Collector, Forward, Labels, Log, OnError, Rotation};
use crate::cli::{self, Args, PolicyArgs, Setting, settings};
use crate::jail::{Choice, Users};
use crate::proxy::{Egress, Gateways, Limits};
use crate::rules::{DomainMatch, Mistake, RuleSet};
use file::File;
use value::Reader;

/// Everything a run needs to know, checked.
#[derive(Debug)]
pub struct Config {
    /// The command and its arguments; never empty.
    pub command: Vec<OsString>,
    /// The jail that was asked for.
    pub jail: Choice,
    /// The policy.
    pub rules: Arc<RuleSet>,
    /// The policy as it was written.
    pub policy: Policy,
    /// How the policy was asked for, so that it can be read again.
    pub wanted: PolicyArgs,
    /// Where to write what the run asks for, if that is to be learned.
    pub learn: Option<PathBuf>,
    /// Who is asked where no rule permits, if anybody is.
    pub prompt: Option<Prompt>,
    /// The proxy's port, if one was named.
    pub proxy_port: Option<u16>,
    /// Where the log goes, and how much of it.
    pub log: Log,
    /// The JSON Lines file, if there is to be one.
    pub audit_log: Option<PathBuf>,
    /// Whether that file was named on the command line.
    pub names_audit_log: bool,
    /// Whether a URL's query is recorded.
    pub audit_query: bool,
    /// When that file is set aside for a new one.
    pub audit_rotation: Option<Rotation>,
    /// What happens to requests when that file cannot be written.
    pub audit_on_error: OnError,
    /// The workspace agent that gets the record too, unless that was switched off.
    pub forward: Option<Forward>,
    /// What the workspace says of itself, for every record.
    pub labels: Labels,
    /// By which proxies what is allowed leaves, and whom it believes.
    pub egress: Egress,
    /// Unix sockets of the host that the command may use.
    pub unix_sockets: Vec<PathBuf>,
    /// The collector that gets the record too, if there is one.
    pub collector: Option<Collector>,
    /// The port on loopback that shows metrics, if they are to be had.
    pub metrics_port: Option<u16>,
    /// The port on loopback that makes profiles of the proxy, if they are to be had.
    pub pprof_port: Option<u16>,
    /// The proxy's bounds.
    pub limits: Limits,
    /// As whom the command runs.
    pub user: Invoker,
    /// Whether names that a rule covers are resolved by the host's resolver.
    pub real_dns: bool,
    /// In whose user namespace `nsjail` has the command.
    pub users: Users,
    /// What the user should know before the run.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Gives a command line its meaning. Anything that is wrong or not to be had is an error.
    pub fn resolve(
        args: Args,
        environment: &Environment,
        system: &dyn System,
    ) -> Result<Self, Error> {
        let user = Invoker::resolve(environment, system)?;
        let file = File::find(&args.policy, environment, &user, system)?;
        Self::of(args, environment, &file, (system, user)).map_err(|error| file.placing(error))
    }

    /// The meaning of a command line with a file that was read.
    fn of(
        args: Args,
        environment: &Environment,
        file: &File,
        (system, user): (&dyn System, Invoker),
    ) -> Result<Self, Error> {
        let reader = Reader { args: &args, environment, file };
        let forward = reader.forward()?;
        let mut warnings = warnings(forward.as_ref(), system);
        let log = reader.log()?;
        let audit_log = reader
            .path(settings::AUDIT_LOG, args.audit_log.as_ref(), file.values.audit_log.as_ref())?
            .or_else(|| Some(log.dir.as_ref()?.join("audit.jsonl")));
        let audit_on_error = reader.audit_on_error(audit_log.is_some())?;
        warnings.extend(reader.idle(audit_log.is_some()));
        let mut policy = Policy::of(&args.policy, environment, file, (system, &user))?;
        let learn = reader.path(settings::LEARN, args.learn.as_ref(), None)?;
        if learn.is_some() {
            policy.permit_everything();
        }
        let (metrics_port, pprof_port) = (reader.metrics_port()?, reader.pprof_port()?);
        let reading = policy.reading;
        let mut config = Self {
            jail: reader.jail()?,
            rules: Arc::new(policy.rule_set()),
            policy,
            wanted: args.policy.clone(),
            learn,
            prompt: reader.prompt()?,
            proxy_port: reader.proxy_port()?,
            log,
            audit_log,
            names_audit_log: args.audit_log.is_some(),
            audit_query: file.values.audit_query.unwrap_or(true),
            audit_rotation: reader.rotation(),
            audit_on_error,
            forward,
            labels: reader.labels(),
            egress: Egress {
                roots: reader.upstream_ca(system)?,
                gateways: reader.gateways()?,
                own: metrics_port.into_iter().chain(pprof_port).collect(),
                correlated: reader.correlated(reading)?,
                directory: None,
            },
            collector: reader.collector()?,
            metrics_port,
            pprof_port,
            unix_sockets: reader.unix_sockets()?,
            limits: reader.limits()?,
            real_dns: reader.real_dns()?,
            users: reader.users()?,
            user,
            warnings,
            command: Vec::new(),
        };
        if config.real_dns {
            config.warnings.push(Warning::RealDns);
        }
        if config.policy.rules.is_empty() {
            config.warnings.push(Warning::DeniesAll);
        }
        // Last, so that a mistake in the policy is told even without a command.
        config.command = args.command;
        if config.command.is_empty() { Err(Error::NoCommand) } else { Ok(config) }
    }

    /// Tells the log what the user of a session within another should know: the rest is for the
    /// outermost one to do, and to tell.
    pub fn announce_rules(&self) {
        self.warnings.iter().filter(|it| **it == Warning::DeniesAll).for_each(Warning::tell);
    }

    /// The options that were given and are of no effect in a session within another.
    pub fn outermost_alone(&self) -> Vec<&'static str> {
        let Egress { roots, correlated, .. } = &self.egress;
        let given = [
            ("--proxy-port", self.proxy_port.is_some()),
            ("--limit", self.limits != Limits::default()),
            ("--use-real-dns", self.real_dns),
            ("--upstream-ca", !roots.is_empty()),
            ("--enable-session-correlation", !correlated.is_empty()),
            ("--metrics-port", self.metrics_port.is_some()),
            ("--pprof", self.pprof_port.is_some()),
            ("--otlp-endpoint", self.collector.is_some()),
        ];
        given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }

    /// Tells the log what the user should know, each thing once.
    pub fn announce(&self) {
        if let Some(path) = &self.learn {
            // Not to the log, which may be a file: whoever runs this has to see it.
            let path = path.display();
            drop(writeln!(io::stderr(), "boundary: LEARNING: {ALLOWED} {path}"));
        }
        for warning in &self.warnings {
            warning.tell();
        }
        let Gateways { http, tunnel, exempt: _ } = &self.egress.gateways;
        if let Some(gateway) = http {
            tracing::info!(%gateway, "allowed requests in plain HTTP leave by a proxy");
        }
        if let Some(gateway) = tunnel {
            tracing::info!(%gateway, "other allowed connections leave by a proxy");
        }
    }
}

/// What is said while a session learns.
const ALLOWED: &str = "nothing but what is refused by nature is denied; what the command asks for \
                       is written to";

/// What is accepted, and had better be said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// There is not one rule.
    DeniesAll,
    /// Forwarding to the workspace agent was switched off.
    ForwardingDisabled,
    /// There is no workspace agent yet to forward to.
    NoAgent {
        /// Where its socket would be.
        socket: PathBuf,
        /// Whether somebody named that place.
        named: bool,
    },
    /// No workspace agent can ever be there.
    NoSocket {
        /// A path that is longer than a socket's may be.
        socket: PathBuf,
    },
    /// A key that says nothing by itself.
    Idle {
        /// The key.
        key: &'static str,
        /// What it takes.
        needs: &'static str,
    },
    /// Questions leave the machine.
    RealDns,
}

impl Warning {
    /// Writes it to the log, in the Go tool's words where it has them.
    fn tell(&self) {
        match self {
            Self::DeniesAll => tracing::warn!("no allow rules: everything is denied"),
            Self::ForwardingDisabled => {
                tracing::warn!("Audit logs are disabled by configuration");
            }
            Self::NoAgent { socket, named: true } => tracing::warn!(
                socket = %socket.display(),
                "workspace agent has not created log proxy socket; audit logs wait for it"
            ),
            // Nobody asked for it: outside a workspace this is the usual case.
            Self::NoAgent { socket, named: false } => tracing::info!(
                socket = %socket.display(),
                "workspace agent has not created log proxy socket"
            ),
            Self::NoSocket { socket } => tracing::warn!(
                socket = %socket.display(),
                "the path is longer than a socket's may be: no workspace agent gets the audit logs"
            ),
            Self::Idle { key, needs } => {
                tracing::warn!("{key} in the policy file has no effect without {needs}");
            }
            Self::RealDns => tracing::warn!(
                "use_real_dns: questions of any type for names that a rule covers leave for the \
                 host's resolver; below a permitted domain, a name can carry data out"
            ),
        }
    }
}

/// Collects what must be said about forwarding.
fn warnings(forward: Option<&Forward>, system: &dyn System) -> Vec<Warning> {
    match forward {
        None => vec![Warning::ForwardingDisabled],
        Some(Forward { socket, .. }) if SocketAddr::from_pathname(socket).is_err() => {
            vec![Warning::NoSocket { socket: socket.clone() }]
        }
        Some(Forward { socket, .. }) if system.exists(socket) => Vec::new(),
        Some(Forward { socket, is_named }) => {
            vec![Warning::NoAgent { socket: socket.clone(), named: *is_named }]
        }
    }
}

/// As whom the command runs: whoever called, through sudo or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoker {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Login name, if the system knows one.
    pub name: Option<String>,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell, if the system knows one.
    pub shell: Option<PathBuf>,
    /// Whether this is not boundary's own user, but the one behind sudo.
    pub sudo: bool,
}

impl Invoker {
    /// Finds the user behind sudo if root was lent, else the user that boundary runs as.
    pub fn resolve(environment: &Environment, system: &dyn System) -> Result<Self, Error> {
        let lender = if environment.uid == 0 { number(environment, "SUDO_UID")? } else { None };
        match lender {
            // Root behind sudo is root.
            None | Some(0) => Ok(Self::own(environment, system)),
            Some(uid) => {
                let account = system.account(uid);
                let gid = number(environment, "SUDO_GID")?
                    .or(account.as_ref().map(|account| account.gid))
                    .unwrap_or(uid);
                let name = account.as_ref().map(|account| account.name.clone());
                let shell = account.as_ref().map(|account| account.shell.clone());
                let home = account.map_or_else(|| PathBuf::from("/"), |account| account.home);
                Ok(Self { uid, gid, name, home, shell, sudo: true })
            }
        }
    }

    /// The user that boundary runs as.
    fn own(environment: &Environment, system: &dyn System) -> Self {
        let account = system.account(environment.uid);
        let name = account.as_ref().map(|account| account.name.clone());
        let shell = account.as_ref().map(|account| account.shell.clone());
        let home = environment
            .variable("HOME")
            .map(PathBuf::from)
            .or_else(|| account.map(|account| account.home))
            .unwrap_or_else(|| PathBuf::from("/"));
        Self { uid: environment.uid, gid: environment.gid, name, home, shell, sudo: false }
    }
}

/// An id that sudo left in the environment. The highest number is no id: the calls that change ids
/// take it for "as it is", which here is root's.
fn number(environment: &Environment, name: &'static str) -> Result<Option<u32>, Error> {
    let Some(text) = environment.variable(name) else { return Ok(None) };
    let parsed = text.to_str().and_then(|text| text.parse().ok()).filter(|id| *id != u32::MAX);
    parsed.map(Some).ok_or_else(|| Error::Value {
        source_name: Source::Variable(name),
        what: "not a user or group id".to_owned(),
    })
}

/// Why a command line, an environment and a file do not make a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that its setting does not take.
    #[error("{source_name}: {what}")]
    Value {
        /// Who said it.
        source_name: Source,
        /// What is wrong with it.
        what: String,
    },
    /// A rule from a flag or a variable that does not parse.
    #[error("{source_name}: rule `{}`: {mistake}", .text.escape_debug())]
    Rule {
        /// Who said it.
        source_name: Source,
        /// The rule.
        text: String,
        /// Where it stops making sense.
        #[source]
        mistake: Mistake,
    },
    /// A file that was named, or is there, and cannot be read.
    #[error("{source_name}: cannot read {}: {error}", .path.display())]
    Unreadable {
        /// Who named it.
        source_name: Source,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A mistake in the file.
    #[error("{}:{line}:{column}: {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// There is nothing to run.
    #[error("no command was given")]
    NoCommand,
}

impl Error {
    /// The line of the file, if it is about one.
    fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => Some(*line),
            Self::Value { .. } | Self::Rule { .. } | Self::Unreadable { .. } | Self::NoCommand => {
                None
            }
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Value { source_name, .. } | Self::Unreadable { source_name, .. } => {
                format!("correct {source_name} or leave it out; see boundary --help")
            }
            Self::Rule { .. } => {
                "a rule is key=value pairs, e.g. \"method=GET domain=github.com path=/api/*\""
                    .into()
            }
            Self::File { .. } => "nothing runs until the file is right".into(),
            Self::NoCommand => format!("the command follows `--`: {}", cli::USAGE),
        }
    }
}
