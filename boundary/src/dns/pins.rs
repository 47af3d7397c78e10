//! Names and the addresses that stand for them.
//!
//! *Standing*: the resolver pins, the proxy asks what an address stands for. *Never*: gives an
//! address to a second name; a connection to it could be anybody's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answered::Answered;
use crate::rules::Host;

/// The first of the range that RFC 2544 keeps for benchmarks: nobody's addresses.
const FIRST_V4: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// How many names there can be: all of 198.18.0.0/15 but its first and its last address.
const BOUND: u32 = (1 << 17) - 2;

/// Our own unique local prefix (RFC 4193), `fd62:6f75:6e64::/48`.
const PREFIX_V6: [u16; 3] = [0xfd62, 0x6f75, 0x6e64];

/// The two addresses of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The address for A.
    pub v4: Ipv4Addr,
    /// The address for AAAA.
    pub v6: Ipv6Addr,
}

impl Pin {
    /// The addresses of the name with that number, from 1.
    fn new(number: u32) -> Self {
        let [prefix_0, prefix_1, prefix_2] = PREFIX_V6;
        let [high, low] = [(number >> 16) as u16, (number & 0xffff) as u16];
        Self {
            v4: Ipv4Addr::from_bits(FIRST_V4 + number),
            v6: Ipv6Addr::new(prefix_0, prefix_1, prefix_2, 0, 0, 0, high, low),
        }
    }

    /// The number behind an address of the ranges, whether a name has it or not.
    fn number(address: IpAddr) -> Option<u32> {
        match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_bits().checked_sub(FIRST_V4).filter(|number| *number <= BOUND),
            IpAddr::V6(v6) => match v6.segments() {
                [a, b, c, 0, 0, 0, high, low] if [a, b, c] == PREFIX_V6 => {
                    Some(u32::from(high) << 16 | u32::from(low))
                }
                _ => None,
            },
        }
    }
}

/// Which synthetic address stands for which name, both ways, for the session's life.
#[derive(Debug, Default)]
pub struct Pins {
    names: Mutex<Names>,
    answered: Answered,
    /// The host's search list.
    search: Vec<String>,
    /// The domain of its own name, which some programs take for a list where there is none.
    own: Option<String>,
}

/// Names by number and numbers by name.
#[derive(Debug, Default)]
struct Names {
    /// The name with number 1 stands first.
    by_number: Vec<Arc<Host>>,
    by_name: HashMap<Arc<Host>, u32>,
}

impl Pins {
    /// No names yet, on a host with this search list: what [`search_domains`](super::search_domains) reads.
    pub fn searching(search: Vec<String>) -> Self {
        Self { search, ..Self::default() }
    }

    /// The host's search list.
    pub(super) fn search(&self) -> &[String] {
        &self.search
    }

    /// The same without a list, in a domain of its own.
    pub fn within(own: Option<String>) -> Self {
        Self { own, ..Self::default() }
    }

    /// The domain that programs take for a search list, where there is none.
    pub(super) fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// The shorter names of which the search list makes this one. A program that was given an address
    /// for it may have asked for one of them, and call it by that.
    pub fn short(&self, name: &Host) -> Vec<Host> {
        if self.search.is_empty() && self.own.is_none() {
            return Vec::new();
        }
        let text = name.to_string();
        let short = |suffix: &String| {
            let short = text.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
            Host::parse(short).ok().filter(|short| matches!(short, Host::Name(_)))
        };
        self.search.iter().chain(&self.own).filter_map(short).collect()
    }

    /// The name's addresses, the same for the session's whole life. `None` when all are given away:
    /// the command may still use any of them.
    pub fn pin(&self, name: &Host) -> Option<Pin> {
        let mut names = self.lock();
        if let Some(number) = names.by_name.get(name) {
            return Some(Pin::new(*number));
        }
        let number = u32::try_from(names.by_number.len()).ok().filter(|count| *count < BOUND)? + 1;
        let name = Arc::new(name.clone());
        names.by_number.push(Arc::clone(&name));
        names.by_name.insert(name, number);
        Some(Pin::new(number))
    }

    /// How many names have an address.
    pub fn count(&self) -> usize {
        self.lock().by_number.len()
    }

    /// How many addresses of real answers are known.
    pub fn answered(&self) -> usize {
        self.answered.count()
    }

    /// The name that a synthetic address stands for.
    pub fn name(&self, address: IpAddr) -> Option<Host> {
        let index = Pin::number(address)?.checked_sub(1)?;
        let names = self.lock();
        names.by_number.get(usize::try_from(index).ok()?).map(|name| Host::clone(name))
    }

    /// Notes a real address of a name. A synthetic one is a name's own already.
    pub fn note(&self, name: &Host, address: IpAddr) {
        if !self.is_synthetic(address) {
            self.answered.note(name, address);
        }
    }

    /// The names for which a real answer held the address, the one asked for last at the end.
    pub fn names_at(&self, address: IpAddr) -> Vec<Host> {
        self.answered.names(address)
    }

    /// Whether an address lies in the synthetic ranges, pinned or not.
    pub fn is_synthetic(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_bits() >> 17 == FIRST_V4 >> 17,
            IpAddr::V6(v6) => v6.segments().starts_with(&PREFIX_V6),
        }
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
