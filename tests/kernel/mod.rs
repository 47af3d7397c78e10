//! The kernel half in the kernel: what the hooks do is what `steer` says, and nothing opens them.
//!
//! Every test has a network namespace of its own with nothing but loopback in it, so that a wall
//! with a hole leads nowhere. What leaves a machine is for the escape tests to show, on the stage.

mod differential;
mod features;
mod inside;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use boundary::audit::Door;
use boundary::jail::ebpf::sweep;
use boundary::jail::ebpf::{Name, Walls};
use boundary::proxy::Origin as _;
use boundary_common::steer::Why;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::needs::needs;
pub(crate) use features::{
    has_landlock, has_scopes, knows_unix_hooks, restricts_unix, waits_killable,
};
use inside::{Hand, Inside, PATIENCE, alone, bind, within};

#[test]
fn a_connection_is_turned_and_both_ends_are_told_where_it_meant_to_go() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    for (family, target) in [
        ("4", "192.0.2.1:443"),
        ("6", "[2001:db8::1]:443"),
        ("6", "192.0.2.1:443"),
        ("4", "255.255.255.255:1"),
        ("6", "[fe80::1]:22"),
        ("6", "[ff02::1]:22"),
    ] {
        assert_eq!(
            inside.hand.asked(&format!("connect tcp {family} {target}")),
            format!("ok {target}")
        );
        assert_eq!(inside.at_proxy(), [(target.parse().unwrap(), inside.hand.pid)]);
    }
}

#[test]
fn a_flow_names_the_process_as_the_kernel_knew_it() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    inside.hand.asked("connect tcp 4 192.0.2.1:80");
    let (stream, client) = inside.doors.tcp[0].accept().unwrap();
    let flow = inside.origin.flow(client, stream.local_addr().unwrap()).unwrap();
    let process = flow.process.unwrap();
    assert_eq!((process.comm.as_str(), process.uid), ("hand", 0));
    assert_eq!(process.exe, Some(PathBuf::from(env!("CARGO_BIN_EXE_hand"))));
    assert_ne!(process.cgroup, 0);
    let again = inside.origin.flow(client, stream.local_addr().unwrap());
    assert!(again.is_none(), "a flow is told once");
}

#[test]
fn explicit_use_of_the_proxy_is_told_from_a_turned_connection() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    let proxy = inside.proxy();
    for (target, door) in
        [(proxy.to_string(), Door::Explicit), ("192.0.2.1:80".into(), Door::Redirect)]
    {
        inside.hand.asked(&format!("connect tcp 4 {target}"));
        let (stream, client) = inside.doors.tcp[0].accept().unwrap();
        let flow = inside.origin.flow(client, stream.local_addr().unwrap()).unwrap();
        assert_eq!((flow.door, flow.target), (door, target.parse().unwrap()));
    }
}

#[test]
fn a_client_that_nobody_turned_has_no_flow() {
    needs!(root, bpf, ip);
    let inside = Inside::new();
    #[expect(clippy::disallowed_methods, reason = "somebody of the host, outside the walls")]
    let outsider = TcpStream::connect(inside.proxy()).unwrap();
    let (stream, client) = inside.doors.tcp[0].accept().unwrap();
    assert_eq!(outsider.local_addr().unwrap(), client);
    assert!(inside.origin.flow(client, stream.local_addr().unwrap()).is_none());
}

#[test]
fn two_thousand_connections_are_each_known_by_their_source() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    let mut known = 0;
    for round in 0..20_u32 {
        let targets: Vec<String> = (0..100).map(|place| target(round * 100 + place)).collect();
        assert_eq!(inside.hand.asked(&format!("batch {}", targets.join(" "))), "ok 100");
        // Half of them are closed by now, and nobody was accepted yet.
        for door in &inside.doors.tcp {
            while let Ok((mut stream, client)) = door.accept() {
                let flow = inside.origin.flow(client, stream.local_addr().unwrap());
                let flow = flow.expect("no connection is missed");
                let mut line = [0; 128];
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let length = stream.read(&mut line).unwrap();
                let said = String::from_utf8_lossy(&line[..length]).into_owned();
                let process = flow.process.unwrap();
                assert_eq!(said, format!("{} {}\n", flow.target, process.pid));
                known += 1;
            }
        }
    }
    assert_eq!(known, 2_000);
}

/// A target of its own for every number, over IPv4, IPv6 and IPv4 on an IPv6 socket in turn.
fn target(number: u32) -> String {
    let [_, _, high, low] = number.to_be_bytes();
    let port = 1_000 + number;
    match number % 3 {
        0 => format!("4/10.1.{high}.{low}:{port}"),
        1 => {
            let address =
                std::net::Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, high.into(), low.into()]);
            format!("6/[{address}]:{port}")
        }
        _ => format!("6/10.2.{high}.{low}:{port}"),
    }
}

