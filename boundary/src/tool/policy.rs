//! `boundary policy`: one policy beside another.

use std::path::Path;

use serde_json::{Value, json};

use super::{Error, Page, answer};
use crate::cli::{PolicyArgs, PolicyDiff, PolicyTool, PolicyVerb};
use crate::config::{Environment, Host as Machine, Policy};
use crate::rules::{Rule, Side, difference};

/// Does what was asked.
pub(super) fn policy(asked: &PolicyTool) -> Result<u8, Error> {
    match &asked.what {
        PolicyVerb::Diff(asked) => diff(asked),
    }
}

/// Says what B newly allows and newly denies. As diff(1) does, it answers 1 when there is something.
fn diff(asked: &PolicyDiff) -> Result<u8, Error> {
    let (before, after) = (file(&asked.before)?, file(&asked.after)?);
    let (allows, denies) = (beyond(&after, &before), beyond(&before, &after));
    let is_same = allows.is_empty() && denies.is_empty();
    let text = if asked.json {
        format!("{}\n", json!({ "allows": json_of(&allows), "denies": json_of(&denies) }))
    } else if is_same {
        "no difference\n".to_owned()
    } else {
        let mut page = Page::default();
        for (title, signed, rules) in
            [("newly allowed", '+', &allows), ("newly denied", '-', &denies)]
        {
            if !rules.is_empty() {
                page.line(format_args!("{title}:"));
            }
            for (rule, place) in rules {
                page.line(format_args!("  {signed} {rule}  ({place})"));
            }
        }
        page.0
    };
    answer(text.as_bytes())?;
    Ok(u8::from(!is_same))
}

/// The policy of a file and of nothing else.
fn file(path: &Path) -> Result<Policy, Error> {
    let args = PolicyArgs { config: Some(path.into()), ..PolicyArgs::default() };
    // Rules of the environment would be in both.
    let variables = Environment::own().variables.into_iter();
    let is_policy = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|name| name.to_ascii_uppercase().starts_with("BOUNDARY_"))
    };
    let variables = variables.filter(|(name, _)| !is_policy(name)).collect();
    let environment = Environment { variables, ..Environment::own() };
    Ok(Policy::resolve(&args, &environment, &Machine)?)
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
