//! One run from its start to the last trace of it: exit codes, signals, what is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};

use crate::world::jail;
use crate::world::needs::{cgroup2, needs};
use crate::world::processes::{Process, eventually};
use crate::world::{GUEST, World};

#[test]
fn the_exit_status_is_the_commands_own() {
    needs!(root, bpf);
    let world = World::new();
    for code in [0, 1, 7, 42, 255] {
        world.boundary(&[], &["sh", "-c", &format!("exit {code}")]).output().exits(code);
    }
}

#[test]
fn a_command_that_a_signal_ended_is_128_and_the_signal() {
    needs!(root, bpf);
    let world = World::new();
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("INT", 130), ("SEGV", 139), ("40", 168)] {
        let script = format!("kill -{signal} $$");
        world.boundary(&[], &["sh", "-c", &script]).output().exits(code);
    }
}

#[test]
fn what_a_real_time_signal_ends_beside_the_command_is_no_concern_of_the_session() {
    needs!(root, bpf);
    let world = World::new();
    // The orphan is collected by whoever is above the command.
    let script = "(sh -c 'sleep 0.2; kill -40 $$' &); sleep 1; echo on";
    let out = world.boundary(&[], &["sh", "-c", script]).output();
    out.exits(0).expect(out.stdout == "on\n", "the command goes on");
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_run_is_126() {
    needs!(root, bpf);
    let world = World::new();
    let out = world.boundary(&[], &["no-such-command"]).output();
    out.exits(127).complains("no-such-command");
    let plain = world.file("plain", "not a program\n");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("it is ours");
    world.boundary(&[], &[plain.to_str().expect("our own name")]).output().exits(126);
}

#[test]
fn stdin_stdout_and_stderr_are_the_commands() {
    needs!(root, bpf);
    let world = World::new();
    let script = "cat; echo to stderr >&2";
    let out = world.boundary(&["--allow", "domain=a.test"], &["sh", "-c", script]);
    let out = out.input("through stdin\n").output();
    out.exits(0).complains("to stderr");
    out.expect(out.stdout == "through stdin\n", "stdout is nothing but the command's");
}

#[test]
fn stderr_is_silent_when_there_is_nothing_to_say() {
    needs!(root, bpf);
    let world = World::new();
    let out = world.boundary(&["--allow", "domain=a.test"], &["true"]).output();
    out.exits(0).expect(out.stderr.is_empty(), "not a word");
}

#[test]
fn the_working_directory_and_the_environment_are_the_callers() {
    needs!(root, bpf);
    let world = World::new();
    let script = "pwd; echo $OF_THE_CALLER";
    let run = world.boundary(&[], &["sh", "-c", script]).env("OF_THE_CALLER", "kept");
    let folder = world.folder().to_str().expect("our own name");
    run.output().exits(0).says(folder).says("kept");
}

#[test]
fn signals_to_boundary_reach_the_command_once() {
    needs!(root, bpf);
    let world = World::new();
    for (signal, name) in [
        (Signal::SIGINT, "INT"),
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
    ] {
        let session = world.boundary(&[], &[world.attack(), "signals", "2"]).start();
        session.wait_for("ready");
        session.signal(signal);
        session.wait_for(&format!("signal {name}"));
        // The command chose to go on; the second one is another kind, so that none merge.
        let other = if signal == Signal::SIGINT { Signal::SIGTERM } else { Signal::SIGINT };
        session.signal(other);
        let out = session.finish();
        out.exits(0);
        let seen = out.stdout.lines().filter(|line| line.starts_with("signal")).count();
        out.expect(seen == 2, "each signal came once");
    }
}

#[test]
fn a_signal_that_ends_the_command_ends_boundary_with_its_status() {
    needs!(root, bpf);
    let world = World::new();
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
    ] {
        // The shell's trap would run after the sleep: exec makes the sleep the command.
        let session = world.boundary(&[], &["sh", "-c", "echo ready; exec sleep 1000"]).start();
        session.wait_for("ready");
        world.process("sleep");
        session.signal(signal);
        session.finish().exits(code);
    }
}

