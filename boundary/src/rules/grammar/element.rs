//! One element of a list: what it means, or what is wrong with it and what would be right.

use std::ops::RangeInclusive;

use super::super::pattern::{Domain, Path, Shape};
use super::super::{Host, Method, Unclear, host, path};
use super::{MethodPattern, Proto};

/// The keys, as a message lists them.
const KEYS: &str = "method, domain, host, path, port, proto";

/// An element of `method=`.
pub(super) fn method(text: &str) -> Result<MethodPattern, String> {
    if text == "*" {
        return Ok(MethodPattern::Any);
    }
    Method::parse(text)
        .map(MethodPattern::Exactly)
        .map_err(|_not_a_token| format!("`{text}` is not a method; write one like `GET`, or `*`"))
}

/// An element of `domain=`.
pub(super) fn domain(text: &str) -> Result<Domain, String> {
    if text == "*" {
        return Ok(Domain::Any);
    }
    if text.contains('*') {
        return wildcard(text);
    }
    if text.starts_with('[') || text.matches(':').count() > 1 {
        return Err(match Host::parse(text) {
            Ok(address) => format!("a v6 address goes into `host=`: write `host={address}`"),
            Err(_) => not_a_host("domain", text),
        });
    }
    match Host::parse(text) {
        Ok(Host::Name(name)) => Ok(Domain::Plain(name)),
        Ok(Host::Address(address)) => Ok(Domain::Address(address)),
        Err(_) => Err(not_a_host("domain", text)),
    }
}

/// An element of `host=`.
pub(super) fn host(text: &str) -> Result<Host, String> {
    if text.contains('*') {
        return Err("`host=` is exactly one host; a pattern goes into `domain=`".to_owned());
    }
    Host::parse(text).map_err(|_unclear| not_a_host("host", text))
}

/// A pattern with a wildcard label.
fn wildcard(text: &str) -> Result<Domain, String> {
    // The other full stops of UTS 46, so that a label is the same before and after the mapping.
    let text = text.replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".");
    let text = text.strip_suffix('.').unwrap_or(&text);
    let raw: Vec<&str> = text.split('.').collect();
    if raw.iter().any(|label| label.contains('*') && *label != "*") {
        return Err("`*` stands for a whole label; write `*.example.com`".to_owned());
    }
    if raw.last() == Some(&"*") {
        return Err("a pattern cannot end in `*` unless it is `*` alone".to_owned());
    }
    // Any label will do in place of the wildcards: it is the rest that is brought to its spelling.
    let filled: Vec<&str> =
        raw.iter().map(|label| if *label == "*" { "w" } else { label }).collect();
    let Ok(Host::Name(name)) = Host::parse(&filled.join(".")) else {
        return Err(if host::ends_in_number(text) {
            "an address has no subdomains; write the address itself".to_owned()
        } else {
            not_a_host("domain", text)
        });
    };
    let labels: Vec<Option<Box<str>>> = raw
        .iter()
        .zip(name.split('.'))
        .map(|(raw, label)| (*raw != "*").then(|| label.into()))
        .collect();
    if let Some(rest) = text.strip_prefix("*.")
        && let Ok(Host::Name(rest)) = Host::parse(rest)
    {
        return Ok(Domain::Below(rest));
    }
    Ok(Domain::Shape(Shape::new(labels)))
}

/// An element of `path=`.
pub(super) fn path(text: &str) -> Result<Path, String> {
    if text == "*" {
        return Ok(Path::Any);
    }
    if text.contains('?') {
        return Err("a query is never matched; leave out `?` and what follows".to_owned());
    }
    if text.contains('#') {
        return Err("a fragment is never sent; leave out `#` and what follows".to_owned());
    }
    let text = text.strip_prefix('/').unwrap_or(text);
    let mut segments = text.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    // `/a/` covers `/a` and `/a/`; `/` is the root alone, and the slashes of `/a//` are both meant.
    let slash = matches!(segments.as_slice(), [.., before, Some(last)]
        if last.is_empty() && before.as_deref() != Some(""));
    if slash {
        segments.pop();
    }
    Ok(Path::Segments { segments: segments.into(), slash })
}

