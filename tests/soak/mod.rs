//! The soak: every kind of client at once in one session that lasts, short sessions beside it, and a
//! fault every few seconds; nothing leaks, every request is on record once, and nothing grows.
//!
//! *Standing*: `cargo xtask soak` says for how many minutes (`BOUNDARY_SOAK_MINUTES`); in the suite
//! every fault strikes once. *Never*: needs anything of the machine to itself: no figure is a time.

mod faults;
mod ledger;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::faults::Fault;
use self::ledger::Ledger;
use crate::world::agent::Agent;
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{Session, World};

/// The policy: one host, and one of its ports for anything.
const OPTIONS: [&str; 6] = [
    "--allow",
    "domain=allowed.test",
    "--allow",
    "proto=tcp host=allowed.test port=7",
    "--metrics-port",
    "9464",
];
/// Where metrics are shown.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
/// The addresses of the host that is allowed.
const ALLOWED: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)),
];

/// What a session's processes hold at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Resident memory, in KiB.
    memory: u64,
    /// Open descriptors.
    descriptors: u64,
}

/// How it goes on.
struct Soak<'w> {
    world: &'w World,
    session: Session<'w>,
    agent: Agent,
    samples: Vec<Sample>,
    /// Packets and requests that should not have arrived.
    leaks: Vec<String>,
    /// When each fault was over that struck, in seconds of the epoch.
    struck: Vec<(Fault, Vec<f64>)>,
    sessions: usize,
}

#[test]
fn everything_at_once_with_faults_in_between_leaks_nothing_and_grows_nowhere() {
    needs!(root, bpf, python3, curl, httpx, grpcio, tc, prlimit);
    let minutes = minutes();
    let world = World::new();
    let origin = world.file("origin.py", include_str!("origin.py"));
    let _origin = world.daemon(&["/usr/bin/python3", origin.to_str().expect("ours")], 8765);
    let mut soak = Soak::begin(&world, minutes);
    let until = Instant::now() + Duration::from_secs_f64(minutes.unwrap_or_default() * 60.0);
    let beside = World::new();
    for fault in Fault::ALL.into_iter().cycle() {
        soak.strike(fault, if minutes.is_some() { 4 } else { 1 });
        soak.run_beside(&beside);
        let is_once_round =
            soak.struck.iter().map(|(_, times)| times.len()).sum::<usize>() % Fault::ALL.len() == 0;
        if is_once_round && Instant::now() >= until {
            break;
        }
    }
    soak.end(minutes);
}

/// For how long, if anybody says.
fn minutes() -> Option<f64> {
    std::env::var("BOUNDARY_SOAK_MINUTES").ok()?.parse().ok()
}

impl<'w> Soak<'w> {
    /// Starts the clients, and waits until they run.
    fn begin(world: &'w World, minutes: Option<f64>) -> Self {
        let agent = Agent::at(&world.folder().join("tmp/boundary-audit.sock")).start();
        let clients = world.file("clients.py", include_str!("clients.py"));
        let [clients, folder] =
            [&clients, world.folder()].map(|path| path.to_str().expect("our own name").to_owned());
        let pause = if minutes.is_some() { "0.5" } else { "0.1" };
        let command = ["/usr/bin/python3", "-u", &clients, &folder, pause];
        let session = world.boundary(&OPTIONS, &command).start();
        session.wait_for("ready");
        let struck = Fault::ALL.map(|fault| (fault, vec![])).to_vec();
        Self { world, session, agent, samples: vec![], leaks: vec![], struck, sessions: 1 }
    }

