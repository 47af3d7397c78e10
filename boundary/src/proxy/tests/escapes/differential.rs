//! Requests made of pieces that readers disagree about: whatever is said, the origin gets what was
//! judged, word for word, and nothing that was not.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A piece of a request target.
fn piece() -> impl Strategy<Value = &'static str> {
    let usual = select(vec!["a", "b", "/a/", "x.y", "//", "?q=/../", "~", "+", ";x=1", "%2f"]);
    let odd = select(vec![
        ".",
        "..",
        "/../",
        "%2e",
        "%2E%2e",
        "%5c",
        "\\",
        "#",
        "%",
        "%00",
        "%25",
        "%252e",
        ":",
        "@",
        "*",
        "http://",
        "localhost:PORT",
        "127.0.0.2:PORT",
        "\u{e9}",
        "%c0%ae",
        " ",
        "\t",
        "|",
    ]);
    prop_oneof![2 => usual, 1 => odd]
}

/// A request line's first word.
fn method() -> impl Strategy<Value = &'static str> {
    let usual = select(vec!["GET", "GET", "GET", "POST", "PUT", "get", "HEAD"]);
    let odd =
        select(vec!["CONNECT", "G\0T", "GET\t", "*", "", "GET,POST", "TRACE", "PRI", "\r\nGET"]);
    prop_oneof![12 => usual, 1 => odd]
}

/// A field's line, without its end.
fn field() -> impl Strategy<Value = &'static str> {
    let usual =
        select(vec!["X: y", "Accept: */*", "Connection: close", "Connection: X", "Cookie: a=b"]);
    let odd = select(vec![
        "Host: 127.0.0.2:PORT",
        "Host: localhost:PORT",
        "host:localhost:PORT",
        "Host : localhost:PORT",
        " Host: 127.0.0.2:PORT",
        "Content-Length: 3",
        "Content-Length: 0",
        "Content-Length: 03",
        "Content-Length: 3, 3",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding:\tchunked",
        "X: y\nHost: 127.0.0.2",
        "X: y\rHost: 127.0.0.2",
        "X: y\0",
        "Connection: Host",
        "Connection: Content-Length",
        "Connection: Upgrade",
        "Upgrade: h2c",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "X",
        ":",
        "X-HTTP-Method-Override: DELETE",
        "TE: trailers",
        "Proxy-Connection: x",
    ]);
    prop_oneof![4 => usual, 1 => odd]
}

/// A whole request, right or wrong.
fn request() -> impl Strategy<Value = String> {
    let target = prop_oneof![
        5 => prop::collection::vec(piece(), 1..5).prop_map(|all| format!("/a/{}", all.concat())),
        1 => prop::collection::vec(piece(), 0..6).prop_map(|all| all.concat()),
    ];
    let host = prop_oneof![
        8 => Just("Host: localhost:PORT\r\n"),
        1 => select(vec!["", "Host:\r\n", "Host: 127.0.0.2:PORT\r\n", "Host: x@localhost:PORT\r\n"]),
    ];
    let version = prop_oneof![12 => Just("HTTP/1.1"), 1 => select(vec!["HTTP/1.0", "HTTP/2.0", "", "http/1.1"])];
    let end = prop_oneof![20 => Just("\r\n"), 1 => select(vec!["\n", "\r", "\r\r\n"])];
    let fields = prop::collection::vec((field(), end.clone()), 0..4);
    let body = select(vec![
        "",
        "",
        "abc",
        "3\r\nabc\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "GET /hidden HTTP/1.1\r\n\r\n",
    ]);
    (method(), target, version, host, fields, end, body).prop_map(
        |(method, target, version, host, fields, end, body)| {
            let fields: Vec<_> = fields.iter().map(|(line, end)| format!("{line}{end}")).collect();
            let fields = fields.concat();
            format!("{method} {target} {version}{end}{host}{fields}\r\n{body}")
        },
    )
}

/// Method and URL of a request as a strict reader finds them, who knows nothing of ours.
fn strictly(request: &str, scheme: &str) -> Option<(String, String)> {
    let (head, _) = request.split_once("\r\n\r\n")?;
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return None;
    }
    let mut lines = head.split("\r\n");
    let [method, target, "HTTP/1.1"] = lines.next()?.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let mut hosts = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return None;
        }
        if name.eq_ignore_ascii_case("host") {
            hosts.push(value);
        }
    }
    let [host] = hosts[..] else { return None };
    Some((method.to_owned(), format!("{scheme}://{host}{target}")))
}

/// What the record says that was allowed, in order.
fn allowed(stage: &Stage) -> Vec<(String, String)> {
    stage.recorder.flush(DEADLINE);
    let text = |record: &serde_json::Value, key: &str| record[key].as_str().unwrap().to_owned();
    let records = stage.records.decisions();
    let opening = records.iter().filter(|record| record.get("duration_ms").is_none());
    let allowed = opening.filter(|record| record["decision"] == "allow");
    allowed.map(|record| (text(record, "http_method"), text(record, "http_url"))).collect()
}

/// Says each request on a connection of its own, to the end; then compares both ends.
async fn compare(scene: &Scene, entry: Entry, requests: &[String]) -> Result<(), TestCaseError> {
    for request in requests {
        let Talk::One(mut client) = scene.open(entry).await else { panic!("HTTP/1") };
        client.say(request.replace("PORT", &scene.port(entry).to_string())).await;
        client.0.shutdown().await.unwrap();
        drop(client.rest().await);
    }
    let heard = scene.heard(entry);
    // A client that has left does not wait: what it asked may arrive behind the next one's.
    let judged = allowed(scene.stage(entry));
    let mut sent = Vec::new();
    for request in &heard {
        let read = strictly(request, entry.scheme());
        prop_assert!(read.is_some(), "the origin got {request:?}");
        sent.extend(read);
    }
    for (method, url) in &sent {
        let place = format!("{}://localhost:{}/a/", entry.scheme(), scene.port(entry));
        prop_assert!(["GET", "POST", "PUT"].contains(&method.as_str()), "{method}");
        prop_assert!(url.starts_with(&place), "{url}");
        let path = url.split('?').next().unwrap();
        prop_assert!(!path.split('/').any(|segment| segment == ".." || segment == "."), "{url}");
    }
    for one in sent {
        prop_assert!(judged.contains(&one), "sent and never judged: {one:?}");
    }
    prop_assert!(scene.evil.requests().is_empty(), "{:?}", scene.evil.requests());
    Ok(())
}

#[test]
fn what_is_judged_is_what_is_sent_however_it_is_said() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let rules = ["method=GET,POST,PUT host=localhost path=/a/*"];
    let scene = runtime.block_on(Scene::new(&rules));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let entries = select(vec![Entry::Plain, Entry::Tunnel, Entry::Secure]);
    let requests = prop::collection::vec(request(), 1..16);
    let cases = (entries, requests);
    // Most of what chance says is no request: it is asked again until enough of them are.
    let mut arrived = 0;
    for _ in 0..8 {
        let compared = |(entry, requests): (Entry, Vec<_>)| {
            runtime.block_on(compare(&scene, entry, &requests))
        };
        runner.run(&cases, compared).unwrap();
        arrived = allowed(&scene.redirect).len();
        if arrived > 20 {
            break;
        }
    }
    assert!(arrived > 20, "some of them are requests: {arrived}");
}
