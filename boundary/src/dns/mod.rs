//! The built-in resolver: answers every question with an address that stands for the name.
//!
//! *Standing*: the jail turns every question, to whatever resolver, to [`Resolver::serve_udp`] or,
//! through the proxy's door, to [`Resolver::serve_stream`]. *Never*: asks anybody, unless it was
//! given a [`Forwarder`], and even then not for a name that no rule covers. A name that nobody may
//! reach gives nothing away by being asked for.

mod answered;
mod datagram;
mod directory;
mod forward;
mod pins;
mod serve;

#[cfg(test)]
mod tests;

pub use directory::Directory;
pub use forward::Forwarder;
pub use pins::{Pin, Pins};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::audit::{Decision, Door, Process, Recorder, Subject, Tally};
use crate::rules::{Code, Host, Policies};

/// How long a client may keep an answer, in seconds. A pin never changes; this only bounds what a
/// client remembers when the session is over.
const TTL: u32 = 60;

/// What a client may send in one datagram (the DNS flag day's value; we never need more ourselves).
const PAYLOAD: u16 = 1232;

/// The bytes of a message's header.
const HEADER: usize = 12;

/// Answers the jail's questions.
#[derive(Debug)]
pub struct Resolver {
    pins: Arc<Pins>,
    rules: Arc<Policies>,
    recorder: Recorder,
    forwarder: Option<Forwarder>,
    has_v6: bool,
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    code: ResponseCode,
    data: Option<RData>,
    refused: Option<Code>,
}

impl Reply {
    /// The name has this.
    fn data(data: RData) -> Self {
        Self { code: ResponseCode::NoError, data: Some(data), refused: None }
    }

    /// The name is there, but has nothing of that type.
    fn empty() -> Self {
        Self { code: ResponseCode::NoError, data: None, refused: None }
    }

    /// There is no such name.
    fn absent() -> Self {
        Self { code: ResponseCode::NXDomain, data: None, refused: None }
    }

    /// No answer, for a reason that goes on record.
    fn refused(code: ResponseCode, refused: Code) -> Self {
        Self { code, data: None, refused: Some(refused) }
    }
}

impl Resolver {
    /// A resolver that shares the proxy's pins.
    pub fn new(pins: Arc<Pins>, rules: Arc<Policies>, recorder: Recorder) -> Self {
        Self { pins, rules, recorder, forwarder: None, has_v6: true }
    }

    /// The resolver where nothing over IPv6 gets to the proxy: no name has an address of it.
    #[must_use]
    pub fn without_v6(self) -> Self {
        Self { has_v6: false, ..self }
    }

    /// The resolver, with the host's own behind it: questions for names that a rule covers are
    /// asked there.
    #[must_use]
    pub fn forwarding(self, forwarder: Forwarder) -> Self {
        Self { forwarder: Some(forwarder), ..self }
    }

    /// Answers one message. `None` for what must not be answered, and is on record all the same: an
    /// answer, or no message at all.
    pub fn answer(&self, query: &[u8], process: Option<Process>) -> Option<Vec<u8>> {
        if query.len() < HEADER || query.get(2)? & 0x80 != 0 {
            self.note_unclear(process);
            return None;
        }
        let Ok(query) = Message::from_vec(query) else {
            self.note_unclear(process);
            return malformed(query);
        };
        let mut response = respond(&query);
        match question(&query) {
            Err(code) => {
                self.note_unclear(process);
                fail(&mut response, code);
            }
            Ok(question) => {
                let reply = self.reply(question);
                let kind = question.query_type().to_string();
                self.note((process, None), shown(question.name()), kind, reply.refused);
                fail(&mut response, reply.code);
                let name = question.name().clone();
                response.answers.extend(reply.data.map(|data| Record::from_rdata(name, TTL, data)));
            }
        }
        response.to_vec().ok()
    }

