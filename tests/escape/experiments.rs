//! Section H: what experiments with this kernel found.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use nix::mount::{MsFlags, mount};

use super::{ALLOW, DENIED, OPTIONS, attack, is_refused};
use crate::world::container::Container;
use crate::world::needs::{cgroup2, needs};
use crate::world::{World, jail};

#[test]
fn h02_h03_h04_h13_options_that_choose_another_way_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for option in OPTIONS.iter().chain(&["ulp"]) {
        let out = attack(&world, &["option", option, "2"]);
        out.refused(&["EPERM", "EACCES"]).nothing_left();
        if *option != "mark" {
            out.record(&[("decision", "deny"), ("code", "socket_option"), ("door", "kernel")]);
        }
    }
}

#[test]
fn h05_a_datagram_to_an_unspecified_family_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    is_refused(&world, &["udp", "unspec", DENIED[0], "9999"]);
    is_refused(&world, &["udp", "four-on-six", DENIED[0], "9999"]);
}

#[test]
fn h06_a_server_of_the_command_is_not_reachable_from_outside() {
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
        // In a network of its own it is the host that says that nobody is there.
        if jail() != "ebpf" {
            continue;
        }
        let answers = out.packets.iter().filter(|packet| packet.protocol == Some(6));
        out.expect(answers.count() == 0, "and nothing answers");
    }
}

#[test]
fn h08_keys_cannot_be_typed_into_the_callers_terminal() {
    needs!(root, bpf, setsid);
    let world = World::new();
    let (session, terminal) = world.boundary(&ALLOW, &[world.attack(), "tiocsti"]).on_terminal();
    terminal.wait_for("tiocsti");
    let text = terminal.text();
    assert!(text.contains("EPERM") || text.contains("EIO"), "it is refused:\n{text}");
    session.finish();
}

#[test]
fn a11_h13_a_frame_of_ones_own_making_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    for index in ["1", "2", "3"] {
        is_refused(&world, &["packet", index]);
    }
}

#[test]
fn a15_h09_the_walls_cannot_be_seen_or_written_in_the_file_system() {
    needs!(root, covers, bpf);
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
        if attempt.ends_with("/dev/kmsg") && Container::of_runs().is_some() {
            // A container has no such device, and a file may have its name.
            continue;
        }
        let out = world.boundary(&ALLOW, &["sh", "-c", attempt]).output();
        out.expect(out.status.is_some_and(|status| !status.success()), "it fails");
    }
}

#[test]
fn a15_h09_what_is_mounted_under_a_name_that_is_no_text_is_covered_like_the_rest() {
    needs!(root, covers, bpf, machine);
    let world = World::new();
    let odd = world.folder().join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&odd).expect("the folder is ours");
    world.host().run(move || {
        let kind = Some("proc");
        mount(kind, &odd, kind, MsFlags::empty(), None::<&str>).expect("a mount");
    });
    let look = "test -e \"$(printf '%s/\\377' \"$0\")\"/version && echo there || echo covered";
    let look = ["sh", "-c", look, world.folder().to_str().expect("our own name")];
    world.bare(&look).output().says("there");
    for user in super::people::BOTH {
        user.bounded(&world, &look).output().exits(0).says("covered");
    }
}

#[test]
fn a15_h09_a_directory_that_is_covered_is_not_stood_in() {
    needs!(root, covers, bpf);
    let world = World::new();
    let groups = cgroup2().expect("needed above");
    for (place, attempt) in [
        (groups.as_str(), "test -e cgroup.procs && echo $$ > cgroup.procs"),
        ("/proc", "test -w sys/kernel/core_pattern"),
        ("/proc", "test $(readlink self) -gt 100"),
    ] {
        if jail() == "landjail" && attempt.contains("readlink self") {
            // There is no process namespace: numbers are those of the machine.
            continue;
        }
        let inner = world.boundary(&ALLOW, &["sh", "-c", attempt]);
        let out = inner.under(&["sh", "-c", "cd $0 && exec \"$@\"", place]).output();
        out.exits(1);
    }
}

#[test]
fn h06_servers_and_clients_of_the_command_meet_on_loopback() {
    needs!(root, bpf);
    let world = World::new();
    for address in ["127.0.0.1", "::1", "127.0.0.9", "::ffff:127.0.0.1"] {
        let out = attack(&world, &["pair", address]);
        out.succeeded().says("pong").nothing_left();
        out.expect(out.finding()["found"]["names_agree"] == true, "both see the same names");
    }
}

#[test]
fn h01_no_question_leaves_by_the_kernels_own_helper() {
    needs!(root, bpf);
    let world = World::new();
    for out in super::as_both(&world, &["syscall", "request-key"]) {
        out.refused(&["EPERM"]).nothing_left();
        out.expect(out.questions.is_empty(), "nobody asks for the name");
    }
}

#[test]
fn h04_a_datagram_that_names_its_interface_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    for target in ["127.0.0.1", "203.0.113.66", "::1", "2001:db8::66"] {
        for port in ["53", "9999"] {
            let out = attack(&world, &["pktinfo", target, port, "2"]);
            out.nothing_left();
        }
    }
}