#[test]
fn a_socket_that_failed_and_tries_again_is_known_by_its_second_target() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    // Nobody listens there, which the kernel answers itself.
    assert_eq!(inside.hand.asked("twice 127.0.0.1:1 192.0.2.9:80"), "ok 192.0.2.9:80");
    assert_eq!(inside.at_proxy(), [("192.0.2.9:80".parse().unwrap(), inside.hand.pid)]);
}

#[test]
fn the_sessions_own_servers_work_and_nobody_outside_reaches_them() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    let [tcp4, tcp6, ..] = inside.hand.ports;
    for target in [
        format!("127.0.0.1:{tcp4}"),
        format!("0.0.0.0:{tcp4}"),
        format!("[::1]:{tcp6}"),
        format!("[::ffff:127.0.0.1]:{tcp4}"),
    ] {
        assert_eq!(inside.hand.asked(&format!("talk {target}")), "ok pong", "{target}");
    }
    assert_eq!(inside.at_proxy(), []);
    // From outside: the connection request arrives, and the answer to it stays.
    let outside = std::thread::spawn(move || {
        let address = SocketAddr::from(([127, 0, 0, 1], tcp4));
        #[expect(clippy::disallowed_methods, reason = "somebody of the host, outside the walls")]
        TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300))
    });
    let refused = inside.refusal(|refused| refused.why == Why::Packet);
    assert_eq!((refused.proto, refused.process.pid), ("tcp", inside.hand.pid));
    assert!(outside.join().unwrap().is_err());
}

#[test]
fn questions_are_turned_and_answered_by_the_server_that_was_asked() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    for (family, server) in [
        ("4", "192.0.2.53:53"),
        ("6", "[2001:db8::53]:53"),
        ("6", "192.0.2.53:53"),
        ("4", "127.0.0.53:53"),
    ] {
        assert_eq!(
            asking(&mut inside, &format!("ask unconnected {family} {server}"), 1),
            format!("ok {server}")
        );
        let connected = asking(&mut inside, &format!("ask connected {family} {server}"), 2);
        assert_eq!(connected, format!("ok {server} {server}"), "{family}");
    }
}

/// Has the hand ask, answers that many questions of its own, and tells what it said.
fn asking(inside: &mut Inside, line: &str, questions: usize) -> String {
    inside.hand.ask(line);
    let deadline = Instant::now() + PATIENCE;
    let mut askers = Vec::new();
    while askers.len() < questions {
        assert!(Instant::now() < deadline, "{line}: {} questions came", askers.len());
        askers.extend(inside.at_resolver());
        std::thread::yield_now();
    }
    assert!(askers.iter().all(|pid| *pid == inside.hand.pid));
    inside.hand.said()
}

#[test]
fn what_is_neither_tcp_nor_udp_is_refused_and_told() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    // Or the kernel refuses ping sockets before the hook is asked.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
    for (attack, proto, arguments) in [
        ("udplite", "udplite", &["192.0.2.1", "9"][..]),
        ("icmp", "icmp", &["192.0.2.1"]),
        ("raw", "icmp", &["192.0.2.1"]),
        ("mptcp", "mptcp", &["192.0.2.1", "9"]),
    ] {
        let program = env!("CARGO_BIN_EXE_attack");
        let arguments: Vec<&str> = [attack].into_iter().chain(arguments.iter().copied()).collect();
        let output = within(inside.walls.cgroup().path(), program, &arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if ["udplite", "mptcp"].contains(&attack) && said.contains("\"EPROTONOSUPPORT\"") {
            // This kernel has not got it (yet, or any more), and said so before the hook was asked.
            continue;
        }
        assert!(said.contains("\"EPERM\""), "{said}");
        let refused = inside.refusal(|refused| refused.why == Why::Socket);
        assert_eq!((refused.proto, refused.process.comm.as_str()), (proto, "attack"));
    }
}

#[test]
fn a_datagram_is_refused_and_told_with_its_target() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    for (line, why) in [
        ("send udp 4 192.0.2.1:443", Why::Datagram),
        ("connect udp 6 192.0.2.1:443", Why::Aim),
        ("send udp 6 192.0.2.1:443", Why::Datagram),
    ] {
        assert_eq!(inside.hand.asked(line), "EPERM", "{line}");
        let refused = inside.refusal(|refused| refused.why == why);
        assert_eq!(refused.target, Some("192.0.2.1:443".parse().unwrap()));
        assert_eq!((refused.proto, refused.process.pid), ("udp", inside.hand.pid));
        assert_ne!(refused.process.cgroup, 0);
    }
}