#[test]
fn stop_and_continue_reach_the_command() {
    needs!(root, bpf, machine);
    let world = World::new();
    let session = world.boundary(&[], &["sh", "-c", "echo ready; exec sleep 1000"]).start();
    session.wait_for("ready");
    world.process("sleep");
    session.signal(Signal::SIGTSTP);
    eventually("the command is stopped", || world.process("sleep").state == 'T');
    // As a shell does, which lets go on what it has seen stop.
    let own = |it: &Process| it.pid == session.pid() && it.state == 'T';
    eventually("and boundary with it", || world.processes().iter().any(own));
    session.signal(Signal::SIGCONT);
    eventually("the command goes on", || world.process("sleep").state == 'S');
    session.signal(Signal::SIGTERM);
    session.finish().exits(143);
}

#[test]
fn a_session_that_was_stopped_as_a_whole_goes_on_as_a_whole() {
    needs!(root, bpf);
    let world = World::new();
    let session = world.boundary(&[], &["sh", "-c", "echo ready; exec sleep 1000"]).start();
    session.wait_for("ready");
    world.process("sleep");
    // As when a machine is suspended: nobody sees to it that they go on in order.
    for _ in 0..20 {
        let all: Vec<_> = world.processes().iter().map(|it| it.pid).collect();
        for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
            for pid in &all {
                // One that has ended meanwhile is no concern here.
                kill(*pid, signal).unwrap_or_default();
            }
        }
        let goes_on = |it: &Process| it.state != 'T';
        eventually("all go on", || world.processes().iter().all(goes_on));
    }
    session.signal(Signal::SIGTERM);
    session.finish().exits(143);
}

#[test]
fn a_daemon_that_the_command_leaves_ends_with_it() {
    needs!(root, bpf, setsid);
    let world = World::new();
    let script = "setsid -f sleep 1000 >/dev/null 2>&1 </dev/null; exit 3";
    world.boundary(&[], &["sh", "-c", script]).output().exits(3);
    eventually("nothing runs any more", || world.processes().is_empty());
}

#[test]
fn what_names_itself_with_any_bytes_ends_with_the_command() {
    /// A daemon whose name is no text, and what it has started.
    const ODD: &str = "
import ctypes, os, time
def leave(name):
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
if os.fork():
    time.sleep(1)
    os._exit(3)
os.setsid()
leave(b'\\xff\\xfeodd')
child = os.fork()
if not child: leave(b'child')
for fd in (0, 1, 2): os.close(fd)
time.sleep(1000)
";
    needs!(root, bpf, python3);
    let world = World::new();
    world.boundary(&[], &["python3", "-c", ODD]).output().exits(3);
    eventually("nothing runs any more", || world.processes().is_empty());
}

#[test]
fn what_has_lost_its_first_thread_ends_with_the_command() {
    /// A daemon whose first thread ends, and what it has started. Both hold a lock.
    const HEADLESS: &str = "
import ctypes, fcntl, os, sys, threading, time
held = open(sys.argv[1])
fcntl.flock(held, fcntl.LOCK_EX)
started, told = os.pipe()
if os.fork():
    os.read(started, 1)
    os._exit(3)
os.setsid()
def go_on():
    while open('/proc/self/stat').read().rsplit(') ')[1][0] != 'Z': time.sleep(0.01)
    if not os.fork(): time.sleep(1000)
    os.write(told, b'.')
    for fd in (0, 1, 2, told): os.close(fd)
    time.sleep(1000)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)
";
    needs!(root, bpf, python3);
    let world = World::new();
    let held = world.file("held", "");
    let shown = held.to_str().expect("our own name");
    world.boundary(&[], &["python3", "-c", HEADLESS, shown]).output().exits(3);
    is_let_go(&held);
}

