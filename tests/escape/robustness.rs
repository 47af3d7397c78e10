//! Section F: floods, crashes, neighbours, survivors.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};

use super::{ALLOW, DENIED, rounds};
use crate::world::World;
use crate::world::needs::needs;
use crate::world::processes::{Process, eventually};

#[test]
fn f02_a_flood_of_connections_loses_neither_policy_nor_identity() {
    needs!(root, bpf);
    let world = World::new();
    // On a busy machine the proxy has as many as it may for a while yet, and closes what comes.
    let flood = "$0 flood 203.0.113.66 80 $1 & $0 flood 2001:db8::66 80 $1 & wait; \
                 for n in $(seq 100); do \
                 $0 tcp 203.0.113.10 80 http:allowed.test | grep -q 'this is' && break; \
                 sleep 0.1; done; \
                 $0 tcp 203.0.113.66 80 http:denied.test; \
                 $0 tcp 203.0.113.10 80 http:allowed.test; \
                 $0 udp sendto 203.0.113.66 9999";
    let command = ["sh", "-c", flood, world.attack(), &rounds(100_000)];
    let out = world.boundary(&ALLOW, &command).output();
    let findings = out.findings();
    out.expect(findings.len() == 5, "every step says what became of it");
    let tail = &findings[2..];
    out.expect(tail[0].to_string().contains("403"), "what was denied is denied");
    out.expect(tail[1].to_string().contains("this is"), "what was allowed is served");
    out.expect(tail[2]["errno"] == "EPERM", "a datagram is refused");
    let denied = DENIED.map(|address| address.parse().ok());
    out.expect(!out.packets.iter().any(|it| denied.contains(&it.target)), "nothing is misdirected");
}

#[test]
fn f04_a_connection_that_was_given_up_does_not_lend_its_target() {
    needs!(root, bpf);
    let world = World::new();
    let script = "for n in 1 2 3 4 5; do $0 flood 203.0.113.66 80 3; \
                  $0 tcp 203.0.113.10 80 http:allowed.test; done";
    let out = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).output();
    let served = out.findings().iter().filter(|it| it.to_string().contains("this is")).count();
    out.expect(served == 5, "each goes where it was meant to go");
    let allowed: Option<std::net::IpAddr> = "203.0.113.10".parse().ok();
    out.expect(
        out.packets.iter().filter(|it| it.opens).all(|it| it.target == allowed),
        "and nowhere else",
    );
}

#[test]
fn f04_a_port_that_is_used_again_at_once_is_known_again() {
    needs!(root, bpf, python3);
    let world = World::new();
    // The client reads to the end, so that the proxy closes first: its side of the old connection
    // (TIME_WAIT) is what the new one meets before it meets the listener.
    let script = "
import socket
for n in range(4):
    s = socket.create_connection(('allowed.test', 80), 10, ('', 45678))
    s.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\n\\r\\n')
    answer = b''
    while True:
        data = s.recv(65536)
        if not data: break
        answer += data
    s.close()
    assert b'this is' in answer, answer
";
    let out = world.boundary(&ALLOW, &["/usr/bin/python3", "-c", script]).output();
    out.exits(0);
    out.expect(out.requests.len() == 4, "each is served");
}

#[test]
fn f07_h10_h11_a_dead_proxys_port_is_worth_nothing_and_connections_fail() {
    needs!(root, ebpf);
    let world = World::new();
    let script = "$0 signals 1; $0 tcp 203.0.113.10 80 http:allowed.test; \
                  $0 tcp 2001:db8::10 80 http:allowed.test; $0 udp sendto 192.0.2.53 53";
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test"];
    let session = world.boundary(&options, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    let proxy = proxy_of(&world);
    // The keeper must not clear up before the command has tried.
    session.signal(Signal::SIGSTOP);
    kill(proxy.pid, Signal::SIGKILL).expect("it is there");
    eventually("its port is free", || world.listeners().is_empty());
    let thief = world.host().run(|| {
        let thief = std::net::TcpListener::bind("127.0.0.1:18080").expect("the port is free");
        thief.set_nonblocking(true).expect("it does not wait");
        thief
    });
    kill(world.process("attack").pid, Signal::SIGUSR1).expect("it is there");
    session.wait_for("\"attack\":\"udp\"");
    session.signal(Signal::SIGCONT);
    let out = session.finish();
    out.nothing_left().expect(thief.accept().is_err(), "who took the port gets nothing");
    let ok = out.findings().iter().filter(|finding| finding["ok"] == true).count();
    out.expect(ok == 1 && out.findings().len() == 4, "every attempt fails");
}

/// The process of the session that listens.
fn proxy_of(world: &World) -> Process {
    let sockets: BTreeSet<String> =
        world.listeners().iter().map(|(_, inode)| format!("socket:[{inode}]")).collect();
    let listens = |process: &Process| {
        let open = fs::read_dir(format!("/proc/{}/fd", process.pid)).into_iter().flatten();
        open.flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| sockets.contains(&link.display().to_string()))
    };
    world.processes().into_iter().find(listens).expect("somebody listens")
}

#[test]
fn a27_f08_the_canary_ends_a_run_in_a_jail_that_leaks() {
    needs!(root, bpf);
    let world = World::new();
    let [bundle, overlay] = ["ca.pem", "tmp"].map(|name| world.folder().join(name));
    let [bundle, overlay] = [&bundle, &overlay].map(|path| path.to_str().expect("our own name"));
    let out = world.bare(&[env!("CARGO_BIN_EXE_hand"), "enclose", bundle, overlay]).output();
    out.exits(0).says("the jail is not tight").reached("192.0.2.1");
    let left = world.processes().into_iter().filter(|it| it.exe.ends_with("hand"));
    out.expect(left.count() == 0, "nothing of it runs on");
}

#[test]
fn f13_clients_that_are_slow_or_endless_end_and_others_are_served() {
    needs!(root, bpf);
    let world = World::new();
    // Heads that never end, and heads that end too late for anybody.
    let long = "x".repeat(100_000);
    let script = format!(
        "for n in 1 2 3 4 5 6 7 8; do $0 tcp 203.0.113.10 80 read & done; \
         $0 tcp 203.0.113.10 80 'send:GET / HTTP/1.1\r\nHost: {long}' ; \
         $0 tcp 203.0.113.10 80 http:allowed.test; kill $(jobs -p); true"
    );
    let out = world.boundary(&ALLOW, &["sh", "-c", &script, world.attack()]).output();
    out.says("this is").expect(out.requests.len() == 1, "one request arrives");
    // The end of the connection may overtake the answer while the head is still being written.
    let told = out.findings().iter().any(|it| {
        it.to_string().contains("431")
            || ["ECONNRESET", "EPIPE"].iter().any(|end| it["errno"] == *end)
    });
    out.expect(told, "a head that never ends is ended");
}

#[test]
fn f14_what_the_command_leaves_behind_ends_with_it() {
    needs!(root, bpf, setsid);
    let world = World::new();
    let script = "setsid -f sh -c 'trap \"\" TERM HUP INT; while :; do \
                  $0 udp sendto 203.0.113.66 9999; done' $0 >/dev/null 2>&1 </dev/null; exit 0";
    let out = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).output();
    out.exits(0).nothing_left();
    eventually("nothing runs any more", || world.processes().is_empty());
    assert!(world.packets().is_empty(), "and nothing leaves afterwards");
}
