//! Paths: one spelling, and no path that changes its meaning on the way.
//!
//! *Standing*: a request's path and a rule's pattern go through the same functions.
//! What comes out is what is matched and what is sent.

use super::Unclear;

/// How often a segment may be decoded before it is refused whatever is inside.
const LAYERS: usize = 8;

/// Brings a path to its one spelling.
///
/// - Dot segments are resolved, however their dots are written.
/// - An empty segment stays (`//`), a separator inside a segment stays encoded (`%2F`).
/// - Escapes of unreserved characters are decoded, the others are written in upper case.
/// - Visible characters that no path may hold (`"<>[]^{|}` and the backtick) are encoded.
/// - Refused: what is not a path (control bytes, spaces, raw non-ASCII, a bare `%`, a fragment),
///   and what has two meanings, see [`write_segment`].
pub(super) fn canonical(path: &str) -> Result<Box<str>, Unclear> {
    let segments = path.strip_prefix('/').ok_or(Unclear::Target)?;
    let mut out = String::with_capacity(path.len());
    let mut ends_in_dots = false;
    for segment in segments.split('/') {
        let start = out.len();
        out.push('/');
        write_segment(segment, &mut out)?;
        let written = out.get(start..).unwrap_or_default();
        ends_in_dots = matches!(written, "/." | "/..");
        if ends_in_dots {
            let parent = written == "/..";
            out.truncate(start);
            if parent {
                out.truncate(out.rfind('/').unwrap_or(0));
            }
        }
    }
    if ends_in_dots {
        out.push('/');
    }
    Ok(out.into())
}

/// Writes one segment in its one spelling, or refuses it.
///
/// Refused as ambiguous is a segment in which a server behind could find another path:
/// - a raw backslash, which some read as `/`;
/// - a separator (`/`, `\`) that appears only when it is decoded twice (`%252F`);
/// - a dot segment between encoded separators or before a parameter (`..%2Fx`, `..%5Cx`, `..;x`),
///   or after decoding twice (`%252e%252e`);
/// - NUL, where some stop reading, and overlong UTF-8, which some read as dots and separators.
pub(super) fn write_segment(segment: &str, out: &mut String) -> Result<(), Unclear> {
    let start = out.len();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let escaped = escaped(&mut bytes).ok_or(Unclear::Target)?;
                if is_unreserved(escaped) {
                    out.push(char::from(escaped));
                } else {
                    push_escaped(escaped, out);
                }
            }
            b'\\' => return Err(Unclear::Path),
            byte if is_path_byte(byte) => out.push(char::from(byte)),
            b'#' | b'?' | ..=b' ' | 0x7f.. => return Err(Unclear::Target),
            byte => push_escaped(byte, out),
        }
    }
    let written = out.get(start..).unwrap_or_default();
    if written.contains(['%', ';']) && is_ambiguous(written.as_bytes()) {
        return Err(Unclear::Path);
    }
    Ok(())
}

/// Whether two canonical segments are the same to a rule.
///
/// `*`, `,`, `@` and `:` divide nothing inside a segment, but clients write them both ways, and
/// the first two cannot stand for themselves in a rule; so their escapes match them. The request
/// is sent as it came: a signature may cover the spelling.
pub(super) fn is_same_segment(rule: &str, request: &str) -> bool {
    rule == request
        || ((rule.contains('%') || request.contains('%')) && folded(rule).eq(folded(request)))
}

/// Appends `%XX`.
pub(super) fn push_escaped(byte: u8, out: &mut String) {
    out.push('%');
    for half in [byte >> 4, byte & 0xf] {
        let digit = char::from_digit(u32::from(half), 16);
        out.extend(digit.map(|digit| digit.to_ascii_uppercase()));
    }
}

/// The bytes of a segment with the escapes of [`is_same_segment`] undone.
fn folded(segment: &str) -> impl Iterator<Item = u8> {
    let mut bytes = segment.bytes();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        let mut ahead = bytes.clone();
        if byte == b'%'
            && let Some(plain @ (b'*' | b',' | b'@' | b':')) = escaped(&mut ahead)
        {
            bytes = ahead;
            return Some(plain);
        }
        Some(byte)
    })
}

/// Whether any reader, decoding once more than it should, finds another path in the segment.
fn is_ambiguous(segment: &[u8]) -> bool {
    // What is a trap undecoded is one decoded too, so the first layer is not looked at.
    let mut layer = decoded(segment);
    for _ in 1..LAYERS {
        if has_trap(&layer) || has_overlong(&layer) {
            return true;
        }
        let next = decoded(&layer);
        if next == layer {
            return false;
        }
        if separators(&next) != separators(&layer) {
            return true;
        }
        layer = next;
    }
    true
}

/// Whether a piece between separators is a dot segment, also before a parameter or beside blanks,
/// or a NUL ends it early.
fn has_trap(text: &[u8]) -> bool {
    text.contains(&0)
        || text.split(|byte| is_separator(*byte)).any(|piece| {
            let name = piece.split(|byte| *byte == b';').next().unwrap_or_default();
            // A whole segment of plain dots is resolved by `canonical`, never seen here.
            matches!(name.trim_ascii(), b"." | b"..")
        })
}

/// Whether there is UTF-8 that is longer than needed: the old way to smuggle `.` and `/`.
fn has_overlong(text: &[u8]) -> bool {
    text.windows(2).any(|pair| {
        matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
    })
}

fn separators(text: &[u8]) -> usize {
    text.iter().filter(|byte| is_separator(**byte)).count()
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Undoes every escape once; what is no escape stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        match (byte, escaped(&mut ahead)) {
            (b'%', Some(plain)) => {
                out.push(plain);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    out
}

/// The byte that the two hexadecimal digits ahead stand for.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What a segment may hold unescaped, RFC 3986 §3.3.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}
