//! The median of a sample and how far the rest lies from it.

use std::fmt;
use std::time::Duration;

/// Median, and the tenth and ninetieth percentile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    /// A tenth is below it.
    pub(crate) low: Duration,
    /// Half is below it.
    pub(crate) median: Duration,
    /// A tenth is above it.
    pub(crate) high: Duration,
}

impl Spread {
    /// The spread of a sample, which must not be empty.
    pub(crate) fn of(mut sample: Vec<Duration>) -> Option<Self> {
        sample.sort_unstable();
        let at = |percent: usize| {
            let last = sample.len().checked_sub(1)?;
            sample.get((last * percent + 50) / 100).copied()
        };
        Some(Self { low: at(10)?, median: at(50)?, high: at(90)? })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, median, high } = *self;
        write!(f, "{} | {}–{}", milliseconds(median), milliseconds(low), milliseconds(high))
    }
}

/// A duration in milliseconds, to the hundredth.
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Spread;

    #[test]
    fn the_middle_and_the_tenths_of_a_sample() {
        let sample = (1..=101).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(sample).unwrap();
        assert_eq!(spread.to_string(), "51.00 | 11.00–91.00");
    }

    #[test]
    fn nothing_has_no_middle() {
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
