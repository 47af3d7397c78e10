//! Section A, the network half: ways round the point where connections are turned.

use super::{ALLOW, DENIED, REFUSALS, as_both, attack, is_refused};
use crate::world::World;
use crate::world::jail;
use crate::world::needs::needs;

/// Where daemons listen who would do anything for whoever asks.
const DAEMONS: [&str; 5] = [
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
];

/// What a denial says.
const BLOCKED: &str = "Request Blocked by Boundary";

#[test]
fn a01_a02_programs_that_know_of_no_proxy_are_judged_all_the_same() {
    needs!(root, bpf, curl);
    let world = World::new();
    for prefix in [&["curl", "-sS", "--noproxy", "*"][..], &["env", "-i", "/usr/bin/curl", "-sS"]] {
        let denied = [prefix, &["http://denied.test/"]].concat();
        world.boundary(&ALLOW, &denied).output().exits(0).says(BLOCKED).nothing_left();
        let allowed = [prefix, &["http://allowed.test/"]].concat();
        world.boundary(&ALLOW, &allowed).output().exits(0).says("this is");
    }
    for exempt in ["*", "denied.test,203.0.113.66", "0.0.0.0/0"] {
        let curl = ["curl", "-sS", "http://denied.test/"];
        let run = world.boundary(&ALLOW, &curl).env("NO_PROXY", exempt).env("no_proxy", exempt);
        run.output().exits(0).says(BLOCKED).nothing_left();
    }
}

#[test]
fn a03_an_address_without_a_name_needs_a_rule_through_every_door() {
    needs!(root, bpf, curl);
    let world = World::new();
    for target in DENIED {
        let out = attack(&world, &["tcp", target, "80", "http:203.0.113.66"]);
        out.succeeded().says("403").nothing_left();
    }
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test"];
    for url in ["http://203.0.113.66/", "https://203.0.113.66/", "https://[2001:db8::66]/"] {
        let curl = ["curl", "-gsSi", "--proxytunnel", "-x", "http://127.0.0.1:18080", url];
        let out = world.boundary(&options, &curl).output();
        out.nothing_left().expect(!out.stdout.contains("this is"), "nothing is served");
    }
}

#[test]
fn a04_a05_the_verdict_is_the_same_at_every_port_of_both_families() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        for port in ["22", "5432", "8080", "8443", "65535"] {
            let out = attack(&world, &["tcp", target, port, "http:denied.test"]);
            out.succeeded().says("403").nothing_left();
        }
    }
}

#[test]
fn a06_addresses_that_hide_an_address_open_nothing() {
    needs!(root, bpf);
    let world = World::new();
    for target in [
        "::ffff:169.254.169.254",
        "::ffff:10.77.0.1",
        "::ffff:0.0.0.0",
        "::203.0.113.66",
        "::127.0.0.1",
        "64:ff9b::cb00:7142",
        "2002:cb00:7142::1",
        "fe80::1",
        "ff02::1",
    ] {
        let out = attack(&world, &["tcp", target, "80", "http:denied.test"]);
        out.nothing_left().expect(!out.stdout.contains("this is"), "nothing is served");
        // Nobody's address is the sender's own, which a network of its own lets it reach.
        if target.ends_with("0.0.0.0") && jail() != "ebpf" {
            attack(&world, &["udp", "sendto", target, "9999"]).nothing_left();
        } else {
            is_refused(&world, &["udp", "sendto", target, "9999"]);
        }
    }
    is_refused(&world, &["addrform", DENIED[0], "9999"]);
}

#[test]
fn a07_a_datagram_by_any_call_to_any_address_is_refused_and_on_record() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        for how in ["sendto", "connect", "sendmsg", "sendmmsg", "write", "from-inside"] {
            let out = is_refused(&world, &["udp", how, target, "9999"]);
            out.record(&[("decision", "deny"), ("proto", "udp"), ("door", "kernel")]);
        }
    }
}

