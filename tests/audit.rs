//! The record: every decision once, with who asked, in order, and nothing that is secret.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::escape::stalled::{of_boundary, stop};
use crate::world::needs::needs;
use crate::world::{Output, World};
use crate::world::{jail, user};

/// The opening records: those that decide.
fn openings(out: &Output) -> Vec<&Value> {
    out.records
        .iter()
        .filter(|record| record.get("http_status").is_none())
        .filter(|record| record.get("duration_ms").is_none())
        .collect()
}

#[test]
fn an_allowed_request_is_on_record_with_who_asked_and_what_became_of_it() {
    needs!(root, bpf, numbers, curl);
    let world = World::new();
    let url = "https://allowed.test/stream/gate?secret=no";
    let session =
        world.boundary(&["--allow", "domain=allowed.test"], &["curl", "-sSN", url]).start();
    session.wait_for("first");
    let pid = world.process("curl").number().to_string();
    world.open("gate");
    let out = session.finish();
    out.exits(0);
    let record = out.record(&[
        ("decision", "allow"),
        ("proto", "http"),
        ("http_method", "GET"),
        ("http_url", url),
        ("host", "allowed.test"),
        ("port", "443"),
        ("matched_rule", "domain=allowed.test"),
        ("door", "redirect"),
        ("jail", &jail()),
        ("comm", "curl"),
        ("exe", "/usr/bin/curl"),
        ("pid", &pid),
        ("uid", &user()),
    ]);
    // A process that asks has a cgroup of the session's only where the jail is one.
    let cgroup = if jail() == "ebpf" { "cgroup" } else { "jail" };
    for field in ["event_time", "session_id", cgroup, "address"] {
        out.expect(!record[field].is_null(), &format!("{field} is there"));
    }
    let sequence = record["sequence"].to_string();
    let closing = out.record(&[("sequence", &sequence), ("http_status", "200")]);
    out.expect(closing["bytes_down"] == 13, "the content is counted, not its framing");
    out.expect(closing["duration_ms"].is_u64(), "and so is the time");
}

#[test]
fn a_denied_request_is_on_record_with_its_code() {
    needs!(root, bpf, curl);
    let world = World::new();
    for (scheme, port) in [("http", "80"), ("https", "443")] {
        let url = format!("{scheme}://denied.test/path?query=kept");
        let out =
            world.boundary(&["--allow", "domain=allowed.test"], &["curl", "-sS", &url]).output();
        out.record(&[
            ("decision", "deny"),
            ("code", "no_rule"),
            ("http_url", &url),
            ("host", "denied.test"),
            ("port", port),
            ("comm", "curl"),
        ]);
        out.complains("level=WARN msg=DENY method=GET").complains("host=denied.test");
    }
}

#[test]
fn a_dropped_datagram_is_on_record_with_who_sent_it() {
    needs!(root, bpf);
    let world = World::new();
    let attack = [world.attack(), "udp", "sendto", "203.0.113.66", "9999"];
    let out = world.boundary(&[], &attack).output();
    out.nothing_left();
    let record = out.record(&[
        ("decision", "deny"),
        ("proto", "udp"),
        ("address", "203.0.113.66"),
        ("port", "9999"),
        ("door", "kernel"),
        ("uid", &user()),
    ]);
    let is_named = record["comm"] == "attack" && record["pid"].as_u64().is_some_and(|pid| pid > 0);
    // There the kernel tells later, and who has closed the socket by then is not known.
    let is_unknown = jail() == "nsjail" && record.get("pid").or(record.get("comm")).is_none();
    out.expect(is_named || is_unknown, "its process is named, or nothing is said of it");
}

