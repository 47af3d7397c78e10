//! The jail that needs nothing: what root and an ordinary user get of it, whatever the jail of the
//! run.

use nix::sys::signal::Signal;

use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{GUEST, Run, World};

/// A run as somebody.
type As = for<'a> fn(&'a World, &[&str], &[&str]) -> Run<'a>;

/// Whoever may run it.
const EVERYBODY: [As; 2] = [as_guest, as_root];

/// Runs a command as the guest, who has no right that others lack.
fn as_guest<'a>(world: &'a World, options: &[&str], command: &[&str]) -> Run<'a> {
    let id = GUEST.to_string();
    let become_guest =
        ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--bounding-set", "-all"];
    as_root(world, options, command).under(&become_guest)
}

/// Runs a command as root.
fn as_root<'a>(world: &'a World, options: &[&str], command: &[&str]) -> Run<'a> {
    world.boundary(&[&["--jail-type", "landjail"], options].concat(), command)
}

#[test]
fn everybody_gets_the_same_verdicts() {
    needs!(root, curl, setpriv);
    let world = World::new();
    let allow = ["--allow", "domain=allowed.test"];
    for run in EVERYBODY {
        for scheme in ["http", "https"] {
            let allowed = format!("{scheme}://allowed.test/");
            let out = run(&world, &allow, &["curl", "-sS", &allowed]).output();
            out.exits(0).says("this is allowed.test");
            out.record(&[("decision", "allow"), ("jail", "landjail"), ("comm", "curl")]);
            let denied = format!("{scheme}://denied.test/");
            let out = run(&world, &allow, &["curl", "-sS", &denied]).output();
            out.says("Request Blocked by Boundary").nothing_left();
            out.record(&[("decision", "deny"), ("code", "no_rule"), ("host", "denied.test")]);
            out.record(&[("exe", "/usr/bin/curl"), ("door", "redirect")]);
        }
    }
}

#[test]
fn an_ordinary_user_is_that_user_without_a_right() {
    needs!(root, setpriv);
    let world = World::new();
    let script = "id -u; id -g; grep -h ^Cap /proc/self/status; grep NoNewPrivs /proc/self/status; \
                  env | grep -i ^https*_proxy || echo no proxy";
    let out = as_guest(&world, &[], &["sh", "-c", script]).output();
    out.exits(0).says(&format!("{GUEST}\n{GUEST}\n")).says("no proxy");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        out.says(&format!("{set}:\t0000000000000000"));
    }
    out.says("NoNewPrivs:\t1");
}

#[test]
fn nothing_is_sent_but_by_a_door() {
    needs!(root, setpriv);
    let world = World::new();
    for run in EVERYBODY {
        for target in ["203.0.113.66", "2001:db8::66"] {
            for call in ["sendto", "sendmsg", "sendmmsg", "connect"] {
                let out = run(&world, &[], &[world.attack(), "udp", call, target, "9999"]).output();
                out.refused(&["EPERM"]).nothing_left();
                out.record(&[("decision", "deny"), ("proto", "udp"), ("address", target)]);
            }
        }
    }
}

#[test]
fn servers_of_the_command_work_for_it_and_those_of_the_host_need_a_rule() {
    needs!(root, curl, python3, setpriv);
    let world = World::new();
    world.loopback_service(9400);
    let serve = "import http.server as h, threading as t, urllib.request as u\n\
                 s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n\
                 t.Thread(target=s.serve_forever, daemon=True).start()\n\
                 print(u.urlopen(f'http://127.0.0.1:{s.server_port}/').read().decode())";
    let script = format!("python3 -c \"{serve}\"; curl -sS http://127.0.0.1:9400/");
    for run in EVERYBODY {
        let out = run(&world, &[], &["sh", "-c", &script]).output();
        out.says("Directory listing").says("Request Blocked by Boundary");
        let permit = ["--allow", "host=127.0.0.1 port=9400"];
        let out = run(&world, &permit, &["curl", "-sS", "http://127.0.0.1:9400/"]).output();
        out.exits(0).says("host service");
    }
}

