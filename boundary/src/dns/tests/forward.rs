//! Questions that are passed on, to servers of the test's own.

use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, channel};

use super::*;
use crate::dns::forward::Transport;

/// A server on loopback that answers with what a test makes of the question.
struct Server {
    address: SocketAddr,
    /// What reached it.
    asked: Receiver<Message>,
}

impl Server {
    /// A server of datagrams and streams. It sends every message that `answers` makes, in order.
    async fn new(answers: impl Fn(&Message) -> Vec<Message> + Send + Sync + 'static) -> Self {
        let streams = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = streams.local_addr().expect("an address");
        let datagrams = tokio::net::UdpSocket::bind(address).await.expect("the port is free");
        let (heard, asked) = channel(64);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                tokio::select! {
                    got = datagrams.recv_from(&mut buffer) => {
                        let (length, client) = got.expect("received");
                        let query = Message::from_vec(&buffer[..length]).expect("decodes");
                        for answer in answers(&query) {
                            let bytes = answer.to_vec().expect("encodes");
                            #[expect(clippy::disallowed_methods, reason = "the test's own server")]
                            datagrams.send_to(&bytes, client).await.expect("sent");
                        }
                        heard.send(query).await.expect("the test listens");
                    }
                    got = streams.accept() => {
                        let (mut stream, _) = got.expect("accepted");
                        let mut query = vec![0; usize::from(stream.read_u16().await.expect("read"))];
                        stream.read_exact(&mut query).await.expect("read");
                        let query = Message::from_vec(&query).expect("decodes");
                        for answer in answers(&query) {
                            let bytes = answer.to_vec().expect("encodes");
                            stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("written");
                            stream.write_all(&bytes).await.expect("written");
                        }
                        heard.send(query).await.expect("the test listens");
                    }
                }
            }
        });
        Self { address, asked }
    }

    /// A server that gives every name these addresses.
    async fn with(addresses: &'static [[u8; 4]]) -> Self {
        Self::new(|query| vec![answer(query, addresses)]).await
    }
}

/// An answer with addresses.
fn answer(query: &Message, addresses: &[[u8; 4]]) -> Message {
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.queries.clone_from(&query.queries);
    let name = query.queries[0].name();
    answer.answers.extend(
        addresses.iter().map(|ip| Record::from_rdata(name.clone(), 5, RData::A(A((*ip).into())))),
    );
    answer
}

/// A stage in front of these servers.
fn before(servers: Vec<SocketAddr>) -> Stage {
    before_of(Forwarder::to(servers))
}

/// A stage in front of a forwarder.
fn before_of(servers: Forwarder) -> Stage {
    let Stage { resolver, recorder, records } = plain();
    let resolver = Arc::into_inner(resolver).expect("nobody else has it");
    let resolver = Arc::new(resolver.forwarding(servers));
    Stage { resolver, recorder, records }
}

impl Stage {
    /// Asks as the serving loops do: outside if it is an errand.
    async fn outside(&self, query: &Message, over: Transport) -> Message {
        let bytes = query.to_vec().expect("encodes");
        let errand = self.resolver.errand(&bytes, None).expect("to be passed on");
        let answer = self.resolver.run(errand, None, over).await.expect("an answer");
        Message::from_vec(&answer).expect("decodes")
    }

    fn is_passed_on(&self, name: &str, kind: RecordType) -> bool {
        self.resolver.errand(&query(name, kind).to_vec().expect("encodes"), None).is_some()
    }
}

#[tokio::test]
async fn what_a_rule_covers_is_asked_outside_and_its_address_known_from_then_on() {
    let server = Server::with(&[[203, 0, 113, 7], [203, 0, 113, 8]]).await;
    let stage = before(vec![server.address]);
    let asked = query("Api.Example.com.", RecordType::A);
    let answer = stage.outside(&asked, Transport::Datagram).await;
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(answer.queries[0].name().to_ascii(), "Api.Example.com.");
    assert_eq!(answer.answers[0].data.to_string(), "203.0.113.7");
    let names = |ip: &str| stage.resolver.pins.names_at(ip.parse().expect("an address"));
    let api = Host::parse("api.example.com").expect("a host");
    assert_eq!(names("203.0.113.8"), names("::ffff:203.0.113.7"));
    assert_eq!(names("203.0.113.8"), [api]);
    assert_eq!(names("203.0.113.9"), []);
    let record = &stage.records()[0];
    assert_eq!(
        (&record["host"], &record["address"]),
        (&"api.example.com".into(), &"127.0.0.1".into())
    );
}

