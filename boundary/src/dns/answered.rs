//! Which names real answers gave an address for.
//!
//! *Standing*: where questions are forwarded, every address in an answer is noted with the name that
//! was asked for, and so are the lines of the hosts file, which programs read themselves; the proxy
//! asks what a connection to such an address may have meant. *Never*:
//! takes an address for permitted. A name that was permitted is resolved again when it is dialled,
//! and goes where it leads then, whatever address the program connected to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rules::Host;

/// How many addresses are known. Further ones are judged as addresses.
const ADDRESSES: usize = 65_536;

/// How many names are known for one address; the one that was asked for first is forgotten.
const NAMES: usize = 64;

/// Names by the addresses in their answers.
#[derive(Debug, Default)]
pub(super) struct Answered {
    names: Mutex<HashMap<IpAddr, Vec<Host>>>,
}

impl Answered {
    /// Notes that an answer for the name held the address.
    pub(super) fn note(&self, name: &Host, address: IpAddr) {
        let address = address.to_canonical();
        let mut all = self.lock();
        if all.len() >= ADDRESSES && !all.contains_key(&address) {
            return;
        }
        let names = all.entry(address).or_default();
        names.retain(|known| known != name);
        if names.len() >= NAMES {
            names.remove(0);
        }
        names.push(name.clone());
    }

    /// The names whose answers held the address, the one asked for last at the end.
    pub(super) fn names(&self, address: IpAddr) -> Vec<Host> {
        self.lock().get(&address.to_canonical()).cloned().unwrap_or_default()
    }

    /// How many addresses are known.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Vec<Host>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
