//! F-7, G-4: what should answer does not. A process of boundary that is stopped, a disk that is full
//! or stalls: connections wait or fail, nothing gets out, and the end comes in bounded time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ALLOW;
use super::traces::Ground;
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::stopwatch::Mended;
use crate::world::{Output, Session, World, jail, records};

/// How long an end may take that has to wait for somebody who does not answer: the keeper waits 15 s.
const BOUND: Duration = Duration::from_secs(40);

/// How long what is left may take to go.
const PATIENCE: Duration = Duration::from_mins(1);

/// Attempts of every kind, once it is told to begin. Then it waits, as something that a signal ends: the
/// last command takes the shell's place, and the attack would take the signal for a word to it.
const ATTEMPTS: &str = "$0 signals 1; $0 tcp 203.0.113.66 80 http:denied.test & \
                        $0 tcp 2001:db8::66 80 http:denied.test & \
                        $0 udp sendto 192.0.2.53 53; $0 udp sendto 2001:db8::66 9999; \
                        echo tried; exec sleep 1000";

/// A process of boundary by the name that it gives itself.
pub(crate) fn of_boundary(world: &World, name: &str) -> Pid {
    let found = || {
        let all = world.processes().into_iter().map(|process| process.pid);
        let is_called = |pid: &Pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim_end() == name
        };
        all.filter(is_called).collect::<Vec<_>>()
    };
    eventually(&format!("{name} is there"), || found().len() == 1);
    found()[0]
}

/// The command that waits for its signal.
pub(crate) fn go_on(world: &World) {
    kill(world.process("attack").pid, Signal::SIGUSR1).expect("it is there");
}

/// Stops a process, and waits until it is stopped.
pub(crate) fn stop(world: &World, pid: Pid) {
    kill(pid, Signal::SIGSTOP).expect("it is there");
    let is_stopped = || world.processes().iter().any(|it| it.pid == pid && it.state == 'T');
    eventually("it is stopped", is_stopped);
}

/// Begins a session whose command makes its attempts while the proxy is stopped.
fn stopped(world: &World) -> (Session<'_>, Pid) {
    let session = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]).start();
    session.wait_for("ready");
    let proxy = of_boundary(world, "boundary-proxy");
    stop(world, proxy);
    go_on(world);
    session.wait_for("tried");
    (session, proxy)
}

/// Waits for the end, which comes in time and leaves nothing.
fn ends(session: Session<'_>, ground: &Ground<'_>) -> Output {
    let since = Instant::now();
    let out = session.finish();
    out.expect(since.elapsed() < BOUND, &format!("it ends in time: {:?}", since.elapsed()));
    out.nothing_left();
    ground.is_bare(&out, PATIENCE);
    out
}

