//! F-1, F-2, F-3: boundary without descriptors, without memory, with tables that are full or refuse
//! what is written. Connections wait or fail; none goes past the walls, and none is taken for
//! another.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use aya::maps::{Array, Map, MapData, MapInfo, MapType};
use boundary_common::flow::{Doors, Flow, FlowKey, Mark};
use boundary_common::maps;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stalled::{go_on, of_boundary, stop};
use super::traces::{Ground, held_by};
use super::{ALLOW, DENIED};
use crate::world::World;
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::stopwatch::{Mended, tell};

/// How long what is left may take to go.
const PATIENCE: Duration = Duration::from_mins(1);

/// Attempts of every kind.
const ATTEMPTS: &str = "$0 tcp 203.0.113.66 80 http:denied.test; $0 udp sendto 2001:db8::66 9999; \
                        $0 tcp 2001:db8::66 80 http:denied.test; $0 raw 203.0.113.66";

/// Bounds the descriptors of a process.
fn bound(process: Pid, descriptors: u64) {
    let pid = process.as_raw().to_string();
    let limit = format!("--nofile={descriptors}:4096");
    let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(done.is_ok_and(|status| status.success()), "root may");
}

/// The limit under which a process can open so many more.
fn with_spare(process: Pid, spare: usize) -> u64 {
    let open = fs::read_dir(format!("/proc/{process}/fd")).expect("it is there").flatten();
    let open: BTreeSet<u64> = open.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect();
    let free = (0..).filter(|number| !open.contains(number)).nth(spare);
    free.expect("numbers do not end")
}

/// How many connections wait at the doors.
fn waiting(world: &World) -> u64 {
    const LISTENS: &str = "0A";
    let tables = world.host().netns().trim_end_matches("/ns/net").to_owned() + "/net";
    let read = |name: &str| fs::read_to_string(format!("{tables}/{name}")).unwrap_or_default();
    let queue = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        let is_listener = fields.next() == Some(LISTENS);
        let (_, queue) = fields.next().filter(|_| is_listener)?.split_once(':')?;
        u64::from_str_radix(queue, 16).ok()
    };
    (read("tcp") + &read("tcp6")).lines().filter_map(queue).sum()
}

#[test]
fn f01_a_proxy_without_descriptors_lets_connections_wait_and_goes_on() {
    needs!(root, ebpf, prlimit, bounds);
    let world = World::new();
    let script = "$0 signals 1; for n in 1 2 3 4; do $0 tcp 203.0.113.10 80 read & done; \
                  $0 tcp 203.0.113.66 80 http:denied.test & \
                  $0 tcp 2001:db8::66 80 http:denied.test & \
                  $0 udp sendto 203.0.113.66 9999; \
                  $0 signals 1; $0 tcp 203.0.113.10 80 http:allowed.test";
    let session = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    let proxy = of_boundary(&world, "boundary-proxy");
    bound(proxy, with_spare(proxy, 1));
    go_on(&world);
    session.wait_for("EPERM");
    eventually("connections wait", || waiting(&world) > 2);
    // On a busy machine they may wait for the proxy to look at them at all.
    eventually("it has looked", || session.complained().contains("could not be accepted"));
    assert!(world.packets().is_empty(), "nobody goes past the doors");
    bound(proxy, 4096);
    let has_some = Mended::now();
    eventually("the doors are empty", || waiting(&world) == 0);
    session.wait_for("403");
    has_some.recovered();
    // Those that read are attacks too; the one that waits for a signal is the oldest left.
    let all = world.processes().into_iter().filter(|it| it.exe.ends_with("attack"));
    all.for_each(|it| kill(it.pid, Signal::SIGUSR1).expect("it is there"));
    let out = session.finish();
    out.complains("could not be accepted").says("this is");
    let denied = DENIED.map(|address| address.parse().ok());
    out.expect(!out.packets.iter().any(|it| denied.contains(&it.target)), "what is denied stays");
}

