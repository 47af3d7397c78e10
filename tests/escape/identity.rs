//! Section C: one host or none, as programs say it. Every row also stands, for each way in, beside
//! the proxy (`c01_…` there).

use super::ALLOW;
use crate::world::needs::needs;
use crate::world::{Output, World};

/// The proxy, for those who are told of it.
const PROXY: &str = "http://127.0.0.1:18080";
/// A policy with a port for them.
const TOLD: [&str; 4] = ["--proxy-port", "18080", "--allow", "domain=allowed.test"];

/// The denied host's addresses got nothing, and no request arrived.
#[track_caller]
fn nobody_else_is_reached(out: &Output) {
    let denied = super::DENIED.map(|address| address.parse().ok());
    out.expect(!out.packets.iter().any(|it| denied.contains(&it.target)), "no packet gets there");
    let is_denied = |at: std::net::IpAddr| denied.contains(&Some(at));
    let strays = out.requests.iter().filter(|it| is_denied(it.connection.local.ip())).count();
    out.expect(strays == 0, "no request gets there");
}

/// Runs curl once for each row of arguments, and expects a refusal of each.
fn each_is_refused(options: &[&str], rows: &[&[&str]], code: &str) {
    let world = World::new();
    for row in rows {
        let curl = [&["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"], *row];
        let out = world.boundary(options, &curl.concat()).output();
        out.expect(!out.stdout.contains("200"), &format!("{row:?} is refused"));
        out.expect(out.requests.is_empty(), &format!("{row:?} arrives nowhere"));
        nobody_else_is_reached(&out);
        out.record(&[("decision", "deny"), ("code", code)]);
    }
}

#[test]
fn c01_fronting_is_refused() {
    needs!(root, bpf, curl);
    let front = "Host: denied.test";
    each_is_refused(
        &TOLD,
        &[
            &["-H", front, "http://allowed.test/"],
            &["-H", front, "https://allowed.test/"],
            &["--http2", "-H", front, "https://allowed.test/"],
            &["-x", PROXY, "-H", front, "http://allowed.test/"],
            &["-x", PROXY, "-H", front, "https://allowed.test/"],
            &["-p", "-x", PROXY, "-H", front, "http://allowed.test/"],
        ],
        "host_mismatch",
    );
}

#[test]
fn c02_c15_an_allowed_name_opens_no_other_address() {
    needs!(root, bpf, curl);
    each_is_refused(
        &ALLOW,
        &[
            &["-H", "Host: allowed.test", "http://203.0.113.66/"],
            &["--resolve", "allowed.test:80:203.0.113.66", "http://allowed.test/"],
            &["--resolve", "allowed.test:443:203.0.113.66", "https://allowed.test/"],
            &["--resolve", "allowed.test:443:[2001:db8::66]", "https://allowed.test/"],
            &["--http2", "--resolve", "allowed.test:443:203.0.113.66", "https://allowed.test/"],
            &["--connect-to", "allowed.test:80:denied.test:80", "http://allowed.test/"],
            &["--connect-to", "allowed.test:443:denied.test:443", "https://allowed.test/"],
        ],
        "host_mismatch",
    );
}

#[test]
fn c03_a_connection_that_was_opened_for_one_host_carries_no_other() {
    needs!(root, bpf, curl);
    let world = World::new();
    for version in ["--http1.1", "--http2"] {
        let url = "https://allowed.test/";
        let curl = ["curl", version, "-sS", url, "--next", "-sS", "-H", "Host: denied.test", url];
        let out = world.boundary(&ALLOW, &curl).output();
        out.says("this is allowed.test");
        out.expect(out.requests.len() == 1, "only the first arrives");
        nobody_else_is_reached(&out);
        out.record(&[("decision", "deny"), ("code", "host_mismatch")]);
    }
}

#[test]
fn c04_c05_c08_what_is_no_host_is_no_request() {
    needs!(root, bpf);
    let world = World::new();
    let hosts = [
        "allowed.test:x@denied.test",
        "allowed.test@denied.test",
        "denied.test%00.allowed.test",
        "allowed.test denied.test",
        "allowed.test,denied.test",
        "",
        "allowed.test\r\nHost: denied.test",
        "[::ffff:203.0.113.66%25eth0]",
        "203.0.113.66.1",
    ];
    for host in hosts {
        let tail = format!("Host: {host}\r\nConnection: close\r\n\r\n");
        let direct = format!("all:GET / HTTP/1.1\r\n{tail}");
        let asked = format!("all:GET http://{host}/ HTTP/1.1\r\n{tail}");
        let tunnel = format!("all:CONNECT {host}:443 HTTP/1.1\r\n{tail}");
        for (at, port, text) in [
            ("203.0.113.10", "80", &direct),
            ("127.0.0.1", "18080", &asked),
            ("127.0.0.1", "18080", &tunnel),
        ] {
            let out = world.boundary(&TOLD, &[world.attack(), "tcp", at, port, text]).output();
            out.expect(!out.stdout.contains(" 200 "), &format!("{text:?} is refused"));
            out.nothing_left().record(&[("decision", "deny")]);
        }
    }
}

