//! The short way and the long way: one connection, one record, the same bytes.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;
use crate::audit::Meters;

fn get(authority: &str, fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

/// A stage whose only origin answers what the test says: where it listens, and its authority.
async fn by_hand() -> (Stage, TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rule = format!("host=127.0.0.1 port={}", address.port());
    (Stage::redirected(address, &[rule]), listener, address.to_string())
}

/// The connection that boundary opens there.
async fn accepted(listener: &TcpListener) -> Client<TcpStream> {
    Client(soon(listener.accept()).await.unwrap().0)
}

#[tokio::test]
async fn plain_fields_keep_their_order_and_their_case_both_ways() {
    let answer = "HTTP/1.1 299 Quite So\r\nx-CASE: a\r\nContent-Length: 3\r\nSet-Cookie: 1\r\n\
                  X-B: \r\nset-cookie: 2\r\n\r\nabc";
    let origin = Scripted::new(move |_| answer.into()).await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let request = format!(
        "POST /a/../b?c=%2F HTTP/1.1\r\nX-A: 1\r\nhoST: {host}\r\nAccept:*/*  \r\nx-a: 2\r\n\
         content-length: 2\r\nConnection: Keep-Alive\r\nX-A: 3\r\n\r\nhi"
    );
    let got = stage.connect().await.ask(request).await;
    assert_eq!(got.head, answer.strip_suffix("abc").unwrap());
    let sent = format!(
        "POST /b?c=%2F HTTP/1.1\r\nX-A: 1\r\nhoST: {host}\r\nAccept: */*\r\nx-a: 2\r\n\
         content-length: 2\r\nX-A: 3\r\n\r\nhi"
    );
    assert_eq!(origin.requests(), [sent]);
    let records = stage.records().await;
    assert_eq!((&records[1]["bytes_up"], &records[1]["bytes_down"]), (&2.into(), &3.into()));
}

#[tokio::test]
async fn an_answer_for_the_long_way_is_not_asked_for_again() {
    let answers = [
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
    ];
    // The parser of the long way does not know the second target, but it was sent.
    let targets = ["/", "/<a>?q=\"<x>\"&`"];
    for (target, answer) in targets.into_iter().flat_map(|it| answers.map(|answer| (it, answer))) {
        // It closes behind the answer: some have no other end.
        let origin =
            Scripted::new(move |_| answer.replacen("200 OK", "200 OK\r\nConnection: close", 1))
                .await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let mut client = stage.connect().await;
        let post = format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\nhi",
            origin.authority()
        );
        let mut got = client.ask(&post).await;
        while got.status == 103 {
            got = client.answer(false).await;
        }
        assert_eq!((got.status, got.text()), (200, "ok"), "{target} {answer:?}");
        assert_eq!(got.field("x-hop"), None);
        assert_eq!(origin.requests().len(), 1, "{answer:?}");
        let records = stage.records().await;
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!((&records[1]["bytes_up"], &records[1]["bytes_down"]), (&2.into(), &2.into()));
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_judged_once_more() {
    let (stage, listener, host) = by_hand().await;
    let mut client = stage.connect().await;
    client.say(get(&host, "")).await;
    let mut upstream = accepted(&listener).await;
    upstream.head_of_request().await;
    // The policy changes before the answer, of which the first word is for the long way.
    stage.proxy.replace_rules(RuleSet::default());
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
    upstream.say(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
    let got = client.answer(false).await;
    assert_eq!((got.status, got.text()), (200, "ok"));
    // What is asked next is asked of the policy that there is.
    assert_eq!(client.ask(get(&host, "")).await.status, 403);
    let decisions = stage.decisions().await;
    let told: Vec<_> = decisions.iter().filter_map(|it| it.split(' ').next()).collect();
    assert_eq!(told, ["allow", "deny"], "{decisions:?}");
}

/// Tried often: what is at fault in the order of two things that are due fails every other time.
#[tokio::test]
async fn a_request_that_was_sent_is_answered_when_the_session_ends_meanwhile() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = [format!("host=127.0.0.1 port={}", address.port())];
    for _ in 0..12 {
        let limits = Limits { drain: DEADLINE, ..Limits::default() };
        let mut stage = Setting { limits, ..Setting::redirected(address, &rules) }.start();
        let mut client = stage.connect().await;
        client.say(get(&address.to_string(), "")).await;
        let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
        upstream.head_of_request().await;
        drop(stage.shutdown.take());
        soon(stage.proxy.closing()).await;
        // The first word of the answer is for the long way, which begins when the end is due.
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
        upstream.say(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
        let got = client.answer(false).await;
        assert_eq!((got.status, got.text()), (200, "ok"));
    }
}

#[tokio::test]
async fn a_client_that_has_shut_is_not_waited_for_when_the_session_ends() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = [format!("host=127.0.0.1 port={}", address.port())];
    // The answer has not begun, or not ended.
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"] {
        let limits = Limits { drain: 100 * DEADLINE, ..Limits::default() };
        let mut stage = Setting { limits, ..Setting::redirected(address, &rules) }.start();
        let mut client = stage.connect().await;
        client.say(get(&address.to_string(), "")).await;
        let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
        upstream.head_of_request().await;
        upstream.say(begun).await;
        client.0.shutdown().await.unwrap();
        drop(stage.shutdown.take());
        assert_eq!(soon(upstream.0.read(&mut [0])).await.unwrap(), 0, "after {begun:?}");
    }
}

/// How often a decision, and how often an upstream, was timed.
fn timed(meters: &Arc<Meters>) -> (usize, usize) {
    let mut registry = Registry::default();
    meters.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}_count ")));
        line.and_then(|count| count.parse().ok()).unwrap()
    };
    (count("boundary_decision_seconds"), count("boundary_upstream_seconds"))
}

