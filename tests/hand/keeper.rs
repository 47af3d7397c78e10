//! A keeper to be killed: raises walls around nobody, says where, and tells who comes to its door,
//! with no privilege but what readers need, until its end.

use std::net::{TcpListener, UdpSocket};

use boundary::jail::ebpf::{Name, Walls};
use boundary::proxy::{Doors, Origin as _};
use boundary::sys::process;
use nix::unistd::{Uid, setresuid};

/// The user that has no rights.
const NOBODY: u32 = 65_534;

/// Raises the walls, gives every privilege up that its reader does not need, and tells the target of each connection, or that it
/// does not know it. A signal ends it that nothing can catch.
pub(crate) fn raise() -> anyhow::Result<()> {
    let door = TcpListener::bind("127.0.0.1:0")?;
    let doors = Doors { tcp: vec![door.try_clone()?], dns: vec![UdpSocket::bind("127.0.0.1:0")?] };
    let walls = Walls::raise(&Name::fresh(), &doors)?;
    let origin = walls.origin()?;
    let nobody = Uid::from_raw(NOBODY);
    let needed = walls.readers_need()?;
    process::keep_permitted()?;
    setresuid(nobody, nobody, nobody)?;
    process::hold_capabilities(needed)?;
    println!("{} {}", door.local_addr()?.port(), walls.cgroup().path().display());
    loop {
        let (stream, client) = door.accept()?;
        match origin.flow(client, stream.local_addr()?) {
            Some(flow) => println!("{}", flow.target),
            None => println!("nobody"),
        }
    }
}