#[test]
fn numbers_are_dense_from_nought_and_the_session_is_one() {
    needs!(root, bpf, curl);
    let world = World::new();
    let script = "for i in 1 2 3 4 5 6 7 8; do \
                  curl -sS http://allowed.test/$i http://denied.test/$i & done; wait";
    let out = world.boundary(&["--allow", "domain=allowed.test"], &["sh", "-c", script]).output();
    out.exits(0);
    let openings = openings(&out);
    let mut numbers: Vec<_> =
        openings.iter().filter_map(|record| record["sequence"].as_u64()).collect();
    numbers.sort_unstable();
    let dense: Vec<_> = (0..numbers.len() as u64).collect();
    out.expect(numbers == dense, "no number is missing and none comes twice");
    let http = openings.iter().filter(|record| record["proto"] == "http").count();
    out.expect(http == 16, "every request has one record");
    let session = &out.records[0]["session_id"];
    out.expect(out.records.iter().all(|record| record["session_id"] == *session), "one session");
}

#[test]
fn no_secret_of_a_request_is_recorded_or_logged() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--log-level", "debug", "--allow", "domain=allowed.test"];
    let curl = ["curl", "-sS", "-u", "user:canary-one", "-H", "Cookie: canary-two"];
    let curl = [&curl[..], &["-d", "canary-three"]].concat();
    for url in ["http://allowed.test/", "https://allowed.test/", "http://denied.test/"] {
        let out = world.boundary(&options, &[&curl[..], &[url]].concat()).output();
        out.exits(0);
        let written = format!("{:?}{}", out.records, out.stderr);
        out.expect(!written.contains("canary"), "neither header, cookie nor content");
        out.expect(!written.contains("dXNlcjpjYW5hcnktb25l"), "nor the encoded password");
    }
}

#[test]
fn what_a_program_names_itself_cannot_forge_a_line() {
    needs!(root, bpf, curl);
    let world = World::new();
    let url = "http://denied.test/%0alevel=INFO%1b[31m";
    let out = world.boundary(&[], &["curl", "-sS", "-g", url]).output();
    out.exits(0).expect(!out.stderr.contains('\u{1b}'), "no escape sequence reaches the terminal");
}

#[test]
fn the_file_is_the_owners_alone() {
    needs!(root, bpf);
    let world = World::new();
    let path = world.folder().join("own.jsonl");
    let options = ["--audit-log", path.to_str().expect("our own name")];
    world.boundary(&options, &["true"]).output();
    let mode = std::fs::metadata(&path).map(|file| file.permissions().mode() & 0o777);
    assert_eq!(mode.ok(), Some(0o600));
}

#[test]
fn the_command_cannot_change_the_record_it_is_on() {
    needs!(root, covers, bpf);
    for through_sudo in [false, true] {
        let world = World::new();
        let path = world.folder().join("own.jsonl");
        let path = path.to_str().expect("our own name");
        let tamper = format!(
            "(: > {path}); (echo forged >> {path}); rm -f {path}; mv {path} {path}.old; \
             ln -sf /dev/null {path}; echo tried"
        );
        let options = ["--audit-log", path];
        let run = world.boundary(&options, &["sh", "-c", &tamper]);
        let out = if through_sudo { run.through_sudo().output() } else { run.output() };
        out.exits(0).says("tried");
        let written = std::fs::metadata(path);
        out.expect(written.is_ok_and(|file| file.is_file()), "the file is where it was");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        out.expect(!text.contains("forged"), "nothing was added to it");
    }
}

#[test]
fn a_tunnel_in_which_nothing_is_asked_is_on_record_once() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "import os, socket, urllib.parse as u\n\
        p = u.urlsplit(os.environ['PROXY'])\n\
        s = socket.create_connection((p.hostname, p.port))\n\
        s.sendall(b'CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n')\n\
        print(s.recv(99)); s.close()";
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test"];
    let run = world.boundary(&options, &["python3", "-c", script]);
    let out = run.env("PROXY", "http://127.0.0.1:18080").output();
    out.exits(0).says("200").nothing_left();
    out.record(&[
        ("decision", "deny"),
        ("code", "tunnel_unused"),
        ("http_method", "CONNECT"),
        ("host", "allowed.test"),
        ("door", "explicit"),
    ]);
    out.expect(openings(&out).len() == 1, "and that is all there was");
}