    /// Lets one fault strike, with a while of peace before it.
    fn strike(&mut self, fault: Fault, seconds: u64) {
        let peace = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < peace {
            thread::park_timeout(Duration::from_millis(200));
        }
        self.sample();
        self.look();
        fault.strike(self.world, &mut self.agent, Duration::from_secs(seconds.min(2)));
        if let Some((_, times)) = self.struck.iter_mut().find(|(it, _)| *it == fault) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            times.push(now.expect("later than 1970").as_secs_f64());
        }
    }

    /// Notes what the session's processes hold.
    fn sample(&mut self) {
        self.samples.push(self.held());
    }

    /// What the session's processes hold.
    fn held(&self) -> Sample {
        let mut sample = Sample { memory: 0, descriptors: 0 };
        for process in self.world.processes().iter().filter(|process| process.is_boundary()) {
            let folder = format!("/proc/{}", process.pid);
            let status = fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
            let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let memory = memory.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
            sample.memory += memory.unwrap_or(0);
            let open = fs::read_dir(format!("{folder}/fd")).map_or(0, Iterator::count);
            sample.descriptors += u64::try_from(open).unwrap_or_default();
        }
        sample
    }

    /// Looks at what has arrived since the last time.
    fn look(&mut self) {
        let is_allowed = |ip: Option<IpAddr>| ip.is_some_and(|ip| ALLOWED.contains(&ip));
        let strays = self.world.packets().into_iter().filter(|packet| {
            let is_elsewhere = packet.protocol == Some(6) && !is_allowed(packet.target);
            packet.is_stray() || is_elsewhere && packet.port != Some(53)
        });
        self.leaks.extend(strays.map(|packet| packet.to_string()));
        let requests = self.world.requests().into_iter();
        let refused = requests.filter(|request| request.target.contains("refused"));
        self.leaks.extend(refused.map(|request| request.target));
    }

    /// A short session in a world of its own: to its end, or killed on its way.
    fn run_beside(&mut self, world: &World) {
        let script = "curl -sS http://allowed.test/a; curl -sS http://denied.test/b; \
                      echo asked; exec curl -sS http://allowed.test/hang/never";
        self.sessions += 1;
        if self.sessions.is_multiple_of(2) {
            let asks = script.rsplit_once("exec").map_or(script, |(asks, _)| asks);
            let out = world.boundary(&OPTIONS[..2], &["sh", "-c", asks]).output();
            out.exits(0).says("this is allowed.test").says("Request Blocked by Boundary");
            let decided = out.records.iter().filter(|record| record.get("duration_ms").is_none());
            let decided = decided.filter(|record| record["http_url"].is_string()).count();
            out.expect(decided == 2, "both requests are on record once");
            let strays = out.packets.iter().filter(|packet| packet.is_stray());
            self.leaks.extend(strays.map(ToString::to_string));
        } else {
            let session = world.boundary(&OPTIONS[..2], &["sh", "-c", script]).start();
            session.wait_for("asked");
            session.kill();
            let out = session.finish();
            let strays = out.packets.iter().filter(|packet| packet.is_stray());
            self.leaks.extend(strays.map(ToString::to_string));
        }
        eventually("nothing is left of it", || world.processes().is_empty());
    }

    /// Ends the clients and the session, and holds the record against what they did.
    fn end(mut self, minutes: Option<f64>) {
        self.sample();
        let metrics = self.metrics();
        self.world.file("soak-is-over", "");
        // On a busy machine the last attempts take longer than a word may.
        let done = self.world.folder().join("logs/soak-done");
        let latest = Instant::now() + Duration::from_mins(4);
        while !done.exists() && Instant::now() < latest {
            thread::park_timeout(Duration::from_millis(100));
        }
        self.session.wait_for("done");
        self.look();
        // Before, what is held is as much as the clients ask for on a machine as busy as it is.
        let rest = self.held();
        self.world.file("soak-is-counted", "");
        let out = self.session.finish();
        out.exits(0);
        let results = fs::read_to_string(self.world.folder().join("logs/soak-results"));
        let ledger = Ledger::of(&results.expect("the clients wrote it"), &out.records);
        let [first, last] = [early(&self.samples), late(&self.samples)];
        let faults: Vec<String> =
            self.struck.iter().map(|(fault, times)| format!("{fault:?} {}", times.len())).collect();
        for (fault, times) in &self.struck {
            println!("{}", recovery(*fault, times, &ledger));
        }
        println!(
            "soak: {:.1} min, {} sessions, {ledger}, faults [{}], memory {} -> {} KiB, descriptors \
             {} -> {}, leaks {}, record difference {}",
            minutes.unwrap_or_default(),
            self.sessions,
            faults.join(", "),
            first.memory,
            last.memory,
            first.descriptors,
            rest.descriptors,
            self.leaks.len(),
            ledger.differences().len(),
        );
        assert!(self.leaks.is_empty(), "{:#?}", self.leaks);
        assert!(ledger.differences().is_empty(), "{:#?}", ledger.differences());
        assert!(
            ledger.idle().is_empty(),
            "these never succeeded: {:?}\n{}",
            ledger.idle(),
            out.stderr
        );
        for (line, why) in [
            ("boundary_faults_total 0\n", "no fault of boundary's own"),
            ("boundary_records_dropped_total 0\n", "no record is lost"),
        ] {
            assert!(metrics.contains(line), "{why}:\n{metrics}");
        }
        let most = first.memory + first.memory / 4 + (16 << 10);
        assert!(last.memory < most, "memory grows: {:?}", self.samples);
        assert!(
            rest.descriptors < first.descriptors + 64,
            "descriptors stay: {rest:?} of {:?}",
            self.samples
        );
    }

    /// What metrics say, once they can be asked for.
    fn metrics(&self) -> String {
        #[expect(clippy::disallowed_methods, reason = "an operator looks, from the host itself")]
        self.world.host().run(|| {
            let mut stream = TcpStream::connect(METRICS).expect("they are shown");
            let request = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("they are shown");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("they are shown");
            text
        })
    }
}

/// How long it took after a fault until the first client, and one of every kind, was served again.
fn recovery(fault: Fault, times: &[f64], ledger: &Ledger) -> String {
    let all: Vec<(f64, f64)> = times.iter().map(|ended| ledger.recovered(*ended)).collect();
    let of = |figure: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = all.iter().map(figure).collect();
        all.sort_unstable_by(f64::total_cmp);
        let last = all.last().copied().unwrap_or(f64::NAN);
        format!("{:.2} s, at most {last:.2} s", all.get(all.len() / 2).copied().unwrap_or(f64::NAN))
    };
    let (first, every) = (of(|it| it.0), of(|it| it.1));
    format!("recovered: after {fault:?} the first client in {first}; one of every kind in {every}")
}

/// The middle of the samples after the first fifth, in which everything is opened for the first time.
fn early(samples: &[Sample]) -> Sample {
    let fifth = samples.len() / 5;
    middle(&samples[fifth..(2 * fifth).max(fifth + 1)])
}

/// The middle of the last fifth.
fn late(samples: &[Sample]) -> Sample {
    middle(&samples[samples.len() - (samples.len() / 5).max(1)..])
}

/// The middle of each figure.
fn middle(samples: &[Sample]) -> Sample {
    let of = |figure: fn(&Sample) -> u64| {
        let mut all: Vec<u64> = samples.iter().map(figure).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    Sample { memory: of(|it| it.memory), descriptors: of(|it| it.descriptors) }
}