#[test]
fn c05_a_nul_in_a_name_ends_nothing_early() {
    needs!(root, bpf, python3);
    let world = World::new();
    // No program takes NUL in its arguments: it is written inside.
    let script = "
import socket
for text in (b'CONNECT denied.test\\0.allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n',
             b'CONNECT allowed.test\\0:443 HTTP/1.1\\r\\nHost: allowed.test\\0:443\\r\\n\\r\\n',
             b'GET http://denied.test\\0.allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n',
             b'GET http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\0denied.test\\r\\n\\r\\n'):
    s = socket.create_connection(('127.0.0.1', 18080), 10)
    s.sendall(text)
    print(s.recv(65536).split(b' ')[1])
    s.close()
";
    let out = world.boundary(&TOLD, &["/usr/bin/python3", "-c", script]).output();
    out.exits(0).nothing_left();
    out.expect(out.stdout.lines().all(|line| line == "b'400'"), "each is refused");
    out.expect(out.stdout.lines().count() == 4, "all four are answered");
    let opening = out.records.iter().filter(|record| record.get("duration_ms").is_none());
    let denied = opening.filter(|record| record["decision"] == "deny").count();
    out.expect(denied == 4, "each is on record once");
}

#[test]
fn c06_a_suffix_without_its_dot_is_another_host() {
    needs!(root, bpf, curl);
    let world = World::new();
    for name in ["evilallowed.test", "allowed.test.denied.test", "xallowed.test", "llowed.test"] {
        world.name(name, &["203.0.113.66"]);
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{name}/");
            let out = world.boundary(&ALLOW, &["curl", "-sS", &url]).output();
            out.says("Request Blocked by Boundary").nothing_left();
            out.record(&[("decision", "deny"), ("code", "no_rule"), ("host", name)]);
        }
    }
    let out = world.boundary(&ALLOW, &["curl", "-sS", "https://sub.allowed.test/"]).output();
    out.says("this is sub.allowed.test");
}

#[test]
fn c08_a_denied_address_is_denied_in_every_spelling() {
    needs!(root, bpf, curl);
    let world = World::new();
    for host in [
        "203.0.113.66",
        "0xcb.0.113.66",
        "0313.0.0161.0102",
        "3405803842",
        "203.29002",
        "[::ffff:203.0.113.66]",
        "[::ffff:cb00:7142]",
        "203.0.113.66.",
    ] {
        for row in [&["-H", "X: y"][..], &["-x", PROXY]] {
            let url = format!("http://{host}/");
            let curl = [&["curl", "-sS", "-g"], row, &[url.as_str()]].concat();
            let out = world.boundary(&TOLD, &curl).output();
            out.expect(
                out.stdout.contains("Blocked") || out.status.is_some_and(|it| !it.success()),
                host,
            );
            out.nothing_left();
        }
    }
    // And an allowed name is allowed in each of its own.
    for name in ["ALLOWED.test", "allowed.test.", "Allowed.Test."] {
        let out = world.boundary(&ALLOW, &["curl", "-sS", &format!("https://{name}/")]).output();
        out.says("this is allowed.test");
    }
}

#[test]
fn c09_the_address_that_was_checked_is_the_one_that_is_dialled() {
    needs!(root, bpf, python3);
    let world = World::new();
    world.loopback_service(80);
    // One answer holds both: only what may be dialled is.
    world.name("both.test", &["127.0.0.1", "203.0.113.30", "169.254.169.254", "::1"]);
    let rules = ["--allow", "domain=both.test", "--allow", "domain=moving.test"];
    let fetch = "import urllib.request as r\nprint(r.urlopen('http://both.test/').read())";
    let out = world.boundary(&rules, &["/usr/bin/python3", "-c", fetch]).output();
    out.says("this is both.test").reached("203.0.113.30");
    // A name that moves between every two looks, many times over.
    let many = "
import urllib.request, urllib.error
seen = set()
for n in range(300):
    request = urllib.request.Request('http://moving.test/%d' % n, headers={'Connection': 'close'})
    try: seen.add(urllib.request.urlopen(request).read().split()[0])
    except urllib.error.HTTPError as error: seen.add(error.code)
print(sorted(map(str, seen)))";
    // Connections that are kept are looked up no more: here none is.
    world.turning_name("moving.test", &["203.0.113.30", "127.0.0.1"]);
    let rules = [&rules[..], &["--limit", "idle_per_host=0"]].concat();
    let out = world.boundary(&rules, &["/usr/bin/python3", "-c", many]).output();
    out.exits(0).says("this").says("403");
    out.expect(!out.stdout.contains("host"), "the host's own service is never reached");
}

#[test]
fn c10_no_name_leads_to_an_address_that_is_guarded() {
    needs!(root, bpf, python3);
    let world = World::new();
    world.loopback_service(80);
    let guarded = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.1.1",
        "169.254.169.254",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::127.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "ff0e::1",
        "fd00:ec2::254",
        "fd20:ce::254",
    ];
    let mut rules = Vec::new();
    for (number, address) in guarded.iter().enumerate() {
        let name = format!("n{number}.test");
        world.name(&name, &[address]);
        rules.push(format!("domain={name}"));
    }
    let options: Vec<&str> = rules.iter().flat_map(|rule| ["--allow", rule]).collect();
    let script = "
