//! Clients that shut their side and wait: they get all of their answer, or are taken for gone in time.

use tokio::io::duplex;

use super::super::flow::{Call, Flow};
use super::*;

/// What sends a request the long way.
const ODD: [(&str, &str); 2] = [("HTTP/1.0", ""), ("HTTP/1.1", "TE: trailers\r\n")];

/// A stage whose only origin answers what the test says: where it listens, and its authority.
async fn by_hand(limits: Limits) -> (Stage, TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rule = format!("host=127.0.0.1 port={}", address.port());
    let setting = Setting::redirected(address, &[rule]);
    (Setting { limits, ..setting }.start(), listener, address.to_string())
}

/// The connection that boundary opens there.
async fn accepted(listener: &TcpListener) -> Client<TcpStream> {
    Client(soon(listener.accept()).await.unwrap().0)
}

/// Asks by a connection that holds little, shuts its side, and reads to the end.
async fn by_a_narrow_way(stage: &Stage, target: &str, said: String) -> Vec<u8> {
    let (near, far) = duplex(1024);
    let (client, target) = (([127, 0, 0, 1], 9).into(), target.parse().unwrap());
    let flow = Flow { door: Door::Redirect, client, target, process: None };
    let call = Call::new(flow, &stage.proxy.pins).unwrap();
    tokio::spawn(Arc::clone(&stage.proxy).carry(far, call));
    let mut client = Client(near);
    client.say(said).await;
    client.0.shutdown().await.unwrap();
    client.rest().await
}

/// Larger than what is held of it anywhere.
const LENGTH: usize = 1 << 20;

/// Answers once, as long as that, and says that it was the last.
async fn says_much(listener: TcpListener, fields: String) {
    let mut upstream = accepted(&listener).await;
    upstream.head_of_request().await;
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{}", "x".repeat(LENGTH));
    upstream.0.write_all(answer.as_bytes()).await.unwrap();
    upstream.0.shutdown().await.unwrap();
    upstream.rest().await;
}

fn count(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'x').count() - 1
}

#[tokio::test]
async fn whoever_has_shut_its_side_gets_its_answer_to_the_end_however_slowly_it_goes() {
    let framings = [format!("Content-Length: {LENGTH}\r\n"), String::new()];
    for (version, odd) in ODD {
        for framing in framings.clone() {
            let (stage, listener, host) = by_hand(Limits::default()).await;
            tokio::spawn(says_much(listener, framing.clone()));
            let request = format!("GET / {version}\r\nHost: {host}\r\n{odd}\r\n");
            let all = by_a_narrow_way(&stage, &host, request).await;
            assert_eq!(count(&all), LENGTH, "{version} {framing:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_whole_before_what_was_said_behind_its_request_is_refused() {
    let (stage, listener, host) = by_hand(Limits::default()).await;
    tokio::spawn(says_much(listener, format!("Content-Length: {LENGTH}\r\n")));
    let said = format!("GET / HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\n\r\nno request\r\n\r\n");
    let all = by_a_narrow_way(&stage, &host, said).await;
    let (answer, end) = all.split_at(all.len().min(LENGTH));
    assert!(count(answer) + count(end) >= LENGTH, "{}", all.len());
    assert!(String::from_utf8_lossy(end).contains("HTTP/1.1 400 "), "{}", all.len());
}

#[tokio::test]
async fn an_answer_that_flows_is_not_cut_for_a_client_that_has_shut_its_side() {
    let limits = Limits { half_closed: Duration::from_millis(300), ..Limits::default() };
    for (version, odd) in ODD.into_iter().chain([("HTTP/1.1", "")]) {
        let (stage, listener, host) = by_hand(limits.clone()).await;
        let mut client = stage.connect().await;
        client.say(format!("GET / {version}\r\nHost: {host}\r\n{odd}\r\n")).await;
        client.0.shutdown().await.unwrap();
        let mut upstream = accepted(&listener).await;
        upstream.head_of_request().await;
        upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await;
        let answer = tokio::spawn(async move { client.answer(false).await });
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
            upstream.say("x").await;
        }
        assert_eq!(soon(answer).await.unwrap().text(), "xxxxxxxxxx", "{version} {odd:?}");
        // And one that does not flow is given up.
        let mut client = stage.connect().await;
        client.say(format!("GET / {version}\r\nHost: {host}\r\n{odd}\r\n")).await;
        client.0.shutdown().await.unwrap();
        client.ends().await;
    }
}

/// A request that waits with a wish to switch, whose client has shut its side.
async fn wishes(stage: &Stage, listener: &TcpListener, host: &str) -> [Client<TcpStream>; 2] {
    let mut client = stage.connect().await;
    let wish =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    client.say(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{wish}\r\n")).await;
    client.0.shutdown().await.unwrap();
    let mut upstream = accepted(listener).await;
    upstream.head_of_request().await;
    [client, upstream]
}

/// Waits until no connection of the command is carried.
async fn until_gone(stage: &Stage) {
    let wait = async {
        while stage.proxy.load().connections > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon(wait).await;
}

#[tokio::test]
async fn a_client_that_leaves_with_a_wish_to_switch_is_taken_for_gone_in_time() {
    let limits = Limits { half_closed: Duration::from_millis(300), ..Limits::default() };
    let (stage, listener, host) = by_hand(limits).await;
    let [mut client, mut upstream] = wishes(&stage, &listener, &host).await;
    assert!(upstream.rest().await.is_empty(), "it is given up");
    client.ends().await;
    // At once, and not after the time in which its stream might still be given away.
    let left = std::time::Instant::now();
    until_gone(&stage).await;
    assert!(left.elapsed() < Limits::default().linger / 2, "{:?}", left.elapsed());
    // One that is answered is not, as long as something comes.
    let [mut client, mut upstream] = wishes(&stage, &listener, &host).await;
    upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let answer = tokio::spawn(async move { client.answer(false).await });
    for _ in 0..5 {
        sleep(Duration::from_millis(150)).await;
        upstream.say("x").await;
    }
    assert_eq!(soon(answer).await.unwrap().text(), "xxxxx");
}

#[tokio::test]
async fn a_client_that_has_shut_its_side_ends_with_the_session() {
    let limits = Limits { drain: 100 * DEADLINE, ..Limits::default() };
    for wish in [true, false] {
        let (mut stage, listener, host) = by_hand(limits.clone()).await;
        let [mut client, mut upstream] = if wish {
            wishes(&stage, &listener, &host).await
        } else {
            let mut client = stage.connect().await;
            client.say(format!("GET / HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\n\r\n")).await;
            client.0.shutdown().await.unwrap();
            let mut upstream = accepted(&listener).await;
            upstream.head_of_request().await;
            [client, upstream]
        };
        drop(stage.shutdown.take());
        client.ends().await;
        assert!(upstream.rest().await.is_empty(), "it is given up");
        assert_eq!(stage.records().await.len(), 2);
    }
}
