//! F-4: what the kernel noted of a connection that nobody accepted, and who comes next at its port.

use nix::sys::signal::{Signal, kill};

use super::stalled::{go_on, of_boundary, stop};
use super::{ALLOW, DENIED};
use crate::world::needs::needs;
use crate::world::{Session, World};

/// Connects from one and the same port, which the kernel knows a flow by: to a first host, and gives
/// up; to a second one, and asks; to the second one again.
const COMMAND: &str = "
import socket, struct, sys
def connect(host):
    s = socket.socket()
    s.settimeout(45)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('', 45679))
    s.connect((host, 80))
    return s
def reset(s):
    # Its port is free at once.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
def ask(s, host):
    name = 'allowed.test' if host.endswith('.10') else 'denied.test'
    line = 'GET / HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' % name
    s.sendall(line.encode())
    print('sent', flush=True)
    try: answer = s.recv(65536)
    except OSError: answer = b''
    reset(s)
    return answer
first, second = sys.argv[1:3]
reset(connect(first))
print('given up', flush=True)
if second != '-':
    for n in range(2):
        print(n, ask(connect(second), second), flush=True)
";

/// Starts it where the proxy accepts nobody.
fn unaccepted<'w>(world: &'w World, first: &str, second: &str) -> Session<'w> {
    let program = world.file("stale.py", COMMAND);
    let program = program.to_str().expect("our own name");
    let script = "$0 signals 1; exec /usr/bin/python3 \"$@\"";
    let command = ["sh", "-c", script, world.attack(), program, first, second];
    let options = [&["--proxy-port", "18080"], &ALLOW[..]].concat();
    let session = world.boundary(&options, &command).start();
    session.wait_for("ready");
    stop(world, of_boundary(world, "boundary-proxy"));
    go_on(world);
    session.wait_for("given up");
    session
}

/// Has the proxy go on.
fn accept(world: &World) {
    kill(of_boundary(world, "boundary-proxy"), Signal::SIGCONT).expect("it is there");
}

#[test]
fn f04_a_flow_that_nobody_took_is_not_the_next_ones() {
    needs!(root, ebpf, python3);
    let world = World::new();
    // By address: who does not accept answers no question either.
    let (allowed, denied) = ("203.0.113.10", DENIED[0]);
    for (first, second) in [(allowed, denied), (denied, allowed)] {
        let session = unaccepted(&world, first, second);
        session.wait_for("sent");
        accept(&world);
        let out = session.finish();
        let strays = out.packets.iter().filter(|it| it.target == denied.parse().ok()).count();
        out.exits(0).expect(strays == 0, "what is denied stays");
        let answer = |round: &str| out.stdout.lines().any(|line| line.starts_with(round));
        out.expect(answer("0 ") && answer("1 "), "it asks twice");
        let served = out.stdout.contains("this is");
        out.expect(served == (second == allowed), "the second is judged as itself");
        if second == denied {
            out.expect(out.requests.is_empty(), "and nobody is asked on its behalf");
        }
    }
}

/// Somebody of the host who connects to the proxy from the same port.
const STRANGER: &str = "
import socket
s = socket.socket()
s.settimeout(45)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', 45679))
s.connect(('127.0.0.1', 18080))
s.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\n\\r\\n')
print('sent', flush=True)
try: print(s.recv(65536))
except OSError as error: print(error)
";

#[test]
fn f04_b02_a_flow_that_nobody_took_is_not_a_strangers() {
    needs!(root, ebpf, python3);
    let world = World::new();
    let session = unaccepted(&world, "203.0.113.10", "-");
    let stranger = world.bare(&["/usr/bin/python3", "-c", STRANGER]).start();
    stranger.wait_for("sent");
    accept(&world);
    let out = stranger.finish();
    out.expect(!out.stdout.contains("this is"), "nobody of the host is served");
    let asked = out.requests.len() + session.finish().requests.len();
    assert_eq!(asked, 0, "and nobody is asked on his behalf");
}