#[tokio::test]
async fn decisions_and_upstreams_are_timed_once_by_either_way() {
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let closed = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok";
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let origin = Scripted::new(move |request| {
        let path = request.split(' ').nth(1).unwrap();
        [plain, closed, hints, ""][usize::from(path.as_bytes()[1] - b'0')].into()
    })
    .await;
    // In turn: the short way alone, an answer for the long way, interim ones, none; a request for the
    // long way; and what is refused.
    let host = origin.authority();
    let rows = [
        ("/0", "", 200, (1, 1)),
        ("/1", "", 200, (1, 1)),
        ("/2", "", 200, (1, 1)),
        ("/3", "", 502, (1, 1)),
        ("/0", "TE: trailers\r\nConnection: TE\r\n", 200, (1, 1)),
        ("/no", "", 403, (1, 0)),
    ];
    for (path, fields, status, times) in rows {
        let stage = Stage::redirected(origin.address, &origin.rule("path=/0,/1,/2,/3"));
        let meters = Arc::new(Meters::default());
        stage.recorder.count_with(Arc::clone(&meters));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        assert_eq!(stage.connect().await.ask(request).await.status, status, "{path} {fields}");
        assert_eq!(timed(&meters), times, "{path} {fields}");
    }
}

#[tokio::test]
async fn a_query_that_the_parser_does_not_know_is_sent_as_it_is_or_refused_by_name() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let ask = |fields: &str| {
        format!("GET /<a>?f={{\"b\":`1`}}&<x> HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
    };
    assert_eq!(stage.connect().await.ask(ask("")).await.status, 200);
    let sent = origin.requests().remove(0);
    assert!(sent.starts_with("GET /%3Ca%3E?f={\"b\":`1`}&<x> HTTP/1.1\r\n"), "{sent}");
    // By the long way it is not to be had.
    let refused = stage.connect().await.ask(ask("TE: trailers\r\nConnection: TE\r\n")).await;
    assert_eq!((refused.status, refused.field("x-boundary-denied")), (400, Some("bad_request")));
    assert_eq!(origin.requests().len(), 1);
    let records = stage.records().await;
    let refused = records.iter().find(|record| record["code"] == "bad_request").unwrap();
    assert_eq!(refused["http_method"], "GET");
    assert!(refused["http_url"].as_str().unwrap().contains("/<a>?f="), "{refused}");
}

#[tokio::test]
async fn a_query_that_the_parser_does_not_know_is_sent_again_where_a_connection_had_died() {
    let (stage, listener, host) = by_hand().await;
    let request = format!("GET /<a>?q=\"<x>\" HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut client = stage.connect().await;
    client.say(&request).await;
    let mut upstream = accepted(&listener).await;
    let sent = upstream.head_of_request().await;
    assert!(sent.starts_with("GET /%3Ca%3E?q=\"<x>\" HTTP/1.1\r\n"), "{sent}");
    upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer(false).await.status, 200);
    client.say(&request).await;
    upstream.head_of_request().await;
    drop(upstream);
    let mut upstream = accepted(&listener).await;
    let sent = upstream.head_of_request().await;
    assert!(sent.starts_with("GET /%3Ca%3E?q=%22%3Cx%3E%22 HTTP/1.1\r\n"), "{sent}");
    upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer(false).await.status, 200);
    let told: Vec<_> = stage.decisions().await;
    assert!(told.iter().all(|it| it.starts_with("allow ")) && told.len() == 2, "{told:?}");
}

