//! What a crowd makes the proxy hold, at its bounds: memory, tasks and descriptors for each connection,
//! and memory in all.
//!
//! *Standing*: `docs/limits.md` names the bounds and these tests. What else is bounded has tests beside
//! its own code.

use std::fs;
use std::path::PathBuf;

use nix::sys::stat::Mode;

use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::stopwatch::Mended;
use crate::world::{Session, World};

/// How many connections are the crowd.
const CROWD: u64 = 64;

/// The most that one connection of HTTP/1.1 may hold, or one stream of HTTP/2: what `docs/limits.md` says.
const EACH: u64 = 512 << 10;
/// How many streams there are on one connection.
const STREAMS: u64 = 256;

/// What comes and goes beside the crowd: a task, a descriptor of somebody who looks.
const BESIDE: u64 = 8;
/// What the allocator takes at once for whoever comes first.
const SLACK: u64 = 8 << 20;

/// The limit of the second test: what the proxy needs for itself and a little.
const IN_ALL: u64 = 64 << 20;

/// What the commands have in common: the others' address is `HOST`, the test says when to go on.
const COMMON: &str = "
import os, socket, ssl, struct, sys, time
HOST = '203.0.113.10'
gate = os.fdopen(os.open(sys.argv[1], os.O_RDWR), 'rb', 0)

def say(word):
    print(word, flush=True)
    gate.readline()

def connect(port=80):
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.settimeout(60)
    stream.connect((HOST, port))
    return stream

def status(stream, request=b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\n\\r\\n'):
    try:
        stream.sendall(request)
        return stream.recv(12)[9:12].decode()
    except OSError:
        return 'none'

def served_soon():
    until = time.monotonic() + 50
    while status(connect()) != '200' and time.monotonic() < until:
        time.sleep(0.1)
    print('served' if status(connect()) == '200' else 'never again', flush=True)

HEAD = b'GET /size/30000000 HTTP/1.1\\r\\nHost: allowed.test\\r\\nX-Long: ' + b'x' * 60000
";

/// A crowd of as many as may be: each with a head that is as long as it may be and not over, and then
/// with an answer that it does not take.
const HEADS: &str = "
assert status(connect()) == '200'
say('first')
held = [connect() for _ in range(int(sys.argv[2]))]
for stream in held:
    stream.sendall(HEAD)
say('heads ' + status(connect()))
for stream in held:
    stream.sendall(b'\\r\\n\\r\\n')
say('bodies')
for stream in held:
    stream.close()
served_soon()
";

/// One connection of HTTP/2 with as many streams as there may be, whose answers may be sent and are
/// not read.
const UNREAD: &str = "
assert status(connect()) == '200'
say('first')
context = ssl.create_default_context()
context.set_alpn_protocols(['h2'])
client = context.wrap_socket(connect(443), server_hostname='allowed.test')
def frame(kind, flags, stream, payload=b''):
    return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload
def field(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value
fields = (field(b':method', b'GET') + field(b':scheme', b'https')
          + field(b':authority', b'allowed.test') + field(b':path', b'/size/30000000'))
client.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + frame(4, 0, 0, struct.pack('>HI', 4, 2**31 - 1))
               + frame(8, 0, 0, struct.pack('>I', 2**31 - 1 - 65535)))
for number in range(int(sys.argv[2])):
    client.sendall(frame(1, 5, 2 * number + 1, fields))
say('streams')
client.close()
served_soon()
";

/// A crowd that grows until it is told that there is no more room.
const MANY: &str = "
assert status(connect()) == '200'
say('first')
held = []
while len(held) < 4000:
    stream = connect()
    try:
        stream.sendall(HEAD)
        if len(held) > 32 and len(held) % 8 == 0 and status(connect()) == '503':
            break
    except OSError:
        pass
    held.append(stream)
say('room for %d' % len(held))
for stream in held:
    stream.close()
served_soon()
";

/// A session whose command goes on when it is told to.
struct Crowd<'w> {
    world: &'w World,
    session: Session<'w>,
    gate: PathBuf,
}

impl<'w> Crowd<'w> {
    /// Begins it, and waits until it has been served once.
    fn begin(world: &'w World, limit: &str, script: &str, count: u64) -> Self {
        // What the kernel holds is not the proxy's.
        world.host().run(|| {
            for end in ["rmem", "wmem"] {
                let path = format!("/proc/sys/net/ipv4/tcp_{end}");
                fs::write(path, "4096 16384 65536").expect("the host's own");
            }
        });
        let gate = world.folder().join("tmp/gate");
        nix::unistd::mkfifo(&gate, Mode::S_IRWXU).expect("the folder is ours");
        let (path, count) = (gate.to_str().expect("our own name"), count.to_string());
        let script = format!("{COMMON}{script}");
        let command = ["/usr/bin/python3", "-c", &script, path, &count];
        let options = ["--metrics-port", "9464", "--limit", limit, "--limit", "silence=20s"];
        let options = [&["--allow", "domain=allowed.test"], &options[..]].concat();
        let session = world.boundary(&options, &command).start();
        session.wait_for("first");
        Self { world, session, gate }
    }

