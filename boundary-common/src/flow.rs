//! The records that lie in maps: plain data of one layout on both sides.
//!
//! Addresses are four words *as on the wire*, IPv4 as IPv4-mapped IPv6, so that one comparison
//! serves every family; ports are in host order, as people write them. No record has padding
//! (proved by `zerocopy` when it compiles), because padding bytes in a map key make two equal
//! keys differ. The sizes are asserted, because a map of another size refuses every write.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The protocol number of TCP.
pub const TCP: u16 = 6;

/// The protocol number of UDP.
pub const UDP: u16 = 17;

/// The address family number of IPv4.
#[doc(alias = "AF_INET")]
pub const INET: u16 = 2;

/// The address family number of IPv6.
#[doc(alias = "AF_INET6")]
pub const INET6: u16 = 10;

/// The third word of an IPv4-mapped address (`::ffff:0:0/96`).
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// 127.0.0.1, as on the wire.
pub const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();

/// An address and a port, and the family of the socket that used them.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Endpoint {
    /// The address, four words as on the wire; IPv4 as mapped.
    pub address: [u32; 4],
    /// The port, in host order.
    pub port: u16,
    /// The family of the socket: [`INET`], or [`INET6`] also for a mapped address.
    pub family: u16,
}

impl Endpoint {
    /// An IPv4 endpoint, from the address as on the wire.
    #[inline(always)]
    pub const fn v4(address: u32, port: u16) -> Self {
        Self { address: [0, 0, MAPPED, address], port, family: INET }
    }

    /// An endpoint of an IPv6 socket, from the address as on the wire.
    #[inline(always)]
    pub const fn v6(address: [u32; 4], port: u16) -> Self {
        Self { address, port, family: INET6 }
    }

    /// Whether the packets are IPv4, whatever the socket's family.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.address[0] | self.address[1] == 0 && self.address[2] == MAPPED
    }

    /// Whether it names this machine's loopback: 127.0.0.0/8, `::1`, or the unspecified address,
    /// which the kernel takes for loopback when it connects.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            u32::from_be(self.address[3]) >> 24 == 127 || self.address[3] == 0
        } else {
            self.address[0] | self.address[1] | self.address[2] == 0
                && u32::from_be(self.address[3]) <= 1
        }
    }

    /// Whether it names everybody on loopback: 127.255.255.255, and 127.0.0.0 before Linux 5.14. A datagram
    /// for it is copied to every socket of the port, whoever else has one.
    #[inline(always)]
    pub const fn is_broadcast(&self) -> bool {
        self.is_v4() && is_broadcast4(self.address[3])
    }

    /// The same endpoint with the unspecified address replaced by what the kernel will take.
    #[inline(always)]
    #[must_use]
    pub const fn resolved(self) -> Self {
        let unspecified = self.address[3] == 0 && self.is_loopback();
        if unspecified { self.on_loopback(self.port) } else { self }
    }

    /// Where a door of the same kind of packets stands: 127.0.0.1 or `::1`, at that port.
    #[inline(always)]
    #[must_use]
    pub const fn on_loopback(self, port: u16) -> Self {
        if self.is_v4() {
            Self { address: [0, 0, MAPPED, LOOPBACK4], port, family: self.family }
        } else {
            Self { address: [0, 0, 0, 1_u32.to_be()], port, family: self.family }
        }
    }

    /// Whether both are one place, whatever socket asks.
    #[inline(always)]
    pub const fn is_at(&self, other: &Self) -> bool {
        self.address[0] == other.address[0]
            && self.address[1] == other.address[1]
            && self.address[2] == other.address[2]
            && self.address[3] == other.address[3]
            && self.port == other.port
    }
}

/// How the proxy finds the flow behind a client: by what `accept` and `recvfrom` tell it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FlowKey {
    /// The client's source address, four words as on the wire; IPv4 as mapped.
    pub address: [u32; 4],
    /// The client's source port, in host order.
    pub port: u16,
    /// [`TCP`] or [`UDP`]: the same port may be in use for both.
    pub protocol: u16,
}

/// Who did it, as the kernel knew at that moment.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Task {
    /// The cgroup it was in.
    pub cgroup: u64,
    /// Thread-group id, in the initial pid namespace.
    pub tgid: u32,
    /// User id, in the initial user namespace.
    pub uid: u32,
    /// The thread's name: 16 bytes, ended by NUL if shorter. As words, which are few to copy.
    pub comm: [u32; 4],
}

/// Where a socket meant to go before it was turned, and who opened it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Flow {
    /// The kernel's number of the socket, never used twice.
    pub cookie: u64,
    /// When, in nanoseconds since the machine started, suspension included.
    pub time: u64,
    /// Who.
    pub task: Task,
    /// Where to.
    pub target: Endpoint,
    /// Always zero: fills the record up to its alignment.
    pub reserved: u32,
}

/// Whose socket it is. A socket without a mark is a stranger's.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Mark {
    /// [`Mark::SESSION`] or [`Mark::DOOR`].
    pub role: u32,
    /// Always zero: fills the record up to its alignment.
    pub reserved: u32,
    /// Who made it; zero for a door.
    pub task: Task,
    /// The cgroups around the one that it was made in, from the hierarchy's second level on: zero
    /// where there is none, and those further in than there is room for are not there.
    pub around: [u64; Self::LEVELS],
}

impl Mark {
    /// Made inside the session.
    pub const SESSION: u32 = 1;
    /// A door of the session: only the user half writes this.
    pub const DOOR: u32 = 2;

    /// How many levels of the hierarchy are told apart. A pod of Kubernetes is in the fifth, a
    /// user's shell under systemd in the fourth; a session adds one, and each inner one another.
    pub const LEVELS: usize = 12;

