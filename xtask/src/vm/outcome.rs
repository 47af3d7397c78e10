//! What a guest said, summed up: the tests of each run, and what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::suites::DOCTOR;
use crate::tally::{Tally, skipped};

/// What is noted of a guest that did not turn itself off.
pub(super) const KILLED: &str = "::vm killed\n";

/// What is noted of how long a guest took, before its seconds, and those of processors that it kept busy.
pub(super) const TOOK: &str = "::vm took";

/// What came of one kernel.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    release: String,
    done: bool,
    runs: Vec<Run>,
    /// What the kernel has, as `tests/kernel/features.rs` tells it.
    features: Vec<(String, String)>,
    /// In seconds.
    took: u64,
    /// For how many seconds processors worked for it.
    busy: u64,
    /// What the kernel holds against itself, as `/proc/sys/kernel/tainted` has it; none if it did not say.
    tainted: Option<u64>,
}

/// What a kernel holds against itself after a fault of its own: a bad page, an oops, a warning, a lockup
/// (`Documentation/admin-guide/tainted-kernels.rst` of Linux).
const FAULTS: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14;

/// What came of one run of tests.
#[derive(Debug, Default)]
pub(super) struct Run {
    name: String,
    tally: Tally,
    failed: Vec<String>,
    /// The tests that had nothing to try.
    skipped: BTreeSet<String>,
    status: Option<i32>,
    /// What it said, where that is kept.
    said: String,
}

impl Outcome {
    /// What came of a guest that said this. Lines of its kernel may be among it.
    pub(super) fn of(said: &str) -> Self {
        let mut outcome = Self::default();
        for line in said.lines() {
            outcome.note(line);
        }
        outcome
    }

    fn note(&mut self, line: &str) {
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
        run.skipped.extend(skipped(line).map(str::to_owned));
        let test = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
        run.failed.extend(test.map(str::to_owned));
    }

    /// Takes a line of the guest's first process, or of who booted it.
    fn note_own(&mut self, said: &str) {
        match said.split_once(' ').unwrap_or((said, "")) {
            ("booted", release) => release.clone_into(&mut self.release),
            ("done", _) => self.done = true,
            ("killed", _) => self.done = false,
            ("tainted", bits) => self.tainted = bits.parse().ok(),
            ("took", seconds) => {
                let mut seconds = seconds.split(' ').map(|it| it.parse().unwrap_or_default());
                (self.took, self.busy) =
                    (seconds.next().unwrap_or_default(), seconds.next().unwrap_or_default());
            }
            ("begin", name) => {
                self.runs.push(Run { name: name.to_owned(), ..Run::default() });
            }
            ("end", rest) => {
                let Some((name, status)) = rest.rsplit_once(' ') else { return };
                let run = self.runs.last_mut().filter(|run| run.name == name);
                if let Some(run) = run.filter(|run| run.status.is_none()) {
                    run.status = status.parse().ok();
                }
            }
            _ => {}
        }
    }

    /// Whether the kernel came as far as its first process.
    pub(super) fn has_booted(&self) -> bool {
        !self.release.is_empty()
    }

    /// Whether everything ran and nothing failed, neither a test nor the kernel, and every jail works that
    /// should.
    pub(super) fn is_good(&self) -> bool {
        let is_sound = self.done && self.tainted.is_some_and(|bits| bits & FAULTS == 0);
        let is_as_it_should = |run: &Run| run.is_good() && self.has_its_jails(run);
        is_sound && !self.runs.is_empty() && self.runs.iter().all(is_as_it_should)
    }

    /// Whether boundary found the jails that this kernel should have, where the run says.
    fn has_its_jails(&self, run: &Run) -> bool {
        let Some(who) = run.who() else { return true };
        let has_landlock = !self.release.starts_with("5.10.");
        let expected = match (who, has_landlock) {
            ("root", true) => "ebpf, nsjail, landjail",
            ("root", false) => "ebpf, nsjail",
            (_, true) => "nsjail, landjail",
            (_, false) => "nsjail",
        };
        run.told() == expected
    }

    /// The names of what it ran, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().map(Run::name)
    }

    /// As `uname` says it.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// How long it took, in a cell of the table.
    pub(super) fn took(&self) -> String {
        format!("{} s, {} s of processors", self.took, self.busy)
    }

    /// Everything that it ran.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether the kernel has something; `unknown` where it did not tell.
    pub(super) fn has(&self, feature: &str) -> &str {
        let found = self.features.iter().find(|(name, _)| name == feature);
        found.map_or("unknown", |(_, told)| told)
    }

    /// The names of all of which the kernel told.
    pub(super) fn told(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(|(name, _)| name.as_str())
    }

    /// What boundary found there, by who asked.
    pub(super) fn found(&self) -> BTreeMap<&str, Value> {
        let runs = self.runs.iter().filter_map(|run| Some((run.who()?, run.found()?)));
        runs.collect()
    }
}

