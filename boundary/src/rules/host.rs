//! Hosts: one spelling for every way of writing a name or an address.
//!
//! *Standing*: whoever reads a host from the wire or from a rule reads it here, so that both sides
//! of a comparison were made by the same hand. *Never*: resolves a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use super::{Unclear, address};

/// A host in its one spelling: a name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name.
    Name(Name),
    /// An IP literal, v4-mapped v6 already unwrapped to v4.
    Address(IpAddr),
}

/// A DNS name in its one spelling: A-labels, lower case, no trailing dot. Made by
/// [`Host::parse`] alone, so that holding one proves the spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

impl Host {
    /// Reads a host as it stands in a URL, a `Host` header, a CONNECT authority or an SNI (no port).
    ///
    /// An address may be written in any spelling that `inet_aton` or a browser reads as one
    /// (`0x7f.1`, `0177.0.0.1`, `2130706433`), v6 with or without brackets. A name whose last
    /// label is a number but which is no address is refused, since resolvers disagree about it.
    /// Zone ids, userinfo, spaces, NUL and everything else outside letters, digits, hyphen, dot and
    /// underscore are refused.
    pub fn parse(text: &str) -> Result<Self, Unclear> {
        if let Some(rest) = text.strip_prefix('[') {
            return rest.strip_suffix(']').and_then(v6).ok_or(Unclear::Host);
        }
        if text.contains(':') {
            return v6(text).ok_or(Unclear::Host);
        }
        let name = ascii(text)?;
        if ends_in_number(&name) {
            return v4(&name).map(|v4| Self::Address(v4.into())).ok_or(Unclear::Host);
        }
        Ok(Self::Name(Name(name)))
    }

    /// Reads an authority, `host` or `host:port`, v6 in brackets only. A port is 1 to 65535 and
    /// nothing else; a userinfo is refused.
    pub fn parse_authority(text: &str) -> Result<(Self, Option<u16>), Unclear> {
        let end = if text.starts_with('[') {
            text.find(']').ok_or(Unclear::Host)?.saturating_add(1)
        } else {
            text.find(':').unwrap_or(text.len())
        };
        let (host, rest) = text.split_at_checked(end).ok_or(Unclear::Host)?;
        let port = match rest.strip_prefix(':') {
            Some("") => None,
            Some(digits) => Some(port(digits).ok_or(Unclear::Host)?),
            None if rest.is_empty() => None,
            None => return Err(Unclear::Host),
        };
        Ok((Self::parse(host)?, port))
    }

    /// The host without brackets: as an SNI, a certificate or a resolver wants it.
    pub fn bare(&self) -> String {
        match self {
            Self::Name(name) => name.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }

    /// Whether only a rule that names this very host may grant it: addresses of the machine itself
    /// and of its link, and `localhost`. Whoever writes `domain=*` means the world, not these.
    pub fn is_guarded(&self) -> bool {
        match self {
            Self::Name(name) => name.is_localhost(),
            Self::Address(address) => address::is_guarded(*address),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

/// As it stands in an authority: v6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(v4)) => v4.fmt(f),
            Self::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

impl Name {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is `localhost` or lies below it.
    pub(super) fn is_localhost(&self) -> bool {
        &*self.0 == "localhost" || is_below(&self.0, "localhost")
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a name lies below another: `a.b` below `b`, but neither `b` nor `ab`.
pub(super) fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

/// A port: decimal digits, 1 to 65535. `str::parse` alone would take `+80`.
pub(super) fn port(digits: &str) -> Option<u16> {
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}

fn v6(text: &str) -> Option<Host> {
    text.parse::<Ipv6Addr>().ok().map(|v6| Host::from(IpAddr::V6(v6)))
}

/// The name in A-labels as UTS 46 reads it, without the root's dot.
fn ascii(text: &str) -> Result<Box<str>, Unclear> {
    let name = Uts46::new()
        .to_ascii(
            text.as_bytes(),
            // Denied below by what is allowed instead, after the mapping: U+FF0F becomes `/`.
            AsciiDenyList::EMPTY,
            // Names with hyphens in the third and fourth place are in use (`r3---sn-x.example`).
            Hyphens::CheckFirstLast,
            DnsLength::VerifyAllowRootDot,
        )
        .ok()
        .ok_or(Unclear::Host)?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(Unclear::Host);
    }
    Ok(name.into())
}

/// Whether the last label is a number, decimal or hexadecimal: then the whole is an address or
/// nothing (<https://url.spec.whatwg.org/#ends-in-a-number-checker>).
pub(super) fn ends_in_number(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| {
        last.bytes().all(|byte| byte.is_ascii_digit())
            || last
                .strip_prefix("0x")
                .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// One to four numbers, the last of which fills what the others leave.
fn v4(name: &str) -> Option<Ipv4Addr> {
    let (front, last) =
        name.rsplit_once('.').map_or((None, name), |(front, last)| (Some(front), last));
    let mut bits: u32 = 0;
    let mut room: u32 = 32;
    for part in front.into_iter().flat_map(|front| front.split('.')) {
        room = room.checked_sub(8).filter(|room| *room > 0)?;
        let octet = u8::try_from(number(part)?).ok()?;
        bits |= u32::from(octet).checked_shl(room)?;
    }
    let last = number(last)?;
    if last.checked_shr(room).unwrap_or(0) != 0 {
        return None;
    }
    Some(Ipv4Addr::from_bits(bits | last))
}

/// A number as `inet_aton` reads it: `0x` hexadecimal, leading `0` octal, else decimal.
fn number(part: &str) -> Option<u32> {
    let (digits, radix) = match (part.strip_prefix("0x"), part.strip_prefix('0')) {
        (Some(""), _) => return Some(0),
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        (None, _) => (part, 10),
    };
    let all = digits.bytes().all(|byte| char::from(byte).is_digit(radix));
    all.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}
