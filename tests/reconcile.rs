//! Reconciliation: what was asked, counted by who asked, is what every sink has; and what a sink
//! could not take is what it says it lost.
//!
//! `BOUNDARY_TEST_LONG=1` asks a hundred thousand times from two hundred processes at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::world::agent::Agent;
use crate::world::needs::needs;
use crate::world::{Output, World, lines};

/// Asks by every door, and says how often by which. Each phase begins with a word from outside. A
/// server that is too busy to answer in time is on record like any other.
const ASK: &str = r"
import collections, http.client, json, os, socket, sys
port, phases, workers, each, kinds = [int(word) for word in sys.argv[1:6]]

def question(number):
    labels = b''.join(bytes([len(it)]) + it for it in (b'n%d' % (number % 50), b'allowed', b'test'))
    return b'\x12\x34\x01\x00\x00\x01' + bytes(6) + labels + b'\x00\x00\x01\x00\x01'

def work(seed):
    done = collections.Counter()
    near = http.client.HTTPConnection('203.0.113.10', 80, timeout=50)
    far = http.client.HTTPConnection('203.0.113.10', 80, timeout=50)
    proxy = http.client.HTTPConnection('127.0.0.1', port, timeout=50)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); names.settimeout(50)
    for number in range(each):
        kind = (number + seed) % kinds
        if kind == 0:
            near.request('GET', '/%d/%d' % (seed, number), headers={'Host': 'allowed.test'})
            answer = near.getresponse(); answer.read(); assert answer.status in (200, 502, 504), answer.status
        elif kind == 1:
            far.request('POST', '/%d/%d' % (seed, number), body='x', headers={'Host': 'denied.test'})
            answer = far.getresponse(); answer.read(); assert answer.status == 403, answer.status
        elif kind == 2:
            proxy.request('GET', 'http://allowed.test/%d/%d' % (seed, number))
            answer = proxy.getresponse(); answer.read(); assert answer.status in (200, 502, 504), answer.status
        elif kind == 3:
            try: names.sendto(b'x', ('203.0.113.66', 9999)); assert False, 'it left'
            except PermissionError: pass
        else:
            names.sendto(question(number), ('192.0.2.53', 53)); names.recv(999)
        done[kind] += 1
    return done

total = collections.Counter()
for phase in range(phases):
    print('phase-%d.' % phase, flush=True); sys.stdin.readline()
    pipes = []
    for worker in range(workers):
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            try: os.write(write, json.dumps(work(phase * workers + worker)).encode()); os._exit(0)
            except BaseException as error: print(repr(error), file=sys.stderr, flush=True); os._exit(1)
        os.close(write); pipes.append(read)
    for read in pipes:
        told = json.loads(os.read(read, 999) or b'{}'); os.close(read)
        for kind, count in told.items(): total[int(kind)] += count
        assert os.wait()[1] == 0
print('total', json.dumps([total[kind] for kind in range(5)]), flush=True)
sys.stdin.readline()
";

/// How many phases, processes in each, and requests of each process.
fn size() -> (usize, usize, usize) {
    if std::env::var_os("BOUNDARY_TEST_LONG").is_some() { (20, 200, 25) } else { (10, 10, 20) }
}

/// How often was asked: allowed, denied, by the explicit door, datagrams, questions.
fn asked(out: &Output) -> [u64; 5] {
    let line = out.stdout.lines().find_map(|line| line.strip_prefix("total "));
    serde_json::from_str(line.expect("it came to its end")).expect("five numbers")
}

/// What was recorded and logged where.
struct Sinks {
    audit: PathBuf,
    logs: PathBuf,
}

impl Sinks {
    /// The options that lead there, and the policy.
    fn options(&self) -> Vec<String> {
        let (audit, logs) = (self.audit.display(), self.logs.display());
        let options = format!(
            "--audit-log {audit} --log-dir {logs} --log-level info --proxy-port 18099 \
             --limit connections=4096 --allow domain=allowed.test"
        );
        options.split(' ').map(str::to_owned).collect()
    }

    /// The lines of the audit file.
    fn audit(&self, world: &World) -> Vec<Value> {
        let path = self.audit.clone();
        world.host().run(move || lines(&path))
    }

    /// The lines of the log.
    fn log(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.logs).expect("it was made").flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|it| it == "log"));
        let text = logs.map(|file| std::fs::read_to_string(file.path()).expect("text"));
        text.collect::<String>().lines().map(str::to_owned).collect()
    }
}

/// A command line that asks.
fn command(kinds: usize) -> Vec<String> {
    let (phases, workers, each) = size();
    let numbers = [18099, phases, workers, each, kinds].map(|number| number.to_string());
    ["python3", "-c", ASK].map(str::to_owned).into_iter().chain(numbers).collect()
}

