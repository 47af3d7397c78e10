//! boundary runs a command so that nothing it does reaches the network except what a policy allows.
//!
//! The kernel half turns, the proxy half asks, the rules half answers. A connection travels so:
//!
//! ```text
//! socket ─accept→ Flow{door, client, target, process} ─canonicalise→ Intent{method, host, port, path}
//!       ─rules.decide→ Ok(Permit) ─upstream::dial(&Permit)→ Upstream ─relay→ Tally ─→ Record
//!                     └ Err(Denial) ─respond→ 403 + code ──────────────────────────→ Record
//! ```
//!
//! The modules below stand in the order a run meets them.

pub mod audit;
pub mod ca;
pub mod cli;
pub mod config;
pub mod control;
pub mod dns;
pub mod jail;
pub mod proxy;
pub mod rules;
pub mod session;
pub mod sys;
pub mod tool;
pub mod watch;
