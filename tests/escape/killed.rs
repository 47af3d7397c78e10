//! B-8, F-7, H-11: boundary killed at every stage of its life. Nothing gets out, nothing stays, and
//! the next session works.
//!
//! *Standing*: `hand kill` counts the system calls of each process of boundary and kills it in the
//! middle of one. A usual run of the tests dies at a few dozen places of each process, an exhaustive one
//! ([`is_exhaustive`](super::is_exhaustive)) at every single one.

use std::time::Duration;

use serde_json::Value;

use super::traces::{Ground, Kernel};
use super::{ALLOW, is_exhaustive};
use crate::world::needs::needs;
use crate::world::{Output, World};

/// At how many places of each process a usual run of the tests kills.
const PLACES: u64 = 24;

/// How long what is left may take to go.
const PATIENCE: Duration = Duration::from_mins(1);

/// A command that tries to get out over both families, by stream and by datagram.
const ATTEMPTS: &str = "$0 tcp 203.0.113.66 80 http:denied.test; $0 udp sendto 2001:db8::66 9999; \
                        $0 tcp 2001:db8::66 80 http:denied.test";

/// Runs it, and kills a process of boundary at one of its stops.
fn killed(world: &World, victim: &str, stop: u64) -> Output {
    let stop = stop.to_string();
    let hand = [env!("CARGO_BIN_EXE_hand"), "kill", victim, &stop, "--"];
    let run = world.boundary(&ALLOW, &["sh", "-c", ATTEMPTS, world.attack()]);
    run.under(&hand).output()
}

/// What the killer says.
fn said(out: &Output) -> Value {
    let said = out.findings().into_iter().find(|finding| finding["victim"].is_string());
    out.expect(said.is_some(), "the killer says what it did");
    said.unwrap_or_default()
}

/// Where to kill, of so many stops: everywhere, or at places evenly apart, the first among them.
fn places(stops: u64) -> impl Iterator<Item = u64> {
    let step = if is_exhaustive() { 1 } else { (stops / PLACES).max(1) };
    (1..=stops).step_by(usize::try_from(step).unwrap_or(1))
}

/// Kills one process of boundary at one place after the other.
fn dies_everywhere(victim: &str) {
    let world = World::new();
    let ground = Ground::below(&world);
    let kernel = Kernel::now();
    let whole = killed(&world, victim, u64::MAX);
    whole.expect(whole.findings().len() == 4, "undisturbed, every attempt is made").nothing_left();
    let stops = said(&whole)["stops"].as_u64().unwrap_or_default();
    whole.expect(stops > 10, "its stops are seen");
    println!("{victim} dies at {} of {stops} places", places(stops).count());
    for stop in places(stops) {
        let out = killed(&world, victim, stop);
        out.nothing_left();
        if victim == "all" {
            // Nobody is left who could clear up. What is there lets nothing out and runs nothing,
            // and goes with the next session's start.
            out.expect(ground.is_lifeless(PATIENCE), "nothing runs any more");
            works(&world);
        }
        ground.is_bare(&out, PATIENCE);
    }
    works(&world);
    kernel.is_back();
}

/// A session does what it is to do.
fn works(world: &World) {
    let out =
        world.boundary(&ALLOW, &[world.attack(), "tcp", "203.0.113.10", "80", "http:allowed.test"]);
    out.output().exits(0).says("this is");
}

#[test]
fn b08_h11_the_keeper_dies_at_any_stage() {
    needs!(root, bpf);
    dies_everywhere("keeper");
}

#[test]
fn b08_the_first_process_of_the_namespace_dies_at_any_stage() {
    needs!(root, bpf);
    dies_everywhere("init");
}

#[test]
fn b08_f07_the_proxy_dies_at_any_stage() {
    needs!(root, bpf);
    dies_everywhere("proxy");
}

#[test]
fn b08_the_process_that_becomes_the_command_dies_at_any_stage() {
    needs!(root, bpf);
    dies_everywhere("command");
}

#[test]
fn b08_the_usher_dies_at_any_stage() {
    needs!(root, bpf);
    dies_everywhere("usher");
}

#[test]
fn b08_all_of_them_die_at_once_at_any_stage() {
    needs!(root, bpf);
    dies_everywhere("all");
}