#[test]
fn options_that_lead_elsewhere_are_refused_and_told_and_others_work() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    assert_eq!(inside.hand.asked("option"), "ok");
    assert_eq!(inside.hand.asked("bind-device lo"), "EPERM");
    let refused = inside.refusal(|refused| refused.why == Why::Option);
    // SOL_SOCKET, SO_BINDTODEVICE.
    assert_eq!((refused.option, refused.process.pid), (Some((1, 25)), inside.hand.pid));
}

#[test]
fn devices_open_by_the_list_and_not_by_rights() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    for usual in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/ptmx"]
    {
        assert_eq!(inside.hand.asked(&format!("open {usual}")), "ok", "{usual}");
    }
    assert_eq!(inside.hand.asked("open /dev/kmsg"), "EPERM");
    fs::File::open("/dev/kmsg").expect("outside it opens");
}

#[test]
fn refusals_that_nobody_reads_are_counted() {
    needs!(root, bpf, ip);
    let mut inside = Inside::new();
    let mut sent = 0_u64;
    while inside.refusals.lost().unwrap() == 0 {
        assert!(sent < 10_000, "the ring has an end");
        assert_eq!(inside.hand.asked("send udp 4 192.0.2.1:9"), "EPERM");
        sent += 1;
    }
    let read = std::iter::from_fn(|| inside.refusals.next()).count() as u64;
    assert_eq!(read + 1, sent, "every refusal was read or counted");
}

#[test]
fn what_the_canary_tried_can_be_forgotten() {
    needs!(root, bpf, ip);
    alone();
    let doors = boundary::proxy::Doors { tcp: vec![bind("127.0.0.1:0")], dns: Vec::new() };
    let walls = Walls::raise(&Name::fresh(), &doors).unwrap();
    let mut hand = Hand::start(walls.cgroup().path());
    assert_eq!(hand.asked("send udp 4 192.0.2.1:9"), "EPERM");
    walls.forget_refusals().unwrap();
    let mut refusals = walls.refusals().unwrap().open().unwrap();
    assert_eq!(hand.asked("send udp 4 192.0.2.2:9"), "EPERM");
    assert_eq!(refusals.next().unwrap().target, Some("192.0.2.2:9".parse().unwrap()));
    assert_eq!(refusals.next(), None);
}

#[test]
fn walls_that_fall_take_everything_with_them() {
    needs!(root, bpf, ip);
    let Inside { walls, mut hand, .. } = Inside::new();
    let path = walls.cgroup().path().to_path_buf();
    fs::create_dir(path.join("below")).unwrap();
    drop(walls);
    assert!(hand.is_killed());
    assert!(!path.exists());
}

#[test]
fn a_killed_keeper_leaves_walls_that_stand_and_a_port_that_is_worth_nothing() {
    needs!(root, bpf, ip);
    alone();
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_hand"))
        .arg("raise")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut says = BufReader::new(keeper.stdout.take().unwrap());
    says.read_line(&mut said).unwrap();
    let (port, cgroup) = said.trim_end().split_once(' ').unwrap();
    let cgroup = PathBuf::from(cgroup);
    let mut hand = Hand::start(&cgroup);
    // Positive control: the door is open while the keeper lives, which knows the flow without any
    // privilege but what the kernel asks of every reader.
    assert_eq!(hand.asked("connect tcp 4 192.0.2.1:80"), "ok 192.0.2.1:80");
    let mut told = String::new();
    says.read_line(&mut told).unwrap();
    assert_eq!(told, "192.0.2.1:80\n");

    kill(Pid::from_raw(keeper.id().cast_signed()), Signal::SIGKILL).unwrap();
    keeper.wait().unwrap();
    let stranger = bind(&format!("127.0.0.1:{port}"));
    stranger.set_nonblocking(true).unwrap();
    assert_eq!(hand.asked("connect tcp 4 192.0.2.1:80"), "EPERM");
    assert_eq!(hand.asked(&format!("connect tcp 4 127.0.0.1:{port}")), "EPERM");
    assert_eq!(hand.asked("send udp 4 192.0.2.1:9"), "EPERM");
    assert!(stranger.accept().is_err(), "the stranger got a connection");

    sweep().unwrap();
    assert!(cgroup.exists(), "a cgroup in which something lives is not swept");
    drop(hand);
    let deadline = Instant::now() + PATIENCE;
    while cgroup.exists() && Instant::now() < deadline {
        sweep().unwrap();
    }
    assert!(!cgroup.exists(), "an empty cgroup without a keeper is swept");
}

#[test]
fn a_cgroup_whose_keeper_lives_is_not_swept() {
    needs!(root, bpf, ip);
    let inside = Inside::new();
    let path = inside.walls.cgroup().path().to_path_buf();
    drop(inside.hand);
    assert!(inside.walls.cgroup().wait(PATIENCE).unwrap());
    sweep().unwrap();
    assert!(path.exists());
}
