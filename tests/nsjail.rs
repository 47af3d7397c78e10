//! The jail that needs no privilege: what an ordinary user gets of it, whatever the jail of the run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use crate::landjail::MANNERS;
use crate::world::needs::needs;
use crate::world::{GUEST, Run, World};

/// Runs a command as the guest, who has no right that others lack.
fn as_guest<'a>(world: &'a World, options: &[&str], command: &[&str]) -> Run<'a> {
    let id = GUEST.to_string();
    let become_guest = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let options = [&["--jail-type", "nsjail"], options].concat();
    world.boundary(&options, command).under(&become_guest)
}

#[test]
fn an_ordinary_user_gets_the_same_verdicts() {
    needs!(root, userns, curl, setpriv);
    let world = World::new();
    let allow = ["--allow", "domain=allowed.test"];
    for scheme in ["http", "https"] {
        let allowed = format!("{scheme}://allowed.test/");
        let out = as_guest(&world, &allow, &["curl", "-sS", &allowed]).output();
        out.exits(0).says("this is allowed.test");
        out.record(&[("decision", "allow"), ("jail", "nsjail"), ("comm", "curl")]);
        let denied = format!("{scheme}://denied.test/");
        let out = as_guest(&world, &allow, &["curl", "-sS", &denied]).output();
        out.says("Request Blocked by Boundary").nothing_left();
        out.record(&[("decision", "deny"), ("code", "no_rule"), ("host", "denied.test")]);
    }
}

#[test]
fn an_ordinary_user_is_that_user_without_a_right() {
    needs!(root, userns, setpriv);
    let world = World::new();
    let script = "id -u; id -g; grep -h ^Cap /proc/self/status; grep NoNewPrivs /proc/self/status";
    let out = as_guest(&world, &[], &["sh", "-c", script]).output();
    out.exits(0).says(&format!("{GUEST}\n{GUEST}\n"));
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        out.says(&format!("{set}:\t0000000000000000"));
    }
    out.says("NoNewPrivs:\t1");
}

#[test]
fn sockets_behave_as_they_do_without_it() {
    needs!(root, python3, setpriv);
    let world = World::new();
    // Where nobody listens the proxy answers there, because it might be a server of the host's.
    let is_turned = |line: &&str| {
        ["\"not yet\"", "\"closed\"", "\"refused\""].iter().any(|what| line.contains(what))
    };
    let lines: Vec<&str> = MANNERS.lines().filter(|line| !is_turned(line)).collect();
    let manners = world.file("manners.py", &lines.join("\n"));
    let command = ["python3", manners.to_str().expect("our own name")];
    let without = world.bare(&command).output();
    without.exits(0).says("end");
    let out = as_guest(&world, &["--allow", "domain=allowed.test"], &command).output();
    let is_same = out.stdout == without.stdout;
    out.exits(0).expect(is_same, &format!("as without boundary:\n{}", without.stdout));
}

#[test]
fn a_program_that_nobody_may_look_into_connects_all_the_same() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let script = "import ctypes, socket\n\
                  assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE\n\
                  s = socket.create_connection(('allowed.test', 80))\n\
                  s.sendall(b'GET / HTTP/1.0\\r\\nHost: allowed.test\\r\\n\\r\\n')\n\
                  print(s.recv(9999).decode())";
    let options = ["--allow", "domain=allowed.test"];
    let out = as_guest(&world, &options, &["python3", "-c", script]).output();
    out.exits(0).says("200 OK");
}

#[test]
fn nothing_is_sent_but_by_a_door() {
    needs!(root, userns, setpriv);
    let world = World::new();
    for target in ["203.0.113.66", "2001:db8::66"] {
        let attack = [world.attack(), "udp", "sendto", target, "9999"];
        let out = as_guest(&world, &[], &attack).output();
        out.refused(&["EPERM"]).nothing_left();
        out.record(&[("decision", "deny"), ("proto", "udp"), ("address", target)]);
    }
}

