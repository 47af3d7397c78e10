//! Results as markdown.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::contestants::{Contestant, Who};
use super::rows::{Measured, Shown};
use super::spread::Spread;

/// Both tables of the rows in which everybody takes turns.
pub(super) fn of_rows(
    results: &[Measured],
    contestants: &[Contestant],
    rounds: usize,
) -> Result<String> {
    let field: Vec<Who> = contestants.iter().map(|contestant| contestant.who).collect();
    let mut text = String::new();
    ratios(&mut text, results, &field)?;
    writeln!(
        text,
        "\n{rounds} rounds in which the contestants took turns; the direct column is what was \
         measured without a proxy, the others are ratios to it in the same round: median \
         [least..most]. A dash: cannot do it.\n"
    )?;
    comparisons(&mut text, results, &field)?;
    Ok(text)
}

/// What everybody reaches of the direct connection.
fn ratios(text: &mut String, results: &[Measured], field: &[Who]) -> Result<()> {
    let shown: Vec<Who> = field.iter().copied().filter(|who| *who != Who::Recording).collect();
    write!(text, "| row |")?;
    for who in &shown {
        write!(text, " {} |", who.name())?;
    }
    writeln!(text, "\n|---|{}", "---|".repeat(shown.len()))?;
    for measured in results {
        write!(text, "| {} |", measured.row.name)?;
        for who in &shown {
            let cell = match (who, measured.row.shown) {
                (Who::Direct, _) | (_, Shown::Time) => {
                    measured.spread(field, *who, |shown, _| shown)
                }
                (_, Shown::Rate | Shown::Bytes) => {
                    measured.spread(field, *who, |shown, direct| shown / direct)
                }
            };
            write!(text, " {} |", dash(cell))?;
        }
        writeln!(text)?;
        if measured.row.shown == Shown::Rate {
            text.push_str(&spent(measured, field, &shown)?);
        }
        let Some((name, unit, _)) = measured.row.added else { continue };
        write!(text, "| {name} |")?;
        for who in &shown {
            let base = |direct| if *who == Who::Direct { 0.0 } else { direct };
            let cell =
                measured.medians(field, *who, |median, direct| (median - base(direct)) / unit);
            write!(text, " {} |", dash(cell))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// What the proxies spent on each time that something was done.
fn spent(measured: &Measured, field: &[Who], shown: &[Who]) -> Result<String> {
    let cells = shown.iter().map(|who| {
        let place = field.iter().position(|one| one == who);
        dash(Spread::of(
            measured.rounds.iter().filter_map(|round| round.get(place?)?.as_ref()?.spent),
        ))
    });
    line("the same, processor time that the proxy spends on each, µs", &cells.collect::<Vec<_>>())
}

/// Boundary against its targets, the best of the peers and the least that a proxy can be.
fn comparisons(text: &mut String, results: &[Measured], field: &[Who]) -> Result<()> {
    let against = "| boundary | target | reached | to the best peer | to the minimal prototype |";
    writeln!(text, "{against}\n|---|---|---|---|---|")?;
    for measured in results {
        let row = &measured.row;
        let is_time = row.shown == Shown::Time;
        let own =
            measured.spread(
                field,
                Who::Boundary,
                |shown, direct| {
                    if is_time { shown } else { shown / direct }
                },
            );
        let sign = if is_time { "≤" } else { "≥" };
        let target = row.target.map_or("–".to_owned(), |target| format!("{sign} {target}"));
        let reached = reached(own, row.target, is_time);
        let peers = field.iter().filter(|who| matches!(who, Who::Peer(_)));
        let best = peers
            .filter_map(|peer| Some((*peer, measured.against(field, *peer)?)))
            .min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
        let best = best.map_or("–".to_owned(), |(peer, spread)| {
            format!("{}: {spread}, {}", peer.name(), spread.verdict())
        });
        let minimal = measured
            .against(field, Who::Minimal)
            .map_or("–".to_owned(), |spread| format!("{spread}, {}", spread.verdict()));
        writeln!(text, "| {} | {target} | {reached} | {best} | {minimal} |", row.name)?;
        if let Some((name, unit, most)) = row.added {
            let added = |median: f64, direct: f64| (median - direct) / unit;
            let own = measured.medians(field, Who::Boundary, added);
            let reached = self::reached(own, Some(most), true);
            writeln!(text, "| {name} | ≤ {most} | {reached} | | |")?;
        }
    }
    for measured in results {
        let on_off = measured.ratio(field, Who::Recording, Who::Boundary);
        if let Some(spread) = on_off {
            let reached = reached(Some(spread), Some(0.97), false);
            let name = format!("audit file on against off, {}", measured.row.name);
            writeln!(text, "| {name} | ≥ 0.97 | {reached} | | |")?;
        }
    }
    writeln!(
        text,
        "\nTo a peer and to the prototype: boundary's result over theirs in the same round, more is \
         better (for a time: theirs over boundary's); *not shown* where the rounds disagree about \
         who is ahead."
    )?;
    Ok(())
}

/// The value, and whether it is what it should be.
fn reached(own: Option<Spread>, target: Option<f64>, less_is_better: bool) -> String {
    let (Some(own), Some(target)) = (own, target) else { return dash(own) };
    let is_met = if less_is_better { own.median <= target } else { own.median >= target };
    format!("{own}, {}", if is_met { "yes" } else { "no" })
}

/// A cell, or a dash.
fn dash(spread: Option<Spread>) -> String {
    spread.map_or("–".to_owned(), |spread| spread.to_string())
}

impl Measured {
    /// What somebody's results and the direct ones make, round by round.
    fn spread(&self, field: &[Who], who: Who, make: impl Fn(f64, f64) -> f64) -> Option<Spread> {
        let shown = self.row.shown;
        self.pairs(field, who, Who::Direct, |one, other| make(shown.of(one), shown.of(other)))
    }

    /// The same of one request's median time, in µs.
    fn medians(&self, field: &[Who], who: Who, make: impl Fn(f64, f64) -> f64) -> Option<Spread> {
        self.pairs(field, who, Who::Direct, |one, other| make(one.median, other.median))
    }

    /// Boundary over somebody, so that more is better.
    fn against(&self, field: &[Who], who: Who) -> Option<Spread> {
        if self.row.shown == Shown::Time {
            return self.ratio(field, who, Who::Boundary);
        }
        self.ratio(field, Who::Boundary, who)
    }

    /// One over another.
    fn ratio(&self, field: &[Who], one: Who, other: Who) -> Option<Spread> {
        let shown = self.row.shown;
        self.pairs(field, one, other, |one, other| shown.of(one) / shown.of(other))
    }

    /// What two make of each round in which both have a result.
    fn pairs(
        &self,
        field: &[Who],
        one: Who,
        other: Who,
        make: impl Fn(&crate::load::Outcome, &crate::load::Outcome) -> f64,
    ) -> Option<Spread> {
        let place = |who| field.iter().position(|one| *one == who);
        let (one, other) = (place(one)?, place(other)?);
        Spread::of(
            self.rounds.iter().filter_map(|round| {
                Some(make(round.get(one)?.as_ref()?, round.get(other)?.as_ref()?))
            }),
        )
    }
}

/// A line of a table with a cell for each of some contestants.
pub(super) fn line(name: &str, cells: &[String]) -> Result<String> {
    let mut text = String::new();
    write!(text, "| {name} |").context("text")?;
    for cell in cells {
        write!(text, " {cell} |").context("text")?;
    }
    text.push('\n');
    Ok(text)
}
