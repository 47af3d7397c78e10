//! Over a limit: a clear error to that client, and to no other.

use tokio::net::TcpSocket;

use super::*;

fn limited(origin: &Scripted, limits: Limits) -> Stage {
    Setting { limits, ..Setting::redirected(origin.address, &origin.rule("")) }.start()
}

#[tokio::test]
async fn heads_that_are_too_long_or_too_many_fields_are_refused() {
    let origin = Scripted::fine().await;
    let stage = limited(&origin, Limits { head_bytes: 2000, headers: 10, ..Limits::default() });
    let host = origin.authority();
    let fine = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let long = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "a".repeat(2000));
    let many = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: y\r\n".repeat(10));
    assert_eq!(stage.connect().await.ask(long).await.status, 431);
    assert_eq!(stage.connect().await.ask(many).await.status, 431);
    assert_eq!(stage.connect().await.ask(fine).await.status, 200);
    let decisions = stage.decisions().await;
    let refused = decisions.iter().filter(|it| it.starts_with("deny over_limit"));
    assert_eq!((refused.count(), decisions.len()), (2, 3), "{decisions:?}");
}

#[tokio::test]
async fn a_first_line_that_is_too_long_is_refused() {
    let origin = Scripted::fine().await;
    let stage = limited(&origin, Limits { target_bytes: 300, ..Limits::default() });
    let host = origin.authority();
    let request = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let got = stage.connect().await.ask(request(&"a".repeat(300))).await;
    assert_eq!((got.status, got.field("x-boundary-denied")), (414, Some("over_limit")));
    assert_eq!(stage.connect().await.ask(request(&"a".repeat(250))).await.status, 200);
    // The default takes what a presigned URL needs.
    let stage = limited(&origin, Limits::default());
    assert_eq!(stage.connect().await.ask(request(&"a".repeat(32_000))).await.status, 200);
    assert_eq!(stage.connect().await.ask(request(&"a".repeat(33_000))).await.status, 414);
}

#[tokio::test]
async fn a_head_without_an_end_is_on_record() {
    let origin = Scripted::fine().await;
    let stage = limited(&origin, Limits::default());
    let mut client = stage.connect().await;
    client.say("GET / HTTP/1.1\r\nHost: a").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.answer(false).await.status, 400);
    // Who leaves between two requests leaves in order.
    let mut client = stage.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", origin.authority());
    assert_eq!(client.ask(request).await.status, 200);
    client.0.shutdown().await.unwrap();
    client.ends().await;
    let decisions = stage.decisions().await;
    assert_eq!(decisions.len(), 2, "{decisions:?}");
    assert!(decisions[0].starts_with("deny bad_request"), "{decisions:?}");
}

