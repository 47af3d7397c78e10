//! The workspace agent's socket: it gets every request, whenever it comes, and nothing that the
//! command makes up.

use std::fs;
use std::path::PathBuf;

use crate::world::agent::{Agent, Reported};
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::stopwatch::Mended;
use crate::world::{Output, Session, World};

const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];

/// Where an agent listens unless somebody says otherwise.
fn usual(world: &World) -> PathBuf {
    world.folder().join("tmp/boundary-audit.sock")
}

/// The requests on record, as the agent should have them.
fn recorded(out: &Output, process: &str) -> Vec<Reported> {
    let requests = out.records.iter().filter(|record| record["http_url"].is_string());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut reported: Vec<_> = requests
        .map(|record| Reported {
            sequence: i32::try_from(record["sequence"].as_u64().expect("a number")).expect("few"),
            session: text(&record["session_id"]),
            process: process.to_owned(),
            allowed: record["decision"] == "allow",
            method: text(&record["http_method"]),
            url: text(&record["http_url"]),
            rule: text(&record["matched_rule"]),
            seconds: 0,
        })
        .collect();
    reported.sort_unstable();
    reported
}

/// The same without their times, which are checked to be of this run.
fn timeless(mut requests: Vec<Reported>) -> Vec<Reported> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs().cast_signed();
    for request in &mut requests {
        assert!((now - 600..=now).contains(&request.seconds), "{request:?}");
        request.seconds = 0;
    }
    requests.sort_unstable();
    requests
}

/// Waits for a session's end with a command that waits for a word.
fn ends(session: Session<'_>) -> Output {
    let out = session.finish();
    out.exits(0);
    out
}

#[test]
fn every_request_reaches_the_agent_before_the_end() {
    needs!(root, bpf, curl);
    let world = World::new();
    let agent = Agent::at(&usual(&world)).start();
    let script = "for i in 1 2 3 4 5 6 7; do curl -sS http://allowed.test/$i?q=$i \
                  https://denied.test/$i; done";
    let out = world.boundary(&ALLOW, &["/bin/sh", "-c", script]).output();
    out.exits(0);
    let wanted = recorded(&out, "sh");
    out.expect(wanted.len() == 14, "fourteen requests are on record");
    out.expect(timeless(agent.requests()) == wanted, &format!("{:?}", agent.requests()));
    out.expect(agent.spoken().0.iter().all(|tag| *tag == 2), "in the second form");
    out.expect(!out.stderr.contains("udit logs"), "and nobody complains");
}

/// Says things that are no requests, to whom a name leads and to the proxy itself. None of the words
/// that are nobody's business is on record.
const GARBLE: &str = r"
import socket
def say(place, text):
    line = socket.create_connection(place); line.sendall(text.encode()); line.shutdown(1)
    assert b' 400 ' in line.recv(99), text
near = ('allowed.test', 80)
say(near, 'GET /ok/..%2fx?q=1 HTTP/1.1\r\nHost: allowed.test\r\nCookie: canary\r\n\r\n')
say(near, 'GET /none HTTP/1.1\r\nCookie: canary\r\n\r\n')
say(near, 'GET /two HTTP/1.1\r\nHost: allowed.test\r\nHost: canary.test\r\n\r\n')
say(near, 'GET /userinfo HTTP/1.1\r\nHost: user:canary@allowed.test\r\n\r\n')
say(near, 'POST /lengths HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: canary\r\n\r\n')
say(('127.0.0.1', 18080), 'GET http://user:canary@allowed.test/proxy HTTP/1.1\r\nHost: allowed.test\r\n\r\n')
";

#[test]
fn what_is_no_request_is_on_record_and_reaches_the_agent_in_its_own_words() {
    needs!(root, bpf, python3);
    let world = World::new();
    let agent = Agent::at(&usual(&world)).start();
    let options = [&ALLOW[..], &["--proxy-port", "18080"]].concat();
    let out = world.boundary(&options, &["python3", "-c", GARBLE]).output();
    out.exits(0).nothing_left();
    for (method, url, code) in [
        ("GET", "http://allowed.test/ok/..%2fx?q=1", "ambiguous_path"),
        ("GET", "http://allowed.test/none", "bad_request"),
        ("GET", "http://allowed.test/two", "bad_request"),
        ("GET", "http://allowed.test/userinfo", "bad_host"),
        ("POST", "http://allowed.test/lengths", "bad_request"),
        ("GET", "http://allowed.test/proxy", "bad_host"),
    ] {
        let wanted = [("http_method", method), ("http_url", url), ("code", code)];
        out.record(&[&wanted[..], &[("host", "allowed.test"), ("decision", "deny")]].concat());
        let line = out.stderr.lines().find(|line| line.contains(url)).unwrap_or_default();
        out.expect(line.contains(" msg=DENY method=") && line.contains(code), url);
    }
    let wanted = recorded(&out, "python3");
    out.expect(wanted.len() == 6, "six are on record");
    out.expect(timeless(agent.requests()) == wanted, &format!("{:?}", agent.requests()));
    let told = format!("{:?}{}", out.records, out.stderr);
    out.expect(!told.contains("canary"), "and nothing that is nobody's business");
}

