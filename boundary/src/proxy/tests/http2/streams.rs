//! Streams that live: both directions at once, resets, pressure, tunnels, other protocols.

use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::channel::{Channel, Sender};
use hyper::body::Frame;
use hyper::ext::Protocol;
use hyper::{Method, StatusCode};

use super::*;

/// A body that the test writes as it goes.
fn growing() -> (Sender<Bytes>, Content) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

/// The next piece of a body.
async fn piece(body: &mut Incoming) -> Option<Frame<Bytes>> {
    soon(body.frame()).await.map(Result::unwrap)
}

/// Sends back every piece as it comes, and says at the end how a call went.
async fn echo(request: Request<Incoming>) -> Response<Content> {
    let (mut sender, body) = growing();
    let mut upload = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = upload.frame().await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
        let trailers =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        drop(sender.send_trailers(trailers).await);
    });
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn call(client: &Many, body: Content) -> Request<Content> {
    Request::post(format!("{}/echo.Echo/Chat", client.base))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn both_directions_of_a_call_stream_at_once_and_end_with_trailers() {
    let origin = Origin2::new(&["h2"], echo).await;
    let stage = origin.stage(&origin.rule(""));
    let client = Many::secured(&stage, origin.port()).await;
    let (mut upload, body) = growing();
    let mut answer = client.send(call(&client, body)).await.unwrap();
    // Each message comes back before the next is sent.
    for number in 0..5 {
        let message = Bytes::from(format!("message {number}"));
        soon(upload.send_data(message.clone())).await.unwrap();
        assert_eq!(piece(answer.body_mut()).await.unwrap().into_data().unwrap(), message);
    }
    drop(upload);
    let trailers = piece(answer.body_mut()).await.unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(origin.asked()[0].2["te"], "trailers");
    drop((client, answer));
    let records = stage.records().await;
    assert_eq!(records.len(), 2, "one decision and its end: {records:?}");
    assert_eq!((&records[1]["bytes_up"], &records[1]["bytes_down"]), (&45.into(), &45.into()));
    assert_eq!(records[1]["http_status"], 200);
}

#[tokio::test]
async fn a_refused_call_gets_a_status_where_its_client_looks_for_one() {
    let origin = Origin2::new(&["h2"], echo).await;
    let stage = origin.stage(&origin.rule("method=POST path=/other.Other/*"));
    let client = Many::secured(&stage, origin.port()).await;
    let got = client.ask(call(&client, content("question"))).await;
    assert_eq!((got.status, got.field("content-type")), (200, Some("application/grpc")));
    assert_eq!((got.field("grpc-status"), got.text()), (Some("7"), ""));
    assert_eq!(got.field("x-boundary-denied"), Some("no_rule"));
    let message = got.field("grpc-message").unwrap();
    assert!(
        message.contains("Request Blocked by Boundary") && message.contains("--allow"),
        "{message}"
    );
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn a_call_to_nobody_is_told_that_the_upstream_is_not_there() {
    let rules = ["host=127.0.0.1 port=1".to_owned()];
    let stage = Stage::redirected(([127, 0, 0, 1], 1).into(), &rules);
    let client = Many::plain(&stage, "127.0.0.1:1").await;
    let got = client.ask(call(&client, content("question"))).await;
    assert_eq!((got.status, got.field("grpc-status")), (200, Some("14")));
}

/// A body of the same chunk for ever; `sent` hears of each.
fn endless(chunk: Bytes, sent: impl Fn() + Send + 'static) -> Content {
    let (mut sender, body) = growing();
    tokio::spawn(async move {
        while sender.send_data(chunk.clone()).await.is_ok() {
            sent();
        }
    });
    body
}

/// Tells when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Says nothing at `/hangs`, something for ever at `/grows`, and tells when that is over.
async fn hangs_or_grows(request: Request<Incoming>, gone: Arc<Notify>) -> Response<Content> {
    let path = request.uri().path();
    if path == "/short" {
        return Response::new(content("ok"));
    }
    let guard = Dropped(gone);
    if path == "/hangs" {
        std::future::pending::<()>().await;
    }
    Response::new(endless(Bytes::from_static(b"tick"), move || drop(Arc::clone(&guard.0))))
}

#[tokio::test]
async fn a_stream_that_its_client_resets_ends_upstream_and_nothing_else_does() {
    let gone = Arc::new(Notify::new());
    let telling = Arc::clone(&gone);
    let origin =
        Origin2::new(&["h2"], move |request| hangs_or_grows(request, Arc::clone(&telling))).await;
    let stage = origin.stage(&origin.rule(""));
    let client = Many::secured(&stage, origin.port()).await;
    // Before there is an answer.
    let hanging = client.clone();
    let asking = tokio::spawn(async move { hanging.send(hanging.get("/hangs")).await });
    while origin.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    asking.abort();
    soon(gone.notified()).await;
    // In the middle of one.
    let mut answer = client.send(client.get("/grows")).await.unwrap();
    assert!(piece(answer.body_mut()).await.is_some());
    drop(answer);
    soon(gone.notified()).await;
    assert_eq!(client.ask(client.get("/short")).await.text(), "ok");
    assert_eq!(origin.connections(), 1);
    drop(client);
    let records = stage.records().await;
    let ends = records.iter().filter(|record| record.get("duration_ms").is_some());
    assert_eq!((records.len(), ends.count()), (6, 3), "{records:?}");
}

/// How much the origin says at once.
const CHUNK: usize = 64 << 10;

/// Has an end at `/short` alone.
fn large_or_short(
    request: &Request<Incoming>,
    sent: impl Fn() + Send + 'static,
) -> std::future::Ready<Response<Content>> {
    std::future::ready(Response::new(match request.uri().path() {
        "/short" => content("ok"),
        _ => endless(Bytes::from(vec![b'x'; CHUNK]), sent),
    }))
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_held_back_at_its_source() {
    let (sent, moved) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, moving) = (Arc::clone(&sent), Arc::clone(&moved));
    let tell = move || {
        count.fetch_add(CHUNK, Ordering::Relaxed);
        moving.notify_one();
    };
    let origin = Origin2::new(&["h2"], move |request| large_or_short(&request, tell.clone())).await;
    let stage = origin.stage(&origin.rule(""));
    let client = Many::secured(&stage, origin.port()).await;
    let mut answer = client.send(client.get("/endless")).await.unwrap();
    assert!(piece(answer.body_mut()).await.is_some());
    // It stands still: what is on the way does not grow any more.
    while timeout(Duration::from_millis(300), moved.notified()).await.is_ok() {}
    let before = sent.load(Ordering::Relaxed);
    assert!(before < 16 << 20, "{before} bytes are on the way");
    // Others are not held up by it.
    assert_eq!(client.ask(client.get("/short")).await.text(), "ok");
    // And it goes on when it is read.
    let mut read = 0;
    while read < before + (1 << 20) {
        read += piece(answer.body_mut()).await.unwrap().into_data().unwrap().len();
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_do_not_hold_up_those_of_others() {
    let origin = Origin2::new(&["h2"], move |request| large_or_short(&request, move || {})).await;
    let stage = origin.stage(&origin.rule(""));
    let mut held = Vec::new();
    for _ in 0..9 {
        let client = Many::secured(&stage, origin.port()).await;
        let answer = client.send(client.get("/endless")).await.unwrap();
        held.push((client, answer));
    }
    // Until all that may be on the way is.
    sleep(Duration::from_secs(2)).await;
    let client = Many::secured(&stage, origin.port()).await;
    assert_eq!(client.ask(client.get("/short")).await.text(), "ok");
    assert_eq!(origin.connections(), 2, "one more, and no more");
    // The others go on when they are read.
    for (_client, mut answer) in held {
        let mut read = 0;
        while read < 4 << 20 {
            read += piece(answer.body_mut()).await.unwrap().into_data().unwrap().len();
        }
    }
}

/// An extended CONNECT.
fn websocket(client: &Many, path: &str, protocol: &'static str) -> Request<Content> {
    let mut request = Request::new(content(""));
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = format!("{}{path}", client.base).parse().unwrap();
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

/// The other side of [`converses`].
async fn replies(stream: impl Stream) {
    let mut upstream = Client(stream);
    assert_eq!(upstream.line().await, "hello\r\n");
    upstream.say("HELLO\r\n").await;
    upstream.ends().await;
    upstream.say("bye").await;
    upstream.0.shutdown().await.unwrap();
}

/// Bytes pass both ways, and each half closes by itself.
async fn converses(mut answer: Response<Incoming>) {
    assert_eq!(answer.status(), StatusCode::OK);
    let stream = soon(hyper::upgrade::on(&mut answer)).await.unwrap();
    let mut client = Client(TokioIo::new(stream));
    client.say("hello\r\n").await;
    assert_eq!(client.line().await, "HELLO\r\n");
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"bye");
}

#[tokio::test]
async fn a_websocket_in_http2_is_one_in_http1_upstream() {
    let (config, root) = vouched("localhost");
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let secure = Secure::at(listener.local_addr().unwrap(), Arc::clone(&config), &root);
    let port = secure.port();
    let rules = [format!("method=GET host=localhost port={port} path=/ws")];
    let stage = secure.stage(Setting::to_name("localhost", port, &rules));
    let client = Many::secured(&stage, port).await;
    let denied = client.ask(websocket(&client, "/no", "websocket")).await;
    assert_eq!(denied.field("x-boundary-denied"), Some("no_rule"));
    let hidden = client.ask(websocket(&client, "/ws", "h2c")).await;
    assert_eq!(hidden.status, 400);
    let asking = client.clone();
    let asking =
        tokio::spawn(
            async move { asking.send(websocket(&asking, "/ws", "websocket")).await.unwrap() },
        );
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let mut upstream = Client(soon(TlsAcceptor::from(config).accept(stream)).await.unwrap());
    let head = upstream.head_of_request().await;
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    for field in ["upgrade: websocket", "connection: Upgrade", "sec-websocket-protocol: chat"] {
        assert!(head.contains(&format!("{field}\r\n")), "{head}");
    }
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = websocket::answer_to(key.as_bytes());
    upstream
        .say(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        ))
        .await;
    let answer = soon(asking).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    assert!(!answer.headers().contains_key("upgrade"));
    let talking = tokio::spawn(converses(answer));
    replies(upstream.0).await;
    soon(talking).await.unwrap();
    drop(client);
    let records = stage.records().await;
    let end = records.iter().find(|record| record["bytes_up"] == 7).expect("an end");
    assert_eq!((&end["bytes_down"], &end["http_status"]), (&10.into(), &200.into()));
    let methods = records.iter().filter(|record| record["http_method"] == "GET").count();
    assert_eq!(methods, 3, "each is judged as the GET that it is in HTTP/1.1: {records:?}");
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_is_not_taken_for_one_that_did() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: irc\r\nConnection: Upgrade\r\n\r\n",
    ] {
        let origin = Origin1::new(move |_| answer.into()).await;
        let stage = origin.stage();
        let client = Many::secured(&stage, origin.secure.port()).await;
        assert_eq!(
            client.ask(websocket(&client, "/ws", "websocket")).await.status,
            502,
            "{answer}"
        );
    }
    // A plain no is passed on.
    let origin = Origin1::new(|_| "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".into()).await;
    let stage = origin.stage();
    let client = Many::secured(&stage, origin.secure.port()).await;
    assert_eq!(client.ask(websocket(&client, "/ws", "websocket")).await.status, 401);
}

/// Takes an extended CONNECT.
async fn switches(mut request: Request<Incoming>) -> Response<Content> {
    if request.method() == Method::CONNECT {
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async { replies(TokioIo::new(upgrade.await.unwrap())).await });
    }
    Response::new(content(""))
}

#[tokio::test]
async fn an_upstream_that_announces_it_gets_the_same_connect() {
    let origin = Origin2::new(&["h2"], switches).await;
    let stage = origin.stage(&origin.rule("method=GET"));
    let client = Many::secured(&stage, origin.port()).await;
    // What it announces is known from the second request on.
    for _ in 0..2 {
        assert_eq!(client.ask(client.get("/")).await.status, 200);
    }
    let answer = client.send(websocket(&client, "/ws", "websocket")).await.unwrap();
    converses(answer).await;
    assert_eq!(origin.asked()[2].1, format!("CONNECT https://localhost:{}/ws", origin.port()));
    assert!(!origin.asked()[2].2.contains_key("sec-websocket-key"));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_tunnel_is_a_stream_like_any() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = [format!("proto=tcp host=127.0.0.1 port={}", address.port())];
    let stage = Setting::explicit(&rules).start();
    let client = Many::plain(&stage, "ignored.example").await;
    let connect = |to: &str| {
        let mut request = Request::new(content(""));
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = to.parse().unwrap();
        request
    };
    assert_eq!(client.ask(connect("127.0.0.9:1")).await.status, 403);
    let answer = client.send(connect(&address.to_string())).await.unwrap();
    let talking = tokio::spawn(converses(answer));
    replies(soon(listener.accept()).await.unwrap().0).await;
    soon(talking).await.unwrap();
    assert_eq!(client.ask(connect("127.0.0.9:1")).await.status, 403);
}
