//! The policy alone: every rule, who wrote it and where, and how `domain=` is read.
//!
//! *Standing*: part of every [`Config`](super::Config); the tools read one without the rest, and a
//! session reads it again when it is told to. *Never*: holds a rule that does not parse.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{self, File, Included, Read, lines_of};
use super::preset::{self, Preset};
use super::value::{Source, parse_domain_match, read, utf8};
use super::{Environment, Error, Invoker, System};
use crate::cli::{PolicyArgs, settings};
use crate::rules::{DomainMatch, EVERYTHING, Rule, RuleSet};

/// A rule and who wrote it.
#[derive(Debug, Clone)]
pub struct Written {
    /// The rule.
    pub rule: Rule,
    /// Who wrote it.
    pub source: Source,
    /// The line of the file, where there is one.
    pub line: Option<usize>,
}

impl Written {
    /// Where it stands, for people: `path:line`, or who said it.
    pub fn place(&self) -> String {
        match (&self.source, self.line) {
            (Source::Key(_, path), Some(line)) => format!("{}:{line}", path.display()),
            (source, _) => source.to_string(),
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.rule, self.place())
    }
}

/// A policy, checked.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The rules in the order they are tried.
    pub rules: Vec<Written>,
    /// How `domain=` is read.
    pub reading: DomainMatch,
    /// Its main file, if there is one.
    pub file: Option<PathBuf>,
    /// Every file that it was read from.
    pub files: Vec<PathBuf>,
}

impl Policy {
    /// Reads the policy that options and the environment mean.
    pub fn resolve(
        args: &PolicyArgs,
        environment: &Environment,
        system: &dyn System,
    ) -> Result<Self, Error> {
        let user = Invoker::resolve(environment, system)?;
        let file = File::find(args, environment, &user, system)?;
        Self::of(args, environment, &file, (system, &user))
    }

    /// The same, and what its main file says besides: each key that is set there, with its value.
    pub fn with_settings(
        args: &PolicyArgs,
        environment: &Environment,
        system: &dyn System,
    ) -> Result<(Self, BTreeMap<String, serde_json::Value>), Error> {
        let user = Invoker::resolve(environment, system)?;
        // Read once: a pipe says what it says a single time.
        let file = File::find(args, environment, &user, system)?;
        let settings = file.settings()?;
        Ok((Self::of(args, environment, &file, (system, &user))?, settings))
    }

    /// Reads the policy again while a command runs, whose user is known already. No package manager
    /// is asked again: the command may have changed it, and would be asked for its own policy.
    pub fn again(
        &self,
        args: &PolicyArgs,
        environment: &Environment,
        (system, user): (&dyn System, &Invoker),
        learns: bool,
    ) -> Result<Self, Error> {
        let file = File::find(args, environment, user, system)?;
        let gathered = Gathered { settled: Some(self), ..Gathered::new(system, user) };
        let read = gathered.all(args, environment, &file);
        let mut policy = read.map_err(|error| file.placing(error))?;
        if learns {
            policy.permit_everything();
        }
        Ok(policy)
    }

    /// The policy of a file that was read.
    pub(super) fn of(
        args: &PolicyArgs,
        environment: &Environment,
        file: &File,
        (system, user): (&dyn System, &Invoker),
    ) -> Result<Self, Error> {
        let read = Gathered::new(system, user).all(args, environment, file);
        read.map_err(|error| file.placing(error))
    }

    /// Adds the rule of a session that learns.
    pub(super) fn permit_everything(&mut self) {
        let source = Source::Flag(settings::LEARN.flag);
        if let Ok(rule) = EVERYTHING.parse() {
            self.rules.push(Written { rule, source, line: None });
        }
    }

    /// Everything that keeps the policy from being read: one mistake, or every rule of the main
    /// file that does not parse.
    pub fn mistakes(error: Error, system: &dyn System) -> Vec<Error> {
        let Error::File { path, .. } = &error else { return vec![error] };
        let content = system.read(path).unwrap_or_default();
        let mut all = file::mistakes(path, &content);
        // The first mistake may be of another kind than a rule's, which are found on their own.
        let is_among = |other: &Error| error.line() == other.line();
        if !all.iter().any(is_among) {
            all.insert(0, error);
        }
        all
    }

    /// The rules that somebody wrote, if any did.
    fn rules_of(&self, source: &Source) -> Option<Vec<Rule>> {
        let rules = self.rules.iter().filter(|written| written.source == *source);
        let rules: Vec<Rule> = rules.map(|written| written.rule.clone()).collect();
        (!rules.is_empty()).then_some(rules)
    }

    /// The policy, ready to decide.
    pub fn rule_set(&self) -> RuleSet {
        RuleSet::new(self.rules.iter().map(|written| written.rule.clone()).collect(), self.reading)
    }

    /// The rules as they were written.
    pub fn texts(&self) -> Vec<String> {
        self.rules.iter().map(|written| written.rule.to_string()).collect()
    }

    /// The rule of a text that a decision named.
    pub fn written(&self, text: &str) -> Option<&Written> {
        self.rules.iter().find(|written| written.rule.as_str() == text)
    }
}

/// Rules while they are gathered.
struct Gathered<'a> {
    system: &'a dyn System,
    user: &'a Invoker,
    /// The policy with which the command was started, once it is.
    settled: Option<&'a Policy>,
    /// What was included: once is enough, and a circle ends.
    seen: Vec<PathBuf>,
    /// Those of it that are files.
    files: Vec<PathBuf>,
    rules: Vec<Written>,
}

