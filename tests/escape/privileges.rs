//! Privileges: those that files give, that processes outside have, that namespaces make.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};

use super::people::{BOTH, Helper, Who, pass_small_numbers};
use super::{ALLOW, DENIED, OPTIONS};
use crate::world::needs::needs;
use crate::world::{World, install, jail};

/// What the kernel answers about a process that is not there, or may not be touched.
const NOT_YOURS: &[&str] = &["EPERM", "EACCES", "ESRCH", "ENOENT", "EINVAL", "EBADF"];

/// Calls on another process, by its number.
const CALLS: &[&str] =
    &["ptrace", "kill", "thread-kill", "pidfd", "limits", "priority", "write-memory"];

/// Those that are refused in the jail of the run: without a process namespace everybody has a handle of
/// a process, which is good for nothing.
fn calls() -> Vec<&'static str> {
    let has_numbers = jail() == "landjail";
    CALLS.iter().copied().filter(|call| !has_numbers || *call != "pidfd").collect()
}

#[test]
fn a29_sudo_makes_nobody_root() {
    // The files that sudo believes are root's.
    needs!(root, privilege, bpf, sudo, setpriv);
    let world = World::new();
    let permissive = world.file("sudoers", "root ALL=(ALL) ALL\nguest ALL=(ALL) NOPASSWD: ALL\n");
    fs::set_permissions(&permissive, fs::Permissions::from_mode(0o440)).expect("it is ours");
    let shadow = fs::read_to_string("/etc/shadow").expect("root may");
    let shadow = world.file("shadow", &format!("{shadow}guest:*:19000:0:99999:7:::\n"));
    world.host().cover(&permissive, "/etc/sudoers");
    world.host().cover(&shadow, "/etc/shadow");
    let words = ["sudo", "-n", "id", "-u"];
    let out = Who::Guest.bare(&world, &words).output();
    out.exits(0).expect(out.stdout.trim() == "0", "outside he is root");
    let out = Who::Guest.bounded(&world, &words).output();
    out.expect(out.status.is_some_and(|status| !status.success()), "inside he is not");
    out.expect(out.stdout.is_empty(), "and nothing is run");
}

#[test]
fn a29_b01_a_file_with_capabilities_gives_none() {
    needs!(root, bpf, setcap, setpriv);
    let world = World::new();
    let capable = world.folder().join("capable");
    install(world.attack().as_ref(), &capable);
    let capable = capable.to_str().expect("our own name");
    let set = ["setcap", "cap_net_raw,cap_net_admin,cap_sys_admin+eip", capable];
    world.bare(&set).output().exits(0);
    let words = [capable, "raw", DENIED[0]];
    Who::Guest.bare(&world, &words).output().succeeded().reached(DENIED[0]);
    for user in BOTH {
        let out = user.bounded(&world, &words).output();
        out.nothing_left().expect(!out.stdout.contains("\"ok\":true"), "inside it sends nothing");
    }
}

#[test]
fn a29_h12_the_sessions_own_processes_cannot_be_touched() {
    needs!(root, bpf);
    let world = World::new();
    let script = "echo ready; read pids; for pid in $pids; do for call in $1; do \
                  $0 syscall $call $pid; done; for file in mem environ fd/0 root ns/net; do \
                  $0 open /proc/$pid/$file; done; done";
    for user in BOTH {
        let gate = gate(&world, user);
        let script = format!("exec <{gate}; {script}");
        let command = ["sh", "-c", &script, world.attack(), &calls().join(" ")];
        let session = user.bounded(&world, &command).start();
        let opened = fs::File::options().write(true).open(gate).expect("the command reads");
        session.wait_for("ready");
        let own =
            world.processes().into_iter().filter(crate::world::processes::Process::is_boundary);
        let pids: Vec<String> = own.map(|process| process.pid.to_string()).collect();
        assert!(pids.len() >= 3, "keeper, init and proxy run: {pids:?}");
        let line = pids.join(" ") + "\n";
        std::io::Write::write_all(&mut &opened, line.as_bytes()).expect("the command reads");
        drop(opened);
        let out = session.finish();
        let findings = out.findings();
        out.expect(
            findings.len() == pids.len() * (calls().len() + 5),
            "each attempt has an answer",
        );
        let refused = |it: &serde_json::Value| NOT_YOURS.iter().any(|errno| it["errno"] == *errno);
        out.exits(0).expect(findings.iter().all(refused), "and each is refused");
    }
}