/// What programs do with sockets, each thing told in a line that has to be the same without
/// boundary. `TARGET` serves HTTP.
pub(crate) const MANNERS: &str = include_str!("landjail.py");

#[test]
fn sockets_behave_as_they_do_without_it() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let manners = world.file("manners.py", MANNERS);
    let command = ["python3", manners.to_str().expect("our own name")];
    let without = world.bare(&command).output();
    without.exits(0).says("end");
    for run in EVERYBODY {
        let out = run(&world, &["--allow", "domain=allowed.test"], &command).output();
        let is_same = out.stdout == without.stdout;
        out.exits(0).expect(is_same, &format!("as without boundary:\n{}", without.stdout));
    }
}

#[test]
fn a_datagram_socket_that_is_shut_down_costs_nothing() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let script = "import os, socket, time\n\
                  def made(target, how):\n\
                  \x20 one = socket.socket(type=socket.SOCK_DGRAM)\n\
                  \x20 one.connect(target); one.shutdown(how)\n\
                  \x20 return one\n\
                  def worked():\n\
                  \x20 words = open(f'/proc/{os.getppid()}/stat').read().rsplit(')', 1)[1].split()\n\
                  \x20 return (int(words[11]) + int(words[12])) / os.sysconf('SC_CLK_TCK')\n\
                  server = socket.socket(type=socket.SOCK_DGRAM); server.bind(('127.0.0.1', 0))\n\
                  targets = [server.getsockname(), ('192.0.2.1', 53)]\n\
                  ways = [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]\n\
                  kept = [made(target, how) for target in targets for how in ways]\n\
                  before = worked(); time.sleep(1); print('it took', worked() - before)\n\
                  assert worked() - before < 0.1";
    for run in EVERYBODY {
        let out = run(&world, &[], &["python3", "-c", script]).output();
        out.exits(0).expect(out.records.len() < 3, "nobody asks anything");
    }
}

/// Has one message cut into several datagrams, in every way that there is.
const SEGMENTED: &str = "
import ctypes, errno, socket, struct
UDP, SEGMENT, GRO = 17, 103, 104
def error(call, *arguments):
    try: return call(*arguments)
    except OSError as failure: return errno.errorcode[failure.errno]
hears = socket.socket(type=socket.SOCK_DGRAM); hears.bind(('127.0.0.1', 0)); hears.settimeout(10)
name = hears.getsockname()
says = socket.socket(type=socket.SOCK_DGRAM); says.connect(name)
print('set', *[error(says.setsockopt, UDP, option, 1) for option in (SEGMENT, GRO)])
other, beside = (0, 1, struct.pack('i', 0)), (UDP, SEGMENT, struct.pack('H', 1))
print('sent', *[error(says.sendmsg, [b'abc'], [other, beside], 0, *to) for to in ((), (name,))])
data, control = map(ctypes.create_string_buffer, (b'abc', struct.pack('QiiH6x', 18, *beside[:2], 1)))
part = ctypes.create_string_buffer(struct.pack('PN', ctypes.addressof(data), 3))
places = ctypes.addressof(part), 1, ctypes.addressof(control), 24
head = ctypes.create_string_buffer(struct.pack('PI4xPNPNi4xI4x', 0, 0, *places, 0, 0))
libc = ctypes.CDLL(None, use_errno=True)
print('at once', libc.sendmmsg(says.fileno(), head, 1, 0), errno.errorcode.get(ctypes.get_errno()))
print('whole', says.sendmsg([b'whole'], [other]), hears.recv(99))";

#[test]
fn whoever_has_the_kernel_cut_datagrams_is_told_that_nobody_does() {
    needs!(root, python3, setpriv);
    let world = World::new();
    for run in EVERYBODY {
        let out = run(&world, &[], &["python3", "-c", SEGMENTED]).output();
        out.exits(0).says("set ENOPROTOOPT ENOPROTOOPT\nsent EIO EIO\nat once -1 EIO\n");
        out.says("whole 5 b'whole'");
    }
}