#[test]
fn servers_of_the_command_work_for_it_and_those_of_the_host_need_a_rule() {
    needs!(root, userns, curl, python3, setpriv);
    let world = World::new();
    world.loopback_service(9400);
    let serve = "import http.server as h, threading as t, urllib.request as u\n\
                 s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n\
                 t.Thread(target=s.serve_forever, daemon=True).start()\n\
                 print(u.urlopen(f'http://127.0.0.1:{s.server_port}/').read().decode())";
    let script = format!("python3 -c \"{serve}\"; curl -sS http://127.0.0.1:9400/");
    let out = as_guest(&world, &[], &["sh", "-c", &script]).output();
    out.says("Directory listing").says("Request Blocked by Boundary");
    let permit = ["--allow", "host=127.0.0.1 port=9400"];
    let out = as_guest(&world, &permit, &["curl", "-sS", "http://127.0.0.1:9400/"]).output();
    out.exits(0).says("host service");
}

#[test]
fn a_listed_socket_of_the_host_is_open_to_an_ordinary_user_and_no_other() {
    needs!(root, userns, setpriv);
    let world = World::new();
    let [listed, other] = ["listed.sock", "other.sock"].map(|name| {
        let path = world.folder().join("tmp").join(name);
        let place = path.clone();
        let daemon = world.host().run(move || {
            let daemon = UnixListener::bind(&place).expect("the place is free");
            fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).expect("it is ours");
            daemon.set_nonblocking(true).expect("it does not wait");
            daemon
        });
        (path, daemon)
    });
    let path = listed.0.to_str().expect("our own name");
    let option = ["--unix-socket", path];
    as_guest(&world, &option, &[world.attack(), "unix", path]).output().succeeded();
    let path = other.0.to_str().expect("our own name");
    let out = as_guest(&world, &option, &[world.attack(), "unix", path]).output();
    out.refused(&["EPERM", "ECONNREFUSED", "EACCES"]);
    assert!(listed.1.accept().is_ok() && other.1.accept().is_err());
}

#[test]
fn names_are_looked_up_in_both_families() {
    needs!(root, userns, python3, setpriv);
    let world = World::new();
    let script = "import socket as s; print(sorted({a[0].name for a in \
                  s.getaddrinfo('allowed.test', 80, flags=s.AI_ADDRCONFIG)}))";
    let out = as_guest(&world, &["--allow", "domain=allowed.test"], &["python3", "-c", script]);
    out.output().exits(0).says("['AF_INET', 'AF_INET6']");
}

#[test]
fn a_server_may_take_a_port_to_which_connections_are_open() {
    needs!(root, userns, python3, setpriv);
    let world = World::new();
    let script = "import socket as s\n\
                  c = s.create_connection(('allowed.test', 8443))\n\
                  l = s.create_server(('0.0.0.0', 8443), family=s.AF_INET, reuse_port=False)\n\
                  d = s.create_connection(('127.0.0.1', 8443)); a, _ = l.accept()\n\
                  d.sendall(b'own'); print(a.recv(3).decode())";
    let out = as_guest(&world, &["--allow", "domain=allowed.test"], &["python3", "-c", script]);
    out.output().exits(0).says("own");
}

#[test]
fn an_ordinary_user_can_open_terminals() {
    needs!(root, userns, python3, setpriv);
    let world = World::new();
    let script = "import os, pty; near, far = pty.openpty(); print(os.ttyname(far)); \
                  os.write(far, b'said'); print(os.read(near, 9))";
    let out = as_guest(&world, &[], &["python3", "-c", script]).output();
    out.exits(0).says("/dev/pts/").says("b'said'");
}

/// One that was hung up has no name any more, and what has its name is not it.
#[test]
fn an_ordinary_user_may_have_been_hung_up() {
    needs!(root, userns, python3, setpriv);
    let world = World::new();
    let script = "import os, pty, sys; near, far = pty.openpty(); os.dup2(far, 0); os.close(far); \
                  os.close(near); os.execvp(sys.argv[1], sys.argv[1:])";
    let out = as_guest(&world, &[], &["sh", "-c", "echo runs; ls /dev/console"]);
    let out = out.under(&["python3", "-c", script]).output();
    out.says("runs").expect(!out.stdout.contains("console"), "nobody sits there any more");
}

