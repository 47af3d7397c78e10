//! Section B: what an older tool of this kind did wrong.

use std::net::SocketAddr;

use super::{ALLOW, DENIED, REFUSALS, attack, is_refused};
use crate::world::needs::needs;
use crate::world::{World, jail, user};

#[test]
fn b03_icmp_and_raw_sockets_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for target in &DENIED[..2] {
        let out = attack(&world, &["icmp", target]);
        out.record(&[("decision", "deny")]);
        out.nothing_left();
        // ICMPv6 tells its sender nothing of what became of a packet (net/ipv6/icmp.c).
        if jail() == "ebpf" || target.contains('.') {
            out.refused(REFUSALS);
        }
        // The kernel itself refuses this one, for want of a capability, before any hook sees it.
        is_refused(&world, &["raw", target]);
    }
}

#[test]
fn b03_other_transports_of_the_internet_families_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for family in ["inet", "inet6"] {
        for (kind, protocol) in [
            ("stream", "sctp"),
            ("seqpacket", "sctp"),
            ("dccp-socket", "dccp"),
            ("dgram", "l2tp"),
            ("raw", "255"),
        ] {
            is_refused(&world, &["socket", family, kind, protocol]);
        }
    }
}

#[test]
fn b01_a29_no_capability_can_be_used_against_the_walls() {
    needs!(root, bpf);
    let world = World::new();
    for run in [false, true] {
        let command = [world.attack(), "status"];
        let run_as = world.boundary(&ALLOW, &command);
        let out = if run { run_as.through_sudo().output() } else { run_as.output() };
        out.succeeded();
        let found = out.finding()["found"].clone();
        // NET_ADMIN, NET_RAW, SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, SYS_BOOT, PERFMON, BPF.
        let walls: u64 = [12, 13, 16, 17, 19, 21, 22, 38, 39].iter().map(|bit| 1 << bit).sum();
        // Who has no privilege has no say over what is bounded, and with no new ones none to fear of it.
        let is_bounded = jail() != "landjail" || user() == "0";
        let sets = ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"];
        for set in &sets[..if is_bounded { 5 } else { 4 }] {
            let bits = found[*set].as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
            out.expect(bits.is_some_and(|bits| bits & walls == 0), &format!("none is in {set}"));
        }
        out.expect(found["NoNewPrivs"] == "1", "and none can be gained");
        out.expect(found["Seccomp"] == "2", "a filter is in force");
    }
}

#[test]
fn b01_the_walls_cannot_be_configured_from_inside() {
    needs!(root, bpf);
    let world = World::new();
    for attempt in
        ["ip link set lo down", "ip link add x type dummy", "ip route add 203.0.113.66 dev eth0"]
    {
        let out = world.boundary(&ALLOW, &["sh", "-c", attempt]).output();
        out.expect(out.status.is_some_and(|status| !status.success()), "it fails");
    }
    for call in ["bpf", "unshare-net"] {
        attack(&world, &["syscall", call]).refused(&["EPERM"]);
    }
}

#[test]
fn b02_the_proxy_listens_on_loopback_only_and_serves_nobody_of_the_host() {
    needs!(root, ebpf);
    let world = World::new();
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test"];
    let session = world.boundary(&options, &[world.attack(), "signals", "1"]).start();
    session.wait_for("ready");
    let listeners = world.listeners();
    assert!(!listeners.is_empty(), "the proxy listens");
    assert!(listeners.iter().all(|(address, _)| address.ip().is_loopback()), "{listeners:?}");
    let proxies: Vec<SocketAddr> = listeners.into_iter().map(|(address, _)| address).collect();
    let answers = world.host().run(move || proxies.into_iter().map(asked).collect::<Vec<_>>());
    session.signal(nix::sys::signal::Signal::SIGUSR1);
    let out = session.finish();
    out.expect(answers.iter().all(Vec::is_empty), &format!("none answers: {answers:?}"));
    out.nothing_left();
}

/// What a listener says to somebody of the host who asks it to fetch something.
fn asked(address: SocketAddr) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let patience = Some(std::time::Duration::from_secs(5));
    #[expect(clippy::disallowed_methods, reason = "somebody of the host, outside the walls")]
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(patience).expect("a deadline");
    let request = "GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n";
    // Closed before it was read is an answer as good as any.
    drop(stream.write_all(request.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}

#[test]
fn b04_an_allowed_hosts_ports_open_no_other_host() {
    needs!(root, bpf);
    let world = World::new();
    let options = [
        "--proxy-port",
        "18080",
        "--allow",
        "domain=allowed.test port=80",
        "--allow",
        "proto=tcp host=allowed.test port=5432",
    ];
    // What the rules name, and where the door is.
    for (target, port) in DENIED.iter().flat_map(|it| ["80", "5432", "18080"].map(|p| (it, p))) {
        let words = [world.attack(), "tcp", target, port, "http:denied.test"];
        let out = world.boundary(&options, &words).output();
        out.succeeded().says("403").nothing_left();
    }
    let words = [world.attack(), "tcp", "203.0.113.10", "80", "http:allowed.test"];
    world.boundary(&options, &words).output().succeeded().says("this is");
}

#[test]
fn b05_an_allowed_name_in_the_request_does_not_open_another_address() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        let out = attack(&world, &["tcp", target, "80", "http:allowed.test"]);
        let arrived = out
            .packets
            .iter()
            .any(|packet| DENIED.iter().any(|denied| denied.parse().ok() == packet.target));
        out.expect(!arrived, "the other address gets nothing");
    }
}

#[test]
fn b06_a_name_and_a_path_are_judged_in_one_spelling() {
    needs!(root, bpf, curl);
    let world = World::new();
    let fetch = |rule: &str, url: &str| {
        let curl = ["curl", "-sS", "--path-as-is", url];
        world.boundary(&["--allow", rule], &curl).output()
    };
    for url in ["http://ALLOWED.test/", "http://allowed.test./", "http://aLLowed.TEST/x"] {
        fetch("domain=allowed.test", url).exits(0).says("this is");
    }
    for path in ["a/../b", "%61/%2e%2e/b", "a//../b", "a/%2e%2e%2fb", "a;x/../b", "a/..%5cb"] {
        let out = fetch("domain=allowed.test path=/a/*", &format!("http://allowed.test/{path}"));
        let reached = out.requests.iter().any(|request| !request.target.starts_with("/a"));
        out.expect(!reached, "what is matched is what is sent");
    }
    let out = fetch("domain=allowed.test path=/@scope%2fname", "http://allowed.test/@scope%2fname");
    out.says("this is").expect(
        out.requests.iter().any(|request| request.target.contains("%2")),
        "an escaped slash stays one",
    );
}

#[test]
fn b09_every_record_carries_the_sessions_id() {
    needs!(root, bpf);
    let world = World::new();
    let script =
        "$0 tcp 203.0.113.66 80 http:x; $0 udp sendto 203.0.113.66 9; $0 icmp 203.0.113.66";
    let out = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).output();
    let first = out.records.first().map(|record| record["session_id"].clone());
    out.expect(out.records.len() >= 3, "each attempt is on record");
    out.expect(first.as_ref().is_some_and(serde_json::Value::is_string), "it has an id");
    out.expect(
        out.records.iter().all(|record| Some(&record["session_id"]) == first.as_ref()),
        "and all have the same",
    );
}
