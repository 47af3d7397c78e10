//! What the namespace refused to send, read from the kernel's log of packets.
//!
//! Messages of `include/uapi/linux/netfilter/nfnetlink_log.h`.
//!
//! *Never*: shows what a packet carried.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use boundary_common::steer::Why;
use nix::sys::socket::MsgFlags;

use super::netlink::{Message, Socket, attributes, messages};
use super::origin::Members;
use crate::audit::Process;
use crate::jail::ebpf::Refused;

/// A packet that was refused (`NFULNL_MSG_PACKET`).
const PACKET: u16 = 4 << 8;
/// The attribute with the packet itself, from its network header on.
const PAYLOAD: u16 = 9;
/// The attribute with the user whose socket sent it.
const USER: u16 = 11;
/// The attribute with its number, which counts those as well that there was no room for.
const SEQUENCE: u16 = 12;

/// The log before it is read.
#[derive(Debug)]
pub struct Ring {
    log: Socket,
    members: Members,
}

impl Ring {
    /// The log of a namespace with these members.
    pub(super) fn new(log: Socket, members: Members) -> Self {
        Self { log, members }
    }

    /// The descriptors that a process which forks must keep open for it.
    pub fn descriptors(&self) -> [RawFd; 2] {
        use std::os::fd::AsRawFd as _;
        [self.log.as_fd().as_raw_fd(), self.members.descriptor()]
    }

    /// Starts to read.
    pub fn open(self) -> Refusals {
        let Self { log, members } = self;
        Refusals { log, members, waiting: VecDeque::new(), tally: Tally::default() }
    }
}

/// The reader of the log. Its descriptor becomes readable when there is something to read.
#[derive(Debug)]
pub struct Refusals {
    log: Socket,
    members: Members,
    waiting: VecDeque<Refused>,
    tally: Tally,
}