/// Gives a program a terminal of the machine as its input, and has it see other ones in their place, of
/// which one has the same name: as whoever enters a container does, or a chroot.
const ELSEWHERE: &str = "
import ctypes, os, pty, sys
near, far = pty.openpty()
name = os.ttyname(far)
os.dup2(far, 0)
os.fchown(0, int(sys.argv[2]), -1)
if sys.argv[1] == 'elsewhere':
    libc = ctypes.CDLL(None, use_errno=True)
    def done(result):
        if result: raise OSError(ctypes.get_errno(), 'libc')
    done(libc.unshare(0x20000))
    done(libc.mount(b'none', b'/', None, 1 << 18 | 1 << 14, None))
    done(libc.mount(b'devpts', b'/dev/pts', b'devpts', 0, b'newinstance,ptmxmode=0666,mode=0666'))
    others = []
    while not os.path.exists(name): others.append(os.open('/dev/pts/ptmx', os.O_RDWR | os.O_NOCTTY))
    assert os.stat(name).st_dev != os.fstat(0).st_dev
# Somebody holds the other end for as long as it runs.
if not os.fork(): os.execvp(sys.argv[3], sys.argv[3:])
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))";

#[test]
fn the_terminal_that_somebody_sits_at_is_the_console_and_none_of_the_same_name() {
    needs!(root, userns, python3, setpriv);
    let world = World::new();
    let guest = GUEST.to_string();
    let run = |place: &str| {
        let script = "echo runs; test -e /dev/console && echo seated";
        let run = as_guest(&world, &[], &["sh", "-c", script]);
        run.under(&["python3", "-c", ELSEWHERE, place, &guest]).output()
    };
    run("here").says("runs").says("seated");
    let out = run("elsewhere");
    out.says("runs").expect(!out.stdout.contains("seated"), "another one has that name there");
}

