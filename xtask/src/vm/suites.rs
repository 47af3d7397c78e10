//! What a guest runs: which tests, over which jail, as whom.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Vm;
use crate::built::Built;

/// The jails of the journeys.
pub(super) const JAILS: [&str; 3] = ["ebpf", "nsjail", "landjail"];

/// Begins the names of the runs that are no tests, but what boundary finds on the kernel.
pub(super) const DOCTOR: &str = "doctor";

/// What root's journeys are, over every jail: the ways out that a kernel closes, and one of each thing
/// that works.
const AS_ROOT: &[&str] = &[
    "escape::inside::a12_a16_a29_h01",
    "escape::interception::a07_a_datagram",
    "escape::interception::a20_",
    "escape::privileges::a29_h12",
    "escape::regressions::b03_icmp",
    "escape::unix::a18_a19_messages",
    "escape::unix::a18_a22_a_family",
    "escape::unix::a18_b03_a_thread",
    "http::what_no_rule_names",
    "lifecycle::killing_the_keeper",
];

/// What root's are besides over the jail that is programs in the kernel.
const OVER_EBPF: &[&str] = &[
    "escape::interception::a10_fast",
    "escape::interception::a11_",
    "escape::unix::a18_no_spelling",
    "escape::usher::a18_a22_no",
];

/// What a user's journeys are.
const AS_USER: &[&str] = &[
    "dns::every_resolver",
    "escape::privileges::h12_",
    "escape::regressions::b01_the_walls",
    "http::an_allowed_name",
];

/// What of all that is run where it has to be brief: things that are refused, that work, and that end.
const BRIEF: Tests = Tests {
    as_root: &[
        "escape::regressions::b03_icmp",
        "escape::unix::a18_b03_a_thread",
        "lifecycle::a_daemon_that",
    ],
    over_ebpf: &[],
    as_user: &["http::an_allowed_name"],
    once: &[
        "jails::landjail_stands",
        "kernel::a_connection_is_turned",
        "kernel::a_killed_keeper",
        "kernel::features",
        "kernel::walls_that_fall",
        "kernel::what_is_neither",
    ],
};

/// The whole.
const WHOLE: Tests = Tests { as_root: AS_ROOT, over_ebpf: OVER_EBPF, as_user: AS_USER, once: ONCE };

/// Which tests there are for whom.
#[derive(Debug)]
struct Tests {
    as_root: &'static [&'static str],
    over_ebpf: &'static [&'static str],
    as_user: &'static [&'static str],
    once: &'static [&'static str],
}

/// What is tested once: the kernel half by itself, the choice of a jail, and signals, whose tests name their
/// jails themselves.
const ONCE: &[&str] = &["kernel::", "jails::landjail_stands", "signals::"];

/// What a jail is that this kernel cannot raise: a refusal.
const REFUSED: &[&str] = &["jails::landjail_stands"];

/// The script of all runs.
pub(super) fn script(built: &Built, asked: &Vm) -> Result<String> {
    let tests = if asked.brief { BRIEF } else { WHOLE };
    let filter: Vec<&str> = asked.filter.iter().map(String::as_str).collect();
    let usual = |usual: &[&'static str]| -> Vec<&str> {
        if filter.is_empty() { usual.to_vec() } else { filter.clone() }
    };
    let runs = Runs {
        boundary: quoted(&built.program("boundary")?.display().to_string()),
        journey: quoted(&built.runner("journey")?.display().to_string()),
        patience: asked.minutes * 60,
    };
    let mut script = String::new();
    if filter.is_empty() {
        runs.ask(&mut script)?;
        runs.test(&mut script, "kernel", "BOUNDARY_TEST_PROMISE=root,bpf,ip,setpriv", tests.once)?;
    }
    let is_asked = |jail: &&str| asked.jail.as_deref().is_none_or(|asked| asked == *jail);
    for jail in JAILS.into_iter().filter(is_asked) {
        let is_lacking = jail == "landjail";
        if is_lacking {
            writeln!(script, "if grep -qw landlock /sys/kernel/security/lsm; then")?;
        }
        let promise = "BOUNDARY_TEST_PROMISE=root,bpf,userns,curl,ip,python3,setpriv";
        let root = format!("{promise} BOUNDARY_TEST_JAIL={jail}");
        let more = if jail == "ebpf" { tests.over_ebpf } else { &[] };
        let as_root = [tests.as_root, more].concat();
        runs.test(&mut script, &format!("{jail} root"), &root, &usual(&as_root))?;
        let user = format!("{root} BOUNDARY_TEST_AS=user");
        runs.test(&mut script, &format!("{jail} user"), &user, &usual(tests.as_user))?;
        if is_lacking {
            writeln!(script, "else")?;
            for who in ["root", "user"] {
                runs.test(&mut script, &format!("{jail} {who}"), promise, REFUSED)?;
            }
            writeln!(script, "fi")?;
        }
    }
    Ok(script)
}

/// The names of the runs in a script, each once and in order.
pub(super) fn names(script: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in script.lines() {
        let name = line.strip_prefix("run '").and_then(|line| line.split_once('\'')).map(|it| it.0);
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

/// Makes sure that every one of the usual tests is there: one whose name has changed would be missed in
/// silence.
pub(super) fn require(built: &Built) -> Result<()> {
    let listed = Command::new(built.runner("journey")?).arg("--list").output();
    let listed = String::from_utf8_lossy(&listed.context("journey --list")?.stdout).into_owned();
    for tests in [WHOLE, BRIEF] {
        let usual = [tests.as_root, tests.over_ebpf, tests.as_user, tests.once, REFUSED].concat();
        let is_there = |test: &&str| listed.lines().any(|line| line.contains(test));
        let missing: Vec<&str> = usual.into_iter().filter(|test| !is_there(test)).collect();
        ensure!(missing.is_empty(), "no test is called {}", missing.join(", "));
    }
    Ok(())
}

/// What runs are written from.
struct Runs {
    boundary: String,
    journey: String,
    /// How long one may take, in seconds.
    patience: u64,
}

impl Runs {
    /// Asks boundary what it finds.
    fn ask(&self, script: &mut String) -> Result<()> {
        let boundary = &self.boundary;
        let asked =
            [("root", ""), ("user", "/usr/bin/setpriv --reuid 4242 --regid 4242 --clear-groups")];
        for (who, by) in asked {
            writeln!(script, "run '{DOCTOR} {who}' 60 {by} {boundary} doctor --json")?;
        }
        Ok(())
    }

    /// Runs tests under a name.
    fn test(
        &self,
        script: &mut String,
        name: &str,
        environment: &str,
        tests: &[&str],
    ) -> Result<()> {
        let tests: Vec<String> = tests.iter().map(|it| quoted(it)).collect();
        let Self { journey, patience, .. } = self;
        let tests = tests.join(" ");
        let line = format!("{environment} {journey} --test-threads=4 {tests}");
        writeln!(script, "run '{name}' {patience} {line}").map_err(Into::into)
    }
}

/// A word as the shell takes it for what it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{names, quoted};

    #[test]
    fn a_run_in_either_branch_is_one_run() {
        let script = "run 'a b' 60 x\nif x; then\nrun 'c' 60 x\nelse\nrun 'c' 60 y\nfi\n";
        assert_eq!(names(script), ["a b", "c"]);
    }

    #[test]
    fn a_word_with_quotes_stays_one_word() {
        assert_eq!(quoted("it's $x"), r"'it'\''s $x'");
    }
}