#[tokio::test]
async fn nothing_of_the_clients_goes_out_but_the_question() {
    let mut server = Server::with(&[[203, 0, 113, 7]]).await;
    let stage = before(vec![server.address]);
    let mut asked = query("example.com.", RecordType::TXT);
    let mut edns = Edns::new();
    edns.set_max_payload(65_000).set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(65_001, b"a secret".to_vec()));
    asked.edns = Some(edns);
    let text = RData::A(A([9, 9, 9, 9].into()));
    asked.additionals.push(Record::from_rdata(
        Name::from_ascii("secret.").expect("a name"),
        1,
        text,
    ));
    stage.outside(&asked, Transport::Datagram).await;
    let heard = server.asked.recv().await.expect("it was asked");
    assert_eq!(heard.queries, asked.queries);
    assert!(heard.additionals.is_empty() && heard.answers.is_empty());
    let edns = heard.edns.expect("an OPT record");
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (PAYLOAD, true));
    assert!(edns.option(EdnsCode::Unknown(65_001)).is_none());
}

#[test]
fn only_what_a_rule_covers_is_passed_on_and_no_way_round_a_greeting() {
    let stage = before(vec![]);
    for (name, kind) in [
        ("example.com.", RecordType::A),
        ("_xmpp._tcp.example.com.", RecordType::SRV),
        ("a.example.com.", RecordType::TXT),
    ] {
        assert!(stage.is_passed_on(name, kind), "{name} {kind}");
    }
    for (name, kind) in [
        ("c2vjcmv0.evil.example.", RecordType::A),
        ("evil.example.", RecordType::TXT),
        ("example.com.", RecordType::HTTPS),
        ("example.com.", RecordType::SVCB),
        ("example.com.", RecordType::ANY),
        ("localhost.", RecordType::A),
        ("7.113.0.203.in-addr.arpa.", RecordType::PTR),
        ("1.0.18.198.in-addr.arpa.", RecordType::PTR),
        ("example.com.in-addr.arpa.", RecordType::PTR),
        (".", RecordType::NS),
    ] {
        assert!(!stage.is_passed_on(name, kind), "{name} {kind}");
    }
    // What is kept is answered as ever: with an address that stands for the name.
    assert!(stage.resolver.pins.is_synthetic(stage.address("evil.example.", RecordType::A)));
}

#[test]
fn without_a_forwarder_nothing_is_passed_on() {
    assert!(!plain().is_passed_on("example.com.", RecordType::A));
}

#[tokio::test]
async fn an_answer_to_another_question_is_passed_over() {
    let server = Server::new(|asked| {
        let mut other_number = answer(asked, &[[6, 6, 6, 6]]);
        other_number.metadata.id ^= 1;
        let mut other_name = answer(asked, &[[6, 6, 6, 6]]);
        other_name.queries[0].set_name(Name::from_ascii("evil.example.").expect("a name"));
        let mut no_answer = answer(asked, &[[6, 6, 6, 6]]);
        no_answer.metadata.message_type = MessageType::Query;
        vec![other_number, other_name, no_answer, answer(asked, &[[203, 0, 113, 7]])]
    })
    .await;
    let stage = before(vec![server.address]);
    let answer = stage.outside(&query("example.com.", RecordType::A), Transport::Datagram).await;
    assert_eq!(data(&answer).to_string(), "203.0.113.7");
}

