//! Questions as clients ask them, decoded again as clients decode the answers.

mod forward;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::EdnsFlags;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::audit::{Format, Memory, Session, Sinks};
use crate::rules::{DomainMatch, RuleSet};

/// A generous deadline on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A resolver and its record.
struct Stage {
    resolver: Arc<Resolver>,
    recorder: Recorder,
    records: Memory,
}

impl Stage {
    fn new(rules: &[&str], search: &[&str]) -> Self {
        let (sinks, _, records) = Sinks::memory(tracing::Level::ERROR, Format::Text);
        let recorder = Recorder::start(sinks, Session::default()).expect("threads");
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        let rules = Arc::new(Policies::new(RuleSet::new(rules, DomainMatch::Subdomains)));
        let search = search.iter().map(ToString::to_string).collect();
        Self::with(rules, Pins::searching(search), recorder, records)
    }

    fn with(rules: Arc<Policies>, pins: Pins, recorder: Recorder, records: Memory) -> Self {
        let pins = Arc::new(pins);
        let resolver = Arc::new(Resolver::new(pins, rules, recorder.clone()));
        Self { resolver, recorder, records }
    }

    /// On a machine without a search list, in this domain.
    fn within(rules: &[&str], domain: &str) -> Self {
        let (sinks, _, records) = Sinks::memory(tracing::Level::ERROR, Format::Text);
        let recorder = Recorder::start(sinks, Session::default()).expect("threads");
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        let rules = Arc::new(Policies::new(RuleSet::new(rules, DomainMatch::Subdomains)));
        Self::with(rules, Pins::within(Some(domain.to_owned())), recorder, records)
    }

    fn ask(&self, query: &Message) -> Message {
        let bytes = query.to_vec().expect("encodes");
        let answer = self.resolver.answer(&bytes, None).expect("an answer");
        Message::from_vec(&answer).expect("decodes")
    }

    fn lookup(&self, name: &str, kind: RecordType) -> Message {
        self.ask(&query(name, kind))
    }

    fn address(&self, name: &str, kind: RecordType) -> IpAddr {
        data(&self.lookup(name, kind)).ip_addr().expect("an address")
    }

    fn records(&self) -> Vec<serde_json::Value> {
        assert!(self.recorder.flush(DEADLINE));
        self.records.decisions()
    }
}

fn plain() -> Stage {
    Stage::new(&["domain=example.com"], &[])
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    query
}

fn data(message: &Message) -> &RData {
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert_eq!(message.answers.len(), 1);
    &message.answers[0].data
}

fn code(message: &Message) -> ResponseCode {
    assert!(message.answers.is_empty());
    message.metadata.response_code
}

#[test]
fn a_name_gets_an_address_of_each_family_that_stands_for_it() {
    let stage = plain();
    let v4 = stage.address("api.example.com.", RecordType::A);
    let v6 = stage.address("api.example.com.", RecordType::AAAA);
    assert_eq!(v4.to_string(), "198.18.0.1");
    assert_eq!(v6.to_string(), "fd62:6f75:6e64::1");
    for address in [v4, v6, "::ffff:198.18.0.1".parse().expect("an address")] {
        assert!(stage.resolver.pins.is_synthetic(address));
        let name = stage.resolver.pins.name(address).expect("a name");
        assert_eq!(name.to_string(), "api.example.com");
    }
}

#[test]
fn one_name_in_any_spelling_is_one_pin_and_another_name_another() {
    let stage = plain();
    let first = stage.address("a.example.com.", RecordType::A);
    assert_eq!(stage.address("A.eXample.COM.", RecordType::A), first);
    assert_ne!(stage.address("b.example.com.", RecordType::A), first);
}

#[test]
fn a_name_that_no_rule_covers_is_answered_too_so_that_the_refusal_can_name_it() {
    let address = plain().address("evil.example.", RecordType::A);
    assert!(Pins::default().is_synthetic(address));
}

