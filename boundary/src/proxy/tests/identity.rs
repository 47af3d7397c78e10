//! One host or none: everything that names it must agree (escapes C-1 to C-5, D-4, D-6).

use super::*;
use crate::dns::Directory;

/// What a redirected connection to `127.0.0.1:port` answers to a request, all being allowed there.
async fn redirected(request: &str) -> (Got, usize) {
    let origin = Scripted::fine().await;
    let port = origin.address.port();
    let rules = origin.rule("");
    let stage = Stage::redirected(origin.address, &rules);
    let got = stage.connect().await.ask(request.replace("PORT", &port.to_string())).await;
    (got, origin.requests().len())
}

#[tokio::test]
async fn a_redirected_request_names_where_it_goes() {
    let rows = [
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", 200, ""),
        ("GET / HTTP/1.1\r\nHost: 0x7f.1:PORT\r\n\r\n", 200, ""),
        ("GET http://127.0.0.1:PORT/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", 200, ""),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 403, "host_mismatch"),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", 403, "host_mismatch"),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.2:PORT\r\n\r\n", 403, "host_mismatch"),
        (
            "GET http://127.0.0.1:PORT/ HTTP/1.1\r\nHost: evil.example:PORT\r\n\r\n",
            403,
            "host_mismatch",
        ),
        (
            "GET http://evil.example:PORT/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
            403,
            "host_mismatch",
        ),
        ("CONNECT 127.0.0.1:PORT HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", 403, "host_mismatch"),
        (
            "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
            403,
            "host_mismatch",
        ),
    ];
    for (request, status, code) in rows {
        let (got, sent) = redirected(request).await;
        let seen = (got.status, got.field("x-boundary-denied").unwrap_or_default());
        assert_eq!(seen, (status, code), "{request}");
        assert_eq!(sent, usize::from(status == 200), "{request}");
    }
}

#[tokio::test]
async fn what_names_no_host_clearly_is_no_request() {
    let rows = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@127.0.0.1:PORT\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT@evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT,evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:65537\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:+PORT\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: caf\u{e9}_\u{0661}:PORT/\r\n\r\n",
        "GET http://user:pass@127.0.0.1:PORT/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "GET http://127.0.0.1:PORT/ HTTP/1.1\r\n\r\n",
        "GET https://127.0.0.1:PORT/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "GET ftp://127.0.0.1:PORT/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "GET 127.0.0.1:PORT HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
    ];
    for request in rows {
        let (got, sent) = redirected(request).await;
        assert_eq!((got.status, sent), (400, 0), "{request} got {}", got.head);
        assert!(!got.text().contains("pass"), "{}", got.text());
    }
}

