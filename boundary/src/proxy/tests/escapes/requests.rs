//! Section D: what is asked. A request has one meaning or is none, and the one is what is sent.

use super::*;

/// The request line that a path becomes, or the status that refuses it.
type Fate<'a> = Result<&'a str, u16>;

#[tokio::test]
async fn d01_a_path_is_sent_as_it_was_judged_or_not_at_all() {
    let rows: [(&str, Fate<'_>); 36] = [
        ("/pub/a", Ok("/pub/a")),
        ("/secret/../pub/a", Ok("/pub/a")),
        ("/./pub/./a", Ok("/pub/a")),
        ("/pub//a", Ok("/pub//a")),
        ("/pub/a;x=1", Ok("/pub/a;x=1")),
        ("/pub/a%2Fb", Ok("/pub/a%2Fb")),
        ("/pub/a%2fb", Ok("/pub/a%2Fb")),
        ("/pub/%41%7e", Ok("/pub/A~")),
        ("/pub/a?x=/../../secret&y=%2e%2e", Ok("/pub/a?x=/../../secret&y=%2e%2e")),
        ("/pub/a%20b", Ok("/pub/a%20b")),
        ("/pub/%2e", Ok("/pub/")),
        ("/pub/...", Ok("/pub/...")),
        ("/pub/../secret", Err(403)),
        ("/pub/%2e%2e/secret", Err(403)),
        ("/pub/.%2E/secret", Err(403)),
        ("/pub/a/../../secret", Err(403)),
        ("//pub/a", Err(403)),
        ("/pub/..", Err(403)),
        ("/pub", Err(403)),
        ("/PUB/a", Err(403)),
        ("/pub%2fa", Err(403)),
        ("/pub/..;/secret", Err(400)),
        ("/pub/..;x=1/secret", Err(400)),
        ("/pub/..%3b/secret", Err(400)),
        ("/pub/..%2fsecret", Err(400)),
        ("/pub/..%5csecret", Err(400)),
        ("/pub/a%2f..%2f..%2fsecret", Err(400)),
        ("/pub/%252e%252e/secret", Err(400)),
        ("/pub/..%252fsecret", Err(400)),
        ("/pub/..%c0%afsecret", Err(400)),
        ("/pub/%c0%ae%c0%ae/secret", Err(400)),
        ("/pub/a%00/../../secret%00", Err(400)),
        ("/pub/%20../secret/..%20/x", Err(400)),
        ("/pub/a%", Err(400)),
        ("/pub/a%zz", Err(400)),
        ("/pub/\\..\\secret", Err(400)),
    ];
    let scene = Scene::new(&["host=localhost path=/pub/*"]).await;
    for entry in Entry::ALL {
        for (path, fate) in rows {
            let seen = scene.ask(entry, &Ask::path(path)).await;
            let heard = scene.heard(entry);
            match fate {
                Ok(sent) => {
                    assert_eq!(seen.status, 200, "{entry:?} {path}");
                    let line = format!("GET {sent} HTTP/1.1\r\n");
                    assert!(heard[0].starts_with(&line), "{entry:?} {path} sent {heard:?}");
                }
                Err(status) => {
                    let ended = entry.is_h2() && status == 400 && seen.status == 0;
                    assert!(seen.status == status || ended, "{entry:?} {path} {seen:?}");
                    assert!(heard.is_empty(), "{entry:?} {path} sent {heard:?}");
                }
            }
        }
    }
}

/// Heads that two readers would read differently. `T` stands for what absolute-form puts before a
/// path.
const SMUGGLED: [&str; 50] = [
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 5, 5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: +5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: -5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 0x5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 5 5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 5.0\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length:\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length : 5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nContent-Length\0: 5\r\n\r\nhello",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nX: a\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.1\r\nHost: H\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST T/yes HTTP/1.0\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET T/yes HTTP/1.1\nHost: H\n\n",
    "GET T/yes HTTP/1.1\r\nHost: H\n\r\n",
    "GET T/yes HTTP/1.1\r\nHost: H\r\nX: a\r\n b\r\n\r\n",
    "GET T/yes HTTP/1.1\r\n Host: H\r\n\r\n",
    "GET T/yes HTTP/1.1\r\nHost: H\r\nX: a\0b\r\n\r\n",
    "GET T/yes HTTP/1.1\r\nHost: H\r\nX: \u{1b}[2J\r\n\r\n",
    "GET T/yes HTTP/1.1\r\nHost: H\r\nX\u{e9}: a\r\n\r\n",
    "GET T/yes HTTP/1.1\r\nHost: H\r\nno colon\r\n\r\n",
    "GET T/yes HTTP/1.1\r\nHost: H\r\n: no name\r\n\r\n",
    "GET T/yes\r\n\r\n",
    "GET T/yes HTTP/0.9\r\nHost: H\r\n\r\n",
    "GET T/yes HTTP/1.2\r\nHost: H\r\n\r\n",
    "GET T/yes HTTP/2.0\r\nHost: H\r\n\r\n",
    "GET T/yes HTTP/11\r\nHost: H\r\n\r\n",
    "GET T/yes http/1.1\r\nHost: H\r\n\r\n",
    "GET T/yes HTTP/1.1 \r\nHost: H\r\n\r\n",
    "GET T/yes  HTTP/1.1\r\nHost: H\r\n\r\n",
    "GET T/yes\tHTTP/1.1\r\nHost: H\r\n\r\n",
    "GET T/yes /no HTTP/1.1\r\nHost: H\r\n\r\n",
    "GET T/y\u{e9}s HTTP/1.1\r\nHost: H\r\n\r\n",
    "GET\0 T/yes HTTP/1.1\r\nHost: H\r\n\r\n",
    "GET T/yes#no HTTP/1.1\r\nHost: H\r\nContent-Length: x\r\n\r\n",
];

#[tokio::test]
async fn d02_what_could_be_read_in_two_ways_is_refused_at_every_entry() {
    let scene = Scene::new(&["host=localhost"]).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n";
    for entry in Entry::H1 {
        let before = if entry == Entry::Absolute { "http://localhost:PORT" } else { "" };
        let upgrade = if entry == Entry::Socket {
            "Connection: Upgrade\r\nUpgrade: websocket\r\nHost: H\r\n"
        } else {
            "Host: H\r\n"
        };
        for row in SMUGGLED {
            let text =
                row.replace("Host: H\r\n", upgrade).replace("Host: H", "Host: localhost:PORT");
            let text = text.replace(" T/", &format!(" {before}/")) + hidden;
            let seen = scene.say(entry, &text).await;
            assert!(matches!(seen.status, 0 | 400), "{entry:?} {row:?} {seen:?}");
            let heard = scene.heard(entry);
            assert!(heard.is_empty(), "{entry:?} {row:?} sent {heard:?}");
        }
    }
    let (rows, entries) = (SMUGGLED.len(), 2);
    let decisions = scene.redirect.decisions().await;
    assert_eq!(decisions.len(), rows * entries, "each is on record once");
    assert!(decisions.iter().all(|it| it.starts_with("deny ")), "{decisions:?}");
}

#[tokio::test]
async fn d02_a_bad_chunk_ends_the_connection_and_no_whole_request_arrives() {
    let chunks = [
        "x\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3;\u{1}\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n0\r\n\r\n",
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
    ];
    let scene = Scene::new(&["host=localhost"]).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n";
    for entry in Entry::H1 {
        for chunk in chunks {
            let ask =
                Ask { method: "POST", fields: "Transfer-Encoding: chunked", ..Ask::default() };
            let seen = scene.say(entry, &format!("{}{chunk}{hidden}", ask.text(entry))).await;
            assert!(matches!(seen.status, 0 | 400), "{entry:?} {chunk:?} {seen:?}");
            let heard = scene.heard(entry);
            assert!(heard.is_empty(), "{entry:?} {chunk:?} sent {heard:?}");
        }
    }
}

#[tokio::test]
async fn d03_a_pipelined_request_is_judged_like_the_first() {
    let scene = Scene::new(&["host=localhost path=/yes"]).await;
    for entry in Entry::H1 {
        let Talk::One(mut client) = scene.open(entry).await else { panic!("HTTP/1") };
        let rows = [Ask::default(), Ask::path("/no"), Ask::default(), Ask::of("127.0.0.2:PORT")];
        let text: String = rows.iter().map(|ask| ask.text(entry)).collect();
        client.say(text.replace("PORT", &scene.port(entry).to_string())).await;
        let mut seen = vec![];
        for _ in rows {
            seen.push(client.seen().await.status);
        }
        assert_eq!(seen, [200, 403, 200, 403], "{entry:?}");
        let heard = scene.heard(entry);
        assert_eq!(heard.len(), 2, "{entry:?}");
        assert!(heard.iter().all(|it| it.starts_with("GET /yes ")), "{heard:?}");
    }
    scene.nobody_else_heard();
}

#[tokio::test]
async fn d04_no_wish_to_switch_leads_to_requests_that_nobody_judges() {
    let scene = Scene::new(&["host=localhost path=/yes"]).await;
    let wishes = [
        "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\nUpgrade: H2C",
        "Connection: Upgrade\nUpgrade: h2",
        "Connection: Upgrade\nUpgrade: websocket, h2c",
        "Connection: Upgrade\nUpgrade: h2c, websocket",
        "Connection: Upgrade\nUpgrade: websocket\nUpgrade: h2c",
        "Connection: Upgrade\nUpgrade: HTTP/2.0",
        "Connection: Upgrade\nUpgrade: TLS/1.2",
        "Connection: xupgrade\nUpgrade: websocket",
        "Upgrade: websocket",
        "Connection: Upgrade\nUpgrade:",
    ];
    for entry in [Entry::Plain, Entry::Absolute, Entry::Tunnel, Entry::Secure, Entry::SecureTunnel]
    {
        for fields in wishes {
            let seen = scene.ask(entry, &Ask { fields, ..Ask::default() }).await;
            assert_eq!(seen.status, 200, "{entry:?} {fields:?}: answered as if it had no wish");
            let heard = scene.heard(entry).pop().unwrap().to_lowercase();
            for word in ["upgrade", "h2c", "http2-settings", "connection:"] {
                assert!(!heard.contains(word), "{entry:?} {fields:?} sent {heard}");
            }
        }
        let denied = Ask { fields: wishes[0], ..Ask::path("/no") };
        assert_eq!(scene.ask(entry, &denied).await.status, 403, "{entry:?}");
    }
}

#[tokio::test]
async fn d04_a_connection_field_takes_nothing_away_that_the_meaning_hangs_on() {
    let scene = Scene::new(&["host=localhost"]).await;
    for entry in [Entry::Plain, Entry::Absolute, Entry::Tunnel, Entry::Secure, Entry::SecureTunnel]
    {
        let fields = "Connection: Host, Content-Length, X-Hop, close\nX-Hop: gone\nX-Stays: here";
        let ask = Ask { method: "POST", fields, body: "hello", ..Ask::default() };
        assert_eq!(scene.ask(entry, &ask).await.status, 200, "{entry:?}");
        let heard = scene.heard(entry).pop().unwrap();
        assert!(heard.ends_with("\r\n\r\nhello"), "{entry:?} {heard}");
        let lower = heard.to_lowercase();
        assert!(
            lower.contains("\r\nhost: localhost:") && lower.contains("content-length: 5"),
            "{heard}"
        );
        assert!(!lower.contains("x-hop") && lower.contains("x-stays: here"), "{heard}");
    }
}

#[tokio::test]
async fn d04_a_preface_of_http2_is_the_beginning_or_nothing() {
    let scene = Scene::new(&["host=localhost path=/yes"]).await;
    let fields: [frames::Field<'_>; 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"127.0.0.2"),
        (b":path", b"/no"),
    ];
    let rest = frames::frame(frames::HEADERS, 5, 1, &frames::block(&fields));
    let preface = [frames::PREFACE, &frames::frame(frames::SETTINGS, 0, 0, &[]), &rest].concat();
    // Where HTTP/1.1 was agreed on it is no request; behind a request that was fine neither.
    let Talk::One(mut client) = scene.open(Entry::Secure).await else { panic!("HTTP/1") };
    client.say(&preface).await;
    assert_eq!(client.seen().await.status, 400);
    for entry in [Entry::Plain, Entry::Tunnel, Entry::Secure] {
        let Talk::One(mut client) = scene.open(entry).await else { panic!("HTTP/1") };
        let first = Ask::default().text(entry).replace("PORT", &scene.port(entry).to_string());
        client.say([first.as_bytes(), &preface].concat()).await;
        assert_eq!(client.seen().await.status, 200, "{entry:?}");
        assert!(matches!(client.seen().await.status, 0 | 400), "{entry:?}");
        assert_eq!(scene.heard(entry).len(), 1, "{entry:?}");
    }
    // To a proxy, what begins so names its hosts like everybody.
    let stream: Box<dyn Both> = Box::new(scene.explicit.connect().await.0);
    let mut frames = Frames::begin(stream).await;
    let status = frames.ask(&fields, b"").await.status;
    assert!((400..500).contains(&status), "{status}");
    scene.nobody_else_heard();
}

#[tokio::test]
async fn d04_an_upstream_that_switches_unasked_is_a_502() {
    let answers = [
        (
            "",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ),
        ("", "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (
            "websocket",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        ),
        ("websocket", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"),
    ];
    for (wish, answer) in answers {
        let origin = Scripted::new(move |_| format!("{answer}hidden")).await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let wish = match wish {
            "" => String::new(),
            wish => format!("Connection: Upgrade\r\nUpgrade: {wish}\r\n"),
        };
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n{wish}\r\n", origin.authority());
        let mut client = stage.connect().await;
        let got = client.ask(request).await;
        assert_eq!(got.status, 502, "{answer:?}");
        assert!(!got.text().contains("hidden"), "{}", got.text());
    }
}

#[tokio::test]
async fn d05_every_entry_gives_the_same_verdict() {
    let scene = Scene::new(&["method=GET host=localhost path=/yes,/a/*"]).await;
    let rows = [
        (Ask::default(), 200),
        (Ask::path("/no"), 403),
        (Ask::path("/a/b?c=d"), 200),
        (Ask::path("/a/"), 200),
        (Ask::path("/"), 403),
        (Ask::path("/no/../yes"), 200),
        (Ask::path("/yes/../no"), 403),
        (Ask::path("/a/..%2fb"), 400),
        (Ask::method("POST"), 403),
        (Ask { method: "POST", body: "x", ..Ask::default() }, 403),
        (Ask::method("HEAD"), 403),
        (Ask::method("*"), 400),
    ];
    for (ask, status) in rows {
        for entry in Entry::ALL {
            let seen = scene.ask(entry, &ask).await;
            assert_eq!(seen.status, status, "{entry:?} {ask:?} {seen:?}");
            assert_eq!(scene.heard(entry).len(), usize::from(status == 200), "{entry:?} {ask:?}");
        }
        if status != 200 {
            let seen = scene.ask(Entry::H2Plain, &ask).await;
            assert_eq!(seen.status, status, "{ask:?} {seen:?}");
            assert!(scene.heard(Entry::H2Plain).is_empty(), "{ask:?}");
        }
    }
}

#[tokio::test]
async fn d05_connect_in_other_letters_is_no_request() {
    let scene = Scene::new(&["host=localhost path=/yes"]).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for entry in Entry::ALL.into_iter().chain([Entry::H2Plain]) {
        for method in ["connect", "Connect", "cONNECT"] {
            let seen = scene.ask(entry, &Ask::method(method)).await;
            assert!(seen.is(400, "bad_method"), "{entry:?} {method} {seen:?}");
            let seen = scene.ask(entry, &Ask { method, body: hidden, ..Ask::default() }).await;
            assert_eq!(seen.status, 400, "{entry:?} {method} {seen:?}");
            assert!(scene.heard(entry).is_empty(), "{entry:?} {method}");
        }
    }
}

#[tokio::test]
async fn d06_a_method_is_that_method_and_no_other() {
    let scene = Scene::new(&["method=GET host=localhost path=/yes"]).await;
    for entry in Entry::ALL {
        for method in
            ["HEAD", "POST", "OPTIONS", "TRACE", "GETX", "G", "PROPFIND", "M-SEARCH", "head"]
        {
            let seen = scene.ask(entry, &Ask::method(method)).await;
            assert_eq!(seen.status, 403, "{entry:?} {method} {seen:?}");
        }
        // Whatever the case, it is judged and sent as one.
        for method in ["get", "Get"] {
            assert_eq!(
                scene.ask(entry, &Ask::method(method)).await.status,
                200,
                "{entry:?} {method}"
            );
            assert!(scene.heard(entry)[0].starts_with("GET /yes "), "{entry:?} {method}");
        }
        let request = "CONNECT localhost:PORT HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n";
        if !entry.is_h2() && entry != Entry::Absolute {
            let seen = scene.say(entry, request).await;
            assert!(seen.is(403, "host_mismatch"), "{entry:?} CONNECT inside: {seen:?}");
        }
        assert!(scene.heard(entry).is_empty(), "{entry:?}");
    }
}

#[tokio::test]
async fn d06_a_request_that_passes_for_another_method_needs_both() {
    let scene = Scene::new(&["method=GET,POST,PUT host=localhost path=/yes"]).await;
    for entry in Entry::ALL {
        // To servers of many kinds `_` is `-` there.
        let names = ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"];
        for name in names.into_iter().chain(["X_HTTP_METHOD_OVERRIDE", "x-http_method"]) {
            let rows =
                [("DELETE", 403), ("delete", 403), ("PUT, DELETE", 400), ("*", 400), ("PUT", 200)];
            for (value, status) in rows {
                let fields = format!("{name}: {value}");
                let seen = scene
                    .ask(entry, &Ask { method: "POST", fields: &fields, ..Ask::default() })
                    .await;
                assert_eq!(seen.status, status, "{entry:?} {fields} {seen:?}");
                assert_eq!(
                    scene.heard(entry).len(),
                    usize::from(status == 200),
                    "{entry:?} {fields}"
                );
            }
        }
        let fields = "X-HTTP-Method-Override: PUT\nX-HTTP-Method-Override: DELETE";
        let seen = scene.ask(entry, &Ask { method: "POST", fields, ..Ask::default() }).await;
        assert_eq!(seen.status, 403, "{entry:?} two of them");
    }
}

#[tokio::test]
async fn d06_a_request_that_passes_for_another_path_needs_both() {
    let scene = Scene::new(&["method=GET host=localhost path=/yes,/yes/*"]).await;
    for entry in Entry::ALL {
        for name in ["X-Original-URL", "X-Rewrite-URL", "x_original_url"] {
            let rows = [
                ("/no", 403),
                ("https://localhost/no", 403),
                ("https://localhost", 403),
                ("no", 400),
                ("/yes/..%2fno", 400),
                ("/no?x=://y/yes", 403),
                ("/no/://y/yes", 403),
                ("no://y", 403),
                ("?x=http://y/yes", 403),
                ("1http://y/yes", 400),
                ("://y/yes", 400),
                ("http://y?/yes", 403),
                ("http://y#/yes", 403),
                ("http://y\\/yes", 400),
                ("/yes/a?b", 200),
                ("/yes/a?x=://y/no", 200),
                ("http://elsewhere.test/yes", 200),
            ];
            for (value, status) in rows {
                let fields = format!("{name}: {value}");
                let seen = scene.ask(entry, &Ask { fields: &fields, ..Ask::default() }).await;
                assert_eq!(seen.status, status, "{entry:?} {fields} {seen:?}");
                let heard = scene.heard(entry).len();
                assert_eq!(heard, usize::from(status == 200), "{entry:?} {fields}");
            }
        }
    }
}

#[tokio::test]
async fn d06_a_request_that_passes_for_another_method_and_path_needs_both_together() {
    let rules = ["method=GET,PUT host=localhost path=/yes", "method=GET host=localhost path=/no"];
    let scene = Scene::new(&rules).await;
    let (put, no) = ("X-HTTP-Method-Override: PUT", "X-Original-URL: /no");
    let rows = [
        (put.to_owned(), 200),
        (no.to_owned(), 200),
        (format!("{put}\n{no}"), 403),
        (format!("{no}\n{put}"), 403),
        (format!("{put}\nX-Rewrite-URL: /yes\n{no}"), 403),
        (format!("X-HTTP-Method-Override: GET\n{no}"), 200),
        ([put; 8].join("\n"), 200),
        ([put; 9].join("\n"), 400),
    ];
    for entry in Entry::ALL {
        for (fields, status) in &rows {
            let seen = scene.ask(entry, &Ask { fields, ..Ask::default() }).await;
            assert_eq!(seen.status, *status, "{entry:?} {fields} {seen:?}");
            let heard = scene.heard(entry).len();
            assert_eq!(heard, usize::from(*status == 200), "{entry:?} {fields}");
        }
    }
}

#[tokio::test]
async fn d07_a_body_arrives_byte_for_byte_in_its_own_framing() {
    let scene = Scene::new(&["host=localhost"]).await;
    for entry in Entry::ALL {
        let body = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n0\r\n\r\n";
        let ask = Ask { method: "POST", body, ..Ask::default() };
        assert_eq!(scene.ask(entry, &ask).await.status, 200, "{entry:?}");
        let arrived = scene.heard(entry);
        assert_eq!(arrived.len(), 1, "{entry:?} {arrived:?}");
        let (head, sent) = arrived[0].split_once("\r\n\r\n").unwrap();
        assert_eq!(sent, body, "{entry:?}");
        let lengths = head.to_lowercase().matches("content-length: 38").count();
        assert_eq!((body.len(), lengths), (38, 1), "{entry:?} {head}");
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{entry:?} {head}");
    }
    for entry in Entry::H1 {
        let ask = Ask { method: "PUT", fields: "Transfer-Encoding: chunked", ..Ask::default() };
        let text = format!("{}3\r\nabc\r\n2\r\n\r\n\r\n0\r\n\r\n", ask.text(entry));
        assert_eq!(scene.say(entry, &text).await.status, 200, "{entry:?}");
        let arrived = scene.heard(entry).pop().unwrap();
        let (head, sent) = arrived.split_once("\r\n\r\n").unwrap();
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{entry:?} {head}");
        // Chunks are ours to cut; what is in them is not.
        let content = sent.replace("3\r\nabc\r\n2\r\n\r\n\r\n", "").replace("5\r\nabc\r\n\r\n", "");
        assert_eq!(content, "0\r\n\r\n", "{entry:?} {sent:?}");
    }
}

#[tokio::test]
async fn d08_what_is_no_http_inside_is_no_tunnel() {
    let scene = Scene::new(&["host=localhost"]).await;
    let rows =
        ["\0\u{1}\u{2}\u{3}", "SSH-2.0-OpenSSH_9.9\r\n", "EHLO x\r\n", "*1\r\n$4\r\nPING\r\n"];
    for entry in Entry::H1 {
        if entry == Entry::Socket {
            continue;
        }
        for row in rows {
            let Talk::One(mut client) = scene.open(entry).await else { panic!("HTTP/1") };
            client.say(row).await;
            client.0.shutdown().await.unwrap();
            let answer = String::from_utf8_lossy(&client.rest().await).into_owned();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{entry:?} {answer}");
        }
        assert!(scene.heard(entry).is_empty(), "{entry:?}");
    }
    // A protocol that we do not speak is not agreed on.
    let stream = scene.redirect_tls.connect().await.0;
    assert!(offered(&scene.redirect_tls, stream, "localhost", &[b"spdy/3"]).await.is_err());
    for stage in [scene.redirect, scene.redirect_tls, scene.explicit] {
        let decisions = stage.decisions().await;
        assert!(decisions.len() >= rows.len(), "{decisions:?}");
        assert!(decisions.iter().all(|it| it.starts_with("deny ")), "{decisions:?}");
    }
    assert_eq!(scene.plain.connections() + scene.secure.origin.connections(), 0);
}
