//! One line of the log, as Go's slog writes it: text or JSON.
//!
//! *Never*: lets a control character, an escape sequence or a change of direction through; a URL or
//! a thread's name is the command's to choose, and the terminal is the user's.

use std::borrow::Cow;
use std::io::{self, Write};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::ser::Formatter;
use tracing::Level;

use super::Format;

/// A message with its fields.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// When.
    pub(super) time: Timestamp,
    /// How important.
    pub(super) level: Level,
    /// What.
    pub(super) message: String,
    /// The particulars, in order.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Line {
    /// Appends the line to `out`, its newline with it.
    pub(super) fn render(&self, format: Format, zone: &TimeZone, out: &mut Vec<u8>) {
        let time = self.time.to_zoned(zone.clone());
        match format {
            Format::Text => self.text(&time, out),
            Format::Json => self.json(&time, out),
        }
        out.push(b'\n');
    }

    /// `time=… level=… msg=… key=value …`
    fn text(&self, time: &Zoned, out: &mut Vec<u8>) {
        out.extend_from_slice(b"time=");
        out.extend_from_slice(rfc3339(time, 3).as_bytes());
        out.extend_from_slice(b" level=");
        out.extend_from_slice(self.level.as_str().as_bytes());
        out.extend_from_slice(b" msg=");
        quote(&self.message, out);
        for (key, value) in &self.fields {
            out.push(b' ');
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            quote(value, out);
        }
    }

    /// `{"time":…,"level":…,"msg":…,"key":"value",…}`
    fn json(&self, time: &Zoned, out: &mut Vec<u8>) {
        let time = rfc3339(time, 9);
        let head = [("time", time.as_str()), ("level", self.level.as_str())];
        let rest = self.fields.iter().map(|(key, value)| (*key, value.as_str()));
        let fields = head.into_iter().chain([("msg", self.message.as_str())]).chain(rest);
        for (index, (key, value)) in fields.enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            write_json(&key, out);
            out.push(b':');
            write_json(&value, out);
        }
        out.push(b'}');
    }
}

/// RFC 3339 with so many digits of a second, and `Z` for no offset.
fn rfc3339(time: &Zoned, digits: usize) -> String {
    let date = time.strftime("%Y-%m-%dT%H:%M:%S");
    let mut fraction = format!("{:09}", time.subsec_nanosecond());
    fraction.truncate(digits);
    if time.offset().seconds() == 0 {
        format!("{date}.{fraction}Z")
    } else {
        format!("{date}.{fraction}{}", time.strftime("%:z"))
    }
}

/// A value in slog's text: bare where that is unambiguous, else quoted as Go quotes.
fn quote(value: &str, out: &mut Vec<u8>) {
    let plain = |c: char| !matches!(c, ' ' | '=' | '"') && !c.is_whitespace() && is_printable(c);
    if !value.is_empty() && value.chars().all(plain) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    out.push(b'"');
    for c in value.chars() {
        // A vector takes every byte.
        drop(write_quoted(c, out));
    }
    out.push(b'"');
}

/// A character inside Go's quotes.
fn write_quoted(c: char, out: &mut Vec<u8>) -> io::Result<()> {
    match c {
        '"' => out.write_all(b"\\\""),
        '\\' => out.write_all(b"\\\\"),
        '\n' => out.write_all(b"\\n"),
        '\r' => out.write_all(b"\\r"),
        '\t' => out.write_all(b"\\t"),
        '\u{7}' => out.write_all(b"\\a"),
        '\u{8}' => out.write_all(b"\\b"),
        '\u{b}' => out.write_all(b"\\v"),
        '\u{c}' => out.write_all(b"\\f"),
        c if is_printable(c) => write!(out, "{c}"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c if u32::from(c) <= 0xffff => write!(out, "\\u{:04x}", u32::from(c)),
        c => write!(out, "\\U{:08x}", u32::from(c)),
    }
}

/// Text as a terminal or a page may show it: what does not print is written out.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_printable(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
    Cow::Owned(out)
}

/// Whether a terminal shows it as itself: no control, no format character, nothing unassigned.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The standard library has the tables only behind `escape_debug`, which leaves alone what prints.
    c.is_alphanumeric() || c.escape_debug().len() == 1
}

/// Appends a value as JSON in which everything that does not print is escaped.
pub(super) fn write_json(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    let length = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Printable);
    if value.serialize(&mut serializer).is_err() {
        // A vector takes every byte and our values have no failing parts; half a value must not stay.
        out.truncate(length);
        out.extend_from_slice(b"null");
    }
}

/// JSON strings that a terminal can show: the standard's escapes, and ours for what it leaves.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return out.write_all(text.as_bytes());
        }
        text.chars().try_for_each(|c| {
            if is_printable(c) {
                return write!(out, "{c}");
            }
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
        })
    }
}