#[test]
fn f07_a_stopped_proxy_lets_nothing_out_and_a_signal_ends_the_session() {
    needs!(root, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let (session, _) = stopped(&world);
    session.signal(Signal::SIGTERM);
    let out = ends(session, &ground);
    out.exits(143).complains("the record is incomplete");
}

#[test]
fn f07_a_stopped_proxy_that_is_killed_ends_the_session() {
    needs!(root, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let (session, proxy) = stopped(&world);
    kill(proxy, Signal::SIGKILL).expect("it is there");
    ends(session, &ground).exits(125).complains("the proxy process ended");
}

#[test]
fn f07_connections_wait_for_a_proxy_that_goes_on() {
    needs!(root, bpf);
    let world = World::new();
    let script = "$0 signals 1; $0 udp sendto 2001:db8::66 9999; \
                  $0 tcp 203.0.113.10 80 http:allowed.test";
    let session = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    let proxy = of_boundary(&world, "boundary-proxy");
    stop(&world, proxy);
    go_on(&world);
    session.wait_for("EPERM");
    let waits = || world.processes().iter().any(|it| it.exe.ends_with("attack") && it.state == 'S');
    eventually("the client waits", waits);
    assert!(world.requests().is_empty(), "nobody carries it");
    kill(proxy, Signal::SIGCONT).expect("it is there");
    let goes_on = Mended::now();
    session.wait_for("this is");
    goes_on.recovered();
    session.finish().exits(0);
}

#[test]
fn f07_a_stopped_keeper_opens_nothing_and_goes_on_where_it_was() {
    needs!(root, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let session = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]).start();
    session.wait_for("ready");
    stop(&world, session.pid());
    go_on(&world);
    session.wait_for("tried");
    session.signal(Signal::SIGTERM);
    session.signal(Signal::SIGCONT);
    let goes_on = Mended::now();
    let out = ends(session, &ground);
    goes_on.recovered();
    out.exits(143);
}

/// Its user may well stop it before it has begun, and the kernel does not take up a bounded wait again by
/// itself when it goes on.
#[test]
fn f07_a_keeper_that_is_stopped_before_its_proxy_is_ready_goes_on_where_it_was() {
    needs!(root, bpf);
    let world = World::new();
    let hand = [env!("CARGO_BIN_EXE_hand"), "stop", "proxy", "100", "--"];
    let session = world.boundary(&ALLOW, &["echo", "it runs"]).under(&hand).start();
    let proxy = || world.processes().into_iter().find(|it| it.state == 'T').map(|it| it.pid);
    eventually("the proxy is stopped", || proxy().is_some());
    let proxy = proxy().expect("it stays so");
    let hand = session.pid();
    let children = fs::read_to_string(format!("/proc/{hand}/task/{hand}/children"));
    let children = children.expect("it is there");
    let keeper = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
    let keeper = Pid::from_raw(keeper.expect("the hand has one child"));
    let told = |field: &str| {
        let status = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap_or_default();
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        value.map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    let waits = || told("State:").starts_with('S') && told("ShdPnd:").ends_with("0000");
    eventually("the keeper waits", waits);
    // Whoever traces it has it go on at once.
    kill(keeper, Signal::SIGSTOP).expect("it is there");
    eventually("the keeper waits, or has given up", || waits() || kill(keeper, None).is_err());
    kill(proxy, Signal::SIGCONT).expect("it is there");
    let goes_on = Mended::now();
    session.wait_for("it runs");
    goes_on.recovered();
    session.finish().nothing_left();
}

#[test]
fn f07_h11_a_stopped_keeper_that_is_killed_leaves_nothing() {
    needs!(root, machine, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let session = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]).start();
    session.wait_for("ready");
    stop(&world, session.pid());
    session.kill();
    ends(session, &ground).exits(137);
}

#[test]
fn f07_a_stopped_init_does_not_hold_the_end_up() {
    needs!(root, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let session = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]).start();
    session.wait_for("ready");
    stop(&world, of_boundary(&world, "boundary-init"));
    go_on(&world);
    session.wait_for("tried");
    session.signal(Signal::SIGTERM);
    ends(session, &ground).exits(143);
}

#[test]
fn f07_a_stopped_usher_does_not_hold_the_end_up() {
    needs!(root, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let session = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]).start();
    session.wait_for("ready");
    let usher = of_boundary(&world, "boundary-usher");
    if jail() == "landjail" {
        // The keeper, whose child it is, has it go on.
        kill(usher, Signal::SIGSTOP).expect("it is there");
    } else {
        stop(&world, usher);
    }
    go_on(&world);
    // What it is asked about waits for it.
    session.wait_for("\"ok\":true}");
    session.signal(Signal::SIGTERM);
    ends(session, &ground).exits(143);
}