    /// Decides what a question is answered with.
    fn reply(&self, question: &Query) -> Reply {
        let name = question.name();
        if name.is_root() {
            return Reply::empty();
        }
        if !name.iter().all(is_plain) {
            return Reply::refused(ResponseCode::Refused, Code::BadHost);
        }
        if question.query_class() != DNSClass::IN {
            return Reply::empty();
        }
        if question.query_type() == RecordType::PTR {
            return self.reverse(name);
        }
        match Host::parse(&shown(name)) {
            Err(_) => Reply::refused(ResponseCode::Refused, Code::BadHost),
            // A program that asks for an address by name has it already.
            Ok(Host::Address(_)) => Reply::absent(),
            Ok(host) if is_localhost(&host) => address(question, || Some(LOOPBACK)),
            Ok(host) if self.is_search_attempt(&host) => Reply::absent(),
            Ok(_) if !self.has_v6 && question.query_type() == RecordType::AAAA => Reply::empty(),
            Ok(host) => address(question, || self.pins.pin(&host)),
        }
    }

    /// The name behind a synthetic address.
    fn reverse(&self, name: &Name) -> Reply {
        let Some(address) = reverse_address(name) else { return Reply::absent() };
        let found = if address.is_loopback() {
            Some("localhost".to_owned())
        } else {
            self.pins.name(address).map(|host| host.to_string())
        };
        // A trailing dot: the name is whole.
        found
            .and_then(|name| Name::from_ascii(format!("{name}.")).ok())
            .map_or_else(Reply::absent, |name| Reply::data(RData::PTR(PTR(name))))
    }

    /// Whether the name is only what a client made of a shorter one by the host's search list.
    ///
    /// Answering it would pin the long name to a connection that will ask for the short one. A name
    /// that a rule covers is taken at its word, unless the rules cover the shorter name as well and
    /// that is no single label: `domain=*` must not make every public name a name in the cluster. But a
    /// rule that knows it from other names below the suffix means it.
    fn is_search_attempt(&self, host: &Host) -> bool {
        let text = host.to_string();
        let shorter = self.pins.search().iter().filter_map(|suffix| {
            let name = text.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
            (!name.is_empty()).then_some((name, suffix))
        });
        // The longest suffix is the one that leaves least.
        let Some((shorter, suffix)) = shorter.min_by_key(|(name, _)| name.len()) else {
            return self.is_own_attempt(host, &text);
        };
        let covers = |host: &Host| self.rules.names_host(host);
        if !covers(host) {
            return true;
        }
        let is_public =
            shorter.contains('.') && Host::parse(shorter).is_ok_and(|host| covers(&host));
        is_public && !self.is_meant(host, shorter, suffix)
    }

    /// The same where there is no list but the domain of the machine's own name, which may be as wide as
    /// `com`: only of a single label that a rule covers.
    fn is_own_attempt(&self, host: &Host, text: &str) -> bool {
        let covers = |host: &Host| self.rules.names_host(host);
        let short = || text.strip_suffix(self.pins.own()?)?.strip_suffix('.');
        let short = || short().filter(|short| !short.contains('.'));
        let is_covered =
            || short().and_then(|short| Host::parse(short).ok()).is_some_and(|it| covers(&it));
        !covers(host) && is_covered()
    }

    /// Whether a rule knows a name below a suffix from others there, with as many labels that are
    /// nobody's.
    fn is_meant(&self, host: &Host, shorter: &str, suffix: &str) -> bool {
        let nobody = "_.".repeat(shorter.split('.').count());
        Host::parse(&format!("{nobody}{suffix}"))
            .is_ok_and(|other| self.rules.tells_apart(host, &other))
    }

    /// Puts on record that somebody asked what is no question.
    fn note_unclear(&self, process: Option<Process>) {
        self.note((process, None), String::new(), String::new(), Some(Code::BadRequest));
    }

