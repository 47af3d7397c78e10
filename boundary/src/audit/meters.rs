//! How often, how much and how long: what is counted of a session beside its record.
//!
//! *Standing*: the session makes them where somebody is to read them; recorder and doors count.
//! *Never*: waits, or knows what a request asked for: a label is one of a few words of ours.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

use super::{Decision, Door, Tally};
use crate::rules::Code;

/// Upper ends for what takes microseconds: naming a request and asking the rules. In nanoseconds.
const DECIDING: [u32; 9] =
    [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10_000_000, 100_000_000];
/// Upper ends for what a server takes, in milliseconds.
const WAITING: [u32; 11] = [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// The counters.
#[derive(Debug)]
pub struct Meters {
    /// By door, and by code with one more for what was granted.
    decisions: [[AtomicU64; Code::ALL.len() + 1]; Door::ALL.len()],
    up: AtomicU64,
    down: AtomicU64,
    unread: AtomicU64,
    deciding: Times,
    waiting: Times,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            decisions: Default::default(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            deciding: Times::new(DECIDING.map(|end| Duration::from_nanos(end.into()))),
            waiting: Times::new(WAITING.map(|end| Duration::from_millis(end.into()))),
        }
    }
}

impl Meters {
    /// Counts a decision.
    pub(super) fn decided(&self, door: Door, decision: &Decision) {
        let place = |code| Code::ALL.iter().position(|it| *it == code).map_or(0, |at| at + 1);
        let code = decision.code().map_or(0, place);
        let counter = self.decisions.get(door as usize).and_then(|codes| codes.get(code));
        if let Some(counter) = counter {
            add(counter, 1);
        }
    }

    /// Counts what a decision carried.
    pub(super) fn carried(&self, tally: &Tally) {
        add(&self.up, tally.bytes_up);
        add(&self.down, tally.bytes_down);
    }

    /// Counts refusals of the jail that came faster than they could be read.
    pub(super) fn missed(&self, count: u64) {
        add(&self.unread, count);
    }

    /// Has everything told where a registry is read.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(Counters(Arc::clone(self))));
    }

    /// Every door, verdict and code that was met, and how often.
    fn met(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 3], u64)> {
        let codes = std::iter::once("").chain(Code::ALL.into_iter().map(Code::as_str));
        let rows = Door::ALL.into_iter().zip(&self.decisions);
        let all = rows.flat_map(move |(door, counters)| {
            codes.clone().zip(counters).map(move |(code, counter)| (door, code, counter))
        });
        all.map(|(door, code, counter)| (labels(door, code), counter.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

/// What a counter is told by. No code means that it was granted.
fn labels(door: Door, code: &'static str) -> [(&'static str, &'static str); 3] {
    let decision = if code.is_empty() { "allow" } else { "deny" };
    [("door", door.as_str()), ("decision", decision), ("code", code)]
}

/// Adds to a counter. Nothing else depends on it.
fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// The counters, as they are told.
#[derive(Debug)]
struct Counters(Arc<Meters>);

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let meters = &self.0;
        let help = "Decisions, by the door that the flow came by";
        let mut decisions =
            encoder.encode_descriptor("boundary_decisions", help, None, MetricType::Counter)?;
        for (labels, count) in meters.met() {
            ConstCounter::new(count).encode(decisions.encode_family(&labels)?)?;
        }
        let help = "Bytes of content of what has ended, from the command (up) and to it (down)";
        let mut bytes =
            encoder.encode_descriptor("boundary_bytes", help, None, MetricType::Counter)?;
        for (direction, counter) in [("up", &meters.up), ("down", &meters.down)] {
            let count = ConstCounter::new(counter.load(Ordering::Relaxed));
            count.encode(bytes.encode_family(&[("direction", direction)])?)?;
        }
        let help = "Refusals of the jail that came faster than they could be recorded";
        let unread =
            encoder.encode_descriptor("boundary_refusals_lost", help, None, MetricType::Counter)?;
        ConstCounter::new(meters.unread.load(Ordering::Relaxed)).encode(unread)?;
        let help = "How long it took to name a request and ask the rules about it";
        let name = "boundary_decision_seconds";
        meters.deciding.encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Histogram,
        )?)?;
        let help = "How long an upstream took from being asked to the head of its answer";
        let name = "boundary_upstream_seconds";
        meters.waiting.encode(encoder.encode_descriptor(name, help, None, MetricType::Histogram)?)
    }
}

