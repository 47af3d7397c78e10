//! Gateways: proxies between boundary and the internet, as many networks ask for.
//!
//! *Standing*: the configuration reads them; [`super::upstream`] asks which one a permitted intent
//! leaves by. *Never*: shows a credential; whatever is printed of a gateway is its scheme, host and
//! port.

mod exempt;

pub use exempt::Exempt;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;

use crate::rules::{Host, Intent, Scheme};

/// One proxy on the way out.
#[derive(Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Whether it is spoken to in TLS.
    is_secure: bool,
    host: Host,
    port: u16,
    /// What `Proxy-Authorization` says, if it wants to know who asks.
    credentials: Option<HeaderValue>,
}

/// Why a text is no gateway. Never repeats the text, in which a password may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Another scheme.
    #[error("not the URL of an http or https proxy")]
    Scheme,
    /// No host, or a port that is none.
    #[error("the proxy's URL has no valid host and port")]
    Authority,
    /// A path, a query or a fragment: perhaps a password with `/` in it.
    #[error("the proxy's URL goes on after host and port (in a password write / as %2F)")]
    More,
}

impl FromStr for Gateway {
    type Err = Invalid;

    /// Reads `[http[s]://][user[:password]@]host[:port]`, user and password percent-encoded.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(Invalid::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, more) = rest.split_at_checked(end).ok_or(Invalid::More)?;
        if !matches!(more, "" | "/") {
            return Err(Invalid::More);
        }
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = Host::parse_authority(address).ok().ok_or(Invalid::Authority)?;
        let port = port.unwrap_or(if is_secure { 443 } else { 80 });
        let credentials = user.filter(|user| !user.is_empty()).map(basic).transpose()?;
        Ok(Self { is_secure, host, port, credentials })
    }
}

/// The `Basic` credentials of a userinfo (RFC 7617).
fn basic(userinfo: &str) -> Result<HeaderValue, Invalid> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let plain = [user, ":", password].map(|part| percent_decode_str(part).collect::<Vec<u8>>());
    let field = format!("Basic {}", STANDARD.encode(plain.concat()));
    let mut value = HeaderValue::try_from(field).ok().ok_or(Invalid::Authority)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Gateway {
    /// Whether it is spoken to in TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Where it is.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What `Proxy-Authorization` says.
    pub(super) fn credentials(&self) -> Option<&HeaderValue> {
        self.credentials.as_ref()
    }

    /// Whether it is plainly one of our own doors: everything would go round in a circle. A name
    /// that turns out to be is found when its connection is closed as nobody's.
    fn is_at(&self, door: SocketAddr) -> bool {
        let is_here = match &self.host {
            Host::Address(address) => address.is_loopback() || address.is_unspecified(),
            Host::Name(_) => self.host.is_guarded(),
        };
        is_here && self.port == door.port()
    }
}

/// Scheme, host and port, for people. Who is told may not know the password.
impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which gateway a permitted intent leaves by, if any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateways {
    /// For plain HTTP.
    pub http: Option<Arc<Gateway>>,
    /// For everything that is tunnelled: HTTPS, and streams that are passed on unopened.
    pub tunnel: Option<Arc<Gateway>>,
    /// What is dialled directly all the same.
    pub exempt: Exempt,
}

impl Gateways {
    /// The gateway of an intent. What only this machine can reach (loopback, its link, the
    /// metadata of its cloud) is never asked of another.
    pub(super) fn of(&self, intent: &Intent) -> Option<&Arc<Gateway>> {
        let gateway = match intent.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https | Scheme::Tls | Scheme::Tcp => self.tunnel.as_ref(),
        };
        let host = intent.host();
        gateway.filter(|_| !host.is_guarded() && !self.exempt.covers(host, intent.port()))
    }

    /// The gateway that is one of these doors, if any is.
    pub fn looping(&self, doors: &super::Doors) -> Option<&Gateway> {
        let doors: Vec<_> = doors.tcp.iter().filter_map(|door| door.local_addr().ok()).collect();
        let all = [&self.http, &self.tunnel].into_iter().flatten();
        all.map(|gateway| &**gateway).find(|gateway| doors.iter().any(|&door| gateway.is_at(door)))
    }
}

/// Whether two addresses are the same in their first bits.
fn shares_prefix(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= bits.min(128)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests;
