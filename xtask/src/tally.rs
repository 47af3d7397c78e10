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
    use super::Tally;

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
    fn a_line_that_only_speaks_of_a_result_does_not_count() {
        assert_eq!(
            noted(&["  test result: ok. 5 passed; 0 failed", "5 passed"]),
            "0 passed, 0 failed"
        );
    }
}