#[test]
fn h04_h06_no_answer_goes_to_a_source_that_is_nobodys() {
    needs!(root, bpf, python3);
    let world = World::new();
    // An administrator who lets everybody bind what is nobody's (for addresses that move).
    for family in ["ipv4", "ipv6"] {
        let setting = format!("/proc/sys/net/{family}/ip_nonlocal_bind");
        world.host().run(move || fs::write(setting, "1").expect("the host's own setting"));
    }
    // To the resolver's door, to the proxy's, to a port where nobody listens, to a server of one's own.
    let script = "
import socket
question = bytes.fromhex('12340100000100000000000006') + b'secret' + bytes.fromhex('00001c0001')
for family, source, here in (
    (socket.AF_INET6, '2001:db8:5ec:1::77', '::1'),
    (socket.AF_INET, '203.0.113.77', '127.0.0.1'),
):
    own = socket.socket(family)
    own.bind((here, 7070))
    own.listen()
    def made(kind):
        one = socket.socket(family, kind)
        one.settimeout(0.3)
        one.bind((source, 0))
        return one
    for port in (53, 9999):
        try: made(socket.SOCK_DGRAM).sendto(question, (here, port))
        except OSError as error: print(error)
    for port in (80, 9, 7070):
        try: made(socket.SOCK_STREAM).connect((here, port)); print('CONNECTED', port)
        except OSError as error: print(error)
    try: made(socket.SOCK_STREAM).connect(('2001:db8::66' if family == socket.AF_INET6 else '203.0.113.66', 80))
    except OSError as error: print(error)
print('tried')";
    let out = world.boundary(&ALLOW, &["/usr/bin/python3", "-c", script]).output();
    out.nothing_left();
    if jail() == "landjail" {
        // It sees no packets.
        out.exits(125).expect(out.stderr.contains("ip_nonlocal_bind"), "it says why not");
    } else {
        // In a network of its own every address is the session's.
        let is_answered = jail() == "ebpf" && out.stdout.contains("CONNECTED");
        out.says("tried").expect(!is_answered, "nobody answers");
    }
}

#[test]
fn h05_a_resolver_answers_over_a_socket_of_either_family() {
    needs!(root, bpf);
    let world = World::new();
    for server in ["192.0.2.53", "::ffff:192.0.2.53", "2001:db8::53"] {
        let out = attack(&world, &["dns", "udp", server, "allowed.test", "A"]);
        out.succeeded().nothing_left();
    }
}

#[test]
fn h06_a_socket_that_was_never_bound_answers_nobody_outside() {
    needs!(root, bpf);
    let world = World::new();
    let session = world.boundary(&ALLOW, &[world.attack(), "autolisten"]).start();
    session.wait_for("listening");
    let listener = world.listeners().into_iter().map(|(address, _)| address);
    let ports: Vec<u16> = listener.map(|address| address.port()).collect();
    let reached = world.internet().run(move || {
        ports.into_iter().any(|port| {
            let target = ([10, 77, 0, 2], port).into();
            #[expect(clippy::disallowed_methods, reason = "the attacker on the internet")]
            std::net::TcpStream::connect_timeout(&target, std::time::Duration::from_millis(700))
                .is_ok()
        })
    });
    session.kill();
    let out = session.finish();
    out.expect(!reached, "nobody outside can connect");
}

#[test]
fn h06_a_datagram_from_outside_is_never_seen_nor_answered() {
    needs!(root, bpf);
    let world = World::new();
    let session = world.boundary(&ALLOW, &[world.attack(), "reply", "7001"]).start();
    session.wait_for("listening");
    world.internet().run(|| {
        for (own, host) in [("0.0.0.0:0", "10.77.0.2"), ("[::]:0", "fd77::2")] {
            let socket = std::net::UdpSocket::bind(own).expect("any port");
            #[expect(clippy::disallowed_methods, reason = "the attacker on the internet")]
            socket.send_to(b"are you there", (host, 7001)).expect("there is a route");
        }
    });
    // What the wire carries afterwards would carry the answer before it, and who is heard
    // afterwards would be heard after the others.
    let seen = world.packets().into_iter().any(|packet| packet.from == Some(7001));
    if jail() != "ebpf" {
        // In a network of its own nobody of the host is heard either.
        session.kill();
        let out = session.finish();
        out.expect(!seen && !out.stdout.contains("heard"), "nobody is heard, and nothing answers");
        return;
    }
    world.host().run(|| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("any port");
        #[expect(clippy::disallowed_methods, reason = "somebody of the host")]
        socket.send_to(b"over", ("127.0.0.1", 7001)).expect("there is a route");
    });
    let out = session.finish();
    out.nothing_left().expect(!seen, "nothing answers");
    out.says("heard 127.0.0.1");
    out.expect(out.stdout.matches("heard").count() == 1, "nobody else is heard");
}

#[test]
fn h09_h13_devices_and_files_of_the_machine_do_not_open() {
    needs!(root, bpf);
    let world = World::new();
    for path in [
        "/dev/net/tun",
        "/dev/kmsg",
        "/dev/mem",
        "/dev/vsock",
        "/dev/vhost-vsock",
        "/dev/uinput",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/release_agent",
    ] {
        for out in super::as_both(&world, &["open", path]) {
            out.refused(&["EPERM", "EACCES", "ENOENT", "EROFS", "ENXIO", "ENODEV"]);
        }
    }
}

#[test]
fn h12_memory_and_descriptors_of_processes_outside_are_out_of_reach() {
    needs!(root, bpf);
    let world = World::new();
    let victim = world.bare(&["sleep", "1000"]).start();
    let pid = victim.pid().to_string();
    for call in ["write-memory", "getfd", "open-by-handle", "perf", "mount"] {
        let out = attack(&world, &["syscall", call, &pid]);
        out.refused(&["EPERM", "EACCES", "ESRCH", "EBADF"]);
    }
    for path in [format!("/proc/{pid}/mem"), format!("/proc/{pid}/fd/1")] {
        attack(&world, &["open", &path]).refused(&["EPERM", "EACCES", "ENOENT"]);
    }
    victim.kill();
}
