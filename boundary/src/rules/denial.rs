//! A refusal: why, and what would permit it.
//!
//! *Standing*: made by the decision, by canonicalisation and by the doors; told to the client and
//! written into the record. A denial is a value, not an error.

use std::net::IpAddr;

use super::{Asked, Host, Intent, Scheme, path};

/// A refusal: a value, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why, as a stable code.
    pub code: Code,
    /// What was asked, where it could be understood.
    pub intent: Option<Intent>,
    /// What was asked in its own words, where it could not be understood and that much is known.
    pub asked: Option<Box<Asked>>,
    /// The address that the name led to, where that is why.
    pub address: Option<IpAddr>,
}

impl Denial {
    /// A refusal of something that could not be understood.
    pub fn new(code: Code) -> Self {
        Self { code, intent: None, asked: None, address: None }
    }

    /// A refusal of an intent.
    pub fn of(code: Code, intent: Intent) -> Self {
        Self { code, intent: Some(intent), asked: None, address: None }
    }

    /// The same of a request in its own words, if it could not be understood.
    #[must_use]
    pub fn asking(self, asked: impl FnOnce() -> Option<Asked>) -> Self {
        if self.intent.is_some() || self.asked.is_some() {
            return self;
        }
        Self { asked: asked().map(Box::new), ..self }
    }

    /// The one `--allow` value that would permit it, if any could.
    ///
    /// It permits this request and as little else as a rule can say; beside an address it names
    /// the address too, which then may be reached by its own number.
    pub fn remedy(&self) -> Option<String> {
        match self.code {
            Code::NoRule
            | Code::Declined
            | Code::AddressRefused
            | Code::UnclearProtocol
            | Code::HandshakeFailed => {}
            Code::HostMismatch
            | Code::AmbiguousPath
            | Code::BadHost
            | Code::BadMethod
            | Code::BadRequest
            | Code::OverLimit
            | Code::Datagram
            | Code::SocketType
            | Code::SocketOption
            | Code::Packet
            | Code::DoorShut
            | Code::DatagramConnect
            | Code::UnixSocket
            | Code::NamesExhausted
            | Code::TunnelUnused
            | Code::Unrecorded => return None,
        }
        let intent = self.intent.as_ref().filter(|intent| intent.port() != 0)?;
        Some(match (intent.scheme(), intent.method(), intent.path()) {
            (Scheme::Http | Scheme::Https, Some(method), Some(path)) => {
                let host = self.host_pair(intent, "domain");
                let port = if intent.scheme().default_port() == Some(intent.port()) {
                    String::new()
                } else {
                    format!(" port={}", intent.port())
                };
                // A tunnel is opened for a host; what is asked inside has its own verdict, and
                // a rule for the tunnel alone would permit nothing in it.
                if method.as_str() == "CONNECT" {
                    return Some(format!("{host}{port}"));
                }
                format!("method={method} {host}{port} path={}", as_pattern(path))
            }
            (scheme @ (Scheme::Tls | Scheme::Tcp), ..) => {
                let host = self.host_pair(intent, "host");
                format!("proto={} {host} port={}", scheme.as_str(), intent.port())
            }
            (Scheme::Http | Scheme::Https, ..) => return None,
        })
    }

    /// `key=host`, or `host=` where an address must be named.
    fn host_pair(&self, intent: &Intent, key: &str) -> String {
        match (intent.host(), self.address) {
            (name @ Host::Name(_), Some(address)) => format!("host={name},{}", Host::from(address)),
            (name @ Host::Name(_), None) => format!("{key}={name}"),
            (address @ Host::Address(_), _) => format!("host={address}"),
        }
    }
}

/// A rule as one word of a POSIX shell, in which nothing is expanded.
///
/// Parts of a remedy are words of whoever was refused: `$(…)` and backquotes stand in paths.
pub fn quoted(rule: &str) -> String {
    format!("'{}'", rule.replace('\'', r"'\''"))
}

/// A canonical path as a pattern that covers it alone.
pub(super) fn as_pattern(path: &str) -> String {
    if path == "*" {
        return path.to_owned();
    }
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        match character {
            ',' => path::push_escaped(b',', &mut pattern),
            '*' => path::push_escaped(b'*', &mut pattern),
            plain => pattern.push(plain),
        }
    }
    pattern
}

/// Why something was refused. The text of a code never changes once published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No rule permits it.
    NoRule,
    /// No rule permits it, and whoever was asked did not either.
    Declined,
    /// Two places that name the host disagree.
    HostMismatch,
    /// The path has more than one meaning.
    AmbiguousPath,
    /// The host is no name and no address.
    BadHost,
    /// The method is none.
    BadMethod,
    /// The request is not one.
    BadRequest,
    /// More than a limit allows.
    OverLimit,
    /// The address is guarded and no rule names it.
    AddressRefused,
    /// The bytes are neither TLS nor HTTP.
    UnclearProtocol,
    /// The client did not finish its TLS handshake.
    HandshakeFailed,
    /// A datagram.
    Datagram,
    /// A datagram socket pointed somewhere. Nothing was sent.
    DatagramConnect,
    /// A unix socket that is not the session's own.
    UnixSocket,
    /// A kind of socket that the walls do not let through.
    SocketType,
    /// A socket option that would change where packets go.
    SocketOption,
    /// A packet that no socket of the session may send.
    Packet,
    /// The proxy is gone, or could not be told of the connection.
    DoorShut,
    /// The resolver has no address left to stand for another name.
    NamesExhausted,
    /// A tunnel in which nothing was asked.
    TunnelUnused,
    /// The record of it could not be written.
    Unrecorded,
}

