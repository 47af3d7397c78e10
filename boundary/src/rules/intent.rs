//! The canonical request: one spelling for every way of saying it.

use std::fmt;
use std::net::IpAddr;

use super::Denial;

/// A host in its one spelling: an A-label name in lower case without a trailing dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name.
    Name(Box<str>),
    /// An IP literal, v4-mapped v6 already unwrapped to v4.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URL, a `Host` header, a CONNECT authority or an SNI (no port).
    pub fn parse(_text: &str) -> Result<Self, Unclear> {
        unimplemented!()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

/// A request method, upper-cased.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(Box<str>);

impl Method {
    /// The method's text.
    pub fn as_str(&self) -> &str {
        &self.0
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

/// Text that has no one meaning, and so no verdict but no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unclear {
    /// Not a host.
    #[error("not a host name or an address")]
    Host,
    /// Not a path with one meaning.
    #[error("the path would change its meaning when decoded again")]
    Path,
    /// Not a method.
    #[error("not a method")]
    Method,
}

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
    /// An HTTP request. `target` is the path and query as sent (`/a/b?q`, `*` for OPTIONS).
    pub fn http(
        _scheme: Scheme,
        _method: &str,
        _host: Host,
        _port: u16,
        _target: &str,
    ) -> Result<Self, Denial> {
        unimplemented!()
    }

    /// A stream that is not opened: `Scheme::Tls` or `Scheme::Tcp`.
    pub fn stream(_scheme: Scheme, _host: Host, _port: u16) -> Self {
        unimplemented!()
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
    /// The canonical path and query, as they are sent upstream; none for an unopened stream.
    pub fn path_and_query(&self) -> Option<String> {
        unimplemented!()
    }
    /// The host, and the port where it is not the scheme's own: the `Host` header sent upstream.
    pub fn authority(&self) -> String {
        unimplemented!()
    }
    /// The fully qualified URL, with or without the query. Never has a userinfo.
    pub fn url(&self, _query: bool) -> String {
        unimplemented!()
    }
}
