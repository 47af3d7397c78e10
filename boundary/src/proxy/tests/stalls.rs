//! Upstreams that stop, hang up or break off after every single byte, in the handshake and in the
//! answer, and one whose certificate is another all of a sudden.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use tokio::io::{duplex, split};
use tokio_rustls::TlsAcceptor;

use super::tls::{Secure, secured, vouched};
use super::*;

/// The host of the upstreams in TLS.
const NAME: &str = "localhost";
/// What a good answer is.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello";
/// The same, after which the upstream hangs up.
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
/// How long a proxy waits here for what does not come.
const PATIENCE: Duration = Duration::from_millis(300);
/// The same where hundreds wait at once, and those that are answered must be so on any machine.
const LONG_PATIENCE: Duration = Duration::from_secs(6);

/// How an upstream stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It says nothing more.
    Stalls,
    /// It hangs up.
    Closes,
    /// It breaks the connection off.
    Resets,
}

const WAYS: [Way; 3] = [Way::Stalls, Way::Closes, Way::Resets];

/// Ends a connection in its way. A stalled one is held until the other side has had enough.
async fn stop(mut stream: TcpStream, way: Way) {
    match way {
        Way::Stalls => while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {},
        Way::Closes => drop(stream.shutdown().await),
        Way::Resets => stream.set_zero_linger().unwrap(),
    }
}

/// An upstream that is asked for `/WAY/COUNT`: so many bytes of the answer come, and then it stops.
async fn cutting() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(cut(Client(stream)));
        }
    });
    address
}

/// Says as much of the answer as it is asked to, and stops.
async fn cut(mut stream: Client<TcpStream>) {
    let head = stream.head_of_request().await;
    let mut parts = head.split(['/', ' ']).skip(2);
    let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
    let (way, count) = (WAYS[number()], number());
    stream.0.write_all(&ANSWER.as_bytes()[..count]).await.unwrap();
    stop(stream.0, way).await;
}

/// What a client of a stage gets for a request: to its end, or until so much of a body is there.
async fn got(address: SocketAddr, request: String, most: usize) -> String {
    let mut client = soon(TcpStream::connect(address)).await.unwrap();
    soon(client.write_all(request.as_bytes())).await.unwrap();
    let mut bytes = Vec::new();
    let has_all = |bytes: &[u8]| {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        head.is_some_and(|head| bytes.len() - head - 4 >= most)
    };
    while !has_all(&bytes) {
        match soon(client.read_buf(&mut bytes)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where the head of the answer ends.
fn head() -> usize {
    ANSWER.find("\r\n\r\n").unwrap() + 4
}

/// Every way, at every byte: plain, and for the long way.
fn cuts() -> impl Iterator<Item = (usize, usize, &'static str)> {
    let places = (0..WAYS.len()).flat_map(|way| (0..ANSWER.len()).map(move |count| (way, count)));
    places.flat_map(|(way, count)| ["", "TE: trailers\r\n"].map(|odd| (way, count, odd)))
}

/// Holds what a client got against where the upstream stopped.
fn check((way, count): (Way, usize), odd: &str, answer: &str) {
    let what = format!("{way:?} after {count} {odd:?}: {answer:?}");
    let status = match way {
        _ if count >= head() => 200,
        Way::Stalls => 504,
        Way::Closes | Way::Resets => 502,
    };
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}");
    let body = ANSWER.get(head()..count).unwrap_or_default();
    assert!(answer.ends_with(body) && !answer.contains("hello"), "{what}");
}

#[tokio::test]
async fn an_answer_that_stops_at_any_byte_is_told_in_time_or_cut_off_where_it_stopped() {
    let upstream = cutting().await;
    let rules = [format!("host=127.0.0.1 port={}", upstream.port())];
    let limits =
        Limits { answer_time: Some(LONG_PATIENCE), drain: LONG_PATIENCE, ..Limits::default() };
    let setting = Setting { limits, ..Setting::redirected(upstream, &rules) };
    let stage = setting.start();
    let mut asked = JoinSet::new();
    for (number, count, odd) in cuts() {
        let request = format!(
            "GET /{number}/{count} HTTP/1.1\r\nHost: {upstream}\r\n{odd}Connection: close\r\n\r\n"
        );
        let way = WAYS[number];
        // Of an answer that stalls in its body, as much as there is.
        let cut = (way == Way::Stalls).then(|| count.checked_sub(head())).flatten();
        let answer = got(stage.address, request, cut.unwrap_or(usize::MAX));
        asked.spawn(async move { check((way, count), odd, &answer.await) });
    }
    let total = asked.len() + 1;
    asked.join_all().await;
    // The next one is answered in full.
    let (mended, whole) = (std::time::Instant::now(), ANSWER.len());
    let request =
        format!("GET /1/{whole} HTTP/1.1\r\nHost: {upstream}\r\nConnection: close\r\n\r\n");
    let answer = got(stage.address, request, usize::MAX).await;
    assert!(answer.ends_with("hello"), "{answer:?}");
    recovered(mended);
    let records = stage.records().await;
    let closed = records.iter().filter(|record| record.get("duration_ms").is_some()).count();
    assert_eq!((records.len() - closed, closed), (total, total), "each once, and each closed");
}

/// An upstream in TLS of whose bytes so many get through that its connections are cut at every one
/// of `step` in turn. How many connections there were.
fn choking(server: Arc<ServerConfig>, listener: TcpListener, step: usize) -> Arc<AtomicUsize> {
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    let acceptor = TlsAcceptor::from(server);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let (near, far) = duplex(64 * 1024);
            let script = |_: &str| ANSWER.to_owned();
            tokio::spawn(speak(acceptor.clone(), far, Arc::default(), script));
            tokio::spawn(choked(
                stream,
                near,
                (number / WAYS.len() * step, WAYS[number % WAYS.len()]),
            ));
        }
    });
    connections
}

