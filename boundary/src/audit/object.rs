//! What is recorded as fields with values, and those as a JSON object.
//!
//! Every request makes two of these objects, so they are written without anything in between. *Never*:
//! lets a character through that does not print; what a field says is the command's to choose.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::Offset;
use uuid::Uuid;

use super::Parent;
use super::alike::{Alike, Kept};
use super::line::{is_plain, write_digits, write_string, write_time};
use crate::rules::Intent;

/// What a field says.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// The URL of a request, with its query or without.
    Url(&'a Intent, bool),
    /// A count, a size, a number.
    Number(u64),
    /// A moment.
    Time(Timestamp),
    /// A session's id.
    Id(Uuid),
    /// An address.
    Address(IpAddr),
    /// Several texts.
    Texts(&'a [String]),
    /// Who started a process, the nearest first.
    Parents(&'a [Parent]),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// Something with fields.
pub(super) trait Fields {
    /// Tells each field that there is, in the order in which they are written.
    fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>));

    /// Further fields, after those, that many others have alike.
    fn alike(&self) -> Option<Alike<'_>> {
        None
    }
}

/// Appends something as a JSON object.
pub(super) fn write_object(of: &impl Fields, kept: &mut Kept, out: &mut Vec<u8>) {
    let start = out.len();
    of.fields(&mut |name, value| write_field(name, &value, out));
    if let Some(alike) = of.alike() {
        kept.write(&alike, out, |alike, out| {
            alike.fields(&mut |name, value| write_field(name, &value, out));
        });
    }
    // The comma before the first of them.
    match out.get_mut(start) {
        Some(first) => *first = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// Appends a field and the comma before it. Names are ours, and plain.
fn write_field(name: &str, value: &Value<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    value.write(out);
}

impl Value<'_> {
    /// Appends it as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_string(text, out),
            Self::Url(intent, query) => write_url(intent, *query, out),
            Self::Number(number) => write_digits(*number, 1, out),
            Self::Time(time) => {
                out.push(b'"');
                write_time(*time, (Offset::UTC, 9), out);
                out.push(b'"');
            }
            Self::Id(id) => {
                let mut text = Uuid::encode_buffer();
                let text: &str = id.hyphenated().encode_lower(&mut text);
                write_string(text, out);
            }
            Self::Address(address) => {
                out.push(b'"');
                write_address(*address, out);
                out.push(b'"');
            }
            Self::Texts(texts) => list(texts, out, |text, out| write_string(text, out)),
            Self::Parents(parents) => list(parents, out, |parent, out| {
                out.extend_from_slice(b"{\"pid\":");
                write_digits(parent.pid.into(), 1, out);
                out.extend_from_slice(b",\"comm\":");
                write_string(&parent.comm, out);
                out.push(b'}');
            }),
        }
    }
}

/// Appends a URL as a JSON string. Most are plain as they are.
fn write_url(intent: &Intent, query: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    intent.tell_url(query, &mut |piece| out.extend_from_slice(piece.as_bytes()));
    if out.get(start..).is_some_and(is_plain) {
        out.push(b'"');
    } else {
        out.truncate(start.saturating_sub(1));
        write_string(&intent.url(query), out);
    }
}

/// Appends an address. Those of the fourth version, in every record, without the machinery.
pub(super) fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(address) = address else {
        // A vector takes every byte.
        return drop(write!(out, "{address}"));
    };
    for (index, byte) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        write_digits(byte.into(), 1, out);
    }
}

/// Appends several as a JSON array.
fn list<T>(all: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, one) in all.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(one, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Scheme;

    struct All;

    impl Fields for All {
        fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
            tell("text", "a\"\\\n\u{1b}\u{202e}grün".into());
            tell("number", u64::MAX.into());
            tell("none", 0.into());
            tell("time", Value::Time("2025-01-02T03:04:05.000000607Z".parse().unwrap()));
            tell("id", Value::Id(Uuid::from_u128(0xe5f6_a7b8_c9d0_4e1f_8a2b_3c4d_5e6f_7a8b)));
            tell("address", Value::Address("2001:db8::1".parse().unwrap()));
            tell("fourth", Value::Address("198.18.0.255".parse().unwrap()));
            tell("texts", Value::Texts(&[]));
        }
    }

    struct Nothing;

    impl Fields for Nothing {
        fn fields<'a>(&'a self, _: &mut dyn FnMut(&'static str, Value<'a>)) {}
    }

    #[test]
    fn every_kind_of_value_is_json_that_prints() {
        let mut out = Vec::new();
        write_object(&All, &mut Kept::default(), &mut out);
        let expected = concat!(
            r#"{"text":"a\"\\\n\u001b\u202egrün","number":18446744073709551615,"none":0,"#,
            r#""time":"2025-01-02T03:04:05.000000607Z","#,
            r#""id":"e5f6a7b8-c9d0-4e1f-8a2b-3c4d5e6f7a8b","address":"2001:db8::1","fourth":"198.18.0.255","#,
            r#""texts":[]}"#,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_has_no_fields_is_an_empty_object() {
        let mut out = Vec::new();
        write_object(&Nothing, &mut Kept::default(), &mut out);
        assert_eq!(out, b"{}");
    }

    #[test]
    fn a_url_is_json_that_prints() {
        let url = |host: &str, port, target: &str, query| {
            let host = crate::rules::Host::parse(host).unwrap();
            let intent = Intent::http(Scheme::Http, "GET", host, port, target).unwrap();
            let (mut out, mut same) = (Vec::new(), Vec::new());
            Value::Url(&intent, query).write(&mut out);
            write_string(&intent.url(query), &mut same);
            assert_eq!(out, same);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(url("a.test", 80, "/b?c=1", true), r#""http://a.test/b?c=1""#);
        assert_eq!(url("::1", 81, "/b?c=1", false), r#""http://[::1]:81/b""#);
        let quoted = url("a.test", 80, "/b?c=\"\\", true);
        assert_eq!(quoted, r#""http://a.test/b?c=\"\\""#);
    }

    #[test]
    fn parents_are_objects_in_their_order() {
        let parents = ["sh", "a b"].map(|comm| Parent { pid: 7, comm: comm.to_owned() });
        let mut out = Vec::new();
        Value::Parents(&parents).write(&mut out);
        assert_eq!(out, br#"[{"pid":7,"comm":"sh"},{"pid":7,"comm":"a b"}]"#);
    }
}
