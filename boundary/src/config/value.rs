//! One setting's value: who said it first, and what it says.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::file::{File, Given, Read};
use super::{Choice, DomainMatch, Environment, Error, Limits, Log, Prompt, Setting, System, Users};
use crate::cli::{Args, settings};
use crate::proxy::roots_in;

/// The port of the profiles, where none is named.
const PPROF_PORT: u16 = 6060;

/// Who said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag, without its dashes.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A key of the file.
    Key(&'static str, PathBuf),
    /// A preset.
    Preset(String),
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::Key(name, path) => write!(f, "{name} in {}", path.display()),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Default => f.write_str("the default file"),
        }
    }
}

impl Source {
    /// What a flag says, else what the first variable that is set says.
    pub(super) fn given(
        setting: Setting,
        flag: Option<&OsString>,
        environment: &Environment,
    ) -> Option<(Self, OsString)> {
        if let Some(value) = flag {
            return Some((Self::Flag(setting.flag), value.clone()));
        }
        Self::variable(setting, environment)
    }

    /// What the first variable that is set says.
    pub(super) fn variable(
        setting: Setting,
        environment: &Environment,
    ) -> Option<(Self, OsString)> {
        setting.variables.iter().find_map(|name| {
            environment.variable(name).map(|value| (Self::Variable(name), value.to_owned()))
        })
    }
}

/// Reads settings from the three places, in the order of their precedence.
pub(super) struct Reader<'a> {
    pub(super) args: &'a Args,
    pub(super) environment: &'a Environment,
    pub(super) file: &'a File,
}

impl Reader<'_> {
    /// The jail.
    pub(super) fn jail(&self) -> Result<Choice, Error> {
        let given = self.word(settings::JAIL_TYPE, self.args.jail_type.as_ref(), str::parse)?;
        Ok(given.or(read(self.file.values.jail_type)).unwrap_or_default())
    }

    /// The proxy's port, if one was named.
    pub(super) fn proxy_port(&self) -> Result<Option<u16>, Error> {
        let given = self.word(settings::PROXY_PORT, self.args.proxy_port.as_ref(), parse_port)?;
        Ok(given.or(self.file.values.proxy_port.map(NonZeroU16::get)))
    }

    /// The port of the metrics, if they are to be had.
    pub(super) fn metrics_port(&self) -> Result<Option<u16>, Error> {
        let flag = self.args.metrics_port.as_ref();
        let given = self.word(settings::METRICS_PORT, flag, parse_port)?;
        Ok(given.or(self.file.values.metrics_port.map(NonZeroU16::get)))
    }

    /// The port of the profiles, if they are to be had.
    pub(super) fn pprof_port(&self) -> Result<Option<u16>, Error> {
        let (args, values) = (self.args, &self.file.values);
        let given = self.word(settings::PPROF, args.pprof.as_ref(), parse_bool)?;
        // One that is wrong is told of, wanted or not.
        let port = self.word(settings::PPROF_PORT, args.pprof_port.as_ref(), parse_port)?;
        let port = port.or(values.pprof_port.map(NonZeroU16::get)).unwrap_or(PPROF_PORT);
        Ok(given.or(values.pprof_enabled).unwrap_or(false).then_some(port))
    }

    /// Who is asked where no rule permits, if anybody is.
    pub(super) fn prompt(&self) -> Result<Option<Prompt>, Error> {
        let given = self.word(settings::PROMPT, self.args.prompt.as_ref(), str::parse)?;
        let file = self.file.values.prompt.as_ref().map(|read| read.0.clone());
        Ok(given.or(file).filter(|prompt| *prompt != Prompt::Nobody))
    }

    /// Where the log goes, and how much of it.
    pub(super) fn log(&self) -> Result<Log, Error> {
        let values = &self.file.values;
        let level = self.word(settings::LOG_LEVEL, self.args.log_level.as_ref(), parse_level)?;
        let format = self.word(settings::LOG_FORMAT, self.args.log_format.as_ref(), str::parse)?;
        let level = level.or(read(values.log_level));
        Ok(Log {
            level: level.unwrap_or(tracing::Level::WARN),
            is_asked: level.is_some(),
            format: format.or(read(values.log_format)).unwrap_or_default(),
            dir: self.log_dir(),
        })
    }

    /// The folder of the log. As in the Go tool an empty one is none.
    fn log_dir(&self) -> Option<PathBuf> {
        let flag = self.args.log_dir.as_ref();
        let given = Source::given(settings::LOG_DIR, flag, self.environment);
        let given = given.map(|(_, path)| PathBuf::from(path));
        let dir = given.or_else(|| self.file.values.log_dir.clone())?;
        (!dir.as_os_str().is_empty()).then_some(dir)
    }

    /// In whose user namespace `nsjail` has the command.
    pub(super) fn users(&self) -> Result<Users, Error> {
        let flag = self.args.no_user_namespace.as_ref();
        let given = self.word(settings::NO_USER_NAMESPACE, flag, parse_bool)?;
        let has_none = given.or(self.file.values.no_user_namespace).unwrap_or(false);
        Ok(if has_none { Users::Machine } else { Users::Own })
    }

    /// Whether the host's resolver is asked.
    pub(super) fn real_dns(&self) -> Result<bool, Error> {
        let flag = self.args.use_real_dns.as_ref();
        let given = self.word(settings::USE_REAL_DNS, flag, parse_bool)?;
        Ok(given.or(self.file.values.use_real_dns).unwrap_or(false))
    }

    /// The certificates of files, each of which can be read and holds one.
    pub(super) fn upstream_ca(
        &self,
        system: &dyn System,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let setting = settings::UPSTREAM_CA;
        let mut named: Vec<(Source, PathBuf)> = Vec::new();
        for path in self.file.values.upstream_ca.iter().flatten() {
            named.push((self.key(setting), path.clone()));
        }
        if let Some((source, text)) = Source::variable(setting, self.environment) {
            let lines = utf8(&source, &text)?.lines().filter(|line| !line.is_empty());
            named.extend(lines.map(|line| (source.clone(), PathBuf::from(line))));
        }
        for path in &self.args.upstream_ca {
            named.push((Source::Flag(setting.flag), PathBuf::from(path)));
        }
        let mut all = Vec::new();
        for (source, path) in named {
            all.extend(certificates(&source, path, system)?);
        }
        Ok(all)
    }

    /// Sockets of the host that the command may use, each by its whole path.
    pub(super) fn unix_sockets(&self) -> Result<Vec<PathBuf>, Error> {
        let setting = settings::UNIX_SOCKET;
        let mut named: Vec<(Source, PathBuf)> = Vec::new();
        for path in self.file.values.unix_sockets.iter().flatten() {
            named.push((self.key(setting), path.clone()));
        }
        if let Some((source, text)) = Source::variable(setting, self.environment) {
            let lines = utf8(&source, &text)?.lines().filter(|line| !line.is_empty());
            named.extend(lines.map(|line| (source.clone(), PathBuf::from(line))));
        }
        for path in &self.args.unix_socket {
            named.push((Source::Flag(setting.flag), PathBuf::from(path)));
        }
        let whole = |(source_name, path): (Source, PathBuf)| {
            let what = format!("{}: not a path that begins with /", path.display());
            if path.is_absolute() { Ok(path) } else { Err(Error::Value { source_name, what }) }
        };
        named.into_iter().map(whole).collect()
    }

    /// The proxy's bounds: what the file says of them, over it the environment, then the flags.
    pub(super) fn limits(&self) -> Result<Limits, Error> {
        let mut limits = self.file.values.limits.clone().map(|Given(limits)| limits);
        let mut limits = limits.take().unwrap_or_default();
        let mut set = |source_name: &Source, pair: &str| {
            limits.set_pair(pair).map_err(|error| Error::Value {
                source_name: source_name.clone(),
                what: error.to_string(),
            })
        };
        if let Some((source, text)) = Source::variable(settings::LIMIT, self.environment) {
            for line in utf8(&source, &text)?.lines().filter(|line| !line.trim().is_empty()) {
                set(&source, line)?;
            }
        }
        let source = Source::Flag(settings::LIMIT.flag);
        for text in &self.args.limit {
            set(&source, utf8(&source, text)?)?;
        }
        Ok(limits)
    }

    /// A path from a flag, a variable or the file.
    pub(super) fn path(
        &self,
        setting: Setting,
        flag: Option<&OsString>,
        key: Option<&PathBuf>,
    ) -> Result<Option<PathBuf>, Error> {
        let given = Source::given(setting, flag, self.environment);
        let (source_name, path) = match (given, key) {
            (Some((source, path)), _) => (source, PathBuf::from(path)),
            (None, Some(path)) => (self.key(setting), path.clone()),
            (None, None) => return Ok(None),
        };
        if path.as_os_str().is_empty() {
            return Err(Error::Value { source_name, what: "an empty path".to_owned() });
        }
        Ok(Some(path))
    }

    /// A word from a flag or a variable, read by `parse`.
    pub(super) fn word<T, E: fmt::Display>(
        &self,
        setting: Setting,
        flag: Option<&OsString>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Error> {
        let Some((source_name, text)) = Source::given(setting, flag, self.environment) else {
            return Ok(None);
        };
        let text = utf8(&source_name, &text)?;
        match parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let what = format!("`{}`: {error}", text.escape_debug());
                Err(Error::Value { source_name, what })
            }
        }
    }

    /// The file as a source of a setting.
    pub(super) fn key(&self, setting: Setting) -> Source {
        Source::Key(setting.key.unwrap_or(setting.flag), self.file.path.clone())
    }
}

