//! The policy file: found, read, and complained about by line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use super::value::{Source, parse_domain_match, parse_level};
use super::{Environment, Error, Invoker, Prompt, System};
use crate::audit::{Format, OnError, Size};
use crate::cli::{PolicyArgs, settings};
use crate::jail::Choice;
use crate::proxy::Limits;
use crate::rules::{DomainMatch, Rule};

/// A policy file, or none.
#[derive(Debug, Default)]
pub(super) struct File {
    /// What it says.
    pub(super) values: Values,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What was read.
    pub(super) text: String,
}

impl File {
    /// Reads the file that was named, else the default one if it exists.
    pub(super) fn find(
        args: &PolicyArgs,
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
            Err(error) if source_name == Source::Default && is_absent(&error) => {
                Ok(Self::default())
            }
            Err(error) => Err(Error::Unreadable { source_name, path, error }),
        }
    }

    /// Reads a file's content; an empty one says nothing.
    fn parse(path: PathBuf, content: &[u8]) -> Result<Self, Error> {
        let content = unmarked(content);
        match serde_yaml::from_slice::<Option<Values>>(content) {
            Ok(values) => {
                let text = String::from_utf8_lossy(content).into_owned();
                Ok(Self { values: values.unwrap_or_default(), path, text })
            }
            Err(error) => Err(located(path, content, &error)),
        }
    }

    /// The same mistake of a rule below a key, by line and column where it stands there in one piece.
    /// A rule that is read only if something else is switched on is not the parser's to complain about.
    pub(super) fn locating(&self, key: &str, text: &str, error: Error) -> Error {
        let Some((line, start)) = place_of(text, &self.text, key) else { return error };
        let (column, what) = if let Error::Rule { mistake, .. } = &error {
            (start + mistake.column - 1, format!("rule `{text}`: {}", mistake.what))
        } else if let Error::Value { what, .. } = error {
            (start, what)
        } else {
            return error;
        };
        Error::File { path: self.path.clone(), line, column, what: shown(&what) }
    }

    /// The same mistake of a value of this file, by the line of its key. The parser, which knows every
    /// place, cannot know what is wrong with it.
    pub(super) fn placing(&self, error: Error) -> Error {
        let (key, what) = match &error {
            Error::Value { source_name: Source::Key(key, path), what } if *path == self.path => {
                (*key, what.clone())
            }
            Error::Unreadable { source_name: Source::Key(key, of), path, error }
                if *of == self.path =>
            {
                (*key, format!("cannot read {}: {error}", path.display()))
            }
            Error::Value { .. }
            | Error::Unreadable { .. }
            | Error::Rule { .. }
            | Error::File { .. }
            | Error::NoCommand => return error,
        };
        let is_key = |line: &str| {
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        let Some(line) = self.text.lines().position(is_key) else { return error };
        let what = shown(&format!("{key}: {what}"));
        Error::File { path: self.path.clone(), line: line + 1, column: 1, what }
    }

    /// Every key that is set, but those of which rules are made. A key that is known one day is told
    /// without a word here: the text is what is read, which was found good before.
    pub(super) fn settings(&self) -> Result<BTreeMap<String, serde_json::Value>, Error> {
        let all: Option<BTreeMap<String, serde_json::Value>> = serde_yaml::from_str(&self.text)
            .map_err(|error| located(self.path.clone(), self.text.as_bytes(), &error))?;
        let mut all = all.unwrap_or_default();
        all.retain(|key, value| !value.is_null() && key != "allowlist" && key != "include");
        Ok(all)
    }
}

/// A file that another includes: rules, and what is said about them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Included {
    /// What the rules are for.
    pub(super) description: Option<String>,
    /// Where their hosts are documented, by the title of the page.
    pub(super) sources: Option<Vec<String>>,
    /// More of the kind.
    pub(super) include: Option<Vec<String>>,
    /// The rules.
    pub(super) allowlist: Option<Vec<Read<Rule>>>,
}

