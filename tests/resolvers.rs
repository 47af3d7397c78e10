//! The resolvers that programs bring with them: each of the libraries that ask in a way of its own.
//!
//! The built-in resolver is told from the real one by its addresses; that a name then works is shown by
//! a connection to it.

use std::path::PathBuf;
use std::process::Command;

use crate::world::needs::needs;
use crate::world::{Output, World};

/// The policy of these tests.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];

/// The first name's addresses in any session.
const FIRST: [&str; 2] = ["198.18.0.1", "fd62:6f75:6e64::1"];

/// Runs a command, and checks that no question left for it and each family was answered.
#[track_caller]
fn both_families(world: &World, command: &[&str]) -> Output {
    let out = world.boundary(&ALLOW, command).output();
    out.exits(0).nothing_left();
    for address in FIRST {
        out.says(address);
    }
    out
}

/// Builds a program in the world's folder, outside any jail.
#[track_caller]
fn build(world: &World, line: &str) -> PathBuf {
    let built = Command::new("sh").args(["-ec", line]).current_dir(world.folder()).output();
    let built = built.expect("there is a shell");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    world.folder().join("program")
}

#[test]
fn glibc_asks_for_both_families_at_once() {
    needs!(root, bpf, python3);
    let world = World::new();
    both_families(
        &world,
        &["sh", "-c", "getent ahostsv4 allowed.test; getent ahostsv6 allowed.test"],
    );
    let script = "import socket as s; print({a[4][0] for a in s.getaddrinfo('allowed.test', 80)})";
    both_families(&world, &["/usr/bin/python3", "-c", script]);
    for options in ["single-request", "single-request-reopen", "use-vc", "edns0 trust-ad", "rotate"]
    {
        let options = format!("RES_OPTIONS='{options}' getent ahosts allowed.test");
        both_families(&world, &["sh", "-c", &options]);
    }
}

#[test]
fn a_resolver_of_any_family_and_place_is_answered_for() {
    needs!(root, bpf);
    for servers in [
        "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n",
        "nameserver 2001:db8::53\n",
        "nameserver 127.0.0.1\nnameserver ::1\n",
        "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        "",
    ] {
        let world = World::new();
        let file = world.file("other.conf", servers);
        world.host().cover(&file, "/etc/resolv.conf");
        both_families(&world, &["getent", "ahosts", "allowed.test"]);
    }
}

#[test]
fn a_resolv_conf_beside_a_daemons_sockets_is_seen_and_its_search_list_counts() {
    needs!(root, covers, bpf);
    let world = World::new();
    // As systemd-resolved has it: a link into a directory that is covered.
    let etc = world.folder().join("etc");
    std::fs::create_dir(&etc).expect("the folder is ours");
    let target = "/run/systemd/resolve/stub-resolv.conf";
    std::os::unix::fs::symlink(target, etc.join("resolv.conf")).expect("the folder is ours");
    world.host().run(move || {
        std::fs::create_dir_all("/run/systemd/resolve").expect("the host's own");
        let text = "nameserver 127.0.0.53\noptions edns0\nsearch corp.test\n";
        std::fs::write(target, text).expect("the host's own");
        std::fs::write("/run/systemd/private", "").expect("the host's own");
        let overlay = format!("lowerdir={}:/etc", etc.display());
        let line = ["-t", "overlay", "none", "-o", &overlay, "/etc"];
        let mounted = Command::new("mount").args(line).status().expect("mount starts");
        assert!(mounted.success());
    });
    let script = "grep corp.test /etc/resolv.conf; find /run/systemd -type f; getent hosts db
                  echo >/run/systemd/resolve/stub-resolv.conf; echo >/run/systemd/own";
    let out = world.boundary(&["--allow", "domain=corp.test"], &["sh", "-c", script]).output();
    out.says("search corp.test").says("db.corp.test").nothing_left();
    out.expect(!out.stdout.contains("private"), "what else is there stays covered");
    out.expect(out.stderr.matches("Read-only").count() == 2, "and nothing can be written");
}