/// Where none of its own can be mounted: what the kernel says to that is said by somebody else.
#[test]
fn an_ordinary_user_who_gets_no_terminals_of_his_own_sees_the_machines() {
    needs!(root, userns, strace, setpriv);
    let world = World::new();
    let run = |strace: &[&str]| {
        let script = "echo runs; ls /dev/pts";
        as_guest(&world, &["--log-level", "info"], &["sh", "-c", script]).under(strace).output()
    };
    let calls = world.folder().join("mounts");
    let calls = calls.to_str().expect("our own name");
    let strace = ["strace", "-f", "-qq", "-o", calls, "-e", "trace=mount"];
    run(&strace).exits(0).says("runs");
    let calls = fs::read_to_string(calls).expect("it wrote it");
    // A call that somebody else's interrupts has a second line, which names nothing.
    let lines = calls.lines().filter_map(|line| line.split_once(' '));
    let lines: Vec<_> = lines.filter(|(_, call)| call.trim_start().starts_with("mount(")).collect();
    let devpts = lines.iter().position(|(_, call)| call.contains("\"devpts\""));
    let devpts = devpts.expect("one of its own is mounted");
    let (mounter, _) = lines[devpts];
    let which = lines[..=devpts].iter().filter(|(pid, _)| *pid == mounter).count();
    let inject = format!("inject=mount:error=EPERM:when={which}");
    let out = run(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=mount", "-e", &inject]);
    out.exits(0).says("runs").says("ptmx").complains("the command has no terminals of its own");
}

#[test]
fn shared_memory_of_the_same_user_is_out_of_reach() {
    needs!(root, userns, setpriv, ipcmk, ipcs);
    let world = World::new();
    let id = GUEST.to_string();
    let guest = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let bare = |words: &[&str]| world.bare(words).under(&guest).output();
    let made = bare(&["ipcmk", "--shmem", "4096"]);
    let number = made.stdout.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let seen = ["ipcs", "--shmems", "--id", &number];
    let (outside, inside) = (bare(&seen), as_guest(&world, &[], &seen).output());
    bare(&["ipcrm", "--shmem-id", &number]).exits(0);
    outside.says("4096");
    inside.expect(!inside.stdout.contains("4096"), "it is not there");
}

/// Whoever may raise this jail without a user namespace: root, and a user by root's help.
const PRIVILEGED: [fn(Run<'_>) -> Run<'_>; 2] = [|run| run, |run| run.through_sudo()];

/// What the options are, with which it is raised so.
const WITHOUT_USERS: [&str; 5] =
    ["--jail-type", "nsjail", "--no-user-namespace", "--allow", "domain=allowed.test"];

#[test]
fn without_a_user_namespace_the_verdicts_are_the_same() {
    needs!(root, curl);
    let world = World::new();
    for started in PRIVILEGED {
        for scheme in ["http", "https"] {
            let allowed = format!("{scheme}://allowed.test/");
            let out = started(world.boundary(&WITHOUT_USERS, &["curl", "-sS", &allowed])).output();
            out.exits(0).says("this is allowed.test");
            out.record(&[("decision", "allow"), ("jail", "nsjail"), ("comm", "curl")]);
            let denied = format!("{scheme}://denied.test/");
            let out = started(world.boundary(&WITHOUT_USERS, &["curl", "-sS", &denied])).output();
            out.says("Request Blocked by Boundary").nothing_left();
            out.record(&[("decision", "deny"), ("code", "no_rule"), ("host", "denied.test")]);
        }
    }
}

#[test]
fn without_a_user_namespace_there_is_no_right_over_the_walls() {
    needs!(root);
    let world = World::new();
    let machines = fs::read_link("/proc/self/ns/user").expect("every process has one");
    let machines = machines.to_str().expect("the kernel's own name");
    for (started, kept) in PRIVILEGED.into_iter().zip(["00000000000405fb", "0000000000000000"]) {
        let script = "readlink /proc/self/ns/user; grep -h ^Cap /proc/self/status; \
                      grep NoNewPrivs /proc/self/status; \
                      echo x 2>&1 > /proc/sys/kernel/core_pattern || echo covered";
        let out = started(world.boundary(&WITHOUT_USERS, &["sh", "-c", script])).output();
        out.exits(0).says(machines).says("NoNewPrivs:\t1").says("covered");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            out.says(&format!("{set}:\t{kept}"));
        }
        for target in ["203.0.113.66", "2001:db8::66"] {
            let attack = [world.attack(), "udp", "sendto", target, "9999"];
            let out = started(world.boundary(&WITHOUT_USERS, &attack)).output();
            out.refused(&["EPERM"]).nothing_left();
        }
    }
}

#[test]
fn without_a_user_namespace_a_user_without_root_is_refused() {
    needs!(root, setpriv);
    let world = World::new();
    let mark = world.folder().join("tmp/ran");
    let touch = ["touch", mark.to_str().expect("our own name")];
    let out = as_guest(&world, &["--no-user-namespace"], &touch).output();
    out.exits(125).complains("jail nsjail: unshare(CLONE_NEWNET").complains("no command was run");
    out.expect(!mark.exists(), "the command never ran");
}

#[test]
fn where_no_socket_is_transparent_targets_are_rewritten_and_verdicts_are_the_same() {
    needs!(root, userns, curl, python3, setpriv);
    let world = World::new();
    let opaque = world.without("transparency");
    let run = |options: &[&str], command: &[&str]| {
        let options =
            [&["--allow", "domain=allowed.test", "--log-level", "info"], options].concat();
        as_guest(&world, &options, command).under(&opaque).output()
    };
    let out = run(&["--allow", "domain=127.0.0.1"], &["true"]);
    out.exits(0).complains("the policy names loopback");
    for (family, scheme) in [("-4", "http"), ("-6", "http"), ("-4", "https"), ("-6", "https")] {
        let out = run(&[], &["curl", family, "-sS", &format!("{scheme}://allowed.test/")]);
        out.exits(0).says("this is allowed.test").complains("without tproxy");
        out.expect(!out.stderr.contains("names loopback"), "no rule does");
        out.record(&[("decision", "allow"), ("jail", "nsjail"), ("comm", "curl")]);
        let out = run(&[], &["curl", family, "-sS", &format!("{scheme}://denied.test/")]);
        out.says("Request Blocked by Boundary").nothing_left();
        out.record(&[("decision", "deny"), ("code", "no_rule"), ("host", "denied.test")]);
    }
    // An address by which nobody asked for a name, at a port that is no protocol's own.
    let out = run(&[], &["curl", "-sS", "http://203.0.113.66:9123/"]);
    out.says("Request Blocked by Boundary").nothing_left();
    out.record(&[("decision", "deny"), ("host", "203.0.113.66")]);
    // Told to the proxy, as to any.
    let proxied = ["curl", "-sS", "-x", "http://127.0.0.1:8080", "http://allowed.test/"];
    let out = run(&[], &proxied);
    out.exits(0).says("this is allowed.test").record(&[("door", "explicit")]);
}

#[test]
fn where_no_socket_is_transparent_loopback_is_the_commands_own() {
    needs!(root, userns, curl, python3, setpriv);
    let world = World::new();
    world.loopback_service(9400);
    let opaque = world.without("transparency");
    let serve = "import http.server as h, threading as t, urllib.request as u\n\
                 s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n\
                 t.Thread(target=s.serve_forever, daemon=True).start()\n\
                 print(u.urlopen(f'http://127.0.0.1:{s.server_port}/').read().decode())";
    let script = format!("python3 -c \"{serve}\"; curl -sS http://127.0.0.1:9400/");
    let permit = ["--allow", "host=127.0.0.1 port=9400"];
    let out = as_guest(&world, &permit, &["sh", "-c", &script]).under(&opaque).output();
    out.exits(7).says("Directory listing").complains("Failed to connect to 127.0.0.1");
    for target in ["203.0.113.66", "2001:db8::66"] {
        let attack = [world.attack(), "udp", "sendto", target, "9999"];
        let out = as_guest(&world, &[], &attack).under(&opaque).output();
        out.refused(&["EPERM"]).nothing_left();
        out.record(&[("decision", "deny"), ("proto", "udp"), ("address", target)]);
    }
}

/// By the address that the command's connections come from, which the rules name before they turn the rest.
#[test]
fn a_server_of_the_command_is_reached_by_the_commands_own_address_in_either_way() {
    needs!(root, userns, curl, python3, setpriv);
    let world = World::new();
    let opaque = world.without("transparency");
    let serve = "import http.server as h, socket, threading as t, urllib.request as u\n\
                 class S(h.HTTPServer): address_family = socket.AF_INET6\n\
                 s = S(('::', 0), h.SimpleHTTPRequestHandler)\n\
                 t.Thread(target=s.serve_forever, daemon=True).start()\n\
                 for own in '192.0.0.8', '[fd62:6f75:6e65::1]':\n\
                 \x20   print(u.urlopen(f'http://{own}:{s.server_port}/').read().decode())";
    let command = ["python3", "-c", serve];
    for is_opaque in [false, true] {
        let run = as_guest(&world, &[], &command);
        let out = if is_opaque { run.under(&opaque).output() } else { run.output() };
        out.exits(0).nothing_left();
        let served = out.stdout.matches("<h1>Directory listing").count();
        out.expect(served == 2, "over both families, and by no door");
    }
}

#[test]
fn the_doctor_says_that_targets_can_be_rewritten() {
    needs!(root, userns, python3);
    let world = World::new();
    let opaque = world.without("transparency");
    let out = world.exact(&["doctor"]).under(&opaque).output();
    out.says("nsjail    works").says("transparent listener");
}