#[tokio::test(start_paused = true)]
async fn the_next_server_is_asked_when_one_is_silent_or_gone_and_none_is_a_failure() {
    let silent = Server::new(|_| vec![]).await;
    let gone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let gone = gone.local_addr().expect("an address");
    let server = Server::with(&[[203, 0, 113, 7]]).await;
    let asked = query("example.com.", RecordType::A);
    let stage = before(vec![gone, silent.address, server.address]);
    let answer = stage.outside(&asked, Transport::Datagram).await;
    assert_eq!(data(&answer).to_string(), "203.0.113.7");
    let stage = before(vec![gone, silent.address]);
    for over in [Transport::Datagram, Transport::Stream] {
        assert_eq!(code(&stage.outside(&asked, over).await), ResponseCode::ServFail);
    }
}

/// A server that answers every question with this and nothing else.
async fn saying(code: ResponseCode) -> Server {
    Server::new(move |asked| {
        let mut said = answer(asked, &[]);
        said.metadata.response_code = code;
        vec![said]
    })
    .await
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_does_not_answer_the_question() {
    let asked = query("example.com.", RecordType::A);
    for refusal in [ResponseCode::Refused, ResponseCode::ServFail, ResponseCode::NotImp] {
        let (mut first, second) = (saying(refusal).await, Server::with(&[[203, 0, 113, 7]]).await);
        for over in [Transport::Datagram, Transport::Stream] {
            let stage = before(vec![first.address, second.address]);
            let answer = stage.outside(&asked, over).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{refusal}");
            assert_eq!(data(&answer).to_string(), "203.0.113.7");
        }
        // Where none answers it, what the last said is handed on, and nobody is asked twice.
        while first.asked.try_recv().is_ok() {}
        let gone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let gone = gone.local_addr().expect("an address");
        let stage = before(vec![first.address, gone]);
        assert_eq!(code(&stage.outside(&asked, Transport::Datagram).await), refusal);
        first.asked.recv().await.expect("it was asked");
        assert!(first.asked.try_recv().is_err(), "{refusal}");
    }
    // That there is no such name is an answer.
    let (first, second) =
        (saying(ResponseCode::NXDomain).await, Server::with(&[[203, 0, 113, 7]]).await);
    let stage = before(vec![first.address, second.address]);
    assert_eq!(code(&stage.outside(&asked, Transport::Datagram).await), ResponseCode::NXDomain);
}

/// What a server says that knows one name, and of all others nothing but this.
fn knowing(name: &str, asked: &Message, refusal: ResponseCode) -> Message {
    if asked.queries[0].name().to_ascii() == name {
        return answer(asked, &[[203, 0, 113, 7]]);
    }
    let mut said = answer(asked, &[]);
    said.metadata.response_code = refusal;
    said
}

#[tokio::test]
async fn the_next_name_of_the_search_list_is_asked_when_nobody_answers_for_one() {
    for refusal in [ResponseCode::Refused, ResponseCode::ServFail] {
        let server = Server::new(move |asked| vec![knowing("db.two.test.", asked, refusal)]).await;
        let servers = Forwarder::to(vec![server.address]);
        let directory = Directory::by("search one.test two.test\n", servers);
        let found = directory.ask("db").await.expect("it is known");
        assert!(found.contains(&IpAddr::from([203, 0, 113, 7])), "{found:?}");
        let failure = directory.ask("other").await.expect_err("nobody knows it");
        assert_ne!(failure.kind(), std::io::ErrorKind::NotFound, "{failure}");
    }
}

#[tokio::test]
async fn with_too_many_questions_under_way_the_next_is_told_to_try_again() {
    let server = Server::with(&[[203, 0, 113, 7]]).await;
    let servers = Forwarder::to(vec![server.address]);
    let room = Arc::clone(&servers.room);
    let stage = before_of(servers);
    let asked = query("example.com.", RecordType::A);
    let others = room.acquire_many(512).await.expect("as many as there may be");
    assert_eq!(stage.resolver.forwarded(), 512);
    for over in [Transport::Datagram, Transport::Stream] {
        assert_eq!(code(&stage.outside(&asked, over).await), ResponseCode::ServFail);
    }
    drop(others);
    let answer = stage.outside(&asked, Transport::Datagram).await;
    assert_eq!(data(&answer).to_string(), "203.0.113.7");
    assert_eq!(stage.resolver.forwarded(), 0);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_cut_short_and_whole_by_stream() {
    static MANY: [[u8; 4]; 80] = [[203, 0, 113, 7]; 80];
    let server = Server::with(&MANY).await;
    let stage = before(vec![server.address]);
    let asked = query("example.com.", RecordType::A);
    let short = stage.outside(&asked, Transport::Datagram).await;
    assert!(short.metadata.truncation && short.answers.is_empty());
    let whole = stage.outside(&asked, Transport::Stream).await;
    assert_eq!(whole.answers.len(), MANY.len());
}

#[tokio::test]
async fn both_doors_pass_questions_on() {
    let server = Server::with(&[[203, 0, 113, 7]]).await;
    let stage = before(vec![server.address]);
    let door = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let (mut stream, far_side) = tokio::io::duplex(4096);
    let bytes = query("example.com.", RecordType::A).to_vec().expect("encodes");
    let address = door.local_addr().expect("an address");
    let conversation = async {
        #[expect(clippy::disallowed_methods, reason = "the client's side of the test")]
        client.send_to(&bytes, address).await.expect("sent");
        let mut buffer = [0; 512];
        let (length, _) = client.recv_from(&mut buffer).await.expect("received");
        stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("written");
        stream.write_all(&bytes).await.expect("written");
        let mut answer = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut answer).await.expect("an answer");
        [buffer[..length].to_vec(), answer].map(|bytes| Message::from_vec(&bytes).expect("decodes"))
    };
    let answers = tokio::select! {
        answers = tokio::time::timeout(DEADLINE, conversation) => answers.expect("in time"),
        ended = stage.resolver.serve_udp(door, |_, _| Some(Process::default())) => panic!("{ended:?}"),
        ended = stage.resolver.serve_stream(far_side, None) => panic!("{ended:?}"),
    };
    for answer in answers {
        assert_eq!(data(&answer).to_string(), "203.0.113.7");
    }
}

#[test]
fn the_servers_of_resolv_conf_are_asked_in_order() {
    let forwarder = |text: &str| format!("{:?}", Forwarder::new(text));
    let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 10.0.0.1\nnameserver\t2001:db8::1\n\
                nameserver nonsense\nnameserver fe80::1%1\nnameserver 10.0.0.4\n";
    let found = forwarder(text);
    assert!(found.contains("[10.0.0.1:53, [2001:db8::1]:53, [fe80::1%1]:53]"), "{found}");
    assert!(forwarder("").contains("[127.0.0.1:53]"));
}

#[test]
fn an_address_with_many_names_forgets_the_oldest_and_there_are_not_too_many_addresses() {
    let pins = Pins::default();
    let host = |number: usize| Host::parse(&format!("n{number}.example")).expect("a host");
    let address = "203.0.113.7".parse().expect("an address");
    for number in 0..70 {
        pins.note(&host(number), address);
    }
    pins.note(&host(6), address);
    let names = pins.names_at(address);
    assert_eq!((names.len(), &names[0], &names[63]), (64, &host(7), &host(6)));
    for number in 0..70_000_u32 {
        pins.note(&host(1), IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)));
    }
    assert!(pins.names_at([10, 0, 0, 0].into()).contains(&host(1)));
    assert!(pins.names_at([10, 1, 17, 0].into()).is_empty());
    assert_eq!(pins.answered(), 65_536);
}

#[test]
fn a_synthetic_address_in_an_answer_is_not_believed() {
    let pins = Pins::default();
    let host = Host::parse("example.com").expect("a host");
    pins.note(&host, [198, 18, 0, 9].into());
    assert!(pins.names_at([198, 18, 0, 9].into()).is_empty());
}

#[test]
fn the_hosts_file_names_what_programs_look_up_themselves() {
    let text = "127.0.0.1 localhost\n# 1.1.1.1 no\n10.0.0.5\tDB.corp db # the database\n\
                ::1 localhost\nnonsense name\n0.0.0.0 ads.example\n:: ads.example\n2001:db8::5 db.corp 10.9.9.9\n10.0.0.6\n";
    let found: Vec<_> = hosts_file(text).map(|(host, ip)| format!("{host} {ip}")).collect();
    assert_eq!(found, ["db.corp 10.0.0.5", "db 10.0.0.5", "db.corp 2001:db8::5"]);
}