    /// Lets it go on, until it says so.
    fn goes_on_to(&self, word: &str) {
        fs::write(&self.gate, "go\n").expect("somebody reads");
        self.session.wait_for(word);
    }

    /// What operators see now.
    fn figures(&self) -> Figures {
        let curl = ["curl", "-sS", "--max-time", "20", "http://127.0.0.1:9464/metrics"];
        let told = self.world.bare(&curl).output().stdout;
        let of = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {told}"))
        };
        Figures {
            connections: of("boundary_connections"),
            memory: of("boundary_memory_bytes"),
            tasks: of("boundary_tasks"),
            descriptors: of("boundary_descriptors"),
        }
    }

    /// What operators see once nothing grows any more.
    fn settled(&self) -> Figures {
        let last = std::cell::Cell::new(self.figures());
        eventually("nothing grows any more", || {
            let (now, before) = (self.figures(), last.get());
            last.set(now);
            now.memory <= before.memory && now.descriptors <= before.descriptors
        });
        println!("{:?}", last.get());
        last.get()
    }

    /// Ends the crowd, after which the next is served.
    fn ends(self) {
        let is_told = Mended::now();
        self.goes_on_to("served");
        is_told.recovered();
        self.session.finish().exits(0);
    }
}

/// What a proxy holds.
#[derive(Debug, Clone, Copy)]
struct Figures {
    connections: u64,
    memory: u64,
    tasks: u64,
    descriptors: u64,
}

#[test]
fn a_crowd_at_its_bound_holds_no_more_for_each_than_it_may() {
    needs!(root, bpf, python3, curl);
    let world = World::new();
    let crowd = Crowd::begin(&world, &format!("connections={CROWD}"), HEADS, CROWD);
    let before = crowd.figures();
    crowd.goes_on_to("heads 503");
    let heads = crowd.settled();
    assert_eq!(heads.connections, CROWD, "there is no room for another");
    crowd.goes_on_to("bodies");
    eventually("each has its upstream", || {
        // One may go on where the first was served.
        crowd.figures().descriptors + 1 >= before.descriptors + 2 * CROWD
    });
    let bodies = crowd.settled();
    for (now, most) in [(heads, 1), (bodies, 2)] {
        let said = format!("{before:?}, {now:?}");
        assert!(now.descriptors <= before.descriptors + most * CROWD + BESIDE, "{said}");
        assert!(now.tasks <= before.tasks + (2 * most - 1) * CROWD + BESIDE, "{said}");
        assert!(now.memory <= before.memory + EACH * CROWD + SLACK, "{said}");
    }
    crowd.ends();
}

#[test]
fn streams_that_nobody_reads_hold_no_more_than_a_connection_may() {
    needs!(root, bpf, python3, curl);
    let world = World::new();
    let crowd = Crowd::begin(&world, &format!("h2_streams={STREAMS}"), UNREAD, STREAMS);
    let before = crowd.figures();
    crowd.goes_on_to("streams");
    eventually("they are under way", || crowd.figures().tasks >= before.tasks + STREAMS);
    let now = crowd.settled();
    let said = format!("{before:?}, {now:?}");
    assert!(now.memory <= before.memory + EACH * STREAMS + SLACK, "{said}");
    assert!(now.tasks <= before.tasks + 2 * STREAMS + BESIDE, "{said}");
    assert!(now.descriptors <= before.descriptors + 1 + STREAMS + BESIDE, "{said}");
    crowd.ends();
}

#[test]
fn with_as_much_memory_as_there_may_be_no_more_are_taken_until_there_is_room() {
    needs!(root, bpf, python3, curl);
    let world = World::new();
    let crowd = Crowd::begin(&world, &format!("memory={IN_ALL}"), MANY, 0);
    assert!(crowd.figures().memory < IN_ALL, "alone it needs less");
    crowd.goes_on_to("room for ");
    let now = crowd.settled();
    assert!((32..4000).contains(&now.connections), "{now:?}");
    assert!(now.memory <= IN_ALL + 16 * EACH, "between two looks, so many come: {now:?}");
    crowd.ends();
}
