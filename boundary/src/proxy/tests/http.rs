//! Requests: who gets an answer, in which words, by which door.

use super::*;

fn get(authority: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

#[tokio::test]
async fn each_request_of_a_connection_is_judged_anew() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("path=/yes"));
    let mut client = stage.connect().await;
    let host = origin.authority();
    assert_eq!(client.ask(get(&host, "/yes")).await.status, 200);
    assert_eq!(client.ask(get(&host, "/no")).await.status, 403);
    assert_eq!(client.ask(get(&host, "/yes")).await.status, 200);
    assert_eq!(client.ask(get("other.example", "/yes")).await.status, 403);
    assert_eq!(origin.requests().len(), 2);
    let url = format!("http://{host}");
    assert_eq!(
        stage.decisions().await,
        [
            format!("allow - {url}/yes"),
            format!("deny no_rule {url}/no"),
            format!("allow - {url}/yes"),
            "deny host_mismatch http://other.example/yes".into(),
        ]
    );
}

#[tokio::test]
async fn a_pipelined_request_is_judged_like_any() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("path=/yes"));
    let mut client = stage.connect().await;
    let host = origin.authority();
    client.say(get(&host, "/yes") + &get(&host, "/no") + &get(&host, "/yes")).await;
    let mut seen = vec![];
    for _ in 0..3 {
        seen.push(client.answer(false).await.status);
    }
    assert_eq!(seen, [200, 403, 200]);
    assert!(origin.requests().iter().all(|request| request.starts_with("GET /yes ")));
}

#[tokio::test]
async fn every_door_gives_the_same_verdict() {
    let rows = [
        ("GET", "/yes", 200),
        ("GET", "/no", 403),
        ("POST", "/yes", 403),
        ("GET", "/yes/../no", 403),
        ("GET", "/no/../yes", 200),
        ("GET", "/yes%252fno", 400),
        ("HEAD", "/yes", 403),
    ];
    let origin = Scripted::fine().await;
    let host = origin.authority();
    let rules = origin.rule("method=GET path=/yes");
    let redirect = Stage::redirected(origin.address, &rules);
    let explicit = Setting::explicit(&rules).start();
    for (method, path, status) in rows {
        let ending = format!("HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        let request = format!("{method} {path} {ending}");
        let absolute = format!("{method} http://{host}{path} {ending}");
        let at_redirect = redirect.connect().await.ask(&request).await.status;
        let at_absolute = explicit.connect().await.ask(&absolute).await.status;
        let mut tunnel = explicit.connect().await;
        assert_eq!(tunnel.open(&host).await, 200);
        let in_tunnel = tunnel.ask(&request).await.status;
        let seen = [at_redirect, at_absolute, in_tunnel];
        assert_eq!(seen, [status; 3], "{method} {path}");
    }
}

#[tokio::test]
async fn what_was_matched_is_what_is_sent() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("path=/a/*"));
    let host = origin.authority();
    let request = format!(
        "get /x/../a/%7eb?q=%2e%2e/#no HTTP/1.1\r\nhOsT: {host}\r\nX-A: 1\r\naCCept: */*\r\n\
         Proxy-Authorization: secret\r\nX-A: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nx-Last: z\r\n\r\n"
    );
    assert_eq!(stage.connect().await.ask(request).await.status, 200);
    let sent = format!(
        "GET /a/~b?q=%2e%2e/ HTTP/1.1\r\nhOsT: {host}\r\nX-A: 1\r\nX-A: 2\r\naCCept: */*\r\nx-Last: z\r\n\r\n"
    );
    assert_eq!(origin.requests(), [sent]);
}

#[tokio::test]
async fn an_answer_comes_back_as_it_was_said() {
    let answer = "HTTP/1.1 201 Well Made\r\nx-CASE: a\r\nContent-Length: 3\r\nX-case: b\r\n\
                  Connection: X-Hop\r\nX-Hop: 1\r\nProxy-Authenticate: x\r\n\r\nabc";
    let origin = Scripted::new(move |_| answer.into()).await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let got = stage.connect().await.ask(get(&origin.authority(), "/")).await;
    assert_eq!(
        got.head,
        "HTTP/1.1 201 Well Made\r\nx-CASE: a\r\nX-case: b\r\nContent-Length: 3\r\n\r\n"
    );
    assert_eq!(got.text(), "abc");
}