#[test]
fn the_answer_is_to_the_question_as_it_was_spelled() {
    let answer = plain().lookup("eXaMple.com.", RecordType::A);
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
    assert_eq!(answer.queries[0].name().to_ascii(), "eXaMple.com.");
    assert_eq!(answer.answers[0].name.to_ascii(), "eXaMple.com.");
    assert_eq!(answer.answers[0].ttl, TTL);
}

#[test]
fn a_synthetic_address_gives_its_name_back() {
    let stage = plain();
    stage.address("api.example.com.", RecordType::A);
    let v6_zeros = "1.".to_owned() + &"0.".repeat(19) + "4.6.e.6.5.7.f.6.2.6.d.f.ip6.arpa.";
    for name in ["1.0.18.198.in-addr.arpa.", &v6_zeros] {
        let answer = stage.lookup(name, RecordType::PTR);
        assert_eq!(data(&answer).to_string(), "api.example.com.", "{name}");
    }
}

#[test]
fn an_address_that_stands_for_nothing_has_no_name() {
    let stage = plain();
    for name in ["9.0.18.198.in-addr.arpa.", "8.8.8.8.in-addr.arpa.", "18.198.in-addr.arpa."] {
        assert_eq!(code(&stage.lookup(name, RecordType::PTR)), ResponseCode::NXDomain, "{name}");
    }
}

#[test]
fn localhost_is_loopback_and_is_not_pinned() {
    let stage = plain();
    for name in ["localhost.", "LocalHost.", "a.b.localhost."] {
        assert!(stage.address(name, RecordType::A).is_loopback(), "{name}");
        assert!(stage.address(name, RecordType::AAAA).is_loopback(), "{name}");
    }
    assert_eq!(stage.address("first.example.com.", RecordType::A).to_string(), "198.18.0.1");
}

#[test]
fn everything_but_an_address_is_withheld() {
    let stage = plain();
    let kinds = [
        RecordType::HTTPS,
        RecordType::SVCB,
        RecordType::TXT,
        RecordType::MX,
        RecordType::SRV,
        RecordType::CNAME,
        RecordType::NS,
        RecordType::ANY,
        RecordType::Unknown(65_280),
    ];
    for kind in kinds {
        assert_eq!(code(&stage.lookup("example.com.", kind)), ResponseCode::NoError, "{kind}");
    }
    assert_eq!(code(&stage.lookup(".", RecordType::NS)), ResponseCode::NoError);
}

#[test]
fn another_class_has_nothing() {
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&plain().ask(&chaos)), ResponseCode::NoError);
}

#[test]
fn bytes_that_are_no_host_name_are_refused() {
    let stage = plain();
    let labels: [&[u8]; 5] = [b"attacker\0", b"a b", b"a.b", "gr\u{fc}n".as_bytes(), b"*"];
    for label in labels {
        let name = Name::from_labels([label, b"google", b"com"]).expect("a name");
        let mut odd = query("x.", RecordType::A);
        odd.queries[0].set_name(name);
        assert_eq!(code(&stage.ask(&odd)), ResponseCode::Refused, "{label:?}");
    }
    let records = stage.records();
    assert_eq!(records.len(), labels.len());
    assert!(records.iter().all(|record| record["code"] == "bad_host"), "{records:?}");
}

#[test]
fn an_underscore_is_part_of_a_name() {
    assert!(plain().address("_acme.example_1.com.", RecordType::A).is_ipv4());
}

#[test]
fn an_address_is_not_a_name() {
    let answer = plain().lookup("127.0.0.1.", RecordType::A);
    assert_eq!(code(&answer), ResponseCode::NXDomain);
}