impl<'a> Gathered<'a> {
    /// Nothing yet.
    fn new(system: &'a dyn System, user: &'a Invoker) -> Self {
        let (seen, files, rules) = (Vec::new(), Vec::new(), Vec::new());
        Self { system, user, settled: None, seen, files, rules }
    }

    /// The policy of a file, the environment and flags.
    fn all(
        mut self,
        args: &PolicyArgs,
        environment: &Environment,
        file: &File,
    ) -> Result<Policy, Error> {
        let values = &file.values;
        let key = |setting: crate::cli::Setting| {
            Source::Key(setting.key.unwrap_or(setting.flag), file.path.clone())
        };
        let own = values.allowlist.as_deref().unwrap_or_default();
        self.take(own, &file.text, &key(settings::ALLOW));
        for name in values.include.iter().flatten() {
            self.include(name, file.path.parent(), &key(settings::PRESET))?;
        }
        self.of_environment(environment)?;
        self.of_flags(args)?;
        let given = Source::given(settings::DOMAIN_MATCH, args.domain_match.as_ref(), environment);
        let reading = match given {
            Some((source, text)) => Some(reading_of(&source, &text)?),
            None => read(values.domain_match),
        };
        let path = (!file.path.as_os_str().is_empty()).then(|| file.path.clone());
        let files = path.iter().cloned().chain(self.files).collect();
        Ok(Policy { rules: self.rules, reading: reading.unwrap_or_default(), file: path, files })
    }

    /// The rules of a list of a file.
    fn take(&mut self, rules: &[Read<Rule>], text: &str, source: &Source) {
        let written = rules.iter().zip(lines_of(text, rules)).map(|(rule, line)| Written {
            rule: rule.0.clone(),
            source: source.clone(),
            line,
        });
        self.rules.extend(written);
    }

    /// What the environment adds.
    fn of_environment(&mut self, environment: &Environment) -> Result<(), Error> {
        if let Some((source, text)) = Source::variable(settings::PRESET, environment) {
            for name in utf8(&source, &text)?.lines().map(str::trim).filter(|line| !line.is_empty())
            {
                self.include(name, None, &source)?;
            }
        }
        if let Some((source, text)) = Source::variable(settings::ALLOW, environment) {
            for line in utf8(&source, &text)?.lines().filter(|line| !line.trim().is_empty()) {
                self.say(line, &source)?;
            }
        }
        Ok(())
    }

    /// What the flags add.
    fn of_flags(&mut self, args: &PolicyArgs) -> Result<(), Error> {
        let source = Source::Flag(settings::PRESET.flag);
        for name in &args.preset {
            self.include(utf8(&source, name)?, None, &source)?;
        }
        let source = Source::Flag(settings::ALLOW.flag);
        for text in &args.allow {
            self.say(utf8(&source, text)?, &source)?;
        }
        Ok(())
    }

    /// One rule, as text.
    fn say(&mut self, text: &str, source: &Source) -> Result<(), Error> {
        let rule = text.parse().map_err(|mistake| Error::Rule {
            source_name: source.clone(),
            text: text.to_owned(),
            mistake,
        })?;
        self.rules.push(Written { rule, source: source.clone(), line: None });
        Ok(())
    }

    /// A preset by its name, or a file by its path, which is relative to the file that names it.
    fn include(&mut self, name: &str, from: Option<&Path>, said: &Source) -> Result<(), Error> {
        let kind = Path::new(name).extension();
        let is_file =
            name.contains('/') || kind.is_some_and(|kind| kind == "yaml" || kind == "yml");
        let path = match from {
            Some(from) if is_file => from.join(name),
            Some(_) | None => PathBuf::from(name),
        };
        let own = if is_file { self.system.name(&path) } else { path.clone() };
        if self.seen.contains(&own) {
            return Ok(());
        }
        self.seen.push(own);
        if is_file { self.include_file(&path, said) } else { self.include_preset(name, said) }
    }

    /// A file's rules, then those that it includes.
    fn include_file(&mut self, path: &Path, said: &Source) -> Result<(), Error> {
        let content = self.system.read(path).map_err(|error| Error::Unreadable {
            source_name: said.clone(),
            path: path.to_owned(),
            error,
        })?;
        self.files.push(path.to_owned());
        let included = Included::parse(path, &content)?;
        let key = |name| Source::Key(name, path.to_owned());
        let rules = included.allowlist.unwrap_or_default();
        self.take(&rules, &String::from_utf8_lossy(&content), &key("allowlist"));
        for name in included.include.iter().flatten() {
            self.include(name, path.parent(), &key("include"))?;
        }
        Ok(())
    }

    /// A preset's rules.
    fn include_preset(&mut self, name: &str, said: &Source) -> Result<(), Error> {
        let wrong = |what: String| Error::Value { source_name: said.clone(), what };
        let preset = Preset::find(name).ok_or_else(|| wrong(preset::unknown(name)))?;
        let source = Source::Preset(name.to_owned());
        let rules = match self.settled.filter(|_| preset.is_asked()) {
            None => preset.rules(self.system, self.user).map_err(wrong)?,
            Some(settled) => settled.rules_of(&source).ok_or_else(|| {
                wrong(format!("preset {name} is asked for before the command starts: run it anew"))
            })?,
        };
        let written =
            rules.into_iter().map(|rule| Written { rule, source: source.clone(), line: None });
        self.rules.extend(written);
        Ok(())
    }
}

/// How `domain=` is read, as text.
fn reading_of(source: &Source, text: &std::ffi::OsStr) -> Result<DomainMatch, Error> {
    let text = utf8(source, text)?;
    parse_domain_match(text).map_err(|error| Error::Value {
        source_name: source.clone(),
        what: format!("`{}`: {error}", text.escape_debug()),
    })
}