/// Sends what cannot be closed at once, a connection with something to say to somebody who does not listen,
/// over a datagram socket, and closes it; then others speak to each other, and ask for a name.
const LINGERING: &str = "
import array, os, socket, struct, sys
MSG_CONFIRM = 0x800
def pair():
    server = socket.create_server(('127.0.0.1', 0))
    one = socket.create_connection(server.getsockname())
    other = server.accept()[0]
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 20))
    one.setblocking(False)
    try:
        while True: one.send(bytes(65536))
    except BlockingIOError: pass
    one.setblocking(True)
    return one, other
hears = socket.socket(type=socket.SOCK_DGRAM)
hears.bind(('127.0.0.1', 0)); hears.settimeout(10)
kept = []
for flags in (0, MSG_CONFIRM) * 20:
    lingers, other = pair()
    kept.append(other)
    go, closed = os.pipe()
    if not (child := os.fork()):
        says = socket.socket(type=socket.SOCK_DGRAM); says.connect(hears.getsockname())
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [lingers.fileno()]))]
        os.read(go, 1)
        try: says.sendmsg([b'beside'], beside, flags)
        except PermissionError: assert flags
        os._exit(0)
    lingers.close()
    os.write(closed, b'x')
    assert os.waitpid(child, 0)[1] == 0
    if not flags: assert hears.recv(9) == b'beside'
speaks = socket.socket(type=socket.SOCK_DGRAM); speaks.connect(hears.getsockname())
speaks.send(b'heard')
while hears.recv(9) != b'heard': pass
print('asked', socket.gethostbyname('allowed.test'), flush=True)
os._exit(0)";

#[test]
fn a_descriptor_that_is_sent_over_a_datagram_socket_holds_up_nobody() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let (lacking, nothing) = (world.without("rights"), ["env".to_owned()]);
    for run in EVERYBODY {
        for kernel in [&nothing[..], &lacking] {
            let allow = ["--allow", "domain=allowed.test"];
            let session = run(&world, &allow, &["/usr/bin/python3", "-c", LINGERING]);
            session.under(kernel).output().exits(0).says("asked ");
        }
    }
}

#[test]
fn a_port_that_was_closed_can_be_taken_again() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let script = "import socket\n\
                  for family in [socket.AF_INET, socket.AF_INET6]:\n\
                  \x20 for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM]:\n\
                  \x20   one = socket.socket(family, kind); one.bind(('localhost', 0))\n\
                  \x20   name = one.getsockname(); one.close()\n\
                  \x20   two = socket.socket(family, kind); two.bind(name)\n\
                  \x20   assert two.getsockname() == name\n\
                  print('taken')";
    for run in EVERYBODY {
        run(&world, &[], &["python3", "-c", script]).output().exits(0).says("taken");
    }
}

/// Has a process around that does not show what it has open, a server; takes ports that were closed, more
/// sockets than the usher may hold, and what that process serves.
const SECRETIVE: &str = "
import ctypes, os, socket
server = socket.create_server(('127.0.0.1', 0))
name, (told, tell) = server.getsockname(), os.pipe()
if not os.fork():
    assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE
    os.write(tell, b'x')
    while True: server.accept()[0].send(b'served')
os.read(told, 1); server.close()
for family in [socket.AF_INET, socket.AF_INET6] * 3:
    for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM]:
        one = socket.socket(family, kind); one.bind(('localhost', 0))
        taken = one.getsockname(); one.close()
        two = socket.socket(family, kind); two.bind(taken)
        assert two.getsockname() == taken
        if kind == socket.SOCK_DGRAM:
            socket.socket(family, kind).sendto(b'heard', taken)
            two.settimeout(10); assert two.recv(9) == b'heard'