#[tokio::test]
async fn fields_between_two_neighbours_come_no_further() {
    let fields = [
        "TE: trailers",
        "te: gzip",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABk",
        "Proxy-Authenticate: Basic",
        "proxy-x: 1",
        "Proxy-Connection: keep-alive",
        "Proxy-Authentication-Info: 1",
        "Keep-Alive: timeout=5",
        "Connection: X-Hop\r\nX-Hop: 1",
    ];
    for field in fields {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-A: 1\r\n{field}\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok"
        );
        let origin = Scripted::new(move |_| answer.clone()).await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let mut client = stage.connect().await;
        for _ in 0..2 {
            let got = client.ask(get(&origin.authority(), "")).await;
            assert_eq!((got.status, got.text()), (200, "ok"), "{field}");
            assert_eq!((got.field("x-a"), got.field("x-b")), (Some("1"), Some("2")), "{field}");
            let is_there = field.lines().any(|line| got.head.contains(line));
            assert!(!is_there, "{}", got.head);
        }
        assert_eq!(origin.requests().len(), 2, "{field}");
    }
}

#[tokio::test]
async fn an_answer_without_content_has_none_whatever_it_says() {
    let rows = [
        ("204 No Content", "Content-Length: 5", None),
        ("204 No Content", "Transfer-Encoding: chunked", None),
        ("204 No Content", "X: y", None),
        ("204 No Content", "Trailer: X", None),
        ("304 Not Modified", "Trailer: X", None),
        ("304 Not Modified", "Content-Length: 5", Some("5")),
    ];
    for (status, field, length) in rows {
        let answer = format!("HTTP/1.1 {status}\r\n{field}\r\n\r\n");
        let origin = Scripted::new(move |_| answer.clone()).await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let mut client = stage.connect().await;
        for _ in 0..2 {
            let got = client.ask(get(&origin.authority(), "")).await;
            assert!(status.starts_with(&got.status.to_string()), "{status} {field}: {}", got.head);
            assert_eq!(got.field("content-length"), length, "{status} {field}");
            assert_eq!(got.field("transfer-encoding"), None, "{status} {field}");
            assert_eq!(got.field("trailer"), None, "{status} {field}");
        }
        assert_eq!(origin.requests().len(), 2, "{status} {field}");
    }
}

#[tokio::test]
async fn an_answer_to_head_in_other_letters_ends_with_its_head() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let origin = Scripted::new(move |_| answer.into()).await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let mut client = stage.connect().await;
    let host = origin.authority();
    // To whoever said `head`, the length is that of what comes.
    for (method, length) in [("HEAD", "5"), ("head", "0"), ("Head", "0"), ("HEAD", "5")] {
        client.say(format!("{method} / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let got = client.answer(true).await;
        assert_eq!((got.status, got.field("content-length")), (200, Some(length)), "{method}");
    }
    assert!(origin.requests().iter().all(|request| request.starts_with("HEAD / ")));
}

#[tokio::test]
async fn both_ways_share_their_upstream_connections() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    for fields in ["", "TE: trailers\r\nConnection: TE\r\n"] {
        let mut client = stage.connect().await;
        for _ in 0..3 {
            assert_eq!(client.ask(get(&host, fields)).await.status, 200);
        }
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn chunks_come_as_they_were_sent_and_what_lies_behind_them_answers_nobody() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nok\r\n3;x=y\r\nyes\r\n0\r\nX-Sum: 7\r\n\r\n";
    let hidden = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden";
    let origin = Scripted::new(move |_| format!("{chunked}{hidden}")).await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let mut client = stage.connect().await;
    for _ in 0..3 {
        client.say(get(&origin.authority(), "")).await;
        let (_, head) = client.head().await;
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        assert_eq!(client.chunk().await.unwrap(), b"ok");
        assert_eq!(client.line().await, "3;x=y\r\n");
        assert_eq!((client.line().await, client.line().await), ("yes\r\n".into(), "0\r\n".into()));
        assert_eq!(
            (client.line().await, client.line().await),
            ("X-Sum: 7\r\n".into(), "\r\n".into())
        );
    }
    let records = stage.records().await;
    assert_eq!(records[1]["bytes_down"], 5);
}

#[tokio::test]
async fn a_chunk_behind_its_head_may_have_white_space_behind_its_size() {
    let (stage, listener, host) = by_hand().await;
    let mut client = stage.connect().await;
    client.say(get(&host, "")).await;
    let mut upstream = accepted(&listener).await;
    upstream.head_of_request().await;
    upstream.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    // The head went on alone: from here there is no other way.
    assert_eq!(client.head().await.0, 200);
    let long = format!("3;{}\r\n", "x".repeat(5000));
    for size in ["5  \r\n", "5 ;x=y\r\n", "5\t; x\r\n"] {
        upstream.say(format!("{size}hello\r\n")).await;
        assert_eq!(client.line().await.get(..1), Some("5"), "{size:?}");
        assert_eq!(client.line().await, "hello\r\n", "{size:?}");
    }
    upstream.say(format!("{long}abc\r\n0 \r\n\r\n")).await;
    assert_eq!(client.line().await, long);
    let end = [client.line().await, client.line().await, client.line().await];
    assert_eq!(end, ["abc\r\n", "0 \r\n", "\r\n"]);
    // And the connection goes on.
    client.say(get(&host, "")).await;
    upstream.head_of_request().await;
    upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer(false).await.text(), "ok");
    assert_eq!(stage.records().await[1]["bytes_down"], 18);
}