#[tokio::test]
async fn a_denial_says_what_and_why_and_what_would_help() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &[]);
    let mut client = stage.connect().await;
    let host = origin.authority();
    let got = client.ask(get(&host, "/a?b=c")).await;
    assert_eq!(got.status, 403);
    assert_eq!(got.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(got.field("x-boundary-denied"), Some("no_rule"));
    for part in ["Request Blocked by Boundary", "GET", &format!("http://{host}/a?b=c"), "no_rule"] {
        assert!(got.text().contains(part), "{part} in {}", got.text());
    }
    let port = origin.address.port();
    let allow = format!("--allow 'method=GET host=127.0.0.1 port={port} path=/a'");
    assert!(got.text().contains(&allow), "{}", got.text());
    assert!(origin.requests().is_empty());
    // The line keeps its promise.
    let rule = format!("method=GET host=127.0.0.1 port={port} path=/a");
    let stage = Stage::redirected(origin.address, &[rule]);
    assert_eq!(stage.connect().await.ask(get(&host, "/a?b=c")).await.status, 200);
}

#[tokio::test]
async fn a_client_of_json_alone_is_told_in_json() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &[]);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
        origin.authority()
    );
    let got = stage.connect().await.ask(request).await;
    assert_eq!(got.field("content-type"), Some("application/json"));
    let told: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(told["code"], "no_rule");
    assert_eq!(told["error"], "Request Blocked by Boundary");
    assert_eq!(told["method"], "GET");
}

#[tokio::test]
async fn a_denied_head_has_no_body_and_the_connection_goes_on() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("method=GET"));
    let mut client = stage.connect().await;
    let host = origin.authority();
    let denied = client.ask(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(denied.status, 403);
    assert_eq!(client.ask(get(&host, "/")).await.status, 200);
}

#[tokio::test]
async fn a_denied_post_leaves_the_connection_usable() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("method=GET"));
    let mut client = stage.connect().await;
    let host = origin.authority();
    let post = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 22\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"
    );
    assert_eq!(client.ask(post).await.status, 403);
    assert_eq!(client.ask(get(&host, "/")).await.status, 200);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_large_denied_post_is_answered_and_the_connection_ends() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &[]);
    let mut client = stage.connect().await;
    let host = origin.authority();
    client.say(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 400000\r\n\r\n")).await;
    client.say(vec![b'x'; 400_000]).await;
    let got = client.answer(false).await;
    assert_eq!(got.status, 403);
    assert_eq!(got.field("connection"), Some("close"));
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn an_expectation_is_met_when_the_body_is_wanted() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("path=/yes"));
    let head = |path: &str| {
        let host = origin.authority();
        format!(
            "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut client = stage.connect().await;
    client.say(head("/yes")).await;
    assert_eq!(client.head().await.0, 100);
    assert_eq!(client.ask("hi").await.status, 200);
    assert!(origin.requests()[0].ends_with("\r\n\r\nhi"));
    // Who is refused is not asked for the body first.
    let mut client = stage.connect().await;
    assert_eq!(client.ask(head("/no")).await.status, 403);
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let mut client = stage.connect().await;
    let host = origin.authority();
    let rows = [
        ("GET", "Content-Length: 3\r\n\r\nabc", "Content-Length: 3\r\n\r\nabc"),
        (
            "GET",
            "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "POST",
            "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n",
            "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 9\r\n\r\n",
        ),
        ("POST", "Content-Length: 0\r\n\r\n", "Content-Length: 0\r\n\r\n"),
        ("DELETE", "X: y\r\n\r\n", "X: y\r\n\r\n"),
    ];
    for (method, body, sent) in rows {
        let request = format!("{method} / HTTP/1.1\r\nHost: {host}\r\n{body}");
        assert_eq!(client.ask(request).await.status, 200, "{method} {body}");
        let expected = format!("{method} / HTTP/1.1\r\nHost: {host}\r\n{sent}");
        let last = origin.requests().pop().unwrap();
        assert_eq!(last.to_lowercase(), expected.to_lowercase());
    }
    assert_eq!(origin.connections(), 1, "the upstream connection is kept");
}

#[tokio::test]
async fn an_upload_in_chunks_is_whole_after_an_answer_of_an_old_server() {
    let answer = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let origin = Scripted::new(move |_| answer.into()).await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let upload = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    );
    for odd in ["TE: trailers\r\n", ""] {
        let mut client = stage.connect().await;
        let first = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{odd}\r\n");
        assert_eq!(client.ask(first).await.text(), "ok");
        assert_eq!(client.ask(&upload).await.text(), "ok");
        let sent = origin.requests().pop().unwrap();
        assert!(
            sent.starts_with("POST / HTTP/1.1\r\n") && sent.contains("hello"),
            "{odd:?} {sent}"
        );
    }
}