print('taken')
for _ in range(300): socket.socket().close()
print('made')
assert socket.create_connection(name).recv(9) == b'served'
print('served', flush=True)
os._exit(0)";

#[test]
fn a_process_that_does_not_show_what_it_has_open_keeps_that_and_nothing_else() {
    needs!(root, python3, setpriv, prlimit);
    let world = World::new();
    let command = ["/usr/bin/python3", "-c", SECRETIVE];
    let few = ["prlimit", "--nofile=128:128"];
    as_guest(&world, &[], &command).under(&few).output().exits(0).says("taken\nmade\nserved");
    // Root in a container does not look into one either: it has few rights, and the machine's settings are
    // read-only.
    let contained = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
                     exec setpriv --bounding-set -sys_ptrace,-sys_admin \"$@\"";
    let run = as_root(&world, &[], &command).under(&world.without("users")).under(&few);
    let run = run.under(&["unshare", "--mount", "sh", "-c", contained, "sh"]);
    run.output().exits(0).says("taken\nmade\nserved");
}

#[test]
fn many_sockets_are_let_go_when_the_command_has_closed_them() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let script = "import socket\n\
                  for _ in range(3000):\n\
                  \x20 socket.socket().close()\n\
                  \x20 socket.socket(type=socket.SOCK_DGRAM).close()\n\
                  server = socket.create_server(('127.0.0.1', 0), backlog=2000)\n\
                  kept = [socket.create_connection(server.getsockname()) for _ in range(400)]\n\
                  print('made')";
    for run in EVERYBODY {
        run(&world, &[], &["python3", "-c", script]).output().exits(0).says("made");
    }
}

#[test]
fn an_usher_without_descriptors_has_some_again_when_the_command_has_closed_its_sockets() {
    needs!(root, python3, prlimit);
    let world = World::new();
    let script = "import errno, http.client, socket\n\
                  first = socket.socket()\n\
                  for _ in range(3):\n\
                  \x20 made = []\n\
                  \x20 try:\n\
                  \x20   while len(made) < 1000: made.append(socket.socket(type=socket.SOCK_DGRAM))\n\
                  \x20   print('endless')\n\
                  \x20 except OSError as error:\n\
                  \x20   assert error.errno == errno.EMFILE, error\n\
                  \x20 assert len(made) > 20, made\n\
                  \x20 for one in made: one.close()\n\
                  first.connect(('allowed.test', 80))\n\
                  first.sendall(b'GET /a HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n')\n\
                  assert first.recv(12) == b'HTTP/1.1 200'\n\
                  print('going on')";
    let allow = ["--allow", "domain=allowed.test"];
    let run = as_root(&world, &allow, &["/usr/bin/python3", "-c", script]);
    // The command may have as many, and needs one a socket; its usher needs two.
    let out = run.under(&["prlimit", "--nofile=128:128"]).output();
    out.exits(0).says("going on");
    out.expect(!out.stdout.contains("endless"), "there is an end");
}

#[test]
fn so_many_calls_wait_at_once_and_the_next_is_told_to_try_again() {
    needs!(root, python3);
    let world = World::new();
    let script = "import errno, os, socket, threading, time\n\
                  told = []\n\
                  def wait():\n\
                  \x20 try: socket.socket(type=socket.SOCK_DGRAM).recvfrom(1)\n\
                  \x20 except OSError as error: told.append(error.errno)\n\
                  for _ in range(300): threading.Thread(target=wait, daemon=True).start()\n\
                  until = time.monotonic() + 60\n\
                  while len(told) < 44 and time.monotonic() < until: time.sleep(0.05)\n\
                  assert told == [errno.EAGAIN] * 44, told\n\
                  print('at most 256', flush=True)\n\
                  os._exit(0)";
    let out = as_root(&world, &[], &["/usr/bin/python3", "-c", script]).output();
    out.exits(0).says("at most 256").nothing_left();
}

