//! B-8, A-30: fifty sessions at once, each with its own policy. No verdict crosses; and when all of
//! boundary is killed, the machine is as it was.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::traces::{Ground, Kernel};
use crate::world::jail;
use crate::world::needs::needs;
use crate::world::processes::{Process, eventually};
use crate::world::{Session, World};

/// How many sessions.
const CROWD: usize = 50;

/// What a session may take of the machine's memory, shared pages by their share, in KiB. A build
/// without optimisation takes more than one that is used.
const MEMORY: u64 = 16 * 1024;

/// How long what is left may take to go.
const PATIENCE: Duration = Duration::from_mins(1);

/// The port that a session may use; its neighbours may use another one.
fn port(number: usize) -> u16 {
    if number.is_multiple_of(2) { 80 } else { 8080 }
}

/// The place that a session may ask, and nobody else.
fn own(number: usize) -> String {
    format!("http://s{number}.test:{}/", port(number))
}

/// Starts the sessions. Each asks for everybody's place and for its own at another port when it is
/// told to, says what became of it, and waits.
fn crowd(world: &World) -> Vec<Session<'_>> {
    for number in 0..CROWD {
        let addresses = [format!("198.51.100.{number}"), format!("2001:db8:51::{number:x}")];
        world.name(&format!("s{number}.test"), &[&addresses[0], &addresses[1]]);
    }
    let everybody: Vec<String> = (0..CROWD).map(own).collect();
    let begin = |number: usize| {
        let rule = format!("domain=s{number}.test port={}", port(number));
        let script = format!(
            "$0 signals 1 >/dev/null; curl -s -o /dev/null -w '%{{url}} %{{http_code}}\\n' {} \
             http://s{number}.test:{}/; echo asked; $0 signals 1",
            everybody.join(" "),
            port(number + 1),
        );
        world.boundary(&["--allow", &rule], &["sh", "-c", &script, world.attack()]).start()
    };
    let sessions = (0..CROWD).map(begin).collect();
    // Each has its own command then, which waits.
    eventually("all of them run", || commands(world).len() == CROWD);
    sessions
}

/// The commands that wait.
fn commands(world: &World) -> Vec<nix::unistd::Pid> {
    let all = world.processes().into_iter().filter(|it| it.exe.ends_with("attack"));
    all.filter(|it| it.state == 'S').map(|it| it.pid).collect()
}

/// What `ip` tells of the host: interfaces, addresses, routes, rules and namespaces.
fn network(world: &World) -> String {
    world.host().run(|| {
        let mut told = String::new();
        for words in ["link", "address", "route", "-6 route", "rule", "-6 rule", "netns"] {
            let done = Command::new("ip").args(words.split(' ')).output().expect("ip starts");
            told.push_str(&String::from_utf8_lossy(&done.stdout));
        }
        told
    })
}

/// The memory of boundary's own processes, in KiB, each page by its share.
fn memory(world: &World) -> u64 {
    let share = |process: Process| {
        let told = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).ok()?;
        let line = told.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    world.processes().into_iter().filter(Process::is_boundary).filter_map(share).sum()
}