#[test]
fn f07_h11_a_command_that_nobody_is_left_to_end_is_cut_off() {
    needs!(root, machine, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let script = "$0 signals 1; $0 tcp 203.0.113.10 80 http:allowed.test; \
                  $0 tcp 2001:db8::10 80 http:allowed.test; $0 udp sendto 192.0.2.53 53; \
                  echo tried; $0 signals 1";
    let session = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    let init = of_boundary(&world, "boundary-init");
    if jail() == "landjail" {
        // Its usher is left, which is its parent, and ends it.
        session.kill();
        ends(session, &ground).exits(137).nothing_left();
        return;
    }
    stop(&world, init);
    let (keeper, proxy) = (session.pid(), of_boundary(&world, "boundary-proxy"));
    session.kill();
    eventually("both are gone", || [keeper, proxy].iter().all(|pid| kill(*pid, None).is_err()));
    go_on(&world);
    session.wait_for("tried");
    kill(init, Signal::SIGCONT).expect("it is there");
    let out = ends(session, &ground);
    // In a network of its own a datagram is sent to nobody, and goes nowhere.
    let is_sent = |it: &serde_json::Value| jail() != "ebpf" && it["attack"] == "udp";
    let findings = out.findings();
    let served = findings.iter().filter(|it| it["ok"] == true && !is_sent(it)).count();
    out.nothing_left();
    out.exits(137).expect(served == 1, "of its steps only the wait goes well");
}

#[test]
fn f07_a_process_that_is_stopped_before_it_is_ready_holds_nobody_for_ever() {
    // Half a minute each.
    needs!(root, bpf, long);
    let world = World::new();
    let ground = Ground::below(&world);
    for victim in ["proxy", "command"] {
        let hand = [env!("CARGO_BIN_EXE_hand"), "stop", victim, "100", "--"];
        let command = ["sh", "-c", ATTEMPTS, world.attack()];
        let out = world.boundary(&ALLOW, &command).under(&hand).output();
        out.complains("no word in time").nothing_left();
        ground.is_bare(&out, PATIENCE);
    }
}

/// What a command asks for while the disk does not answer: five requests, one after the other, and
/// another one when it is told to.
const REQUESTS: &str = "$0 signals 1; for n in 1 2 3 4 5; do \
                        $0 tcp 203.0.113.10 80 http:allowed.test; done; echo asked; \
                        $0 signals 1; $0 tcp 203.0.113.10 80 http:allowed.test";

/// How long five requests may take that nothing delays, on a machine that is busy.
const UNDELAYED: Duration = Duration::from_secs(20);

/// Begins a session that records in a file, and waits for its command.
fn recording<'w>(world: &'w World, file: &Path) -> Session<'w> {
    let roots = world.folder().join("ca.pem").display().to_string();
    let file = file.to_str().expect("our own name");
    let options = ["--jail-type", &jail(), "--audit-log", file, "--upstream-ca", &roots];
    let command = ["--", "sh", "-c", REQUESTS, world.attack()];
    let session = world.exact(&[&options[..], &ALLOW, &command].concat()).start();
    session.wait_for("ready");
    session
}

/// Has the command ask, which nothing delays.
fn asks(world: &World, session: &Session<'_>) {
    let since = Instant::now();
    go_on(world);
    session.wait_for("asked");
    assert!(since.elapsed() < UNDELAYED, "recording delays requests: {:?}", since.elapsed());
    assert_eq!(world.requests().len(), 5, "every request is served");
}

#[test]
fn g04_a_full_disk_delays_no_request_and_the_loss_is_told() {
    needs!(root, privilege, bpf);
    let world = World::new();
    let session = recording(&world, Path::new("/dev/full"));
    asks(&world, &session);
    let since = Instant::now();
    go_on(&world);
    let out = session.finish();
    out.exits(0).complains("the audit file cannot be written");
    out.expect(since.elapsed() < BOUND, "the end comes in time");
}

#[test]
fn g04_what_a_full_disk_lost_is_counted_where_it_has_room_again() {
    needs!(root, privilege, bpf);
    let world = World::new();
    let disk = world.folder().join("small");
    fs::create_dir(&disk).expect("the folder is ours");
    let place = disk.clone();
    world.host().run(move || {
        let kind = Some("tmpfs");
        mount(kind, &place, kind, MsFlags::empty(), Some("size=32k")).expect("a mount");
    });
    let (audit, filler) = (disk.join("audit.jsonl"), disk.join("filler"));
    // What was there before fills the file's first page, which is its own on a full disk too.
    let (before, padding) = (audit.clone(), format!("{{\"padding\":\"{}\"}}\n", "x".repeat(3400)));
    world.host().run(move || fs::write(before, padding).expect("there is room"));
    let session = recording(&world, &audit);
    let full = filler.clone();
    let outcome = world.host().run(move || fs::write(full, vec![0; 64 * 1024]));
    assert!(outcome.is_err(), "it is full");
    asks(&world, &session);
    // The writer may have had no turn before there is room again.
    eventually("it has no room", || session.complained().contains("cannot be written"));
    world.host().run(move || fs::remove_file(filler).expect("it is there"));
    let has_room = Mended::now();
    go_on(&world);
    let is_on_record = || {
        let audit = audit.clone();
        let told = world.host().run(move || records(&audit));
        told.iter().any(|record| record["dropped"].is_u64())
    };
    eventually("what was lost is on record", is_on_record);
    has_room.recovered();
    let out = session.finish();
    out.exits(0).complains("the audit file cannot be written");
    let records = world.host().run(move || records(&audit));
    let dropped: u64 = records.iter().filter_map(|record| record["dropped"].as_u64()).sum();
    let kept = records.iter().filter(|record| record["sequence"].is_u64()).count() as u64;
    // A request is a record when it is decided, and one when it is done.
    out.expect(dropped > 0 && kept > 0, "some are lost and some are kept");
    out.expect(dropped + kept == 12, &format!("{dropped} lost and {kept} kept: {records:?}"));
}