/// A pipe by which a test talks to a command of this user; its path.
fn gate(world: &World, user: Who) -> String {
    let gate = world.folder().join("tmp").join(format!("gate-{}", user.name()));
    let everybody = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::unistd::mkfifo(&gate, everybody).expect("the folder is ours");
    fs::set_permissions(&gate, fs::Permissions::from_mode(0o666)).expect("it is ours");
    gate.display().to_string()
}

#[test]
fn h12_processes_of_the_same_user_outside_cannot_be_touched_or_seen() {
    needs!(root, bpf, setpriv);
    let world = World::new();
    pass_small_numbers(&world);
    for user in BOTH {
        let sign = world.folder().join("tmp").join(format!("lives-{}", user.name()));
        let place = sign.to_str().expect("our own name");
        let script = ": >$0; exec sleep 1000";
        let victim = Helper::start(user.bare(&world, &["sh", "-c", script, place]), &sign);
        let pid = &victim.pid().to_string();
        for call in calls() {
            let words = [world.attack(), "syscall", call, pid];
            user.bounded(&world, &words).output().refused(NOT_YOURS);
        }
        for file in ["mem", "fd/1", "environ", "cwd", "ns/user"] {
            let path = format!("/proc/{pid}/{file}");
            user.bounded(&world, &[world.attack(), "open", &path]).output().refused(NOT_YOURS);
        }
        if jail() == "landjail" {
            continue;
        }
        let see = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"];
        user.bare(&world, &see).output().says("sleep 1000");
        let out = user.bounded(&world, &see).output();
        out.expect(!out.stdout.contains("sleep 1000"), "its arguments cannot be read");
    }
}

#[test]
fn h07_namespaces_of_the_same_users_containers_cannot_be_entered() {
    needs!(root, bpf, setpriv, unshare);
    let world = World::new();
    for user in BOTH {
        let sign = world.folder().join("tmp").join(format!("contained-{}", user.name()));
        let place = sign.to_str().expect("our own name");
        let script = "ip link set lo up && : >$0; exec sleep 1000";
        let container = ["unshare", "-Urn", "sh", "-c", script, place];
        let container = Helper::start(user.bare(&world, &container), &sign);
        let pid = container.pid().to_string();
        let [users, net] = ["user", "net"].map(|kind| shown(&world, &pid, kind, user));
        let words = [world.attack(), "join", &users, &net, "1"];
        user.bare(&world, &words).output().succeeded();
        let out = user.bounded(&world, &words).output();
        out.refused(&["EPERM", "EACCES"]).nothing_left();
    }
}

/// Shows a namespace of a process as a file that everybody may open; its path.
pub(super) fn shown(world: &World, pid: &str, kind: &str, user: Who) -> String {
    let file = world.file(&format!("{kind}-{}", user.name()), "");
    let (namespace, place) = (PathBuf::from(format!("/proc/{pid}/ns/{kind}")), file.clone());
    world.host().run(move || {
        let none: Option<&str> = None;
        mount(Some(&namespace), &place, none, MsFlags::MS_BIND, none).expect("a bind mount");
    });
    file.display().to_string()
}

#[test]
fn h09_no_crash_is_piped_to_a_program_outside() {
    needs!(root, bpf);
    let world = World::new();
    for user in BOTH {
        let out = user.bounded(&world, &["cat", "/proc/self/limits"]).output();
        let limit = out.stdout.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = limit.unwrap_or_default().split_whitespace().collect();
        // One byte: too little for a file, and what makes the kernel skip the pipe.
        out.exits(0).expect(words[4..6] == ["1", "1"], "no core is dumped anywhere");
    }
}