/// Carries both directions until so many bytes have gone to the proxy, and stops.
async fn choked(mut stream: TcpStream, near: tokio::io::DuplexStream, (most, way): (usize, Way)) {
    let (mut said, mut heard) = split(near);
    let mut left = most;
    {
        let (mut from, mut to) = stream.split();
        let up = tokio::io::copy(&mut from, &mut heard);
        let down = pass(&mut said, &mut to, &mut left);
        tokio::select! {
            _ = up => {}
            () = down => {}
        }
    }
    if left == 0 {
        stop(stream, way).await;
    }
}

/// Carries so many bytes, or until one side has enough.
async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    left: &mut usize,
) {
    let mut bytes = vec![0; 4096];
    while *left > 0 {
        let room = (*left).min(bytes.len());
        let Ok(count @ 1..) = from.read(&mut bytes[..room]).await else { return };
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
        *left -= count;
    }
}

/// Answers in TLS what is asked on a stream.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: TlsAcceptor,
    stream: S,
    requests: Arc<Mutex<Vec<String>>>,
    script: impl Fn(&str) -> String,
) {
    if let Ok(stream) = acceptor.accept(stream).await {
        attend(stream, requests, Arc::new(script)).await;
    }
}

#[tokio::test]
async fn a_handshake_that_stops_at_any_point_is_a_failure_in_time_and_never_an_answer() {
    const STEP: usize = 61;
    let (config, root) = vouched(NAME);
    let server = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let secure = Secure::at(listener.local_addr().unwrap(), Arc::clone(&server), &root);
    let connections = choking(server, listener, STEP);
    let (port, limit) = (secure.port(), Some(PATIENCE));
    let rules = [format!("host={NAME} port={port}")];
    let limits =
        Limits { dial: PATIENCE, attempt: PATIENCE, answer_time: limit, ..Limits::default() };
    let stage = secure.stage(Setting { limits, ..Setting::to_name(NAME, port, &rules) });
    let mut seen = Vec::new();
    loop {
        let mended = std::time::Instant::now();
        let mut client = secured(&stage, stage.connect().await.0, NAME).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}:{port}\r\nConnection: close\r\n\r\n");
        client.say(request).await;
        let answer = String::from_utf8_lossy(&client.rest().await).into_owned();
        let status = answer.get(9..12).unwrap_or("none").to_owned();
        if answer.ends_with("hello") {
            recovered(mended);
            break;
        }
        // An answer whose head came through is cut off where it stopped.
        assert!(["502", "504", "200"].contains(&&*status), "{answer:?} after {seen:?}");
        seen.push(status);
        assert!(connections.load(Ordering::Relaxed) < 600, "it never comes through: {seen:?}");
    }
    assert!(seen.len() > 20, "a handshake is longer than that: {seen:?}");
    assert!(seen.iter().any(|it| it == "504") && seen.iter().any(|it| it == "502"), "{seen:?}");
}

