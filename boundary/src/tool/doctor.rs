//! `boundary doctor`: which jails work here, which one `auto` takes, and for each of the others what
//! is missing and what to do about it.

use serde_json::{Value, json};

use crate::cli::Doctor;
use crate::config::{Environment, Host, Invoker};
use crate::jail::Choice;
use crate::jail::child::Identity;
use crate::jail::probe::{Found, ORDER, Report, Row};

use super::{Error, answer};

/// The exit status where no jail can be raised.
const NONE: u8 = 1;

/// Looks, and tells.
pub(super) fn doctor(asked: Doctor) -> Result<u8, Error> {
    let user = Invoker::resolve(&Environment::own(), &Host)?;
    let report = Report::examine(&Identity::of(user.uid, user.gid, user.name.as_deref())?);
    let told = if asked.json { format!("{:#}\n", as_json(&report)) } else { as_text(&report) };
    answer(told.as_bytes())?;
    Ok(if report.auto().is_some() { 0 } else { NONE })
}

/// For people.
fn as_text(report: &Report) -> String {
    let mut lines = Vec::new();
    for jail in ORDER {
        lines.push(match report.obstacle(jail) {
            None => format!("{jail:9} works"),
            Some(row) => format!("{jail:9} does not work: {row}"),
        });
    }
    lines.push(match report.auto() {
        Some(jail) => format!("auto      takes {jail}"),
        None => "auto      finds nothing: no command would run".to_owned(),
    });
    lines.push(String::new());
    let titles = report.rows().iter().map(|row| row.primitive.title().len());
    let width = titles.max().unwrap_or_default();
    for row in report.rows() {
        let jails = decides(row);
        lines.push(format!("{:width$}  {jails:24}  {}", row.primitive.title(), row.found));
        lines.extend(row.remedies.iter().map(|remedy| format!("  to do: {remedy}")));
    }
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// The jails that a row decides; in parentheses where they can be raised without it.
fn decides(row: &Row) -> String {
    let names: Vec<&str> = row.primitive.jails.iter().map(|jail| jail.as_str()).collect();
    let names = names.join(", ");
    if row.primitive.is_optional { format!("({names})") } else { names }
}

/// For programs.
fn as_json(report: &Report) -> Value {
    let jails = ORDER.map(|jail| {
        let obstacle = report.obstacle(jail);
        json!({
            "jail": jail.as_str(),
            "works": obstacle.is_none(),
            "obstacle": obstacle.map(|row| row.primitive.title()),
        })
    });
    json!({
        "auto": report.auto().map(Choice::as_str),
        "jails": jails,
        "primitives": report.rows().iter().map(row_as_json).collect::<Vec<_>>(),
    })
}

fn row_as_json(row: &Row) -> Value {
    let (errno, detail) = match &row.found {
        Found::Yes(detail) if detail.is_empty() => (None, None),
        Found::Yes(detail) | Found::Failed(detail) => (None, Some(detail.clone())),
        Found::Refused(error) => (Some(format!("{error:?}")), None),
        Found::Unasked => (None, None),
    };
    let jails: Vec<&str> = row.primitive.jails.iter().map(|jail| jail.as_str()).collect();
    json!({
        "primitive": row.primitive.title(),
        "decides": jails,
        "required": !row.primitive.is_optional,
        "found": row.found.word(),
        "errno": errno,
        "detail": detail,
        "remedies": row.remedies,
    })
}
