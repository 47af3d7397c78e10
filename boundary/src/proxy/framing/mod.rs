//! Where an HTTP/1 request ends: strict, so that no two readers can differ.
//!
//! *Standing*: [`super::heads`] asks for every head and follows every chunk. *Never*: repairs. A
//! head that RFC 9112 lets a server read in two ways is a [`Fault`].

use super::Limits;
use super::peek::is_token;
use crate::rules::Code;

/// The longest line that gives a chunk's size in a request.
const LONGEST_SIZE_LINE: usize = 1024;
/// The same in an answer.
const LONGEST_SIZE_LINE_OF_ANSWER: usize = 16 * 1024;
/// The most bytes of trailers.
const MOST_TRAILERS: usize = 16 * 1024;

/// Why a connection's next request is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A line or a field that is not well formed.
    Malformed,
    /// The length of the body is said in two ways, or in none that is clear.
    Framing,
    /// The head is too long.
    TooLong,
    /// The head has too many fields.
    TooMany,
    /// The first line is too long.
    TargetTooLong,
    /// The head did not come in time.
    Late,
    /// The body stood still for too long.
    Stalled,
    /// The client left in the middle of the head, or of the body.
    Cut,
}

impl Fault {
    /// The code on record, and in the answer.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Malformed | Self::Framing | Self::Cut => Code::BadRequest,
            Self::TooLong | Self::TooMany | Self::TargetTooLong | Self::Late | Self::Stalled => {
                Code::OverLimit
            }
        }
    }
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, to the last.
    Chunked,
    /// Perhaps no HTTP follows: the request asks for a tunnel or an upgrade.
    Switch,
}

/// A line of a head, as it was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// The first line.
    Line {
        /// As it was sent, whatever the case.
        method: &'a [u8],
        /// What is asked for, in whichever form.
        target: &'a [u8],
        /// Not version 1.1.
        is_http_1_0: bool,
    },
    /// A field.
    Field {
        /// In the case it was sent in.
        name: &'a [u8],
        /// Without the space around it.
        value: &'a [u8],
    },
}

/// The length and framing of the head that the bytes begin with; `None` while it is not whole. Every line is
/// told on the way, also of a head that turns out not to be whole.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    limits: &Limits,
    mut tell: impl FnMut(Said<'a>),
) -> Result<Option<(usize, Framing)>, Fault> {
    // One empty line before a request is forgiven (RFC 9112 §2.2).
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let mut at = skipped;
    let mut fields = Fields::default();
    let mut first = None;
    loop {
        if at > limits.head_bytes {
            return Err(Fault::TooLong);
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let line = rest.iter().position(|byte| *byte == b'\n');
        if first.is_none() && line.unwrap_or(rest.len()) > limits.target_bytes {
            return Err(Fault::TargetTooLong);
        }
        let Some(length) = line else {
            let over = bytes.len() > limits.head_bytes;
            return if over { Err(Fault::TooLong) } else { Ok(None) };
        };
        at += length + 1;
        let line = rest.get(..length).and_then(|line| line.strip_suffix(b"\r"));
        let line = line.filter(|line| !line.contains(&b'\r')).ok_or(Fault::Malformed)?;
        match (first, line) {
            (None, line) => first = Some(request_line(line, &mut tell)?),
            (Some(start), []) => return Ok(Some((at, fields.framing(start)?))),
            (Some(_), line) => fields.add(line, limits.headers, &mut tell)?,
        }
    }
}

impl Said<'_> {
    /// Whether the parser behind knows it as well: of a target it refuses some visible bytes, `"` in a query for
    /// one. A tunnel's is no URL.
    pub(super) fn is_sayable(&self) -> bool {
        match self {
            Self::Line { method, target, .. } => {
                *method == b"CONNECT" || hyper::Uri::try_from(*target).is_ok()
            }
            Self::Field { .. } => true,
        }
    }
}