#[test]
fn what_the_command_leaves_running_ends_with_it() {
    needs!(root, setpriv);
    let world = World::new();
    let script = "setsid sleep 4711 & (setsid sh -c 'sleep 4712 & sleep 4713') & sleep 0.1; exit 3";
    for run in EVERYBODY {
        run(&world, &[], &["sh", "-c", script]).output().exits(3);
        for number in ["4711", "4712", "4713"] {
            assert!(!is_running(&["sleep", number]), "{number} is still there");
        }
    }
}

#[test]
fn the_end_of_any_process_of_boundary_is_the_end_of_the_command() {
    needs!(root, setpriv);
    let world = World::new();
    for run in EVERYBODY {
        for process in ["keeper", "boundary-usher", "boundary-proxy"] {
            let script = "setsid sleep 4721 & echo ready; exec sleep 4722";
            let session = run(&world, &[], &["sh", "-c", script]).start();
            session.wait_for("ready");
            if process == "keeper" {
                session.kill();
            } else {
                let below = below(session.pid().as_raw());
                let is_it = |pid: &&i32| name(**pid) == process;
                let pid = below.iter().find(is_it).expect("it is there");
                let pid = nix::unistd::Pid::from_raw(*pid);
                nix::sys::signal::kill(pid, Signal::SIGKILL).expect("it is there");
            }
            for number in ["4721", "4722"] {
                eventually("the command ends", || !is_running(&["sleep", number]));
            }
            session.finish();
        }
    }
}

/// Whether a process with this command line is there.
fn is_running(line: &[&str]) -> bool {
    let line = line.iter().flat_map(|word| [word.as_bytes(), &[0]].concat()).collect::<Vec<_>>();
    processes().any(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it == line))
}

/// Every process.
fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").expect("procfs is there");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The name of a process.
fn name(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Everything that descends from a process.
fn below(ancestor: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let descends = |pid: &i32| {
        let mut ancestors = std::iter::successors(parent(*pid), |pid| parent(*pid));
        ancestors.any(|pid| pid == ancestor)
    };
    processes().filter(descends).collect()
}

#[test]
fn a_second_filter_that_asks_is_refused_with_what_and_why() {
    needs!(root, setpriv);
    let world = World::new();
    // Only one filter of a process may ask: inside a session there is one already.
    let inner = world.exact(&["--jail-type", "landjail", "--", "true"]).words();
    let words: Vec<&str> = inner.iter().map(String::as_str).collect();
    let line = [&["env", "-u", "BOUNDARY_SESSION_DOOR"], &words[..]].concat();
    for run in EVERYBODY {
        let out = run(&world, &[], &line).output();
        out.exits(125).complains("jail landjail").complains("(EBUSY)");
    }
}

#[test]
fn the_command_cannot_reach_its_usher() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let script = "import os, signal\n\
                  ppid = os.getppid()\n\
                  assert open(f'/proc/{ppid}/comm').read().strip() == 'boundary-usher'\n\
                  for what in [lambda: os.kill(ppid, signal.SIGKILL),\n\
                  \x20            lambda: open(f'/proc/{ppid}/mem', 'rb'),\n\
                  \x20            lambda: os.readlink(f'/proc/{ppid}/fd/0'),\n\
                  \x20            lambda: os.readlink(f'/proc/{ppid}/root')]:\n\
                  \x20 try: what(); print('reached')\n\
                  \x20 except PermissionError: print('refused')";
    for run in EVERYBODY {
        let out = run(&world, &[], &["python3", "-c", script]).output();
        out.exits(0).expect(out.stdout == "refused\n".repeat(4), "nothing of it can be reached");
    }
}

