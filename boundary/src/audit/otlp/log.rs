//! A line of the record as a log: its fields are the attributes, under the same names.

use opentelemetry::Key;
use opentelemetry::logs::{AnyValue, LogRecord as _, Severity};
use opentelemetry_sdk::logs::SdkLogRecord;
use serde_json::{Map, Value};
use tracing::Level;

use super::Line;

/// Puts a line into an empty log.
pub(super) fn fill(record: &mut SdkLogRecord, line: &impl Line) {
    let Ok(Value::Object(fields)) = serde_json::to_value(line) else { return };
    let time = std::time::SystemTime::from(line.time());
    record.set_timestamp(time);
    record.set_observed_timestamp(time);
    let (severity, name) = severity(line.level());
    record.set_severity_number(severity);
    record.set_severity_text(name);
    record.set_event_name(event(&fields));
    record.set_body(AnyValue::from(body(&fields)));
    for (key, value) in fields {
        if let Some(value) = any(value) {
            record.add_attribute(Key::from(key), value);
        }
    }
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

/// What kind of line it is.
fn event(fields: &Map<String, Value>) -> &'static str {
    if fields.contains_key("event") {
        return "boundary.session";
    }
    if fields.contains_key("duration_ms") { "boundary.outcome" } else { "boundary.decision" }
}

/// The line in a few words.
fn body(fields: &Map<String, Value>) -> String {
    let word = |key: &str| fields.get(key).and_then(Value::as_str);
    let kind = word("event").or_else(|| word("decision")).unwrap_or("record");
    let place = word("http_url").or_else(|| word("host")).or_else(|| word("address"));
    let how = word("http_method").or_else(|| word("proto"));
    let words = [Some(kind), how, place].into_iter().flatten();
    words.collect::<Vec<_>>().join(" ")
}

/// A field's value. What is made of several is written as JSON, which every store can search.
fn any(value: Value) -> Option<AnyValue> {
    match value {
        Value::Null => None,
        Value::Bool(is) => Some(AnyValue::from(is)),
        Value::String(text) => Some(AnyValue::from(text)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Some(AnyValue::from(number)),
            None => number.as_f64().map(AnyValue::from),
        },
        several @ (Value::Array(_) | Value::Object(_)) => Some(AnyValue::from(several.to_string())),
    }
}
