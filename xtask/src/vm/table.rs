//! The tables of `docs/kernels.md`: what each kernel has, and what came of its runs.

use anyhow::{Result, ensure};

use super::features::FEATURES;
use super::outcome::{Outcome, Run};
use crate::arch::Arch;

/// A kernel under its name in the tables.
type Column = (String, Outcome);

/// What a kernel is called there: its version, and its architecture unless that is the usual one.
pub(super) fn name(arch: Arch, begins: &str) -> String {
    if arch == Arch::X86 { begins.to_owned() } else { format!("{begins} {arch}") }
}

/// What each kernel has, and what is lost without it.
pub(super) fn features(columns: &[Column]) -> Result<String> {
    for told in columns.iter().flat_map(|(_, outcome)| outcome.told()) {
        let is_known = FEATURES.iter().any(|feature| feature.name == told);
        ensure!(is_known, "no word in xtask on what is lost without: {told}");
    }
    let mut table = heading(columns, &["what", "since"], &["what stands in its place, or is lost"]);
    for feature in FEATURES {
        let has = columns.iter().map(|(_, outcome)| outcome.has(feature.name).to_owned());
        let ends = [feature.name, feature.since].map(str::to_owned);
        let cells = ends.into_iter().chain(has).chain([feature.without.to_owned()]);
        table += &row(cells);
    }
    Ok(table)
}

/// What came of every run on each kernel.
pub(super) fn runs(columns: &[Column]) -> String {
    let cells = |first: &str, cell: &dyn Fn(&Outcome) -> String| {
        let cells = columns.iter().map(|(_, outcome)| cell(outcome));
        row([first.to_owned()].into_iter().chain(cells))
    };
    let mut table = heading(columns, &[""], &[]);
    table += &cells("Debian's kernel", &|outcome| outcome.release().to_owned());
    let mut names: Vec<&str> = Vec::new();
    for run in columns.iter().flat_map(|(_, outcome)| outcome.runs()) {
        if !names.contains(&run.name()) {
            names.push(run.name());
        }
    }
    for name in names {
        table += &cells(&first(name), &|outcome| {
            let run = outcome.runs().iter().find(|run| run.name() == name);
            run.map_or_else(|| "not run".to_owned(), Run::told)
        });
    }
    table + &cells("took", &Outcome::took)
}

/// The first cell of a run's row.
fn first(name: &str) -> String {
    match name.strip_prefix(super::suites::DOCTOR) {
        Some(who) => format!("jails that work for{who}"),
        None => format!("tests: {name}"),
    }
}

/// The heading, with every kernel between what stands before and after them.
fn heading(columns: &[Column], before: &[&str], after: &[&str]) -> String {
    let names = columns.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> =
        before.iter().copied().chain(names).chain(after.iter().copied()).collect();
    let rule = names.iter().map(|_| "---".to_owned());
    row(names.iter().map(|&name| name.to_owned())) + &row(rule)
}

/// One line of a table.
fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, features, runs};

    /// A kernel that said this between its boot and its end.
    fn column(said: &str) -> Vec<(String, Outcome)> {
        let said = format!("::vm booted 6.1.0-9\n{said}\n::vm done\n::vm took 9 16\n");
        vec![("6.1".into(), Outcome::of(&said))]
    }

    #[test]
    fn what_a_kernel_has_and_what_is_lost_without_it_are_in_the_table() {
        let table = features(&column("feature: Landlock = no")).unwrap();
        assert!(table.starts_with("| what | since | 6.1 | what stands"), "{table}");
        assert!(table.contains("built with it | no | `landjail` is refused."), "{table}");
        assert!(table.contains("| 6.12 | unknown | Abstract"), "{table}");
    }

    #[test]
    fn a_feature_without_a_word_on_its_loss_is_an_error() {
        assert!(features(&column("feature: something = yes")).is_err());
    }

    #[test]
    fn what_each_run_came_to_is_in_the_table() {
        let said =
            "::vm begin ebpf root\ntest result: ok. 5 passed; 0 failed\n::vm end ebpf root 0";
        let table = runs(&column(said));
        assert!(table.contains("| Debian's kernel | 6.1.0-9 |\n"), "{table}");
        assert!(table.contains("| tests: ebpf root | 5 passed, 0 failed |\n"), "{table}");
        assert!(table.contains("| took | 9 s, 16 s of processors |\n"), "{table}");
    }

    #[test]
    fn the_jails_that_work_are_in_the_table() {
        let found = r#"{"jails":[{"jail":"a","works":true},{"jail":"b","works":false}]}"#;
        let table =
            runs(&column(&format!("::vm begin doctor root\n{found}\n::vm end doctor root 0")));
        assert!(table.contains("| jails that work for root | a |\n"), "{table}");
    }
}