/// A word of the file.
pub(super) fn read<T>(word: Option<Read<T>>) -> Option<T> {
    word.map(|Read(word)| word)
}

/// Text that is text.
pub(super) fn utf8<'a>(source: &Source, text: &'a OsStr) -> Result<&'a str, Error> {
    text.to_str().ok_or_else(|| Error::Value {
        source_name: source.clone(),
        what: "not valid UTF-8".to_owned(),
    })
}

/// The certificates of a file. It is read now, as whoever starts the session: the proxy may be
/// somebody else when it needs them, and the command may have changed it by then.
fn certificates(
    source_name: &Source,
    path: PathBuf,
    system: &dyn System,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let source_name = source_name.clone();
    let content = match system.read(&path) {
        Ok(content) => content,
        Err(error) => return Err(Error::Unreadable { source_name, path, error }),
    };
    roots_in(&content)
        .map_err(|error| Error::Value { source_name, what: format!("{}: {error}", path.display()) })
}

/// A level, in any case.
pub(super) fn parse_level(text: &str) -> Result<tracing::Level, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        _ => Err("not a level: one of error, warn, info, debug"),
    }
}

/// How `domain=` is read.
pub(super) fn parse_domain_match(text: &str) -> Result<DomainMatch, &'static str> {
    match text {
        "subdomains" => Ok(DomainMatch::Subdomains),
        "exact" => Ok(DomainMatch::Exact),
        _ => Err("not a reading of domain=: one of subdomains, exact"),
    }
}

/// The words that the Go tool reads as a truth value.
pub(super) fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("not a truth value: one of true, false, 1, 0"),
    }
}

/// A port that can be named: 0 is not one.
fn parse_port(text: &str) -> Result<u16, &'static str> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a port is a number from 1 to 65535"),
        Ok(port) => Ok(port),
    }
}
