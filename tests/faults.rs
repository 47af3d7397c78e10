//! What fails around a session: what its command sees, what the record says, that nothing gets out,
//! and that nothing waits longer than its limit says.
//!
//! Faults that are ways out besides have their tests in `escape` (starved, stalled, killed, floods).

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::escape::stalled::{go_on, of_boundary, stop};
use crate::world::agent::Agent;
use crate::world::jail;
use crate::world::narrow::Narrow;
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::stopwatch::Mended;
use crate::world::{Output, Session, World, records};

/// The policy.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];
/// The policy, and how long a dial may take.
const SOON: [&str; 4] = ["--allow", "domain=allowed.test", "--limit", "dial=2s"];

/// The status in the closing record of the one request that was permitted.
fn closed_with(out: &Output, status: u64) {
    let opening = out.record(&[("decision", "allow"), ("http_url", "http://allowed.test/a")]);
    let closing = out.records.iter().find(|record| {
        record["sequence"] == opening["sequence"] && record.get("duration_ms").is_some()
    });
    let is_told = closing.is_some_and(|record| record["http_status"] == status);
    out.expect(is_told, &format!("it is closed with {status}"));
}

/// Which resolver the host is told to ask, and how.
fn ask_at(world: &World, address: &str, options: &str) {
    let text = format!("nameserver {address}\noptions {options}\n");
    world.host().cover(&world.file("other-resolv.conf", &text), "/etc/resolv.conf");
}

