//! Answers that the short way brings back: those whose end is known and that mean nothing special.
//!
//! *Standing*: the parser is the one that the long way's library uses, so that both take and refuse the
//! same. *Never*: lets a field pass that is between two neighbours.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};

use super::Odd;
use super::request::field;
use crate::proxy::framing::{Chunks, decimal};
use crate::proxy::limits::Limits;

/// The most fields that are read here; the limit's default.
const MOST_FIELDS: usize = 100;

/// The head of a plain answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// How many bytes it has, as it came.
    pub(super) length: usize,
    /// As it goes on, but for the empty line at the end.
    pub(super) said: Vec<u8>,
    /// What follows.
    pub(super) body: Body,
    /// Whether the upstream ends the connection after it.
    pub(super) is_last: bool,
}

/// What is still to come of an answer.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, to the last.
    Chunked(Chunks),
}

impl Body {
    /// How many of these bytes belong to it, and how many of those are content. None when they cannot
    /// be a body.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Option<(usize, u64)> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left = left.saturating_sub(here as u64);
                Some((here, here as u64))
            }
            Self::Chunked(chunks) => {
                let before = chunks.carried();
                let here = chunks.advance(bytes).ok()?;
                Some((here, chunks.carried().saturating_sub(before)))
            }
        }
    }

    /// How many bytes may be read without reading what lies behind it.
    pub(super) fn at_most(&self, room: usize) -> usize {
        match self {
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(room),
            Self::Chunked(_) => room,
        }
    }

    /// Whether all of it has come.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_over(),
        }
    }
}

/// Reads the head of the answer to a request, which may have been one for a head alone; nothing while
/// it is not whole.
pub(super) fn read(bytes: &[u8], is_head: bool, limits: &Limits) -> Result<Option<Answer>, Odd> {
    let mut fields = [MaybeUninit::<Header<'_>>::uninit(); MOST_FIELDS];
    let mut response = Response::new(&mut []);
    let parser = ParserConfig::default();
    let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    match parsed {
        Ok(Status::Complete(length)) if length <= limits.head_bytes => {
            plain(&response, length, is_head, limits).map(Some).ok_or(Odd)
        }
        Ok(Status::Partial) if bytes.len() <= limits.head_bytes => Ok(None),
        Ok(_) | Err(_) => Err(Odd),
    }
}

/// The answer, if nothing of it is odd.
fn plain(
    response: &Response<'_, '_>,
    length: usize,
    is_head: bool,
    limits: &Limits,
) -> Option<Answer> {
    let (status, reason) = (response.code.filter(|code| *code >= 200)?, response.reason?);
    if response.version != Some(1) || response.headers.len() > limits.headers {
        return None;
    }
    let mut said = Vec::with_capacity(length + 32);
    said.extend_from_slice(b"HTTP/1.1 ");
    said.extend_from_slice(status.to_string().as_bytes());
    said.push(b' ');
    said.extend_from_slice(reason.as_bytes());
    said.extend_from_slice(b"\r\n");
    let mut fields = Fields { said, ..Fields::default() };
    for one in response.headers.iter() {
        fields.take(one)?;
    }
    let body = match (fields.length, fields.is_chunked) {
        (Some(_), true) => return None,
        (None, false) if status == 204 => Body::Length(0),
        // Its end is said by nothing but the connection's.
        (None, false) if !is_head && status != 304 => return None,
        _ if status == 204 => return None,
        _ if is_head || status == 304 => Body::Length(0),
        (None, _) => Body::Chunked(Chunks::of_answer(limits.headers)),
        (Some(length), false) => Body::Length(length),
    };
    let Fields { said, is_last, .. } = fields;
    Some(Answer { status, length, said, body, is_last })
}

/// The fields of a head, taken one by one.
#[derive(Debug, Default)]
struct Fields {
    said: Vec<u8>,
    length: Option<u64>,
    is_chunked: bool,
    is_last: bool,
}

impl Fields {
    /// Takes one field. None if it is odd.
    fn take(&mut self, Header { name, value }: &Header<'_>) -> Option<()> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            14 if is("content-length") => {
                let length = decimal(value).filter(|_| self.length.is_none());
                self.length = Some(length?);
            }
            17 if is("transfer-encoding") => {
                let is_known = !self.is_chunked && value.eq_ignore_ascii_case(b"chunked");
                self.is_chunked = is_known.then_some(true)?;
            }
            10 if is("connection") => {
                let is_close = value.eq_ignore_ascii_case(b"close");
                self.is_last |= is_close;
                return (is_close || value.eq_ignore_ascii_case(b"keep-alive")).then_some(());
            }
            10 if is("keep-alive") => return Some(()),
            2 if is("te") => return None,
            // What it announces is no more than a word where nothing comes in chunks.
            7 if is("upgrade") || is("trailer") => return None,
            14 if is("http2-settings") => return None,
            6.. if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("proxy-")) => {
                return None;
            }
            _ => {}
        }
        field(&mut self.said, name.as_bytes(), value);
        Some(())
    }
}
