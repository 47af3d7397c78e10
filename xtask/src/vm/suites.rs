//! What a guest runs: which tests, over which jail, as whom.

use std::fmt::Write as _;

use anyhow::Result;

use crate::built::Built;

/// The jails of the journeys.
const JAILS: [&str; 3] = ["ebpf", "nsjail", "landjail"];

/// Begins the names of the runs that are no tests, but what boundary finds on the kernel.
pub(super) const DOCTOR: &str = "doctor";

/// How long one run may take, in seconds.
const PATIENCE: u32 = 900;

/// What root's journeys are, over every jail: whatever a kernel decides, and one of each thing that
/// it does not.
const AS_ROOT: &[&str] = &["escape::", "http::"];

/// What a user's journeys are.
const AS_USER: &[&str] = &["http::"];

/// What is tested once: the kernel half by itself, and the jail that any user can have.
const ONCE: &[&str] = &["kernel::", "nsjail::", "user::"];

/// The script of all runs.
pub(super) fn script(built: &Built, filter: &[String]) -> Result<String> {
    let journey = built.runner("journey")?.display();
    let mut script = String::new();
    if filter.is_empty() {
        let boundary = quoted(&built.program("boundary")?.display().to_string());
        let asked = [("root", ""), ("user", "setpriv --reuid 4242 --regid 4242 --clear-groups")];
        for (who, by) in asked {
            writeln!(script, "run '{DOCTOR} {who}' 60 {by} {boundary} doctor --json")?;
        }
    }
    let mut add = |name: &str, environment: &str, usual: &[&str]| {
        let tests: Vec<String> = if filter.is_empty() {
            usual.iter().map(|&it| quoted(it)).collect()
        } else {
            filter.iter().map(|it| quoted(it)).collect()
        };
        let tests = tests.join(" ");
        let program = quoted(&journey.to_string());
        writeln!(script, "run '{name}' {PATIENCE} {environment} {program} --test-threads=4 {tests}")
    };
    if filter.is_empty() {
        add("kernel", "BOUNDARY_TEST_PROMISE=root,bpf,ip", ONCE)?;
    }
    for jail in JAILS {
        let promise = "BOUNDARY_TEST_PROMISE=root,bpf,userns,curl,ip,python3,setpriv";
        add(&format!("{jail} root"), &format!("{promise} BOUNDARY_TEST_JAIL={jail}"), AS_ROOT)?;
        let environment = format!("{promise} BOUNDARY_TEST_JAIL={jail} BOUNDARY_TEST_AS=user");
        add(&format!("{jail} user"), &environment, AS_USER)?;
    }
    Ok(script)
}

/// A word as the shell takes it for what it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_with_quotes_stays_one_word() {
        assert_eq!(quoted("it's $x"), r"'it'\''s $x'");
    }
}
