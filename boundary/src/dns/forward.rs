//! Questions that are passed on to the host's resolvers, where the user asked for that.
//!
//! *Standing*: with `use_real_dns`, [`Resolver::errand`] says of a question that it is to be asked
//! outside, and [`Resolver::run`] asks it. [`super::Directory`] asks for the addresses of what is
//! permitted. *Never*: passes on a question for a name that no rule covers, or anything of the client's
//! but the question: the other sections and the options of a message would carry data out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use nix::net::if_::if_nametoindex;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::timeout;
use uuid::Uuid;

use super::{PAYLOAD, serve};
use super::{Resolver, fail, is_localhost, is_plain, question, respond, reverse_address, shown};
use crate::audit::Process;
use crate::rules::{Host, RuleSet};

/// How long one server may take. A client gives up after five seconds or more.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often every server is asked.
const ROUNDS: usize = 2;

/// How many servers of a `resolv.conf` count (resolv.conf(5)).
const SERVERS: usize = 3;

/// Questions under way at once; beyond, a client is told to try again.
const UNDER_WAY: usize = 512;

/// The port of every server.
const PORT: u16 = 53;

/// What any client takes in one datagram.
const SMALLEST: u16 = 512;

/// How a question came, and so how it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// In a datagram; an answer that does not fit is cut short, and the client asks by stream.
    Datagram,
    /// In a stream.
    Stream,
}

/// The host's resolvers.
#[derive(Debug)]
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    /// Room for those that are under way.
    pub(super) room: Arc<Semaphore>,
}

/// A question that is to be asked outside.
#[derive(Debug)]
pub(super) struct Errand {
    /// The client's message.
    query: Message,
    /// What is asked.
    question: Query,
}

/// Why an errand brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Too many are under way.
    #[error("too many questions at once")]
    Crowded(#[source] TryAcquireError),
    /// The last server that was asked.
    #[error("the host's resolver did not answer")]
    Unanswered(#[source] io::Error),
    /// Every server that answered.
    #[error("the host's resolver says: {0}")]
    Refused(ResponseCode),
}

impl Forwarder {
    /// The resolvers that a `resolv.conf` names; without any it is the one on this machine.
    pub fn new(resolv_conf: &str) -> Self {
        let named = resolv_conf.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then_some(words.next()?)
        });
        let mut servers: Vec<_> = named.filter_map(server).take(SERVERS).collect();
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        }
        Self::to(servers)
    }

    /// These resolvers.
    pub(super) fn to(servers: Vec<SocketAddr>) -> Self {
        Self { servers, room: Arc::new(Semaphore::new(UNDER_WAY)) }
    }

    /// How many questions are under way.
    fn under_way(&self) -> usize {
        UNDER_WAY.saturating_sub(self.room.available_permits())
    }

    /// Asks one server after the other. One that says that it cannot, or will not, answer is no better
    /// than one that says nothing, but where nobody knows more what it said is the answer.
    async fn ask(&self, asked: &Message, over: Transport) -> Result<(Message, Vec<u8>), Failure> {
        let _place = self.room.try_acquire().map_err(Failure::Crowded)?;
        let bytes = asked.to_vec().map_err(|error| Failure::Unanswered(io::Error::other(error)))?;
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..ROUNDS {
            let mut refused = None;
            for server in &self.servers {
                match ask_one(*server, (asked, &bytes), over).await {
                    Ok(answer) if is_final(&answer.0) => return Ok(answer),
                    Ok(answer) => refused = Some(answer),
                    Err(error) => last = error,
                }
            }
            if let Some(answer) = refused {
                return Ok(answer);
            }
        }
        Err(Failure::Unanswered(last))
    }
}

impl Forwarder {
    /// The addresses of one kind that a name has; none if nobody knows it.
    pub(super) async fn addresses(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<IpAddr>, Failure> {
        let question = Query::query(name.clone(), kind);
        let asked = onward(&Message::new(0, MessageType::Query, OpCode::Query), &question);
        let (mut answer, _) = self.ask(&asked, Transport::Datagram).await?;
        if answer.metadata.truncation {
            (answer, _) = self.ask(&asked, Transport::Stream).await?;
        }
        if !is_final(&answer) {
            return Err(Failure::Refused(answer.metadata.response_code));
        }
        Ok(answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect())
    }
}

impl Resolver {
    /// How many questions are being asked outside.
    pub fn forwarded(&self) -> usize {
        self.forwarder.as_ref().map_or(0, Forwarder::under_way)
    }

    /// The errand that a message means, if it is a question to be asked outside for who asked it.
    pub(super) fn errand(&self, query: &[u8], process: Option<&Process>) -> Option<Errand> {
        self.forwarder.as_ref()?;
        let query = Message::from_vec(query).ok()?;
        let question = question(&query).ok()?.clone();
        let is_query = query.metadata.message_type == MessageType::Query;
        let may = is_query && !self.recorder.is_refusing();
        let rules = self.rules.of(process.map_or(0, Process::place));
        (may && self.is_forwarded(&question, &rules)).then_some(Errand { query, question })
    }

