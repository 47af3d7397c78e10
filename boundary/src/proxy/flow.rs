//! Who, whither, by which door.

use std::net::SocketAddr;

use crate::audit::{Door, Process};

/// One connection of the command: who opened it, where it meant to go, by which door it came.
#[derive(Debug, Clone)]
pub struct Flow {
    /// By which door.
    pub door: Door,
    /// The jailed socket's own address.
    pub client: SocketAddr,
    /// Where the program meant to go.
    pub target: SocketAddr,
    /// Who opened it, if the jail knows.
    pub process: Option<Process>,
}

/// Where connections come from: each jail knows in its own way.
pub trait Origin: Send + Sync {
    /// The flow behind an accepted connection, asked exactly once. `None` means that the
    /// session did not open it, and it is closed without a word.
    ///
    /// `local` is the accepted socket's own address, `client` its peer's.
    fn flow(&self, client: SocketAddr, local: SocketAddr) -> Option<Flow>;

    /// The process behind a datagram to the resolver, if the jail can tell.
    fn asker(&self, client: SocketAddr) -> Option<Process>;
}
