//! Which one host a request is for, when everything that names one agrees.
//!
//! *Standing*: [`super::http`] brings what was heard (address, CONNECT, SNI, request line, `Host`)
//! and takes an [`Intent`] to the rules, whatever the door. *Never*: prefers one name over another.

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Version};

use super::flow::{Call, Target};
use super::peek::Greeting;
use crate::dns::Pins;
use crate::rules::{Asked, Code, Denial, Host, Intent, Scheme};

/// What was heard of a connection before its requests.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// Where the program meant to go.
    pub(super) target: Target,
    /// What the program may call that, as the search list made it.
    pub(super) short: Vec<Host>,
    /// Plain, or inside TLS.
    pub(super) scheme: Scheme,
    /// The name in the TLS greeting.
    pub(super) sni: Option<Host>,
}

impl Heard {
    /// Nothing but the connection itself.
    pub(super) fn plain(call: &Call) -> Self {
        let (target, short) = (call.target.clone(), call.short.clone());
        Self { target, short, scheme: Scheme::Http, sni: None }
    }

    /// A TLS greeting. One to the proxy itself is not a use of it that we know.
    pub(super) fn greeting(call: &Call, greeting: &Greeting) -> Result<Self, Denial> {
        if call.target == Target::Open {
            return Err(Denial::new(Code::UnclearProtocol));
        }
        let sni = greeting.accepted.client_hello().server_name().map(Host::parse).transpose()?;
        let (target, short) = (call.target.clone(), call.short.clone());
        Ok(Self { target, short, scheme: Scheme::Https, sni })
    }

    /// A host in full: one that the program calls by what it asked the resolver for is the one that it
    /// was given an address of.
    fn whole(&self, host: Host) -> Host {
        match self.target.host().filter(|_| self.short.contains(&host)) {
            Some((whole, _)) => whole.clone(),
            None => host,
        }
    }

    /// Whether the greeting names an intent's host by no shorter name.
    pub(super) fn is_in_full(&self, intent: &Intent) -> bool {
        self.sni.as_ref().is_none_or(|sni| sni == intent.host())
    }

    /// Whether the connection names the intent's host and port. A program that connects to an
    /// address may name a host that is there; whether it is, the way out finds.
    pub(super) fn agrees_with(&self, intent: &Intent) -> bool {
        let (host, port) = (intent.host(), intent.port());
        let is_meant = |sni: &Host| {
            sni == host
                || self.short.contains(sni) && self.target.host().is_some_and(|it| it.0 == host)
        };
        let sni_agrees = self.sni.as_ref().is_none_or(is_meant);
        let target_agrees = self.target.host().is_none_or(|(target, at)| {
            let may_be_there = matches!((target, host), (Host::Address(_), Host::Name(_)));
            at == port && (target == host || may_be_there)
        });
        sni_agrees && target_agrees
    }
}

/// The canonical request, if all agree.
///
/// One disagreement is left open: a program that connects to an address may name a host in its
/// request that is at that address. Only resolving tells, and nothing is resolved that the rules do
/// not permit; [`super::upstream`] checks it on the way out.
pub(super) fn intent(parts: &Parts, heard: &Heard) -> Result<Intent, Denial> {
    let line = named_in_line(parts, heard)?;
    let header = named_in_header(parts)?;
    let path = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    settle(heard, (parts.version, parts.method.as_str(), path), (line, header))
}

/// The same for a request of HTTP/1.1 whose line names a path alone, and which has one `Host`.
pub(super) fn plain(heard: &Heard, method: &str, host: &str, path: &str) -> Result<Intent, Denial> {
    // A proxy that is asked as a server.
    if heard.target == Target::Open {
        return Err(Denial::new(Code::BadRequest));
    }
    let header = Some(Host::parse_authority(host)?);
    settle(heard, (Version::HTTP_11, method, path), (None, header))
}

/// A host, and a port where one is said.
type Named = Option<(Host, Option<u16>)>;

