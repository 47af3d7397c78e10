//! What one version says in the words of the other.

use super::*;

/// What an HTTP/1.1 origin was sent for a request in HTTP/2.
async fn sent_as_http1(request: impl FnOnce(&Many) -> Request<Content>) -> String {
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules = [format!("host=localhost port={port}")];
    let stage = secure.stage(Setting::to_name("localhost", port, &rules));
    let client = Many::secured(&stage, port).await;
    assert_eq!(client.ask(request(&client)).await.status, 200);
    secure.requests().remove(0).replace(&port.to_string(), "PORT")
}

#[tokio::test]
async fn a_request_in_http2_is_a_whole_one_in_http1() {
    let sent = sent_as_http1(|client| {
        let mut request = client.get("/a?b");
        let headers = request.headers_mut();
        headers.append("cookie", "a=1".parse().unwrap());
        headers.append("cookie", "b=2".parse().unwrap());
        headers.insert("te", "trailers".parse().unwrap());
        headers.insert("x-own", "1".parse().unwrap());
        request
    });
    let expected = "GET /a?b HTTP/1.1\r\nhost: localhost:PORT\r\ncookie: a=1; b=2\r\n\
                    x-own: 1\r\nte: trailers\r\nconnection: TE\r\n\r\n";
    assert_eq!(sent.await, expected);
}

/// A body that says nothing of its length.
fn of_unknown_length() -> Content {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    tokio::spawn(async move { sender.send_data(Bytes::from("hello")).await });
    body.boxed()
}

#[tokio::test]
async fn a_body_keeps_its_length_or_is_chunked() {
    let sent = sent_as_http1(|client| {
        Request::post(format!("{}/", client.base)).body(content("hello")).unwrap()
    });
    let sent = sent.await;
    assert!(sent.contains("content-length: 5\r\n") && sent.ends_with("\r\n\r\nhello"), "{sent}");
    for method in ["POST", "GET", "DELETE", "SEARCH"] {
        let sent = sent_as_http1(|client| {
            let request = Request::builder().method(method).uri(format!("{}/", client.base));
            request.body(of_unknown_length()).unwrap()
        });
        let sent = sent.await;
        assert!(sent.contains("transfer-encoding: chunked\r\n"), "{sent}");
        assert!(sent.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{sent}");
    }
}

#[tokio::test]
async fn what_is_said_behind_a_body_asks_for_no_other_method() {
    let sent = sent_as_http1(|client| {
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(2);
        tokio::spawn(async move {
            sender.send_data(Bytes::from("hello")).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-http-method-override", "DELETE".parse().unwrap());
            trailers.insert("x-sum", "6".parse().unwrap());
            sender.send_trailers(trailers).await
        });
        let request = Request::post(format!("{}/", client.base));
        request.header("trailer", "x-sum, x-http-method-override").body(body.boxed()).unwrap()
    });
    let sent = sent.await;
    assert!(sent.ends_with("\r\n0\r\nx-sum: 6\r\n\r\n"), "{sent}");
}

#[tokio::test]
async fn a_cookie_in_many_pieces_is_one_field() {
    let sent = sent_as_http1(|client| {
        let mut request = client.get("/");
        for number in 0..150 {
            request.headers_mut().append("cookie", format!("c{number}=1").parse().unwrap());
        }
        request
    });
    assert!(sent.await.contains("cookie: c0=1; c1=1; c2=1; "));
}

#[tokio::test]
async fn an_answer_in_http1_is_a_whole_one_in_http2() {
    let origin = Origin1::new(|request| {
        let answer = match request.split(' ').nth(1) {
            Some("/chunks") => {
                "200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
                 Keep-Alive: 5\r\nX-Kept: 1\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
            }
            Some("/head") => "200 OK\r\nContent-Length: 1234\r\n\r\n",
            Some("/204") => "204 No Content\r\n\r\n",
            Some("/304") => "304 Not Modified\r\nContent-Length: 99\r\nETag: \"e\"\r\n\r\n",
            Some("/early") => {
                "103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            }
            _ => "404 Not Found\r\nContent-Length: 0\r\n\r\n",
        };
        format!("HTTP/1.1 {answer}")
    })
    .await;
    let stage = origin.stage();
    let client = Many::secured(&stage, origin.secure.port()).await;
    let got = client.ask(client.get("/chunks")).await;
    assert_eq!((got.text(), got.field("x-kept")), ("abc", Some("1")));
    assert_eq!(got.trailers.get("x-sum").unwrap(), "6");
    for gone in ["connection", "transfer-encoding", "keep-alive", "x-hop"] {
        assert_eq!(got.field(gone), None, "{gone}");
    }
    let head = Request::head(format!("{}/head", client.base)).body(content("")).unwrap();
    let got = client.ask(head).await;
    assert_eq!((got.field("content-length"), got.text()), (Some("1234"), ""));
    // Who says it in other letters does not know that there is no content.
    let head = Request::builder().method("head").uri(format!("{}/head", client.base));
    let got = client.ask(head.body(content("")).unwrap()).await;
    assert_eq!((got.status, got.field("content-length"), got.text()), (200, None, ""));
    assert_eq!(client.ask(client.get("/204")).await.status, 204);
    let got = client.ask(client.get("/304")).await;
    assert_eq!((got.status, got.field("etag"), got.text()), (304, Some("\"e\""), ""));
    assert_eq!(client.ask(client.get("/early")).await.text(), "ok");
    assert_eq!(client.ask(client.get("/none")).await.status, 404);
    // All of it on connections that were used again.
    assert_eq!(origin.requests().len(), 7);
}