/// One row: the rules, the search list, the name asked for, and whether it is answered.
macro_rules! search {
    ($($name:ident: $rules:expr, $search:expr, $asked:literal => $answered:literal;)+) => {
        mod search {
            use super::*;
            $(
                #[test]
                fn $name() {
                    let stage = Stage::new(&$rules, &$search);
                    let answer = stage.lookup($asked, RecordType::A);
                    let expected =
                        if $answered { ResponseCode::NoError } else { ResponseCode::NXDomain };
                    assert_eq!(answer.metadata.response_code, expected);
                    assert_eq!(answer.answers.len(), usize::from($answered));
                }
            )+
        }
    };
}

/// The search list of a pod in a cluster.
const CLUSTER: [&str; 3] = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"];

search! {
    a_public_name_in_the_cluster_is_absent:
        ["domain=github.com"], CLUSTER, "github.com.ns.svc.cluster.local." => false;
    the_bare_name_that_is_tried_next_is_answered:
        ["domain=github.com"], CLUSTER, "github.com." => true;
    a_bare_name_without_a_rule_is_answered:
        ["domain=github.com"], CLUSTER, "evil.example." => true;
    a_service_that_a_rule_covers_is_answered:
        ["domain=svc.cluster.local"], CLUSTER, "api.other.svc.cluster.local." => true;
    a_service_that_no_rule_covers_is_absent:
        ["domain=github.com"], CLUSTER, "api.ns.svc.cluster.local." => false;
    a_rule_for_all_does_not_make_public_names_the_clusters:
        ["domain=*"], CLUSTER, "github.com.svc.cluster.local." => false;
    a_rule_for_all_leaves_a_single_label_to_the_cluster:
        ["domain=*"], CLUSTER, "api.ns.svc.cluster.local." => true;
    a_rule_for_a_whole_name_takes_it_at_its_word_beside_a_rule_for_all:
        ["domain=*", "domain=git.eng.corp.test"], ["corp.test"], "git.eng.corp.test." => true;
    a_host_of_several_labels_that_a_rule_names_is_answered_beside_a_rule_for_all:
        ["domain=*", "host=git.eng.corp.test"], ["corp.test"], "git.eng.corp.test." => true;
    a_rule_for_names_below_the_suffix_takes_them_at_their_word_beside_a_rule_for_all:
        ["domain=*", "domain=eng.corp.test"], ["corp.test"], "git.eng.corp.test." => true;
    so_does_one_with_a_wildcard:
        ["domain=*", "domain=*.eng.corp.test"], ["corp.test"], "git.eng.corp.test." => true;
    a_rule_for_the_suffix_does_not_make_public_names_the_clusters:
        ["domain=*", "domain=corp.test"], ["corp.test"], "github.com.corp.test." => false;
    nor_does_one_for_everything_below_the_suffix:
        ["domain=*", "domain=*.corp.test"], ["corp.test"], "github.com.corp.test." => false;
    nor_does_one_for_everything_two_labels_below:
        ["domain=*", "domain=*.*.corp.test"], ["corp.test"], "github.com.corp.test." => false;
    nor_does_one_for_another_name_there:
        ["domain=*", "domain=eng.corp.test"], ["corp.test"], "github.com.corp.test." => false;
    the_suffix_itself_is_a_name_like_any_other:
        ["domain=github.com"], CLUSTER, "cluster.local." => true;
    a_suffix_ends_at_a_dot:
        ["domain=github.com"], ["local"], "notlocal." => true;
    without_a_search_list_every_name_is_answered:
        ["domain=github.com"], [], "github.com.svc.cluster.local." => true;
}

#[test]
fn the_last_search_list_of_resolv_conf_counts() {
    let text = "# search commented.example\nnameserver 127.0.0.53\ndomain old.example\n\
                search  Ns.svc.cluster.local. lan\noptions edns0 search\n";
    assert_eq!(search_domains(text).unwrap(), ["ns.svc.cluster.local", "lan"]);
    assert_eq!(search_domains("nameserver 1.1.1.1"), None);
    assert_eq!(search_domains("search ."), Some(Vec::new()));
}