/// One segment of a path pattern; none is a wildcard.
fn segment(text: &str) -> Result<Option<Box<str>>, String> {
    if text == "*" {
        return Ok(None);
    }
    if text.contains('*') {
        return Err(
            "`*` stands for a whole segment; write a star of the path itself as `%2A`".to_owned()
        );
    }
    let mut ascii = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0x80.. => path::push_escaped(byte, &mut ascii),
            byte => ascii.push(char::from(byte)),
        }
    }
    let mut canonical = String::with_capacity(ascii.len());
    match path::write_segment(&ascii, &mut canonical) {
        Ok(()) if matches!(&*canonical, "." | "..") => {
            Err("dot segments are resolved before matching; write the path they lead to".to_owned())
        }
        Ok(()) => Ok(Some(canonical.into())),
        Err(Unclear::Path) if text.contains('\\') => {
            Err("a backslash has two meanings in a path; write `/`, or `%5C` if it is meant"
                .to_owned())
        }
        Err(Unclear::Path) => {
            Err("a request with this segment is always refused: it has more than one meaning"
                .to_owned())
        }
        Err(_) if text.contains('%') => {
            Err("`%` is followed by two hexadecimal digits; write a percent sign as `%25`"
                .to_owned())
        }
        Err(_) => Err("no path has a control character".to_owned()),
    }
}

/// An element of `port=`.
pub(super) fn port(text: &str) -> Result<RangeInclusive<u16>, String> {
    if text == "*" {
        return Err("leave out `port=` for any port, or write `1-65535`".to_owned());
    }
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (host::port(low), host::port(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        (Some(low), Some(high)) => Err(format!("the range is empty; write `{high}-{low}`")),
        _ => Err(format!("`{text}` is not a port; write 1 to 65535, or a range like `1024-2048`")),
    }
}

/// The value of `proto=`.
pub(super) fn proto(text: &str) -> Result<Proto, String> {
    match text {
        "http" => Ok(Proto::Http),
        "tls" => Ok(Proto::Tls),
        "tcp" => Ok(Proto::Tcp),
        _ => Err(format!("`{text}` is not one of `http` (also HTTPS), `tls`, `tcp`")),
    }
}

/// What is wrong with a word that has no `=`.
pub(super) fn without_key(word: &str) -> String {
    match domain(word) {
        Ok(_) if word.contains('.') => format!("a rule is `key=value`; write `domain={word}`"),
        _ => format!("a rule is `key=value`, the keys are {KEYS}"),
    }
}

/// What is wrong with a key that there is not.
pub(super) fn unknown_key(key: &str) -> String {
    let lower = key.to_ascii_lowercase();
    if key != lower && KEYS.split(", ").any(|known| known == lower) {
        return format!("keys are in lower case; write `{lower}=`");
    }
    format!("`{key}` is not a key, the keys are {KEYS}")
}

/// What is wrong with text that is no host.
fn not_a_host(key: &str, text: &str) -> String {
    let rest = text.split_once("://").map(|(_, rest)| rest);
    let (host, path) =
        rest.unwrap_or(text).split_once('/').map_or((rest.unwrap_or(text), ""), |it| it);
    if rest.is_some() || host.len() < text.len() {
        let path = if path.is_empty() { String::new() } else { format!(" path=/{path}") };
        return format!("a {key} has no scheme and no path; write `{key}={host}{path}`");
    }
    if let Some((host, port)) = text.split_once(':')
        && host::port(port).is_some()
    {
        return format!("a {key} has no port; write `{key}={host} port={port}`");
    }
    format!("`{text}` is not a host; write a name like `example.com` or an address")
}
