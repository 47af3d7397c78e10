//! Unix sockets: those of the session work as ever, those of anybody else are out of reach,
//! whenever and wherever they were bound.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{ALLOW, REFUSALS};
use crate::world::container::Container;
use crate::world::needs::needs;
use crate::world::{Output, World, jail};

/// How a datagram is sent.
const WAYS: [&str; 4] = ["sendto", "sendmsg", "sendmmsg", "connect"];

/// A daemon of the host, which takes connections and datagrams.
struct Daemon {
    stream: UnixListener,
    datagrams: UnixDatagram,
    path: PathBuf,
}

impl Daemon {
    /// Binds it at a path, open to everybody.
    fn bind(path: &Path) -> Self {
        let mailbox = path.with_extension("mail");
        let daemon = Self {
            stream: UnixListener::bind(path).expect("the place is free"),
            datagrams: UnixDatagram::bind(&mailbox).expect("the place is free"),
            path: path.to_owned(),
        };
        for path in [path, &mailbox] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        }
        daemon.stream.set_nonblocking(true).expect("it does not wait");
        daemon.datagrams.set_nonblocking(true).expect("it does not wait");
        daemon
    }

    /// Whether anything has reached it since it was asked last.
    fn was_reached(&self) -> bool {
        self.stream.accept().is_ok() | self.datagrams.recv(&mut [0; 64]).is_ok()
    }

    /// The attacks on it, as a script.
    fn attacks(&self, attack: &str) -> String {
        let (path, mailbox) = (self.path.display(), self.path.with_extension("mail"));
        let datagrams = WAYS.map(|way| format!("{attack} unix {} {way}", mailbox.display()));
        format!("{attack} unix {path}\n{}", datagrams.join("\n"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
        drop(fs::remove_file(self.path.with_extension("mail")));
    }
}

/// Runs a script that says that it is ready and waits at `tmp/gate`, has a daemon of the host bind at a name
/// in `tmp` then, not before the start, or it would be covered, and lets the script go on to its end.
fn with_a_late_daemon(
    world: &World,
    options: &[&str],
    script: &str,
    name: &str,
) -> (Output, Daemon) {
    with_a_late_daemon_as(false, world, options, (script, name))
}

/// The same, as a user who has started boundary by sudo, or as root.
fn with_a_late_daemon_as(
    guest: bool,
    world: &World,
    options: &[&str],
    (script, name): (&str, &str),
) -> (Output, Daemon) {
    let project = world.folder().join("tmp");
    let gate = project.join("gate");
    if !gate.exists() {
        mkfifo(&gate, Mode::from_bits_truncate(0o666)).expect("the folder is ours");
    }
    let run = world.boundary(options, &["sh", "-c", script]);
    let session = if guest { run.through_sudo().start() } else { run.start() };
    session.wait_for("ready");
    let place = project.join(name);
    let daemon = world.host().run(move || Daemon::bind(&place));
    fs::write(gate, "go\n").expect("it waits there");
    (session.finish(), daemon)
}

#[test]
fn a18_a19_a_daemon_that_binds_after_the_start_is_out_of_reach_wherever_it_is() {
    needs!(root, bpf);
    let world = World::new();
    let project = world.folder().join("tmp");
    for guest in [false, true] {
        let gate = project.join(format!("gate-{guest}"));
        mkfifo(&gate, Mode::from_bits_truncate(0o666)).expect("the folder is ours");
        let home = world.folder().join(if guest { "home" } else { "root" });
        let name = format!("late-{guest}");
        let (runtime, temporary) = (Path::new("/run").join(&name), std::env::temp_dir());
        let temporary = temporary.join(format!("{name}-{}", std::process::id()));
        let script = format!("echo ready; read go < {}; . {}", gate.display(), "tmp/attacks");
        let run = world.boundary(&ALLOW, &["sh", "-c", &script]);
        let session = if guest { run.through_sudo().start() } else { run.start() };
        session.wait_for("ready");

        let mut bound = vec![project.join(&name), home.join(&name)];
        if Container::of_runs().is_none() {
            // A container has its own.
            bound.extend([runtime, temporary]);
        }
        let mut daemons: Vec<Daemon> =
            bound.into_iter().map(|path| world.host().run(move || Daemon::bind(&path))).collect();
        let elsewhere = project.join("elsewhere");
        daemons.push(world.internet().run(move || Daemon::bind(&elsewhere)));
        let attacks: Vec<String> =
            daemons.iter().map(|daemon| daemon.attacks(world.attack())).collect();
        world.file("tmp/attacks", &attacks.join("\n"));
        fs::write(&gate, "go\n").expect("it waits there");

        let out = session.finish();
        assert_eq!(out.findings().len(), 5 * daemons.len(), "five ways to each place\n{out}");
        for finding in out.findings() {
            let refused = REFUSALS.iter().any(|errno| finding["errno"] == **errno);
            out.expect(finding["ok"] == false && refused, &format!("refused: {finding}"));
        }
        for daemon in &daemons {
            let path = daemon.path.display().to_string();
            out.expect(!daemon.was_reached(), &format!("nothing reaches {path}"));
            out.record(&[("code", "unix_socket"), ("proto", "unix"), ("address", &path)]);
        }
        // Without boundary all of that arrives.
        for daemon in &daemons {
            world.bare(&["sh", "-c", &daemon.attacks(world.attack())]).output();
            assert!(daemon.was_reached(), "{} takes what comes", daemon.path.display());
        }
    }
}

#[test]
fn a18_no_spelling_and_no_link_leads_to_a_socket_of_the_host() {
    needs!(root, bpf, privilege);
    let world = World::new();
    let project = world.folder().join("tmp");
    fs::create_dir(project.join("deep")).expect("the folder is ours");
    fs::set_permissions(project.join("deep"), fs::Permissions::from_mode(0o777)).expect("ours");
    let script = format!(
        "cd {}; echo ready; read go < gate; ln -s deep/daemon link; ln deep/daemon hard; \
         ln -s deep folder; mv deep/daemon deep/moved; \
         for name in link deep/moved hard folder/moved ./deep/../deep/moved /proc/self/cwd/hard \
         /proc/self/root{}/hard; do {} unix $name; done",
        project.display(),
        project.display(),
        world.attack()
    );
    let (out, daemon) = with_a_late_daemon(&world, &ALLOW, &script, "deep/daemon");
    assert_eq!(out.findings().len(), 7, "{out}");
    out.expect(!daemon.was_reached(), "nothing reaches it");
    // The first is a link that leads nowhere since the socket was moved.
    let refused = out.findings().iter().filter(|found| found["errno"] == "EPERM").count();
    out.expect(refused == 6, "each other one is refused");
}

#[test]
fn a18_a22_a_name_that_changes_meanwhile_leads_to_no_socket_of_the_host() {
    needs!(root, bpf);
    let world = World::new();
    let rounds = if super::is_long() { "1000000" } else { "3000" };
    for how in ["flip", "exchange"] {
        let script = format!(
            "cd tmp; echo ready; read go < gate; exec {} race-unix {how} own foreign {rounds}",
            world.attack()
        );
        let (out, daemon) = with_a_late_daemon(&world, &ALLOW, &script, "foreign");
        let found = out.finding()["found"].clone();
        let count = |name: &str| found[name].as_u64().unwrap_or_default();
        out.expect(count("rounds") > 100 && count("went") > 0, "some lead to its own socket");
        out.expect(count("went") < count("rounds"), "and some would have led elsewhere");
        out.expect(!daemon.was_reached(), "but nothing gets there");
        drop(fs::remove_file(world.folder().join("tmp/own")));
        drop(fs::remove_file(world.folder().join("tmp/foreign")));
    }
}

#[test]
fn a18_a22_a_family_that_changes_meanwhile_leads_to_no_socket_of_the_host() {
    needs!(root, bpf);
    match jail().as_str() {
        // No connection goes on in the kernel there.
        "landjail" => {}
        "nsjail" if crate::kernel::waits_killable() => {}
        "ebpf" if crate::kernel::knows_unix_hooks() => {}
        // Elsewhere it is not claimed: docs/threat-model.md.
        _ => needs!(landlock_unix),
    }
    let world = World::new();
    let script = format!(
        "cd tmp; echo ready; read go < gate; exec {} race-unix family own foreign 30000",
        world.attack()
    );
    let (out, daemon) = with_a_late_daemon(&world, &ALLOW, &script, "foreign");
    let found = out.finding()["found"].clone();
    out.expect(found["rounds"].as_u64() > Some(100), "it tried");
    out.expect(found["went"] == 0, "none went");
    out.expect(!daemon.was_reached(), "nothing gets there");
}

#[test]
fn a18_a_listed_socket_is_open_and_no_other_in_its_place() {
    needs!(root, bpf);
    let world = World::new();
    let covered = PathBuf::from("/run/podman/podman.sock");
    let plain = world.folder().join("tmp/daemon.sock");
    let daemons = [covered.clone(), plain.clone()].map(|path| {
        world.host().run(move || {
            fs::create_dir_all(path.parent().expect("it has one")).expect("it is ours");
            Daemon::bind(&path)
        })
    });
    for path in [&covered, &plain] {
        let path = path.to_str().expect("our own name");
        let listed = ["--unix-socket", path];
        let out = world.boundary(&listed, &[world.attack(), "unix", path]).output();
        out.succeeded();
        let out = world.boundary(&listed, &[world.attack(), "unix", path]).through_sudo().output();
        out.succeeded();
    }
    assert!(daemons.iter().all(Daemon::was_reached));
    while daemons.iter().any(Daemon::was_reached) {}
    let plain = plain.to_str().expect("our own name");
    let attack = format!("{} unix {plain}", world.attack());
    let script =
        format!("cd tmp; echo ready; read go < gate; mv other.sock daemon.sock; exec {attack}");
    let (out, other) = with_a_late_daemon(&world, &["--unix-socket", plain], &script, "other.sock");
    out.refused(&["EPERM"]);
    assert!(!other.was_reached(), "a socket that was moved there is not the listed one");
}

/// Every kind of unix socket within one program and its child, by every kind of name.
const OWN: &str = r#"
import os, socket, sys
U, S, D, Q = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
os.makedirs("sub"); os.symlink("sub", "link")
def server(kind, name):
    s = socket.socket(U, kind); s.bind(name)
    if kind != D: s.listen()
    return s
def talk(kind, bound, named):
    s = server(kind, bound)
    if os.fork() == 0:
        c = socket.socket(U, kind)
        if named.startswith("to:"): c.sendto(b"hello", named[3:])
        else: c.connect(named); c.send(b"hello")
        os._exit(0)
    a = s if kind == D else s.accept()[0]
    got = a.recv(16)
    if kind != D:
        # The server learns whose client it is.
        uid = int.from_bytes(a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], "little")
        assert uid == os.getuid(), uid
    assert os.wait()[1] == 0 and got == b"hello", (bound, named)
    a.close(); s.close()
