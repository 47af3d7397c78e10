//! F-10, H-13: whom the usher leads and what it tells, whatever is done to it and meanwhile.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{ALLOW, REFUSALS};
use crate::world::container::Container;
use crate::world::needs::needs;
use crate::world::{World, jail};

/// What is tried.
const WITNESS: &str = include_str!("witness.py");

/// The command that tries one thing.
fn command(world: &World, words: &[&str]) -> Vec<String> {
    let program = world.file("witness.py", WITNESS);
    let program = program.to_str().expect("our own name");
    [&["python3", program], words].concat().into_iter().map(str::to_owned).collect()
}

/// The outcomes of a kind, in a program's words.
fn outcomes<'a>(stdout: &'a str, kind: &str) -> Vec<&'a str> {
    let of = |line: &'a str| line.split_once(' ').filter(|(it, _)| *it == kind);
    stdout.lines().filter_map(of).map(|(_, outcome)| outcome).collect()
}

#[test]
fn f10_who_tells_of_refusals_is_left_what_it_takes() {
    needs!(root, bpf, python3);
    let world = World::new();
    let command = command(&world, &["limits"]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let out = world.boundary(&ALLOW, &command).output();
    out.exits(0);
    let limited = outcomes(&out.stdout, "limit");
    out.expect(!limited.is_empty() && !limited.contains(&"done"), "it has its limits still");
    if jail() != "landjail" {
        out.says("processes 2").says("self done");
    }
    out.says("child EPERM").says("nobody EPERM").says("beside EPERM");
    let refused = outcomes(&out.stdout, "made");
    out.expect(refused.len() == 3 && refused.iter().all(|it| REFUSALS.contains(it)), "refused");
    let told = out.records.iter().filter(|it| it["code"] == "socket_type").count();
    // A container's own filter refuses one of them before boundary hears of it.
    let heard = if Container::of_runs().is_some_and(|it| it.kind.has_filter()) { 2 } else { 3 };
    out.expect(told == heard, "each is on record");
}

#[test]
fn f10_a_program_whose_path_is_no_text_is_on_record() {
    needs!(root, bpf);
    let world = World::new();
    let folder = world.folder().join("tmp").join(OsStr::from_bytes(b"odd\xff"));
    fs::create_dir(&folder).expect("the folder is ours");
    fs::copy(world.attack(), folder.join("odd")).expect("the folder is ours");
    // Its first word is text all the same.
    let script = "cd tmp; exec -a odd ./odd?/odd raw 203.0.113.66";
    let out = world.boundary(&ALLOW, &["bash", "-c", script]).output();
    out.refused(REFUSALS);
    let record = out.record(&[("code", "socket_type"), ("comm", "odd")]);
    let exe = record["exe"].as_str().unwrap_or_default();
    out.expect(exe.ends_with("/tmp/odd\u{fffd}/odd"), exe);
}

#[test]
fn a18_a_server_that_nobody_may_look_into_is_the_commands_all_the_same() {
    needs!(root, bpf, python3);
    let world = World::new();
    for what in ["hidden", "own-files"] {
        // There a program that a user's boundary may not look into has no sockets: docs/threat-model.md.
        if (what, jail().as_str()) == ("hidden", "landjail") {
            continue;
        }
        let command = command(&world, &[what]);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        for guest in [false, true] {
            let run = world.boundary(&ALLOW, &command);
            let out = if guest { run.through_sudo().output() } else { run.output() };
            out.exits(0);
            out.expect(outcomes(&out.stdout, "said") == ["served"; 2], what);
            drop(fs::remove_file(world.folder().join("tmp/served.sock")));
        }
    }
}

#[test]
fn a20_a_name_that_changes_hands_while_a_client_waits_leads_nowhere() {
    needs!(root, bpf, python3);
    let world = World::new();
    // Its folder's name is nobody else's.
    let name = world.folder().file_name().and_then(OsStr::to_str).expect("text").to_owned();
    let gate = world.folder().join("tmp/gate");
    mkfifo(&gate, Mode::from_bits_truncate(0o666)).expect("the folder is ours");
    let gate = gate.to_str().expect("our own name");
    let command = command(&world, &["named", &name, gate]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let session = world.boundary(&ALLOW, &command).start();
    session.wait_for("waits");
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let daemon = world.host().run(move || {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(daemon) => break daemon,
                Err(error) if Instant::now() >= until => panic!("{error}"),
                Err(_) => thread::park_timeout(Duration::from_millis(1)),
            }
        }
    });
    daemon.set_nonblocking(true).expect("it does not wait");
    fs::write(gate, "go").expect("the command reads");
    let out = session.finish();
    out.exits(0);
    out.expect(out.stdout.lines().last() == Some("heard"), "nobody says anything to it");
    let mut heard = String::new();
    while let Ok((mut stream, _)) = daemon.accept() {
        stream.read_to_string(&mut heard).expect("the command is gone");
    }
    out.expect(heard.is_empty(), &heard);
}

#[test]
fn h13_no_network_device_that_stays_is_attached_to() {
    needs!(root, bpf, python3);
    let world = World::new();
    let command = command(&world, &["tun"]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    world.bare(&command).output().exits(0).says("attached ENOTTY");
    world.boundary(&ALLOW, &command).output().exits(0).says("attached EPERM");
}