#[test]
fn a_place_that_was_named_is_where_it_goes_and_an_early_end_loses_nothing() {
    needs!(root, bpf, curl);
    let world = World::new();
    let path = world.folder().join("tmp/named.sock");
    let agent = Agent::at(&path).start();
    let named = [&ALLOW[..], &["--log-proxy-socket-path", path.to_str().expect("ours")]].concat();
    let out = world.boundary(&named, &["curl", "-sS", "http://allowed.test/"]).output();
    out.exits(0);
    out.expect(timeless(agent.requests()) == recorded(&out, "curl"), "the one request is there");
}

#[test]
fn one_of_the_first_agents_gets_all_in_the_form_it_knows() {
    needs!(root, bpf, curl);
    let world = World::new();
    let agent = Agent::of_the_first(&usual(&world)).start();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -sS http://allowed.test/$i; done";
    let out = world.boundary(&ALLOW, &["sh", "-c", script]).output();
    out.exits(0);
    out.expect(timeless(agent.requests()) == recorded(&out, "sh"), "all twelve are there");
    let (tags, connections) = agent.spoken();
    out.expect(tags[0] == 2 && tags[1..].iter().all(|tag| *tag == 1), &format!("{tags:?}"));
    out.expect(connections == 2, "after one more connection");
}

#[test]
fn an_agent_that_comes_late_or_anew_misses_nothing() {
    needs!(root, bpf, curl);
    let world = World::new();
    let mut agent = Agent::at(&usual(&world));
    let ask = "ask() { for i in 1 2 3 4 5 6 7 8 9 10; do curl -sS http://allowed.test/$1/$i; \
               done; echo asked-$1; read go; }";
    let script = format!("{ask}; ask a; ask b; ask c");
    let pipe = world.folder().join("tmp/go");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
    let script = format!("exec <>{}; {script}", pipe.display());
    let session = world.boundary(&ALLOW, &["sh", "-c", &script]).start();
    let go = || fs::write(&pipe, "go\n").expect("somebody reads");
    session.wait_for("asked-a");
    agent.begin();
    let come = Mended::now();
    eventually("the late agent has all", || agent.requests().len() == 10);
    come.recovered();
    agent.kill();
    go();
    session.wait_for("asked-b");
    agent.begin();
    let come = Mended::now();
    eventually("the new agent has all", || agent.requests().len() == 20);
    come.recovered();
    agent.kill();
    agent.begin();
    go();
    session.wait_for("asked-c");
    go();
    let out = ends(session);
    out.expect(timeless(agent.requests()) == recorded(&out, "sh"), "all thirty are there");
    out.expect(agent.dropped() == 0, "and none was dropped");
}

#[test]
fn the_gateway_gets_the_session_and_the_number_of_each_record() {
    needs!(root, bpf, curl);
    let world = World::new();
    let names = ["X-Coder-Agent-Firewall-Session-Id", "X-Coder-Agent-Firewall-Sequence-Number"];
    let forged = names.map(|name| format!("{name}: forged"));
    let script = format!(
        "for path in api/v2/aibridge/a api/v2/ai-gateway/b other; do \
         curl -sS -H '{}' -H '{}' -H 'Connection: {}' https://allowed.test/$path; \
         curl -sS --http1.1 http://allowed.test/$path; done",
        forged[0], forged[1], names[0]
    );
    let options = [&ALLOW[..], &["--enable-session-correlation"]].concat();
    let run = world.boundary(&options, &["sh", "-c", &script]);
    let out = run.env("CODER_AGENT_URL", "https://allowed.test:8443/").output();
    out.exits(0).expect(out.requests.len() == 6, "six requests arrive");
    for request in &out.requests {
        let said = names.map(|name| request.header(name).map(str::to_owned));
        let record = out.records.iter().find(|record| {
            let number = record["sequence"].to_string();
            record["http_url"].is_string() && said[1].as_ref() == Some(&number)
        });
        if request.target == "/other" {
            out.expect(record.is_none(), "another request is as its client made it");
            continue;
        }
        let record = record.expect("a record of that number");
        let url = record["http_url"].as_str().unwrap_or_default();
        out.expect(url.ends_with(&request.target), "of this very request");
        out.expect(said[0].as_deref() == record["session_id"].as_str(), "and of this session");
        let count = |name: &str| {
            request.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count()
        };
        out.expect(names.iter().all(|name| count(name) == 1), "each is there once");
    }
}