    /// Puts a question on record: who asked, and which server it is passed on to.
    fn note(
        &self,
        (process, target): (Option<Process>, Option<SocketAddr>),
        name: String,
        kind: String,
        refused: Option<Code>,
    ) {
        let subject = Subject { door: Door::Dns, process: process.map(Arc::new), target };
        self.recorder
            .decide(&subject, Decision::Dns { name, kind, refused })
            .close(Tally::default());
    }
}

/// Where `localhost` is, whoever is asked.
const LOOPBACK: Pin = Pin { v4: Ipv4Addr::LOCALHOST, v6: Ipv6Addr::LOCALHOST };

/// The address of the family that was asked for. HTTPS and SVCB records, and the keys for an
/// encrypted `ClientHello` in them, are withheld with everything else.
fn address(question: &Query, pin: impl FnOnce() -> Option<Pin>) -> Reply {
    let kind = question.query_type();
    if !kind.is_ip_addr() {
        return Reply::empty();
    }
    match pin() {
        Some(pin) if kind == RecordType::A => Reply::data(RData::A(A(pin.v4))),
        Some(pin) => Reply::data(RData::AAAA(AAAA(pin.v6))),
        None => Reply::refused(ResponseCode::ServFail, Code::NamesExhausted),
    }
}

/// A response to a query that could be read, with nothing in it yet.
fn respond(query: &Message) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata = Metadata::response_from_request(&query.metadata);
    response.metadata.recursion_available = true;
    response.queries.clone_from(&query.queries);
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
        response.edns = Some(edns);
    }
    response
}

/// The one question of a query, or why it has none.
fn question(query: &Message) -> Result<&Query, ResponseCode> {
    if query.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(ResponseCode::BADVERS);
    }
    match query.queries.as_slice() {
        [question] => Ok(question),
        _ => Err(ResponseCode::FormErr),
    }
}

/// Sets a response's code, its high bits where they belong.
fn fail(response: &mut Message, code: ResponseCode) {
    response.metadata.response_code = code;
    if let Some(edns) = &mut response.edns {
        edns.set_rcode_high(code.high());
    }
}

/// A response to bytes of which only the header made sense.
fn malformed(query: &[u8]) -> Option<Vec<u8>> {
    let (&[high, low, flags], _) = query.split_first_chunk()?;
    let op_code = OpCode::from_u8(flags >> 3 & 0x0f);
    let mut response =
        Message::new(u16::from_be_bytes([high, low]), MessageType::Response, op_code);
    response.metadata.response_code = ResponseCode::FormErr;
    response.to_vec().ok()
}

/// Whether a label is made of letters, digits, hyphens and underscores.
fn is_plain(label: &[u8]) -> bool {
    label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A name as text in lower case, without the dot at its end.
fn shown(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').map_or_else(|| text.clone(), str::to_owned)
}

/// RFC 6761 keeps `localhost` and all below it for loopback.
fn is_localhost(host: &Host) -> bool {
    let text = host.to_string();
    text == "localhost" || text.ends_with(".localhost")
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` spells in full.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// The search list of a `resolv.conf`, without final dots; none where no line says one. Of several, the
/// last counts.
pub fn search_domains(resolv_conf: &str) -> Option<Vec<String>> {
    let mut lists = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next()?, "search" | "domain").then_some(words)
    });
    let words = lists.next_back()?;
    let domains = words.map(|word| word.trim_end_matches('.').to_ascii_lowercase());
    Some(domains.filter(|word| !word.is_empty()).collect())
}

/// The names and addresses of a hosts file (hosts(5)), but for those of this machine itself, which
/// lists of unwanted names hold by the hundred thousand.
pub fn hosts_file(text: &str) -> impl Iterator<Item = (Host, IpAddr)> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse::<IpAddr>().ok()?.to_canonical();
        let is_elsewhere = !address.is_loopback() && !address.is_unspecified();
        is_elsewhere.then_some((address, words))
    });
    lines.flat_map(|(address, words)| {
        let names = words.filter_map(|word| Host::parse(word).ok());
        names.filter(|host| matches!(host, Host::Name(_))).map(move |name| (name, address))
    })
}
