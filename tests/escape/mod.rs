//! Known ways out, one test each, named with the number that the catalogue gives the technique. The
//! stage shows that each arrives where nothing holds it; here each is refused at once, and nothing
//! reaches the internet.
//!
//! *Standing*: `catalogue.txt` beside this file says which walls hold which technique; a test is
//! found by its name (`a08_…` is A-8, `a29_h12_…` is both), so that `cargo xtask escapes` can make
//! the table of `docs/threat-model.md` from a run.

mod catalogue;
mod containers;
pub(crate) mod cores;
mod crowd;
mod daemons;
mod experiments;
mod floods;
mod identity;
mod inside;
mod interception;
mod killed;
mod neighbours;
mod people;
mod places;
mod privileges;
mod races;
mod regressions;
mod requests;
mod robustness;
mod secrets;
mod stale;
pub(crate) mod stalled;
mod starved;
pub(crate) mod traces;
mod twins;
mod unix;
mod usher;
mod witness;

use crate::world::{Output, World, has_walls};

/// A policy that permits something, so that a refusal is not for want of a policy.
const ALLOW: [&str; 2] = ["--allow", "domain=allowed.test"];

/// What the kernel says to a socket that may not be.
const REFUSALS: &[&str] = &[
    "EPERM",
    "EACCES",
    "ECONNREFUSED",
    "EAFNOSUPPORT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
    "EOPNOTSUPP",
];

/// What the kernel says of a socket that is covered, or that lies below what is.
const OUT_OF_REACH: &[&str] = &["EPERM", "EACCES", "ENOENT", "ECONNREFUSED"];

/// The denied host's addresses: v4, v6, and v4 in v6's clothes.
const DENIED: [&str; 3] = ["203.0.113.66", "2001:db8::66", "::ffff:203.0.113.66"];

/// Socket options that move a packet without a hook seeing where to. Root may set them all.
pub(crate) const OPTIONS: &[&str] = &[
    "bind-to-device",
    "unicast-if",
    "unicast-if6",
    "transparent",
    "mark",
    "source-route",
    "routing-header",
    "join4",
    "join6",
    "repair",
    "freebind",
    "freebind6",
];

/// Whether the tests that race are to be thorough, ten seconds or a million rounds. In a usual run
/// of the tests it is a second.
pub(crate) fn is_long() -> bool {
    std::env::var_os("BOUNDARY_TEST_LONG").is_some_and(|value| !value.is_empty())
}

/// Whether the tests that try one thing at many places are to try every single one.
fn is_exhaustive() -> bool {
    std::env::var_os("BOUNDARY_TEST_LONG").is_some_and(|value| value == "every")
}

/// How many rounds a long test goes: fewer where a wall is left off, since then one that goes wrong
/// is enough.
fn rounds(usual: u32) -> String {
    let rounds = if has_walls() { usual } else { usual / 100 };
    rounds.to_string()
}

/// Runs one attack under the policy.
fn attack(world: &World, words: &[&str]) -> Output {
    world.boundary(&ALLOW, &[&[world.attack()], words].concat()).output()
}

/// Runs one attack that must be refused without a trace at the internet.
#[track_caller]
fn is_refused(world: &World, words: &[&str]) -> Output {
    let out = attack(world, words);
    out.refused(REFUSALS).nothing_left();
    out
}

/// Runs one attack in an environment that a user has prepared, as root and as the user `guest`.
fn as_both(world: &World, words: &[&str]) -> [Output; 2] {
    let command = [&[world.attack()], words].concat();
    [
        world.boundary(&ALLOW, &command).output(),
        world.boundary(&ALLOW, &command).through_sudo().output(),
    ]
}
