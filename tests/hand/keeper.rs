//! A keeper to be killed: raises walls around nobody, says where, and waits for its end.

use std::io::{self, Read as _};
use std::net::{TcpListener, UdpSocket};

use boundary::jail::ebpf::{Name, Walls};
use boundary::proxy::Doors;

/// Raises the walls and waits until stdin ends, or for a signal that nothing can catch.
pub(crate) fn raise() -> anyhow::Result<()> {
    let doors = Doors {
        tcp: vec![TcpListener::bind("127.0.0.1:0")?],
        dns: vec![UdpSocket::bind("127.0.0.1:0")?],
    };
    let walls = Walls::raise(&Name::fresh(), &doors)?;
    let port = doors.tcp.first().map(TcpListener::local_addr).transpose()?;
    let port = port.map(|address| address.port()).unwrap_or_default();
    println!("{port} {}", walls.cgroup().path().display());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
