//! the same address somewhere else, and other addresses for here.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::REFUSALS;
use super::people::BOTH;
use crate::world::needs::{cgroup2, needs};
use crate::world::place::Place;
use crate::world::{World, jail};

/// Where the session's proxy listens in the host, and somebody else in another network namespace.
const DOOR: &str = "18080";

/// What the host may be called by whom it is near to: itself, its bridges, its neighbours' view.
const ALIASES: &str = "\
address add 172.17.0.1/16 dev lo
address add 169.254.1.1/32 dev lo
address add 192.168.49.1/24 dev eth0
address add fd77:1::1/64 dev eth0 nodad
address add fe80::77/64 dev eth0 nodad
";

/// Every spelling of an address of the host.
const OWN: &[&str] = &[
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.254",
    "0.0.0.0",
    "10.77.0.2",
    "172.17.0.1",
    "169.254.1.1",
    "192.168.49.1",
    "::1",
    "::",
    "fd77::2",
    "fd77:1::1",
    "::ffff:127.0.0.1",
    "::ffff:10.77.0.2",
    "::ffff:172.17.0.1",
    "::ffff:0.0.0.0",
];

#[test]
fn a16_a_door_in_another_network_namespace_is_none() {
    needs!(root, ebpf);
    let world = World::new();
    let elsewhere = Place::make();
    let thieves = elsewhere.run(|| {
        ["127.0.0.1", "::1"].map(|address| {
            let door = format!("{}:{DOOR}", if address == "::1" { "[::1]" } else { address });
            let thief = TcpListener::bind(door).expect("the port is free there");
            thief.set_nonblocking(true).expect("it does not wait");
            thief
        })
    });
    let options = ["--proxy-port", DOOR, "--allow", "domain=allowed.test"];
    let run = world.boundary(&options, &[world.attack(), "signals", "1"]);
    let session = run.start();
    session.wait_for("ready");
    let script = "for t in 203.0.113.10 2001:db8::10 ::ffff:203.0.113.10; do \
                  $0 tcp $t 80 http:allowed.test; done; $0 udp sendto 192.0.2.53 53";
    let said = moved_into_the_session(&world, &elsewhere, script);
    let command = world.process("attack").pid;
    nix::sys::signal::kill(command, nix::sys::signal::Signal::SIGUSR1).expect("it is there");
    let out = session.finish();
    let findings: Vec<serde_json::Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    out.expect(findings.len() == 4, &format!("each attempt says what became of it: {said}"));
    let refused = |it: &serde_json::Value| REFUSALS.iter().any(|errno| it["errno"] == *errno);
    out.expect(findings.iter().all(refused), &format!("each is refused: {said}"));
    out.expect(thieves.iter().all(|it| it.accept().is_err()), "who listens there gets nothing");
    out.nothing_left().record(&[("decision", "deny"), ("code", "door_shut")]);
}

/// Runs a script in another network namespace, in the cgroup of the world's one session; what it
/// says.
fn moved_into_the_session(world: &World, elsewhere: &Place, script: &str) -> String {
    let command = world.process("attack").pid;
    let text = fs::read_to_string(format!("/proc/{command}/cgroup")).expect("it is there");
    let place = text.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup2");
    let procs = Path::new(&cgroup2().expect("needed")).join(place).join("cgroup.procs");
    let (attack, script) = (world.attack().to_owned(), format!("read go; {script}"));
    elsewhere.run(move || {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, &attack]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("sh starts");
        fs::write(procs, shell.id().to_string()).expect("root may");
        let mut stdin = shell.stdin.take().expect("a pipe was asked for");
        stdin.write_all(b"go\n").expect("the shell reads");
        let output = shell.wait_with_output().expect("it ends");
        String::from_utf8(output.stdout).expect("JSON is text")
    })
}

