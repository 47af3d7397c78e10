//! Streams that are not opened, tunnels, and upgrades.

use super::*;

/// An origin of raw bytes: what connects, the test talks to.
async fn raw() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Bytes pass both ways, the server first, and each half closes by itself.
async fn passes(mut client: Client<TcpStream>, listener: &TcpListener) {
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    upstream.say("220 ready\r\n").await;
    assert_eq!(client.line().await, "220 ready\r\n");
    client.say("EHLO\r\n").await;
    assert_eq!(upstream.line().await, "EHLO\r\n");
    client.0.shutdown().await.unwrap();
    upstream.ends().await;
    upstream.say("250 still here\r\n").await;
    assert_eq!(client.line().await, "250 still here\r\n");
    drop(upstream);
    client.ends().await;
}

#[tokio::test]
async fn a_tcp_rule_passes_a_server_first_stream_at_once() {
    let (listener, address) = raw().await;
    let rules = [format!("proto=tcp host=127.0.0.1 port={}", address.port())];
    let stage = Stage::redirected(address, &rules);
    passes(stage.connect().await, &listener).await;
    let records = stage.records().await;
    let [opening, closing] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&opening["proto"], &opening["decision"]), (&"tcp".into(), &"allow".into()));
    assert_eq!((&closing["bytes_up"], &closing["bytes_down"]), (&6.into(), &27.into()));
}

#[tokio::test]
async fn a_tcp_rule_by_name_passes_what_goes_to_the_names_address() {
    let (listener, address) = raw().await;
    let rules = [format!("proto=tcp host=localhost port={}", address.port())];
    let stage = Setting::to_name("localhost", address.port(), &rules).start();
    passes(stage.connect().await, &listener).await;
}

#[tokio::test]
async fn a_tcp_rule_holds_inside_a_tunnel() {
    let (listener, address) = raw().await;
    let rules = [format!("proto=tcp host=127.0.0.1 port={}", address.port())];
    let stage = Setting::explicit(&rules).start();
    let mut client = stage.connect().await;
    assert_eq!(client.open(&address.to_string()).await, 200);
    passes(client, &listener).await;
}

#[tokio::test]
async fn bytes_that_are_neither_tls_nor_http_are_refused_and_recorded() {
    let (listener, address) = raw().await;
    let rules = [format!("host=127.0.0.1 port={}", address.port())];
    let stage = Stage::redirected(address, &rules);
    let mut client = stage.connect().await;
    client.say("SSH-2.0-OpenSSH_9.9\r\n").await;
    assert!(client.rest().await.is_empty());
    let nobody = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "nothing was dialled");
    assert_eq!(
        stage.decisions().await,
        [format!("deny unclear_protocol tcp 127.0.0.1 {}", address.port())]
    );
}