#[test]
fn a_unix_socket_of_the_host_is_refused_and_one_of_the_command_is_not() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let folder = world.folder().join("tmp");
    let path = folder.join("daemon.sock");
    let bound = path.clone();
    let _daemon = world
        .host()
        .run(move || std::os::unix::net::UnixListener::bind(bound))
        .expect("it is ours");
    let allow_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, allow_all).expect("it is ours");
    let path = path.to_str().expect("our own name");
    let script = format!(
        "import socket, tempfile, os\n\
         s = socket.socket(socket.AF_UNIX)\n\
         try: s.connect('{path}'); print('reached')\n\
         except PermissionError: print('refused')\n\
         for kind in [socket.SOCK_DGRAM]:\n\
         \x20 s = socket.socket(socket.AF_UNIX, kind)\n\
         \x20 try: s.connect('{path}'); print('reached')\n\
         \x20 except PermissionError: print('refused')\n\
         for name in [tempfile.mkdtemp() + '/own', '\\0own']:\n\
         \x20 l = socket.socket(socket.AF_UNIX); l.bind(name); l.listen()\n\
         \x20 c = socket.socket(socket.AF_UNIX); c.connect(name); a, _ = l.accept()\n\
         \x20 c.send(b'x'); print(a.recv(9))"
    );
    for run in EVERYBODY {
        let out = run(&world, &[], &["python3", "-c", &script]).output();
        out.exits(0).says("refused\nrefused\nb'x'\nb'x'\n");
        out.record(&[("decision", "deny"), ("code", "unix_socket")]);
        let permit = ["--unix-socket", path];
        run(&world, &permit, &["python3", "-c", &script]).output().says("reached\nrefused");
    }
}

#[test]
fn a_unix_datagram_is_refused_with_a_word_by_whichever_call_it_is_sent() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let path = world.folder().join("tmp/log");
    let bound = path.clone();
    let daemon = world
        .host()
        .run(move || std::os::unix::net::UnixDatagram::bind(bound))
        .expect("it is ours");
    daemon.set_nonblocking(true).expect("it does not wait");
    let allow_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, allow_all).expect("it is ours");
    let path = path.to_str().expect("our own name");
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         calls = [lambda: s.connect('{path}'), lambda: s.sendto(b'x', '{path}'),\n\
         \x20 lambda: s.sendmsg([b'x'], [], 0, '{path}'), lambda: s.bind('{path}.own')]\n\
         for call in calls:\n\
         \x20 try: call(); print('done')\n\
         \x20 except PermissionError: print('refused')"
    );
    for run in EVERYBODY {
        let out = run(&world, &[], &["python3", "-c", &script]).output();
        out.exits(0).says("refused\nrefused\nrefused\nrefused\n");
        let told = out.records.iter().filter(|record| record["code"] == "unix_socket").count();
        out.expect(told == 3, "each that names somebody is on record");
    }
    let nothing = daemon.recv(&mut [0]).map_err(|error| error.kind());
    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock), "it hears nothing");
}

/// Fetches from what is allowed and from what is not, as everybody.
fn fetches(world: &World, client: impl Fn(&str) -> Vec<String>) {
    for run in EVERYBODY {
        for (host, says) in [("allowed", "this is allowed.test"), ("denied", "403")] {
            let line = client(&format!("https://{host}.test/"));
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            let out = run(world, &["--allow", "domain=allowed.test"], &line).output();
            let told = format!("{}{}", out.stdout, out.stderr);
            out.expect(told.contains(says), &format!("it tells {says}"));
        }
    }
}

/// A command line.
fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn python_fetches_waiting_and_not() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let waits = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read())";
    fetches(&world, |url| words(&["python3", "-c", waits, url]));
    let waits_not = "import asyncio, ssl, sys, urllib.parse as p\n\
        async def fetch(host):\n\
        \x20 r, w = await asyncio.open_connection(host, 443, ssl=ssl.create_default_context())\n\
        \x20 w.write(f'GET / HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n'.encode())\n\
        \x20 print(await r.read())\n\
        asyncio.run(fetch(p.urlsplit(sys.argv[1]).hostname))";
    fetches(&world, |url| words(&["python3", "-c", waits_not, url]));
}

