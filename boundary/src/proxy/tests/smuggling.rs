//! Requests that two readers would read differently (escape D-2): 400, and nothing upstream.

use super::*;

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused() {
    let rows: [&[u8]; 15] = [
        b"POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 5, 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: H\n\n",
        b"GET / HTTP/1.1\r\nHost: H\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H\r\nX: a\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H\rX: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: H\xff\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: H\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H\r\nNo colon\r\n\r\n",
    ];
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    for row in rows {
        let (before, after) = {
            let at = row.windows(2).position(|pair| pair == b"H\r" || pair == b"H\n");
            row.split_at(at.filter(|at| row[at - 1] == b' ').unwrap_or(row.len()))
        };
        let host = origin.authority();
        let request = [
            before,
            if after.is_empty() { b"" } else { host.as_bytes() },
            after.get(1..).unwrap_or(b""),
        ]
        .concat();
        let got = stage.connect().await.ask(&request).await;
        assert_eq!(got.status, 400, "{}", String::from_utf8_lossy(&request));
        assert_eq!(got.field("x-boundary-denied"), Some("bad_request"));
    }
    assert!(origin.requests().is_empty());
    let decisions = stage.decisions().await;
    assert_eq!(decisions.len(), rows.len());
    assert!(decisions.iter().all(|decision| decision.starts_with("deny bad_request")));
}

#[tokio::test]
async fn a_bad_chunk_ends_the_connection_and_no_second_request_gets_out() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule("path=/a"));
    let host = origin.authority();
    let bad = "3\nabc\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client = stage.connect().await;
    client
        .say(format!("POST /a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{bad}"))
        .await;
    client.rest().await;
    assert!(origin.requests().is_empty(), "no whole request arrived");
}

#[tokio::test]
async fn a_good_request_before_a_bad_one_is_answered() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let mut client = stage.connect().await;
    client.say(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\nGET / HTTP/9.9\r\n\r\n")).await;
    assert_eq!(client.answer(false).await.status, 200);
    assert_eq!(client.answer(false).await.status, 400);
    assert!(client.rest().await.is_empty());
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn an_http2_preface_is_not_taken_for_a_request() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let host = origin.authority();
    let rows = [
        // What follows the preface is no frame.
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
        // On a connection of HTTP/1 it is no request.
        "GET / HTTP/1.1\r\nHost: HOST\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for row in rows {
        let mut client = stage.connect().await;
        client.say(row.replace("HOST", &host)).await;
        client.rest().await;
    }
    assert_eq!(origin.requests().len(), 1);
    let decisions = stage.decisions().await;
    let denied = decisions.iter().filter(|decision| decision.starts_with("deny bad_request"));
    assert_eq!(denied.count(), 2, "{decisions:?}");
}