here = os.getcwd()
for kind in (S, D, Q):
    talk(kind, "a%d" % kind, "a%d" % kind)
    talk(kind, "b%d" % kind, here + "/b%d" % kind)
    talk(kind, here + "/sub/c%d" % kind, "link/c%d" % kind)
    talk(kind, "sub/d%d" % kind, "/proc/self/cwd/sub/d%d" % kind)
    talk(kind, "\0own%d" % kind + str(os.getpid()), "\0own%d" % kind + str(os.getpid()))
# The lengths of the addresses of IPv4 and IPv6.
for length in (13, 14, 25, 26):
    talk(S, "n" * length, "n" * length)
    talk(S, "\0" + str(os.getpid()).rjust(length - 1, "n"), "\0" + str(os.getpid()).rjust(length - 1, "n"))
talk(D, "e", "to:e"); talk(D, "f", "to:" + here + "/f")
# A socket that is bound under one name and moved to another.
s = server(S, "before"); os.rename("before", "after")
c = socket.socket(U, S); c.connect("after")
for name, error in (("nobody", FileNotFoundError), ("link", ConnectionRefusedError)):
    try: socket.socket(U, S).connect(name); sys.exit("connected to " + name)
    except error: pass
one, other = socket.socketpair(); one.send(b"x"); assert other.recv(1) == b"x"
print("all work")
"#;

