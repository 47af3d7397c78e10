//! Containers: which jail there is in each kind of them, and that it is tight; or that nothing runs.

use std::collections::BTreeSet;
use std::io::Write as _;

use serde_json::Value;

use crate::world::container::{Container, Kind};
use crate::world::needs::needs;
use crate::world::{Output, Run, World, jail};

/// Every kind, as root and as a user, and the jail that `auto` takes there.
const PLACES: [(Kind, bool, &str); 11] = [
    (Kind::Default, true, "landjail"),
    (Kind::Default, false, "landjail"),
    (Kind::NetAdmin, true, "landjail"),
    (Kind::NetAdmin, false, "landjail"),
    (Kind::SysAdmin, true, "landjail"),
    (Kind::SysAdmin, false, "landjail"),
    (Kind::Unconfined, true, "nsjail"),
    (Kind::Unconfined, false, "nsjail"),
    (Kind::Privileged, true, "ebpf"),
    (Kind::Privileged, false, "nsjail"),
    (Kind::Restricted, false, "landjail"),
];

/// The jails.
const JAILS: [&str; 3] = ["ebpf", "nsjail", "landjail"];

fn place(kind: Kind, is_root: bool) -> Container {
    Container { kind, is_root }
}

/// What the doctor finds in a container.
#[track_caller]
fn examine(world: &World, container: Container) -> (Output, Value) {
    let out = world.exact(&["doctor", "--json"]).contained(container).output();
    let report = serde_json::from_str(&out.stdout).unwrap_or_default();
    out.expect(report != Value::Null, "the doctor prints one object");
    (out, report)
}

#[test]
fn the_doctor_finds_in_each_container_the_jail_that_works_there() {
    needs!(root, bpf, userns, runc);
    let world = World::new();
    for (kind, is_root, jail) in PLACES {
        let (out, report) = examine(&world, place(kind, is_root));
        out.exits(0).expect(report["auto"] == jail, &format!("{kind:?}, root {is_root}: {jail}"));
        let rows = report["primitives"].as_array().expect("a list");
        let refused = rows.iter().filter(|row| row["found"] == "refused");
        for row in refused.filter(|row| row["required"] == true) {
            let remedies = row["remedies"].as_array().map_or(0, Vec::len);
            out.expect(remedies > 0, &format!("it says what to do about {row}"));
        }
    }
}

/// A program's small journey: what is allowed, what is not, a name, a server of its own, and the ways
/// out that are tried first. Each attempt prints one object.
const JOURNEY: &str = "$0 tcp 203.0.113.10 80 http:allowed.test; $0 tcp 2001:db8::10 80 http:allowed.test; \
    $0 tcp 203.0.113.66 80 http:denied.test; $0 dns udp 192.0.2.53 allowed.test A; \
    $0 pair 127.0.0.1; $0 udp sendto 203.0.113.66 9999; $0 udp sendto 2001:db8::66 9999; \
    $0 raw 203.0.113.66; $0 icmp 203.0.113.66; $0 packet 2; $0 socket vsock stream 0; \
    $0 mptcp 203.0.113.66 80; $0 syscall bpf; $0 syscall io-uring";

/// How many of them go well: two requests, the refusal that is an answer, the name and the server.
const GO_WELL: usize = 5;

/// Where what is allowed goes: the host by its addresses, and the resolver that says which they are.
const GOES: [&str; 3] = ["203.0.113.10", "2001:db8::10", "192.0.2.53"];

/// Makes the journey in a container under a jail.
#[track_caller]
fn journey(world: &World, container: Container, jail: &str, option: &str) {
    println!("{container:?}, {jail} by {option}");
    let options = ["--jail-type", option, "--allow", "domain=allowed.test"];
    let run = world.boundary(&options, &["sh", "-c", JOURNEY, world.attack()]);
    is_judged(run.contained(container), jail);
}