#[test]
fn node_fetches() {
    needs!(root, node, setpriv);
    let world = World::new();
    let script = "require('https').get(process.argv[1], r => { console.log(r.statusCode); r.pipe(process.stdout) })";
    fetches(&world, |url| words(&["node", "-e", script, url]));
}

#[test]
fn java_fetches() {
    needs!(root, javac, setpriv);
    let world = World::new();
    let program = "import java.net.URI; import java.net.http.*;\n\
        class Fetch { public static void main(String[] a) throws Exception {\n\
        var r = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(),\n\
        HttpResponse.BodyHandlers.ofString()); System.out.println(r.statusCode() + r.body()); } }";
    let path = world.file("Fetch.java", program).display().to_string();
    fetches(&world, |url| words(&["java", &path, url]));
}

#[test]
fn what_a_script_started_before_outlives_the_session() {
    needs!(root);
    let world = World::new();
    // What a background process leaves when it ends meanwhile comes to boundary, which took the shell's
    // place.
    let script = "(sleep 100 >&- 2>&- & echo $! > older; sleep 1) & until test -s older; do sleep 0.1; done; \
                  cd /; exec \"$@\"";
    let folder = world.folder().display().to_string();
    let script = format!("cd {folder}; {script}");
    let out = as_root(&world, &[], &["sleep", "2"]).under(&["sh", "-c", &script, "sh"]).output();
    out.exits(0);
    let older = std::fs::read_to_string(world.folder().join("older")).expect("it was told");
    let older = nix::unistd::Pid::from_raw(older.trim().parse().expect("a number"));
    let killed = nix::sys::signal::kill(older, Signal::SIGKILL);
    out.expect(killed.is_ok(), "it is none of the command's");
}

#[test]
fn there_is_no_such_jail_without_landlock() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let mark = world.folder().join("ran");
    let touch = ["touch", mark.to_str().expect("our own name")];
    let landless = world.without("landlock");
    for run in EVERYBODY {
        let out = run(&world, &[], &touch).under(&landless).output();
        out.exits(125).complains("Landlock: refused (ENOSYS)").complains("Linux 5.13");
        out.complains("no command was run").expect(!mark.exists(), "the command never ran");
    }
    let out = world.exact(&["doctor"]).under(&landless).output();
    out.says("landjail  does not work: Landlock: refused (ENOSYS)");
}

/// A program that a timer interrupts two thousand times a second connects, and tells what that cost. A
/// connection that was made may be asked for again there, and the kernel says of it that it is made.
const INTERRUPTED: &str = "import errno, signal, socket\n\
    signal.signal(signal.SIGALRM, lambda *it: None)\n\
    signal.siginterrupt(signal.SIGALRM, False)\n\
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\n\
    lost = []\n\
    for _ in range(500):\n\
    \x20 with socket.socket() as one:\n\
    \x20   try: one.connect(('203.0.113.10', 80))\n\
    \x20   except OSError as error: lost.append(errno.errorcode[error.errno])\n\
    signal.setitimer(signal.ITIMER_REAL, 0)\n\
    print('lost', sorted(set(lost) - {'EISCONN'}))";

#[test]
fn where_signals_wake_who_waits_for_an_answer_the_verdicts_are_the_same() {
    needs!(root, landlock, curl, python3, setpriv);
    let world = World::new();
    let older = world.without("killable,turns");
    let allow = ["--allow", "domain=allowed.test"];
    for run in EVERYBODY {
        let out = run(&world, &allow, &["python3", "-c", INTERRUPTED]).under(&older).output();
        out.exits(0).says("lost []");
        for (host, told) in [("allowed.test", "this is"), ("denied.test", "Request Blocked")] {
            let url = format!("https://{host}/");
            let out = run(&world, &allow, &["curl", "-sS", &url]).under(&older).output();
            out.exits(0).says(told);
        }
    }
}