#[test]
fn a18_unix_sockets_of_the_command_itself_work_by_any_name() {
    needs!(root, bpf, python3);
    let world = World::new();
    for guest in [false, true] {
        let script =
            format!("mkdir tmp/own-{guest} && cd tmp/own-{guest} && exec python3 -c '{OWN}'");
        // Datagram sockets are pretended in that jail, and lead nowhere.
        let script = match jail().as_str() {
            "landjail" => script
                .replace("for kind in (S, D, Q)", "for kind in (S, Q)")
                .replace("talk(D, \"e\", \"to:e\"); talk(D, \"f\", \"to:\" + here + \"/f\")\n", ""),
            _ => script,
        };
        let run = world.boundary(&ALLOW, &["sh", "-c", &script]);
        let out = if guest { run.through_sudo().output() } else { run.output() };
        out.exits(0).says("all work");
        let recorded = out.records.iter().any(|record| record["proto"] == "unix");
        out.expect(!recorded, "nothing was refused");
    }
}

/// Addresses messages to a socket of its own, with a file and its identity beside the content, and to one
/// of the host, also as the second of several, and where nobody but the kernel can read whom it names.
const MESSAGES: &str = include_str!("messages.py");

#[test]
fn a18_a19_messages_reach_a_socket_of_the_command_and_none_of_the_host() {
    needs!(root, bpf, python3);
    let world = World::new();
    world.file("tmp/messages.py", MESSAGES);
    for guest in [false, true] {
        let place = format!("tmp/messages-{guest}");
        let script = format!("mkdir {place} && cd {place} && exec python3 ../messages.py ../gate");
        let foreign = format!("messages-{guest}/foreign");
        let (out, daemon) = with_a_late_daemon_as(guest, &world, &ALLOW, (&script, &foreign));
        out.exits(0).says("pair: 1 b'x'").says("end");
        for way in ["foreign", "half an array", "secret name", "secret array", "secret connect"] {
            let refused = ["Operation not permitted", "Bad address", "no such memory here"];
            let said = |why: &&str| out.stdout.contains(&format!("{way}: {why}\n"));
            out.expect(refused.iter().any(said), &format!("{way} is refused"));
        }
        out.expect(!daemon.was_reached(), "nothing reaches it");
        match jail().as_str() {
            // A datagram socket leads nowhere there.
            "landjail" => continue,
            // The hook does not see whose a name is.
            "ebpf" if crate::kernel::knows_unix_hooks() => {
                out.says("letter: Operation not permitted");
                out.record(&[("code", "unix_socket"), ("proto", "unix")]);
            }
            _ => {
                out.says("letter: (10, b'one letter', b'through the file', True)")
                    .says("several: ((1, [4]), b'to 0')")
                    .says("hidden: ((1, [4]), b'to 0')");
                out.says("another process: Operation not permitted");
                if guest {
                    out.says("another user: Operation not permitted");
                }
                let address =
                    [("code", "unix_socket"), ("proto", "unix"), ("address", "foreign.mail")];
                out.record(&address);
            }
        }
        out.says("from: True").says("killed: ({b'x'}, 'nothing')");
    }
}