#[tokio::test]
async fn a_proxy_takes_only_what_is_said_to_a_proxy() {
    let origin = Scripted::fine().await;
    let host = origin.authority();
    let stage = Setting::explicit(&origin.rule("")).start();
    let rows = [
        (format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), 200),
        (format!("GET http://{host} HTTP/1.1\r\nHost: {host}\r\n\r\n"), 200),
        (format!("GET http://{host}/ HTTP/1.0\r\n\r\n"), 200),
        (format!("GET http://{host}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400),
        ("OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".into(), 400),
        (format!("CONNECT {host} HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403),
        (format!("CONNECT {host} HTTP/1.1\r\n\r\n"), 400),
        ("CONNECT 127.0.0.1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".into(), 400),
        (format!("CONNECT user@{host} HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n".into(), 403),
    ];
    for (request, status) in rows {
        let got = stage.connect().await.ask(&request).await;
        assert_eq!(got.status, status, "{request}");
    }
}

#[tokio::test]
async fn a_tunnel_leads_to_one_host_only() {
    let origin = Scripted::fine().await;
    let other = Scripted::fine().await;
    let rules = [origin.rule(""), other.rule("")].concat();
    let stage = Setting::explicit(&rules).start();
    let mut tunnel = stage.connect().await;
    assert_eq!(tunnel.open(&origin.authority()).await, 200);
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(tunnel.ask(request(&origin.authority())).await.status, 200);
    assert_eq!(tunnel.ask(request(&other.authority())).await.status, 403);
    assert_eq!(other.requests().len(), 0);
    // A tunnel inside a tunnel is a request for another target.
    assert_eq!(tunnel.open(&origin.authority()).await, 403);
}

#[tokio::test]
async fn a_tunnel_that_nothing_allows_is_refused_before_it_opens() {
    let stage = Setting::explicit(&["domain=github.com".into()]).start();
    let mut client = stage.connect().await;
    client.say("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n").await;
    let got = client.answer(false).await;
    assert_eq!((got.status, got.field("x-boundary-denied")), (403, Some("no_rule")));
    // The line that would open it permits what is asked inside, not the tunnel alone.
    assert!(got.text().contains("--allow 'domain=evil.example'"), "{}", got.text());
    assert_eq!(stage.decisions().await, ["deny no_rule https://evil.example/"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_a_tunnel_and_says_no_more_is_answered() {
    let stage = Setting::explicit(&["domain=github.com".into()]).start();
    let tunnel = "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n";
    let upgrade = "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\n\r\n";
    for request in [tunnel, upgrade].repeat(100) {
        let mut client = stage.connect().await;
        // The end comes with the request, so that both are read at once.
        client.say(request).await;
        client.0.shutdown().await.unwrap();
        let got = String::from_utf8(client.rest().await).unwrap();
        assert!(got.starts_with("HTTP/1.1 403 "), "{request} {got}");
    }
    assert_eq!(stage.decisions().await.len(), 200);
}

/// Sends requests, each on a connection of its own, and reads what is on record of them.
async fn recorded(stage: Stage, requests: &[&str]) -> Vec<String> {
    for request in requests {
        let mut client = stage.connect().await;
        client.say(request).await;
        client.0.shutdown().await.unwrap();
        client.rest().await;
    }
    let records = stage.records().await;
    assert!(!format!("{records:?}").contains("secret"), "{records:?}");
    let text = |record: &serde_json::Value, key: &str| {
        record[key].as_str().map_or_else(|| record[key].to_string(), str::to_owned)
    };
    let opening = records.iter().filter(|record| record["door"].is_string());
    let told = ["code", "http_method", "http_url", "host", "port"];
    opening.map(|record| told.map(|key| text(record, key)).join(" ")).collect()
}

#[tokio::test]
async fn what_is_no_request_is_on_record_in_its_own_words() {
    let limits = Limits { target_bytes: 300, ..Limits::default() };
    let setting = Setting::to_name("localhost", 80, &["domain=*".into()]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(9_000));
    let requests = [
        "GET /ok/..%2fx?a=b HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\n\r\n",
        "get /none HTTP/1.1\r\nCookie: secret\r\n\r\n",
        "GET /two HTTP/1.1\r\nHost: localhost\r\nHost: other.test\r\n\r\n",
        "GET /userinfo HTTP/1.1\r\nHost: user:secret@localhost\r\n\r\n",
        "GET /lengths HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: secret\r\n\r\n",
        "GET /cut HTTP/1.1\r\nCookie: secret",
        "GET  /spaces HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://user:secret@localhost/absolute HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
        "GET http://user:se/cret@localhost/ HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
        "CONNECT user:secret@localhost:443 HTTP/1.1\r\nHost: localhost:443\r\nX\r\n\r\n",
        &long,
    ];
    let told = recorded(Setting { limits, ..setting }.start(), &requests).await;
    let long = format!("over_limit GET http://localhost/{} localhost 80", "a".repeat(295));
    assert_eq!(
        told,
        [
            "ambiguous_path GET http://localhost/ok/..%2fx?a=b localhost 80",
            "bad_request GET http://localhost/none localhost 80",
            "bad_request GET http://localhost/two localhost 80",
            "bad_host GET http://localhost/userinfo localhost 80",
            "bad_request GET http://localhost/lengths localhost 80",
            "bad_request GET http://localhost/cut localhost 80",
            "bad_request null null localhost 80",
            "bad_request GET http://localhost/absolute localhost 80",
            "bad_request null null localhost 80",
            "bad_request CONNECT https://localhost:80/ localhost 80",
            &long,
        ]
    );
}

#[tokio::test]
async fn what_is_no_request_of_a_proxy_is_on_record_as_far_as_it_names_a_host() {
    let stage = Setting::explicit(&["domain=*".into()]).start();
    let port = stage.address.port();
    let requests = [
        "GET http://a.test/..%2fx HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://user:secret@a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET https://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET /x HTTP/1.1\r\n\r\n",
        "CONNECT user:secret@a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
        "GET http://secret HTTP/1.1\r\nX\r\n\r\n",
    ];
    let told = recorded(stage, &requests).await;
    assert_eq!(
        told,
        [
            "ambiguous_path GET http://a.test/..%2fx a.test 80",
            "bad_host GET http://a.test/x a.test 80",
            "bad_request GET https://a.test/x a.test 443",
            "bad_request GET http://b.test/x b.test 80",
            &format!("bad_request null null null {port}"),
            "bad_host CONNECT https://a.test/ a.test 443",
            &format!("bad_request null null null {port}"),
        ]
    );
}

#[tokio::test]
async fn where_a_connection_to_an_address_goes_is_on_record_for_what_names_no_host() {
    let target = SocketAddr::from(([203, 0, 113, 9], 80));
    let told = recorded(Stage::redirected(target, &[]), &["GET /x HTTP/1.1\r\n\r\n"]).await;
    assert_eq!(told, ["bad_request GET http://203.0.113.9/x 203.0.113.9 80"]);
}

#[tokio::test]
async fn a_synthetic_address_stands_for_its_name_alone() {
    let origin = Scripted::fine().await;
    let port = origin.address.port();
    let rules = vec![format!("host=localhost port={port}"), format!("host=127.0.0.1 port={port}")];
    let stage = Setting::to_name("localhost", port, &rules).start();
    let mut client = stage.connect().await;
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    assert_eq!(client.ask(request("localhost")).await.status, 200);
    assert_eq!(client.ask(request("LocalHost.")).await.status, 200);
    // Both are allowed, but not on a connection to the other.
    assert_eq!(client.ask(request("127.0.0.1")).await.status, 403);
    assert!(origin.requests()[1].contains(&format!("Host: localhost:{port}\r\n")));
}

#[tokio::test]
async fn a_synthetic_address_of_no_name_leads_nowhere() {
    let stage = Stage::redirected(([198, 18, 9, 9], 80).into(), &["domain=*".into()]);
    assert!(stage.connect().await.rest().await.is_empty());
    assert_eq!(stage.decisions().await, ["deny address_refused - - 80"]);
}

#[tokio::test]
async fn a_name_on_a_connection_to_an_address_must_be_there() {
    let origin = Scripted::fine().await;
    let port = origin.address.port();
    let rules = vec![format!("host=localhost port={port}"), format!("domain=evil.example")];
    let request = format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    // `localhost` resolves to 127.0.0.1: the program was right.
    let stage = Stage::redirected(origin.address, &rules);
    let mut client = stage.connect().await;
    assert_eq!(client.ask(&request).await.status, 200);
    assert_eq!(client.ask(&request).await.status, 200);
    assert_eq!(origin.connections(), 1);
    // It does not resolve to 127.0.0.2, where somebody else may listen.
    let stage = Stage::redirected(([127, 0, 0, 2], port).into(), &rules);
    let got = stage.connect().await.ask(&request).await;
    assert_eq!(got.field("x-boundary-denied"), Some("host_mismatch"));
    assert_eq!(origin.requests().len(), 2);
    // The refusal is on record, and nothing says that it was allowed.
    assert_eq!(stage.decisions().await, [format!("deny host_mismatch http://localhost:{port}/")]);
}

#[tokio::test]
async fn any_domain_does_not_mean_this_machine() {
    let origin = Scripted::fine().await;
    let host = origin.authority();
    let stage = Stage::redirected(origin.address, &["domain=*".into()]);
    let got = stage.connect().await.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(got.status, 403);
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn what_the_session_did_not_open_is_closed_without_a_word() {
    let setting = Setting::redirected(([127, 0, 0, 1], 80).into(), &["domain=*".into()]);
    let stage = Setting { target: None, ..setting }.start();
    let mut client = stage.connect().await;
    assert!(client.rest().await.is_empty());
    assert_eq!(*stage.asked.lock().unwrap(), 1, "asked exactly once");
    assert!(stage.decisions().await.is_empty());
}

/// A program asks the resolver for `db`, of which the search list makes another name, and calls it `db`.
#[tokio::test]
async fn a_name_that_the_search_list_made_may_be_called_by_what_was_asked() {
    let origin = Scripted::fine().await;
    let port = origin.address.port();
    let directory = Some(Arc::new(Directory::new("127.0.0.1 db.corp.test other.corp.test", "")));
    let egress = Egress { directory, ..Egress::default() };
    let rules = [format!("host=db.corp.test,other.corp.test,127.0.0.1 port={port}")];
    let search = vec!["corp.test".to_owned(), "lan".to_owned()];
    let setting = Setting { egress, search, ..Setting::to_name("db.corp.test", port, &rules) };
    let stage = setting.start();
    for (host, status) in [
        ("db", 200),
        ("DB", 200),
        ("db.corp.test", 200),
        ("other", 403),
        ("db.corp", 403),
        ("db.lan", 403),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        assert_eq!(stage.connect().await.ask(request).await.status, status, "{host}");
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), 3);
    let whole = format!("host: db.corp.test:{port}\r\n");
    assert!(requests.iter().all(|it| it.to_lowercase().contains(&whole)), "{requests:?}");
}