    /// Whether a question is for the host's resolvers: only what a rule covers, so that no other
    /// name carries anything out. Keys for an encrypted greeting are withheld here as well.
    fn is_forwarded(&self, question: &Query, rules: &RuleSet) -> bool {
        let (name, kind) = (question.name(), question.query_type());
        let withheld = matches!(
            kind,
            RecordType::HTTPS
                | RecordType::SVCB
                | RecordType::ANY
                | RecordType::AXFR
                | RecordType::IXFR
                | RecordType::OPT
        );
        if withheld || question.query_class() != DNSClass::IN || !name.iter().all(is_plain) {
            return false;
        }
        if let Some(address) = reverse_address(name) {
            let is_ours = address.is_loopback() || self.pins.is_synthetic(address);
            return !is_ours && rules.names_host(&Host::Address(address));
        }
        match Host::parse(&shown(name)) {
            Ok(host @ Host::Name(_)) => !is_localhost(&host) && rules.names_host(&host),
            Ok(Host::Address(_)) | Err(_) => false,
        }
    }

    /// Asks outside, notes which addresses the name has, and hands the answer back as it came.
    pub(super) async fn run(
        &self,
        errand: Errand,
        process: Option<Process>,
        over: Transport,
    ) -> Option<Vec<u8>> {
        let forwarder = self.forwarder.as_ref()?;
        let Errand { query, question } = errand;
        let server = forwarder.servers.first().copied();
        self.note(
            (process, server),
            shown(question.name()),
            question.query_type().to_string(),
            None,
        );
        let limit = query.edns.as_ref().map_or(SMALLEST, |edns| edns.max_payload().max(SMALLEST));
        match forwarder.ask(&onward(&query, &question), over).await {
            Ok((answer, bytes)) => {
                self.learn(&question, &answer);
                let fits = over == Transport::Stream || bytes.len() <= usize::from(limit);
                if fits { renumbered(bytes, query.metadata.id) } else { cut_short(&query) }
            }
            Err(error) => {
                tracing::warn!(name = %shown(question.name()), %error, "a question was not answered");
                let mut response = respond(&query);
                fail(&mut response, ResponseCode::ServFail);
                response.to_vec().ok()
            }
        }
    }

    /// Notes the addresses of an answer with the name that was asked for, whatever names stand
    /// between.
    fn learn(&self, question: &Query, answer: &Message) {
        let Ok(name) = Host::parse(&shown(question.name())) else { return };
        for record in &answer.answers {
            if let Some(address) = record.data.ip_addr() {
                self.pins.note(&name, address);
            }
        }
    }
}

/// The address of a server as `resolv.conf` writes it, with its zone where it has one.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = zone.parse().ok().or_else(|| if_nametoindex(zone).ok())?;
    Some(SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, scope)))
}

/// The question as it is passed on: with a number of our own, and nothing else of the client's but
/// what it can take.
fn onward(query: &Message, question: &Query) -> Message {
    let [high, low, ..] = Uuid::new_v4().into_bytes();
    let mut asked =
        Message::new(u16::from_be_bytes([high, low]), MessageType::Query, OpCode::Query);
    asked.metadata.recursion_desired = true;
    asked.metadata.checking_disabled = query.metadata.checking_disabled;
    asked.add_query(question.clone());
    asked.edns = query.edns.as_ref().map(|theirs| {
        let mut edns = Edns::new();
        edns.set_max_payload(theirs.max_payload().clamp(SMALLEST, PAYLOAD));
        edns.set_dnssec_ok(theirs.flags().dnssec_ok);
        edns
    });
    asked
}

/// Whether an answer says what is so: there are such records, or no such name.
fn is_final(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Asks one server, which has so long.
async fn ask_one(
    server: SocketAddr,
    (asked, bytes): (&Message, &[u8]),
    over: Transport,
) -> io::Result<(Message, Vec<u8>)> {
    let answer = async {
        match over {
            Transport::Datagram => by_datagram(server, asked, bytes).await,
            Transport::Stream => by_stream(server, asked, bytes).await,
        }
    };
    timeout(PATIENCE, answer).await?
}

/// Asks by datagram, from a port of its own. What is no answer to this question is passed over.
async fn by_datagram(
    server: SocketAddr,
    asked: &Message,
    bytes: &[u8],
) -> io::Result<(Message, Vec<u8>)> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    #[expect(clippy::disallowed_methods, reason = "the host's resolver, as the user asked for")]
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = answer_to(asked, bytes) {
            return Ok((answer, bytes.to_vec()));
        }
    }
}

/// Asks by stream.
async fn by_stream(
    server: SocketAddr,
    asked: &Message,
    bytes: &[u8],
) -> io::Result<(Message, Vec<u8>)> {
    #[expect(clippy::disallowed_methods, reason = "the host's resolver, as the user asked for")]
    let mut stream = TcpStream::connect(server).await?;
    serve::write(&mut stream, bytes).await?;
    let bytes = serve::read(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let answer = answer_to(asked, &bytes).ok_or(io::ErrorKind::InvalidData)?;
    Ok((answer, bytes))
}

/// The message in the bytes, if it answers what was asked.
fn answer_to(asked: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == asked.metadata.id
        && answer.queries == asked.queries;
    fits.then_some(answer)
}

/// An answer under the client's number.
fn renumbered(mut bytes: Vec<u8>, id: u16) -> Option<Vec<u8>> {
    bytes.get_mut(..2)?.copy_from_slice(&id.to_be_bytes());
    Some(bytes)
}

/// An answer that says only that it did not fit.
fn cut_short(query: &Message) -> Option<Vec<u8>> {
    let mut response = respond(query);
    response.metadata.truncation = true;
    response.to_vec().ok()
}
