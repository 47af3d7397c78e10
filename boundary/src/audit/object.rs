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
use super::line::{write_digits, write_string, write_time};

/// What a field says.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    /// Text.
    Text(Cow<'a, str>),
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
}

/// Appends something as a JSON object.
pub(super) fn write_object(of: &impl Fields, out: &mut Vec<u8>) {
    let mut before = b'{';
    of.fields(&mut |name, value| {
        out.push(before);
        before = b',';
        out.push(b'"');
        // Names are ours, and plain.
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        value.write(out);
    });
    if before == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

impl Value<'_> {
    /// Appends it as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_string(text, out),
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
            // A vector takes every byte.
            Self::Address(address) => drop(write!(out, "\"{address}\"")),
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

    struct All;

    impl Fields for All {
        fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
            tell("text", "a\"\\\n\u{1b}\u{202e}grün".into());
            tell("number", u64::MAX.into());
            tell("none", 0.into());
            tell("time", Value::Time("2025-01-02T03:04:05.000000607Z".parse().unwrap()));
            tell("id", Value::Id(Uuid::from_u128(0xe5f6_a7b8_c9d0_4e1f_8a2b_3c4d_5e6f_7a8b)));
            tell("address", Value::Address("2001:db8::1".parse().unwrap()));
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
        write_object(&All, &mut out);
        let expected = concat!(
            r#"{"text":"a\"\\\n\u001b\u202egrün","number":18446744073709551615,"none":0,"#,
            r#""time":"2025-01-02T03:04:05.000000607Z","#,
            r#""id":"e5f6a7b8-c9d0-4e1f-8a2b-3c4d5e6f7a8b","address":"2001:db8::1","texts":[]}"#,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_has_no_fields_is_an_empty_object() {
        let mut out = Vec::new();
        write_object(&Nothing, &mut out);
        assert_eq!(out, b"{}");
    }

    #[test]
    fn parents_are_objects_in_their_order() {
        let parents = ["sh", "a b"].map(|comm| Parent { pid: 7, comm: comm.to_owned() });
        let mut out = Vec::new();
        Value::Parents(&parents).write(&mut out);
        assert_eq!(out, br#"[{"pid":7,"comm":"sh"},{"pid":7,"comm":"a b"}]"#);
    }
}
