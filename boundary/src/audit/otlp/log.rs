//! A line of the record as a log: its fields are the attributes, under the same names.

use opentelemetry::Key;
use opentelemetry::logs::{AnyValue, LogRecord as _, Severity};
use opentelemetry_sdk::logs::SdkLogRecord;
use tracing::Level;

use super::Line;
use crate::audit::object::Value;

/// Puts a line into an empty log.
pub(super) fn fill(record: &mut SdkLogRecord, line: &impl Line) {
    let time = std::time::SystemTime::from(line.time());
    record.set_timestamp(time);
    record.set_observed_timestamp(time);
    let (severity, name) = severity(line.level());
    record.set_severity_number(severity);
    record.set_severity_text(name);
    let mut words = Words::default();
    line.fields(&mut |name, value| {
        words.note(name, &value);
        record.add_attribute(Key::from_static_str(name), any(value));
    });
    record.set_event_name(words.event);
    record.set_body(AnyValue::from(words.body()));
}

/// The level in the standard's words.
fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG | Level::TRACE => (Severity::Debug, "DEBUG"),
    }
}

/// What a line says in a few words, and what kind of line it is.
#[derive(Debug)]
struct Words {
    event: &'static str,
    kind: Option<String>,
    how: Option<String>,
    place: Option<String>,
}

impl Default for Words {
    fn default() -> Self {
        Self { event: "boundary.decision", kind: None, how: None, place: None }
    }
}

impl Words {
    /// Looks at a field. What comes first is the vaguer: `proto` before `http_method`, but `http_url`
    /// before `host` before `address`.
    fn note(&mut self, name: &str, value: &Value<'_>) {
        match name {
            "event" => {
                self.event = "boundary.session";
                self.kind = text(value);
            }
            "duration_ms" if self.event != "boundary.session" => self.event = "boundary.outcome",
            "decision" => self.kind = text(value),
            "proto" | "http_method" => self.how = text(value),
            "http_url" | "host" | "address" if self.place.is_none() => self.place = text(value),
            _ => {}
        }
    }

    /// All of them.
    fn body(&self) -> String {
        let kind = self.kind.as_deref().unwrap_or("record");
        let words = [Some(kind), self.how.as_deref(), self.place.as_deref()];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// A value that is one word.
fn text(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone().into_owned()),
        Value::Address(address) => Some(address.to_string()),
        Value::Number(_) | Value::Time(_) | Value::Id(_) | Value::Texts(_) | Value::Parents(_) => {
            None
        }
    }
}

/// A field's value. What is made of several is written as JSON, which every store can search; times and
/// ids as they stand in the file.
fn any(value: Value<'_>) -> AnyValue {
    match value {
        Value::Text(text) => AnyValue::from(text.into_owned()),
        Value::Number(number) => match i64::try_from(number) {
            Ok(number) => AnyValue::from(number),
            Err(_) => AnyValue::from(number.to_string()),
        },
        Value::Address(address) => AnyValue::from(address.to_string()),
        Value::Id(id) => AnyValue::from(id.to_string()),
        value @ (Value::Time(_) | Value::Texts(_) | Value::Parents(_)) => {
            let mut json = Vec::new();
            value.write(&mut json);
            let json = String::from_utf8_lossy(&json);
            AnyValue::from(json.trim_matches('"').to_owned())
        }
    }
}
