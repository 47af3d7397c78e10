//! F-10: who leads to unix sockets is led astray, by folders, numbers, spellings, crowds
//! and calls that fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::ALLOW;
use super::stalled::of_boundary;
use super::starved::Fault;
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{Output, Session, World, jail};

/// Starts a script in the project's folder, which waits first.
fn waiting<'w>(world: &'w World, options: &[&str], script: &str, guest: bool) -> Session<'w> {
    let gate = gate(world);
    if !gate.exists() {
        mkfifo(&gate, Mode::from_bits_truncate(0o666)).expect("the folder is ours");
    }
    let script = format!("cd tmp; echo ready; read go < gate; {script}");
    let run = world.boundary(&[&ALLOW, options].concat(), &["sh", "-c", &script, world.attack()]);
    let session = if guest { run.through_sudo().start() } else { run.start() };
    session.wait_for("ready");
    session
}

/// Lets it go on, to its end.
fn goes_on(world: &World, session: Session<'_>) -> Output {
    // To read as well: where the session has ended already nobody else does, and it would be waited for.
    let mut gate =
        fs::OpenOptions::new().read(true).write(true).open(gate(world)).expect("it is ours");
    gate.write_all(b"go\n").expect("it has room");
    session.finish()
}

/// Where it waits.
fn gate(world: &World) -> PathBuf {
    world.folder().join("tmp/gate")
}

/// A daemon of the host at a path, open to everybody.
fn daemon(path: &Path) -> UnixListener {
    let daemon = UnixListener::bind(path).expect("the place is free");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(path, everybody).expect("it is ours");
    daemon.set_nonblocking(true).expect("it does not wait");
    daemon
}

#[test]
fn a18_a_folder_that_takes_anothers_place_makes_no_socket_a_listed_one() {
    needs!(root, bpf);
    let world = World::new();
    let project = world.folder().join("tmp");
    let [listed, other] = ["listed", "other"].map(|folder| {
        fs::create_dir(project.join(folder)).expect("the folder is ours");
        project.join(folder).join("daemon.sock")
    });
    let option = ["--unix-socket", listed.to_str().expect("our own name")];
    // The folder that the other one was bound in becomes a name for the listed one's.
    let script = "rm -f listed/daemon.sock; mv other/daemon.sock listed/daemon.sock; \
                  mv other away; ln -s listed other; \
                  $0 unix listed/daemon.sock; $0 unix $PWD/other/daemon.sock";
    let session = waiting(&world, &option, script, false);
    let place = other.clone();
    let daemon = world.host().run(move || daemon(&place));
    let out = goes_on(&world, session);
    let refused = out.findings().iter().filter(|found| found["errno"] == "EPERM").count();
    out.expect(refused == 2, "it is refused under either name");
    out.expect(daemon.accept().is_err(), "nothing reaches it");
}

