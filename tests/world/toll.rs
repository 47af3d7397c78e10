//! The toll of a whole run of tests: what arrived that no policy permits, one line for each run.
//!
//! *Standing*: where `BOUNDARY_TEST_TOLL` names a file (`cargo xtask test` and `escapes` do), every
//! finished run writes there what it made arrive; xtask sums it up. Runs without boundary are the
//! positive controls. *Never*: asks the test what it expected.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::Packet;

/// The addresses of `denied.test`, which the suite's policies do not permit.
const DENIED: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66)),
];

/// The resolver that the host's `resolv.conf` names.
const RESOLVER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53)),
];

/// Writes down a run, if anybody wants to know. `line` is its command line; a policy in it that
/// permits the denied host takes the run out of the sum.
pub(super) fn pay(is_bounded: bool, line: &[String], packets: &[Packet]) {
    let Some(path) = std::env::var_os("BOUNDARY_TEST_TOLL") else { return };
    if is_bounded && permits_the_denied(line) {
        return;
    }
    let strays: Vec<&Packet> = packets.iter().filter(|packet| is_stray(packet)).collect();
    let count = |is: fn(&IpAddr) -> bool| {
        strays.iter().filter(|packet| packet.target.as_ref().is_some_and(is)).count()
    };
    let row = serde_json::json!({
        "run": if is_bounded { "bounded" } else { "bare" },
        "v4": count(IpAddr::is_ipv4),
        "v6": count(IpAddr::is_ipv6),
        "other": strays.iter().filter(|packet| packet.target.is_none()).count(),
        "line": if strays.is_empty() { String::new() } else { line.join(" ") },
    });
    let file = OpenOptions::new().append(true).create(true).open(path);
    // One write, so that lines of several tests do not mix.
    let written = file.and_then(|mut file| file.write_all(format!("{row}\n").as_bytes()));
    written.expect("the toll can be written");
}

impl Packet {
    /// Whether it is one that no policy of the suite permits.
    pub(crate) fn is_stray(&self) -> bool {
        is_stray(self)
    }
}

/// Whether a packet has no business there: to the denied host, or neither TCP nor a question to the
/// host's own resolver. What a kernel says of its own accord about a datagram that came too late
/// (ICMP errors) is nobody's attempt.
fn is_stray(packet: &Packet) -> bool {
    let is_denied = packet.target.is_some_and(|target| DENIED.contains(&target));
    let asks = packet.port == Some(53) && packet.target.is_some_and(|it| RESOLVER.contains(&it));
    let has_business = match packet.protocol {
        Some(6) => true,
        Some(17) => asks,
        Some(1) => packet.frame.get(34).is_some_and(|kind| matches!(kind, 3 | 11)),
        Some(58) => packet.frame.get(54).is_some_and(|kind| matches!(kind, 1..=4)),
        _ => false,
    };
    is_denied || !has_business
}

/// Whether boundary's own options name the denied host or every host.
fn permits_the_denied(line: &[String]) -> bool {
    let options = line.iter().take_while(|word| *word != "--");
    let rules = options.filter(|word| word.contains("domain=") || word.contains("host="));
    rules.into_iter().any(|rule| {
        ["denied.test", "203.0.113.66", "2001:db8::66", "=*", "*.test", "=test"]
            .iter()
            .any(|name| rule.contains(name))
    })
}