#[test]
fn f01_a_start_without_descriptors_ends_before_the_command() {
    needs!(root, bpf, prlimit);
    let world = World::new();
    let ground = Ground::below(&world);
    let mut failed = 0;
    for limit in 4..48 {
        let limit = format!("--nofile={limit}");
        let run = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]);
        let out = run.under(&["prlimit", &limit]).output();
        out.nothing_left();
        let findings = out.findings();
        failed += u32::from(findings.is_empty());
        out.expect(
            findings.is_empty() || findings.len() == 4,
            "it runs behind whole walls, or not at all",
        );
        ground.is_bare(&out, PATIENCE);
    }
    assert!((4..40).contains(&failed), "some are too few and some suffice: {failed} of 44");
}

#[test]
fn f02_a_flood_that_nobody_accepts_takes_no_other_for_its_own() {
    needs!(root, bpf);
    let world = World::new();
    // More than the table of flows holds.
    let script = "$0 signals 1; $0 flood 203.0.113.66 80 30000 nowait; \
                  $0 flood 2001:db8::66 80 30000 nowait; \
                  echo over; $0 signals 1; $0 tcp 203.0.113.66 80 http:denied.test; \
                  $0 tcp 203.0.113.10 80 http:allowed.test; \
                  $0 tcp 2001:db8::66 80 http:denied.test";
    let session = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    let proxy = of_boundary(&world, "boundary-proxy");
    stop(&world, proxy);
    go_on(&world);
    session.wait_for("over");
    kill(proxy, Signal::SIGCONT).expect("it is there");
    go_on(&world);
    let out = session.finish();
    let findings = out.findings();
    let tail = &findings[findings.len() - 3..];
    out.expect(tail[0].to_string().contains("403"), "what was denied is denied");
    out.expect(tail[1].to_string().contains("this is"), "what was allowed is served");
    out.expect(tail[2].to_string().contains("403"), "over both families");
    let denied = DENIED.map(|address| address.parse().ok());
    out.expect(!out.packets.iter().any(|it| denied.contains(&it.target)), "nothing is misdirected");
}

/// The maps of the programs that a process has loaded. Other sessions have others.
fn maps_of(keeper: Pid) -> Vec<MapInfo> {
    let maps = held_by(keeper).into_iter().filter(|(kind, _)| *kind == "map");
    maps.filter_map(|(_, map)| MapInfo::from_id(map).ok()).collect()
}

#[test]
fn f03_the_kernels_maps_have_the_layout_that_both_halves_mean() {
    needs!(root, ebpf);
    let world = World::new();
    let session = world.boundary(&ALLOW, &[world.attack(), "signals", "1"]).start();
    session.wait_for("ready");
    let sizes =
        |key: usize, value: usize| [key, value].map(|size| u32::try_from(size).expect("small"));
    let (flow, loaded) = (size_of::<Flow>(), maps_of(session.pid()));
    for (name, meant) in [
        (maps::DOORS, sizes(4, size_of::<Doors>())),
        (maps::MARKS, sizes(4, size_of::<Mark>())),
        (maps::TARGETS, sizes(4, flow)),
        (maps::FLOWS, sizes(size_of::<FlowKey>(), flow)),
        (maps::EVENTS, [0, 0]),
        (maps::LOST, sizes(4, 8)),
    ] {
        let found = loaded.iter().find(|map| map.name_as_str() == Some(name));
        let found = found.map(|map| [map.key_size(), map.value_size()]);
        assert_eq!(found, Some(meant), "{name}");
    }
    go_on(&world);
    session.finish().exits(0);
}

/// Calls that the start of a session makes, and with what they fail. Not `EINVAL`, which some of them
/// say of a kernel that is older, and not the calls of the loader before the program begins.
const CALLS: &[(&str, &str, u32)] = &[
    ("bpf", "ENOMEM", 50),
    ("mount", "EPERM", 18),
    ("unshare", "EPERM", 3),
    ("setns", "EPERM", 2),
    ("capset", "EPERM", 2),
    ("prctl", "EPERM", 8),
    ("seccomp", "EPERM", 1),
    ("landlock_create_ruleset", "ENOMEM", 2),
    ("landlock_add_rule", "ENOMEM", 1),
    ("landlock_restrict_self", "EPERM", 1),
    ("close_range", "EPERM", 3),
    ("setresuid", "EPERM", 1),
    ("setresgid", "EPERM", 1),
    ("setgroups", "EPERM", 1),
    ("clone", "EAGAIN", 2),
    ("clone3", "EAGAIN", 3),
    ("mkdir", "ENOSPC", 3),
    ("socket", "EMFILE", 4),
    ("socketpair", "EMFILE", 4),
    ("listen", "EADDRINUSE", 2),
    ("flock", "ENOLCK", 2),
    ("setsid", "EPERM", 1),
    ("prlimit64", "EPERM", 3),
    ("pidfd_open", "EMFILE", 2),
    ("write", "ENOSPC", 5),
];

