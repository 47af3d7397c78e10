//! The kernel half's only decision, as a pure function.
//!
//! A program that connects or sends names a target; [`steer`] says whether it may have it,
//! whether it is turned to a door, or why not. [`leave`] says the same of a packet that is about
//! to go, and knows nothing of what `steer` said: it is the backstop for every way round it.
//!
//! *Standing*: the hooks of `boundary-ebpf` gather the arguments and carry the answer out; the
//! tests below hold it for all arguments, `tests/kernel.rs` compares the kernel with it.
//! *Never*: knows a rule. Whether a turned connection is allowed is for the proxy to ask.

use crate::flow::{Endpoint, TCP, UDP};

/// The type number of a stream socket.
#[doc(alias = "SOCK_STREAM")]
pub const STREAM: u32 = 1;

/// The type number of a datagram socket.
#[doc(alias = "SOCK_DGRAM")]
pub const DATAGRAM: u32 = 2;

/// The port of DNS.
pub const DNS: u16 = 53;

/// At which moment a target is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `connect`, and `sendto` with fast open.
    Connect,
    /// `sendto` and `sendmsg` with an address.
    Sendmsg,
}

/// What kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// [`STREAM`], [`DATAGRAM`] or another.
    pub kind: u32,
    /// The protocol number.
    pub protocol: u32,
}

impl Socket {
    /// Whether such a socket may exist in a session: TCP and UDP proper, and nothing beside.
    #[inline(always)]
    pub const fn is_allowed(self) -> bool {
        self.is_stream() || self.is_datagram()
    }

    /// Whether it is TCP. MPTCP and SCTP have stream sockets too.
    #[inline(always)]
    pub const fn is_stream(self) -> bool {
        self.kind == STREAM && self.protocol == TCP as u32
    }

    /// Whether it is UDP. UDP-Lite and ping have datagram sockets too.
    #[inline(always)]
    pub const fn is_datagram(self) -> bool {
        self.kind == DATAGRAM && self.protocol == UDP as u32
    }
}

/// Who would receive what is sent to an address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// No socket.
    Nobody,
    /// A socket without a mark.
    Stranger,
    /// A socket made inside the session.
    Session,
    /// A door of the session.
    Door,
}

/// One of the session's two doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Takes connections.
    Proxy,
    /// Takes DNS questions.
    Resolver,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Why {
    /// The socket is neither TCP nor UDP.
    Socket = 1,
    /// A datagram that is not a DNS question.
    Datagram = 2,
    /// A socket option that would change where packets go.
    Option = 3,
    /// A packet that no socket of the session may send.
    Packet = 4,
    /// The door is gone, or somebody else took its port.
    DoorShut = 5,
    /// The target could not be written down, so that nobody could have judged it.
    Unrecorded = 6,
    /// A unix socket that is named, by somebody other than the usher.
    Unix = 7,
    /// A datagram socket pointed at a target. Nothing was sent yet.
    Aim = 8,
}

impl Why {
    /// The reason behind the number in a record.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Socket,
            2 => Self::Datagram,
            3 => Self::Option,
            4 => Self::Packet,
            5 => Self::DoorShut,
            6 => Self::Unrecorded,
            7 => Self::Unix,
            8 => Self::Aim,
            _ => return None,
        })
    }
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes where it says: to the session's own sockets.
    Pass,
    /// It goes to a door, and where it meant to go is remembered.
    Turn(Door),
    /// The call fails at once.
    Refuse(Why),
}

/// Decides what becomes of a target that a program named. `there` tells who listens at it and
/// matters for loopback only.
///
/// A stream to a loopback port where nobody listens passes, and gets its `ECONNREFUSED` from the
/// kernel; should somebody start to listen in between, [`leave`] stops it. The port of DNS is the
/// exception: a resolver that `resolv.conf` names on loopback answers streams as it does datagrams.
#[inline(always)]
pub const fn steer(hook: Hook, socket: Socket, target: &Endpoint, there: Listener) -> Decision {
    if socket.is_stream() && matches!(hook, Hook::Connect) {
        let own = match there {
            Listener::Session => true,
            Listener::Nobody => target.port != DNS,
            Listener::Stranger | Listener::Door => false,
        };
        if own && target.is_loopback() { Decision::Pass } else { Decision::Turn(Door::Proxy) }
    } else if socket.is_datagram() {
        datagram(target, there)
    } else {
        Decision::Refuse(Why::Socket)
    }
}

/// Decides for a datagram. What is sent to the resolver's own address is a question already
/// turned (a connected IPv4-mapped socket names the rewritten address on every send). What is for
/// everybody is for strangers too, whoever of them was found to listen.
#[inline(always)]
const fn datagram(target: &Endpoint, there: Listener) -> Decision {
    if target.is_broadcast() {
        Decision::Refuse(Why::Datagram)
    } else if target.is_loopback() && matches!(there, Listener::Session) {
        Decision::Pass
    } else if target.port == DNS || (target.is_loopback() && matches!(there, Listener::Door)) {
        Decision::Turn(Door::Resolver)
    } else {
        Decision::Refuse(Why::Datagram)
    }
}

/// Confirms a turn by who listens at the door: nobody but the marked socket gets anything.
#[inline(always)]
pub const fn through(door: Door, at_door: Listener) -> Decision {
    match at_door {
        Listener::Door => Decision::Turn(door),
        Listener::Nobody | Listener::Stranger | Listener::Session => {
            Decision::Refuse(Why::DoorShut)
        }
    }
}

/// Decides whether a packet for a loopback address may leave, by who would receive it.
///
/// A stranger receives nothing. A stream segment for nobody passes: the kernel's answer is a
/// reset, which programs need to learn that their peer is gone; a datagram for nobody does not,
/// since whoever binds the port in that moment would have it.
#[inline(always)]
pub const fn leave(protocol: u16, there: Listener) -> bool {
    match there {
        Listener::Session | Listener::Door => protocol == TCP || protocol == UDP,
        Listener::Nobody => protocol == TCP,
        Listener::Stranger => false,
    }
}

#[cfg(test)]
mod tests;
