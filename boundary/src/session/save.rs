//! A rule written into the policy's file, behind those that stand there.
//!
//! *Standing*: the session's side of `ctl allow --save` and of a prompt, with the rights of the user who
//! called. *Never*: writes a file that would say anything else than before and that rule.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde_yaml::Value;

/// The list that rules stand in.
const LIST: &str = "allowlist";

/// What some editors put in front of UTF-8.
const MARK: char = '\u{feff}';

/// Why a rule was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Unsaved {
    /// The policy has no file of its own.
    #[error("there is no policy file to write it to: --config names one")]
    NoFile,
    /// The file is written in a way to which nothing can be added line by line.
    #[error("its list of rules is not one to a line: add it by hand")]
    Shape,
    /// The file could not be read or written.
    #[error(transparent)]
    Call(#[from] io::Error),
}

/// Writes a rule into a file. In place: what keeps the command from the file hangs on that very file.
/// One that is cut short is a mistake, or fewer rules, and never more.
pub(super) fn save(path: Option<&Path>, rule: &str) -> Result<(), Unsaved> {
    let path = path.ok_or(Unsaved::NoFile)?;
    let before = fs::read_to_string(path)?;
    let after = with_rule(&before, rule).ok_or(Unsaved::Shape)?;
    Ok(OpenOptions::new().write(true).truncate(true).open(path)?.write_all(after.as_bytes())?)
}

/// The text with one more rule, if it then says exactly that. A byte-order mark stays in front.
fn with_rule(before: &str, rule: &str) -> Option<String> {
    if let Some(before) = before.strip_prefix(MARK) {
        return with_rule(before, rule).map(|after| format!("{MARK}{after}"));
    }
    let quoted = serde_yaml::to_string(&Value::from(rule)).ok()?;
    let after = inserted(before, quoted.trim_end())?;
    let read = |text: &str| serde_yaml::from_str::<Value>(text).ok();
    let mut expected = read(before)?;
    if expected.is_null() {
        expected = Value::Mapping(serde_yaml::Mapping::new());
    }
    let list = expected.as_mapping_mut()?.entry(LIST.into()).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Sequence(Vec::new());
    }
    list.as_sequence_mut()?.push(rule.into());
    (read(&after)? == expected).then_some(after)
}

/// The text with one more element of its list: behind the last one, written as that is.
fn inserted(before: &str, element: &str) -> Option<String> {
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    let is_list = |line: &String| line.strip_prefix(LIST).is_some_and(|rest| rest.starts_with(':'));
    let Some(head) = lines.iter().position(is_list) else {
        lines.extend([format!("{LIST}:"), format!("  - {element}")]);
        return Some(lines.join("\n") + "\n");
    };
    let opening = lines.get_mut(head)?;
    let empty = opening.find("[]").filter(|_| opening.trim_end().ends_with("[]"));
    if let Some(at) = empty {
        opening.truncate(at);
        opening.truncate(opening.trim_end().len());
    }
    let is_inside = |line: &&String| {
        let text = line.trim_start();
        text.is_empty() || text.starts_with(['#', '-']) || text.len() < line.len()
    };
    let inside: Vec<&String> = lines.iter().skip(head + 1).take_while(is_inside).collect();
    let is_said = |line: &&String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let last = inside.iter().rposition(is_said);
    let first = inside.iter().find(|line| line.trim_start().starts_with('-'));
    let indent = first.map_or(2, |line| line.len() - line.trim_start().len());
    let at = head + 1 + last.map_or(0, |last| last + 1);
    lines.insert(at, format!("{}- {element}", " ".repeat(indent)));
    Some(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_goes_behind_the_last_one_and_comments_stay() {
        let before = "# mine\nallowlist:\n  - domain=a.test  # first\n\n  # why\n  - domain=b.test\n\nlog_level: info\n";
        let after = with_rule(before, "domain=c.test").expect("it can be added");
        assert_eq!(
            after,
            "# mine\nallowlist:\n  - domain=a.test  # first\n\n  # why\n  - domain=b.test\n  - domain=c.test\n\nlog_level: info\n"
        );
    }

    #[test]
    fn a_list_without_rules_gets_its_first() {
        for before in ["", "allowlist:\n", "allowlist: []\n", "allowlist:\n  # none\n"] {
            let after = with_rule(before, "path=/x:").expect("it can be added");
            let read: Value = serde_yaml::from_str(&after).expect("YAML");
            assert_eq!(read["allowlist"][0], Value::from("path=/x:"), "{after}");
        }
        let after = with_rule("log_level: info", "domain=a.test").expect("it can be added");
        assert_eq!(after, "log_level: info\nallowlist:\n  - domain=a.test\n");
    }

    #[test]
    fn a_list_at_the_margin_stays_there() {
        let after = with_rule("allowlist:\n- domain=a.test\nlog_level: info\n", "domain=b.test");
        let after = after.expect("it can be added");
        assert_eq!(after, "allowlist:\n- domain=a.test\n- domain=b.test\nlog_level: info\n");
    }

    #[test]
    fn a_byte_order_mark_stays_in_front() {
        let after = with_rule("\u{feff}allowlist: []\n", "domain=a.test");
        assert_eq!(after.as_deref(), Some("\u{feff}allowlist:\n  - domain=a.test\n"));
    }

    #[test]
    fn what_cannot_be_added_to_by_the_line_is_left_alone() {
        for before in [
            "allowlist: [domain=a.test]\n",
            "{allowlist: []}\n",
            "allowlist:\n  - >\n    domain=a.test\n  # x\nother: [\n]\n...\n---\n",
            "just text",
        ] {
            assert_eq!(with_rule(before, "domain=b.test"), None, "{before}");
        }
    }

    #[test]
    fn a_file_stays_the_file_that_it_is() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = std::env::temp_dir().join(format!("boundary-save-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).expect("made");
        let file = folder.join("policy.yaml");
        fs::write(&file, "allowlist: []\n").expect("written");
        let number = || fs::metadata(&file).expect("there").ino();
        let before = number();
        save(Some(&file), "domain=a.test").expect("saved");
        let text = fs::read_to_string(&file).expect("it is there");
        assert_eq!(text, "allowlist:\n  - domain=a.test\n");
        assert_eq!(number(), before);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "nothing beside it");
        fs::remove_dir_all(&folder).expect("removed");
        assert!(matches!(save(None, "domain=a.test"), Err(Unsaved::NoFile)));
    }
}