/// Runs with one call failing where it is made for the so-manieth time, in each process.
fn failing((call, error, _): (&str, &str, u32), when: u32, world: &World, ground: &Ground<'_>) {
    let (trace, inject) =
        (format!("trace={call}"), format!("inject={call}:error={error}:when={when}"));
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let run = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]);
    let out = run.under(&strace).output();
    out.nothing_left();
    let findings = out.findings();
    let is_held =
        |finding: &serde_json::Value| finding["ok"] == false || finding.to_string().contains("403");
    out.expect(findings.iter().all(is_held), "what runs is held");
    let is_ours = out.status.and_then(|status| status.code()) == Some(125);
    out.expect(is_ours || !findings.is_empty(), "it ends, or it runs");
    ground.is_bare(&out, PATIENCE);
}

#[test]
fn f03_a28_a_call_that_fails_at_the_start_ends_it_or_changes_nothing() {
    needs!(root, privilege, bpf, strace);
    let world = World::new();
    let ground = Ground::below(&world);
    for call in CALLS {
        let places = 1..=call.2;
        let step = if super::is_exhaustive() {
            1
        } else {
            usize::try_from(call.2 / 3).unwrap_or(0).max(1)
        };
        places.step_by(step).for_each(|when| failing(*call, when, &world, &ground));
    }
}

#[test]
fn f03_sockets_whose_record_cannot_be_kept_are_refused() {
    needs!(root, ebpf);
    let world = World::new();
    let script = format!("$0 signals 1; {ATTEMPTS}; $0 tcp 203.0.113.10 80 http:allowed.test");
    let mut served = BTreeSet::new();
    // What the kernel lets be stored with a socket, in bytes: nothing, a mark alone, everything.
    for room in [1, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 1024, 131_072] {
        let session = world.boundary(&ALLOW, &["sh", "-c", &script, world.attack()]).start();
        session.wait_for("ready");
        world.host().run(move || {
            fs::write("/proc/sys/net/core/optmem_max", room.to_string()).expect("the host's own");
        });
        go_on(&world);
        let out = session.finish();
        world.host().run(|| {
            fs::write("/proc/sys/net/core/optmem_max", "131072").expect("the host's own");
        });
        let findings = out.findings();
        let [_, denied4, udp, denied6, raw, allowed] = &findings[..] else {
            panic!("every step says what became of it\n{out}");
        };
        for denied in [denied4, denied6] {
            let is_held = denied["ok"] == false || denied.to_string().contains("403");
            out.expect(is_held, "what is denied is refused");
        }
        out.expect(udp["ok"] == false && raw["ok"] == false, "and what is neither TCP nor DNS");
        let denied = DENIED.map(|address| address.parse().ok());
        out.expect(!out.packets.iter().any(|it| denied.contains(&it.target)), "nothing leaks");
        served.insert((allowed["ok"] == true, allowed["errno"].to_string()));
    }
    assert!(served.len() > 1, "some have room and some have not: {served:?}");
}

/// What accept(2) may say of a machine that is short of something, or of a client that is gone.
const SHORT: [&str; 6] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPERM"];

