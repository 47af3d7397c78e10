//! By way of a proxy upstream, as a company's network asks for: a program that people run as one,
//! `tinyproxy`, between the host and the rest of the internet.

use std::process::{Child, Command, Stdio};

use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{Output, World};

/// Where it is, and what it wants to hear.
const ADDRESS: &str = "203.0.113.99";
const URL: &str = "http://user:hush@203.0.113.99:8888";
/// The credentials as they are sent.
const BASIC: &str = "dXNlcjpodXNo";
/// The policy.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];

/// A proxy in the internet that ends with the test.
struct Between(Child);

impl Between {
    /// Starts it and waits until it takes connections.
    fn start(world: &World) -> Self {
        let resolver = world.file("internet-resolv.conf", "nameserver 192.0.2.53\n");
        world.internet().cover(&resolver, "/etc/resolv.conf");
        let config = format!(
            "Port 8888\nListen {ADDRESS}\nTimeout 30\nMaxClients 20\nLogLevel Critical\n\
             BasicAuth user hush\nConnectPort 443\nConnectPort 22\n"
        );
        let config = world.file("tinyproxy.conf", &config);
        let child = world.internet().run(move || {
            let mut tinyproxy = Command::new("tinyproxy");
            tinyproxy.arg("-d").arg("-c").arg(config).stdin(Stdio::null());
            tinyproxy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
        });
        let between = Self(child);
        let ask = ["curl", "-sS", "-o", "/dev/null", "-x", URL, "http://allowed.test/"];
        eventually("the proxy takes connections", || {
            world.bare(&ask).output().status.is_some_and(|status| status.success())
        });
        between
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Everything that left the host went to the proxy, and nothing that anybody may read has its
/// password.
#[track_caller]
fn by_the_proxy_alone(out: &Output) {
    let proxy = ADDRESS.parse().ok();
    let alone = out.packets.iter().all(|packet| packet.target == proxy);
    out.expect(alone, "nothing goes anywhere else, no question either");
    let shown = format!("{}{}{:?}", out.stdout, out.stderr, out.records);
    out.expect(!shown.contains("hush") && !shown.contains(BASIC), "no password is shown");
}

#[test]
fn what_is_allowed_leaves_by_the_proxy_and_what_is_not_does_not() {
    needs!(root, bpf, curl, tinyproxy);
    let world = World::new();
    let _between = Between::start(&world);
    let named = ["--upstream-proxy", URL, "--log-level", "info"];
    for url in ["http://allowed.test/", "https://allowed.test/", "https://allowed.test/again"] {
        let out = world.boundary(&[&ALLOW[..], &named].concat(), &["curl", "-sS", url]).output();
        out.exits(0).says("this is allowed.test").reached(ADDRESS);
        by_the_proxy_alone(&out);
        let heard = out.requests.iter().all(|request| {
            !String::from_utf8_lossy(&request.bytes).to_lowercase().contains("proxy-auth")
        });
        out.expect(heard, "the origin learns nothing of it");
    }
    for url in ["http://denied.test/", "https://denied.test/", "https://203.0.113.66/"] {
        let out = world.boundary(&[&ALLOW[..], &named].concat(), &["curl", "-ksS", url]).output();
        out.says("Request Blocked by Boundary").nothing_left();
    }
}

#[test]
fn variables_that_every_program_reads_are_boundarys_and_not_the_commands() {
    needs!(root, bpf, curl, tinyproxy);
    let world = World::new();
    let _between = Between::start(&world);
    let script = "env; curl -sS https://allowed.test/; curl -sS http://allowed.test/";
    for user in [false, true] {
        let run = world.boundary(&ALLOW, &["sh", "-c", script]);
        let run = run.env("https_proxy", URL).env("HTTP_PROXY", URL).env("ALL_PROXY", URL);
        let run = run.env("NO_PROXY", "elsewhere.test").env("BOUNDARY_UPSTREAM_PROXY", URL);
        let out = if user { run.through_sudo().output() } else { run.output() };
        out.exits(0).says("this is allowed.test").reached(ADDRESS);
        out.expect(!out.stdout.to_lowercase().contains("_proxy="), "the command has no proxy");
        by_the_proxy_alone(&out);
    }
    // What is exempt is dialled directly.
    let run = world.boundary(&ALLOW, &["curl", "-sS", "https://allowed.test/"]);
    let out = run.env("https_proxy", URL).env("NO_PROXY", ".test").output();
    out.exits(0).says("this is allowed.test").record(&[("decision", "allow")]);
    out.expect(
        !out.packets.iter().any(|packet| packet.target == ADDRESS.parse().ok()),
        "the proxy hears nothing",
    );
}

#[test]
fn a_stream_passes_through_the_proxy_too() {
    needs!(root, bpf, tinyproxy, curl);
    let world = World::new();
    let _between = Between::start(&world);
    let options = ["--upstream-proxy", URL, "--allow", "proto=tcp host=allowed.test port=22"];
    let curl = ["curl", "-sS", "--max-time", "5", "telnet://allowed.test:22"];
    let out = world.boundary(&options, &curl).input("hello\n").output();
    out.says("SSH-2.0");
    by_the_proxy_alone(&out);
}

#[test]
fn a_proxy_that_says_no_is_named_without_its_password() {
    needs!(root, bpf, curl, tinyproxy);
    let world = World::new();
    let _between = Between::start(&world);
    let wrong = "http://user:hush-not@203.0.113.99:8888";
    for (url, proxy) in [
        ("https://allowed.test/", wrong),
        // No tunnel to this port, by its policy; nobody listens at the other one.
        ("https://allowed.test:8443/", URL),
        ("https://allowed.test/", "http://user:hush@203.0.113.99:8889"),
    ] {
        let options = [&ALLOW[..], &["--upstream-proxy", proxy, "--log-level", "debug"]].concat();
        let out = world.boundary(&options, &["curl", "-sSi", url]).output();
        out.exits(0).says(" 502 ").says("http://203.0.113.99:888");
        out.expect(out.requests.is_empty(), "no origin hears of it");
        by_the_proxy_alone(&out);
    }
}

#[test]
fn a_proxy_that_is_boundary_itself_is_refused_before_anything_runs() {
    needs!(root, bpf);
    let world = World::new();
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"] {
        let url = format!("http://user:hush@{host}:18080");
        let options = ["--proxy-port", "18080", "--upstream-proxy", &url];
        let out = world.boundary(&options, &["echo", "ran"]).output();
        out.exits(125).complains("boundary's own door").nothing_left();
        out.expect(out.stdout.is_empty(), "the command never runs");
        by_the_proxy_alone(&out);
    }
    let out = world.boundary(&["--upstream-proxy", "socks5://u:hush@p:1"], &["echo", "ran"]);
    let out = out.output();
    out.exits(125).complains("--upstream-proxy").expect(out.stdout.is_empty(), "nothing runs");
    by_the_proxy_alone(&out);
}
