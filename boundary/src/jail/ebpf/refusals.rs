//! What the kernel half refused, read from its ring.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, RawFd};
use std::sync::Arc;

use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use boundary_common::flow::{Endpoint, Refusal};
use boundary_common::steer::Why;
use zerocopy::FromBytes as _;

use super::process::Processes;
use super::{Error, origin};
use crate::audit::{Decision, Door, Process, Subject};
use crate::rules::{Code, Host};

/// One refusal, ready for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who tried.
    pub process: Process,
    /// The protocol: `udp`, `icmp`, `raw`, ….
    pub proto: &'static str,
    /// Where to, if it was an attempt to go somewhere.
    pub target: Option<SocketAddr>,
    /// Why.
    pub why: Why,
    /// The level and the name of a socket option that was refused.
    pub option: Option<(u16, u16)>,
}

impl Refused {
    /// What goes on record. `name_of` tells which name an address stands for.
    pub fn into_decision(self, name_of: impl Fn(IpAddr) -> Option<Host>) -> (Subject, Decision) {
        let host = self.target.and_then(|target| name_of(target.ip()));
        let code = match self.why {
            Why::Socket => Code::SocketType,
            Why::Datagram => Code::Datagram,
            Why::Option => Code::SocketOption,
            Why::Packet => Code::Packet,
            Why::DoorShut | Why::Unrecorded => Code::DoorShut,
            Why::Unix => Code::UnixSocket,
            Why::Aim => Code::DatagramConnect,
        };
        let subject =
            Subject { door: Door::Kernel, process: Some(self.process.into()), target: self.target };
        (subject, Decision::Dropped { proto: self.proto, code, host })
    }
}

/// The reader of the ring. Its descriptor becomes readable when there is something to read.
pub struct Refusals {
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    /// How many of the lost were told.
    told: u64,
    processes: Arc<Processes>,
}

/// The ring before it is read. What was forgotten until it is opened is not seen.
#[derive(Debug)]
pub struct Ring {
    events: MapData,
    lost: MapData,
    processes: Arc<Processes>,
}

impl Ring {
    /// The ring that lies in these maps.
    pub(super) fn new(events: MapData, lost: MapData, processes: Arc<Processes>) -> Self {
        Self { events, lost, processes }
    }

    /// The descriptors that a process which forks must keep open for it.
    pub fn descriptors(&self) -> [RawFd; 2] {
        [&self.events, &self.lost].map(|map| map.fd().as_fd().as_raw_fd())
    }

    /// Starts to read, and to count what is lost.
    pub fn open(self) -> Result<Refusals, Error> {
        let opened = Refusals::new(self.events, self.lost, self.processes);
        opened.map_err(|error| Error::Kernel(error.into()))
    }
}

impl Refusals {
    /// Opens the ring, and counts what was lost from now on.
    fn new(events: MapData, lost: MapData, processes: Arc<Processes>) -> Result<Self, MapError> {
        let ring = RingBuf::try_from(Map::RingBuf(events))?;
        let lost = PerCpuArray::try_from(Map::PerCpuArray(lost))?;
        let told = total(&lost)?;
        Ok(Self { ring, lost, told, processes })
    }

    /// The next refusal, if there is one now. What cannot be understood is passed over; both
    /// halves are built together, so that there is none.
    #[expect(clippy::should_implement_trait, reason = "it ends for now only, not for good")]
    pub fn next(&mut self) -> Option<Refused> {
        loop {
            let item = self.ring.next()?;
            let refusal = Refusal::read_from_bytes(&item).ok();
            if let Some(refused) = refusal.and_then(|refusal| told(&refusal, &self.processes)) {
                return Some(refused);
            }
        }
    }

    /// How many refusals were lost because nobody read them in time, since this was last asked.
    pub fn lost(&mut self) -> Result<u64, MapError> {
        let total = total(&self.lost)?;
        let before = std::mem::replace(&mut self.told, total);
        Ok(total.saturating_sub(before))
    }
}

impl AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals").field("told", &self.told).finish_non_exhaustive()
    }
}

/// What was lost on all processors together.
fn total(lost: &PerCpuArray<MapData, u64>) -> Result<u64, MapError> {
    Ok(lost.get(&0, 0)?.iter().sum())
}

/// A refusal in the words of the record.
fn told(refusal: &Refusal, processes: &Processes) -> Option<Refused> {
    let why = Why::from_number(refusal.why)?;
    let target = (refusal.target != Endpoint::default()).then(|| origin::address(&refusal.target));
    // The level is the upper half, the name the lower.
    let [level, name] = [refusal.option >> 16, refusal.option & 0xffff]
        .map(|half| u16::try_from(half).unwrap_or(u16::MAX));
    Some(Refused {
        process: processes.of_task(&refusal.task, refusal.time),
        proto: protocol(refusal),
        target,
        why,
        option: (why == Why::Option).then_some((level, name)),
    })
}

/// The protocol in a word.
fn protocol(refusal: &Refusal) -> &'static str {
    const UNIX: u16 = 1;
    if refusal.family == UNIX {
        return "unix";
    }
    protocol_name(u32::from(refusal.kind), u32::from(refusal.protocol))
}

/// The protocol of a socket of the internet's families, by its type and number.
pub(in crate::jail) fn protocol_name(kind: u32, protocol: u32) -> &'static str {
    const RAW: u32 = 3;
    match (kind, protocol) {
        (_, 1 | 58) => "icmp",
        (RAW, _) | (_, 255) => "raw",
        (_, 2) => "igmp",
        (_, 6) => "tcp",
        (_, 17) => "udp",
        (_, 33) => "dccp",
        (_, 132) => "sctp",
        (_, 136) => "udplite",
        (_, 262) => "mptcp",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_option_names_itself_and_no_target() {
        let refusal = Refusal {
            why: Why::Option as u16,
            protocol: 6,
            option: 0x29_0039,
            ..Refusal::default()
        };
        let refused = told(&refusal, &Processes::default()).unwrap();
        assert_eq!((refused.option, refused.target), (Some((41, 57)), None));
    }

    #[test]
    fn a_refused_datagram_names_its_target() {
        let target = Endpoint::v4(u32::from_ne_bytes([192, 0, 2, 1]), 9);
        let refusal =
            Refusal { why: Why::Datagram as u16, protocol: 17, target, ..Refusal::default() };
        let refused = told(&refusal, &Processes::default()).unwrap();
        assert_eq!(refused.target, Some("192.0.2.1:9".parse().unwrap()));
        assert_eq!((refused.proto, refused.option), ("udp", None));
    }

    #[test]
    fn a_number_that_means_nothing_is_passed_over() {
        assert_eq!(told(&Refusal::default(), &Processes::default()), None);
    }

    #[test]
    fn protocols_have_their_usual_names() {
        let of = |family, kind, protocol| {
            super::protocol(&Refusal { family, kind, protocol, ..Refusal::default() })
        };
        assert_eq!([of(2, 2, 1), of(2, 3, 1), of(2, 3, 89)], ["icmp", "icmp", "raw"]);
        assert_eq!([of(2, 1, 132), of(10, 2, 136), of(1, 1, 0)], ["sctp", "udplite", "unix"]);
    }
}