/// The numbers of some records.
fn numbers(records: &[Value], is_one: impl Fn(&Value) -> bool) -> Vec<u64> {
    let chosen = records.iter().filter(|record| is_one(record));
    chosen.filter_map(|record| record["sequence"].as_u64()).collect()
}

/// Whether a record says what became of a decision.
fn is_closing(record: &Value) -> bool {
    record["duration_ms"].is_u64() && record["sequence"].is_u64()
}

/// What a line of the log says in a field.
fn told(lines: &[String], message: &str, field: &str) -> u64 {
    let told = lines.iter().filter(|line| line.contains(message));
    let field = format!(" {field}=");
    told.filter_map(|line| line.split(&field).nth(1)?.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// Runs `audit verify` on a file.
fn verified(world: &World, path: &Path) -> Output {
    world.exact(&["audit", "verify", path.to_str().expect("our own name")]).output()
}

#[test]
fn every_request_by_every_door_is_in_every_sink_once() {
    needs!(root, bpf, python3);
    let world = World::new();
    let agent = Agent::at(&world.folder().join("tmp/boundary-audit.sock")).start();
    let sinks =
        Sinks { audit: world.folder().join("all.jsonl"), logs: world.folder().join("logs") };
    let (options, command) = (sinks.options(), command(5));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let (phases, workers, each) = size();
    let session = world.boundary(&options, &command).input(&"go\n".repeat(phases + 1)).start();
    (0..phases).for_each(|phase| session.wait_for(&format!("phase-{phase}.")));
    session.wait_for("total");
    let out = session.finish();
    out.exits(0);
    let [allowed, denied, explicit, datagrams, questions] = asked(&out);
    let http = allowed + denied + explicit;
    let all = http + datagrams + questions;
    assert_eq!(all, (phases * workers * each) as u64);
    let (records, log) = (sinks.audit(&world), sinks.log());
    let lost = told(&log, "refusals came faster", "lost");

    let openings = numbers(&records, |record| !is_closing(record));
    let dense: Vec<u64> = (0..openings.len() as u64).collect();
    assert_eq!(openings, dense, "the numbers are dense and in order");
    assert_eq!(openings.len() as u64 + lost, all, "a record for each, or counted as lost");
    let of = |field: &str, value: &str| {
        numbers(&records, |record| record[field] == value && !is_closing(record)).len() as u64
    };
    assert_eq!((of("proto", "http"), of("proto", "dns")), (http, questions));
    assert_eq!((of("door", "explicit"), of("proto", "udp") + lost), (explicit, datagrams));
    let closings: BTreeSet<u64> = numbers(&records, is_closing).into_iter().collect();
    let http_numbers = numbers(&records, |record| record["proto"] == "http" && !is_closing(record));
    assert_eq!(closings, http_numbers.iter().copied().collect(), "each request was closed once");

    let reported: Vec<u64> =
        agent.requests().iter().map(|it| u64::try_from(it.sequence).expect("positive")).collect();
    assert_eq!(reported, http_numbers, "the agent has each request, and no other");
    let requests = |verdict: &str| {
        log.iter().filter(|line| line.contains(verdict) && line.contains(" method=")).count() as u64
    };
    assert_eq!((requests("msg=ALLOW"), requests("msg=DENY")), (allowed + explicit, denied));
    let end = records.last().expect("a last record");
    assert_eq!(end["event"], "end");
    assert_eq!((&end["allowed"], &end["dropped"]), (&(allowed + explicit).into(), &0.into()));
    assert_eq!(end["refusals_lost"].as_u64().unwrap_or(0), lost, "the record says it too");
    assert_eq!(end["denied"].as_u64().map(|count| count + lost), Some(denied + datagrams));
    verified(&world, &sinks.audit).exits(0).says("intact");
}

/// Puts a disk that can be filled at a place.
fn mount_small(world: &World, place: PathBuf) {
    world.host().run(move || {
        let kind = Some("tmpfs");
        mount(kind, &place, kind, MsFlags::empty(), Some("size=256m")).expect("a mount");
    });
}

#[test]
fn what_is_lost_on_the_way_to_any_sink_is_what_is_counted() {
    needs!(root, bpf, python3);
    let world = World::new();
    let mut agent = Agent::at(&world.folder().join("tmp/boundary-audit.sock")).start();
    let disk = world.folder().join("disk");
    std::fs::create_dir(&disk).expect("the folder is ours");
    mount_small(&world, disk.clone());
    let sinks = Sinks { audit: disk.join("all.jsonl"), logs: world.folder().join("logs") };
    // Datagrams are the kernel's to count where they come too fast.
    let (options, command) = (sinks.options(), command(3));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut command: Vec<&str> = command.iter().map(String::as_str).collect();
    let pipe = world.folder().join("tmp/go");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
    let from = format!("exec \"$0\" \"$@\" <>{}", pipe.display());
    command.splice(0..0, ["sh", "-c", &from]);
    let (phases, workers, each) = size();
    let session = world.boundary(&options, &command).start();
    let go = || std::fs::write(&pipe, "go\n").expect("somebody reads");
    for phase in 0..phases {
        session.wait_for(&format!("phase-{phase}."));
        let filler = disk.join("filler");
        match phase {
            3 => world
                .host()
                .run(move || assert!(std::fs::write(filler, vec![0; 300 << 20]).is_err())),
            5 => world.host().run(move || std::fs::remove_file(filler).expect("it is there")),
            _ => {}
        }
        agent.kill();
        go();
        agent.begin();
    }
    session.wait_for("total");
    session.signal(Signal::SIGTERM);
    let out = session.finish();
    out.exits(143);
    let [allowed, denied, explicit, ..] = asked(&out);
    let http = allowed + denied + explicit;
    assert_eq!(http, (phases * workers * each) as u64);
    let (records, log) = (sinks.audit(&world), sinks.log());

    let kept = numbers(&records, |_| true).len() as u64;
    let dropped: u64 = records
        .iter()
        .filter(|record| record["event"] == "lost")
        .filter_map(|record| record["dropped"].as_u64())
        .sum();
    assert!(dropped > 0, "the disk was full for a while");
    assert_eq!(kept + dropped, 2 * http, "what the file lacks is what it says it lacks");
    let end = records.last().expect("a last record");
    assert_eq!((&end["event"], &end["dropped"]), (&"end".into(), &dropped.into()));
    assert_eq!(end["allowed"].as_u64(), Some(allowed + explicit));
    assert_eq!(end["denied"].as_u64(), Some(denied));
    let undelivered = end["undelivered"].as_u64().unwrap_or(0);
    assert_eq!(agent.requests().len() as u64 + undelivered, http, "the same for the agent");
    let heard = u64::try_from(agent.dropped()).expect("positive");
    assert!(heard <= undelivered, "which is told of what it missed while it was gone");
    let requests = log.iter().filter(|line| line.contains(" method=")).count() as u64;
    assert_eq!(requests + told(&log, "audit log dropped", "dropped"), http, "and for the log");
    let out = verified(&world, &sinks.audit);
    out.exits(0).says(&format!("{dropped} lost when written"));
}

#[test]
fn sessions_that_share_a_file_are_each_verified_and_any_change_is_found() {
    needs!(root, bpf, curl);
    let world = World::new();
    let path = world.folder().join("shared.jsonl");
    let config = world.file("config.yaml", "audit_max_size: 1KiB\naudit_files: 9\n");
    let options = ["--audit-log", path.to_str().expect("ours")];
    let rotating = [&options[..], &["--config", config.to_str().expect("ours")]].concat();
    let curl = ["curl", "-sS", "http://denied.test/"];
    let both = [world.boundary(&options, &curl).start(), world.boundary(&options, &curl).start()];
    for session in both {
        drop(session.finish());
    }
    world.boundary(&rotating, &curl).output().exits(0);
    world.boundary(&rotating, &curl).output().exits(0);
    // The first two ran without a limit, so that the oldest file that has anything has all of them.
    let mut files = (1..9).rev().map(|number| path.with_extension(format!("jsonl.{number}")));
    let has_lines = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|it| it.len() > 0);
    let old = files.find(has_lines).expect("it was set aside");
    let name = old.file_name().and_then(|name| name.to_str()).expect("our own name").to_owned();
    let out = verified(&world, &path);
    out.exits(0).expect(out.stdout.matches("intact").count() == 4, "four sessions");
    let text = std::fs::read_to_string(&old).expect("text");
    let whole: Vec<&str> = text.lines().collect();
    let changed = [
        [&whole[..4], &whole[5..]].concat(),
        whole[..whole.len() - 1].to_vec(),
        [&[r#"{"session_id":"x","decision":"allow","prev":"00"}"#], &whole[..]].concat(),
    ];
    for lines in changed {
        std::fs::write(&old, lines.join("\n") + "\n").expect("written");
        verified(&world, &path).exits(1).says(&format!("{name}:"));
    }
    std::fs::write(&old, text.replacen("no_rule", "no_Rule", 1)).expect("written");
    verified(&world, &path).exits(1).says("was changed");
    verified(&world, &world.folder().join("none.jsonl")).exits(125);
}