impl Code {
    /// Every code, in the order of the documents.
    pub const ALL: [Self; 21] = [
        Self::NoRule,
        Self::Declined,
        Self::HostMismatch,
        Self::AddressRefused,
        Self::AmbiguousPath,
        Self::BadHost,
        Self::BadMethod,
        Self::BadRequest,
        Self::OverLimit,
        Self::UnclearProtocol,
        Self::HandshakeFailed,
        Self::Datagram,
        Self::DatagramConnect,
        Self::UnixSocket,
        Self::SocketType,
        Self::SocketOption,
        Self::Packet,
        Self::DoorShut,
        Self::NamesExhausted,
        Self::TunnelUnused,
        Self::Unrecorded,
    ];

    /// The stable text of the code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::Declined => "declined",
            Self::HostMismatch => "host_mismatch",
            Self::AmbiguousPath => "ambiguous_path",
            Self::BadHost => "bad_host",
            Self::BadMethod => "bad_method",
            Self::BadRequest => "bad_request",
            Self::OverLimit => "over_limit",
            Self::AddressRefused => "address_refused",
            Self::UnclearProtocol => "unclear_protocol",
            Self::HandshakeFailed => "handshake_failed",
            Self::Datagram => "datagram",
            Self::DatagramConnect => "datagram_connect",
            Self::UnixSocket => "unix_socket",
            Self::SocketType => "socket_type",
            Self::SocketOption => "socket_option",
            Self::Packet => "packet",
            Self::DoorShut => "door_shut",
            Self::NamesExhausted => "names_exhausted",
            Self::TunnelUnused => "tunnel_unused",
            Self::Unrecorded => "unrecorded",
        }
    }

    /// What the code means, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NoRule => "No rule of the policy permits this request.",
            Self::Declined => {
                "No rule of the policy permits this request, and whoever was asked said no, or nothing in time."
            }
            Self::HostMismatch => {
                "The places that name the host (SNI, CONNECT, `Host`, `:authority`, the address) disagree."
            }
            Self::AmbiguousPath => {
                "The path would mean something else to a server that decodes it differently."
            }
            Self::BadHost => "The host is neither a name nor an address.",
            Self::BadMethod => "The method is not an HTTP method.",
            Self::BadRequest => {
                "The request is not well formed, so that nobody can say what it asks for."
            }
            Self::OverLimit => "The client went over a limit of the proxy.",
            Self::AddressRefused => {
                "The host is, or resolves to, an address of this machine, its link or its cloud's metadata, and no rule names that address."
            }
            Self::UnclearProtocol => {
                "The connection speaks neither TLS nor HTTP, and no `proto=tcp` rule permits it."
            }
            Self::HandshakeFailed => {
                "The client did not finish its TLS handshake: it does not trust the session's authority, or it left."
            }
            Self::Datagram => "Datagrams do not leave, except questions to the built-in resolver.",
            Self::DatagramConnect => {
                "A datagram socket was pointed at the address, as resolvers do to sort what they found; nothing was sent."
            }
            Self::UnixSocket => {
                "The unix socket belongs to a process outside the session, and `unix_sockets` does not list it."
            }
            Self::SocketType => "Sockets of this family, type or protocol do not leave.",
            Self::SocketOption => {
                "The socket option would change where packets go, or make the kernel itself send some."
            }
            Self::Packet => {
                "The packet does not come from a socket that the session may send with."
            }
            Self::DoorShut => {
                "The proxy is gone, or could not be told where the connection meant to go."
            }
            Self::NamesExhausted => {
                "The session has asked for more names than there are addresses to stand for them."
            }
            Self::TunnelUnused => {
                "The client closed its tunnel before it asked for anything in it."
            }
            Self::Unrecorded => {
                "The audit file cannot be written, and `audit_on_error: deny` lets nothing go unrecorded."
            }
        }
    }

    /// The status of the answer where there is HTTP to answer in.
    pub fn http_status(self) -> u16 {
        match self {
            Self::NoRule
            | Self::Declined
            | Self::HostMismatch
            | Self::AddressRefused
            | Self::Datagram
            | Self::DatagramConnect
            | Self::UnixSocket
            | Self::SocketType
            | Self::SocketOption
            | Self::Packet
            | Self::DoorShut
            | Self::HandshakeFailed
            | Self::NamesExhausted
            | Self::TunnelUnused => 403,
            Self::Unrecorded => 503,
            Self::AmbiguousPath
            | Self::BadHost
            | Self::BadMethod
            | Self::BadRequest
            | Self::OverLimit
            | Self::UnclearProtocol => 400,
        }
    }
}