impl Refusals {
    /// The next refusal, if there is one now. What cannot be understood is passed over.
    #[expect(clippy::should_implement_trait, reason = "it ends for now only, not for good")]
    pub fn next(&mut self) -> Option<Refused> {
        while self.waiting.is_empty() {
            match self.log.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(datagram) => self.read(&datagram),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.tally.overrun(),
                Err(_) => return None,
            }
        }
        self.waiting.pop_front()
    }

    /// Reads what the kernel told at once.
    fn read(&mut self, datagram: &[u8]) {
        for message in messages(datagram).filter(|message| message.kind == PACKET) {
            self.tally.read(sequence(message));
            self.waiting.extend(told(message, &self.members));
        }
    }

    /// How many refusals were lost because nobody read them in time, since this was last asked. Where the
    /// last of all are lost nothing comes after them that would say how many, and it is one at least.
    pub fn lost(&mut self) -> u64 {
        self.tally.take()
    }

    /// Reads everything that is there and keeps nothing of it.
    pub fn forget(&mut self) -> io::Result<()> {
        loop {
            match self.log.receive(MsgFlags::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.log.as_fd()
    }
}

/// What was lost, by the numbers of what was read.
#[derive(Debug, Default)]
struct Tally {
    next: Option<u32>,
    /// Whether there was no room for something, and no gap has shown yet for how much.
    is_overrun: bool,
    lost: u64,
    /// How much of what the next number will show was told already.
    ahead: u64,
}

impl Tally {
    /// The kernel had more to say than there was room for, which it says once, before all that waits.
    fn overrun(&mut self) {
        self.is_overrun = true;
    }

    /// One was read.
    fn read(&mut self, sequence: Option<u32>) {
        let Some(sequence) = sequence else { return };
        let missing = self.next.map_or(0, |next| sequence.wrapping_sub(next));
        self.next = Some(sequence.wrapping_add(1));
        if missing > 0 {
            self.lost += u64::from(missing).saturating_sub(self.ahead);
            (self.is_overrun, self.ahead) = (false, 0);
        }
    }

    /// How many, since this was last asked.
    fn take(&mut self) -> u64 {
        if std::mem::take(&mut self.is_overrun) && self.ahead == 0 {
            self.ahead = 1;
            self.lost += 1;
        }
        std::mem::take(&mut self.lost)
    }
}

/// The number of a packet in its log.
fn sequence(message: Message<'_>) -> Option<u32> {
    let mut all = attributes(message.body.get(4..)?);
    let (_, value) = all.find(|(kind, _)| *kind == SEQUENCE)?;
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A refusal in the words of the record.
fn told(message: Message<'_>, members: &Members) -> Option<Refused> {
    // The family and the group come first.
    let mut payload = None;
    let mut uid = None;
    for (kind, value) in attributes(message.body.get(4..)?) {
        match kind {
            PAYLOAD => payload = Packet::read(value),
            USER => uid = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            _ => {}
        }
    }
    let Packet { protocol, source, target } = payload?;
    let process = match protocol {
        17 => members.holder(libc::IPPROTO_UDP, source, target),
        _ => None,
    };
    let process = process.or_else(|| uid.map(nobody))?;
    let (proto, why) = match protocol {
        1 | 58 => ("icmp", Why::Packet),
        17 => ("udp", Why::Datagram),
        _ => ("other", Why::Packet),
    };
    Some(Refused { process, proto, target: Some(target), why, option: None })
}

/// A process of which only the user is known.
fn nobody(uid: u32) -> Process {
    Process { uid, ..Process::default() }
}

/// What a packet's headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    protocol: u8,
    source: SocketAddr,
    target: SocketAddr,
}

impl Packet {
    /// Reads the headers. Ports there are where the protocol has them first.
    fn read(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let (protocol, source, target, rest) = if first >> 4 == 4 {
            let address = |at: usize| {
                let octets: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
                Some(IpAddr::from(Ipv4Addr::from(octets)))
            };
            let header = usize::from(first & 0xf) * 4;
            (*bytes.get(9)?, address(12)?, address(16)?, bytes.get(header..)?)
        } else {
            let address = |at: usize| {
                let octets: [u8; 16] = *bytes.get(at..)?.first_chunk()?;
                Some(IpAddr::from(Ipv6Addr::from(octets)))
            };
            (*bytes.get(6)?, address(8)?, address(24)?, bytes.get(40..)?)
        };
        let port = |at: usize| {
            let bytes = rest.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
        };
        let source = SocketAddr::new(source, port(0));
        Some(Self { protocol, source, target: SocketAddr::new(target, port(2)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagrams_ends_are_read_from_its_headers() {
        let mut packet = vec![0x46, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend([192, 0, 0, 8, 198, 51, 100, 7]);
        packet.extend([0; 4]);
        packet.extend([0x9c, 0x40, 0x01, 0xbb]);
        let read = Packet::read(&packet).unwrap();
        assert_eq!(read.source, "192.0.0.8:40000".parse().unwrap());
        assert_eq!((read.protocol, read.target), (17, "198.51.100.7:443".parse().unwrap()));
    }

    #[test]
    fn what_is_missing_between_two_numbers_was_lost() {
        let mut tally = Tally::default();
        for number in [u32::MAX - 1, u32::MAX, 0, 3] {
            tally.read(Some(number));
        }
        assert_eq!((tally.take(), tally.take()), (2, 0));
        tally.read(None);
        tally.read(Some(4));
        assert_eq!(tally.take(), 0);
    }

    #[test]
    fn what_was_lost_last_is_one_at_least_and_counted_once() {
        let mut tally = Tally::default();
        tally.read(Some(6));
        tally.overrun();
        tally.read(Some(7));
        assert_eq!((tally.take(), tally.take()), (1, 0));
        tally.overrun();
        assert_eq!(tally.take(), 0, "it may be the same");
        tally.read(Some(11));
        assert_eq!(tally.take(), 2, "three in all");
        tally.overrun();
        tally.read(Some(14));
        assert_eq!(tally.take(), 2);
    }

    #[test]
    fn a_packet_that_is_cut_off_tells_nothing() {
        for length in 0..20 {
            assert_eq!(Packet::read(&vec![0x45; length]), None);
        }
        assert_eq!(Packet::read(&[0x60; 39]), None);
    }
}