#[test]
fn nothing_is_sent_when_that_is_switched_off() {
    needs!(root, bpf, curl);
    let world = World::new();
    let agent = Agent::at(&usual(&world)).start();
    let options = [&ALLOW[..], &["--disable-audit-logs"]].concat();
    let out = world.boundary(&options, &["curl", "-sS", "http://allowed.test/"]).output();
    out.exits(0).complains("Audit logs are disabled by configuration");
    out.expect(agent.spoken() == (Vec::new(), 0), "nobody has called");
}

#[test]
fn an_agent_that_was_named_and_never_came_is_told_of_with_the_count() {
    needs!(root, bpf, curl);
    let world = World::new();
    let socket = world.folder().join("tmp/never.sock");
    let options = ["--log-proxy-socket-path", socket.to_str().expect("our own name")];
    let out = world.boundary(&options, &["curl", "-sS", "http://denied.test/"]).output();
    out.exits(0).complains("has not created log proxy socket");
    out.complains("could not be forwarded to the workspace agent\" count=1");
    let last = out.session.last().expect("a last record");
    out.expect(last["undelivered"] == 1, "and the last record says so");
}

#[test]
fn the_command_cannot_reach_the_agents_socket() {
    needs!(root, bpf, curl);
    for guest in [false, true] {
        let world = World::new();
        let socket = usual(&world);
        let agent = Agent::at(&socket).start();
        let socket = socket.to_str().expect("our own name");
        let script = format!(
            "{attack} unix {socket}; rm -f {socket}; mv {socket} {socket}.old; \
             ln -sf /dev/null {socket}; curl -sS http://denied.test/",
            attack = world.attack()
        );
        let run = world.boundary(&ALLOW, &["sh", "-c", &script]);
        let out = if guest { run.through_sudo().output() } else { run.output() };
        out.exits(0).refused(&["EACCES", "EPERM", "ECONNREFUSED"]);
        let wanted = recorded(&out, "sh");
        let session = &wanted[0].session;
        let mut got = timeless(agent.requests());
        got.retain(|request| request.session == *session);
        out.expect(got == wanted, "what boundary says arrives, and nothing else");
    }
}

#[test]
fn the_command_is_not_taken_for_the_agent() {
    needs!(root, bpf, curl, python3);
    let world = World::new();
    let listen = format!(
        "import socket, subprocess, threading\n\
         got = []\n\
         def serve():\n\
         \x20   while True: got.append(s.accept()[0].recv(9999))\n\
         s = socket.socket(socket.AF_UNIX); s.bind('{}'); s.listen()\n\
         threading.Thread(target=serve, daemon=True).start()\n\
         for i in range(30): subprocess.run(['curl', '-sS', 'http://denied.test/'])\n\
         print('got', sum(map(len, got)))\n",
        usual(&world).display()
    );
    let out = world.boundary(&ALLOW, &["python3", "-c", &listen]).output();
    // It may be called, by one who looks at it and hangs up.
    out.exits(0).says("got 0\n");
    out.expect(recorded(&out, "python3").len() == 30, "though it asked");
}

/// Listens where an agent would until a file is there, and tells how much it was sent.
const IMPOSTOR: &str = "
import os, socket, sys, threading, time
got = []
def serve():
    while True:
        line = s.accept()[0]
        threading.Thread(target=lambda: got.append(line.recv(9999)), daemon=True).start()
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
threading.Thread(target=serve, daemon=True).start()
print('ready', flush=True)
until = time.monotonic() + 50
while not os.path.exists(sys.argv[2]) and time.monotonic() < until: time.sleep(0.02)
print('got', sum(map(len, got)))";

#[test]
fn the_command_of_another_session_is_not_taken_for_the_agent() {
    // In containers of their own neither session can be told from an agent by the other.
    needs!(root, machine, bpf, curl, python3);
    let world = World::new();
    let text = |path: &PathBuf| path.to_str().expect("our own name").to_owned();
    let (place, over) = (usual(&world), world.folder().join("over"));
    let command = ["python3", "-c", IMPOSTOR, &text(&place), &text(&over)];
    let other = world.boundary(&ALLOW, &command).start();
    other.wait_for("ready");
    let ask = "for i in 1 2 3; do curl -sS http://denied.test/; done";
    let out = world.boundary(&ALLOW, &["sh", "-c", ask]).output();
    fs::write(&over, "").expect("the folder is ours");
    let other = other.finish();
    other.exits(0).says("got 0\n");
    out.exits(0).expect(recorded(&out, "curl").len() == 3, "though it asked");
}
