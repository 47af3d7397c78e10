//! The simulated internet's resolver: it has every address, knows a few names, and notes who asked.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nix::libc::in6_pktinfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use super::place::Place;
use super::stop::Watch;

/// Names that every world knows.
///
/// Most have an address of each family, so that a test chooses one by asking for it.
const NAMES: &[(&str, &[&str])] = &[
    ("allowed.test", &["203.0.113.10", "2001:db8::10"]),
    ("sub.allowed.test", &["203.0.113.11", "2001:db8::11"]),
    ("denied.test", &["203.0.113.66", "2001:db8::66"]),
    ("expired.test", &["203.0.113.20"]),
    ("selfsigned.test", &["203.0.113.21"]),
    ("wrong.test", &["203.0.113.22"]),
    ("four.test", &["203.0.113.4"]),
    ("six.test", &["2001:db8::6"]),
    ("private.test", &["10.20.30.40"]),
    ("loopback.test", &["127.0.0.1"]),
    ("metadata.test", &["169.254.169.254"]),
];

/// One question that reached the resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The name, in lower case, without the last dot.
    pub(crate) name: String,
    /// The record type, as `A`.
    pub(crate) kind: String,
    /// The address that was asked.
    pub(crate) server: IpAddr,
}

/// What the resolver knows and what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Names {
    known: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
    /// Names that give one address after the other, and how often each was asked for.
    turning: Arc<Mutex<HashMap<String, usize>>>,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Names {
    /// The usual names, answered from now on at port 53 of every address.
    pub(crate) fn serve(internet: &Place, watch: Watch) -> Self {
        let names = Self::default();
        for (name, addresses) in NAMES {
            names.set(name, addresses);
        }
        names.serve_in(internet, watch);
        names
    }

    /// Answers at port 53 of every address of a place, by datagrams.
    pub(crate) fn serve_in(&self, place: &Place, watch: Watch) {
        let serving = self.clone();
        place.run(move || {
            let socket = at_port_53();
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).expect("every kernel has it");
            // Answers come from the address that was asked, which no interface has.
            setsockopt(&socket, sockopt::IpFreebind, &true).expect("every kernel has it");
            std::thread::spawn(move || serving.answer_all(&socket, &watch));
        });
    }

    /// Gives a name its addresses.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        self.known.lock().expect("not poisoned").insert(name.to_owned(), addresses);
    }

    /// Gives a name that has another of these addresses at each question.
    pub(crate) fn turn(&self, name: &str, addresses: &[&str]) {
        self.set(name, addresses);
        self.turning.lock().expect("not poisoned").insert(name.to_owned(), 0);
    }

    /// The addresses that a name has for this question.
    fn addresses(&self, name: &str, kind: RecordType) -> Option<Vec<IpAddr>> {
        let known = self.known.lock().expect("not poisoned").get(name).cloned()?;
        let mut turning = self.turning.lock().expect("not poisoned");
        let Some(asked) = turning.get_mut(name) else { return Some(known) };
        *asked += usize::from(kind == RecordType::A);
        Some(vec![known[*asked % known.len()]])
    }

    /// Every question since the last call.
    pub(crate) fn take(&self) -> Vec<Question> {
        std::mem::take(&mut *self.asked.lock().expect("not poisoned"))
    }

    /// The UDP half, until the world ends.
    fn answer_all(&self, socket: &UdpSocket, watch: &Watch) {
        while watch.readable(&[socket.as_fd()]).is_some() {
            if let Err(error) = self.answer_one(socket) {
                // A malformed datagram is an attack on boundary's part of the test, not on ours.
                eprintln!("the resolver could not answer: {error}");
            }
        }
    }

    /// Answers one datagram from the address that it was sent to.
    fn answer_one(&self, socket: &UdpSocket) -> io::Result<()> {
        let mut query = [0; 4096];
        let mut space = nix::cmsg_space!(in6_pktinfo);
        let mut parts = [IoSliceMut::new(&mut query)];
        let got = recvmsg::<SockaddrIn6>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        )?;
        let asked = got.cmsgs()?.find_map(|message| {
            if let ControlMessageOwned::Ipv6PacketInfo(info) = message { Some(info) } else { None }
        });
        let (Some(client), Some(mut info), length) = (got.address, asked, got.bytes) else {
            return Err(io::Error::other("no address"));
        };
        let server = Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical();
        let Some(answer) = self.answer(&query[..length], server) else { return Ok(()) };
        info.ipi6_ifindex = 0;
        let control = [ControlMessage::Ipv6PacketInfo(&info)];
        let parts = [IoSlice::new(&answer)];
        sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&client))?;
        Ok(())
    }

    /// The TCP half: answers questions on one connection until it closes.
    pub(crate) fn converse(&self, stream: &mut TcpStream) -> io::Result<()> {
        let server = stream.local_addr()?.ip().to_canonical();
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query)?;
            let Some(answer) = self.answer(&query, server) else { return Ok(()) };
            let length = u16::try_from(answer.len()).expect("a short answer");
            stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
        }
        Ok(())
    }

    /// Notes the question and answers it: a known name with its addresses, others with no such name.
    fn answer(&self, query: &[u8], server: IpAddr) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?.clone();
        let name = question.name().to_lowercase().to_string();
        let name = name.trim_end_matches('.').to_owned();
        let kind = question.query_type();
        let known = self.addresses(&name, kind);
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        if known.is_none() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        for address in known.unwrap_or_default() {
            answer.answers.extend(record(question.name(), kind, address));
        }
        answer.queries.push(question);
        let mut asked = self.asked.lock().expect("not poisoned");
        asked.push(Question { name, kind: kind.to_string(), server });
        answer.to_vec().ok()
    }
}

/// The record of an address, if it is of the type asked for.
fn record(name: &Name, kind: RecordType, address: IpAddr) -> Option<Record> {
    let data = match (address, kind) {
        (IpAddr::V4(ip), RecordType::A) => RData::A(ip.into()),
        (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(ip.into()),
        _ => return None,
    };
    Some(Record::from_rdata(name.clone(), 60, data))
}

/// A socket at port 53 of every address. Whoever another test is about to start has a copy of the one that was
/// there before, until it is started.
fn at_port_53() -> UdpSocket {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)) {
            Err(error) if Instant::now() > deadline => panic!("port 53 is not free: {error}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
            Ok(socket) => return socket,
        }
    }
}
