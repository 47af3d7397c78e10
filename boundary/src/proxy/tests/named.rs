//! Names that the machine's files lead to guarded addresses, or to several.

use super::*;
use crate::dns::Directory;

/// The name.
const NAME: &str = "db.test";

/// A stage whose machine knows the name at these addresses of loopback.
fn stage(port: u16, addresses: &[&str], rules: &[String]) -> Stage {
    let hosts: Vec<_> = addresses.iter().map(|address| format!("{address} {NAME}\n")).collect();
    let directory = Some(Arc::new(Directory::new(&hosts.concat(), "")));
    let egress = Egress { directory, ..Egress::default() };
    Setting { egress, ..Setting::to_name(NAME, port, rules) }.start()
}

/// Puts other rules in force.
fn replace(stage: &Stage, rules: &[&str]) {
    let rules = rules.iter().map(|rule| rule.parse::<Rule>().unwrap()).collect();
    stage.proxy.replace_rules(RuleSet::new(rules, DomainMatch::Subdomains));
}

/// An origin of raw bytes.
async fn raw() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Whether something said arrives.
async fn goes_on(from: &mut Client<TcpStream>, to: &mut Client<TcpStream>) {
    from.say("still here\r\n").await;
    assert_eq!(to.line().await, "still here\r\n");
}

#[tokio::test]
async fn a_stream_ends_when_the_address_that_it_goes_to_is_withdrawn() {
    let (listener, port) = raw().await;
    let both = format!("proto=tcp host={NAME},127.0.0.1 port={port}");
    let stage = stage(port, &["127.0.0.1"], std::slice::from_ref(&both));
    let mut client = stage.connect().await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    goes_on(&mut client, &mut upstream).await;
    replace(&stage, &[&both, "host=other.test"]);
    goes_on(&mut client, &mut upstream).await;
    replace(&stage, &[&format!("proto=tcp host={NAME} port={port}")]);
    let end = soon(client.0.read_u8()).await.unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    upstream.ends().await;
}

#[tokio::test]
async fn an_upgraded_stream_ends_when_the_address_that_it_goes_to_is_withdrawn() {
    let (listener, port) = raw().await;
    let both = format!("host={NAME},127.0.0.1 port={port}");
    let stage = stage(port, &["127.0.0.1"], std::slice::from_ref(&both));
    let mut client = stage.connect().await;
    let wish = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.say(format!("GET /ws HTTP/1.1\r\nHost: {NAME}:{port}\r\n{wish}")).await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    upstream.head_of_request().await;
    upstream.say(format!("HTTP/1.1 101 Switching Protocols\r\n{wish}")).await;
    assert_eq!(client.head().await.0, 101);
    goes_on(&mut client, &mut upstream).await;
    replace(&stage, &[&both, "host=other.test"]);
    goes_on(&mut client, &mut upstream).await;
    replace(&stage, &[&format!("host={NAME} port={port}")]);
    assert!(client.rest().await.is_empty());
    upstream.ends().await;
}

#[tokio::test]
async fn what_a_request_passes_for_has_to_be_permitted_at_the_address_too() {
    let origin = Scripted::fine().await;
    let port = origin.address.port();
    let rules = [
        format!("method=GET host={NAME},127.0.0.1 port={port}"),
        format!("method=PUT host={NAME} port={port}"),
        format!("method=POST host={NAME},127.0.0.1 port={port}"),
    ];
    let stage = stage(port, &["127.0.0.1"], &rules);
    // A connection that is kept and one that is dialled.
    for _ in 0..2 {
        for (method, status) in [("PUT", 403), ("POST", 200), ("DELETE", 403)] {
            let field = format!("X-HTTP-Method-Override: {method}");
            let request = format!("GET / HTTP/1.1\r\nHost: {NAME}:{port}\r\n{field}\r\n\r\n");
            assert_eq!(stage.connect().await.ask(request).await.status, status, "{method}");
        }
    }
    let decisions = stage.decisions().await;
    let refused = decisions.iter().filter(|it| it.starts_with("deny address_refused "));
    assert_eq!(refused.count(), 2, "{decisions:?}");
}

#[tokio::test]
async fn a_request_on_a_connection_that_died_goes_to_any_address_of_its_name() {
    for odd in ["", "TE: trailers\r\nConnection: TE\r\n"] {
        let (first, port) = raw().await;
        let second = Scripted::at(([127, 0, 0, 2], port).into()).await;
        let rules = [format!("host={NAME},127.0.0.1,127.0.0.2 port={port}")];
        let stage = stage(port, &["127.0.0.1", "127.0.0.2"], &rules);
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}:{port}\r\n{odd}\r\n");
        let mut client = stage.connect().await;
        client.say(&request).await;
        let mut upstream = Client(soon(first.accept()).await.unwrap().0);
        upstream.head_of_request().await;
        upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.answer(false).await.status, 200);
        client.say(&request).await;
        upstream.head_of_request().await;
        drop((first, upstream));
        let got = client.answer(false).await;
        assert_eq!((got.status, second.requests().len()), (200, 1), "{odd:?} {}", got.text());
    }
}