/// A disk that can be made not to answer: whoever writes to it waits, and cannot even be killed.
struct Disk<'w> {
    world: &'w World,
    place: PathBuf,
}

impl<'w> Disk<'w> {
    /// Makes one and puts it into the host.
    fn make(world: &'w World) -> Self {
        let image = world.folder().join("disk.img");
        let place = world.folder().join("disk");
        fs::create_dir(&place).expect("the folder is ours");
        let file = fs::File::create(&image).expect("the folder is ours");
        file.set_len(8 << 20).expect("there is room");
        let disk = Self { world, place };
        let image = image.to_str().expect("our own name").to_owned();
        disk.ask(&["mke2fs", "-q", "-t", "ext4", &image]);
        let place = disk.place.to_str().expect("our own name").to_owned();
        disk.ask(&["mount", "-o", "loop", &image, &place]);
        disk
    }

    /// Whether it answers from now on.
    fn answers(&self, does: bool) {
        let place = self.place.to_str().expect("our own name");
        self.ask(&["fsfreeze", if does { "--unfreeze" } else { "--freeze" }, place]);
    }

    /// Runs a program of the host.
    fn ask(&self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.world.host().run(move || {
            let done = Command::new(&words[0]).args(&words[1..]).output().expect("it is installed");
            assert!(done.status.success(), "{words:?}: {done:?}");
        });
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let place = self.place.clone();
        self.world.host().run(move || {
            // Frozen, it could never go. That it is not is fine.
            drop(Command::new("fsfreeze").arg("--unfreeze").arg(&place).output());
            drop(Command::new("umount").arg(&place).output());
        });
    }
}

#[test]
fn g04_a_disk_that_stalls_delays_neither_requests_nor_the_end() {
    needs!(root, privilege, bpf, mke2fs, fsfreeze, loopdev);
    let world = World::new();
    let disk = Disk::make(&world);
    let ground = Ground::below(&world);
    let session = recording(&world, &disk.place.join("audit.jsonl"));
    disk.answers(false);
    asks(&world, &session);
    let keeper = session.pid();
    go_on(&world);
    let since = Instant::now();
    eventually("the keeper ends", || kill(keeper, None).is_err());
    let took = since.elapsed();
    // What nobody can kill does nothing meanwhile, and holds nothing but itself.
    let cgroups = ground.cgroups();
    disk.answers(true);
    let out = session.finish();
    out.exits(0).complains("the record is incomplete");
    out.expect(took < BOUND, &format!("the end comes in time: {took:?}"));
    out.expect(cgroups.is_empty(), "the walls are down by then");
    ground.is_bare(&out, PATIENCE);
}

#[test]
fn g04_a_disk_that_stalls_for_a_while_has_every_record_when_it_goes_on() {
    needs!(root, machine, bpf, mke2fs, fsfreeze, loopdev);
    let world = World::new();
    let disk = Disk::make(&world);
    let audit = disk.place.join("audit.jsonl");
    let session = recording(&world, &audit);
    disk.answers(false);
    asks(&world, &session);
    disk.answers(true);
    let goes_on = Mended::now();
    let kept = || {
        let audit = audit.clone();
        world.host().run(move || records(&audit))
    };
    // Each is a record when it is decided, and one when it is done.
    eventually("all are on record", || kept().len() == 10);
    goes_on.recovered();
    go_on(&world);
    let out = session.finish();
    out.exits(0).expect(!out.stderr.contains("incomplete"), "the record is whole");
    assert_eq!(kept().len(), 12, "nothing is there twice, and the last is there too");
}

#[test]
fn g04_what_is_no_file_is_no_record() {
    needs!(root, bpf);
    let world = World::new();
    let fifo = world.folder().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
    let fifo = fifo.to_str().expect("our own name");
    let out = world.exact(&["--audit-log", fifo, "--", "true"]).output();
    out.exits(125).complains("cannot open");
}