#[test]
fn a_switch_with_services_that_are_out_of_reach_comes_to_dns() {
    needs!(root, bpf);
    let world = World::new();
    let line = "hosts: mymachines mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] files myhostname dns\n";
    let file = world.file("other.switch", line);
    world.host().cover(&file, "/etc/nsswitch.conf");
    both_families(&world, &["getent", "ahosts", "allowed.test"]);
}

#[test]
fn a_resolver_on_the_hosts_loopback_is_what_boundary_dials_by() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.stub_resolver();
    let file = world.file("other.conf", "nameserver 127.0.0.53\n");
    world.host().cover(&file, "/etc/resolv.conf");
    let out = world.boundary(&ALLOW, &["curl", "-sS", "http://allowed.test/"]).output();
    out.exits(0).says("this is allowed.test");
    let stub: std::net::IpAddr = "127.0.0.53".parse().expect("an address");
    let asked = !out.questions.is_empty() && out.questions.iter().all(|it| it.server == stub);
    out.expect(asked, "the host's own resolver was asked, and nobody else");
}

#[test]
fn musl_asks_all_servers_at_once_and_checks_who_answers() {
    needs!(root, bpf, musl_gcc);
    let world = World::new();
    world.file(
        "program.c",
        r#"#include <arpa/inet.h>
        #include <netdb.h>
        #include <stdio.h>
        int main(int c, char **v) {
            struct addrinfo *all, hints = { .ai_socktype = SOCK_STREAM };
            int error = getaddrinfo(v[1], "80", &hints, &all);
            if (error) return puts(gai_strerror(error)), 1;
            for (; all; all = all->ai_next) {
                char text[64];
                getnameinfo(all->ai_addr, all->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
                puts(text);
            }
        }"#,
    );
    let program = build(&world, "musl-gcc -static -o program program.c");
    let program = program.to_str().expect("our own name");
    both_families(&world, &[program, "allowed.test"]);
    let file = world.file(
        "other.conf",
        "search lan\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver 8.8.8.8\n",
    );
    world.host().cover(&file, "/etc/resolv.conf");
    both_families(&world, &[program, "allowed.test"]);
    let out = world.boundary(&ALLOW, &[program, "localhost"]).output();
    out.exits(0).nothing_left();
}

#[test]
fn gos_own_resolver_is_answered() {
    needs!(root, bpf, go);
    let world = World::new();
    world.file(
        "program.go",
        "package main
        import (\"fmt\"; \"net\"; \"net/http\"; \"io\")
        func main() {
            fmt.Println(net.LookupHost(\"allowed.test\"))
            fmt.Println(net.LookupAddr(\"198.18.0.1\"))
            fmt.Println(net.LookupTXT(\"allowed.test\"))
            _, err := net.LookupHost(\"bad name.test\")
            fmt.Println(err)
            got, err := http.Get(\"http://allowed.test/\")
            if err != nil { panic(err) }
            text, _ := io.ReadAll(got.Body)
            fmt.Println(string(text))
        }",
    );
    // The standard library is compiled once for all runs.
    let cache = env!("CARGO_TARGET_TMPDIR");
    let line =
        format!("GOCACHE={cache}/go GOFLAGS=-mod=mod CGO_ENABLED=0 go build -o program program.go");
    let program = build(&world, &line);
    let out = world.boundary(&ALLOW, &[program.to_str().expect("our own name")]).output();
    out.exits(0).says(FIRST[0]).says(FIRST[1]).says("[allowed.test.] <nil>");
    out.says("this is allowed.test");
}

#[test]
fn c_ares_asks_as_it_is_told() {
    needs!(root, bpf, node);
    let world = World::new();
    let script = "
        const dns = require('dns'), p = dns.promises
        async function main() {
            console.log(await p.resolve4('allowed.test'), await p.resolve6('allowed.test'))
            const other = new p.Resolver({ timeout: 3000, tries: 1 })
            other.setServers(['8.8.8.8', '[2001:4860:4860::8888]:53'])
            console.log(await other.resolve4('allowed.test'), await other.reverse('198.18.0.1'))
            console.log(await p.lookup('allowed.test', { all: true }))
            for (const kind of ['TXT', 'MX', 'SRV', 'NS', 'CAA'])
                await p.resolve('allowed.test', kind).then(
                    found => { throw new Error(kind + found) }, error => console.log(error.code))
        }
        main().catch(error => { console.log(error); process.exit(1) })";
    let out = both_families(&world, &["node", "-e", script]);
    out.expect(out.stdout.matches("ENODATA").count() == 5, "there is the name and no such data");
    out.says("[ 'allowed.test' ]");
}

#[test]
fn dig_host_and_nslookup_are_answered() {
    needs!(root, bpf, dig, host, nslookup);
    let world = World::new();
    both_families(&world, &["host", "allowed.test"]);
    both_families(&world, &["nslookup", "allowed.test"]);
    for how in [
        "",
        "+tcp",
        "+noedns",
        "+bufsize=512",
        "+dnssec",
        "+cookie",
        "+subnet=203.0.113.0/24",
        "@8.8.8.8",
        "@2001:4860:4860::8888",
        "+tcp @9.9.9.9",
    ] {
        let script = format!(
            "dig +short {how} allowed.test A allowed.test AAAA && dig +short {how} -x 198.18.0.1"
        );
        both_families(&world, &["sh", "-c", &script]).says("allowed.test.");
    }
    let out = world.boundary(&ALLOW, &["dig", "allowed.test", "HTTPS"]).output();
    out.exits(0).says("status: NOERROR").says("ANSWER: 0").nothing_left();
    let out = world.boundary(&ALLOW, &["dig", "-c", "CH", "version.bind", "TXT"]).output();
    out.exits(0).says("ANSWER: 0").nothing_left();
    let out = world.boundary(&ALLOW, &["dig", "aLLoWed.TesT"]).output();
    out.exits(0).says("aLLoWed.TesT.").says(FIRST[0]);
}

#[test]
fn java_looks_up_and_back() {
    needs!(root, bpf, java);
    let world = World::new();
    let program = world.file(
        "Look.java",
        "import java.net.InetAddress;
         class Look {
             public static void main(String[] a) throws Exception {
                 for (var found : InetAddress.getAllByName(\"allowed.test\")) {
                     System.out.println(found.getHostAddress());
                     System.out.println(InetAddress.getByAddress(found.getAddress()).getHostName());
                 }
             }
         }",
    );
    let out = world.boundary(&ALLOW, &["java", program.to_str().expect("our own name")]).output();
    out.exits(0).nothing_left().says(FIRST[0]).says("allowed.test");
    out.says("fd62:6f75:6e64:0:0:0:0:1");
}

/// The addresses that the attack program found for a name.
fn found(world: &World, options: &[&str], (name, kind): (&str, &str)) -> Output {
    let ask = [world.attack(), "dns", "udp", "192.0.2.53", name, kind];
    world.boundary(options, &ask).output()
}

#[test]
fn with_real_dns_permitted_names_are_asked_outside_and_others_are_not() {
    needs!(root, bpf);
    let world = World::new();
    let real = [&ALLOW[..], &["--use-real-dns"]].concat();
    let out = found(&world, &real, ("allowed.test", "A"));
    out.complains("use_real_dns").reached("192.0.2.53");
    out.expect(out.finding()["found"]["addresses"][0] == "203.0.113.10", "the real address");
    out.record(&[("proto", "dns"), ("host", "allowed.test"), ("address", "192.0.2.53")]);
    let out = found(&world, &real, ("gone.allowed.test", "A"));
    out.expect(out.finding()["found"]["code"] == 3, "no such name");
    for ask in [
        ("c2vjcmv0.denied.test", "A"),
        ("denied.test", "TXT"),
        ("allowed.test", "HTTPS"),
        ("allowed.test", "ANY"),
    ] {
        found(&world, &real, ask).nothing_left();
    }
    let out = found(&world, &real, ("denied.test", "A"));
    out.expect(out.finding()["found"]["addresses"][0] == FIRST[0], "an address that is ours");
    // Over TCP as well, and whoever is asked: the host's resolver is.
    let ask = [world.attack(), "dns", "tcp", "8.8.8.8", "allowed.test", "AAAA"];
    let out = world.boundary(&real, &ask).output();
    out.expect(out.finding()["found"]["addresses"][0] == "2001:db8::10", "the real address");
    out.expect(
        out.packets.iter().all(|it| it.target != "8.8.8.8".parse().ok()),
        "not who was named",
    );
    out.reached("192.0.2.53");
}

#[test]
fn with_real_dns_an_inner_session_asks_for_what_its_own_rules_cover() {
    needs!(root, rooms);
    let world = World::new();
    let boundary = world.exact(&[]).words().remove(0);
    let ask = |name| format!("{} dns udp 192.0.2.53 {name} A >/dev/null", world.attack());
    let (own, other) = (ask("allowed.test"), ask("secret.four.test"));
    let script = format!("{boundary} --allow domain=allowed.test -- sh -c '{own}; {other}'");
    let real = ["--use-real-dns", "--allow", "domain=allowed.test", "--allow", "domain=four.test"];
    let out = world.boundary(&real, &["sh", "-c", &script]).output();
    out.exits(0).reached("192.0.2.53");
    out.expect(out.questions.iter().all(|it| it.name.contains("allowed.test")), "no other");
}

#[test]
fn with_real_dns_connections_are_judged_by_name() {
    needs!(root, bpf, curl, python3);
    let world = World::new();
    let real = [&ALLOW[..], &["--use-real-dns"]].concat();
    for url in ["http://allowed.test/", "https://allowed.test/"] {
        let out = world.boundary(&real, &["curl", "-sS", url]).output();
        out.exits(0)
            .says("this is allowed.test")
            .record(&[("decision", "allow"), ("host", "allowed.test")]);
    }
    let out = world.boundary(&real, &["curl", "-sS", "http://denied.test/"]).output();
    out.exits(0).says("Request Blocked by Boundary").nothing_left();
    // Nothing is named here but by the answer before.
    let script = "import socket as s; print(s.create_connection(('allowed.test', 22)).recv(99))";
    let stream = ["--use-real-dns", "--allow", "proto=tcp host=allowed.test port=22"];
    let out = world.boundary(&stream, &["/usr/bin/python3", "-c", script]).output();
    out.exits(0).says("SSH-2.0").record(&[("proto", "tcp"), ("host", "allowed.test")]);
    // The same address without an answer is an address.
    let script = "import socket as s; print(s.create_connection(('203.0.113.10', 22)).recv(99))";
    let out = world.boundary(&stream, &["/usr/bin/python3", "-c", script]).output();
    out.exits(1).complains("ConnectionResetError").nothing_left();
}

#[test]
fn with_real_dns_a_name_that_moves_is_followed_and_a_neighbour_is_not_reached() {
    needs!(root, bpf, python3);
    let world = World::new();
    world.name("cdn.allowed.test", &["203.0.113.77"]);
    world.name("evil.test", &["203.0.113.77"]);
    let script = "
import socket as s
address = s.gethostbyname('cdn.allowed.test')
print(address, flush=True)
input()
c = s.create_connection((address, 80))
c.sendall(b'GET / HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n')
print(c.recv(99))
print(s.create_connection((address, 22)).recv(99))";
    let line = [
        "--use-real-dns",
        "--allow",
        "domain=allowed.test",
        "--allow",
        "proto=tcp domain=allowed.test port=22",
    ];
    let (session, mut terminal) =
        world.boundary(&line, &["/usr/bin/python3", "-c", script]).on_terminal();
    terminal.wait_for("203.0.113.77");
    world.name("cdn.allowed.test", &["203.0.113.10"]);
    terminal.type_in("\n");
    let out = session.finish();
    let said = terminal.text();
    assert!(said.contains("403 Forbidden") && said.contains("SSH-2.0"), "{said}\n{out}");
    // Dialled is where the name leads now.
    out.reached("203.0.113.10");
    let old = out.packets.iter().any(|packet| packet.target == "203.0.113.77".parse().ok());
    out.expect(!old, "the address alone was good for nothing");
}
