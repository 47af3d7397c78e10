//! Walls, doors, and a hand behind them, in a network namespace of the test's own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use boundary::jail::ebpf::{Name, Refusals, Refused, Ring, Turned, Walls};
use boundary::proxy::{Doors, Origin as _};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// How long anything may take that has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The scene of one test.
pub(super) struct Inside {
    pub(super) walls: Walls,
    pub(super) doors: Doors,
    pub(super) origin: Turned,
    pub(super) refusals: Refusals,
    pub(super) hand: Hand,
    /// A server of the host, in the same namespace: over IPv4, over IPv6.
    pub(super) strangers: [TcpListener; 2],
    /// Keep the kernel from giving a socket of the hand one of the numbers above for UDP: sent
    /// there, a datagram would rightly arrive.
    _reserved: Vec<UdpSocket>,
}

impl Inside {
    /// Raises the walls in a namespace with nothing but loopback, and puts a hand behind them.
    pub(super) fn new() -> Self {
        alone();
        let doors = doors();
        let strangers = [bind("127.0.0.1:0"), bind("[::1]:0")];
        let reserved = strangers.iter().chain(&doors.tcp).filter_map(|listener| {
            let address = listener.local_addr().expect("a listener has an address");
            UdpSocket::bind(address).ok()
        });
        let reserved = reserved.collect();
        let walls = Walls::raise(&Name::fresh(), &doors).expect("the walls are raised");
        let origin = walls.origin().expect("the origin is read");
        let refusals = walls.refusals().and_then(Ring::open).expect("the refusals are read");
        let hand = Hand::start(walls.cgroup().path());
        for stranger in &strangers {
            stranger.set_nonblocking(true).expect("a listener does not wait");
        }
        Self { walls, doors, origin, refusals, hand, strangers, _reserved: reserved }
    }

    /// Who arrived at the proxy's doors: client, target, process id. Does not wait: a connection
    /// that the hand has made is there.
    pub(super) fn at_proxy(&self) -> Vec<(SocketAddr, u32)> {
        let mut flows = Vec::new();
        for door in &self.doors.tcp {
            while let Ok((stream, client)) = door.accept() {
                let local = stream.local_addr().expect("a stream has an address");
                let flow = self.origin.flow(client, local).expect("every connection has a flow");
                let process = flow.process.expect("every flow has a process");
                flows.push((flow.target, process.pid));
            }
        }
        flows
    }

    /// Who asked at the resolver's doors, by process id; each is answered.
    pub(super) fn at_resolver(&self) -> Vec<u32> {
        let mut askers = Vec::new();
        for door in &self.doors.dns {
            while let Ok((_, client)) = door.recv_from(&mut [0; 64]) {
                let process = self.origin.asker(client, None).expect("every question has an asker");
                askers.push(process.pid);
                answer(door, client);
            }
        }
        askers
    }

    /// How many connections a stranger got.
    pub(super) fn at_strangers(&self) -> usize {
        self.strangers.iter().filter(|stranger| stranger.accept().is_ok()).count()
    }

    /// Waits for a refusal that fits.
    pub(super) fn refusal(&mut self, fits: impl Fn(&Refused) -> bool) -> Refused {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let told: Vec<Refused> = std::iter::from_fn(|| self.refusals.next()).collect();
            if let Some(refused) = told.iter().find(|refused| fits(refused)) {
                return refused.clone();
            }
            seen.extend(told);
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such refusal among {seen:#?}");
            let left = PollTimeout::try_from(left).expect("a short time");
            let mut waiting = [PollFd::new(self.refusals.as_fd(), PollFlags::POLLIN)];
            poll(&mut waiting, left).expect("the ring can be waited for");
        }
    }

    /// A door's address.
    pub(super) fn proxy(&self) -> SocketAddr {
        self.doors.tcp[0].local_addr().expect("a listener has an address")
    }
}

/// Answers a question at the resolver's door.
#[expect(clippy::disallowed_methods, reason = "what dns::serve does")]
fn answer(door: &UdpSocket, client: SocketAddr) {
    door.send_to(b"answer", client).expect("an answer is sent");
}

/// The hand, and the way to talk to it.
pub(super) struct Hand {
    child: Child,
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
    pub(super) pid: u32,
    /// Its own servers: TCP over IPv4 and IPv6, UDP over both.
    pub(super) ports: [u16; 4],
}

impl Hand {
    /// Starts one in a cgroup.
    pub(super) fn start(cgroup: &Path) -> Self {
        let mut child = within(cgroup, env!("CARGO_BIN_EXE_hand"), &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a hand is started");
        let asks = child.stdin.take();
        let mut says = BufReader::new(child.stdout.take().expect("it has a stdout"));
        let mut line = String::new();
        says.read_line(&mut line).expect("it says its ports");
        let ports: Vec<u16> =
            line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let ports = ports.try_into().expect("it has four servers");
        Self { pid: child.id(), child, asks, says, ports }
    }

    /// Has it do one thing, and tells what it said.
    pub(super) fn asked(&mut self, line: &str) -> String {
        self.ask(line);
        self.said()
    }

    /// Has it begin one thing.
    pub(super) fn ask(&mut self, line: &str) {
        let asks = self.asks.as_mut().expect("it listens");
        writeln!(asks, "{line}").expect("it is there");
    }

    /// What it says to what it was asked.
    pub(super) fn said(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }

    /// Waits for its end, and tells whether a signal was it.
    pub(super) fn is_killed(&mut self) -> bool {
        // Its stdout ends with it.
        self.says.read_to_end(&mut Vec::new()).expect("its stdout is read");
        let status = self.child.wait().expect("it is waited for");
        status.code().is_none()
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        drop(self.asks.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command that enters a cgroup before it is itself.
pub(super) fn within(cgroup: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]);
    command.arg(cgroup).arg(program).args(arguments);
    command
}

/// Moves the test's thread, and what it starts, to a network with nothing but loopback.
pub(super) fn alone() {
    // Before Linux 5.11 the walls of one test put down the limit under which another's are raised.
    // Where root may not lift it, no limit matters, or raising the walls says so.
    let all = RLIM_INFINITY;
    setrlimit(Resource::RLIMIT_MEMLOCK, all, all).unwrap_or_default();
    unshare(CloneFlags::CLONE_NEWNET).expect("root makes namespaces");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("ip is there").success(), "loopback comes up");
}

/// Doors over both families that do not wait.
fn doors() -> Doors {
    let tcp = vec![bind("127.0.0.1:0"), bind("[::1]:0")];
    let dns = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    let dns = dns.map(|ip| UdpSocket::bind((ip, 0)).expect("a socket is bound"));
    for door in &tcp {
        door.set_nonblocking(true).expect("a listener does not wait");
    }
    for door in &dns {
        door.set_nonblocking(true).expect("a socket does not wait");
    }
    Doors { tcp, dns: dns.into() }
}

/// A listener.
pub(super) fn bind(address: &str) -> TcpListener {
    TcpListener::bind(address).expect("a listener is bound")
}