#[tokio::test]
async fn a_certificate_that_changes_is_verified_anew_and_a_wrong_one_gets_no_request() {
    let (good, root) = vouched(NAME);
    let (other, _) = vouched(NAME);
    let (good, other) = (Arc::new(good), Arc::new(other));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let secure = Secure::at(listener.local_addr().unwrap(), Arc::clone(&good), &root);
    let requests = Arc::clone(&secure.origin.requests);
    let (turn, turned) = watch::channel(Arc::clone(&good));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(Arc::clone(&turned.borrow()));
            let script = |_: &str| LAST.to_owned();
            tokio::spawn(speak(acceptor, stream, Arc::clone(&requests), script));
        }
    });
    let port = secure.port();
    let stage = secure.stage(Setting::to_name(NAME, port, &[format!("host={NAME} port={port}")]));
    let mut client = secured(&stage, stage.connect().await.0, NAME).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n");
    for (server, status, asked) in [(&good, 200, 1), (&other, 502, 1), (&good, 200, 2)] {
        turn.send_replace(Arc::clone(server));
        let mended = std::time::Instant::now();
        assert_eq!(client.ask(&request).await.status, status);
        assert_eq!(secure.requests().len(), asked);
        if asked == 2 {
            recovered(mended);
        }
    }
}

/// Longer than any test.
const HOURS: Duration = Duration::from_hours(1);
/// What sends a request the short way, and the long one.
const BOTH_WAYS: [&str; 2] = ["", "TE: trailers\r\n"];

#[tokio::test]
async fn an_upstream_that_says_nothing_in_its_handshake_is_waited_for_as_long_as_a_dial_may_take() {
    let (_, root) = vouched(NAME);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let secure = Secure::at(address, Arc::new(vouched(NAME).0), &root);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(stop(stream, Way::Stalls));
        }
    });
    let port = address.port();
    let limits = Limits { dial: PATIENCE, answer_time: None, ..Limits::default() };
    let rules = [format!("host={NAME} port={port}")];
    let stage = secure.stage(Setting { limits, ..Setting::to_name(NAME, port, &rules) });
    for odd in BOTH_WAYS {
        let mut client = secured(&stage, stage.connect().await.0, NAME).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}:{port}\r\n{odd}\r\n");
        assert_eq!(client.ask(&request).await.status, 504, "{odd:?}");
    }
}

/// The name that nobody resolves.
const LOST: &str = "stalled.test";

/// A stage whose one permitted name nobody resolves, and a request for it.
fn unresolved(limits: &Limits, odd: &str) -> (Stage, String) {
    let rules = [format!("host={LOST} port=80")];
    let limits = Limits { dial: HOURS, ..limits.clone() };
    let stage = Setting { limits, ..Setting::to_name(LOST, 80, &rules) }.start();
    stage.proxy.upstream.stall(LOST);
    (stage, format!("GET / HTTP/1.1\r\nHost: {LOST}\r\n{odd}Connection: close\r\n\r\n"))
}

/// The outcomes of what was permitted, of which there is one each.
fn outcomes(records: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let (closed, opened): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record.get("duration_ms").is_some());
    assert!(opened.iter().all(|record| record["decision"] == "allow"), "{records:?}");
    assert_eq!(opened.len(), closed.len(), "{records:?}");
    closed.iter().map(|record| record["http_status"].clone()).collect()
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon(wait).await;
}