/// How often something took how long. Every request is counted by all that serve at once, so nobody
/// waits for anybody: whoever looks may see the one of two figures before the other.
#[derive(Debug)]
struct Times {
    /// Up to which time, and how often it was that and more than the one before.
    counts: Vec<(Duration, AtomicU64)>,
    /// How often it was more.
    beyond: AtomicU64,
    /// All of them together, in nanoseconds.
    sum: AtomicU64,
}

impl Times {
    /// None so far.
    fn new(ends: impl IntoIterator<Item = Duration>) -> Self {
        let counts = ends.into_iter().map(|end| (end, AtomicU64::new(0))).collect();
        Self { counts, beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts one.
    fn observe(&self, time: Duration) {
        let place = self.counts.iter().find(|(end, _)| time <= *end);
        add(place.map_or(&self.beyond, |(_, count)| count), 1);
        add(&self.sum, u64::try_from(time.as_nanos()).unwrap_or(0));
    }

    /// Tells them.
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut buckets: Vec<(f64, u64)> =
            self.counts.iter().map(|(end, count)| (end.as_secs_f64(), read(count))).collect();
        buckets.push((f64::INFINITY, read(&self.beyond)));
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(read(&self.sum)).as_secs_f64();
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
    }
}

/// A time that is being taken, if anybody wants to know it.
#[derive(Debug)]
#[must_use]
pub struct Stopwatch(Option<(Arc<Meters>, Instant)>);

impl Stopwatch {
    /// Starts where there are meters.
    pub(super) fn start(meters: Option<&Arc<Meters>>) -> Self {
        Self(meters.map(|meters| (Arc::clone(meters), Instant::now())))
    }

    /// The rules have answered.
    pub fn decided(self) {
        self.stop(|meters| &meters.deciding);
    }

    /// An upstream has answered, or will not.
    pub fn answered(self) {
        self.stop(|meters| &meters.waiting);
    }

    /// Notes the time.
    fn stop(self, of: impl FnOnce(&Meters) -> &Times) {
        if let Some((meters, start)) = self.0 {
            of(&meters).observe(start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::rules::Denial;

    fn told(meters: &Arc<Meters>) -> String {
        let mut registry = Registry::default();
        meters.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn decisions_are_told_by_door_verdict_and_code() {
        let meters = Arc::new(Meters::default());
        let question = |refused| Decision::Dns { name: "a".into(), kind: "A".into(), refused };
        meters.decided(Door::Dns, &question(None));
        meters.decided(Door::Dns, &question(Some(Code::NamesExhausted)));
        for code in Code::ALL {
            meters.decided(Door::Redirect, &Decision::Deny(Denial::new(code)));
        }
        let text = told(&meters);
        for line in [
            "boundary_decisions_total{door=\"dns\",decision=\"allow\",code=\"\"} 1\n",
            "boundary_decisions_total{door=\"dns\",decision=\"deny\",code=\"names_exhausted\"} 1\n",
            "boundary_decisions_total{door=\"redirect\",decision=\"deny\",code=\"no_rule\"} 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let lines = text.lines().filter(|line| line.starts_with("boundary_decisions_total"));
        assert_eq!(lines.count(), 2 + Code::ALL.len(), "every code has a counter of its own");
    }

    #[test]
    fn every_door_has_a_row_of_its_own() {
        for (index, door) in Door::ALL.into_iter().enumerate() {
            assert_eq!(door as usize, index);
        }
    }

    #[test]
    fn bytes_and_times_are_told() {
        let meters = Arc::new(Meters::default());
        meters.carried(&Tally { bytes_up: 3, bytes_down: 5, ..Tally::default() });
        Stopwatch::start(Some(&meters)).decided();
        Stopwatch::start(Some(&meters)).answered();
        Stopwatch::start(None).answered();
        let text = told(&meters);
        for line in [
            "boundary_bytes_total{direction=\"up\"} 3\n",
            "boundary_bytes_total{direction=\"down\"} 5\n",
            "boundary_decision_seconds_count 1\n",
            "boundary_upstream_seconds_count 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_time_is_counted_up_to_each_end_that_it_does_not_pass() {
        let meters = Arc::new(Meters::default());
        for millis in [1, 2, 31_000] {
            meters.waiting.observe(Duration::from_millis(millis));
        }
        let text = told(&meters);
        for line in [
            "# TYPE boundary_upstream_seconds histogram\n",
            "boundary_upstream_seconds_sum 31.003\n",
            "boundary_upstream_seconds_count 3\n",
            "boundary_upstream_seconds_bucket{le=\"0.001\"} 1\n",
            "boundary_upstream_seconds_bucket{le=\"0.005\"} 2\n",
            "boundary_upstream_seconds_bucket{le=\"30.0\"} 2\n",
            "boundary_upstream_seconds_bucket{le=\"+Inf\"} 3\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