#[test]
fn a_session_says_at_its_start_what_it_runs_under_and_at_its_end_what_it_came_to() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test"];
    let curl = ["curl", "-sS", "http://allowed.test/", "http://denied.test/?canary"];
    let out = world.boundary(&options, &curl).env("CODER_WORKSPACE_ID", "w-1").output();
    let [start, end] = &out.session[..] else { panic!("two records\n{out}") };
    out.expect(start["event"] == "start" && end["event"] == "end", "a first and a last");
    out.expect(start["command"] == "curl", "the program's name without its arguments");
    out.expect(!start.to_string().contains("canary"), "which may be secret");
    out.expect(start["rules"] == serde_json::json!(["domain=allowed.test"]), "the policy");
    out.expect(start["workspace_id"] == "w-1", "the workspace");
    let denied = openings(&out).iter().filter(|record| record["decision"] == "deny").count();
    out.expect(end["allowed"] == 1 && end["denied"] == denied, "the decisions");
    out.expect(end["dropped"] == 0 && denied > 0, "all of them");
    out.expect(end["bytes_down"].as_u64() > Some(0), "the bytes");
    let [cpu, memory, tasks] = ["cpu_ms", "memory_peak", "tasks"].map(|name| end[name].as_u64());
    if jail() == "ebpf" {
        out.expect(cpu.is_some() && tasks >= Some(1), "what its cgroup measured");
        // Only where the controller is on for the hierarchy.
        out.expect(memory.is_none_or(|most| most > 100_000), "memory too, if at all");
    }
}

#[test]
fn a_full_disk_lets_nothing_out_where_nothing_may_go_unrecorded() {
    needs!(root, bpf, curl);
    let world = World::new();
    let disk = world.folder().join("small");
    std::fs::create_dir(&disk).expect("the folder is ours");
    let place = disk.clone();
    world.host().run(move || {
        let (kind, flags) = (Some("tmpfs"), nix::mount::MsFlags::empty());
        nix::mount::mount(kind, &place, kind, flags, Some("size=32k,mode=0777")).expect("a mount");
    });
    let config =
        world.file("deny.yaml", "audit_on_error: deny\nallowlist: [domain=allowed.test]\n");
    let pipe = world.folder().join("tmp/go");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
    let ask = "curl -s -o /dev/null -w '%{http_code}\\n' http://allowed.test/";
    let script = format!(
        "exec <>{}; echo first $({ask}); read go; until {ask} | grep 503; do :; done; \
         echo refused; read go; until {ask} | grep 200; do :; done; echo again",
        pipe.display()
    );
    let audit = disk.join("audit.jsonl");
    let options =
        ["--config", config.to_str().expect("ours"), "--audit-log", audit.to_str().expect("ours")];
    let session = world.boundary(&options, &["sh", "-c", &script]).start();
    let go = || std::fs::write(&pipe, "go\n").expect("somebody reads");
    session.wait_for("first 200");
    let filler = disk.join("filler");
    let full = filler.clone();
    world.host().run(move || assert!(std::fs::write(full, vec![0; 64 * 1024]).is_err()));
    go();
    session.wait_for("refused");
    world.packets();
    world.host().run(move || std::fs::remove_file(filler).expect("it is there"));
    go();
    session.wait_for("again");
    let out = session.finish();
    out.exits(0).complains("msg=DENY method=GET url=http://allowed.test/");
}

#[test]
fn an_allowed_request_is_logged_at_info_only() {
    needs!(root, bpf, curl);
    let world = World::new();
    let curl = ["curl", "-sS", "http://allowed.test/"];
    let quiet = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
    quiet.expect(!quiet.stderr.contains("ALLOW"), "warn does not show it");
    let options = ["--log-level", "info", "--allow", "domain=allowed.test"];
    let told = world.boundary(&options, &curl).output();
    told.complains("level=INFO msg=ALLOW method=GET url=http://allowed.test/ host=allowed.test");
}