import sys, urllib.request, urllib.error
for n in range(int(sys.argv[1])):
    try: print(n, urllib.request.urlopen('http://n%d.test/' % n).read())
    except urllib.error.HTTPError as error: print(error.headers['X-Boundary-Denied'])";
    let count = guarded.len().to_string();
    let out = world.boundary(&options, &["/usr/bin/python3", "-c", script, &count]).output();
    let refused = out.stdout.lines().filter(|line| *line == "address_refused").count();
    out.exits(0).expect(refused == guarded.len(), "each is refused");
    out.expect(out.requests.is_empty(), "no request arrives");
    let dialled = out.packets.iter().filter(|packet| packet.opens && packet.port == Some(80));
    out.expect(dialled.count() == 0, "no connection is tried");
}

#[test]
fn c11_an_address_is_not_allowed_because_an_allowed_name_has_it() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.name("neighbour.test", &["203.0.113.10"]);
    let script = "curl -sS https://allowed.test/ && curl -sSk https://203.0.113.10/; \
                  curl -sS http://203.0.113.10/; curl -sS https://neighbour.test/; \
                  curl -sS --resolve neighbour.test:443:203.0.113.10 https://neighbour.test/";
    let out = world.boundary(&ALLOW, &["sh", "-c", script]).output();
    out.expect(out.requests.len() == 1, "the allowed name alone arrives");
    let blocked = out.stdout.matches("Request Blocked").count();
    out.expect(blocked == 4, "the others are told so");
}

#[test]
fn c14_names_are_asked_of_nobody_else() {
    needs!(root, bpf, curl);
    let world = World::new();
    for name in ["dns.google", "cloudflare-dns.com", "dns.quad9.net"] {
        world.name(name, &["203.0.113.66"]);
    }
    for url in [
        "https://1.1.1.1/dns-query?name=leak.test",
        "https://8.8.8.8/resolve?name=leak.test",
        "https://[2606:4700:4700::1111]/dns-query?name=leak.test",
        "https://dns.google/resolve?name=leak.test",
        "https://cloudflare-dns.com/dns-query?name=leak.test",
        "https://9.9.9.9:5053/dns-query?name=leak.test",
    ] {
        let curl = ["curl", "-sS", "-g", "-H", "Accept: application/dns-json", url];
        let out = world.boundary(&ALLOW, &curl).output();
        out.says("Request Blocked by Boundary").nothing_left();
    }
    // DNS over TLS, to an address and to a name.
    for host in ["1.1.1.1:853", "8.8.8.8:853", "dns.google:853", "dns.quad9.net:853"] {
        let url = format!("https://{host}/");
        let out = world.boundary(&ALLOW, &["curl", "-sS", &url]).output();
        out.nothing_left().record(&[("decision", "deny")]);
    }
}

#[test]
fn c15_a_redirect_is_followed_to_the_wall() {
    needs!(root, bpf, curl);
    let world = World::new();
    for start in
        ["http://allowed.test/moved/denied.test", "https://allowed.test/moved/203.0.113.66"]
    {
        for version in ["--http1.1", "--http2"] {
            let out = world.boundary(&ALLOW, &["curl", version, "-sSL", start]).output();
            out.says("Request Blocked by Boundary");
            out.expect(out.requests.len() == 1, "the first hop alone arrives");
            nobody_else_is_reached(&out);
        }
    }
}

#[test]
fn c15_an_edited_hosts_file_moves_nothing() {
    needs!(root, bpf, curl);
    let world = World::new();
    let fresh = || world.file("hosts", "127.0.0.1 localhost\n");
    world.host().cover(&fresh(), "/etc/hosts");
    // Root may try to write it; whoever may not is in its own namespace no further.
    let script = "(echo 203.0.113.66 allowed.test; echo 2001:db8::66 allowed.test) >>/etc/hosts; \
                  curl -sS -m 20 http://allowed.test/; curl -sS -m 20 https://allowed.test/";
    for run in [
        world.boundary(&ALLOW, &["sh", "-c", script]),
        world.boundary(&ALLOW, &["sh", "-c", script]).through_sudo(),
    ] {
        // What a session did to it is not for the next one.
        fresh();
        nobody_else_is_reached(&run.output());
    }
}

#[test]
fn c16_a_port_is_part_of_the_rule_and_a_number() {
    needs!(root, bpf, curl);
    let rule = ["--proxy-port", "18080", "--allow", "domain=allowed.test port=443"];
    each_is_refused(
        &rule,
        &[
            &["http://allowed.test/"],
            &["https://allowed.test:8443/"],
            &["http://allowed.test:8080/", "-x", PROXY],
            &["-p", "-x", PROXY, "https://allowed.test:8443/"],
        ],
        "no_rule",
    );
}
