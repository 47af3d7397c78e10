//! A line of the record as a log (`LogRecord`): its fields are the attributes, under the same names.

use std::borrow::Cow;

use jiff::Timestamp;
use tracing::Level;

use super::Line;
use crate::audit::alike::Kept;
use crate::audit::object::{Value, write_address};
use crate::audit::wire::{Message, field_length, varint_length};

/// How much room for logs is kept from one request to the next.
const KEPT: usize = 2 * 1024 * 1024;

/// Writes lines as logs.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// The logs of a `ScopeLogs` (`log_records`).
    all: Message,
    /// Room for one of them.
    log: Message,
    /// Room for the value of one field.
    text: Vec<u8>,
    /// What many lines have alike, as attributes.
    kept: Kept,
}

impl Logs {
    /// Writes lines, each a log.
    pub(super) fn write(&mut self, lines: &[impl Line]) -> &[u8] {
        self.all.clear();
        self.all.raw().shrink_to(KEPT);
        for line in lines {
            self.log.clear();
            self.one(line);
            self.all.message(2, self.log.bytes());
        }
        self.all.bytes()
    }

    /// Writes one.
    fn one(&mut self, line: &impl Line) {
        let Self { log, text, kept, .. } = self;
        let time = nanoseconds(line.time());
        log.fixed(1, time);
        log.fixed(11, time);
        let (severity, name) = severity(line.level());
        log.number(2, severity);
        log.text(3, name);
        let mut words = Words::default();
        line.fields(&mut |name, value| {
            attribute(name, &value, (&mut *log, &mut *text));
            words.note(name, value);
        });
        if let Some(alike) = line.alike() {
            words.place.get_or_insert_with(|| alike.intent.host().bare().into());
            kept.write(&alike, log.raw(), |alike, out| {
                let mut written = Message::default();
                alike.fields(&mut |name, value| attribute(name, &value, (&mut written, text)));
                out.extend_from_slice(written.bytes());
            });
        }
        log.text(12, words.event);
        text.clear();
        words.body(text);
        log.head(5, field_length(text.len()));
        log.message(1, text);
    }
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
struct Words<'a> {
    event: &'static str,
    kind: Option<Value<'a>>,
    how: Option<Value<'a>>,
    place: Option<Value<'a>>,
}

impl Default for Words<'_> {
    fn default() -> Self {
        Self { event: "boundary.decision", kind: None, how: None, place: None }
    }
}

impl<'a> Words<'a> {
    /// Looks at a field. What comes first is the vaguer: `proto` before `http_method`, but `http_url`
    /// before `host` before `address`.
    fn note(&mut self, name: &str, value: Value<'a>) {
        match name {
            "event" => {
                self.event = "boundary.session";
                self.kind = Some(value);
            }
            "duration_ms" if self.event != "boundary.session" => self.event = "boundary.outcome",
            "decision" => self.kind = Some(value),
            "proto" | "http_method" => self.how = Some(value),
            "http_url" | "host" | "address" if self.place.is_none() => self.place = Some(value),
            _ => {}
        }
    }

    /// All of them.
    fn body(&self, out: &mut Vec<u8>) {
        write_text(self.kind.as_ref().unwrap_or(&Value::Text(Cow::Borrowed("record"))), out);
        for word in [&self.how, &self.place].into_iter().flatten() {
            out.push(b' ');
            write_text(word, out);
        }
    }
}

/// Writes a field as an attribute (`KeyValue`, whose value is an `AnyValue`). A number that the
/// standard has no room for is text.
fn attribute(name: &str, value: &Value<'_>, (to, text): (&mut Message, &mut Vec<u8>)) {
    let number = if let Value::Number(number) = value { Some(*number) } else { None };
    let number = number.filter(|number| i64::try_from(*number).is_ok());
    text.clear();
    if number.is_none() {
        write_text(value, text);
    }
    let length = number.map_or(field_length(text.len()), |number| 1 + varint_length(number));
    to.head(6, field_length(name.len()) + field_length(length));
    to.text(1, name);
    to.head(2, length);
    match number {
        Some(number) => to.number(3, number),
        None => to.message(1, text),
    }
}

/// A value as text. What is made of several is written as JSON, which every store can search; times and
/// ids as they stand in the file.
fn write_text(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::Url(intent, query) => {
            intent.tell_url(*query, &mut |piece| out.extend_from_slice(piece.as_bytes()));
        }
        Value::Address(address) => write_address(*address, out),
        Value::Time(_) | Value::Id(_) => {
            let start = out.len();
            value.write(out);
            // Without the quotes of JSON: nothing in them is escaped.
            out.pop();
            out.drain(start..=start);
        }
        Value::Number(_) | Value::Texts(_) | Value::Parents(_) => value.write(out),
    }
}
