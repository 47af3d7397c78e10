//! Real servers of the simulated internet: sshd, a database, whatever the machine has.
//!
//! *Standing*: started in the internet's namespaces, where every address is its own, and ended with
//! the test that started them. *Never*: outlives it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use super::World;
use super::processes::eventually;

/// A server that runs.
pub(crate) struct Daemon(Child);

impl World {
    /// Starts a server in the internet and waits until it takes connections at the port.
    pub(crate) fn daemon(&self, line: &[&str], port: u16) -> Daemon {
        let line: Vec<String> = line.iter().map(ToString::to_string).collect();
        let daemon = self.internet().run(move || {
            let mut command = Command::new(&line[0]);
            command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::null());
            Daemon(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", line[0])))
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually("the server listens", || {
            #[expect(clippy::disallowed_methods, reason = "the internet speaks to itself")]
            self.internet().run(move || TcpStream::connect(address).is_ok())
        });
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended by itself is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
