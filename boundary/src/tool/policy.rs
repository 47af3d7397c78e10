//! `boundary policy`: one policy beside another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::{Error, Page, answer};
use crate::audit::{printable, printable_json};
use crate::cli::{PolicyArgs, PolicyDiff, PolicyTool, PolicyVerb};
use crate::config::{Environment, Host as Machine, Policy};
use crate::rules::{Rule, Side, difference};

/// Does what was asked.
pub(super) fn policy(asked: &PolicyTool) -> Result<u8, Error> {
    match &asked.what {
        PolicyVerb::Diff(asked) => diff(asked),
    }
}

/// Says what B newly allows and newly denies, and what it sets otherwise. As diff(1) does, it answers
/// 1 when there is something.
fn diff(asked: &PolicyDiff) -> Result<u8, Error> {
    let ((before, set), (after, newly_set)) = (file(&asked.before)?, file(&asked.after)?);
    let found = Difference {
        allows: beyond(&after, &before),
        denies: beyond(&before, &after),
        settings: changes(set, newly_set),
    };
    if asked.json {
        answer(&printable_json(&found.json()))?;
    } else {
        answer(found.text().as_bytes())?;
    }
    Ok(u8::from(!found.is_empty()))
}

/// What one policy file has otherwise than another.
struct Difference {
    allows: Vec<(Rule, String)>,
    denies: Vec<(Rule, String)>,
    settings: Vec<Change>,
}

impl Difference {
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.allows.is_empty() && self.denies.is_empty() && self.settings.is_empty()
    }

    /// For people.
    fn text(&self) -> String {
        if self.is_empty() {
            return "no difference\n".to_owned();
        }
        let mut page = Page::default();
        for (title, signed, rules) in
            [("newly allowed", '+', &self.allows), ("newly denied", '-', &self.denies)]
        {
            if !rules.is_empty() {
                page.line(format_args!("{title}:"));
            }
            for (rule, place) in rules {
                page.line(format_args!("  {signed} {rule}  ({place})"));
            }
        }
        if !self.settings.is_empty() {
            page.line("set otherwise:");
        }
        for Change { key, before, after } in &self.settings {
            let [before, after] = [before, after].map(|value| shown(value.as_ref()));
            page.line(format_args!("  ! {}: {before} -> {after}", printable(key)));
        }
        page.0
    }

    /// For machines.
    fn json(&self) -> Value {
        let settings: Vec<Value> = self.settings.iter().map(Change::json).collect();
        let (allows, denies) = (json_of(&self.allows), json_of(&self.denies));
        json!({ "allows": allows, "denies": denies, "settings": settings })
    }
}

/// A key of the file that is no rule: what it was set to, and what it is set to now.
struct Change {
    key: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Change {
    /// The same without what may be a secret in it: a URL, which need not say its scheme, that has a name
    /// and a password.
    fn discreet(self) -> Self {
        let hide = |value: Option<Value>| match value {
            Some(Value::String(text)) if text.contains('@') => {
                Some(Value::from("(with credentials)"))
            }
            value => value,
        };
        Self { before: hide(self.before), after: hide(self.after), ..self }
    }

    /// For machines; what is not set is null.
    fn json(&self) -> Value {
        json!({ "key": self.key, "before": self.before, "after": self.after })
    }
}

/// A value on one line.
fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "not set".to_owned(), |it| printable(&it.to_string()).into_owned())
}

/// The keys of a policy file, but those of its rules.
type Settings = BTreeMap<String, Value>;

/// Every key that is not set to the same in both. Which of them widen is not weighed: one that says
/// where requests or the record go can be worth more than a rule.
fn changes(mut before: Settings, mut after: Settings) -> Vec<Change> {
    let keys: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    let changes = keys.into_iter().map(|key| {
        let (before, after) = (before.remove(&key), after.remove(&key));
        Change { key, before, after }
    });
    changes.filter(|change| change.before != change.after).map(Change::discreet).collect()
}

/// The policy of a file and of nothing else, and its other keys.
fn file(path: &Path) -> Result<(Policy, Settings), Error> {
    let args = PolicyArgs { config: Some(path.into()), ..PolicyArgs::default() };
    // Rules of the environment would be in both.
    let variables = Environment::own().variables.into_iter();
    let is_policy = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|name| name.to_ascii_uppercase().starts_with("BOUNDARY_"))
    };
    let variables = variables.filter(|(name, _)| !is_policy(name)).collect();
    let environment = Environment { variables, ..Environment::own() };
    Ok(Policy::with_settings(&args, &environment, &Machine)?)
}

/// What one policy grants beyond another: rules, and where they stand.
fn beyond(of: &Policy, beside: &Policy) -> Vec<(Rule, String)> {
    let rules = |policy: &Policy| -> Vec<Rule> {
        policy.rules.iter().map(|written| written.rule.clone()).collect()
    };
    let (ours, theirs) = (rules(of), rules(beside));
    let (ours, theirs): (Vec<&Rule>, Vec<&Rule>) = (ours.iter().collect(), theirs.iter().collect());
    let side = Side { rules: &ours, reading: of.reading };
    let found = difference(side, Side { rules: &theirs, reading: beside.reading });
    let placed = |(number, rule): (usize, Rule)| {
        let place = of.rules.get(number).map(crate::config::Written::place);
        (rule, place.unwrap_or_default())
    };
    found.into_iter().map(placed).collect()
}

fn json_of(rules: &[(Rule, String)]) -> Vec<Value> {
    rules.iter().map(|(rule, place)| json!({ "rule": rule.as_str(), "source": place })).collect()
}