#[test]
fn a_resolver_that_says_nothing_is_waited_for_as_long_as_a_dial_may_take() {
    needs!(root, bpf, curl);
    let world = World::new();
    let silent = world.host().run(|| UdpSocket::bind("127.0.0.9:53").expect("the host's own"));
    ask_at(&world, "127.0.0.9", "timeout:5");
    // Whoever needs no name goes on meanwhile.
    let script = "curl -sS http://allowed.test/a -w '%{http_code}\\n' & \
                  curl -sS http://203.0.113.10/b -w '%{http_code}\\n'; wait; \
                  $0 signals 1; curl -sS http://allowed.test/after";
    let options = [&SOON[..], &["--allow", "host=203.0.113.10"]].concat();
    let session = world.boundary(&options, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    drop(silent);
    let out = resolved_again(&world, session);
    out.exits(0).says("504").says("200");
    closed_with(&out, 504);
}

/// Has the host's resolver answer, and the command, which waits, ask again.
fn resolved_again(world: &World, session: Session<'_>) -> Output {
    world.stub_resolver();
    let answers = Mended::now();
    go_on(world);
    session.wait_for("allowed.test /after");
    answers.recovered();
    session.finish()
}

/// One request, and another when the command is told to.
const TWICE: &str = "curl -sS http://allowed.test/a -w '%{http_code}\\n'; $0 signals 1; \
                     curl -sS http://allowed.test/after";

#[test]
fn a_resolver_that_says_nothing_is_a_failure_when_the_system_gives_up() {
    needs!(root, bpf, curl);
    let world = World::new();
    let silent = world.host().run(|| UdpSocket::bind("127.0.0.9:53").expect("the host's own"));
    ask_at(&world, "127.0.0.9", "timeout:1 attempts:1");
    // Longer than the system waits, whatever it makes of these options.
    let options = [&ALLOW[..], &["--limit", "dial=1h"]].concat();
    let session = world.boundary(&options, &["sh", "-c", TWICE, world.attack()]).start();
    session.wait_for("ready");
    assert!(world.packets().is_empty(), "nothing gets out");
    drop(silent);
    let out = resolved_again(&world, session);
    out.exits(0).says("502");
    closed_with(&out, 502);
}

#[test]
fn a_resolver_that_is_not_there_is_a_failure_at_once() {
    needs!(root, bpf, curl);
    let world = World::new();
    ask_at(&world, "127.0.0.9", "timeout:5");
    let session = world.boundary(&ALLOW, &["sh", "-c", TWICE, world.attack()]).start();
    session.wait_for("ready");
    assert!(world.packets().is_empty(), "nothing gets out");
    let out = resolved_again(&world, session);
    out.exits(0).says("502");
    closed_with(&out, 502);
}

/// Nothing comes through.
const CUT: &str = "replace dev eth0 root tbf rate 8bit burst 1b limit 1b";
/// Some of it is lost and all of it is late, where the kernel can do that as such; else what a slow wire
/// with a short queue loses and delays.
const POOR: [&str; 2] = [
    "replace dev eth0 root netem delay 50ms 20ms loss 10%",
    "replace dev eth0 root tbf rate 256kbit burst 2kb limit 6kb",
];
/// Everything comes through.
const FINE: &str = "del dev eth0 root";

/// Shapes the wire to the internet. False where the kernel cannot.
fn wire(world: &World, how: &str) -> bool {
    let line = format!("qdisc {how}");
    world.host().run(move || {
        let done = Command::new("tc").args(line.split(' ')).output();
        done.is_ok_and(|done| done.status.success())
    })
}

#[test]
fn a_wire_that_is_cut_is_told_in_time_and_works_again_when_it_does() {
    needs!(root, bpf, curl, tc);
    let world = World::new();
    let script = "curl -sS http://203.0.113.10/first -w '%{http_code}\\n'; $0 signals 1; \
                  curl -sS http://203.0.113.11/second -w '%{http_code}\\n'; $0 signals 1; \
                  curl -sS http://203.0.113.12/third -w '%{http_code}\\n'";
    let options = ["--allow", "host=203.0.113.10,203.0.113.11,203.0.113.12", "--limit", "dial=2s"];
    let session = world.boundary(&options, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    if !is_cut_for_a_while(&world, &session) {
        return shapes_nothing(session);
    }
    let out = session.finish();
    out.exits(0).says("/first").says("/third");
    out.expect(!out.stdout.contains("this is 203.0.113.11"), "nothing got through");
    let decided = out.records.iter().filter(|record| record.get("duration_ms").is_none());
    out.expect(decided.count() == 3, "each is on record once");
}

/// Cuts the wire until the command's next request has failed; the one after it has to get through. False
/// where the kernel cannot.
fn is_cut_for_a_while(world: &World, session: &Session<'_>) -> bool {
    if !wire(world, CUT) {
        return false;
    }
    go_on(world);
    session.wait_for("504");
    assert!(wire(world, FINE), "it was there");
    let mended = Mended::now();
    eventually("the next waits", || {
        world.processes().iter().any(|it| it.exe.ends_with("attack") && it.state == 'S')
    });
    go_on(world);
    session.wait_for("/third");
    mended.recovered();
    true
}

/// Ends a session that no wire can be shaped for.
fn shapes_nothing(session: Session<'_>) {
    eprintln!("skipped: this kernel shapes no traffic");
    session.kill();
    drop(session.finish());
}

#[test]
fn an_upstream_that_is_gone_without_a_word_is_told_in_time_and_dialled_anew() {
    needs!(root, bpf, curl, tc);
    let world = World::new();
    // Its connection is kept, and nobody says that the other end is not there any more.
    let script = "curl -sS http://203.0.113.10/first; $0 signals 1; \
                  curl -sS http://203.0.113.10/second -w '%{http_code}\\n'; $0 signals 1; \
                  curl -sS http://203.0.113.10/third";
    let options = ["--allow", "host=203.0.113.10", "--limit", "answer_time=2s"];
    let session = world.boundary(&options, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    if !is_cut_for_a_while(&world, &session) {
        return shapes_nothing(session);
    }
    let out = session.finish();
    out.exits(0).says("/first");
    out.expect(!out.stdout.contains("10 /second"), "what is late is nobody's answer");
    let decided = out.records.iter().filter(|record| record.get("duration_ms").is_none());
    out.expect(decided.count() == 3, "each is on record once");
    let second = out.record(&[("http_url", "http://203.0.113.10/second")])["sequence"].clone();
    let closed = out.records.iter().any(|it| it["sequence"] == second && it["http_status"] == 504);
    out.expect(closed, "it is closed with 504");
}

#[test]
fn over_a_wire_that_loses_and_delays_everything_arrives_whole() {
    needs!(root, bpf, curl, tc);
    let world = World::new();
    let script = "$0 signals 1; for n in 1 2 3 4; do \
                  curl -sS http://203.0.113.10/size/20000 | wc -c & \
                  curl -sS -o /dev/null -w '%{http_code}\\n' http://203.0.113.66/; done; wait; \
                  $0 signals 1; curl -sS http://203.0.113.10/after";
    let options = ["--allow", "host=203.0.113.10"];
    let session = world.boundary(&options, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    if !POOR.iter().any(|how| wire(&world, how)) {
        return shapes_nothing(session);
    }
    go_on(&world);
    eventually("all are over", || session.told().matches("ready").count() == 2);
    assert!(wire(&world, FINE), "it was there");
    let mended = Mended::now();
    go_on(&world);
    session.wait_for("/after");
    mended.recovered();
    let out = session.finish();
    out.exits(0);
    let count = |line: &str| out.stdout.lines().filter(|it| *it == line).count();
    out.expect(count("20000") == 4 && count("403") == 4, "each is answered in full");
    let decided = out.records.iter().filter(|record| record.get("duration_ms").is_none());
    out.expect(decided.count() == 9, "each is on record once");
    let denied = Some("203.0.113.66".parse().expect("an address"));
    out.expect(out.packets.iter().all(|it| it.target != denied), "what is denied stays");
}

#[test]
fn a_machine_that_was_asleep_goes_on_where_it_was() {
    needs!(root, bpf, curl);
    let world = World::new();
    let script = "curl -sSN http://allowed.test/stream/gate; curl -sS http://allowed.test/after; \
                  curl -sS http://denied.test/";
    let session = world.boundary(&ALLOW, &["sh", "-c", script]).start();
    session.wait_for("first");
    let all: Vec<_> = world.processes().iter().map(|process| process.pid).collect();
    let each = |signal: Signal| all.iter().for_each(|it| kill(*it, signal).unwrap_or_default());
    each(Signal::SIGSTOP);
    let proxy = of_boundary(&world, "boundary-proxy");
    eventually("it sleeps", || {
        world.processes().iter().any(|it| it.pid == proxy && it.state == 'T')
    });
    world.open("gate");
    each(Signal::SIGCONT);
    let wakes = Mended::now();
    session.wait_for("allowed.test /after");
    wakes.recovered();
    let out = session.finish();
    out.exits(0).says("Request Blocked by Boundary");
    let strays = out.packets.iter().filter(|packet| packet.is_stray());
    out.expect(strays.count() == 0, "nothing gets out");
    let decided = out.records.iter().filter(|record| record["http_url"].is_string());
    out.expect(decided.count() == 3, "each is on record once");
}

#[test]
fn an_agent_that_reads_again_has_all_that_was_kept_for_it() {
    needs!(root, bpf, python3);
    let world = World::new();
    let agent = Agent::at(&world.folder().join("tmp/boundary-audit.sock")).start();
    agent.be_deaf(true);
    // More than a socket holds.
    let script = "
import http.client, subprocess, sys
connection = http.client.HTTPConnection('203.0.113.66')
for number in range(300):
    connection.request('GET', '/' + str(number) + 'x' * 2000)
    assert connection.getresponse().read() and True
subprocess.run([sys.argv[1], 'signals', '1'])
";
    let command = ["/usr/bin/python3", "-c", script, world.attack()];
    let session = world.boundary(&ALLOW, &command).start();
    session.wait_for("ready");
    assert!(agent.requests().is_empty(), "it has read nothing");
    agent.be_deaf(false);
    let reads = Mended::now();
    eventually("it has all", || agent.requests().len() == 300);
    reads.recovered();
    go_on(&world);
    let out = session.finish();
    out.exits(0).nothing_left().expect(agent.dropped() == 0, "none was dropped");
}

#[test]
fn an_agent_that_reads_nothing_delays_neither_requests_nor_the_end() {
    needs!(root, bpf, python3);
    let world = World::new();
    let path = world.folder().join("tmp/boundary-audit.sock");
    let agent = UnixListener::bind(&path).expect("the folder is ours");
    let holding = std::thread::spawn(move || agent.accept().map(|(stream, _)| (stream, agent)));
    // More than a socket holds.
    let script = "
import http.client
connection = http.client.HTTPConnection('203.0.113.66')
for number in range(400):
    connection.request('GET', '/' + str(number) + 'x' * 2000)
    assert connection.getresponse().read() and True
print('done')
";
    let out = world.boundary(&ALLOW, &["/usr/bin/python3", "-c", script]).output();
    out.exits(0).says("done").nothing_left();
    let decided = out.records.iter().filter(|record| record.get("duration_ms").is_none());
    out.expect(decided.count() == 400, "every request is in the file");
    out.complains("could not be forwarded to the workspace agent");
    let last = out.session.last().expect("a last record");
    let undelivered = last["undelivered"].as_u64().unwrap_or_default();
    out.expect(
        (1..=400).contains(&undelivered),
        "and the last record says how many the agent lacks",
    );
    drop(holding.join().expect("no panic"));
}

#[test]
fn a_record_that_an_outsider_moves_away_loses_nothing() {
    needs!(root, bpf, curl);
    let world = World::new();
    let script = "curl -sS http://allowed.test/a; $0 signals 1; \
                  until [ -e tmp/enough ]; do curl -sS http://allowed.test/b; done";
    let (file, moved) = (world.folder().join("logs/own.jsonl"), world.folder().join("logs/moved"));
    let path = file.to_str().expect("our own name");
    let options = [&ALLOW[..], &["--audit-log", path]].concat();
    let session = world.boundary(&options, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    eventually("the first is on record", || records(&file).len() >= 2);
    fs::rename(&file, &moved).expect("it is there");
    let is_moved = Mended::now();
    go_on(&world);
    eventually("there is a file of that name", || !records(&file).is_empty());
    is_moved.recovered();
    world.file("tmp/enough", "");
    let out = session.finish();
    out.exits(0).says("allowed.test /b");
    let all = [records(&moved), records(&file)].concat();
    for path in ["/a", "/b"] {
        let url = format!("http://allowed.test{path}");
        let told = all
            .iter()
            .filter(|record| record["http_url"] == url && record.get("duration_ms").is_none());
        let asked = out.requests.iter().filter(|request| request.target == path);
        assert_eq!(told.count(), asked.count(), "{path} in {all:#?}");
    }
    let mut numbers: Vec<u64> = all.iter().filter_map(|it| it["sequence"].as_u64()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "and none is missing");
}

#[test]
fn a_proxy_without_memory_ends_the_session_and_nothing_gets_out() {
    needs!(root, privilege, bpf, python3, prlimit);
    let world = World::new();
    // Connections that wait in the middle of a head, each of which takes memory.
    let script = "
import socket, time
held = []
for number in range(3000):
    stream = socket.create_connection(('203.0.113.66', 80))
    stream.sendall(b'GET /' + b'x' * 30000)
    held.append(stream)
try:
    held[0].recv(1)
except OSError:
    pass
time.sleep(600)
";
    let options = ["--allow", "domain=allowed.test", "--limit", "head_time=60s"];
    let line = "$0 signals 1; exec /usr/bin/python3 -c \"$1\"";
    let session = world.boundary(&options, &["sh", "-c", line, world.attack(), script]).start();
    session.wait_for("ready");
    let proxy = of_boundary(&world, "boundary-proxy").to_string();
    let done = Command::new("prlimit").args(["--pid", &proxy, "--as=1:1"]).status();
    assert!(done.is_ok_and(|status| status.success()), "root may");
    go_on(&world);
    let out = session.finish();
    out.exits(125).nothing_left();
    eventually("nothing is left", || world.processes().is_empty());
}

#[test]
fn every_refused_datagram_is_on_record_or_counted_as_lost() {
    needs!(root, bpf, python3);
    let world = World::new();
    let burst = "
import socket, sys
sender, refused = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0
for _ in range(int(sys.argv[1])):
    try: sender.sendto(b'x', ('203.0.113.66', 9999))
    except PermissionError: refused += 1
print('refused', refused, flush=True)";
    // The log of packets that nsjail reads tells how many were lost by the number of the next one.
    let more = if jail() == "nsjail" { 4 } else { 0 };
    let script = "$0 signals 1; python3 -c \"$1\" 4000; sleep 0.5; \
                  for _ in $2; do sleep 0.2; python3 -c \"$1\" 1; done";
    let each = "x ".repeat(more);
    let script = script.replace("$2", &each);
    let session = world.boundary(&[], &["sh", "-c", &script, world.attack(), burst]).start();
    session.wait_for("ready");
    let proxy = of_boundary(&world, "boundary-proxy");
    // Nobody reads meanwhile.
    stop(&world, proxy);
    go_on(&world);
    session.wait_for("refused 4000");
    kill(proxy, Signal::SIGCONT).expect("it is there");
    let out = session.finish();
    out.exits(0).nothing_left();
    let told = out.records.iter().filter(|record| record["proto"] == "udp").count();
    let end = out.session.last().expect("a last record");
    let lost = usize::try_from(end["refusals_lost"].as_u64().unwrap_or_default());
    let is_all = lost.is_ok_and(|lost| lost > 1 && told + lost == 4000 + more);
    out.expect(is_all, &format!("{told} and {} are all of them", end["refusals_lost"]));
}

/// Takes memory until there is none, and a whole page of it each time.
const HOG: &str = "python3 -c 'held = [b\"x\" * (1 << 20) for _ in range(1 << 20)]'";

#[test]
fn where_memory_is_bounded_a_program_that_takes_it_all_is_killed_and_the_others_go_on() {
    needs!(root, privilege, memcg, bpf, curl, python3);
    let world = World::new();
    let narrow = Narrow::new();
    let script = format!(
        "curl -sS http://allowed.test/a; {HOG}; echo hog $?; \
         curl -sS http://allowed.test/b http://denied.test/c"
    );
    let run = world.boundary(&ALLOW, &["sh", "-c", &script]);
    let out = narrow.around(run).output();
    out.exits(0).says("hog 137").says("Request Blocked by Boundary");
    assert_eq!(narrow.killed(), 1, "it alone");
    for path in ["a", "b"] {
        out.record(&[("decision", "allow"), ("http_url", &format!("http://allowed.test/{path}"))]);
    }
    out.record(&[("decision", "deny"), ("http_url", "http://denied.test/c")]);
    assert_eq!(out.requests.len(), 2, "what was permitted");
}

#[test]
fn where_memory_is_bounded_a_proxy_that_is_killed_for_it_ends_the_session() {
    needs!(root, privilege, memcg, bpf, curl, python3);
    let world = World::new();
    let narrow = Narrow::new();
    let script = format!(
        "curl -sS http://allowed.test/a; $0 signals 1; {HOG}; curl -sS http://denied.test/; sleep 600"
    );
    let run = world.boundary(&ALLOW, &["sh", "-c", &script, world.attack()]);
    let session = narrow.around(run).start();
    session.wait_for("ready");
    let proxy = of_boundary(&world, "boundary-proxy");
    fs::write(format!("/proc/{proxy}/oom_score_adj"), "1000").expect("root may");
    go_on(&world);
    let out = session.finish();
    out.exits(125);
    assert!(narrow.killed() >= 1, "the proxy");
    out.record(&[("decision", "allow"), ("http_url", "http://allowed.test/a")]);
    assert_eq!(out.requests.len(), 1, "what was permitted before");
    eventually("nothing is left", || world.processes().is_empty());
}

#[test]
fn a_thousand_programs_that_live_for_a_moment_are_each_on_record_as_themselves() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "
import os, socket, time
began = time.monotonic()
for number in range(1000):
    child = os.fork()
    if child == 0:
        stream = socket.create_connection(('203.0.113.10', 80))
        stream.sendall(b'GET /%d HTTP/1.1\\r\\nHost: 203.0.113.10\\r\\n\\r\\n' % os.getpid())
        os._exit(0 if stream.recv(12) == b'HTTP/1.1 200' else 1)
    if number % 20 == 19:
        for _ in range(20):
            assert os.wait()[1] == 0
print('a thousand in %.1f s' % (time.monotonic() - began))
";
    let (options, line) = (["--allow", "host=203.0.113.10"], ["/usr/bin/python3", "-c", script]);
    // As many at once as the machine gives: how many that is, it says without boundary.
    let without = world.bare(&line).output();
    without.exits(0).says("a thousand");
    let out = world.boundary(&options, &line).output();
    out.exits(0).says("a thousand");
    println!("without boundary {}, behind it {}", without.stdout.trim(), out.stdout.trim());
    let decided: Vec<_> =
        out.records.iter().filter(|record| record.get("duration_ms").is_none()).collect();
    out.expect(decided.len() == 1000, "each is on record once");
    let unnamed = decided.iter().filter(|record| !record["pid"].is_u64());
    out.expect(unnamed.count() == 0, "and whose each was");
    let mut pids: Vec<u64> = decided.iter().filter_map(|record| record["pid"].as_u64()).collect();
    pids.sort_unstable();
    pids.dedup();
    out.expect(pids.len() == 1000, "none is taken for another");
}
