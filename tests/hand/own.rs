//! The servers that a session starts for itself.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::PATIENCE;

/// One server of each kind and family.
pub(crate) struct Own {
    tcp: [TcpListener; 2],
    udp: [UdpSocket; 2],
}

impl Own {
    /// Opens them, ready to be asked whether something came.
    pub(crate) fn open() -> io::Result<Self> {
        let tcp = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("[::1]:0")?];
        let udp = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("[::1]:0")?];
        for listener in &tcp {
            listener.set_nonblocking(true)?;
        }
        for socket in &udp {
            socket.set_nonblocking(true)?;
        }
        Ok(Self { tcp, udp })
    }

    /// Their ports: TCP over IPv4 and IPv6, UDP over both.
    pub(crate) fn ports(&self) -> io::Result<String> {
        let mut ports = Vec::new();
        for listener in &self.tcp {
            ports.push(listener.local_addr()?.port().to_string());
        }
        for socket in &self.udp {
            ports.push(socket.local_addr()?.port().to_string());
        }
        Ok(ports.join(" "))
    }

    /// How many connections and datagrams came since this was last asked.
    pub(crate) fn arrived(&self) -> String {
        let connections: usize = self.tcp.iter().map(|l| count(|| l.accept().map(drop))).sum();
        let datagrams: usize =
            self.udp.iter().map(|s| count(|| s.recv(&mut [0; 64]).map(drop))).sum();
        format!("{connections} {datagrams}")
    }

    /// Connects to one of the listeners and passes words both ways.
    pub(crate) fn talk(&self, target: &str) -> anyhow::Result<String> {
        #[expect(clippy::disallowed_methods, reason = "a program inside that talks to itself")]
        let mut client = TcpStream::connect(target)?;
        let mut accepted = self.tcp.iter().filter_map(|listener| listener.accept().ok());
        let (mut server, _) = accepted.next().ok_or_else(|| anyhow::anyhow!("nobody came"))?;
        for stream in [&client, &server] {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(Duration::from_secs(PATIENCE.unsigned_abs())))?;
        }
        let mut word = [0; 4];
        client.write_all(b"ping")?;
        server.read_exact(&mut word)?;
        server.write_all(b"pong")?;
        client.read_exact(&mut word)?;
        Ok(String::from_utf8(word.to_vec())?)
    }
}

/// How often something succeeds at once.
fn count(mut attempt: impl FnMut() -> io::Result<()>) -> usize {
    let mut times = 0;
    while attempt().is_ok() {
        times += 1;
    }
    times
}
