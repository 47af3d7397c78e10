//! Sums the closing lines of the test runners.

use std::fmt;

/// How many tests passed and failed, over all runners.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Takes one line of output; only a runner's closing line counts.
    pub(crate) fn note(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let Some((_, counts)) = rest.split_once(". ") else { return };
        self.passed += count(counts, "passed");
        self.failed += count(counts, "failed");
    }

    /// What is left without so many that a runner takes for passed, because they had nothing to try.
    pub(crate) fn without(self, skipped: usize) -> Self {
        let skipped = u64::try_from(skipped).unwrap_or(u64::MAX);
        Self { passed: self.passed.saturating_sub(skipped), ..self }
    }

    /// Whether a test passed.
    pub(crate) fn has_passed(self) -> bool {
        self.passed > 0
    }

    /// Whether a test failed.
    pub(crate) fn has_failed(self) -> bool {
        self.failed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The test that a line tells of which has nothing to try.
pub(crate) fn skipped(line: &str) -> Option<&str> {
    let (test, _) = line.strip_prefix("skipped: ")?.split_once(" needs ")?;
    Some(test)
}

/// The number before a word in `5 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u64 {
    counts
        .split("; ")
        .filter_map(|part| part.split_once(' '))
        .find(|(_, what)| *what == word)
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Tally, skipped};

    fn noted(lines: &[&str]) -> String {
        let mut tally = Tally::default();
        for line in lines {
            tally.note(line);
        }
        tally.to_string()
    }

    #[test]
    fn closing_lines_are_summed() {
        let said = noted(&[
            "test rules::a ... ok",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ]);
        assert_eq!(said, "12 passed, 2 failed");
    }

    #[test]
    fn what_had_nothing_to_try_has_not_passed() {
        let mut tally = Tally::default();
        tally.note("test result: ok. 5 passed; 1 failed");
        assert_eq!(tally.without(2).to_string(), "3 passed, 1 failed");
        assert!(!tally.without(5).has_passed());
        assert_eq!(skipped("skipped: a::b needs tmux"), Some("a::b"));
        assert_eq!(skipped("a::b was skipped: it needs tmux"), None);
    }

    #[test]
    fn a_line_that_only_speaks_of_a_result_does_not_count() {
        assert_eq!(
            noted(&["  test result: ok. 5 passed; 0 failed", "5 passed"]),
            "0 passed, 0 failed"
        );
    }
}