/// Makes the journey, which a jail judges.
#[track_caller]
fn is_judged(run: Run<'_>, jail: &str) {
    let out = run.output();
    let found = out.findings();
    let (well, refused) = found.split_at(GO_WELL.min(found.len()));
    let targets: BTreeSet<String> =
        out.packets.iter().filter_map(|it| Some(it.target?.to_string())).collect();
    let stray: Vec<_> = targets.iter().filter(|it| !GOES.contains(&it.as_str())).collect();
    out.expect(stray.is_empty(), &format!("nothing goes anywhere else: {stray:?}"));
    out.exits(0).expect(found.len() == 14, "each attempt says what became of it");
    let holds = |place: usize, text: &str| well[place].to_string().contains(text);
    out.expect(holds(0, "this is allowed.test"), "what is allowed arrives, over IPv4");
    out.expect(holds(1, "this is allowed.test"), "and over IPv6");
    out.expect(holds(2, "403"), "what is not allowed is answered by boundary");
    out.expect(holds(3, "198.18."), "a name has an address of the session");
    out.expect(holds(4, "\"ok\":true"), "a server of the command works for it");
    out.expect(refused.iter().all(|it| it["ok"] == false), "every way out is refused");
    out.record(&[("decision", "allow"), ("host", "allowed.test"), ("jail", jail)]);
    out.record(&[("decision", "deny"), ("host", "denied.test"), ("jail", jail)]);
    out.record(&[("decision", "deny"), ("proto", "udp"), ("address", "203.0.113.66")]);
}

#[test]
fn the_jail_that_auto_takes_in_a_container_judges_and_is_tight() {
    needs!(root, bpf, userns, runc);
    let world = World::new();
    for (kind, is_root, jail) in PLACES {
        journey(&world, place(kind, is_root), jail, "auto");
    }
}

#[test]
fn every_jail_of_a_container_either_judges_or_runs_nothing_and_names_the_row() {
    needs!(root, bpf, userns, runc);
    let world = World::new();
    for (kind, is_root, _) in PLACES {
        let container = place(kind, is_root);
        let (_, report) = examine(&world, container);
        let told = report["jails"].as_array().expect("a list");
        for jail in JAILS {
            let row = told.iter().find(|row| row["jail"] == jail).expect("each is told");
            if row["works"] == true {
                journey(&world, container, jail, jail);
                continue;
            }
            let run = world.boundary(&["--jail-type", jail], &["echo", "ran"]);
            is_refused(run.contained(container), jail, row);
        }
    }
}

/// Finds that a jail that cannot be raised runs nothing, and names the row that decides.
#[track_caller]
fn is_refused(run: Run<'_>, jail: &str, row: &Value) {
    let out = run.output();
    let obstacle = row["obstacle"].as_str().expect("a row");
    out.exits(125).complains(&format!("jail {jail}: {obstacle}: "));
    out.complains("no command was run").expect(out.stdout.is_empty(), "nothing ran");
}

/// What `cargo xtask jails` asks first of every place: it goes on only where the jail stands.
#[test]
fn the_jail_of_the_run_judges_or_runs_nothing_and_names_the_row() {
    needs!(root, bpf, userns, runc);
    let (world, jail) = (World::new(), jail());
    let doctor = world.exact(&["doctor", "--json"]);
    // Through sudo it is asked as root.
    let doctor = if jail == "ebpf" { doctor } else { doctor.by_the_same_user() };
    let report: Value = serde_json::from_str(&doctor.output().stdout).expect("one object");
    let rows = report["jails"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["jail"] == jail.as_str()).expect("each is told");
    let command = ["sh", "-c", JOURNEY, world.attack()];
    let run = world.boundary(&["--allow", "domain=allowed.test"], &command);
    if row["works"] == true {
        return is_judged(run, &jail);
    }
    is_refused(run, &jail, row);
    // Past the runner's capture, for whoever asked.
    let obstacle = row["obstacle"].as_str().unwrap_or_default();
    writeln!(std::io::stderr(), "refused: {jail}: {obstacle}").expect("stderr is open");
}