#[test]
fn a18_a_multiplexer_and_pipes_of_node_work_inside() {
    needs!(root, bpf, tmux, node);
    let world = World::new();
    let script = "cd tmp; export TMUX_TMPDIR=$PWD; tmux new-session -d -s one 'read x < gate'; \
        tmux list-sessions; tmux kill-server; \
        node -e 'const n = require(\"net\"); const s = n.createServer(c => c.end(\"piped\\n\")); \
        s.listen(\"pipe\", () => n.connect(\"pipe\").on(\"data\", d => { \
        process.stdout.write(d); s.close(); }))'";
    mkfifo(&world.folder().join("tmp/gate"), Mode::from_bits_truncate(0o666)).expect("ours");
    let out = world.boundary(&ALLOW, &["sh", "-c", script]).output();
    out.exits(0).says("one: 1 windows").says("piped");
}

/// Connects and makes sockets from a thread that is not the first, and from one whose descriptors are
/// others than the first's under the same numbers.
const THREADS: &str = r#"
import ctypes, queue, socket, threading
UNIX = socket.AF_UNIX
listener = socket.socket(UNIX); listener.bind("own"); listener.listen()
print("ready", flush=True); open("gate").read()
def to(place, by):
    try: by.connect(place)
    except OSError as error: return error.strerror
    return "done"
def calls():
    print("own:", to("own", socket.socket(UNIX)))
    print("foreign:", to("foreign", socket.socket(UNIX)))
    try: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    except OSError: print("no packets")