#[test]
fn edns_is_answered_with_our_size_and_without_the_clients_options() {
    let mut asked = query("example.com.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(10, b"cookie!!".to_vec()));
    asked.edns = Some(edns);
    let answer = plain().ask(&asked);
    let edns = answer.edns.as_ref().expect("an OPT record");
    assert_eq!((edns.version(), edns.max_payload()), (0, PAYLOAD));
    assert_eq!(*edns.flags(), EdnsFlags { dnssec_ok: true, ..EdnsFlags::default() });
    assert_eq!(edns.option(EdnsCode::Cookie), None);
    assert!(plain().lookup("example.com.", RecordType::A).edns.is_none());
}

#[test]
fn a_later_edns_is_answered_with_the_version_we_speak() {
    let mut asked = query("example.com.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    asked.edns = Some(edns);
    let answer = plain().ask(&asked);
    let high = answer.edns.as_ref().expect("an OPT record").rcode_high();
    assert_eq!((high, answer.metadata.response_code.low()), (1, 0));
    assert!(answer.answers.is_empty());
}

#[test]
fn what_is_no_single_question_is_a_format_error() {
    let stage = plain();
    let mut none = query("a.example.", RecordType::A);
    none.queries.clear();
    let mut two = query("a.example.", RecordType::A);
    two.add_query(Query::query(Name::from_str("b.example.").expect("a name"), RecordType::A));
    for odd in [none, two] {
        assert_eq!(code(&stage.ask(&odd)), ResponseCode::FormErr);
    }
    let mut update = query("a.example.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&stage.ask(&update)), ResponseCode::NotImp);
}

#[test]
fn broken_bytes_get_a_format_error_with_their_own_number() {
    let stage = plain();
    let bytes = [0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1];
    let answer = stage.resolver.answer(&bytes, None).expect("an answer");
    let answer = Message::from_vec(&answer).expect("decodes");
    assert_eq!(answer.metadata.id, 0x1234);
    assert_eq!(code(&answer), ResponseCode::FormErr);
    assert_eq!(stage.records()[0]["code"], "bad_request");
}

#[test]
fn an_answer_is_never_answered_nor_what_is_too_short_to_have_a_number() {
    let stage = plain();
    let mut answer = query("example.com.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(stage.resolver.answer(&answer.to_vec().expect("encodes"), None), None);
    assert_eq!(stage.resolver.answer(&[0; HEADER - 1], None), None);
    assert_eq!(stage.resolver.answer(&[], None), None);
    let records = stage.records();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record["code"] == "bad_request"), "{records:?}");
}

#[test]
fn each_question_is_one_record_that_names_who_asked() {
    let stage = plain();
    let process = Process { pid: 42, comm: "dig".to_owned(), ..Process::default() };
    let bytes = query("Api.example.com.", RecordType::AAAA).to_vec().expect("encodes");
    stage.resolver.answer(&bytes, Some(process)).expect("an answer");
    let records = stage.records();
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((&record["decision"], &record["proto"]), (&"allow".into(), &"dns".into()));
    assert_eq!((&record["host"], &record["dns_type"]), (&"api.example.com".into(), &"AAAA".into()));
    assert_eq!((&record["door"], &record["pid"]), (&"dns".into(), &42.into()));
}

#[test]
fn when_every_address_is_given_away_the_next_name_fails_and_the_old_ones_stay() {
    let stage = plain();
    let host = |number: u32| Host::parse(&format!("n{number}.example")).expect("a host");
    let first = stage.resolver.pins.pin(&host(1)).expect("a pin");
    let mut last = None;
    for number in 2..=131_070 {
        last = stage.resolver.pins.pin(&host(number));
    }
    let last = last.expect("a pin");
    assert_eq!(last.v4, Ipv4Addr::new(198, 19, 255, 254));
    assert_eq!(stage.resolver.pins.name(last.v6.into()), Some(host(131_070)));
    let answer = stage.lookup("one.more.example.", RecordType::A);
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert_eq!(stage.records()[0]["code"], "names_exhausted");
    assert_eq!(stage.resolver.pins.pin(&host(1)), Some(first));
}

#[test]
fn the_ranges_are_known_to_the_last_address() {
    let pins = Pins::default();
    let synthetic = |text: &str| pins.is_synthetic(text.parse().expect("an address"));
    for inside in ["198.18.0.0", "198.19.255.255", "fd62:6f75:6e64:ffff::1", "::ffff:198.18.0.1"] {
        assert!(synthetic(inside), "{inside}");
        assert_eq!(pins.name(inside.parse().expect("an address")), None);
    }
    for outside in ["198.17.255.255", "198.20.0.0", "fd62:6f75:6e65::1", "::1"] {
        assert!(!synthetic(outside), "{outside}");
    }
}

#[tokio::test]
async fn datagrams_are_answered_where_they_came_from() {
    let stage = plain();
    let door = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = door.local_addr().expect("an address");
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let asker =
        |from: SocketAddr, _| Some(Process { pid: u32::from(from.port()), ..Process::default() });
    let conversation = async {
        let mut buffer = [0; 512];
        // An empty and a broken one first: the one behind them is served all the same.
        let question = query("example.com.", RecordType::A).to_vec().expect("encodes");
        for bytes in [vec![], vec![0], question] {
            #[expect(clippy::disallowed_methods, reason = "the client's side of the test")]
            client.send_to(&bytes, address).await.expect("sent");
        }
        let (length, from) = client.recv_from(&mut buffer).await.expect("received");
        assert_eq!(from, address);
        Message::from_vec(&buffer[..length]).expect("decodes")
    };
    let answer = tokio::select! {
        answer = tokio::time::timeout(DEADLINE, conversation) => answer.expect("in time"),
        ended = stage.resolver.serve_udp(door, asker) => panic!("{ended:?}"),
    };
    assert_eq!(data(&answer).to_string(), "198.18.0.1");
    let port = client.local_addr().expect("an address").port();
    let records = stage.records();
    assert_eq!(records.len(), 3, "what is not answered is on record");
    assert!(records.iter().all(|record| record["pid"] == port), "{records:?}");
}

#[tokio::test]
async fn a_stream_carries_several_questions_and_ends_with_the_client() {
    let stage = plain();
    let (mut client, server) = tokio::io::duplex(64);
    let conversation = async {
        for (name, expected) in [("a.example.com.", "198.18.0.1"), ("b.example.com.", "198.18.0.2")]
        {
            let bytes = query(name, RecordType::A).to_vec().expect("encodes");
            client.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("written");
            client.write_all(&bytes).await.expect("written");
            let mut answer = vec![0; usize::from(client.read_u16().await.expect("a length"))];
            client.read_exact(&mut answer).await.expect("an answer");
            let answer = Message::from_vec(&answer).expect("decodes");
            assert_eq!(data(&answer).to_string(), expected);
        }
        drop(client);
    };
    let (ending, ()) = tokio::join!(stage.resolver.serve_stream(server, None), conversation);
    ending.expect("a clean end");
}

#[tokio::test]
async fn a_stranger_is_not_answered_and_takes_no_address() {
    let stage = plain();
    let door = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = door.local_addr().expect("an address");
    let [stranger, client] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let own = client.local_addr().expect("an address");
    for (socket, name) in [(&stranger, "evil.example."), (&client, "example.com.")] {
        let bytes = query(name, RecordType::A).to_vec().expect("encodes");
        #[expect(clippy::disallowed_methods, reason = "the client's side of the test")]
        socket.send_to(&bytes, address).expect("sent");
    }
    client.set_nonblocking(true).expect("a flag");
    let client = tokio::net::UdpSocket::from_std(client).expect("a socket");
    let mut buffer = [0; 512];
    let length = tokio::select! {
        length = client.recv(&mut buffer) => length.expect("received"),
        ended = stage.resolver.serve_udp(door, |from, _| (from == own).then(Process::default)) => {
            panic!("{ended:?}")
        }
    };
    // The stranger's question came first, and would have had the first address.
    let answer = Message::from_vec(&buffer[..length]).expect("decodes");
    assert_eq!(data(&answer).to_string(), "198.18.0.1");
    stranger.set_nonblocking(true).expect("a flag");
    assert!(stranger.recv(&mut buffer).is_err());
    assert_eq!(stage.records().len(), 1);
}

#[tokio::test]
async fn what_is_no_question_ends_a_stream_at_once_and_is_on_record() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-OpenSSH_9.9\r\n", b"\0\x05\0\0\0\0\0\x01......"]
    {
        let stage = plain();
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(bytes).await.expect("written");
        let ending = tokio::time::timeout(DEADLINE, stage.resolver.serve_stream(server, None));
        let error = ending.await.expect("in time").expect_err("it is none");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(stage.records()[0]["code"], "bad_request");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_silent_is_ended_and_on_record_if_it_had_begun() {
    for bytes in [&[][..], &[0], &[0, 40, 1, 2]] {
        let stage = plain();
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(bytes).await.expect("written");
        let error = stage.resolver.serve_stream(server, None).await.expect_err("too slow");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(stage.records().len(), usize::from(!bytes.is_empty()), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_within_a_question_is_on_record() {
    for bytes in [&[][..], &[0], &[0, 40, 1, 2]] {
        let stage = plain();
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(bytes).await.expect("written");
        drop(client);
        let ended = stage.resolver.serve_stream(server, None).await;
        assert_eq!(ended.is_err(), !bytes.is_empty());
        assert_eq!(stage.records().len(), usize::from(!bytes.is_empty()), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_survived_and_answered_at_most_with_a_response(
        bytes in prop::collection::vec(any::<u8>(), 0..600)
    ) {
        let stage = plain();
        if let Some(answer) = stage.resolver.answer(&bytes, None) {
            prop_assert_eq!(&answer[..2], &bytes[..2]);
            prop_assert!(answer[2] & 0x80 != 0);
        }
    }

    #[test]
    fn a_question_with_a_few_bytes_changed_is_survived(
        changes in prop::collection::vec((0_usize..60, any::<u8>()), 0..6)
    ) {
        let stage = plain();
        let mut bytes = query("a.very.long.name.example.com.", RecordType::A).to_vec().expect("encodes");
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(answer) = stage.resolver.answer(&bytes, None) {
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
    }

    #[test]
    fn no_two_names_share_an_address_and_each_address_gives_its_name_back(
        names in prop::collection::hash_set("[a-z0-9]{1,12}(\\.[a-z]{2,6}){1,2}", 1..60)
    ) {
        let pins = Pins::default();
        let mut seen = HashSet::new();
        for name in names {
            let Ok(host @ Host::Name(_)) = Host::parse(&name) else { continue };
            let pin = pins.pin(&host).expect("a pin");
            prop_assert!(seen.insert(pin.v4.to_bits()), "{}", pin.v4);
            for address in [IpAddr::V4(pin.v4), IpAddr::V6(pin.v6)] {
                prop_assert_eq!(pins.name(address), Some(host.clone()));
            }
        }
    }
}

#[test]
fn the_machines_own_domain_hides_no_names_but_what_it_makes_of_a_short_one_that_a_rule_covers() {
    let is_there = |rules: &[&str], name: &str| {
        let answer = Stage::within(rules, "com").lookup(name, RecordType::A);
        answer.metadata.response_code == ResponseCode::NoError
    };
    assert!(is_there(&["domain=*"], "www.github.com."));
    assert!(is_there(&["domain=a.test"], "evil.com."));
    assert!(!is_there(&["host=db"], "db.com.") && is_there(&["host=db"], "db."));
}
