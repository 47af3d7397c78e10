//! Section D: one meaning or none, as programs say it. Every row also stands, for each way in,
//! beside the proxy (`d01_…` there).

use crate::world::World;
use crate::world::needs::needs;

/// The proxy, for those who are told of it.
const PROXY: &str = "http://127.0.0.1:18080";

#[test]
fn d01_a_path_is_sent_as_it_was_judged_or_not_at_all() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test path=/pub/*"];
    let rows: [(&str, Option<&str>); 14] = [
        ("/pub/a", Some("/pub/a")),
        ("/secret/../pub/%7ea", Some("/pub/~a")),
        ("/pub//a%2fb;c?d=/../e", Some("/pub//a%2Fb;c?d=/../e")),
        ("/pub/../secret", None),
        ("/pub/%2e%2e/secret", None),
        ("/pub/..%2fsecret", None),
        ("/pub/..%5csecret", None),
        ("/pub/..;/secret", None),
        ("/pub/%252e%252e/secret", None),
        ("/pub/%c0%ae%c0%ae/secret", None),
        ("/pub/a%00/../../secret", None),
        ("/pub/\\..\\secret", None),
        ("//pub/a", None),
        ("/PUB/a", None),
    ];
    let ways: [(&str, &[&str]); 5] = [
        ("http", &["--http1.1"]),
        ("https", &["--http1.1"]),
        ("https", &["--http2"]),
        ("http", &["-x", PROXY]),
        ("https", &["-x", PROXY]),
    ];
    for (scheme, way) in ways {
        let base = format!("{scheme}://allowed.test");
        let urls: Vec<String> = rows.iter().map(|(path, _)| format!("{base}{path}")).collect();
        let mut curl = vec!["curl", "-sS", "-g", "--path-as-is", "-w", "%{http_code}\n"];
        curl.extend(way);
        for url in &urls {
            curl.extend(["-o", "/dev/null", url.as_str()]);
        }
        let out = world.boundary(&options, &curl).output();
        let told: Vec<bool> = out.stdout.lines().map(|code| code == "200").collect();
        let meant: Vec<bool> = rows.iter().map(|(_, sent)| sent.is_some()).collect();
        out.expect(told == meant, &format!("{scheme} {way:?}: {told:?}"));
        let sent: Vec<&str> = rows.iter().filter_map(|(_, sent)| *sent).collect();
        let arrived: Vec<&str> = out.requests.iter().map(|it| it.target.as_str()).collect();
        out.expect(sent == arrived, &format!("{scheme} {way:?}: what was judged arrives"));
    }
}

#[test]
fn d02_d03_no_second_request_hides_in_the_first() {
    needs!(root, bpf);
    let world = World::new();
    let hidden = "GET /no HTTP/1.1\r\nHost: denied.test\r\nConnection: close\r\n\r\n";
    let host = "Host: 203.0.113.10\r\n";
    let length = hidden.len();
    let rows = [
        format!(
            "POST /yes HTTP/1.1\r\n{host}Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{hidden}"
        ),
        format!(
            "POST /yes HTTP/1.1\r\n{host}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("POST /yes HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!(
            "POST /yes HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n{hidden}"
        ),
        format!("GET /yes HTTP/1.1\n{host}\n{hidden}"),
        format!("GET /yes HTTP/1.1\r\n{host}X: y\r\n z\r\n\r\n{hidden}"),
        format!("GET /yes HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("GET /yes\r\n\r\n{hidden}"),
    ];
    let options = ["--allow", "host=203.0.113.10 path=/yes"];
    for row in rows {
        let all = format!("all:{row}");
        let out = world.boundary(&options, &[world.attack(), "tcp", "203.0.113.10", "80", &all]);
        let out = out.output();
        out.expect(out.requests.is_empty(), &format!("{row:?} arrives nowhere"));
        out.expect(!out.stdout.contains(" 200 "), "it is not served");
        out.record(&[("decision", "deny")]);
    }
    // What follows a request that is fine is judged by itself.
    let all = format!("all:GET /yes HTTP/1.1\r\n{host}\r\n{hidden}");
    let out =
        world.boundary(&options, &[world.attack(), "tcp", "203.0.113.10", "80", &all]).output();
    out.says("200 OK").says("403");
    out.expect(out.requests.len() == 1, "the first alone arrives");
}

#[test]
fn d04_no_switch_leads_to_requests_that_nobody_judges() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test path=/yes"];
    // curl asks to upgrade to HTTP/2 in its first request.
    let curl = ["curl", "-sS", "--http2", "http://allowed.test/yes", "http://allowed.test/no"];
    let out = world.boundary(&options, &curl).output();
    out.says("/yes").says("Request Blocked by Boundary");
    out.expect(out.requests.len() == 1, "the allowed one alone arrives");
    let asked = out.requests[0].header("upgrade").is_some();
    out.expect(!asked, "the wish is not passed on");
    // And with no question at all: what is spoken is judged, or refused.
    let curl = ["curl", "-sS", "--http2-prior-knowledge", "http://allowed.test/no"];
    let out = world.boundary(&options, &curl).output();
    out.nothing_left().record(&[("decision", "deny")]);
}

#[test]
fn d05_d06_a_method_is_that_method_at_every_entry() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--proxy-port", "18080", "--allow", "method=GET domain=allowed.test"];
    let ways: [&[&str]; 6] = [
        &["http://allowed.test/"],
        &["--http1.1", "https://allowed.test/"],
        &["--http2", "https://allowed.test/"],
        &["-x", PROXY, "http://allowed.test/"],
        &["-x", PROXY, "https://allowed.test/"],
        &["-p", "-x", PROXY, "http://allowed.test/"],
    ];
    for way in ways {
        for method in ["HEAD", "POST", "TRACE", "OPTIONS", "GETX", "DELETE"] {
            // A HEAD has no body to wait for.
            let how = if method == "HEAD" { ["--head", "-sS"] } else { ["-X", method] };
            let curl = [&["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"], &how[..], way];
            let out = world.boundary(&options, &curl.concat()).output();
            out.says("403").nothing_left();
        }
        let curl = [&["curl", "-sS", "-X", "get"], way].concat();
        let out = world.boundary(&options, &curl).output();
        out.says("this is allowed.test");
        out.expect(out.requests[0].method == "GET", "it is sent as it was judged");
    }
}

#[test]
fn d05_connect_in_other_letters_is_no_request() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test path=/a"];
    let ways: [&[&str]; 5] = [
        &["--http1.1", "http://allowed.test/a"],
        &["--http1.1", "https://allowed.test/a"],
        &["--http2", "https://allowed.test/a"],
        &["-x", PROXY, "http://allowed.test/a"],
        &["-p", "-x", PROXY, "http://allowed.test/a"],
    ];
    let hidden = "GET /secret HTTP/1.1\r\nHost: allowed.test\r\n\r\n";
    let bodies: [&[&str]; 2] = [&[], &["--data-binary", hidden]];
    for (way, body) in ways.iter().flat_map(|way| bodies.map(|body| (way, body))) {
        for method in ["connect", "Connect"] {
            let curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method];
            let curl = [&curl, body, way].concat();
            let out = world.boundary(&options, &curl).output();
            out.says("400").record(&[("decision", "deny")]);
            out.expect(out.requests.is_empty(), &format!("{curl:?} is heard by nobody"));
        }
    }
}

#[test]
fn d08_what_is_neither_http_nor_tls_opens_no_tunnel() {
    needs!(root, bpf);
    let world = World::new();
    for port in ["80", "443", "8443", "7"] {
        for text in ["\u{1}\u{2}\u{3}\u{4}", "SSH-2.0-OpenSSH_9.9\r\n", "EHLO denied.test\r\n"] {
            let all = format!("all:{text}");
            let attack = [world.attack(), "tcp", "203.0.113.10", port, &all];
            let out = world.boundary(&["--allow", "host=203.0.113.10"], &attack).output();
            out.nothing_left().record(&[("decision", "deny"), ("code", "unclear_protocol")]);
        }
    }
}

#[test]
fn d09_two_rules_permit_nothing_that_neither_permits() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = [
        "--allow",
        "method=GET domain=allowed.test path=/a",
        "--allow",
        "method=POST domain=four.test path=/b",
    ];
    let code = |method: &str, url: &str| {
        let curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, url];
        world.boundary(&options, &curl).output()
    };
    code("GET", "http://allowed.test/a").says("200");
    code("POST", "http://four.test/b").says("200");
    for (method, url) in [
        ("POST", "http://allowed.test/a"),
        ("GET", "http://allowed.test/b"),
        ("POST", "http://allowed.test/b"),
        ("GET", "http://four.test/b"),
        ("POST", "http://four.test/a"),
        ("GET", "http://four.test/a"),
    ] {
        code(method, url).says("403").nothing_left();
    }
    // An element that is empty is a mistake, not a wider rule.
    let out = world.boundary(&["--allow", "domain=allowed.test path=/a,"], &["true"]).output();
    out.exits(125).complains("empty");
}
