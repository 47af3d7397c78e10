//! The plumbing log: `tracing` events as lines of the same log, at the same level.
//!
//! *Never*: tells a decision; that is the recorder's.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use super::line::Line;
use super::sink::{Output, Said};

/// Makes an output the process's log. Only the first call counts.
pub(super) fn install(output: &Arc<Output>) {
    // A subscriber that is there already stays: it belongs to a test or to the first session.
    drop(tracing::subscriber::set_global_default(subscriber(output)));
}

/// Our own events down to the level that was asked for, other crates' only from `warn` up: what they
/// say below that may quote what they carry.
pub(super) fn subscriber(output: &Arc<Output>) -> impl Subscriber + Send + Sync + use<> {
    let others = output.level().min(Level::WARN);
    let filter = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from_level(output.level()))
        .with_default(LevelFilter::from_level(others));
    Registry::default().with(Lines(Arc::clone(output)).with_filter(filter))
}

/// Turns events into lines.
struct Lines(Arc<Output>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            // Go has no level below debug.
            Level::TRACE => Level::DEBUG,
            level => level,
        };
        let mut line =
            Line { time: Timestamp::now(), level, message: String::new(), fields: Vec::new() };
        event.record(&mut Fields(&mut line));
        self.0.say(Said::Line(line));
    }
}

/// Collects an event's fields.
struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0.message);
        } else {
            self.0.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
