//! The canonical request: one spelling for every way of saying it.
//!
//! *Standing*: the proxy makes an Intent of what it read; it is matched, sent upstream and written
//! into the record in this one form. *Never*: holds a userinfo, a fragment or a header.

use std::fmt;

use super::{Code, Denial, Host, path};

/// A request method, upper-cased.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(Box<str>);

impl Method {
    /// Reads a method: a token of RFC 9110. `*` is a token too, but refused: in a rule it means
    /// every method, so that no rule could name it alone.
    pub fn parse(text: &str) -> Result<Self, Unclear> {
        if text.is_empty() || text == "*" || !text.bytes().all(is_token_byte) {
            return Err(Unclear::Method);
        }
        Ok(Self(text.to_ascii_uppercase().into()))
    }

    /// The method's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was spoken to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP inside TLS that the proxy terminates.
    Https,
    /// TLS passed on unopened.
    Tls,
    /// Any bytes.
    Tcp,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }

    /// The port that an authority leaves out. An unopened stream has none: it always says.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Tls | Self::Tcp => None,
        }
    }
}

/// Text that has no one meaning, and so no verdict but no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unclear {
    /// Not a host.
    #[error("not a host name or an address")]
    Host,
    /// A path with more than one meaning.
    #[error("the path would change its meaning when decoded again")]
    Path,
    /// Not a path and query.
    #[error("not a request target")]
    Target,
    /// Not a method.
    #[error("not a method")]
    Method,
}

impl From<Unclear> for Denial {
    fn from(unclear: Unclear) -> Self {
        Self::new(match unclear {
            Unclear::Host => Code::BadHost,
            Unclear::Path => Code::AmbiguousPath,
            Unclear::Target => Code::BadRequest,
            Unclear::Method => Code::BadMethod,
        })
    }
}

/// How long most URLs are at the most.
const ROOM: usize = 128;

/// One canonical request: what is matched, and what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    scheme: Scheme,
    method: Option<Method>,
    host: Host,
    port: u16,
    path: Option<Box<str>>,
    query: Option<Box<str>>,
}

impl Intent {
    /// An HTTP request. `target` is the path and query as sent (`/a/b?q`, `*` for OPTIONS; empty
    /// is `/`).
    pub fn http(
        scheme: Scheme,
        method: &str,
        host: Host,
        port: u16,
        target: &str,
    ) -> Result<Self, Denial> {
        if scheme.default_port().is_none() || port == 0 {
            return Err(Denial::new(Code::BadRequest));
        }
        let method = Method::parse(method)?;
        let (path, query) = read_target(&method, target)?;
        let host = canonical(host);
        Ok(Self { scheme, method: Some(method), host, port, path: Some(path), query })
    }

    /// A stream that is not opened: `Scheme::Tls` or `Scheme::Tcp`.
    pub fn stream(scheme: Scheme, host: Host, port: u16) -> Self {
        Self { scheme, method: None, host: canonical(host), port, path: None, query: None }
    }

    /// The same asked by no method at all.
    pub(super) fn without_method(&self) -> Self {
        Self { method: None, ..self.clone() }
    }

    /// What is spoken.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The method; none for an unopened stream.
    pub fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The canonical path (`*` for OPTIONS to the whole server); none for an unopened stream.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The query as it was sent, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The canonical path and query, as they are sent upstream; none for an unopened stream.
    pub fn path_and_query(&self) -> Option<String> {
        let path = self.path.as_deref()?;
        Some(match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        })
    }

    /// The host, and the port where it is not the scheme's own: the `Host` header sent upstream.
    pub fn authority(&self) -> String {
        let mut authority = String::new();
        self.tell_authority(&mut |piece| authority.push_str(piece));
        authority
    }

    /// The fully qualified URL, with or without the query. Never has a userinfo. OPTIONS to the
    /// whole server has no path (RFC 9112 §3.3), an unopened stream reads `tcp://host:port`.
    pub fn url(&self, query: bool) -> String {
        let mut url = String::with_capacity(ROOM);
        self.tell_url(query, &mut |piece| url.push_str(piece));
        url
    }

    /// The same piece by piece, to whoever has a place for it.
    pub(crate) fn tell_url(&self, query: bool, tell: &mut impl FnMut(&str)) {
        tell(self.scheme.as_str());
        tell("://");
        self.tell_authority(tell);
        tell(self.path().filter(|path| *path != "*").unwrap_or_default());
        if let Some(text) = self.query().filter(|_| query) {
            tell("?");
            tell(text);
        }
    }

    /// The authority piece by piece. A name is there as it is told.
    pub(crate) fn tell_authority(&self, tell: &mut impl FnMut(&str)) {
        tell_authority((self.scheme, &self.host, self.port), tell);
    }
}

/// The host, and the port where it is not the scheme's own, piece by piece.
pub(super) fn tell_authority(
    (scheme, host, port): (Scheme, &Host, u16),
    tell: &mut impl FnMut(&str),
) {
    match host {
        Host::Name(name) => tell(name),
        address @ Host::Address(_) => tell(&address.to_string()),
    }
    if scheme.default_port() != Some(port) {
        tell(":");
        tell(&port.to_string());
    }
}

/// Whoever built the host by hand may have left a v4-mapped address in it.
fn canonical(host: Host) -> Host {
    match host {
        Host::Name(name) => Host::Name(name),
        Host::Address(address) => Host::from(address),
    }
}

/// Path and query of a request target.
fn read_target(method: &Method, target: &str) -> Result<(Box<str>, Option<Box<str>>), Unclear> {
    if target == "*" && method.as_str() == "OPTIONS" {
        return Ok(("*".into(), None));
    }
    let (raw, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if query.is_some_and(|query| !query.bytes().all(is_query_byte)) {
        return Err(Unclear::Target);
    }
    let path = if raw.is_empty() { "/".into() } else { path::canonical(raw)? };
    Ok((path, query.map(Into::into)))
}

/// What is forwarded in a query as it is: everything visible but a fragment's mark. The standard
/// allows less, but no server takes `[` or `|` for the end of the line, and clients send them.
fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
