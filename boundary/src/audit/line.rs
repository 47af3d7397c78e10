//! One line of the log, as Go's slog writes it: text or JSON.
//!
//! *Never*: lets a control character, an escape sequence or a change of direction through; a URL or
//! a thread's name is the command's to choose, and the terminal is the user's.

use std::borrow::Cow;
use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
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
        let head = Head { time: self.time, level: self.level, message: &self.message };
        let fields = self.fields.iter().map(|(key, value)| (*key, value));
        head.render(fields, (format, zone), out);
    }
}

/// What every line begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    /// When.
    pub(super) time: Timestamp,
    /// How important.
    pub(super) level: Level,
    /// What.
    pub(super) message: &'a str,
}

impl Head<'_> {
    /// Appends the line with these fields to `out`, its newline with it.
    pub(super) fn render(
        &self,
        fields: impl IntoIterator<Item = (&'static str, impl AsRef<str>)>,
        (format, zone): (Format, &TimeZone),
        out: &mut Vec<u8>,
    ) {
        let offset = zone.to_offset(self.time);
        match format {
            Format::Text => self.text(fields, offset, out),
            Format::Json => self.json(fields, offset, out),
        }
        out.push(b'\n');
    }

    /// `time=… level=… msg=… key=value …`
    fn text(
        &self,
        fields: impl IntoIterator<Item = (&'static str, impl AsRef<str>)>,
        offset: Offset,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"time=");
        write_time(self.time, (offset, 3), out);
        out.extend_from_slice(b" level=");
        out.extend_from_slice(self.level.as_str().as_bytes());
        out.extend_from_slice(b" msg=");
        quote(self.message, out);
        for (key, value) in fields {
            out.push(b' ');
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            quote(value.as_ref(), out);
        }
    }

    /// `{"time":…,"level":…,"msg":…,"key":"value",…}`
    fn json(
        &self,
        fields: impl IntoIterator<Item = (&'static str, impl AsRef<str>)>,
        offset: Offset,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(self.time, (offset, 9), out);
        out.push(b'"');
        let mut put = |key: &str, value: &str| {
            out.push(b',');
            write_string(key, out);
            out.push(b':');
            write_string(value, out);
        };
        put("level", self.level.as_str());
        put("msg", self.message);
        for (key, value) in fields {
            put(key, value.as_ref());
        }
        out.push(b'}');
    }
}

/// Appends a time in RFC 3339 at an offset, with so many digits of a second, and `Z` for no offset.
pub(super) fn write_time(time: Timestamp, (offset, digits): (Offset, u32), out: &mut Vec<u8>) {
    let when = offset.to_datetime(time);
    // No clock says a year before the first.
    let year = when.year().unsigned_abs();
    let [century, year] = [year / 100, year].map(two);
    let [month, day, hour, minute, second] =
        [when.month(), when.day(), when.hour(), when.minute(), when.second()]
            .map(|number| two(number.unsigned_abs().into()));
    out.extend_from_slice(&century);
    for (number, next) in [(year, b'-'), (month, b'-'), (day, b'T'), (hour, b':'), (minute, b':')] {
        out.extend_from_slice(&[number[0], number[1], next]);
    }
    out.extend_from_slice(&[second[0], second[1], b'.']);
    let nanos = u64::from(when.subsec_nanosecond().unsigned_abs());
    let width = digits.min(9);
    write_digits(nanos / 10_u64.pow(9 - width), width as usize, out);
    let seconds = offset.seconds();
    if seconds == 0 {
        return out.push(b'Z');
    }
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let minutes = u64::from(seconds.unsigned_abs()) / 60;
    write_digits(minutes / 60, 2, out);
    out.push(b':');
    write_digits(minutes % 60, 2, out);
}

/// The last two digits of a number, as they are written.
fn two(number: u16) -> [u8; 2] {
    [number / 10, number].map(|number| b'0' + u8::try_from(number % 10).unwrap_or(0))
}

/// Appends a number in so many digits at least.
pub(super) fn write_digits(mut number: u64, least: usize, out: &mut Vec<u8>) {
    // As many as the largest has. They are found from the last on.
    let mut text = [b'0'; 20];
    let mut first = text.len();
    for place in text.iter_mut().rev() {
        if number == 0 {
            break;
        }
        // A digit is one byte.
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        first -= 1;
    }
    let first = first.min(text.len().saturating_sub(least));
    out.extend_from_slice(text.get(first..).unwrap_or_default());
}

/// A value in slog's text: bare where that is unambiguous, else quoted as Go quotes.
fn quote(value: &str, out: &mut Vec<u8>) {
    let plain = |c: char| !matches!(c, ' ' | '=' | '"') && !c.is_whitespace() && is_printable(c);
    let one = |byte: u8| matches!(byte, b'!' | b'#'..=b'<' | b'>'..=b'~');
    let plainest = || value.bytes().fold(true, |plain, byte| plain & one(byte));
    if !value.is_empty() && (plainest() || value.chars().all(plain)) {
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

/// A value as a line of JSON that a terminal may show: what does not print is escaped.
pub fn printable_json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    write_json(value, &mut line);
    line.push(b'\n');
    line
}

/// Whether a terminal shows it as itself: no control, no format character, nothing unassigned.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The standard library has the tables only behind `escape_debug`, which leaves alone what prints.
    c.is_alphanumeric() || c.escape_debug().len() == 1
}

/// Whether every byte of a JSON string stands for itself, and prints. All are looked at: without a way
/// out several are looked at in one instruction.
pub(super) fn is_plain(text: &[u8]) -> bool {
    let one = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    text.iter().fold(true, |plain, byte| plain & one(*byte))
}

/// Appends text as a JSON string in which everything that does not print is escaped.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        write_json(&text, out);
    }
}

/// Appends a value as JSON in which everything that does not print is escaped.
fn write_json(value: &impl serde::Serialize, out: &mut Vec<u8>) {
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