#[test]
fn f01_no_error_of_accept_is_the_end_of_a_door() {
    needs!(root, bpf, strace);
    let world = World::new();
    // How long it takes until the door serves, the pauses after three errors included.
    let script = "began=$(date +%s%N); $0 tcp 203.0.113.10 80 http:allowed.test; \
                  echo took $(( ($(date +%s%N) - began) / 1000 ))";
    for error in SHORT {
        let inject = format!("inject=accept4:error={error}:when=1..3");
        let strace =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=accept4", "-e", &inject];
        let command = ["sh", "-c", script, world.attack()];
        let out = world.boundary(&ALLOW, &command).under(&strace).output();
        out.says("this is").complains("could not be accepted");
        let took = out.stdout.lines().find_map(|line| line.strip_prefix("took ")?.parse().ok());
        tell(Duration::from_micros(took.expect("the command says it")));
    }
}

/// Whether the status of a thread names somebody who traces it.
fn is_traced(status: &Path) -> bool {
    let status = fs::read_to_string(status).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// Makes every call of a kind fail in a process, until it is dropped.
pub(super) struct Fault(Child);

impl Fault {
    /// Begins to.
    pub(super) fn of(process: Pid, call: &str, error: &str) -> Self {
        Self::noted((process, Path::new("/dev/null")), call, error)
    }

    /// Begins to, and writes to a file which calls there were, and which of them failed so.
    pub(super) fn noted((process, file): (Pid, &Path), call: &str, error: &str) -> Self {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", &trace, "-e", &inject, "-o"]).arg(file);
        let child = strace.args(["-p", &process.to_string()]).spawn().expect("it is installed");
        let is_traced = || {
            // Who ends by its first failing call may be gone.
            let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
            tasks.flatten().all(|task| is_traced(&task.path().join("status")))
        };
        eventually("every thread is traced", is_traced);
        Self(child)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // It lets go of what it traces when it is asked to end.
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).unwrap_or_default();
        drop(self.0.wait());
    }
}

#[test]
fn f03_a_table_that_cannot_be_read_knows_nobody() {
    needs!(root, ebpf, strace);
    let world = World::new();
    let script = "$0 signals 1; $0 tcp 203.0.113.66 80 http:denied.test; \
                  $0 tcp 203.0.113.10 80 http:allowed.test; \
                  $0 tcp 2001:db8::10 80 http:allowed.test; \
                  $0 signals 1; $0 tcp 203.0.113.10 80 http:allowed.test";
    let session = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    let fault = Fault::of(of_boundary(&world, "boundary-proxy"), "bpf", "EIO");
    go_on(&world);
    // Its three attempts are over when it waits again.
    session.wait_for("}\nready");
    assert!(world.packets().is_empty(), "nobody is served by a guess");
    drop(fault);
    go_on(&world);
    let out = session.finish();
    let ok: Vec<bool> =
        out.findings().iter().map(|it| it.to_string().contains("this is")).collect();
    out.expect(ok == [false, false, false, false, false, true], "served again when it can be");
    out.complains("the flow of a connection cannot be read");
}

/// The doors, as they lie in their map.
type Bytes = [u8; size_of::<Doors>()];

#[test]
fn f02_f03_neither_policy_nor_identity_lies_where_it_can_be_evicted_or_changed() {
    needs!(root, ebpf);
    let world = World::new();
    let session = world.boundary(&ALLOW, &[world.attack(), "signals", "1"]).start();
    session.wait_for("ready");
    let loaded = maps_of(session.pid());
    assert!(loaded.len() > 5, "all are found");
    for map in loaded {
        let kind = map.map_type().ok();
        match map.name_as_str() {
            // Whose a socket is and where it meant to go lie with the socket.
            Some(maps::MARKS | maps::TARGETS) => assert_eq!(kind, Some(MapType::SkStorage)),
            // A missing one is no service.
            Some(maps::FLOWS) => assert_eq!(kind, Some(MapType::LruHash)),
            Some(maps::DOORS) => {
                assert_eq!(kind, Some(MapType::Array));
                let opened = MapData::from_id(map.id()).map(Map::Array).expect("it is there");
                let mut doors = Array::<_, Bytes>::try_from(opened).expect("an array of doors");
                let none = [0; size_of::<Doors>()];
                assert!(doors.set(0, none, 0).is_err(), "not even root moves the doors");
            }
            _ => {}
        }
    }
    go_on(&world);
    session.finish().exits(0);
}