#[test]
fn the_memory_of_a_process_of_the_same_user_is_out_of_reach() {
    needs!(root, python3, setpriv);
    let world = World::new();
    let victim = world.file(
        "victim.py",
        "import ctypes, os\n\
         word = ctypes.create_string_buffer(b'untouched')\n\
         print(f'at {os.getpid()} {ctypes.addressof(word)}', flush=True)\n\
         os.read(0, 1); print(word.value.decode())",
    );
    let script = "import sys\n\
                  pid, at = sys.argv[1:]\n\
                  try:\n\
                  \x20 memory = open(f'/proc/{pid}/mem', 'r+b', buffering=0)\n\
                  \x20 memory.seek(int(at)); memory.write(b'taken over')\n\
                  except OSError as error: print('refused', error.strerror)\n\
                  print('tried')";
    let id = GUEST.to_string();
    let guest = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let fifo = world.folder().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::empty()).expect("a fifo");
    std::os::unix::fs::chown(&fifo, Some(GUEST), Some(GUEST)).expect("root may");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&fifo, mode).expect("it is ours");
    let line = format!("exec python3 {} <> {}", victim.display(), fifo.display());
    let outside = world.bare(&["sh", "-c", &line]).under(&guest).start();
    outside.wait_for("at ");
    let pid = outside.pid().to_string();
    let told = outside.told();
    let at = told.split_whitespace().nth(2).expect("an address").to_owned();
    let out = as_guest(&world, &[], &["python3", "-c", script, &pid, &at]).output();
    out.exits(0).says("refused").says("tried");
    std::fs::write(&fifo, "x").expect("it is read");
    outside.finish().exits(0).says("untouched");
}

#[test]
fn a_record_says_who_asked_and_who_started_them() {
    needs!(root, curl, setpriv);
    let world = World::new();
    // `&` and `wait` keep each shell from becoming what it starts.
    let script = "sh -c 'curl -sS http://denied.test/ & wait' & wait";
    for (run, user) in [(EVERYBODY[0], GUEST), (EVERYBODY[1], 0)] {
        let out = run(&world, &[], &["sh", "-c", script]).output();
        out.exits(0);
        let user = user.to_string();
        let record = out.record(&[
            ("host", "denied.test"),
            ("proto", "http"),
            ("exe", "/usr/bin/curl"),
            ("comm", "curl"),
            ("uid", &user),
        ]);
        let parents: Vec<_> = record["parents"].as_array().into_iter().flatten().collect();
        let names: Vec<_> = parents.iter().filter_map(|parent| parent["comm"].as_str()).collect();
        out.expect(names == ["sh", "sh"], "up to the command, and no further");
        let asked = record["pid"].as_u64();
        out.expect(asked.is_some_and(|pid| pid > 0), "its number is there");
        out.expect(parents.iter().all(|it| it["pid"].as_u64() != asked), "each is another");
    }
}

#[test]
fn a_session_is_counted_and_the_command_does_not_see_it() {
    needs!(root, curl, setpriv);
    for run in EVERYBODY {
        let world = World::new();
        let script = "curl -sS http://denied.test/; \
            curl -s -o /dev/null -w 'metrics %{http_code}.\n' http://127.0.0.1:9464/metrics; \
            curl -sSN https://allowed.test/stream/gate";
        let options =
            ["--allow", "domain=*", "--allow", "host=127.0.0.1", "--metrics-port", "9464"];
        let session = run(&world, &options, &["sh", "-c", script]).start();
        session.wait_for("first");
        let url = "http://127.0.0.1:9464/metrics";
        let told = world.bare(&["curl", "-sS", "--max-time", "20", url]).output().stdout;
        world.open("gate");
        let out = session.finish();
        out.exits(0).expect(!out.stdout.contains("metrics 200."), "nobody answers it there");
        for line in ["boundary_session_info{", "jail=\"landjail\"", "boundary_connections 1\n"] {
            out.expect(told.contains(line), &format!("{line} in\n{told}"));
        }
    }
}
