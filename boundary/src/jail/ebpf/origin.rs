//! Whose a connection is, by what the kernel half wrote when it turned it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;

use boundary_common::flow;
use boundary_common::flow::{Endpoint, FlowKey, TCP, UDP};

use super::process::Processes;
use crate::audit::{Door, Process};
use crate::jail::kernel::Table;
use crate::jail::mutation;
use crate::proxy::{Flow, Origin};

/// The flows that the kernel half turned.
#[derive(Debug)]
pub struct Turned {
    flows: Table<FlowKey, flow::Flow>,
    processes: Arc<Processes>,
}

impl Turned {
    /// Reads from a table.
    pub(super) fn new(flows: Table<FlowKey, flow::Flow>, processes: Arc<Processes>) -> Self {
        Self { flows, processes }
    }

    /// The descriptor that a process which forks must keep open for it.
    pub fn descriptor(&self) -> RawFd {
        self.flows.descriptor()
    }
}

impl Origin for Turned {
    /// Takes the entry away: a client's port may be used again at once, and must not be taken for
    /// the one before. A table that cannot be read knows nobody.
    fn flow(&self, client: SocketAddr, local: SocketAddr) -> Option<Flow> {
        let turned = self.flows.take(&key(client, TCP)).unwrap_or_else(|error| {
            tracing::error!(%client, %error, "the flow of a connection cannot be read");
            None
        });
        if turned.is_none() && !mutation::stands("flow") {
            return Some(Flow { door: Door::Explicit, client, target: local, process: None });
        }
        let turned = turned?;
        let target = address(&turned.target);
        let is_door = target == canonical(local);
        let door = if is_door { Door::Explicit } else { Door::Redirect };
        let process = Some(self.processes.of_flow(&turned));
        Some(Flow { door, client: canonical(client), target, process })
    }

    fn count(&self) -> Option<usize> {
        self.flows.count().ok()
    }

    /// Leaves the entry: one socket asks several questions. The next socket on the same port
    /// overwrites it before its first question leaves.
    fn asker(&self, client: SocketAddr, _asked: Option<IpAddr>) -> Option<Process> {
        let turned = self.flows.get(&key(client, UDP)).ok().flatten()?;
        Some(self.processes.of_flow(&turned))
    }
}

/// The key of a client, as the kernel half writes it.
fn key(client: SocketAddr, protocol: u16) -> FlowKey {
    let v6 = match client.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    FlowKey { address: zerocopy::transmute!(v6.octets()), port: client.port(), protocol }
}

/// The address in a record; a mapped one is the IPv4 address that it stands for.
pub(super) fn address(endpoint: &Endpoint) -> SocketAddr {
    let octets: [u8; 16] = zerocopy::transmute!(endpoint.address);
    SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), endpoint.port)
}

/// The same address in one spelling.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_one_key_in_either_spelling() {
        let plain: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:4000".parse().unwrap();
        assert_eq!(key(plain, TCP), key(mapped, TCP));
        assert_ne!(key(plain, TCP), key(plain, UDP));
        assert_eq!(
            key(plain, TCP).address,
            Endpoint::v4(u32::from_ne_bytes([127, 0, 0, 1]), 0).address
        );
    }

    #[test]
    fn a_mapped_target_is_told_as_ipv4() {
        let endpoint = Endpoint::v4(u32::from_ne_bytes([10, 1, 2, 3]), 443);
        assert_eq!(address(&endpoint), "10.1.2.3:443".parse().unwrap());
        let six: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
        assert_eq!(address(&Endpoint::v6(key(six, TCP).address, 443)), six);
    }
}