#[tokio::test]
async fn answers_without_bodies_have_none() {
    let origin = Scripted::new(|request| {
        let path = request.split(' ').nth(1).unwrap();
        match path {
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n",
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            "/304-length" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        }
        .into()
    })
    .await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let mut client = stage.connect().await;
    let host = origin.authority();
    let head = client.ask(format!("HEAD /head HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(head.field("content-length"), Some("70000"));
    for (path, status) in [("/204", 204), ("/304", 304), ("/304-length", 304), ("/", 200)] {
        let got = client.ask(get(&host, path)).await;
        assert_eq!((got.status, got.body.len()), (status, 0), "{path}");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn trailers_of_an_answer_pass_to_a_client_that_takes_them() {
    let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
    let origin = Scripted::new(move |_| answer.into()).await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let mut client = stage.connect().await;
    client
        .say(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close, TE\r\nTE: trailers\r\n\r\n"
        ))
        .await;
    let all = String::from_utf8(client.rest().await).unwrap();
    assert!(all.ends_with("\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{all}");
    assert!(origin.requests()[0].contains("TE: trailers"));
}

#[tokio::test]
async fn an_old_client_is_served_without_a_host_field() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let mut client = stage.connect().await;
    client.say("GET / HTTP/1.0\r\n\r\n").await;
    let all = String::from_utf8(client.rest().await).unwrap();
    assert!(all.contains(" 200 OK\r\n") && all.ends_with("\r\n\r\nok"), "{all}");
    assert!(origin.requests()[0].contains(&format!("host: {}\r\n", origin.authority())));
}

#[tokio::test]
async fn the_record_says_what_was_carried() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let post = format!("POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(stage.connect().await.ask(post).await.status, 200);
    let records = stage.records().await;
    let [opening, closing] = &records[..] else { panic!("{records:?}") };
    assert_eq!(opening["decision"], "allow");
    assert_eq!(opening["http_method"], "POST");
    assert_eq!(opening["door"], "redirect");
    assert_eq!(opening["pid"], 7);
    assert_eq!(opening["comm"], "curl");
    assert_eq!(closing["sequence"], opening["sequence"]);
    assert_eq!(closing["http_status"], 200);
    assert_eq!((&closing["bytes_up"], &closing["bytes_down"]), (&5.into(), &2.into()));
}

#[tokio::test]
async fn a_client_that_leaves_closes_its_record_and_the_upstream() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rule = format!("host=127.0.0.1 port={}", address.port());
    let setting = Setting::redirected(address, &[rule]);
    let limits = Limits { half_closed: Duration::from_millis(50), ..setting.limits.clone() };
    let stage = Setting { limits, ..setting }.start();
    let mut client = stage.connect().await;
    client.say(get(&address.to_string(), "/")).await;
    let (upstream, _) = soon(listener.accept()).await.unwrap();
    let mut upstream = Client(upstream);
    upstream.head_of_request().await;
    drop(client);
    assert!(upstream.rest().await.is_empty(), "the upstream connection ends");
    let records = stage.records().await;
    assert_eq!(records.len(), 2, "{records:?}");
}

#[tokio::test]
async fn a_client_that_shuts_its_side_still_gets_its_answers() {
    let (let_go, gate) = oneshot::channel::<()>();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rule = format!("host=127.0.0.1 port={}", address.port());
    let stage = Stage::redirected(address, &[rule]);
    let mut client = stage.connect().await;
    let host = address.to_string();
    client.say(get(&host, "/1") + &get(&host, "/2")).await;
    client.0.shutdown().await.unwrap();
    tokio::spawn(async move {
        let mut upstream = Client(listener.accept().await.unwrap().0);
        upstream.head_of_request().await;
        gate.await.unwrap();
        for answer in ["one", "two"] {
            upstream.say(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{answer}")).await;
            upstream.head_of_request().await;
        }
    });
    // It has been heard by now that nothing more comes.
    let nothing = timeout(Duration::from_millis(100), client.0.read_u8()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let_go.send(()).unwrap();
    assert_eq!(client.answer(false).await.text(), "one");
    assert_eq!(client.answer(false).await.text(), "two");
    client.ends().await;
}

#[tokio::test]
async fn a_stream_is_passed_on_piece_by_piece() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rule = format!("host=127.0.0.1 port={}", address.port());
    let stage = Stage::redirected(address, &[rule]);
    let mut client = stage.connect().await;
    client
        .say(format!("POST / HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    upstream.head_of_request().await;
    // Each piece arrives before the next is said, in both directions at once.
    upstream.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(client.head().await.0, 200);
    for piece in ["one", "two", "six"] {
        client.say(format!("3\r\n{piece}\r\n")).await;
        assert_eq!(upstream.chunk().await.unwrap(), piece.as_bytes());
        upstream.say(format!("3\r\n{piece}\r\n")).await;
        assert_eq!(client.chunk().await.unwrap(), piece.as_bytes());
    }
    client.say("0\r\n\r\n").await;
    assert_eq!(upstream.chunk().await, None);
    upstream.say("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn upstream_failures_are_named() {
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let rule = format!("host=127.0.0.1 port={}", closed.port());
    let stage = Stage::redirected(closed, &[rule]);
    let got = stage.connect().await.ask(get(&closed.to_string(), "/")).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("unreachable") && got.text().contains("refused"), "{}", got.text());

    let silent = Scripted::new(|_| String::new()).await;
    let stage = Stage::redirected(silent.address, &silent.rule(""));
    let got = stage.connect().await.ask(get(&silent.authority(), "/")).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("broken"), "{}", got.text());

    let garbled = Scripted::new(|_| "SSH-2.0-OpenSSH\r\n\r\n".into()).await;
    let stage = Stage::redirected(garbled.address, &garbled.rule(""));
    let got = stage.connect().await.ask(get(&garbled.authority(), "/")).await;
    assert_eq!(got.status, 502);

    let rules = vec!["host=name.invalid".into()];
    let stage = Setting::to_name("name.invalid", 80, &rules).start();
    let got = stage.connect().await.ask(get("name.invalid", "/")).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("unresolved"), "{}", got.text());
}

#[tokio::test]
async fn a_dead_pooled_connection_is_replaced_unseen() {
    // Each connection serves one request and then closes without saying so.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (close, mut closed) = mpsc::channel::<()>(1);
    tokio::spawn(async move {
        loop {
            let mut upstream = Client(listener.accept().await.unwrap().0);
            upstream.head_of_request().await;
            upstream.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            closed.recv().await;
        }
    });
    let rule = format!("host=127.0.0.1 port={}", address.port());
    let stage = Stage::redirected(address, &[rule]);
    let mut client = stage.connect().await;
    for _ in 0..5 {
        assert_eq!(client.ask(get(&address.to_string(), "/")).await.status, 200);
        close.send(()).await.unwrap();
    }
}
