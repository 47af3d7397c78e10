//! The rows in which contestants take turns, and what came of them.

use anyhow::{Context as _, Result};

use super::contestants::{Contestant, Who};
use crate::load::{Outcome, Task};
use crate::say;

/// What of an outcome a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// How often in a second.
    Rate,
    /// How many MB of content in a second.
    Bytes,
    /// How long it took, in milliseconds; not as a ratio.
    Time,
}

/// One thing that every contestant does in every round.
#[derive(Debug)]
pub(super) struct Row {
    /// The name in the table.
    pub(super) name: &'static str,
    /// What of it is shown.
    pub(super) shown: Shown,
    /// Below or above which ratio to the direct connection, or time, it should be.
    pub(super) target: Option<f64>,
    /// The row of what it adds to one request's time, if there is one: name, unit in µs, target.
    pub(super) added: Option<(&'static str, f64, f64)>,
    /// What is done.
    task: Task,
}

/// Everything measured in one row.
#[derive(Debug)]
pub(super) struct Measured {
    /// The row.
    pub(super) row: Row,
    /// For each round, each contestant's outcome, in their order.
    pub(super) rounds: Vec<Vec<Option<Outcome>>>,
}

/// Every row.
pub(super) fn all() -> impl Iterator<Item = Row> {
    let connections = |host: &str| Task::Connections { at_once: 8, millis: 700, host: host.into() };
    let row = |name, shown, target, task| Row { name, shown, target, added: None, task };
    [
        Row {
            added: Some(("the same, added to one request, p50 µs", 1.0, 40.0)),
            ..row(
                "keep-alive GET of 13 B, 1 connection, req/s",
                Shown::Rate,
                Some(0.43),
                Task::Requests { connections: 1, millis: 700 },
            )
        },
        row(
            "keep-alive GET of 13 B, 32 connections, req/s",
            Shown::Rate,
            Some(0.48),
            Task::Requests { connections: 32, millis: 700 },
        ),
        Row {
            added: Some(("the same, added to one request, p50 ms", 1000.0, 0.2)),
            ..row(
                "new TLS connection and GET, 8 at once, conns/s",
                Shown::Rate,
                Some(1.0),
                connections("www.rsa.test"),
            )
        },
        row(
            "the same, origin with an ECDSA key, conns/s",
            Shown::Rate,
            None,
            connections("www.ecdsa.test"),
        ),
        row(
            "first visit to a host, 8 at once, conns/s",
            Shown::Rate,
            Some(0.45),
            connections(".rsa.test"),
        ),
        row(
            "100 MiB download, MB/s",
            Shown::Bytes,
            Some(0.48),
            Task::Download { bytes: 100 << 20, streams: 1, millis: 0 },
        ),
        row(
            "4 × 1 MiB downloads, MB/s",
            Shown::Bytes,
            None,
            Task::Download { bytes: 1 << 20, streams: 4, millis: 500 },
        ),
        row(
            "HTTP/2, 32 streams, GET of 13 B, req/s",
            Shown::Rate,
            Some(0.4),
            Task::Multiplexed { streams: 32, millis: 700 },
        ),
        row("first of ten events, ms", Shown::Time, Some(1.0), Task::Events),
    ]
    .into_iter()
}

/// Has everybody take turns in every row, round after round. The first round warms up and does not
/// count; in each, another contestant is the first.
pub(super) fn measure(
    contestants: &mut [Contestant],
    rounds: usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Measured>> {
    let rows = all().filter(|row| wanted(row.name));
    let mut all: Vec<Measured> = rows.map(|row| Measured { row, rounds: Vec::new() }).collect();
    let count = contestants.len();
    let mut complained = vec![false; count * all.len()];
    for round in 0..=rounds {
        say(&format!("bench: round {round} of {rounds}"));
        for (number, measured) in all.iter_mut().enumerate() {
            let mut outcomes = vec![None; count];
            for turn in 0..count {
                let index = (turn + round) % count;
                let contestant = contestants.get_mut(index).context("a contestant")?;
                let complained = complained.get_mut(number * count + index).context("a place")?;
                let outcome = attempt(contestant, &measured.row, complained)?;
                *outcomes.get_mut(index).context("a place")? = outcome;
            }
            if round > 0 {
                measured.rounds.push(outcomes);
            }
        }
    }
    Ok(all)
}

/// One turn. A peer that cannot do it, and said so once, is not asked again.
fn attempt(
    contestant: &mut Contestant,
    row: &Row,
    complained: &mut bool,
) -> Result<Option<Outcome>> {
    if *complained || contestant.who == Who::Recording && !row.name.starts_with("keep-alive") {
        return Ok(None);
    }
    match contestant.perform(&row.task) {
        Ok(outcome) => Ok(Some(outcome)),
        Err(error) if contestant.who == Who::Direct => Err(error.context(row.name)),
        Err(error) => {
            *complained = true;
            say(&format!("bench: {}: {}: {error:#}", contestant.who.name(), row.name));
            Ok(None)
        }
    }
}

impl Shown {
    /// What is shown of an outcome: the more the better, but for a time.
    pub(super) fn of(self, outcome: &Outcome) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a count of a second fits")]
            Self::Rate => outcome.count as f64 / outcome.seconds,
            #[expect(clippy::cast_precision_loss, reason = "so do its bytes")]
            Self::Bytes => outcome.bytes as f64 / outcome.seconds / 1e6,
            Self::Time => outcome.median / 1e3,
        }
    }
}