#[test]
fn h13_no_option_and_no_interface_is_to_be_had_by_anybody() {
    needs!(root, bpf);
    let world = World::new();
    for user in BOTH {
        for option in OPTIONS.iter().chain(&["ulp"]) {
            let words = [world.attack(), "option", option, "2"];
            user.bounded(&world, &words).output().refused(&["EPERM", "EACCES"]).nothing_left();
        }
    }
    for words in [
        "ip link add x type vxlan id 7 remote 203.0.113.66 dstport 4789 dev eth0",
        "ip tunnel add x mode ipip remote 203.0.113.66",
        "ip link add x type dummy",
        "ip address add 203.0.113.66/32 dev lo",
        "ip route add local 203.0.113.66/32 dev lo",
        "ip rule add pref 1 lookup 100",
        "ip tuntap add x mode tun",
        "ip xfrm state",
        "tc qdisc add dev lo root pfifo",
        "nft list ruleset",
    ] {
        for user in BOTH {
            let out = user.bounded(&world, &["sh", "-c", words]).output();
            out.nothing_left().expect(out.status.is_some_and(|it| !it.success()), "it fails");
        }
    }
}

#[test]
fn a21_no_combination_of_features_makes_a_gap() {
    needs!(root, bpf, setpriv);
    let world = World::new();
    let config = world.file("policy.yaml", "allowlist:\n  - domain=allowed.test\n");
    let config = config.to_str().expect("our own name");
    let script = "for t in 203.0.113.66 2001:db8::66 ::ffff:203.0.113.66; do \
                  $0 udp sendto $t 9999; $0 udplite $t 9999; $0 mptcp $t 80; $0 raw $t; \
                  $0 icmp $t; done; $0 unix @nobody sendto; $0 syscall bpf; $0 syscall io-uring; \
                  $0 option routing-header; $0 packet 2; $0 tcp 203.0.113.66 80 http:denied.test";
    let command = ["sh", "-c", script, world.attack()];
    let features: [&[&str]; 5] = [
        &["--proxy-port", "18080"],
        &["--config", config],
        &["--allow", "proto=tcp host=allowed.test port=5432"],
        &["--domain-match", "exact"],
        &["--log-level", "debug"],
    ];
    for chosen in 0..1_usize << features.len() {
        let has = |place: &usize| chosen >> place & 1 == 1;
        let places = (0..features.len()).filter(has);
        let options: Vec<&str> = places.flat_map(|place| features[place]).copied().collect();
        let run = world.boundary(&[&ALLOW[..], &options].concat(), &command);
        // Every other one as a user, so that each feature meets both.
        let is_root = chosen.count_ones() % 2 == 0;
        let out = if is_root { run.output() } else { run.through_sudo().output() };
        let findings = out.findings();
        out.expect(findings.len() == 21, "each attempt has an answer");
        let (last, others) = findings.split_last().expect("just counted");
        out.expect(others.iter().all(|it| it["ok"] == false), "each is refused");
        out.nothing_left().expect(last.to_string().contains("403"), "and TCP is judged");
    }
}

#[test]
fn a13_standard_output_that_is_a_connection_is_refused() {
    needs!(root, bpf, bash);
    let world = World::new();
    for (kind, number) in [("tcp", "80"), ("udp", "9999")] {
        let script = format!("exec 1<>/dev/{kind}/203.0.113.10/{number} 2>/dev/null; exec \"$@\"");
        for user in BOTH {
            let run = user.bounded(&world, &["sh", "-c", "echo leaked"]);
            let out = run.under(&["bash", "-c", &script, "--"]).output();
            out.exits(125);
            let sent = out.packets.iter().any(|it| it.frame.ends_with(b"leaked\n"));
            out.expect(!sent, "nothing is sent over it");
        }
    }
}
