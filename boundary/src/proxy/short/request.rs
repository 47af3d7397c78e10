//! Requests that the short way takes: those of which every field is known to mean nothing special.
//!
//! *Standing*: reads through the same strict front as the long way, [`framing`]. *Never*: judges; the
//! text that goes upstream is put together once there is a permit, from its intent.

use super::Odd;
use crate::proxy::framing::{self, Framing, Said};
use crate::proxy::identity::Override;
use crate::proxy::limits::Limits;
use crate::rules::Intent;

/// Room for what is written beside the fields.
const LINE: usize = 128;

/// A plain request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// The method as it was sent.
    pub(super) method: &'a str,
    /// The path and query as they were sent.
    pub(super) target: &'a str,
    /// What the `Host` field says.
    pub(super) host: &'a str,
    /// How long it is, its body included.
    pub(super) length: usize,
    /// The body, all of it.
    pub(super) body: &'a [u8],
    /// Whether the client wants no more after it.
    pub(super) is_last: bool,
    /// The fields that go on.
    fields: Fields<'a>,
}

/// The most of a body that is waited for. It is held meanwhile.
const MOST_AWAITED: usize = 16 * 1024;

/// What bytes begin with.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// A part of a head.
    Head,
    /// A plain head, whose body is not all there: together they are so long.
    Body(usize),
    /// A plain request.
    Whole(Request<'a>),
}

/// Reads a request, body included.
pub(super) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Read<'a>, Odd> {
    let mut fields = Fields { text: Vec::with_capacity(bytes.len()), ..Fields::default() };
    match framing::read(bytes, limits, |said| fields.take(said)) {
        Ok(None) => Ok(Read::Head),
        Ok(Some((head, Framing::Length(body)))) => {
            let body = usize::try_from(body).ok().ok_or(Odd)?;
            let length = head.checked_add(body).ok_or(Odd)?;
            if length <= bytes.len() {
                return plain(bytes, (head, length), fields).map(Read::Whole).ok_or(Odd);
            }
            let is_awaited = body <= MOST_AWAITED && !fields.is_odd;
            if is_awaited { Ok(Read::Body(length)) } else { Err(Odd) }
        }
        Ok(Some((_, Framing::Chunked | Framing::Switch))) | Err(_) => Err(Odd),
    }
}

/// The request, if nothing of it is odd.
fn plain<'a>(
    bytes: &'a [u8],
    (head, length): (usize, usize),
    fields: Fields<'a>,
) -> Option<Request<'a>> {
    let (method, target) = fields.line.filter(|_| !fields.is_odd)?;
    // A host in other letters has several spellings; here it has one.
    let (host, _) = fields.host.filter(|(host, _)| host.iter().all(u8::is_ascii_graphic))?;
    Some(Request {
        method: str::from_utf8(method).ok()?,
        target: str::from_utf8(target).ok()?,
        host: str::from_utf8(host).ok()?,
        length,
        body: bytes.get(head..length)?,
        is_last: fields.is_last,
        fields,
    })
}

impl Request<'_> {
    /// The bytes that go upstream: the intent's method, target and host, and the fields.
    pub(super) fn said(&self, intent: &Intent) -> Option<Vec<u8>> {
        let Fields { text, host, host_name, .. } = &self.fields;
        let (before, after) = text.split_at_checked(host.as_ref()?.1)?;
        let mut said =
            Vec::with_capacity(LINE + intent_length(intent) + text.len() + self.body.len());
        said.extend_from_slice(intent.method()?.as_str().as_bytes());
        said.push(b' ');
        said.extend_from_slice(intent.path()?.as_bytes());
        if let Some(query) = intent.query() {
            said.push(b'?');
            said.extend_from_slice(query.as_bytes());
        }
        said.extend_from_slice(b" HTTP/1.1\r\n");
        said.extend_from_slice(before);
        field(&mut said, host_name, intent.authority().as_bytes());
        said.extend_from_slice(after);
        said.extend_from_slice(b"\r\n");
        said.extend_from_slice(self.body);
        Some(said)
    }
}

/// About how much of a request an intent is.
fn intent_length(intent: &Intent) -> usize {
    intent.path().map_or(0, str::len) + intent.query().map_or(0, str::len)
}