#[test]
fn a18_a_socket_of_another_network_is_not_ones_own_by_its_number() {
    needs!(root, bpf, python3);
    let world = World::new();
    let [theirs, own] = ["theirs", "own"].map(|name| world.folder().join("tmp").join(name));
    for folder in [theirs.clone(), own.clone()] {
        fs::create_dir(&folder).expect("the folder is ours");
        world.host().run(move || {
            let (none, text) = (MsFlags::empty(), Some("mode=0777"));
            mount(Some("tmpfs"), &folder, Some("tmpfs"), none, text).expect("root may");
        });
    }
    // As many files in either, so that the sockets have the same number on their own file system.
    let script = "exec /usr/bin/python3 -c '
import os, socket
own = socket.socket(socket.AF_UNIX); own.bind(\"own/socket\"); own.listen()
same = os.stat(\"own/socket\").st_ino == os.stat(\"theirs/socket\").st_ino
socket.socket(socket.AF_UNIX).connect(\"own/socket\")
try:
    socket.socket(socket.AF_UNIX).connect(\"theirs/socket\"); print(\"reached\", same)
except PermissionError: print(\"refused\", same)
'";
    let session = waiting(&world, &[], script, false);
    let daemon = world.host().run(move || {
        // A thread with a network of its own, whose sockets are in no list of the host's.
        let alone = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may");
            daemon(&theirs.join("socket"))
        };
        std::thread::spawn(alone).join().expect("it binds")
    });
    let out = goes_on(&world, session);
    out.says("refused True").expect(daemon.accept().is_err(), "nothing reaches it");
}

#[test]
fn a18_a22_no_spelling_of_ones_own_place_leads_out() {
    needs!(root, bpf, python3);
    let world = World::new();
    let path = world.folder().join("tmp/daemon.sock");
    let script = "exec /usr/bin/python3 -c '
import os, socket
U, S = socket.AF_UNIX, socket.SOCK_STREAM
here, far = os.getcwd(), os.getcwd() + \"/daemon.sock\"
os.symlink(\"/proc/self/cwd\", \"cwd\"); os.symlink(\"/proc/thread-self/root\", \"root\")
os.symlink(\"loop\", \"loop\")
folder = os.open(here, os.O_RDONLY)
names = [\"/proc/self/root\" + far, \"/proc/thread-self/root\" + far, \"//proc/self/root\" + far,
    \"/proc/./self/cwd/daemon.sock\", \"/proc/self/fd/%d/daemon.sock\" % folder, \"root\" + far,
    \"/proc/thread-self/cwd/daemon.sock\", \"cwd/daemon.sock\", \"loop/daemon.sock\",
    \"/proc/%d/root\" % os.getpid() + far, \"/proc/1/root\" + far, \"/dev/fd/%d/daemon.sock\" % folder,
    \"./\" * ((107 - len(\"daemon.sock\")) // 2) + \"daemon.sock\",
    \".//\" * ((108 - len(\"daemon.sock\")) // 3) + \"daemon.sock\", \"a\" * 107, \"/\" * 107, \"\\0\", \"\\0\" * 107]
def attempt(name):
    for kind in (S, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        try: socket.socket(U, kind).connect(name); print(\"reached\", repr(name))
        except OSError: pass
for name in names: attempt(name)
if os.getuid() == 0:
    os.chroot(here); os.chdir(\"/\")
    for name in (\"daemon.sock\", \"/daemon.sock\", \"/../daemon.sock\", \"../../daemon.sock\"): attempt(name)
print(\"over\")
'";
    for guest in [false, true] {
        let session = waiting(&world, &[], script, guest);
        let place = path.clone();
        let daemon = world.host().run(move || daemon(&place));
        let out = goes_on(&world, session);
        out.exits(0).says("over").expect(!out.stdout.contains("reached"), "none leads anywhere");
        out.expect(daemon.accept().is_err(), "nothing reaches it");
        for name in ["daemon.sock", "cwd", "root", "loop"] {
            fs::remove_file(world.folder().join("tmp").join(name)).expect("it is there");
        }
    }
}

#[test]
fn a18_f01_a_crowd_of_calls_that_wait_ends_no_session() {
    needs!(root, bpf, python3, prlimit);
    let world = World::new();
    // A server that accepts nobody, and more clients than are seen to at once. Then one that does.
    let script = "exec /usr/bin/python3 -c '
import errno, os, resource, socket, threading, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
U, own = socket.AF_UNIX, os.urandom(8).hex()
dead, live = \"dead-\" + own, \"live-\" + own
deaf = socket.socket(U); deaf.bind(dead); deaf.listen(0)
said = []
def call():
    try: socket.socket(U).connect(dead); said.append(0)
    except OSError as error: said.append(error.errno)
threads = [threading.Thread(target=call, daemon=True) for n in range(400)]
for thread in threads: thread.start()
# Those that are not seen to are told so.
while said.count(errno.EAGAIN) < 100: time.sleep(0.01)
deaf.close()
for thread in threads: thread.join()
server = socket.socket(U); server.bind(live); server.listen()
socket.socket(U).connect(live); server.accept()
print(\"served\", flush=True)
'";
    for guest in [false, true] {
        let run = world.boundary(&ALLOW, &["sh", "-c", &format!("cd tmp; {script}")]);
        let run = if guest { run.through_sudo() } else { run };
        let out = run.under(&["prlimit", "--nofile=256:4096"]).output();
        out.exits(0).says("served");
    }
}

/// The calls by which it finds out who asks for what, and answers, and with what they fail.
const CALLS: &[(&str, &str)] = &[
    ("process_vm_readv", "EPERM"),
    ("pidfd_open", "EMFILE"),
    ("pidfd_getfd", "EPERM"),
    ("openat", "ENOENT"),
    ("socket", "EMFILE"),
    ("recvfrom", "ENOBUFS"),
    ("setresuid", "EPERM"),
    ("ioctl", "EINVAL"),
];

#[test]
fn f10_an_usher_whose_calls_fail_leads_nowhere() {
    needs!(root, ebpf, strace);
    let world = World::new();
    let path = world.folder().join("tmp/daemon.sock");
    for (call, error) in CALLS {
        let script = "$0 unix daemon.sock; $0 unix daemon.sock connect; $0 unix daemon.sock sendto";
        let session = waiting(&world, &[], script, true);
        let place = path.clone();
        let daemon = world.host().run(move || daemon(&place));
        let fault = Fault::of(of_boundary(&world, "boundary-usher"), call, error);
        let out = goes_on(&world, session);
        drop(fault);
        let is_refused = |found: &serde_json::Value| found["ok"] == false;
        out.expect(out.findings().iter().all(is_refused), &format!("refused without {call}"));
        // Where it cannot answer at all, the session ends with it.
        let is_over = out.status.and_then(|status| status.code()) == Some(125);
        out.expect(out.findings().len() == 3 || is_over, "every attempt is made, or it is over");
        out.expect(daemon.accept().is_err(), "nothing reaches it");
        fs::remove_file(&path).expect("it is there");
    }
}

/// A server, and two who connect to it: the first while its call is said to be over, the second then. It
/// says how many the server got.
const CALLERS: &str = "
import os, socket, sys, threading
gate = os.open('gate', os.O_RDWR)
if sys.argv[1] == 'tcp':
    server = socket.create_server(('127.0.0.1', 7171)); place = ('127.0.0.1', 7171)
else:
    server = socket.socket(socket.AF_UNIX); place = 'own'; server.bind(place); server.listen()
one, two = [socket.socket(server.family) for _ in range(2)]
one.setblocking(False)
server.setblocking(False)
print('made', flush=True)
os.read(gate, 1)
threading.Thread(target=one.connect_ex, args=(place,), daemon=True).start()
os.read(gate, 1)
two.connect(place)
count = 0
try:
    while server.accept(): count += 1
except BlockingIOError: pass
print('accepted', count, flush=True)
os._exit(0)";

/// How often each thread of a process has waited.
fn waits(process: Pid) -> BTreeMap<PathBuf, u64> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it is there").flatten();
    let waits = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((task, line.trim().parse().ok()?))
    };
    tasks.filter_map(|task| waits(task.path())).collect()
}

/// Whoever asked may have ended while the usher read whose call it is, and its number be another's: what
/// was read counts only if the call still waits. The kernel is made to say that it does not.
#[test]
fn a18_a_caller_that_is_gone_when_it_is_known_is_led_nowhere() {
    needs!(root, bpf, python3, strace);
    let world = World::new();
    let callers = world.file("callers.py", CALLERS);
    let is_landjail = jail() == "landjail";
    // In landjail one thread receives, and looks when it has read the address, and then once more;
    // elsewhere it is the first call of a thread of its own, and the one that receives tries again.
    let (kinds, when, times) =
        if is_landjail { (&["unix", "tcp"][..], "3", 1) } else { (&["unix"][..], "1", 2) };
    for kind in kinds {
        fs::remove_file(world.folder().join("tmp/own")).unwrap_or_default();
        let script = format!("exec /usr/bin/python3 {} {kind}", callers.display());
        let session = waiting(&world, &[], &script, false);
        let gate = gate(&world);
        fs::write(&gate, "go\n").expect("it waits there");
        session.wait_for("made");
        let usher = of_boundary(&world, "boundary-usher");
        let calls = world.folder().join(format!("calls-{kind}"));
        let error = format!("ENOENT:when={when}");
        let before = waits(usher);
        let fault = Fault::noted((usher, &calls), "ioctl", &error);
        // Only a call that begins from now on is counted: each thread was stopped in one, and again when
        // it began anew, and waits in it.
        eventually("every call is seen", || {
            let now = waits(usher);
            before.iter().all(|(task, count)| now.get(task).is_none_or(|it| *it >= count + 3))
        });
        fs::write(&gate, "1").expect("it waits there");
        let injected = || {
            let calls = fs::read_to_string(&calls).unwrap_or_default();
            calls.matches("(INJECTED)").count()
        };
        eventually("it is told that nobody waits", || injected() == times);
        drop(fault);
        fs::write(&gate, "2").expect("it waits there");
        session.finish().exits(0).says("accepted 1\n");
    }
}
