//! Classes of addresses: which ones a name must not lead to unasked.
//!
//! *Standing*: asked by the decision for a host that is an address, and by
//! [`Permit::admits`](super::Permit::admits) for what a name resolved to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where clouds keep a machine's credentials outside the link-local range: anybody's name may
/// resolve there, and whoever answers hands out the machine's identity.
const METADATA: [IpAddr; 8] = [
    // GCP, Oracle, Scaleway, Akamai and Alibaba over v6
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200)),
    // Alibaba, Azure, Oracle
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Whether an address is reached only by a rule that names it: the machine itself, its link, many
/// at once, a cloud's metadata, boundary's own synthetic v4 range, and v6 forms that carry one of
/// these. Private ranges are not: services in a cluster live there.
pub(super) fn is_guarded(address: IpAddr) -> bool {
    let address = address.to_canonical();
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(v4) => is_guarded_v4(v4),
            IpAddr::V6(v6) => is_guarded_v6(v6),
        }
}

fn is_guarded_v4(v4: Ipv4Addr) -> bool {
    let [first, second, ..] = v4.octets();
    v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || first == 0
        || (first == 198 && second & 0xfe == 18)
}

fn is_guarded_v6(v6: Ipv6Addr) -> bool {
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || v6.is_unicast_link_local()
        || is_service_of_aws(v6)
        || carried(v6).is_some_and(|v4| is_guarded(IpAddr::V4(v4)))
}

/// AWS gives a machine its services over v6 there: metadata, the roles of pods, time.
fn is_service_of_aws(v6: Ipv6Addr) -> bool {
    matches!(v6.segments(), [0xfd00, 0xec2, ..])
}

/// The v4 address that a v6 address carries for a translator or a tunnel to unwrap: v4-compatible
/// (`::/96`), NAT64 (`64:ff9b::/96`, `64:ff9b:1::/48`), 6to4 (`2002::/16`).
/// v4-mapped ones are unwrapped before.
fn carried(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = v6.to_bits();
    let low = |shift: u32| Ipv4Addr::from_bits((bits >> shift & 0xffff_ffff) as u32);
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => {
            Some(low(0))
        }
        [0x2002, ..] => Some(low(80)),
        _ => None,
    }
}