#[test]
fn a07_quic_to_an_allowed_address_is_refused_at_once() {
    needs!(root, bpf);
    let world = World::new();
    for target in ["203.0.113.10", "2001:db8::10"] {
        is_refused(&world, &["udp", "connect", target, "443"]);
    }
}

#[test]
fn a08_a_connected_udp_lite_socket_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        for out in as_both(&world, &["udplite", target, "9999"]) {
            out.refused(REFUSALS).nothing_left().record(&[("decision", "deny")]);
        }
    }
}

#[test]
fn a09_mptcp_is_refused_or_turned() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        for out in as_both(&world, &["mptcp", target, "80", "http:denied.test"]) {
            let found = out.finding();
            let judged = found["ok"] == false || found.to_string().contains("403");
            out.nothing_left().expect(judged, "it is refused, or turned and judged");
        }
    }
}

#[test]
fn a10_fast_open_sends_nothing_out() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        for out in as_both(&world, &["fastopen", target, "80"]) {
            out.nothing_left();
        }
    }
}

#[test]
fn a10_a_connection_that_waits_for_its_data_is_turned_with_it() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        let out = attack(&world, &["fastopen-connect", target, "80", "http:denied.test"]);
        out.succeeded().says("403").nothing_left();
    }
    let out = attack(&world, &["fastopen-connect", "203.0.113.10", "80", "http:allowed.test"]);
    out.succeeded().says("this is");
}

#[test]
fn a11_other_families_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for words in [
        ["vsock", "stream", "0"],
        ["alg", "seqpacket", "0"],
        ["tipc", "stream", "0"],
        ["rds", "seqpacket", "0"],
        ["smc", "stream", "0"],
        ["kcm", "dgram", "0"],
        ["xdp", "raw", "0"],
        ["packet", "raw", "3"],
        // Netlink: connector, netfilter, audit; only routes may be read.
        ["netlink", "raw", "11"],
        ["netlink", "raw", "12"],
        ["netlink", "raw", "9"],
    ] {
        for out in as_both(&world, &[&["socket"], &words[..]].concat()) {
            out.refused(REFUSALS).nothing_left();
        }
    }
}

#[test]
fn a18_sockets_of_the_hosts_daemons_are_out_of_reach() {
    needs!(root, bpf);
    let world = World::new();
    for daemon in DAEMONS {
        let listener = world.host().run(|| {
            let path = std::path::Path::new(daemon);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("/run is ours");
            std::os::unix::net::UnixListener::bind(path).expect("/run is ours")
        });
        world.bare(&[world.attack(), "unix", daemon]).output().succeeded();
        for user in [false, true] {
            let run = world.boundary(&ALLOW, &[world.attack(), "unix", daemon]);
            let out = if user { run.through_sudo().output() } else { run.output() };
            out.refused(&["EPERM", "EACCES", "ENOENT", "ECONNREFUSED"]);
        }
        drop(listener);
    }
}

#[test]
fn a24_another_loopback_server_does_not_inherit_the_proxys_rights() {
    needs!(root, bpf);
    let world = World::new();
    world.loopback_service(9200);
    // Straight to the host's service, by every spelling of the loopback.
    for target in
        ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "10.77.0.2"]
    {
        let out = attack(&world, &["tcp", target, "9200", "http:localhost"]);
        out.expect(!out.stdout.contains("host service"), &format!("{target} is not the way"));
    }
}

#[test]
fn a04_bytes_that_are_neither_tls_nor_http_are_refused_at_every_port() {
    needs!(root, bpf);
    let world = World::new();
    for port in ["7", "22", "80", "443", "5432"] {
        for what in ["send:hello there\n", "read"] {
            let out = attack(&world, &["tcp", "203.0.113.10", port, what]);
            out.nothing_left();
            out.expect(!out.stdout.contains("SSH"), "nothing comes back");
        }
    }
}