#[test]
fn what_starts_another_and_ends_at_once_again_and_again_ends_with_the_command() {
    needs!(root, bpf);
    let world = World::new();
    let held = world.file("held", "");
    let shown = held.to_str().expect("our own name");
    for _ in 0..3 {
        world.boundary(&[], &[world.attack(), "comet", shown]).output().exits(0);
        is_let_go(&held);
    }
}

#[test]
fn what_hides_from_the_processes_of_its_user_ends_with_the_command() {
    /// A daemon that nobody without a right may look at, where the machine hides such.
    const HIDDEN: &str = "
import ctypes, fcntl, os, sys, time
held = open(sys.argv[1])
fcntl.flock(held, fcntl.LOCK_EX)
ready, told = os.pipe()
if os.fork():
    os.read(ready, 1)
    os._exit(3)
os.setsid()
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
if not os.fork(): time.sleep(1000)
os.write(told, b'.')
for fd in (0, 1, 2, ready, told): os.close(fd)
time.sleep(1000)
";
    needs!(root, privilege, landlock, python3, setpriv);
    let id = GUEST.to_string();
    let guest = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    for hidden in ["hidepid=1", "hidepid=2"] {
        let world = World::new();
        world.host().run(move || {
            let kind = Some("proc");
            mount(kind, "/proc", kind, MsFlags::empty(), Some(hidden)).expect("a mount");
        });
        let held = world.file("held", "");
        let shown = held.to_str().expect("our own name");
        let command = ["python3", "-c", HIDDEN, shown];
        let run = world.boundary(&["--jail-type", "landjail"], &command).under(&guest);
        run.output().exits(3);
        is_let_go(&held);
    }
}

/// Waits until nobody holds the lock of a file: whoever did has ended, seen or not.
fn is_let_go(file: &Path) {
    let file = fs::File::open(file).expect("ours");
    eventually("nobody holds the lock any more", || file.try_lock().is_ok());
}

/// Checks that a session may go to one host and not to another.
fn is_bound_to(world: &World, mine: &str, theirs: &str) {
    let rule = format!("domain={mine}");
    let (mine, theirs) = (format!("http://{mine}/"), format!("http://{theirs}/"));
    let curl = ["curl", "-sS", mine.as_str(), theirs.as_str()];
    let out = world.boundary(&["--allow", &rule], &curl).output();
    out.exits(0).says("this is").says("Request Blocked by Boundary");
}

#[test]
fn two_sessions_at_once_have_each_their_policy() {
    needs!(root, bpf, curl);
    let world = World::new();
    std::thread::scope(|scope| {
        for (mine, theirs) in [("allowed.test", "four.test"), ("four.test", "allowed.test")] {
            let world = &world;
            scope.spawn(move || (0..5).for_each(|_| is_bound_to(world, mine, theirs)));
        }
    });
}

#[test]
fn twenty_sessions_at_once_do_not_meet() {
    needs!(root, bpf, curl);
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| is_bound_to(&world, "allowed.test", "four.test"));
            scope.spawn(|| is_bound_to(&world, "four.test", "allowed.test"));
        }
    });
}

/// Everything that a run could leave on the machine, outside the world's own folder.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// The session's cgroup, by its name.
    cgroups: Vec<String>,
    /// Whatever stands in the host's `/run` and its temporary folder, and the run's own elsewhere.
    files: BTreeSet<String>,
    /// The host's mounts.
    mounts: String,
    /// The host's processes.
    processes: Vec<String>,
}

impl Traces {
    /// What is there now of a session.
    fn of(world: &World, session: &str) -> Self {
        let list = |folder: &str| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
        };
        let cgroups = list(&cgroup2().unwrap_or_default());
        let shared = ["/tmp", "/var/tmp", "/dev/shm", "/sys/fs/bpf"];
        let shared =
            shared.iter().flat_map(|folder| list(folder)).filter(|path| path.contains(session));
        let temporary = list(&world.folder().join("tmp").display().to_string());
        Self {
            cgroups: cgroups.into_iter().filter(|path| path.contains(session)).collect(),
            files: world
                .host()
                .run(move || list("/run"))
                .into_iter()
                .chain(temporary)
                .chain(shared)
                .collect(),
            mounts: mounts(world),
            processes: world.processes().iter().map(|it| it.exe.display().to_string()).collect(),
        }
    }

    /// Nothing but the mounts that were there before.
    fn none(mounts: String) -> Self {
        Self { cgroups: Vec::new(), files: BTreeSet::new(), mounts, processes: Vec::new() }
    }
}

