//! A line of the record as a log (`LogRecord`): its fields are the attributes, under the same names.

use std::borrow::Cow;

use jiff::Timestamp;
use tracing::Level;

use super::Line;
use super::wire::Message;
use crate::audit::object::Value;

/// Writes a line as a log.
pub(super) fn write(log: &mut Message, line: &impl Line) {
    let time = nanoseconds(line.time());
    log.fixed(1, time);
    log.fixed(11, time);
    let (severity, name) = severity(line.level());
    log.number(2, severity);
    log.text(3, name);
    let mut words = Words::default();
    let (mut attribute, mut held) = (Message::default(), Message::default());
    line.fields(&mut |name, value| {
        words.note(name, &value);
        attribute.clear();
        attribute.text(1, name);
        held.clear();
        any(value, &mut held);
        attribute.message(2, held.bytes());
        log.message(6, attribute.bytes());
    });
    log.text(12, words.event);
    held.clear();
    held.text(1, &words.body());
    log.message(5, held.bytes());
}

/// A time as logs have it. No clock says one before 1970 or after 2262.
fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

/// The level as the standard numbers it, and its name.
fn severity(level: Level) -> (u64, &'static str) {
    match level {
        Level::ERROR => (17, "ERROR"),
        Level::WARN => (13, "WARN"),
        Level::INFO => (9, "INFO"),
        Level::DEBUG | Level::TRACE => (5, "DEBUG"),
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

/// A field's value as an `AnyValue`. What is made of several is written as JSON, which every store can
/// search; times and ids as they stand in the file. A number that the standard has no room for is text.
fn any(value: Value<'_>, to: &mut Message) {
    let text: Cow<'_, str> = match value {
        Value::Text(text) => text,
        Value::Number(number) if i64::try_from(number).is_ok() => {
            return to.number(3, number);
        }
        Value::Number(number) => number.to_string().into(),
        Value::Address(address) => address.to_string().into(),
        Value::Id(id) => id.to_string().into(),
        value @ (Value::Time(_) | Value::Texts(_) | Value::Parents(_)) => {
            let mut json = Vec::new();
            value.write(&mut json);
            let json = String::from_utf8_lossy(&json);
            json.trim_matches('"').to_owned().into()
        }
    };
    to.text(1, &text);
}
