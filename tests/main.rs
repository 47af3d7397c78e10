//! boundary seen from outside: the table of contents.
//!
//! Everything runs the built binary (`BOUNDARY_BIN`, else the one beside the tests) in a simulated
//! internet. What needs root or BPF says so and skips, unless `BOUNDARY_TEST_PROMISE` names it.

/// The kernel half: every program loads, every hook steers as `steer` says, and nothing opens it.
#[cfg(test)]
mod kernel;
/// The stage itself: what arrives without boundary, so that nothing arriving means something.
#[cfg(test)]
mod stage;
/// The simulated internet, the host, and the runs in them.
#[cfg(test)]
#[expect(dead_code, unused_imports, reason = "the journeys through the binary follow")]
mod world;