#[test]
fn a24_every_address_of_the_host_leads_to_a_verdict() {
    needs!(root, bpf);
    let world = World::new();
    world.host().ip(&[], ALIASES);
    world.loopback_service(9300);
    let datagrams = world.host().run(|| UdpSocket::bind("[::]:9301").expect("the port is free"));
    datagrams.set_nonblocking(true).expect("it does not wait");
    let script = "for t in $1; do $0 tcp $t 9300 http:localhost; $0 udp sendto $t 9301; done";
    let command = ["sh", "-c", script, world.attack(), &OWN.join(" ")];
    let out = world.bare(&command).output();
    let served = out.stdout.matches("host service").count();
    out.expect(served == OWN.len(), "outside each address leads to the service");
    let got = std::iter::from_fn(|| datagrams.recv(&mut [0; 64]).ok()).count();
    out.expect(got == OWN.len(), "and each datagram arrives");
    for user in BOTH {
        let out = user.bounded(&world, &command).output();
        out.nothing_left().expect(!out.stdout.contains("host service"), "no address is the way");
        let findings = out.findings();
        // In a network of its own, loopback is the command's: a datagram finds nobody there.
        let is_sent = |it: &serde_json::Value| jail() != "ebpf" && it["attack"] == "udp";
        let judged = |it: &&serde_json::Value| {
            it["ok"] == false || it.to_string().contains("403") || is_sent(it)
        };
        let count = findings.iter().filter(judged).count();
        out.expect(count == 2 * OWN.len(), "each attempt has an answer, and none is the service's");
        out.expect(datagrams.recv(&mut [0; 64]).is_err(), "no datagram arrives");
    }
}

#[test]
fn a24_a_datagram_for_everybody_on_loopback_has_no_copy_for_the_host() {
    needs!(root, bpf, python3);
    let world = World::new();
    let mut service = Service::start(&world);
    let script = "
import socket
def made():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for name in (socket.SO_REUSEADDR, socket.SO_BROADCAST): one.setsockopt(socket.SOL_SOCKET, name, 1)
    return one
for everybody in ('127.255.255.255', '127.0.0.0'):
    own = made()
    try: own.bind((everybody, 9302))
    except OSError as error: print(error); continue
    for connects in (False, True):
        sender = made()
        try:
            if connects: sender.connect((everybody, 9302)); sender.send(b'copy')
            else: sender.sendto(b'copy', (everybody, 9302))
        except OSError as error: print(error)
print('tried')";
    let command = ["/usr/bin/python3", "-c", script];
    for user in BOTH {
        user.bounded(&world, &command).output().says("tried").nothing_left();
    }
    world.bare(&["/usr/bin/python3", "-c", &script.replace("copy", "bare")]).output().says("tried");
    let heard = service.heard();
    assert!(heard.iter().any(|it| it == "bare"), "outside the host gets its copy: {heard:?}");
    assert!(!heard.iter().any(|it| it == "copy"), "and not from inside: {heard:?}");
}

/// A service of the host on a port that it shares, as those of mDNS and SSDP do.
struct Service(Child, Lines<BufReader<ChildStdout>>);

impl Service {
    /// One that listens.
    fn start(world: &World) -> Self {
        let script = "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 9302))
print('bound', flush=True)
while True: print(s.recv(9).decode(), flush=True)";
        let mut child = world.host().run(|| {
            let mut python = Command::new("/usr/bin/python3");
            python.args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a service")
        });
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        assert!(lines.next().is_some_and(|line| line.is_ok_and(|line| line == "bound")));
        Self(child, lines)
    }

    /// Everything that it heard, to the first from outside.
    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        for line in self.1.by_ref().map_while(Result::ok) {
            heard.push(line);
            if heard.last().is_some_and(|line| line == "bare") {
                break;
            }
        }
        heard
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a24_the_names_that_containers_have_for_their_host_are_names_like_any() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.host().ip(&[], ALIASES);
    world.loopback_service(9300);
    for name in ["host.docker.internal", "host-gateway.test", "gateway.test"] {
        world.name(name, &["172.17.0.1", "fd77:1::1"]);
        let url = format!("http://{name}:9300/");
        world.bare(&["curl", "-sS", &url]).output().says("host service");
        for user in BOTH {
            let out = user.bounded(&world, &["curl", "-sS", &url]).output();
            out.says("Request Blocked by Boundary").nothing_left();
        }
    }
}

#[test]
fn a29_root_has_no_capability_over_the_machines_network() {
    needs!(root, bpf);
    let world = World::new();
    for address in ["127.0.0.1", "::1", "0.0.0.0", "10.77.0.2"] {
        let words = [world.attack(), "bind", address, "631"];
        world.bare(&words).output().succeeded();
        for user in BOTH {
            let out = user.bounded(&world, &words).output();
            if jail() == "ebpf" {
                out.refused(&["EACCES", "EPERM"]);
                continue;
            }
            // The port is one of the command's own network. Addresses of the machine are not there;
            // a low port is for root.
            out.expect(out.finding()["errno"] != "EADDRINUSE", "nobody has it there");
        }
    }
}