#[tokio::test]
async fn a_client_that_waits_for_the_server_is_refused_soon() {
    let (_listener, address) = raw().await;
    let limits = Limits { silence: Duration::from_millis(50), ..Limits::default() };
    let stage = Setting { limits, ..Setting::redirected(address, &[]) }.start();
    let mut client = stage.connect().await;
    assert!(client.rest().await.is_empty());
    assert_eq!(stage.decisions().await.len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_at_once_is_no_record() {
    let (_listener, address) = raw().await;
    let stage = Stage::redirected(address, &[]);
    let mut client = stage.connect().await;
    client.0.shutdown().await.unwrap();
    assert!(client.rest().await.is_empty());
    assert!(stage.decisions().await.is_empty());
}

const WISH: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn an_accepted_upgrade_is_relayed_and_counted() {
    let (listener, address) = raw().await;
    let rules = [format!("method=GET host=127.0.0.1 port={} path=/ws", address.port())];
    let stage = Stage::redirected(address, &rules);
    let mut client = stage.connect().await;
    client.say(format!("GET /ws HTTP/1.1\r\nHost: {address}\r\n{WISH}")).await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    let head = upstream.head_of_request().await;
    assert!(head.contains("Connection: Upgrade\r\n") && head.contains("Upgrade: websocket\r\n"));
    upstream
        .say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\nhello\r\n")
        .await;
    let (status, head) = client.head().await;
    assert_eq!(status, 101);
    assert!(head.contains("Upgrade: WebSocket\r\n"), "{head}");
    assert_eq!(client.line().await, "hello\r\n");
    // From here on any bytes, also those that would be a request.
    client.say("GET /no HTTP/1.1\r\n").await;
    assert_eq!(upstream.line().await, "GET /no HTTP/1.1\r\n");
    drop(upstream);
    assert!(client.rest().await.is_empty());
    let records = stage.records().await;
    assert_eq!(records[1]["http_status"], 101);
    assert_eq!((&records[1]["bytes_up"], &records[1]["bytes_down"]), (&18.into(), &7.into()));
}

#[tokio::test]
async fn an_upgrade_that_breaks_is_no_end_in_order_upstream() {
    let (listener, address) = raw().await;
    let rules = [format!("host=127.0.0.1 port={}", address.port())];
    let stage = Stage::redirected(address, &rules);
    for by_policy in [false, true] {
        let mut client = stage.connect().await;
        client.say(format!("GET /ws HTTP/1.1\r\nHost: {address}\r\n{WISH}")).await;
        let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
        upstream.head_of_request().await;
        upstream
            .say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .await;
        assert_eq!(client.head().await.0, 101);
        client.say("half of it\r\n").await;
        assert_eq!(upstream.line().await, "half of it\r\n");
        if by_policy {
            stage.proxy.replace_rules(RuleSet::default());
        } else {
            client.0.set_zero_linger().unwrap();
            drop(client);
        }
        let ended = soon(upstream.0.read_u8()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{by_policy}");
    }
}

#[tokio::test]
async fn a_refused_upgrade_leaves_http() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("path=/ws"));
    let host = origin.authority();
    let mut client = stage.connect().await;
    let denied = client.ask(format!("GET /no HTTP/1.1\r\nHost: {host}\r\n{WISH}")).await;
    assert_eq!(denied.status, 403);
    let ignored = client.ask(format!("GET /ws HTTP/1.1\r\nHost: {host}\r\n{WISH}")).await;
    assert_eq!(ignored.status, 200);
    // Still HTTP, and still judged.
    let next = format!("GET /no HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(client.ask(next).await.status, 403);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_request_right_behind_an_unanswered_upgrade_waits_and_is_judged() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("path=/ws"));
    let host = origin.authority();
    let mut client = stage.connect().await;
    let both = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\n{WISH}GET /no HTTP/1.1\r\nHost: {host}\r\n\r\n"
    );
    client.say(both).await;
    assert_eq!(client.answer(false).await.status, 200);
    assert_eq!(client.answer(false).await.status, 403);
}

#[tokio::test]
async fn a_switch_to_another_http_is_not_asked_for() {
    for wish in ["h2c", "h2c-14", "spdy/3.1", "HTTP/2.0", "TLS/1.0", "websocket, h2c"] {
        let origin = Scripted::fine().await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let host = origin.authority();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {wish}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        assert_eq!(stage.connect().await.ask(request).await.status, 200);
        let sent = origin.requests()[0].to_lowercase();
        assert!(!sent.contains("upgrade") && !sent.contains("http2"), "{sent}");
    }
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_failure() {
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let other = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: irc\r\n\r\n";
    for (answer, wish) in [(switch, "\r\n"), (other, WISH)] {
        let origin = Scripted::new(move |_| answer.into()).await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let host = origin.authority();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{wish}");
        let got = stage.connect().await.ask(request).await;
        assert_eq!(got.status, 502, "{}", got.head);
        assert!(got.text().contains("switched"));
    }
}

#[tokio::test]
async fn questions_over_tcp_go_to_the_resolver_whatever_server_was_meant() {
    let stage = Stage::redirected(([9, 9, 9, 9], 53).into(), &[]);
    let mut client = stage.connect().await;
    // One A question for `a.example`, framed by its length.
    let question = b"\x00\x1b\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01";
    client.say(question).await;
    let length = soon(client.0.read_u16()).await.unwrap();
    let mut answer = vec![0; length.into()];
    soon(client.0.read_exact(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"\x12\x34"), "{answer:?}");
    assert!(answer.windows(2).any(|pair| pair == [198, 18]), "a synthetic address: {answer:?}");
}