#[test]
fn a05_a_program_sees_where_it_meant_to_go_in_both_families() {
    needs!(root, bpf);
    let world = World::new();
    for (target, peer) in [
        ("203.0.113.66", "203.0.113.66:80"),
        ("2001:db8::66", "[2001:db8::66]:80"),
        ("::ffff:203.0.113.66", "[::ffff:203.0.113.66]:80"),
    ] {
        let out = attack(&world, &["tcp", target, "80", "http:denied.test"]);
        out.succeeded().says("403").nothing_left();
        out.expect(out.finding()["found"]["peer"] == peer, "getpeername shows the target");
    }
}

#[test]
fn a19_datagrams_to_a_unix_socket_of_the_host_are_refused_by_any_call() {
    needs!(root, bpf);
    let world = World::new();
    let path = world.folder().join("mailbox");
    let place = path.clone();
    let mailbox = world.host().run(|| std::os::unix::net::UnixDatagram::bind(place));
    let mailbox = mailbox.expect("the folder is ours");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("it is ours");
    mailbox.set_nonblocking(true).expect("it does not wait");
    let path = path.to_str().expect("our own name");
    for how in ["sendto", "sendmsg", "sendmmsg", "connect"] {
        world.bare(&[world.attack(), "unix", path, how]).output().succeeded();
        assert!(mailbox.recv(&mut [0; 16]).is_ok(), "{how} arrives where nothing holds it");
        for out in as_both(&world, &["unix", path, how]) {
            out.refused(REFUSALS);
            out.expect(mailbox.recv(&mut [0; 16]).is_err(), "nothing is delivered");
        }
    }
}

#[test]
fn a20_abstract_sockets_of_the_host_are_out_of_reach() {
    needs!(root, bpf);
    let world = World::new();
    let (stream, datagram) = world.host().run(|| {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
        let address = |name| SocketAddr::from_abstract_name(name).expect("a short name");
        let stream = UnixListener::bind_addr(&address("/tmp/.X11-unix/X66"));
        let datagram = UnixDatagram::bind_addr(&address("mailbox"));
        (stream.expect("nobody has it"), datagram.expect("nobody has it"))
    });
    for words in [&["unix", "@/tmp/.X11-unix/X66"][..], &["unix", "@mailbox", "sendto"]] {
        let bare = [&[world.attack()], words].concat();
        world.bare(&bare).output().succeeded();
        for out in as_both(&world, words) {
            out.refused(REFUSALS);
        }
    }
    drop((stream, datagram));
}

#[test]
fn a23_calls_of_other_architectures_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    attack(&world, &["compat", "x32"]).refused(&["ENOSYS"]).nothing_left();
    let out = attack(&world, &["compat", "int80"]);
    let code = out.status.and_then(|status| status.code());
    // SIGSYS by the filter; SIGSEGV where the kernel has no such gate at all.
    let refused = matches!(code, Some(159 | 139)) || cfg!(not(target_arch = "x86_64"));
    out.nothing_left().expect(refused, "the call ends the program");
}

#[test]
fn a26_a27_a_policy_that_is_empty_or_wrong_opens_nothing() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        let words = [world.attack(), "tcp", target, "80", "http:allowed.test"];
        world.boundary(&[], &words).output().succeeded().says("403").nothing_left();
    }
    for options in [
        &["--allow", "nonsense"][..],
        &["--allow", "domain=allowed.test", "--allow", "method="],
        &["--config", "/no/such/file"],
    ] {
        let out = world.boundary(options, &["echo", "ran"]).output();
        out.exits(125).nothing_left().expect(out.stdout.is_empty(), "the command never runs");
    }
}

#[test]
fn a28_walls_that_cannot_be_raised_are_not_replaced_by_weaker_ones() {
    needs!(root, bpf, privilege, setpriv);
    let world = World::new();
    let run = world.boundary(&ALLOW, &["echo", "ran"]);
    let out = run.under(&["setpriv", "--inh-caps=-all", "--bounding-set=-all"]).output();
    out.exits(125).nothing_left().expect(out.stdout.is_empty(), "the command never runs");
}
