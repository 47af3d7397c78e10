//! What is dialled directly although there is a gateway: the list that programs read from
//! `NO_PROXY`.

use std::net::IpAddr;

use super::shares_prefix;
use crate::rules::Host;

/// The hosts of a `NO_PROXY` list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exempt(Vec<Entry>);

/// One element of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// `*`
    All,
    /// `example.com` (and what is below it), `.example.com` or `*.example.com` (only that), each
    /// with a port or without.
    Domain {
        /// The domain.
        name: String,
        /// Whether the domain itself is meant too.
        itself: bool,
        /// The only port meant.
        port: Option<u16>,
    },
    /// An address, with a port or without.
    Address(IpAddr, Option<u16>),
    /// `10.0.0.0/8`
    Block(IpAddr, u32),
}

impl Exempt {
    /// Reads a list, separated by commas or spaces. An element that means nothing exempts nothing,
    /// as everywhere where this list is read.
    pub fn parse(text: &str) -> Self {
        let elements = text.split(|c: char| c == ',' || c.is_whitespace());
        Self(elements.filter(|element| !element.is_empty()).filter_map(Entry::parse).collect())
    }

    /// Whether a host is dialled directly at a port. A name is compared as a name: nothing is
    /// resolved for this.
    pub(super) fn covers(&self, host: &Host, port: u16) -> bool {
        self.0.iter().any(|entry| entry.covers(host, port))
    }
}

impl Entry {
    /// Reads an element.
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
            return Some(Self::Block(address, bits));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), None));
        }
        let below = text.strip_prefix('*').unwrap_or(text).strip_prefix('.');
        let (host, port) = Host::parse_authority(below.unwrap_or(text)).ok()?;
        Some(match host {
            Host::Name(name) => {
                Self::Domain { name: name.as_str().to_owned(), itself: below.is_none(), port }
            }
            Host::Address(address) => Self::Address(address, port),
        })
    }

    /// Whether the element means a host at a port.
    fn covers(&self, host: &Host, at: u16) -> bool {
        match (self, host) {
            (Self::All, _) => true,
            (Self::Domain { name, itself, port }, Host::Name(host)) => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|it| it.ends_with('.'));
                let is_meant = below || (*itself && **host == **name);
                is_meant && port.is_none_or(|port| port == at)
            }
            (Self::Address(address, port), Host::Address(host)) => {
                address == host && port.is_none_or(|port| port == at)
            }
            (Self::Block(address, bits), Host::Address(host)) => {
                shares_prefix(*address, *host, *bits)
            }
            (Self::Domain { .. }, Host::Address(_))
            | (Self::Address(..) | Self::Block(..), Host::Name(_)) => false,
        }
    }
}