    /// Whether it was made in a cgroup or inside it. Without a branch for each level, which the
    /// verifier would follow.
    #[inline(always)]
    pub fn is_within(&self, cgroup: u64) -> bool {
        let mut differ = is_other(self.task.cgroup, cgroup);
        for level in self.around {
            differ &= is_other(level, cgroup);
        }
        differ == 0
    }

    /// The mark of a door.
    pub const fn door() -> Self {
        let nobody = Task { cgroup: 0, tgid: 0, uid: 0, comm: [0; 4] };
        Self { role: Self::DOOR, reserved: 0, task: nobody, around: [0; Self::LEVELS] }
    }
}

/// One where two numbers differ, else zero.
#[inline(always)]
const fn is_other(one: u64, other: u64) -> u64 {
    let difference = one ^ other;
    (difference | difference.wrapping_neg()) >> 63
}

/// Where the doors stand: ports on 127.0.0.1 and `::1`, zero where there is none. Beside them, who
/// leads to unix sockets.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Doors {
    /// [`crate::ABI`] of the half that wrote it.
    pub abi: u32,
    /// The proxy on 127.0.0.1.
    pub proxy4: u16,
    /// The proxy on `::1`.
    pub proxy6: u16,
    /// The resolver on 127.0.0.1.
    pub resolver4: u16,
    /// The resolver on `::1`.
    pub resolver6: u16,
    /// Always zero: fills the record up to its alignment.
    pub reserved: u32,
    /// The cgroup whose processes alone may name a unix socket; zero where there is none.
    pub usher: u64,
}

/// Something that a program tried and did not get.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Refusal {
    /// When, in nanoseconds since the machine started, suspension included.
    pub time: u64,
    /// A [`Why`](crate::steer::Why), by number.
    pub why: u16,
    /// The socket's address family.
    pub family: u16,
    /// The socket's type (`SOCK_STREAM` is 1, `SOCK_DGRAM` 2, `SOCK_RAW` 3, …).
    pub kind: u16,
    /// The protocol number of the socket, or of the packet where one was dropped.
    pub protocol: u16,
    /// For a socket option its level (upper half) and name (lower half), else zero.
    pub option: u32,
    /// Where to, if it was an attempt to go somewhere; else all zero.
    pub target: Endpoint,
    /// Who tried; for a packet and an option who made the socket.
    pub task: Task,
}

const _: () = assert!(size_of::<Endpoint>() == 20);
const _: () = assert!(size_of::<FlowKey>() == 20);
const _: () = assert!(size_of::<Task>() == 32);
const _: () = assert!(size_of::<Flow>() == 72);
const _: () = assert!(size_of::<Mark>() == 136);
const _: () = assert!(size_of::<Doors>() == 24);
const _: () = assert!(size_of::<Refusal>() == 72);

/// Whether an IPv4 address, as on the wire, is loopback's for everybody: see [`Endpoint::is_broadcast`].
#[inline(always)]
pub const fn is_broadcast4(address: u32) -> bool {
    let address = u32::from_be(address);
    address == 0x7fff_ffff || address == 0x7f00_0000
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(text: &str) -> Endpoint {
        let address: Ipv4Addr = text.parse().unwrap();
        Endpoint::v4(u32::from_ne_bytes(address.octets()), 80)
    }

    fn v6(text: &str) -> Endpoint {
        let address: Ipv6Addr = text.parse().unwrap();
        Endpoint::v6(zerocopy::transmute!(address.octets()), 80)
    }

    #[test]
    fn loopback_has_many_spellings() {
        for text in ["127.0.0.1", "127.255.255.254", "0.0.0.0"] {
            assert!(v4(text).is_loopback(), "{text}");
        }
        for text in ["::1", "::", "::ffff:127.0.0.1", "::ffff:127.9.9.9", "::ffff:0.0.0.0"] {
            assert!(v6(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn everybody_on_loopback_has_two_addresses() {
        for text in ["127.255.255.255", "127.0.0.0"] {
            assert!(v4(text).is_broadcast(), "{text}");
        }
        assert!(v6("::ffff:127.255.255.255").is_broadcast());
        for text in ["127.0.0.1", "127.255.255.254", "127.0.0.255", "0.0.0.0", "255.255.255.255"] {
            assert!(!v4(text).is_broadcast(), "{text}");
        }
        assert!(!v6("::1").is_broadcast() && !v6("::7fff:ffff").is_broadcast());
    }

    #[test]
    fn what_only_looks_like_loopback_is_not() {
        for text in ["128.0.0.1", "126.255.255.255", "0.0.0.1", "1.0.0.127", "10.0.0.1"] {
            assert!(!v4(text).is_loopback(), "{text}");
        }
        for text in
            ["::2", "::127.0.0.1", "64:ff9b::127.0.0.1", "::ffff:0:1", "1::1", "::fffe:127.0.0.1"]
        {
            assert!(!v6(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert!(v6("::ffff:10.1.2.3").is_at(&v4("10.1.2.3")));
        assert!(v6("::ffff:10.1.2.3").is_v4());
        assert!(!v6("::10.1.2.3").is_v4());
    }

    #[test]
    fn the_unspecified_address_resolves_to_loopback_and_nothing_else_changes() {
        assert_eq!(v4("0.0.0.0").resolved(), v4("127.0.0.1"));
        assert_eq!(v6("::").resolved(), v6("::1"));
        assert_eq!(v6("::ffff:0.0.0.0").resolved(), v6("::ffff:127.0.0.1"));
        for same in [v4("127.0.0.2"), v4("10.0.0.0"), v6("::1"), v6("fe80::"), v6("1::")] {
            assert_eq!(same.resolved(), same);
        }
    }
}
