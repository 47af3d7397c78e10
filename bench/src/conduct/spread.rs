//! Samples of one thing, a round each: the median and how far the rest lies from it.

use std::fmt;

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    /// The least.
    pub(super) least: f64,
    /// Half is below it.
    pub(super) median: f64,
    /// The most.
    pub(super) most: f64,
}

impl Spread {
    /// The spread of a sample; none of an empty one.
    pub(super) fn of(sample: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sample: Vec<f64> = sample.into_iter().collect();
        sample.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sample.get(index).copied();
        let median = at((sample.len().checked_sub(1)?) / 2)?.midpoint(at(sample.len() / 2)?);
        Some(Self { least: at(0)?, median, most: sample.last().copied()? })
    }

    /// The same of the half in the middle, where there are many samples: its least and its most.
    pub(super) fn of_the_middle(sample: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sample: Vec<f64> = sample.into_iter().collect();
        sample.sort_unstable_by(f64::total_cmp);
        let quarter = sample.len() / 4;
        let most = sample.len() - quarter;
        Self::of(sample.get(quarter..most)?.iter().copied())
    }

    /// Whether every sample lies on one side of 1: else there is no difference to speak of.
    pub(super) fn verdict(&self) -> &'static str {
        match self {
            Self { least, .. } if *least > 1.0 => "ahead",
            Self { most, .. } if *most < 1.0 => "behind",
            Self { .. } => "not shown",
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, median, most } = *self;
        let digits = if median.abs() >= 100.0 {
            0
        } else if median.abs() >= 10.0 {
            1
        } else if median.abs() < 0.095 {
            3
        } else {
            2
        };
        write!(f, "{median:.digits$} [{least:.digits$}..{most:.digits$}]")
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_of_an_even_sample_lies_between_the_two_in_the_middle() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(spread.to_string(), "2.50 [1.00..4.00]");
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn what_lies_far_off_is_not_of_the_middle() {
        let spread = Spread::of_the_middle([9.0, 1.0, 3.0, 2.0, 4.0, 0.0, 5.0, 100.0]).unwrap();
        assert_eq!(spread, Spread { least: 2.0, median: 3.5, most: 5.0 });
        assert_eq!(Spread::of_the_middle([7.0]), Spread::of([7.0]));
        assert_eq!(Spread::of_the_middle([]), None);
    }

    #[test]
    fn a_spread_that_has_one_in_it_shows_nothing() {
        assert_eq!(Spread::of([0.9, 1.3, 1.4]).unwrap().verdict(), "not shown");
        assert_eq!(Spread::of([1.1, 1.3, 1.4]).unwrap().verdict(), "ahead");
        assert_eq!(Spread::of([0.7, 0.8, 0.9]).unwrap().verdict(), "behind");
    }
}