#[tokio::test]
async fn a_body_that_breaks_late_is_no_whole_one() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n".to_owned();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n".to_owned();
    for head in [head, chunked] {
        let answer = head + &"x".repeat(60_000);
        let origin = Scripted::new(move |_| answer.clone() + "Connection: close").await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let mut client = stage.connect().await;
        client.say(get(&origin.authority(), "")).await;
        let all = client.rest().await;
        assert!(all.len() > 50_000 && !all.ends_with(b"0\r\n\r\n"), "{}", all.len());
        assert_eq!(stage.records().await.len(), 2);
    }
}

#[tokio::test]
async fn a_client_that_wants_no_more_gets_no_more() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let mut client = stage.connect().await;
    client.say(get(&host, "Connection: close\r\n") + &get(&host, "")).await;
    let got = client.answer(false).await;
    assert_eq!((got.status, got.field("connection")), (200, Some("close")));
    client.ends().await;
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent_however_the_stream_is_framed() {
    let framings = [
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
    ];
    for head in framings {
        let (stage, listener, host) = by_hand().await;
        let mut client = stage.connect().await;
        client.say(get(&host, "Accept: text/event-stream\r\n")).await;
        let mut upstream = accepted(&listener).await;
        upstream.head_of_request().await;
        upstream.say(head).await;
        assert_eq!(client.head().await.0, 200);
        let is_chunked = head.contains("chunked");
        for number in 0..10 {
            let event = format!("data: {number}\n\n");
            let size = event.len();
            let chunk = format!("{size:x}\r\n{event}\r\n");
            upstream.say([&event, &chunk][usize::from(is_chunked)]).await;
            assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
        }
        // A stream whose client left is left too, while nothing happens on it.
        client.0.set_zero_linger().unwrap();
        drop(client);
        assert!(upstream.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_client_that_asks_ahead_is_answered_in_order_and_held_back() {
    let origin = Scripted::new(|request| {
        let path = request.split(' ').nth(1).unwrap();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())
    })
    .await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let (mut read, mut write) = stage.connect().await.0.into_split();
    let host = origin.authority();
    let asked = async {
        for number in 0..500 {
            let filler = "y".repeat(400);
            let request =
                format!("GET /{number} HTTP/1.1\r\nHost: {host}\r\nX-Filler: {filler}\r\n\r\n");
            write.write_all(request.as_bytes()).await.unwrap();
        }
    };
    let answered = async {
        let mut all = Vec::new();
        let mut bytes = [0; 4096];
        while !String::from_utf8_lossy(&all).ends_with("/499") {
            let count = soon(read.read(&mut bytes)).await.unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8(all).unwrap()
    };
    let ((), all) = tokio::join!(asked, answered);
    let order: Vec<_> =
        all.split("\r\n\r\n/").skip(1).filter_map(|rest| rest.split("HTTP").next()).collect();
    assert_eq!(order, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_body_behind_its_head_is_brought_along() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let mut client = stage.connect().await;
    for size in [5, 10_000, 70_000, 5] {
        let (first, second) = ("x".repeat(size / 2), "y".repeat(size - size / 2));
        let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n");
        for part in [&head, &first, &second] {
            client.say(part).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer(false).await.status, 200, "{size} bytes");
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.split_once("\r\n\r\n").unwrap().1, first + &second);
    }
    let records = stage.records().await;
    let sizes: Vec<_> = records.iter().filter_map(|one| one["bytes_up"].as_u64()).collect();
    assert_eq!(sizes, [5, 10_000, 70_000, 5]);
}

#[tokio::test]
async fn a_head_whose_body_does_not_come_is_sent_without_it() {
    let (stage, listener, host) = by_hand().await;
    let mut client = stage.connect().await;
    client.say(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\n")).await;
    let mut upstream = accepted(&listener).await;
    upstream.head_of_request().await;
    client.say("hello").await;
    let mut body = [0; 5];
    soon(upstream.0.read_exact(&mut body)).await.unwrap();
    assert_eq!(&body, b"hello");
    upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer(false).await.text(), "ok");
}