impl Run {
    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is no run of tests.
    fn is_doctor(&self) -> bool {
        self.who().is_some()
    }

    /// Who asked what boundary found, where it is no run of tests.
    fn who(&self) -> Option<&str> {
        self.name.strip_prefix(DOCTOR).map(str::trim)
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
        let tally = self.tally();
        self.status == Some(0) && tally.has_passed() && !tally.has_failed()
    }

    /// How its tests ended, without those that had nothing to try.
    fn tally(&self) -> Tally {
        self.tally.without(self.skipped.len())
    }

    /// In a cell of the table.
    pub(super) fn told(&self) -> String {
        if self.is_doctor() {
            return self.found().map_or_else(|| "**FAIL**".to_owned(), |found| working(&found));
        }
        let skipped = match self.skipped.len() {
            0 => String::new(),
            count => format!(", {count} skipped"),
        };
        let verdict = if self.is_good() { "" } else { "**FAIL** " };
        format!("{verdict}{}{skipped}", self.tally())
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
        write!(f, "Linux {} in {}{end}", self.release, self.took())?;
        match self.tainted {
            Some(bits) if bits & FAULTS == 0 => {}
            Some(bits) => write!(f, ", FAIL: the kernel is tainted: {bits}")?,
            None => f.write_str(", FAIL: it did not come to its end")?,
        }
        self.runs.iter().try_for_each(|run| {
            let is_good = run.is_good() && self.has_its_jails(run);
            let verdict = if is_good { "ok" } else { "FAIL" };
            write!(f, "\n  {:<14} {verdict}: {}", run.name, run.told())?;
            run.failed.iter().try_for_each(|test| write!(f, "\n    {test}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    /// What came of a guest that said this.
    fn noted(lines: &[&str]) -> Outcome {
        Outcome::of(&lines.join("\n"))
    }

    const GOOD: [&str; 6] = [
        "::vm booted 6.1",
        "::vm begin ebpf root",
        "test result: ok. 5 passed; 0 failed; 0 ignored",
        "::vm end ebpf root 0",
        "::vm tainted 4096",
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
    fn a_status_belongs_to_the_run_that_it_names_and_counts_once() {
        let mut said = GOOD.to_vec();
        said[3] = "::vm end nsjail root 0";
        assert!(!noted(&said).is_good());
        said.splice(3..4, ["::vm end ebpf root 137", "::vm end ebpf root 0"]);
        assert!(!noted(&said).is_good());
    }

    #[test]
    fn a_kernel_that_warned_is_not_good() {
        let mut said = GOOD.to_vec();
        said[4] = "::vm tainted 512";
        let outcome = noted(&said);
        assert!(!outcome.is_good());
        assert!(outcome.to_string().contains("FAIL: the kernel is tainted: 512"));
    }

    #[test]
    fn a_jail_that_is_not_found_is_a_failure() {
        let found = |jails: &str| {
            let works = |name: &str| format!(r#"{{"jail":"{name}","works":true}}"#);
            let jails: Vec<String> = jails.split(' ').map(works).collect();
            let mut said = GOOD.to_vec();
            let json = format!(r#"{{"jails":[{}]}}"#, jails.join(","));
            said.splice(1..1, ["::vm begin doctor root", &json, "::vm end doctor root 0"]);
            noted(&said)
        };
        assert!(found("ebpf nsjail landjail").is_good());
        assert!(!found("ebpf nsjail").is_good());
        assert!(found("ebpf nsjail").to_string().contains("doctor root    FAIL: ebpf, nsjail"));
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
    fn a_run_of_which_every_test_was_skipped_is_not_good() {
        let mut said = GOOD.to_vec();
        said.splice(2..3, ["skipped: a::b needs tmux", "test result: ok. 1 passed; 0 failed"]);
        let outcome = noted(&said);
        assert!(!outcome.is_good());
        assert!(outcome.to_string().contains("FAIL: **FAIL** 0 passed, 0 failed, 1 skipped"));
    }

    #[test]
    fn a_guest_that_was_killed_is_not_good() {
        let mut said = GOOD.to_vec();
        said.extend(["::vm killed", "::vm took 12 20"]);
        let outcome = noted(&said);
        assert!(!outcome.is_good());
        assert_eq!(outcome.took(), "12 s, 20 s of processors");
    }
}