/// The request, if what its line and its `Host` name agree with each other and with what was heard.
fn settle(
    heard: &Heard,
    (version, method, path): (Version, &str, &str),
    (line, header): (Named, Named),
) -> Result<Intent, Denial> {
    let at = |named: Named| -> Option<(Host, u16)> {
        let (host, port) = named?;
        Some((heard.whole(host), port.or(heard.scheme.default_port())?))
    };
    let (line, header) = (at(line), at(header));
    // HTTP/1.0 has no `Host`: there the connection says it. HTTP/2 has `:authority` in its place.
    let target = match &header {
        None if version == Version::HTTP_10 => heard.target.host(),
        None if version == Version::HTTP_2 && line.is_some() => None,
        None => return Err(Denial::new(Code::BadRequest)),
        Some(_) => None,
    };
    let named = line.as_ref().or(header.as_ref()).map(|(host, port)| (host, *port)).or(target);
    let (host, port) = named.ok_or(Denial::new(Code::BadRequest))?;
    let header_agrees = header.as_ref().is_none_or(|(named, at)| named == host && *at == port);
    let intent = Intent::http(heard.scheme, method, host.clone(), port, path)?;
    // Matched and sent in upper case, this would ask for a tunnel: behind it nobody reads requests.
    if method.eq_ignore_ascii_case(Method::CONNECT.as_str()) {
        return Err(Denial::of(Code::BadMethod, intent));
    }
    if header_agrees && heard.agrees_with(&intent) {
        Ok(intent)
    } else {
        Err(Denial::of(Code::HostMismatch, intent))
    }
}

/// Fields by which a request asks to be taken for one of another method.
const METHODS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Fields by which it asks to be taken for one of another path.
const PATHS: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// What a field asks to be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Override {
    Method,
    Path,
}

impl Override {
    /// What a field of this name asks for, if anything. Many servers know no difference between `-` and `_`
    /// there (CGI, RFC 3875 §4.1.18).
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let is = |one: &&str| one.bytes().eq(name.iter().map(fold));
        let is_among = |names: &[&str]| names.iter().any(is);
        match name.len() {
            13..=22 if is_among(&METHODS) => Some(Self::Method),
            13..=22 if is_among(&PATHS) => Some(Self::Path),
            _ => None,
        }
    }
}

/// The most fields that ask for another method or path. Every method is asked about with every path.
const MOST_OVERRIDES: usize = 8;

/// What a request is too, to servers that heed such fields: every method with every path that it names,
/// since there may be a server that heeds one and a server that heeds both.
pub(super) fn overrides(parts: &Parts, intent: &Intent) -> Result<Vec<Intent>, Denial> {
    let fields = parts.headers.iter();
    let fields = fields.filter_map(|(name, value)| Some((Override::of(name.as_ref())?, value)));
    let mut fields = fields.peekable();
    if fields.peek().is_none() {
        return Ok(Vec::new());
    }
    let own = intent.path_and_query().unwrap_or_default();
    let mut methods = vec![intent.method().map_or("", |method| method.as_str())];
    let mut paths = vec![&*own];
    for (number, (what, value)) in fields.enumerate() {
        if number >= MOST_OVERRIDES {
            return Err(Denial::of(Code::BadRequest, intent.clone()));
        }
        let value = value.to_str().ok().map(str::trim);
        match what {
            Override::Method => methods.push(value.ok_or(Denial::new(Code::BadMethod))?),
            Override::Path => {
                paths.push(path_of(value.ok_or(Denial::new(Code::AmbiguousPath))?));
            }
        }
    }
    let all = methods.iter().flat_map(|method| paths.iter().map(move |path| (method, path)));
    // The first is the request itself.
    let also = all.skip(1).map(|(method, path)| {
        Intent::http(intent.scheme(), method, intent.host().clone(), intent.port(), path)
    });
    also.collect()
}

/// The path of a URL, or what stands there in place of one: a path alone may have a URL in its query.
fn path_of(url: &str) -> &str {
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(is_of_scheme)
    };
    match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            // Where an authority ends with `\`, readers do not agree: no path begins with it.
            let path = rest.find(['/', '?', '#', '\\']).and_then(|end| rest.get(end..));
            path.filter(|path| path.starts_with(['/', '\\'])).unwrap_or("/")
        }
        Some(_) | None => url,
    }
}

/// The host and port that a CONNECT asks for. An address that we gave out stands for its name.
pub(super) fn tunnel(parts: &Parts, heard: &Heard, pins: &Pins) -> Result<Target, Denial> {
    let bad = || Denial::new(Code::BadRequest);
    let authority = parts.uri.authority().ok_or_else(bad)?;
    let (host, Some(port)) = Host::parse_authority(authority.as_str())? else { return Err(bad()) };
    let header = named_in_header(parts)?;
    if header.is_none() && !matches!(parts.version, Version::HTTP_10 | Version::HTTP_2) {
        return Err(bad());
    }
    let header_agrees =
        header.is_none_or(|(named, at)| named == host && at.is_none_or(|at| at == port));
    // A tunnel is asked of a proxy. Inside a redirected connection, or inside another tunnel, it
    // is a request like any, and its target is another than the connection's.
    if !header_agrees || heard.target != Target::Open {
        let intent = Intent::http(Scheme::Https, Method::CONNECT.as_str(), host, port, "/")?;
        return Err(Denial::of(Code::HostMismatch, intent));
    }
    match host {
        Host::Name(_) => Ok(Target::Host(host, port)),
        Host::Address(address) => Target::at(address, port, pins),
    }
}