/// Writes one field.
pub(super) fn field(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    to.extend_from_slice(name);
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

/// The lines of a head, taken one by one.
#[derive(Debug, Default)]
struct Fields<'a> {
    line: Option<(&'a [u8], &'a [u8])>,
    /// What the `Host` field says, and where in the text it stands.
    host: Option<(&'a [u8], usize)>,
    /// The name of that field in its own case.
    host_name: &'a [u8],
    /// The other fields as they go on.
    text: Vec<u8>,
    is_last: bool,
    /// Something means something special.
    is_odd: bool,
}

impl<'a> Fields<'a> {
    /// Takes one line.
    fn take(&mut self, said: Said<'a>) {
        match said {
            Said::Line { method, target, is_http_1_0 } => {
                let is_path = target.first() == Some(&b'/');
                let is_usual = target.iter().copied().all(is_usual);
                // In other letters the client may not take the answer for what it is: one to
                // `head` has no body, though its length is said.
                let is_shouted = !method.iter().any(u8::is_ascii_lowercase);
                self.is_odd |= is_http_1_0 || !is_path || !is_usual;
                self.is_odd |= !is_shouted || method == b"CONNECT";
                self.line = Some((method, target));
            }
            Said::Field { name, value } => self.field(name, value),
        }
    }

    /// Takes one field.
    fn field(&mut self, name: &'a [u8], value: &'a [u8]) {
        match Meaning::of(name) {
            Meaning::None => field(&mut self.text, name, value),
            Meaning::Host => {
                self.is_odd |= self.host.is_some();
                self.host = Some((value, self.text.len()));
                self.host_name = name;
            }
            Meaning::Connection if value.eq_ignore_ascii_case(b"close") => self.is_last = true,
            Meaning::Connection if value.eq_ignore_ascii_case(b"keep-alive") => {}
            Meaning::Connection | Meaning::Special => self.is_odd = true,
        }
    }
}

/// What a field means to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nothing: it is for the other end.
    None,
    /// Which host is meant.
    Host,
    /// What becomes of the connection.
    Connection,
    /// Something that the long way knows.
    Special,
}

impl Meaning {
    /// The meaning of a field. The length of the name tells most of them apart.
    fn of(name: &[u8]) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            4 if is("host") => Self::Host,
            10 if is("connection") => Self::Connection,
            2 if is("te") => Self::Special,
            6 if is("expect") => Self::Special,
            7 if is("upgrade") || is("trailer") => Self::Special,
            10 if is("keep-alive") => Self::Special,
            14 if is("http2-settings") => Self::Special,
            17 if is("transfer-encoding") => Self::Special,
            6.. if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-")) => {
                Self::Special
            }
            _ if Override::of(name).is_some() => Self::Special,
            _ => Self::None,
        }
    }
}

/// Whether a byte of a request target is one that every parser takes for itself (RFC 3986 §3.3), or one that
/// clients send all the same and that stands for nothing else. The parser of the long way does not know all of
/// those.
fn is_usual(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-_.~?=&%+,:;@!$'()*[]{}|^\"<>`".contains(&byte)
}

/// Puts a byte that every parser knows in the place of each that the long way's does not know of the target
/// that the bytes begin with. Only for a request that was understood: what it asks for is in its permit, and
/// the long way sends that.
pub(super) fn smooth(bytes: &mut [u8]) {
    let line = bytes.iter_mut().skip_while(|byte| byte.is_ascii_control());
    let line = line.take_while(|byte| **byte != b'\r');
    // A method may be spelled with one of them.
    let target = line.skip_while(|byte| **byte != b' ');
    target.filter(|byte| b"\"<>`".contains(byte)).for_each(|byte| *byte = b'_');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a POST that announces so much, when so much of the body is there.
    fn post(announced: usize, there: usize) -> Result<usize, Odd> {
        let head =
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {announced}\r\n\r\n");
        let bytes = [head.as_bytes(), &vec![b'x'; there]].concat();
        match read(&bytes, &Limits::default())? {
            Read::Head => panic!("the head is there"),
            Read::Body(length) => {
                assert_eq!(length, head.len() + announced);
                Ok(0)
            }
            Read::Whole(request) => Ok(request.body.len()),
        }
    }

    #[test]
    fn a_body_that_is_not_too_large_is_waited_for() {
        assert_eq!(post(0, 0).unwrap(), 0);
        assert_eq!(post(5, 0).unwrap(), 0);
        assert_eq!(post(5, 4).unwrap(), 0);
        assert_eq!(post(5, 5).unwrap(), 5);
        assert_eq!(post(5, 9).unwrap(), 5, "what is behind it is the next request");
        assert_eq!(post(MOST_AWAITED, 0).unwrap(), 0);
        assert!(post(MOST_AWAITED + 1, 0).is_err());
        assert_eq!(post(MOST_AWAITED + 1, MOST_AWAITED + 1).unwrap(), MOST_AWAITED + 1);
        assert!(post(usize::MAX, 0).is_err());
    }

    #[test]
    fn every_parser_takes_a_smoothed_target_and_nothing_else_is_touched() {
        let fields = " HTTP/1.1\r\nHost: a.test\r\nX: \"<`>\"\r\n\r\n\"<>";
        let mut bytes = format!("\r\nGET` /`<a>?q=\"b\"{fields}").into_bytes();
        smooth(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("\r\nGET` /__a_?q=_b_{fields}"));
        let usual: String = (0x21..0x7f).filter(|byte| is_usual(*byte)).map(char::from).collect();
        let mut line = format!("GET /{0}?{0} HTTP/1.1\r\n", usual.replace('?', "")).into_bytes();
        smooth(&mut line);
        let target = line.split(|byte| *byte == b' ').nth(1).unwrap();
        assert!(hyper::Uri::try_from(target).is_ok());
    }
}
