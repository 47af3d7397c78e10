//! What a guest said, summed up: the tests of each run, and what failed.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::suites::DOCTOR;
use crate::arch::Arch;
use crate::tally::Tally;

/// What came of one kernel.
#[derive(Debug)]
pub(super) struct Outcome {
    release: String,
    booted: bool,
    done: bool,
    runs: Vec<Run>,
    /// What the kernel has, as `tests/kernel/features.rs` tells it.
    features: Vec<(String, String)>,
    took: Duration,
}

/// What came of one run of tests.
#[derive(Debug, Default)]
struct Run {
    name: String,
    tally: Tally,
    failed: Vec<String>,
    skipped: u32,
    status: Option<i32>,
    /// What it said, where that is kept.
    said: String,
}

impl Outcome {
    /// Nothing yet.
    pub(super) fn new(release: String) -> Self {
        let (runs, features, took) = (Vec::new(), Vec::new(), Duration::ZERO);
        Self { release, booted: false, done: false, runs, features, took }
    }

    /// Takes a line of the guest. Lines of its kernel may be among them.
    pub(super) fn note(&mut self, line: &str) {
        if let Some(said) = line.strip_prefix("::vm ") {
            return self.note_own(said);
        }
        if let Some(told) = line.strip_prefix("feature: ") {
            let told = told.split_once(" = ");
            self.features.extend(told.map(|(name, it)| (name.to_owned(), it.to_owned())));
        }
        let Some(run) = self.runs.last_mut() else { return };
        if run.is_doctor() {
            run.said += line;
            run.said.push('\n');
            return;
        }
        run.tally.note(line);
        run.skipped += u32::from(line.starts_with("skipped: "));
        let test = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
        run.failed.extend(test.map(str::to_owned));
    }

    /// Takes a line of the guest's first process.
    fn note_own(&mut self, said: &str) {
        match said.split_once(' ').unwrap_or((said, "")) {
            ("booted", _) => self.booted = true,
            ("done", _) => self.done = true,
            ("begin", name) => {
                self.runs.push(Run { name: name.to_owned(), ..Run::default() });
            }
            ("end", rest) => {
                let status = rest.rsplit_once(' ').and_then(|(_, status)| status.parse().ok());
                if let Some(run) = self.runs.last_mut() {
                    run.status = status;
                }
            }
            _ => {}
        }
    }

    /// Notes how it ended.
    pub(super) fn end(&mut self, turned_off: bool, took: Duration) {
        self.done &= turned_off;
        self.took = took;
    }

    /// Whether the kernel came as far as its first process.
    pub(super) fn has_booted(&self) -> bool {
        self.booted
    }

    /// Whether everything ran and nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.done && !self.runs.is_empty() && self.runs.iter().all(Run::is_good)
    }
}

impl Run {
    /// Whether it is no run of tests.
    fn is_doctor(&self) -> bool {
        self.name.starts_with(DOCTOR)
    }

    /// What boundary found, as it says it.
    fn found(&self) -> Option<Value> {
        serde_json::from_str(&self.said).ok()
    }

    /// Whether it ended by itself, with tests and without a failure.
    fn is_good(&self) -> bool {
        if self.is_doctor() {
            return self.found().is_some();
        }
        self.status == Some(0) && self.tally.has_passed() && !self.tally.has_failed()
    }

    /// In a cell of the table.
    fn told(&self) -> String {
        if self.is_doctor() {
            return self.found().map_or_else(|| "**FAIL**".to_owned(), |found| working(&found));
        }
        let Self { tally, skipped, .. } = self;
        let verdict = if self.is_good() { "" } else { "**FAIL** " };
        let skipped = if *skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{verdict}{tally}{skipped}")
    }
}

/// The jails that work, of all that boundary told of.
fn working(found: &Value) -> String {
    let jails = found.get("jails").and_then(Value::as_array);
    let works = |jail: &&Value| jail.get("works") == Some(&true.into());
    let name = |jail: &Value| jail.get("jail").and_then(Value::as_str).map(str::to_owned);
    let names: Vec<String> = jails.into_iter().flatten().filter(works).filter_map(name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.done { "" } else { ", KILLED" };
        write!(f, "Linux {} in {} s{end}", self.release, self.took.as_secs())?;
        self.runs.iter().try_for_each(|run| {
            let verdict = if run.is_good() { "ok" } else { "FAIL" };
            write!(f, "\n  {:<14} {verdict}: {}", run.name, run.told())?;
            run.failed.iter().try_for_each(|test| write!(f, "\n    {test}"))
        })
    }
}