/// A request that is refused without having become an intent, in its own words.
pub(super) fn asked(parts: &Parts, heard: &Heard) -> Option<Asked> {
    let scheme = match parts.uri.scheme_str() {
        None if parts.method == Method::CONNECT => Scheme::Https,
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        None | Some(_) => heard.scheme,
    };
    let mut fields = parts.headers.get_all(HOST).iter();
    let header = fields.next().filter(|_| fields.next().is_none());
    let line = parts.uri.authority().map(Authority::as_str);
    let named = line.or(header.and_then(|field| field.to_str().ok())).and_then(place);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    Some(whom(heard, scheme, named)?.with_line(parts.method.as_str(), target))
}

/// The same of a head that is none: method and target as far as its first line has them.
pub(super) fn garbled(heard: &Heard, line: Option<(&str, &str)>) -> Option<Asked> {
    let Some((method, target)) = line else { return whom(heard, heard.scheme, None) };
    if method.eq_ignore_ascii_case(Method::CONNECT.as_str()) {
        let asked = whom(heard, Scheme::Https, place(target))?;
        return Some(asked.with_line(method, "/"));
    }
    if target.starts_with('/') || target == "*" {
        return Some(whom(heard, heard.scheme, None)?.with_line(method, target));
    }
    // Where an authority ends that nobody can read, nobody knows either, nor what of it is secret.
    let absolute = target.split_once("://").and_then(|(_, rest)| {
        let (authority, target) = rest.split_at_checked(rest.find(['/', '?', '#'])?)?;
        Some((place(authority)?, target))
    });
    match absolute {
        Some((named, target)) => {
            Some(whom(heard, heard.scheme, Some(named))?.with_line(method, target))
        }
        None => whom(heard, heard.scheme, None),
    }
}

/// Whom a request is for that could not be understood: whom the connection names, else whom the request
/// names, else where the connection goes.
fn whom(heard: &Heard, scheme: Scheme, named: Option<(Host, Option<u16>)>) -> Option<Asked> {
    let target = heard.target.host();
    let (host, said) = match (target, &heard.sni, named) {
        (Some((name @ Host::Name(_), _)), ..) | (_, Some(name), _) => (name.clone(), None),
        (_, None, Some((host, port))) => (host, port),
        (Some((address, _)), None, None) => (address.clone(), None),
        (None, None, None) => return None,
    };
    let port = target.map(|(_, port)| port).or(said).or(scheme.default_port())?;
    Some(Asked::of(scheme, host, port))
}

/// The host and port in an authority, without the userinfo that may stand before them.
fn place(authority: &str) -> Option<(Host, Option<u16>)> {
    let (before, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    Host::parse_authority(place).ok().filter(|_| !before.contains('@'))
}

/// The host and port that a request line names (absolute-form, `:authority`); origin-form names
/// none.
fn named_in_line(parts: &Parts, heard: &Heard) -> Result<Named, Denial> {
    let bad = || Denial::new(Code::BadRequest);
    match (parts.uri.scheme_str(), parts.uri.authority()) {
        (Some(scheme), Some(authority)) => {
            // The scheme is how the bytes came: anything else names another request.
            if !scheme.eq_ignore_ascii_case(heard.scheme.as_str()) {
                return Err(bad());
            }
            Ok(Some(Host::parse_authority(authority.as_str())?))
        }
        // A proxy that is asked as a server.
        (None, None) if heard.target == Target::Open => Err(bad()),
        (None, None) => Ok(None),
        // Authority-form is CONNECT's alone.
        (None, Some(_)) | (Some(_), None) => Err(bad()),
    }
}

/// The host and port that the `Host` field names, if there is one. Two fields are no request.
fn named_in_header(parts: &Parts) -> Result<Named, Denial> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Denial::new(Code::BadRequest));
    }
    let text = field.to_str().ok().ok_or(Denial::new(Code::BadHost))?;
    Ok(Some(Host::parse_authority(text)?))
}