#[test]
fn whoever_names_himself_with_any_bytes_is_on_record() {
    /// Names itself with what is no text, and tries a socket that may not be made.
    const ODD: &str = "
import ctypes, socket
ctypes.CDLL(None).prctl(15, b'\\xff\\xfeodd', 0, 0, 0)
try: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
except OSError as error: print(error.errno)
connection = socket.create_connection(('203.0.113.66', 80), 30)
connection.send(b'GET / HTTP/1.1\\r\\nHost: denied.test\\r\\n\\r\\n')
# Who has ended is in no list of who holds which socket.
connection.recv(1)
";
    needs!(root, bpf, python3);
    let world = World::new();
    let out = world.boundary(&[], &["python3", "-c", ODD]).output();
    out.exits(0).nothing_left();
    for fields in
        [[("code", "socket_type"), ("proto", "packet")], [("proto", "http"), ("decision", "deny")]]
    {
        let record = out.record(&fields);
        out.expect(record["comm"] == "\u{fffd}\u{fffd}odd", "as near as text comes to it");
    }
}

#[test]
fn a_record_says_who_started_the_process_that_asked() {
    needs!(root, bpf, numbers, curl);
    let world = World::new();
    // `&` and `wait` keep each shell from becoming what it starts. Each is gone as soon as it may be.
    let script = "sh -c 'curl -sS http://denied.test/ & wait' & wait; \
                  sh -c '$0 socket packet raw 0 & wait' $0 & wait";
    let out = world.boundary(&[], &["sh", "-c", script, world.attack()]).output();
    out.exits(0);
    out.record(&[("host", "denied.test"), ("proto", "http")]);
    out.record(&[("code", "socket_type"), ("proto", "packet")]);
    // What a hook refused is told a moment later, when who started it may not be found any more.
    let is_late = |record: &Value| record["door"] == "kernel" && record["proto"] == "udp";
    let is_told = |record: &&Value| record["parents"].is_array() || !is_late(record);
    for record in out.records.iter().filter(|record| record["pid"].is_u64()).filter(is_told) {
        let parents: Vec<_> = record["parents"].as_array().into_iter().flatten().collect();
        let names = parents.iter().map(|parent| parent["comm"].as_str());
        out.expect(
            names.eq([Some("sh"); 2]),
            &format!("up to the command, and no further: {record}"),
        );
        let asked = record["pid"].as_u64();
        out.expect(parents.iter().all(|it| it["pid"].as_u64() != asked), "each is another");
    }
}

/// Asks for a name, and is refused a datagram when it is told to go on.
const REFUSED: &str = "
import socket
socket.gethostbyname('allowed.test')
print('asked', flush=True)
open('tmp/gate').readline()
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('203.0.113.66', 9999))
except OSError: pass
";

#[test]
fn who_was_known_and_is_gone_when_a_refusal_is_read_has_those_who_started_it() {
    needs!(root, ebpf, numbers, python3);
    let world = World::new();
    let gate = world.folder().join("tmp/gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
    let script = format!("/usr/bin/python3 -c \"{REFUSED}\"; echo gone");
    let options = ["--allow", "domain=allowed.test"];
    let session = world.boundary(&options, &["sh", "-c", &script]).start();
    session.wait_for("asked");
    let proxy = of_boundary(&world, "boundary-proxy");
    stop(&world, proxy);
    std::fs::write(&gate, "go\n").expect("it waits there");
    session.wait_for("gone");
    kill(proxy, Signal::SIGCONT).expect("it is there");
    let out = session.finish();
    let record = out.record(&[("code", "datagram"), ("comm", "python3")]);
    let parents: Vec<_> = record["parents"].as_array().into_iter().flatten().collect();
    out.expect(parents.len() == 1 && parents[0]["comm"] == "sh", &format!("{record}"));
    out.expect(record["exe"].is_null(), "what it ran at the end nobody can say");
}