def alone():
    if ctypes.CDLL(None).unshare(0x400):  # CLONE_FILES
        print("not alone"); unshared.put(-1); return
    mine = socket.socket(UNIX)
    unshared.put(mine.fileno()); taken.get()
    print("alone:", to("foreign", mine))
    mine.detach()
def run(what):
    thread = threading.Thread(target=what); thread.start(); return thread
run(calls).join()
unshared, taken = queue.Queue(), queue.Queue()
thread = run(alone)
number, other = unshared.get(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("same number:", other.fileno() == number)
taken.put(0); thread.join()
"#;

#[test]
fn a18_b03_a_thread_that_is_not_the_first_is_judged_like_the_first() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = format!("cd tmp; exec python3 -c '{THREADS}'");
    let (out, daemon) = with_a_late_daemon(&world, &ALLOW, &script, "foreign");
    out.exits(0).says("own: done").says("no packets");
    // What a container's own filter refuses, nobody has to keep apart.
    let is_alone = Container::of_runs().is_none_or(|it| it.kind.may_unshare());
    out.says(if is_alone { "same number: True" } else { "not alone" });
    for who in ["foreign", "alone"] {
        out.expect(!out.stdout.contains(&format!("{who}: done")), &format!("{who} is refused"));
    }
    out.expect(!daemon.was_reached(), "nothing reaches it");
    out.record(&[("code", "unix_socket"), ("proto", "unix"), ("address", "foreign")]);
    out.record(&[("code", "socket_type"), ("proto", "packet")]);
}

#[test]
fn a11_b03_sockets_that_may_not_be_made_are_on_record() {
    needs!(root, bpf);
    let world = World::new();
    for (words, proto) in [
        (&["socket", "vsock", "stream", "0"][..], "vsock"),
        (&["socket", "packet", "raw", "0"], "packet"),
        (&["raw", "203.0.113.66"], "raw"),
        (&["raw", "2001:db8::66"], "raw"),
        (&["icmp", "203.0.113.66"], "icmp"),
    ] {
        // What a container's own filter refuses, boundary does not hear of.
        if proto == "vsock" && Container::of_runs().is_some_and(|it| it.kind.has_filter()) {
            continue;
        }
        for out in super::as_both(&world, words) {
            out.refused(REFUSALS).nothing_left();
            let record =
                out.record(&[("code", "socket_type"), ("proto", proto), ("door", "kernel")]);
            let has = |field: &str| record[field].as_u64().is_some_and(|number| number != 0);
            out.expect(has("pid"), "it says who");
            out.expect(has("cgroup") || jail() != "ebpf", "and in which cgroup");
            out.expect(record["comm"] == "attack", "by name");
        }
    }
}

#[test]
fn a07_pointing_a_datagram_socket_is_told_apart_from_sending() {
    needs!(root, bpf);
    let world = World::new();
    let out = super::attack(&world, &["udp", "connect", "203.0.113.66", "9999"]);
    out.refused(REFUSALS).nothing_left();
    if jail() == "nsjail" {
        // Pointing leads nowhere there; what it would send is refused.
        out.record(&[("code", "datagram"), ("address", "203.0.113.66"), ("port", "9999")]);
    } else {
        out.record(&[("code", "datagram_connect"), ("address", "203.0.113.66"), ("port", "9999")]);
        out.expect(!out.stderr.contains("datagram"), "people are not told of what sent nothing");
    }
    let out = super::attack(&world, &["udp", "sendto", "203.0.113.66", "9999"]);
    out.refused(REFUSALS).nothing_left();
    out.record(&[("code", "datagram"), ("address", "203.0.113.66"), ("port", "9999")]);
    out.complains("code=datagram");
}

/// Errors of the test's own making would look like refusals.
#[test]
fn a18_the_daemons_of_these_tests_take_what_comes() {
    let path = std::env::temp_dir().join(format!("daemon-{}", std::process::id()));
    let daemon = Daemon::bind(&path);
    assert!(!daemon.was_reached());
    drop(std::os::unix::net::UnixStream::connect(&path).expect("it listens"));
    assert!(daemon.was_reached());
    let kind = daemon.stream.accept().map_err(|error| error.kind()).err();
    assert_eq!(kind, Some(io::ErrorKind::WouldBlock));
}
