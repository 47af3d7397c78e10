//! A request that has no one meaning, in its own words: for the record alone.
//!
//! *Standing*: the doors put it into the denial of what did not become an [`super::Intent`]. *Never*: is
//! matched or sent; holds a userinfo, a fragment or a header.

use std::fmt::Write as _;

use super::intent::tell_authority;
use super::{Host, Scheme};

/// The longest method that is told.
const METHOD: usize = 32;
/// How much is told of a target.
const TARGET: usize = 2048;

/// A request that could not be understood, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    scheme: Scheme,
    host: Host,
    port: u16,
    line: Option<Line>,
}

/// What its first line says, but for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    method: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
}

impl Asked {
    /// Something of which nothing is known but whom it was for.
    pub fn of(scheme: Scheme, host: Host, port: u16) -> Self {
        Self { scheme, host, port, line: None }
    }

    /// The same with its method and its target: path and query as they were sent. What does not
    /// print in them is escaped, and what is too long cut off.
    #[must_use]
    pub fn with_line(self, method: &str, target: &str) -> Self {
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = printed(if path.is_empty() { "/" } else { path }, TARGET);
        let left = TARGET.saturating_sub(path.len());
        let query = query.map(|query| printed(query, left).into());
        let method = printed(&method.to_ascii_uppercase(), METHOD).into();
        Self { line: Some(Line { method, path: path.into(), query }), ..self }
    }

    /// What is spoken.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whom it was for.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port there.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The method, where the request got so far.
    pub fn method(&self) -> Option<&str> {
        self.line.as_ref().map(|line| &*line.method)
    }

    /// The fully qualified URL, with or without the query.
    pub fn url(&self, query: bool) -> String {
        let mut url = String::new();
        self.tell_url(query, &mut |piece| url.push_str(piece));
        url
    }

    /// The same piece by piece, to whoever has a place for it.
    pub(crate) fn tell_url(&self, query: bool, tell: &mut impl FnMut(&str)) {
        tell(self.scheme.as_str());
        tell("://");
        self.tell_authority(tell);
        let Some(line) = &self.line else { return };
        tell(if &*line.path == "*" { "" } else { &line.path });
        if let Some(text) = line.query.as_deref().filter(|_| query) {
            tell("?");
            tell(text);
        }
    }

    /// The host, and the port where it is not the scheme's own.
    pub(crate) fn tell_authority(&self, tell: &mut impl FnMut(&str)) {
        tell_authority((self.scheme, &self.host, self.port), tell);
    }
}

/// Text in visible ASCII, up to a length: every other byte as a URL escapes it.
fn printed(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for byte in text.bytes().take(most) {
        if byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            // A string takes every character.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, target: &str) -> Asked {
        let host = Host::parse("a.test").unwrap();
        Asked::of(Scheme::Http, host, 80).with_line(method, target)
    }

    #[test]
    fn it_is_told_as_it_was_asked_for() {
        for (target, url, short) in [
            ("/ok/..%2fx", "http://a.test/ok/..%2fx", "http://a.test/ok/..%2fx"),
            ("/a?token=1", "http://a.test/a?token=1", "http://a.test/a"),
            ("?token=1", "http://a.test/?token=1", "http://a.test/"),
            ("", "http://a.test/", "http://a.test/"),
            ("*", "http://a.test", "http://a.test"),
            ("/a#secret?b", "http://a.test/a", "http://a.test/a"),
            ("/\u{1b}[2J é", "http://a.test/%1B[2J%20%C3%A9", "http://a.test/%1B[2J%20%C3%A9"),
        ] {
            let asked = asked("get", target);
            assert_eq!((asked.url(true).as_str(), asked.url(false).as_str()), (url, short));
            assert_eq!(asked.method(), Some("GET"));
        }
        let place = Asked::of(Scheme::Https, Host::parse("::1").unwrap(), 8443);
        assert_eq!((place.url(true).as_str(), place.method()), ("https://[::1]:8443", None));
    }

    #[test]
    fn it_is_told_up_to_a_length() {
        let long =
            asked(&"M".repeat(99), &format!("/{}?{}", "é".repeat(TARGET), "q".repeat(TARGET)));
        assert!(long.url(true).len() < 4 * TARGET);
        assert_eq!(long.method().map(str::len), Some(METHOD));
        let long = asked("GET", &format!("/?{}", "q".repeat(2 * TARGET)));
        assert_eq!(long.url(true).len(), "http://a.test?".len() + TARGET);
    }
}