/// The sessions' processes of boundary that a test kills: all, or the keepers alone.
fn kill_all(world: &World, sessions: &[Session<'_>], keepers_alone: bool) {
    let keepers: BTreeSet<_> = sessions.iter().map(Session::pid).collect();
    let victims = world.processes().into_iter().filter(Process::is_boundary);
    let victims: Vec<_> =
        victims.map(|it| it.pid).filter(|pid| !keepers_alone || keepers.contains(pid)).collect();
    assert!(victims.len() >= if keepers_alone { CROWD } else { 3 * CROWD }, "{}", victims.len());
    // What another one's end has ended meanwhile is as dead.
    for pid in victims {
        kill(pid, Signal::SIGKILL).unwrap_or_default();
    }
}

#[test]
fn b08_a30_no_verdict_crosses_between_fifty_sessions_and_killed_keepers_leave_nothing() {
    needs!(root, machine, bpf, curl);
    let world = World::new();
    let ground = Ground::below(&world);
    let (kernel, before) = (Kernel::now(), network(&world));
    let since = Instant::now();
    let sessions = crowd(&world);
    let (started, memory) = (since.elapsed(), memory(&world));
    let cgroups = if jail() == "ebpf" { CROWD } else { 0 };
    assert_eq!(ground.cgroups().len(), cgroups, "each has a cgroup of its own");
    assert!(memory < MEMORY * CROWD as u64, "{memory} KiB");
    drop((world.packets(), world.requests()));
    for pid in commands(&world) {
        kill(pid, Signal::SIGUSR1).expect("it is there");
    }
    for session in &sessions {
        session.wait_for("asked");
    }
    println!("{CROWD} sessions: {started:?} to start, {:?} in all, {memory} KiB", since.elapsed());
    // At the origins: each place was asked once, by whom nobody can tell, which the records do.
    let asked: Vec<_> =
        world.requests().iter().filter_map(|it| it.header("host").map(str::to_owned)).collect();
    let places: BTreeSet<_> = asked.iter().cloned().collect();
    assert_eq!((asked.len(), places.len()), (CROWD, CROWD), "one request each: {asked:?}");
    kill_all(&world, &sessions, true);
    for (number, session) in sessions.into_iter().enumerate() {
        let out = session.finish();
        // Beside what curl says there are the denials, which number how they may be permitted.
        let said: Vec<&str> = out.stdout.lines().filter(|line| line.starts_with("http")).collect();
        let granted: Vec<&str> = said.iter().filter_map(|line| line.strip_suffix(" 200")).collect();
        out.expect(granted == [own(number)], "its own place, and no other");
        let denied = said.iter().filter(|line| line.ends_with(" 403")).count();
        out.expect(denied == CROWD, "everybody else's, and its own at another port, are denied");
        let hosts: BTreeSet<String> = out
            .records
            .iter()
            .filter(|record| record["decision"] == "allow" && record["http_method"] == "GET")
            .map(|record| record["host"].to_string())
            .collect();
        out.expect(hosts == BTreeSet::from([format!("\"s{number}.test\"")]), "on record too");
    }
    let last = world.bare(&["true"]).output();
    ground.is_bare(&last, PATIENCE);
    assert_eq!(network(&world), before, "the network is as it was");
    kernel.is_back();
}

#[test]
fn b08_fifty_sessions_that_are_killed_whole_are_gone_with_the_next_start() {
    needs!(root, bpf, curl);
    let world = World::new();
    let ground = Ground::below(&world);
    let (kernel, before) = (Kernel::now(), network(&world));
    let sessions = crowd(&world);
    kill_all(&world, &sessions, false);
    if jail() == "landjail" {
        // Nobody is left who knows what descends from whom: the command is killed, and what it has
        // started runs on, cut off. It ends when it is told to.
        let is_started = |it: &Process| it.exe.ends_with("attack");
        eventually("the commands are killed", || world.processes().iter().all(&is_started));
        eventually("what they started ends", || {
            // Told again where it was not waiting for that yet.
            let left = world.processes().into_iter().filter(is_started);
            left.map(|it| kill(it.pid, Signal::SIGUSR1).unwrap_or_default()).count() == 0
        });
    }
    let outs: Vec<_> = sessions.into_iter().map(Session::finish).collect();
    for out in &outs {
        out.exits(137).nothing_left();
    }
    assert!(ground.is_lifeless(PATIENCE), "nothing runs: {:?}", world.processes());
    assert_eq!(network(&world), before, "the network is as it was");
    // What could not be cleared up for want of anybody goes now.
    let out = world.boundary(&[], &["true"]).output();
    out.exits(0);
    ground.is_bare(&out, PATIENCE);
    kernel.is_back();
}

/// A session that dies somewhere on its way, each somewhere else.
fn dies(world: &World, number: usize) {
    let victim = ["keeper", "all", "proxy", "init"][number % 4];
    let stop = (20 + number * 20).to_string();
    let hand = [env!("CARGO_BIN_EXE_hand"), "kill", victim, &stop, "--"];
    let attempt = [world.attack(), "tcp", "203.0.113.66", "80", "http:denied.test"];
    world.boundary(&super::ALLOW, &attempt).under(&hand).output().nothing_left();
}

#[test]
fn b08_sessions_that_start_and_die_in_parallel_do_not_meet() {
    needs!(root, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let kernel = Kernel::now();
    std::thread::scope(|scope| {
        for place in 0..10 {
            let world = &world;
            scope.spawn(move || (0..4).for_each(|round| dies(world, place + 10 * round)));
        }
    });
    let attempt = [world.attack(), "tcp", "203.0.113.10", "80", "http:allowed.test"];
    let out = world.boundary(&super::ALLOW, &attempt).output();
    out.exits(0).says("this is");
    ground.is_bare(&out, PATIENCE);
    kernel.is_back();
}