/// The table of all kernels, in Markdown.
pub(super) fn table(arch: Arch, outcomes: &[Outcome]) -> String {
    let cells = |first: &str, cell: &dyn Fn(&Outcome) -> String| {
        let cells: Vec<String> = outcomes.iter().map(cell).collect();
        format!("| {first} | {} |\n", cells.join(" | "))
    };
    let head = cells(arch.name(), &|outcome| outcome.release.clone());
    let rule = cells("---", &|_| "---".to_owned());
    let known = |outcome: &Outcome, feature: &str| {
        let found = outcome.features.iter().find(|(name, _)| name == feature);
        found.map_or("unknown", |(_, told)| told).to_owned()
    };
    let features = outcomes.first().into_iter().flat_map(|outcome| &outcome.features);
    let features = features.map(|(name, _)| cells(name, &|outcome| known(outcome, name)));
    let runs = outcomes.first().into_iter().flat_map(|outcome| &outcome.runs);
    let runs = runs.map(|Run { name, .. }| {
        let what = if name.starts_with(DOCTOR) { "jails that work" } else { "tests" };
        cells(&format!("{what}: {}", name.trim_start_matches(DOCTOR).trim()), &|outcome| {
            let run = outcome.runs.iter().find(|run| run.name == *name);
            run.map_or_else(|| "not run".to_owned(), Run::told)
        })
    });
    [head, rule].into_iter().chain(features).chain(runs).collect()
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    /// What came of a guest that said this.
    fn noted(lines: &[&str]) -> Outcome {
        let mut outcome = Outcome::new("6.1".into());
        for line in lines {
            outcome.note(line);
        }
        outcome
    }

    const GOOD: [&str; 5] = [
        "::vm booted 6.1",
        "::vm begin ebpf root",
        "test result: ok. 5 passed; 0 failed; 0 ignored",
        "::vm end ebpf root 0",
        "::vm done",
    ];

    #[test]
    fn a_guest_that_did_everything_is_good() {
        assert!(noted(&GOOD).is_good());
    }

    #[test]
    fn a_guest_that_lacks_any_of_it_is_not() {
        for missing in 1..GOOD.len() {
            let said: Vec<&str> =
                GOOD.into_iter().enumerate().filter(|it| it.0 != missing).map(|it| it.1).collect();
            assert!(!noted(&said).is_good(), "{said:?}");
        }
    }

    #[test]
    fn a_failed_test_is_named() {
        let mut said = GOOD.to_vec();
        said.splice(2..3, ["test http::x ... FAILED", "test result: FAILED. 4 passed; 1 failed"]);
        let outcome = noted(&said);
        assert!(!outcome.is_good());
        assert!(outcome.to_string().contains("FAIL: **FAIL** 4 passed, 1 failed\n    http::x"));
    }

    #[test]
    fn what_a_kernel_has_is_in_the_table() {
        let mut said = GOOD.to_vec();
        said.insert(2, "feature: Landlock = no");
        let table = super::table(crate::arch::Arch::X86, &[noted(&said)]);
        assert!(table.contains("| Landlock | no |\n"), "{table}");
        assert!(table.contains("| tests: ebpf root | 5 passed, 0 failed |\n"), "{table}");
    }

    #[test]
    fn the_jails_that_work_are_in_the_table() {
        let mut said = GOOD.to_vec();
        let found = r#"{"jails":[{"jail":"a","works":true},{"jail":"b","works":false}]}"#;
        said.splice(1..1, ["::vm begin doctor root", found, "::vm end doctor root 0"]);
        let outcome = noted(&said);
        assert!(outcome.is_good());
        let table = super::table(crate::arch::Arch::X86, &[outcome]);
        assert!(table.contains("| jails that work: root | a |\n"), "{table}");
    }

    #[test]
    fn a_guest_that_was_killed_is_not_good() {
        let mut outcome = noted(&GOOD);
        outcome.end(false, std::time::Duration::ZERO);
        assert!(!outcome.is_good());
    }
}