/// The name of the one session that runs in the world, as its files and its cgroup have it.
fn session_id(world: &World) -> String {
    let run = world.host().run(|| fs::read_dir("/run").expect("the host has one").flatten().next());
    let name = run.expect("a session has files").file_name();
    name.to_str().and_then(|name| name.strip_prefix("boundary-")).expect("its name").to_owned()
}

/// The host's mounts.
fn mounts(world: &World) -> String {
    let thread = world.host().netns().trim_end_matches("/ns/net");
    fs::read_to_string(format!("{thread}/mountinfo")).expect("the host is there")
}

/// Runs a command that waits, ends the run in some way, and looks for traces.
fn leaves_nothing(end: impl Fn(&World, nix::unistd::Pid)) {
    let world = World::new();
    let (known, none) = (programs(&world), Traces::none(mounts(&world)));
    let session = world.boundary(&[], &[world.attack(), "signals", "1"]).start();
    let keeper = session.pid();
    session.wait_for("ready");
    let id = session_id(&world);
    let before = Traces::of(&world, &id);
    assert!(
        jail() != "ebpf" || !before.cgroups.is_empty(),
        "the test looks in the right place: {before:?}"
    );
    let loaded: BTreeSet<u64> = programs(&world).difference(&known).copied().collect();
    assert!(jail() != "ebpf" || !loaded.is_empty(), "the test sees programs come");
    end(&world, keeper);
    let out = session.finish();
    let is_clean = || Traces::of(&world, &id) == none;
    let started = std::time::Instant::now();
    while !is_clean() && started.elapsed() < std::time::Duration::from_mins(1) {
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    out.expect(is_clean(), &format!("nothing is left: {:?}", Traces::of(&world, &id)));
    // Those that another test's session loaded meanwhile go with that one.
    eventually("its programs are gone", || programs(&world).is_disjoint(&loaded));
    out.nothing_left();
}

/// The numbers of all BPF programs that the kernel holds.
fn programs(world: &World) -> BTreeSet<u64> {
    let out = world.bare(&[world.attack(), "programs"]).output();
    out.succeeded();
    let found = out.finding()["found"].as_array().cloned().unwrap_or_default();
    found.iter().filter_map(serde_json::Value::as_u64).collect()
}

#[test]
fn a_normal_end_leaves_nothing_behind() {
    needs!(root, bpf, privilege);
    leaves_nothing(|world, _| {
        let attack = world.process("attack");
        kill(attack.pid, Signal::SIGUSR1).expect("it is there");
    });
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    needs!(root, bpf, privilege);
    leaves_nothing(|_, keeper| kill(keeper, Signal::SIGINT).expect("it is there"));
}

#[test]
fn killing_the_keeper_ends_the_command_and_leaves_nothing_behind() {
    needs!(root, bpf, privilege);
    leaves_nothing(|_, keeper| kill(keeper, Signal::SIGKILL).expect("it is there"));
}

#[test]
fn killing_any_other_process_of_boundary_ends_the_command_and_leaves_nothing_behind() {
    needs!(root, bpf, privilege);
    let others = |world: &World, keeper| {
        let mut all = world.processes();
        all.retain(|process| process.is_boundary() && process.pid != keeper);
        all.sort_by_key(|process| process.pid);
        all
    };
    for place in 0..4 {
        leaves_nothing(|world, keeper| {
            let others = others(world, keeper);
            assert!(!others.is_empty(), "the proxy is a process of its own");
            let victim = others.get(place).unwrap_or(&others[0]);
            kill(victim.pid, Signal::SIGKILL).expect("it is there");
        });
    }
}