#[tokio::test]
async fn a_handshake_that_dawdles_or_breaks_off_is_ended_and_on_record() {
    let origin = Scripted::fine().await;
    let limits = Limits {
        head_time: Duration::from_millis(100),
        handshake_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let stage = limited(&origin, limits);
    let greeting = tls::greeting("front.example");
    // Whole, and then nothing: the answer comes, and then the end.
    let mut whole = stage.connect().await;
    whole.say(&greeting).await;
    assert!(!whole.rest().await.is_empty());
    // Half of one, and then nothing.
    let mut half = stage.connect().await;
    half.say(&greeting[..greeting.len() / 2]).await;
    assert!(half.rest().await.is_empty());
    let port = origin.address.port();
    assert_eq!(
        stage.decisions().await,
        [
            format!("deny handshake_failed tls front.example {port}"),
            format!("deny unclear_protocol tcp 127.0.0.1 {port}"),
        ]
    );
}

#[tokio::test]
async fn a_garbled_head_is_told_so_after_a_wish_to_switch_that_was_not_met() {
    let origin = Scripted::fine().await;
    let stage = limited(&origin, Limits::default());
    let host = origin.authority();
    let wish = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    for path in ["/", "/denied"] {
        let mut client = stage.connect().await;
        let host = if path == "/" { host.as_str() } else { "denied.example" };
        let got = client.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{wish}\r\n")).await;
        assert_eq!(got.status, if path == "/" { 200 } else { 403 });
        client.say("no request\r\n\r\n").await;
        assert_eq!(client.answer(false).await.status, 400, "{path}");
        client.ends().await;
    }
}

#[tokio::test]
async fn a_head_that_dawdles_is_timed_out() {
    let origin = Scripted::fine().await;
    let stage =
        limited(&origin, Limits { head_time: Duration::from_millis(100), ..Limits::default() });
    let mut client = stage.connect().await;
    let got = client.ask("GET / HTTP/1.1\r\nHost: a\r\n").await;
    assert_eq!(got.status, 408);
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let origin = Scripted::fine().await;
    let stage = limited(&origin, Limits { idle: Duration::from_millis(100), ..Limits::default() });
    let mut client = stage.connect().await;
    let host = origin.authority();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(client.ask(&request).await.status, 200);
    assert!(client.rest().await.is_empty());
    assert_eq!(stage.decisions().await.len(), 1);
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_past_the_idle_limit() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = vec![format!("host=127.0.0.1 port={}", address.port())];
    let limits = Limits { idle: Duration::from_millis(20), ..Limits::default() };
    let stage = Setting { limits, ..Setting::redirected(address, &rules) }.start();
    let mut client = stage.connect().await;
    client.say(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    upstream.head_of_request().await;
    // Five times the limit, in which nothing may happen.
    let early = timeout(Duration::from_millis(100), client.0.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer(false).await.status, 200);
}

/// An upstream that takes a connection and little else, and what a client asks of it: more than can
/// be on its way to somebody who does not read.
fn deaf(answer_time: Option<Duration>) -> (TcpListener, Stage, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(8).unwrap();
    let address = listener.local_addr().unwrap();
    let rules = vec![format!("host=127.0.0.1 port={}", address.port())];
    let limits = Limits { head_bytes: 32 << 20, answer_time, ..Limits::default() };
    let stage = Setting { limits, ..Setting::redirected(address, &rules) }.start();
    let filler = "x".repeat(8 << 20);
    (listener, stage, format!("GET / HTTP/1.1\r\nHost: {address}\r\nX-Filler: {filler}\r\n\r\n"))
}

#[tokio::test]
async fn an_upstream_that_never_reads_has_as_long_as_one_that_never_answers() {
    let answer_time = Some(Duration::from_millis(200));
    let (_listener, stage, request) = deaf(answer_time);
    let mut client = stage.connect().await;
    assert_eq!(client.ask(request).await.status, 504);
    let records = stage.records().await;
    assert_eq!((records.len(), &records[1]["http_status"]), (2, &504.into()));
}

#[tokio::test]
async fn a_client_that_leaves_while_an_upstream_does_not_read_is_left_too() {
    let (listener, stage, request) = deaf(None);
    let mut client = stage.connect().await;
    client.say(request).await;
    // It came as far as it will.
    let _upstream = soon(listener.accept()).await.unwrap();
    client.0.set_zero_linger().unwrap();
    drop(client);
    let is_closed = || {
        stage.recorder.flush(DEADLINE);
        stage.records.decisions().len() == 2
    };
    soon(async {
        while !is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_connections_are_closed_and_room_comes_back() {
    let origin = Scripted::fine().await;
    let stage = limited(&origin, Limits { connections: 1, ..Limits::default() });
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", origin.authority());
    let mut first = stage.connect().await;
    assert_eq!(first.ask(&request).await.status, 200);
    let turned_away = stage.connect().await.ask(&request).await;
    assert_eq!(turned_away.status, 503);
    assert_eq!(turned_away.field("x-boundary-denied"), Some("over_limit"));
    assert_eq!(first.ask(&request).await.status, 200);
    drop(first);
    // The proxy sees the end a moment later.
    let again = async || {
        let mut client = stage.connect().await;
        client.ask(&request).await.status == 200
    };
    soon(async { while !again().await {} }).await;
    let decisions = stage.decisions().await;
    assert!(decisions.contains(&format!("deny over_limit - - {}", origin.address.port())));
}

#[tokio::test]
async fn the_session_ends_with_a_request_on_its_way() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = vec![format!("host=127.0.0.1 port={}", address.port())];
    let stage = Stage::redirected(address, &rules);
    let mut client = stage.connect().await;
    client.say(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    upstream.head_of_request().await;
    // It never answers; the session ends all the same, and the record is complete.
    let records = stage.records().await;
    assert_eq!(records.len(), 2, "{records:?}");
}

#[test]
fn doors_open_on_loopback_for_both_families_on_one_port() {
    let doors = Doors::bind(None).unwrap();
    let ports: Vec<u16> = doors.tcp.iter().map(|door| door.local_addr().unwrap().port()).collect();
    assert!(doors.tcp.iter().all(|door| door.local_addr().unwrap().ip().is_loopback()));
    assert!(doors.dns.iter().all(|door| door.local_addr().unwrap().ip().is_loopback()));
    assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    let dns: Vec<u16> = doors.dns.iter().map(|door| door.local_addr().unwrap().port()).collect();
    assert!(dns.iter().all(|port| *port == dns[0]), "{dns:?}");
    // Named and taken is an error; not named is another port.
    assert!(Doors::bind(Some(ports[0])).is_err());
    let others = Doors::bind(None).unwrap();
    assert_ne!(others.tcp[0].local_addr().unwrap().port(), ports[0]);
}

#[tokio::test]
async fn where_enough_upstream_connections_wait_the_one_that_does_for_longest_goes() {
    let origins = [Scripted::fine().await, Scripted::fine().await, Scripted::fine().await];
    let rules: Vec<String> = origins.iter().flat_map(|origin| origin.rule("")).collect();
    let limits = Limits { idle_upstream: 2, ..Limits::default() };
    let stage = Setting { limits, ..Setting::explicit(&rules) }.start();
    let mut client = stage.connect().await;
    // Which is asked, how often it was dialled by then, and how many wait afterwards.
    for (place, dialled, waiting) in
        [(0, 1, 1), (1, 1, 2), (2, 1, 2), (1, 1, 2), (2, 1, 2), (0, 2, 2), (2, 1, 2), (1, 2, 2)]
    {
        let host = origins[place].authority();
        let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(client.ask(request).await.status, 200);
        assert_eq!(origins[place].connections(), dialled, "{place}");
        soon(has_waiting(&stage, waiting)).await;
    }
}

/// Returns when so many upstream connections wait: one may a moment after its answer.
async fn has_waiting(stage: &Stage, count: usize) {
    while stage.proxy.load().idle != count {
        tokio::task::yield_now().await;
    }
}