impl Included {
    /// Reads a file's content; an empty one says nothing.
    pub(super) fn parse(path: &Path, content: &[u8]) -> Result<Self, Error> {
        let content = unmarked(content);
        serde_yaml::from_slice::<Option<Self>>(content)
            .map(Option::unwrap_or_default)
            .map_err(|error| located(path.to_owned(), content, &error))
    }
}

/// Whether a path leads to no file. On the way there may be something that is no folder, as below a home
/// that is `/dev/null`.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The lines on which the rules of a list stand, as far as they stand there in one piece.
pub(super) fn lines_of(text: &str, rules: &[Read<Rule>]) -> Vec<Option<usize>> {
    let places = places_of(text, rules.iter().map(|rule| rule.0.as_str()));
    places.into_iter().map(|place| place.map(|(line, _)| line)).collect()
}

/// The lines and columns at which the rules of a list stand: below its key, each behind the one before.
fn places_of<'a>(text: &str, rules: impl Iterator<Item = &'a str>) -> Vec<Option<(usize, usize)>> {
    let lines: Vec<&str> = text.lines().collect();
    let key = lines.iter().position(|line| line.starts_with("allowlist")).unwrap_or_default();
    // Behind what was found last: its line, and how far into that.
    let mut last = (key, 0);
    let place = |rule: &'a str| {
        let found = lines.iter().enumerate().skip(last.0).find_map(|(index, line)| {
            let from = if index == last.0 { last.1 } else { 0 };
            let is_comment = line.trim_start().starts_with('#');
            let found = line.get(from..).filter(|_| !is_comment)?.find(rule)?;
            Some((index, from + found))
        });
        let (index, start) = found?;
        last = (index, start + rule.len());
        let column = lines.get(index)?.get(..start)?.chars().count();
        Some((index + 1, column + 1))
    };
    rules.map(place).collect()
}

/// Every rule of a file that does not parse, by line and column. The parser itself stops at the first.
pub(super) fn mistakes(path: &Path, content: &[u8]) -> Vec<Error> {
    let content = unmarked(content);
    let Ok(serde_yaml::Value::Mapping(values)) = serde_yaml::from_slice(content) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(content);
    let rules = values.get("allowlist").and_then(serde_yaml::Value::as_sequence);
    let rules = rules.into_iter().flatten().filter_map(serde_yaml::Value::as_str);
    let places = places_of(&text, rules.clone());
    let wrong = rules.zip(places);
    let wrong = wrong.filter_map(|(rule, place)| Some((rule, place, rule.parse::<Rule>().err()?)));
    let located = wrong.map(|(rule, place, mistake)| {
        let (line, start) = place.unwrap_or((1, 1));
        let what = format!("rule `{rule}`: {}", mistake.what);
        let (column, what) = (start + mistake.column - 1, shown(&what));
        Error::File { path: path.to_owned(), line, column, what }
    });
    located.collect()
}

/// Where something stands in one piece, on the line of a key or behind it.
fn place_of(what: &str, text: &str, key: &str) -> Option<(usize, usize)> {
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| !line.starts_with(key));
    lines.find_map(|(index, line)| Some((index + 1, line.find(what)? + 1)))
}

