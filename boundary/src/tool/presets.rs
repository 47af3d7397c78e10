//! `boundary presets`: what there is, and what each permits here.

use serde_json::{Value, json};

use super::{Error, Page, answer};
use crate::audit::printable_json;
use crate::cli::Presets;
use crate::config::preset::{self, Preset};
use crate::config::{Environment, Host as Machine, Invoker};

/// Lists all presets, or shows some with their rules.
pub(super) fn presets(asked: &Presets) -> Result<u8, Error> {
    let all = asked.names.is_empty();
    let found: Result<Vec<Preset>, Error> = if all {
        Ok(preset::ALL.to_vec())
    } else {
        let find = |name: &String| Preset::find(name).ok_or_else(|| Error::Preset(name.clone()));
        asked.names.iter().map(find).collect()
    };
    let found = found?;
    let environment = Environment::own();
    let user = Invoker::resolve(&environment, &Machine)?;
    if asked.json {
        let presets: Vec<Value> = found.iter().map(|preset| as_json(preset, &user)).collect();
        answer(&printable_json(&presets))?;
        return Ok(0);
    }
    let mut page = Page::default();
    for preset in &found {
        page.line(format_args!("{:<16} {}", preset.name, preset.description()));
        if !all {
            show(preset, &user, &mut page);
        }
    }
    answer(page.0.as_bytes())?;
    Ok(0)
}

/// A preset's sources and rules.
fn show(preset: &Preset, user: &Invoker, page: &mut Page) {
    for source in preset.sources() {
        page.line(format_args!("  # {source}"));
    }
    match preset.rules(&Machine, user) {
        Ok(rules) => {
            for rule in rules {
                page.line(format_args!("  - {rule}"));
            }
        }
        Err(why) => page.line(format_args!("  # not here: {why}")),
    }
}

fn as_json(preset: &Preset, user: &Invoker) -> Value {
    let rules = preset.rules(&Machine, user);
    let texts = |rules: &Vec<crate::rules::Rule>| -> Vec<String> {
        rules.iter().map(ToString::to_string).collect()
    };
    json!({
        "name": preset.name,
        "description": preset.description(),
        "sources": preset.sources(),
        "rules": rules.as_ref().ok().map(texts),
        "missing": rules.as_ref().err(),
    })
}