#[tokio::test]
async fn a_name_that_nobody_resolves_is_waited_for_as_long_as_an_answer_may_take() {
    for odd in BOTH_WAYS {
        let limits = Limits { answer_time: Some(PATIENCE), ..Limits::default() };
        let (stage, request) = unresolved(&limits, odd);
        let answer = got(stage.address, request, usize::MAX).await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{odd:?} {answer:?}");
        assert_eq!(outcomes(&stage.records().await), [504], "{odd:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_name_is_resolved_is_on_record_and_not_waited_for() {
    for odd in BOTH_WAYS {
        let (stage, request) =
            unresolved(&Limits { half_closed: PATIENCE, ..Limits::default() }, odd);
        let mut client = stage.connect().await;
        client.say(request).await;
        soon(client.0.shutdown()).await.unwrap();
        until(|| stage.records.decisions().len() == 2).await;
        assert_eq!(outcomes(&stage.records().await), [serde_json::Value::Null], "{odd:?}");
    }
}

#[tokio::test]
async fn a_stream_whose_name_is_resolved_when_the_session_ends_is_on_record() {
    let limits = Limits { dial: HOURS, drain: PATIENCE, ..Limits::default() };
    let rules = [format!("proto=tcp host={LOST} port=7")];
    let stage = Setting { limits, ..Setting::to_name(LOST, 7, &rules) }.start();
    stage.proxy.upstream.stall(LOST);
    let _client = stage.connect().await;
    until(|| stage.proxy.upstream.waiting(LOST) == 1).await;
    assert_eq!(outcomes(&stage.records().await), [serde_json::Value::Null]);
}

#[tokio::test]
async fn a_request_whose_name_is_resolved_when_the_session_ends_is_on_record() {
    for odd in BOTH_WAYS {
        let (stage, request) = unresolved(&Limits { drain: PATIENCE, ..Limits::default() }, odd);
        let mut client = stage.connect().await;
        client.say(request).await;
        until(|| stage.proxy.upstream.waiting(LOST) == 1).await;
        assert_eq!(outcomes(&stage.records().await), [serde_json::Value::Null], "{odd:?}");
    }
}

#[tokio::test]
async fn an_upload_that_stands_still_or_is_garbled_is_on_record_as_a_refusal_too() {
    let origin = Scripted::fine().await;
    let rows = [
        ("Content-Length: 10\r\n\r\nabc", 408, "over_limit"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 408, "over_limit"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno\r\n", 400, "bad_request"),
    ];
    for (rest, status, code) in rows {
        let setting = Setting::redirected(origin.address, &origin.rule(""));
        let limits = Limits { idle: PATIENCE, ..setting.limits.clone() };
        let stage = Setting { limits, ..setting }.start();
        let mut client = stage.connect().await;
        let host = origin.authority();
        let got = client.ask(format!("POST / HTTP/1.1\r\nHost: {host}\r\n{rest}")).await;
        assert_eq!((got.status, got.field("x-boundary-denied")), (status, Some(code)), "{rest:?}");
        assert_eq!(got.field("connection"), Some("close"));
        client.ends().await;
        // It goes on reading until the client has left.
        drop(client);
        until(|| stage.proxy.load().connections == 0).await;
        let records = stage.records().await;
        let is_refusal = |record: &serde_json::Value| record["decision"] == "deny";
        let (denied, own): (Vec<_>, Vec<_>) = records.into_iter().partition(is_refusal);
        assert_eq!(outcomes(&own), [status], "{rest:?}");
        let opened = denied.iter().filter(|record| record["code"] == code).count();
        assert_eq!(opened, 1, "{denied:?}");
    }
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_is_no_failure_of_the_upstream() {
    let origin = Scripted::fine().await;
    for rest in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    {
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let mut client = stage.connect().await;
        let host = origin.authority();
        client.say(format!("POST / HTTP/1.1\r\nHost: {host}\r\n{rest}")).await;
        until(|| !stage.records.decisions().is_empty()).await;
        drop(client);
        until(|| stage.proxy.load().connections == 0).await;
        assert_eq!(outcomes(&stage.records().await), [400], "{rest:?}");
    }
}

#[tokio::test]
async fn a_garbled_head_behind_a_request_that_fails_is_on_record_by_itself() {
    let origin = Scripted::new(|_| String::new()).await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let mut client = stage.connect().await;
    let host = origin.authority();
    // The long way reads on while the first is answered.
    let first = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nok");
    client.say(format!("{first}GET / HTTP/9.9\r\n\r\n")).await;
    assert_eq!(client.answer(false).await.status, 502);
    assert_eq!(client.answer(false).await.status, 400);
    drop(client);
    until(|| stage.proxy.load().connections == 0).await;
    let decisions = stage.decisions().await;
    let refused = decisions.iter().filter(|it| it.starts_with("deny bad_request"));
    assert_eq!((decisions.len(), refused.count()), (2, 1), "{decisions:?}");
}