/// A message, with what could move a cursor escaped: the quotes of a message are its own.
fn shown(what: &str) -> String {
    what.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// The content without the byte-order mark that some editors put in front of UTF-8. The parser takes
/// it for a document of its own.
fn unmarked(content: &[u8]) -> &[u8] {
    content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content)
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
fn located(path: PathBuf, content: &[u8], error: &serde_yaml::Error) -> Error {
    let place = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let text = error.to_string();
    let behind = format!(" at line {} column {}", place.0, place.1);
    let text = text.strip_suffix(&behind).unwrap_or(&text);
    let (line, column) = second_place(text, content).unwrap_or(place);
    Error::File { path, line, column, what: shown(text) }
}

/// Where a key stands for the second time: the parser knows only that it does.
fn second_place(text: &str, content: &[u8]) -> Option<(usize, usize)> {
    let key = text.strip_prefix("duplicate field `")?.strip_suffix('`')?;
    let content = str::from_utf8(content).ok()?;
    let is_key =
        |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let mut lines = content.lines().enumerate().filter(|(_, line)| is_key(line));
    lines.nth(1).map(|(index, _)| (index + 1, 1))
}

/// What may stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Values {
    pub(super) include: Option<Vec<String>>,
    pub(super) allowlist: Option<Vec<Read<Rule>>>,
    pub(super) jail_type: Option<Read<Choice>>,
    pub(super) proxy_port: Option<NonZeroU16>,
    pub(super) use_real_dns: Option<bool>,
    pub(super) no_user_namespace: Option<bool>,
    pub(super) log_level: Option<Read<tracing::Level>>,
    pub(super) log_dir: Option<PathBuf>,
    pub(super) log_format: Option<Read<Format>>,
    pub(super) audit_log: Option<PathBuf>,
    pub(super) audit_query: Option<bool>,
    pub(super) audit_max_size: Option<Read<Size>>,
    pub(super) audit_files: Option<NonZeroU32>,
    pub(super) audit_on_error: Option<Read<OnError>>,
    pub(super) disable_audit_logs: Option<bool>,
    pub(super) log_proxy_socket_path: Option<PathBuf>,
    pub(super) session_correlation_enabled: Option<bool>,
    pub(super) session_id_inject_targets: Option<Vec<String>>,
    pub(super) upstream_proxy: Option<String>,
    pub(super) upstream_ca: Option<Vec<PathBuf>>,
    pub(super) limits: Option<Given>,
    pub(super) domain_match: Option<Read<DomainMatch>>,
    pub(super) unix_sockets: Option<Vec<PathBuf>>,
    pub(super) prompt: Option<Read<Prompt>>,
    pub(super) otlp_endpoint: Option<String>,
    pub(super) metrics_port: Option<NonZeroU16>,
    pub(super) pprof_enabled: Option<bool>,
    pub(super) pprof_port: Option<NonZeroU16>,
}

/// A value that the file writes as one word or one line.
trait Word: Sized {
    /// Reads it, or says what is wrong with it.
    fn read(text: &str) -> Result<Self, String>;
}

impl Word for Rule {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|mistake| format!("rule `{text}`: {mistake}"))
    }
}

/// Reads what is told in its own words.
macro_rules! word {
    ($($kind:ty),+) => {$(
        impl Word for $kind {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("`{text}`: {error}"))
            }
        }
    )+};
}
word!(Choice, Format, Prompt, Size, OnError);

impl Word for tracing::Level {
    fn read(text: &str) -> Result<Self, String> {
        parse_level(text).map_err(|error| format!("`{text}`: {error}"))
    }
}

impl Word for DomainMatch {
    fn read(text: &str) -> Result<Self, String> {
        parse_domain_match(text).map_err(|error| format!("`{text}`: {error}"))
    }
}

/// A word that was read inside the parser, which alone knows the place of a mistake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<T>(pub(super) T);

impl<'de, T: Word> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reading(PhantomData))
    }
}

/// The parser's side of [`Read`].
struct Reading<T>(PhantomData<T>);

impl<T: Word> de::Visitor<'_> for Reading<T> {
    type Value = Read<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Read<T>, E> {
        T::read(text).map(Read).map_err(E::custom)
    }
}

/// The file's limits, read inside the parser like a [`Read`].
#[derive(Debug, Clone)]
pub(super) struct Given(pub(super) Limits);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Bounds)
    }
}

/// The parser's side of [`Given`].
struct Bounds;

impl<'de> de::Visitor<'de> for Bounds {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("limits by their names")
    }

    fn visit_map<M: de::MapAccess<'de>>(self, mut map: M) -> Result<Given, M::Error> {
        let mut limits = Limits::default();
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Setting { limits: &mut limits, name: &name })?;
            if seen.contains(&name) {
                return Err(de::Error::custom(format!("duplicate limit `{name}`")));
            }
            seen.push(name);
        }
        Ok(Given(limits))
    }
}

/// One limit's value: a number, or text with a unit.
struct Setting<'a> {
    limits: &'a mut Limits,
    name: &'a str,
}

impl<'de> de::DeserializeSeed<'de> for Setting<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl de::Visitor<'_> for Setting<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a size or a time")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.limits.set(self.name, text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }
}
