//! The policy file: found, read, and complained about by line and column.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use super::value::{Source, parse_level};
use super::{Environment, Error, Invoker, System};
use crate::audit::Format;
use crate::cli::{Args, settings};
use crate::jail::Choice;
use crate::rules::{DomainMatch, Rule};

/// A policy file, or none.
#[derive(Debug, Default)]
pub(super) struct File {
    /// What it says.
    pub(super) values: Values,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl File {
    /// Reads the file that was named, else the default one if it exists.
    pub(super) fn find(
        args: &Args,
        environment: &Environment,
        user: &Invoker,
        system: &dyn System,
    ) -> Result<Self, Error> {
        let named = Source::given(settings::CONFIG, args.config.as_ref(), environment);
        let (source_name, path) = match named {
            Some((source, path)) => (source, PathBuf::from(path)),
            None => (Source::Default, default_path(environment, user)),
        };
        match system.read(&path) {
            Ok(content) => Self::parse(path, &content),
            Err(error)
                if source_name == Source::Default && error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(Error::Unreadable { source_name, path, error }),
        }
    }

    /// Reads a file's content; an empty one says nothing.
    fn parse(path: PathBuf, content: &[u8]) -> Result<Self, Error> {
        match serde_yaml::from_slice::<Option<Values>>(content) {
            Ok(values) => Ok(Self { values: values.unwrap_or_default(), path }),
            Err(error) => Err(located(path, &error)),
        }
    }
}

/// `$XDG_CONFIG_HOME` or `~/.config`, of the user who called.
fn default_path(environment: &Environment, user: &Invoker) -> PathBuf {
    environment
        .variable("XDG_CONFIG_HOME")
        .map(Path::new)
        // The base directory specification says to ignore a relative one.
        .filter(|path| path.is_absolute())
        .map_or_else(|| user.home.join(".config"), Path::to_path_buf)
        .join("coder_boundary/config.yaml")
}

/// Puts the place in front, where editors look for it, and not behind.
fn located(path: PathBuf, error: &serde_yaml::Error) -> Error {
    let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let text = error.to_string();
    let behind = format!(" at line {line} column {column}");
    let what = text.strip_suffix(&behind).unwrap_or(&text).escape_debug().to_string();
    // The quotes of a message are its own; only what could move a cursor stays escaped.
    let what = what.replace("\\\"", "\"").replace("\\'", "'");
    Error::File { path, line, column, what }
}

/// What may stand in the file. Every key is known, those of features yet to come as well.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Values {
    pub(super) allowlist: Option<Vec<Written>>,
    #[serde(deserialize_with = "word")]
    pub(super) jail_type: Option<Choice>,
    #[serde(deserialize_with = "port")]
    pub(super) proxy_port: Option<u16>,
    pub(super) use_real_dns: Option<bool>,
    pub(super) no_user_namespace: Option<bool>,
    #[serde(deserialize_with = "level")]
    pub(super) log_level: Option<tracing::Level>,
    pub(super) log_dir: Option<PathBuf>,
    #[serde(deserialize_with = "word")]
    pub(super) log_format: Option<Format>,
    pub(super) audit_log: Option<PathBuf>,
    pub(super) audit_query: Option<bool>,
    pub(super) disable_audit_logs: Option<bool>,
    pub(super) log_proxy_socket_path: Option<PathBuf>,
    pub(super) session_correlation_enabled: Option<bool>,
    pub(super) session_id_inject_targets: Option<Vec<String>>,
    pub(super) upstream_proxy: Option<String>,
    pub(super) upstream_ca: Option<Vec<PathBuf>>,
    #[serde(deserialize_with = "domain_match")]
    pub(super) domain_match: Option<DomainMatch>,
    pub(super) unix_sockets: Option<Vec<PathBuf>>,
    pub(super) pprof_enabled: Option<bool>,
    #[serde(deserialize_with = "port")]
    pub(super) pprof_port: Option<u16>,
}

/// A rule of the file, with its text.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// As it was written.
    pub(super) text: String,
    /// What it means.
    pub(super) rule: Rule,
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(rule) => Ok(Self { text, rule }),
            Err(mistake) => Err(de::Error::custom(format_args!("rule `{text}`: {mistake}"))),
        }
    }
}

/// A word that its type can read.
fn word<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| {
        text.parse().map_err(|error| de::Error::custom(format_args!("`{text}`: {error}")))
    })
    .transpose()
}

/// A level, in any case.
fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<tracing::Level>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_level(&text).map_err(de::Error::custom)).transpose()
}

/// How `domain=` is read.
fn domain_match<'de, D>(deserializer: D) -> Result<Option<DomainMatch>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| super::value::parse_domain_match(&text).map_err(de::Error::custom)).transpose()
}

/// A port that can be named: 0 is not one.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let port = Option::<u16>::deserialize(deserializer)?;
    match port {
        Some(0) => Err(de::Error::custom("a port is a number from 1 to 65535")),
        port => Ok(port),
    }
}
