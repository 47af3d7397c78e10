//! Names: answered inside, for any resolver address, and never asked outside for what is denied.

use std::net::IpAddr;

use serde_json::Value;

use crate::world::needs::needs;
use crate::world::{Output, World, jail};

/// The policy of these tests.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];

/// Whether an answer is one address of ours.
fn is_synthetic(address: &Value) -> bool {
    match address.as_str().and_then(|text| text.parse().ok()) {
        Some(IpAddr::V4(ip)) => ip.octets()[0] == 198 && (18..20).contains(&ip.octets()[1]),
        Some(IpAddr::V6(ip)) => ip.is_unique_local(),
        None => false,
    }
}

/// The addresses that an answer holds.
fn addresses(out: &Output) -> Vec<Value> {
    out.finding()["found"]["addresses"].as_array().cloned().unwrap_or_default()
}

#[test]
fn every_resolver_address_answers_with_ours_over_udp_and_tcp() {
    needs!(root, bpf);
    let world = World::new();
    for server in ["8.8.8.8", "2001:4860:4860::8888", "::ffff:9.9.9.9", "192.0.2.53", "127.0.0.53"]
    {
        for how in ["udp", "tcp"] {
            for kind in ["A", "AAAA"] {
                let ask = [world.attack(), "dns", how, server, "allowed.test", kind];
                let out = world.boundary(&ALLOW, &ask).output();
                out.succeeded().nothing_left();
                let found = addresses(&out);
                out.expect(found.len() == 1 && is_synthetic(&found[0]), "one address of ours");
                let from = out.finding()["found"]["from"].to_string();
                out.expect(from.contains(server), "the answer comes from who was asked");
                out.record(&[("proto", "dns"), ("host", "allowed.test"), ("door", "dns")]);
            }
        }
    }
}

#[test]
fn a_question_for_a_denied_name_never_leaves() {
    needs!(root, bpf);
    let world = World::new();
    for name in ["denied.test", "c2vjcmv0.denied.test", "secret.allowed.test.denied.test"] {
        for kind in ["A", "AAAA", "TXT", "HTTPS", "SRV", "ANY", "PTR"] {
            let ask = [world.attack(), "dns", "udp", "192.0.2.53", name, kind];
            let out = world.boundary(&ALLOW, &ask).output();
            out.nothing_left().record(&[("proto", "dns"), ("host", name)]);
        }
    }
}

#[test]
fn an_allowed_name_is_asked_only_when_it_is_dialled() {
    needs!(root, bpf, curl);
    let world = World::new();
    let ask = [world.attack(), "dns", "udp", "192.0.2.53", "allowed.test", "A"];
    world.boundary(&ALLOW, &ask).output().succeeded().nothing_left();
    let out = world.boundary(&ALLOW, &["curl", "-sS", "http://allowed.test/"]).output();
    out.says("this is").expect(!out.questions.is_empty(), "now it is asked");
    out.expect(out.questions.iter().all(|asked| asked.name == "allowed.test"), "and nothing else");
}

#[test]
fn types_that_carry_other_ways_in_are_empty() {
    needs!(root, bpf);
    let world = World::new();
    for kind in ["HTTPS", "TXT", "SRV", "NS"] {
        let ask = [world.attack(), "dns", "udp", "192.0.2.53", "allowed.test", kind];
        let out = world.boundary(&ALLOW, &ask).output();
        let found = out.finding()["found"].clone();
        out.expect(found["code"] == 0 && found["answers"] == 0, "no error, nothing in it");
        out.nothing_left();
    }
}

#[test]
fn an_address_gives_its_name_back() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "import socket as s; a = s.gethostbyname('allowed.test'); \
                  b = s.gethostbyname('allowed.test'); print(a == b, s.gethostbyaddr(a)[0])";
    let out = world.boundary(&ALLOW, &["/usr/bin/python3", "-c", script]).output();
    out.exits(0).says("True allowed.test").nothing_left();
}

#[test]
fn localhost_and_the_hosts_file_keep_working() {
    needs!(root, bpf);
    let world = World::new();
    let out = world.boundary(&[], &["getent", "ahosts", "localhost"]).output();
    out.exits(0).nothing_left();
    let loopback = out.stdout.contains("127.0.0.1") || out.stdout.contains("::1");
    out.expect(loopback, "it is the loopback");
}

#[test]
fn a_datagram_to_another_port_of_a_resolver_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    for server in ["8.8.8.8", "2001:4860:4860::8888"] {
        let out = world.boundary(&ALLOW, &[world.attack(), "udp", "sendto", server, "54"]).output();
        out.refused(&["EPERM", "EACCES", "ECONNREFUSED"]).nothing_left();
    }
}

#[test]
fn what_is_no_question_on_the_resolvers_port_is_an_error_and_on_record() {
    needs!(root, bpf);
    let world = World::new();
    for server in ["203.0.113.10", "2001:db8::10"] {
        let attack = [world.attack(), "tcp", server, "53", "http:allowed.test"];
        let out = world.boundary(&ALLOW, &attack).output();
        out.refused(&["ECONNRESET"]).nothing_left();
        out.record(&[("decision", "deny"), ("code", "bad_request"), ("door", "dns")]);
    }
}

/// The ports of the host's UDP sockets on 127.0.0.1.
fn resolver_doors(world: &World) -> Vec<u16> {
    let table = world.host().netns().trim_end_matches("/ns/net").to_owned() + "/net/udp";
    let table = std::fs::read_to_string(table).expect("procfs is mounted");
    let local = table.lines().filter_map(|line| line.split_whitespace().nth(1));
    let ports = local.filter_map(|address| address.strip_prefix("0100007F:"));
    ports.filter_map(|port| u16::from_str_radix(port, 16).ok()).collect()
}

#[test]
fn nobody_else_on_the_machine_is_answered() {
    needs!(root, bpf);
    let world = World::new();
    let script = "echo here; read line; exec \"$0\" dns udp 8.8.8.8 allowed.test A";
    let shell = ["sh", "-c", script, world.attack()];
    let (session, mut terminal) = world.boundary(&ALLOW, &shell).on_terminal();
    terminal.wait_for("here");
    let doors = resolver_doors(&world);
    if jail() == "nsjail" {
        assert!(doors.is_empty(), "the resolver is in the session's own network: {doors:?}");
        session.kill();
        session.finish();
        return;
    }
    assert_eq!(doors.len(), 1, "the resolver's own: {doors:?}");
    // A question for `evil.test`, from outside the session.
    let question = b"\x42\x42\x01\0\0\x01\0\0\0\0\0\0\x04evil\x04test\0\0\x01\0\x01";
    let stranger = world.host().run(move || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        #[expect(clippy::disallowed_methods, reason = "somebody of the host, outside the walls")]
        socket.send_to(question, ("127.0.0.1", doors[0])).expect("sent");
        socket
    });
    terminal.type_in("\n");
    terminal.wait_for("198.18.0.1");
    let out = session.finish();
    stranger.set_nonblocking(true).expect("a flag");
    out.expect(stranger.recv(&mut [0; 512]).is_err(), "the stranger hears nothing");
    let names = out.records.iter().filter(|record| record["proto"] == "dns");
    out.expect(names.count() == 1, "and is not taken for the session");
}