/// Method and target of the head that the bytes begin with, whole or not, as far as its first line is
/// well formed. Of one that is too long, the beginning.
pub(super) fn asked(bytes: &[u8], limits: &Limits) -> Option<(String, String)> {
    let mut asked = None;
    let read = read(bytes, limits, |said| {
        if let Said::Line { method, target, .. } = said {
            asked = Some((method, target));
        }
    });
    if read == Err(Fault::TargetTooLong) {
        let line = bytes.get(..limits.target_bytes)?;
        let mut words = line.trim_ascii_start().split(|byte| *byte == b' ');
        let words = words.next().zip(words.next());
        asked = words.filter(|(method, target)| is_method(method) && is_visible(target));
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    asked.and_then(|(method, target)| Some((text(method)?, text(target)?)))
}

/// What a request line says about framing.
#[derive(Debug, Clone, Copy)]
struct Start {
    is_connect: bool,
    is_http_1_0: bool,
}

/// Method, one space, target, one space, version.
fn request_line<'a>(line: &'a [u8], tell: &mut impl FnMut(Said<'a>)) -> Result<Start, Fault> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::Malformed);
    };
    if !is_method(method) || !is_visible(target) {
        return Err(Fault::Malformed);
    }
    let is_http_1_0 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Fault::Malformed),
    };
    tell(Said::Line { method, target, is_http_1_0 });
    Ok(Start { is_connect: method.eq_ignore_ascii_case(b"CONNECT"), is_http_1_0 })
}

/// Whether something may be a method.
fn is_method(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token)
}

/// Whether something may be a target.
fn is_visible(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic)
}

/// The fields of a head that say how long its body is.
#[derive(Debug, Default)]
struct Fields {
    count: usize,
    length: Option<u64>,
    is_chunked: bool,
    has_upgrade: bool,
}

impl Fields {
    /// Reads one field line.
    fn add<'a>(
        &mut self,
        line: &'a [u8],
        most: usize,
        tell: &mut impl FnMut(Said<'a>),
    ) -> Result<(), Fault> {
        self.count += 1;
        if self.count > most {
            return Err(Fault::TooMany);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Fault::Malformed)?;
        let (name, value) = line.split_at_checked(colon).ok_or(Fault::Malformed)?;
        let value = trimmed(value.get(1..).unwrap_or_default());
        // A folded line begins with a space, which is no token: obs-fold is refused here too.
        if name.is_empty() || !name.iter().copied().all(is_token) || !is_field_value(value) {
            return Err(Fault::Malformed);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value).filter(|_| self.length.is_none());
            self.length = Some(length.ok_or(Fault::Framing)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Framing);
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.has_upgrade = true;
        }
        tell(Said::Field { name, value });
        Ok(())
    }

    /// What they say together.
    fn framing(&self, start: Start) -> Result<Framing, Fault> {
        let is_body_said_twice = self.is_chunked && self.length.is_some();
        let is_tunnel_with_body = start.is_connect && (self.is_chunked || self.length > Some(0));
        if is_body_said_twice || is_tunnel_with_body || (self.is_chunked && start.is_http_1_0) {
            return Err(Fault::Framing);
        }
        Ok(match self.length {
            _ if self.is_chunked => Framing::Chunked,
            Some(length @ 1..) => Framing::Length(length),
            _ if start.is_connect || self.has_upgrade => Framing::Switch,
            _ => Framing::Length(0),
        })
    }
}

/// A field's value without the spaces and tabs around it, and nothing else: what more the language
/// calls white space, no server does (RFC 9110 §5.6.3).
fn trimmed(value: &[u8]) -> &[u8] {
    let is_kept = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let (start, end) = (value.iter().position(is_kept), value.iter().rposition(is_kept));
    start.zip(end).and_then(|(start, end)| value.get(start..=end)).unwrap_or_default()
}

/// RFC 9110 §5.5: no control but a tab.
fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t')
}

/// Decimal digits alone: no sign, no list, no overflow.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Follows a chunked body to its end.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of the line or of the trailers so far.
    line: usize,
    /// How many fields the trailers may still have.
    fields: usize,
    /// Bytes of data so far.
    carried: u64,
    /// An answer's: what the parser of the long way forgives its upstream is forgiven here too. Nobody
    /// judges what lies behind it.
    is_answer: bool,
}

