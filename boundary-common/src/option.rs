//! Socket options that would change where packets go, or make the kernel itself send some.
//!
//! A list of what is refused, not of what is allowed: programs set hundreds of harmless options,
//! and the packet hook stands behind this list. Numbers of the kernel's user interface; those of
//! `SOL_SOCKET` differ on architectures that boundary does not run on (alpha, mips, parisc, sparc).

/// The levels at which some options are refused: those of IP, any socket, TCP, UDP and IPv6.
pub const LEVELS: [u32; 5] = [0, 1, 6, 17, 41];

/// Whether a program inside may set the option.
#[inline(always)]
pub const fn is_allowed(level: u32, name: u32) -> bool {
    let [low, high] = match level {
        0 => IP,
        1 => SOCKET,
        6 => TCP,
        17 => UDP,
        41 => IPV6,
        _ => [0, 0],
    };
    let half = if name < 64 { low } else { high };
    name >= 128 || half >> (name & 63) & 1 == 0
}

/// `IPPROTO_IP`: source routes, another interface, foreign source addresses, and group
/// memberships, which the kernel announces to the network with an address of the program's choice.
const IP: [u64; 2] = bits(&[
    3,  // IP_HDRINCL
    4,  // IP_OPTIONS
    15, // IP_FREEBIND
    19, // IP_TRANSPARENT
    32, // IP_MULTICAST_IF
    35, // IP_ADD_MEMBERSHIP
    39, // IP_ADD_SOURCE_MEMBERSHIP
    41, // IP_MSFILTER
    42, // MCAST_JOIN_GROUP
    46, // MCAST_JOIN_SOURCE_GROUP
    48, // MCAST_MSFILTER
    50, // IP_UNICAST_IF
]);

/// `SOL_SOCKET`: another interface, a routing mark, and programs that choose between listeners
/// (the lookup that finds a door could be told another one).
const SOCKET: [u64; 2] = bits(&[
    25, // SO_BINDTODEVICE
    36, // SO_MARK
    51, // SO_ATTACH_REUSEPORT_CBPF
    52, // SO_ATTACH_REUSEPORT_EBPF
    62, // SO_BINDTOIFINDEX
]);

/// `IPPROTO_TCP`: repair makes a connection without connecting, and an upper-layer protocol takes
/// the socket over.
const TCP: [u64; 2] = bits(&[
    19, // TCP_REPAIR
    31, // TCP_ULP
]);

/// `IPPROTO_UDP`: encapsulation, by which the kernel wraps what is sent.
const UDP: [u64; 2] = bits(&[
    100, // UDP_ENCAP
]);

/// `IPPROTO_IPV6`: as for IPv4, and extension headers, which need no capability (a routing header
/// of type 4 takes a packet elsewhere), and turning the socket into an IPv4 one.
const IPV6: [u64; 2] = bits(&[
    1,  // IPV6_ADDRFORM
    6,  // IPV6_2292PKTOPTIONS
    17, // IPV6_MULTICAST_IF
    20, // IPV6_JOIN_GROUP
    27, // IPV6_JOIN_ANYCAST
    36, // IPV6_HDRINCL
    42, // MCAST_JOIN_GROUP
    46, // MCAST_JOIN_SOURCE_GROUP
    48, // MCAST_MSFILTER
    50, // IPV6_PKTINFO
    54, // IPV6_HOPOPTS
    55, // IPV6_RTHDRDSTOPTS
    57, // IPV6_RTHDR
    59, // IPV6_DSTOPTS
    75, // IPV6_TRANSPARENT
    76, // IPV6_UNICAST_IF
    78, // IPV6_FREEBIND
]);

/// A set of numbers below 128, as bits: one test for all of them, where a comparison of each would
/// be a path of each for the verifier.
const fn bits(mut numbers: &[u32]) -> [u64; 2] {
    let mut set = [0, 0];
    while let [number, rest @ ..] = numbers {
        assert!(*number < 128, "a number that no bit stands for");
        let [low, high] = set;
        let bit = 1 << (*number & 63);
        set = if *number < 64 { [low | bit, high] } else { [low, high | bit] };
        numbers = rest;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_server_sets_is_allowed() {
        let reuse = [(1, 2), (1, 15)];
        let buffers_and_timeouts = [(1, 7), (1, 8), (1, 9), (1, 20), (1, 21)];
        let tcp = [(6, 1), (6, 4), (6, 9), (6, 23), (6, 30)];
        let ip = [(0, 1), (0, 2), (0, 8), (0, 10), (41, 16), (41, 26), (41, 49), (41, 67)];
        let udp = [(17, 103), (17, 104)];
        for (level, name) in reuse.into_iter().chain(buffers_and_timeouts).chain(tcp) {
            assert!(is_allowed(level, name), "{level} {name}");
        }
        for (level, name) in ip.into_iter().chain(udp) {
            assert!(is_allowed(level, name), "{level} {name}");
        }
    }

    #[test]
    fn every_level_with_something_to_refuse_is_listed_and_numbers_end_below_128() {
        for level in 0..300 {
            let refuses = (0..128).any(|name| !is_allowed(level, name));
            assert_eq!(refuses, LEVELS.contains(&level), "{level}");
            assert!((128..1000).all(|name| is_allowed(level, name)), "{level}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let device = [(1, 25), (1, 62), (0, 50), (41, 76), (41, 50)];
        let routes = [(0, 4), (41, 57), (41, 54), (41, 55), (41, 59), (1, 36), (41, 6)];
        let groups = [(0, 35), (0, 39), (0, 42), (0, 46), (41, 20), (41, 27), (41, 42), (41, 46)];
        let shapes = [(6, 19), (6, 31), (17, 100), (0, 19), (41, 75), (41, 1), (0, 15), (41, 78)];
        for (level, name) in device.into_iter().chain(routes).chain(groups).chain(shapes) {
            assert!(!is_allowed(level, name), "{level} {name}");
        }
    }
}