/// What the next byte of a chunked body belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    Begin,
    /// A size, of which so much is known.
    Size(u64),
    /// White space behind a size (RFC 9112 §7.1.1).
    Blank(u64),
    /// An extension of the size.
    Extension(u64),
    /// The LF after a size.
    SizeEnd(u64),
    /// So many bytes of data.
    Data(u64),
    /// The CR after data.
    DataCr,
    /// The LF after data.
    DataEnd,
    /// The beginning of a trailer, or of the end.
    Trailer,
    /// The name of a trailer's field.
    TrailerName,
    /// A trailer's rest.
    TrailerRest,
    /// The LF after a trailer.
    TrailerEnd,
    /// The last LF.
    LastEnd,
    /// Behind the body.
    Over,
}

impl Chunks {
    /// A request's body that has not begun, with so many fields behind it at the most.
    pub(super) fn new(most_fields: usize) -> Self {
        Self { at: At::Begin, line: 0, fields: most_fields, carried: 0, is_answer: false }
    }

    /// The same of an answer.
    pub(super) fn of_answer(most_fields: usize) -> Self {
        Self { is_answer: true, ..Self::new(most_fields) }
    }

    /// Whether the body is over.
    pub(super) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// How many bytes of data there were so far.
    pub(super) fn carried(&self) -> u64 {
        self.carried
    }

    /// How many of the bytes belong to the body.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(byte) = bytes.get(used).filter(|_| !self.is_over()) {
            let data = if let At::Data(left) = self.at { left } else { 0 };
            let here = (bytes.len() - used).min(usize::try_from(data).unwrap_or(usize::MAX)).max(1);
            self.at = match data.checked_sub(here as u64) {
                None => self.step(*byte)?,
                Some(0) => At::DataCr,
                Some(left) => At::Data(left),
            };
            self.carried += if data > 0 { here as u64 } else { 0 };
            used += here;
        }
        Ok(used)
    }

    /// One byte outside the data.
    fn step(&mut self, byte: u8) -> Result<At, Fault> {
        self.line += 1;
        let in_trailers = matches!(
            self.at,
            At::Trailer | At::TrailerName | At::TrailerRest | At::TrailerEnd | At::LastEnd
        );
        let longest = match self.is_answer {
            _ if in_trailers => MOST_TRAILERS,
            true => LONGEST_SIZE_LINE_OF_ANSWER,
            false => LONGEST_SIZE_LINE,
        };
        if self.line > longest {
            return Err(Fault::TooLong);
        }
        let next = match (self.at, byte) {
            (At::Begin, digit) => At::Size(hex(digit).ok_or(Fault::Framing)?),
            (At::Size(size) | At::Blank(size) | At::Extension(size), b'\r') => At::SizeEnd(size),
            (At::Size(size) | At::Blank(size), b' ' | b'\t') if self.is_answer => At::Blank(size),
            (At::Size(size), digit @ (b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')) => {
                let digit = hex(digit).ok_or(Fault::Framing)?;
                At::Size(size.checked_mul(16).ok_or(Fault::Framing)? | digit)
            }
            (At::Size(size) | At::Blank(size), b';')
            | (At::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => At::Extension(size),
            (At::SizeEnd(0) | At::TrailerEnd, b'\n') => At::Trailer,
            (At::SizeEnd(size), b'\n') => At::Data(size),
            (At::DataCr, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Begin,
            (At::Trailer, b'\r') => At::LastEnd,
            (At::Trailer | At::TrailerName, letter) if is_token(letter) => At::TrailerName,
            (At::TrailerRest, b'\r') => At::TrailerEnd,
            (At::TrailerName, b':') | (At::TrailerRest, b'\t' | b' '..=b'~' | 0x80..) => {
                At::TrailerRest
            }
            (At::LastEnd, b'\n') => At::Over,
            _ => return Err(Fault::Framing),
        };
        if next == At::Begin {
            self.line = 0;
        } else if next == At::TrailerEnd {
            self.fields = self.fields.checked_sub(1).ok_or(Fault::TooMany)?;
        }
        Ok(next)
    }
}

/// A hexadecimal digit's value.
fn hex(digit: u8) -> Option<u64> {
    char::from(digit).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests;
