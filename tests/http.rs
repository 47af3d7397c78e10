//! HTTP through every door: what is allowed arrives, what is not never leaves.

use crate::world::needs::needs;
use crate::world::{Output, World};

/// The words of every denial.
const BLOCKED: &str = "Request Blocked by Boundary";

/// The proxy's port, for programs that are told of it.
const PROXY: &str = "http://127.0.0.1:18080";

/// Checks one allowed fetch: served once, by the address, over TLS or not.
#[track_caller]
fn is_served(out: &Output, address: &str, tls: bool) {
    out.exits(0).says("this is");
    out.expect(out.requests.len() == 1, "exactly one request arrives");
    let connection = &out.requests[0].connection;
    out.expect(
        connection.local.ip() == address.parse::<std::net::IpAddr>().expect("an address"),
        &format!("it arrives at {address}"),
    );
    out.expect(connection.sni.is_some() == tls, "it arrives over the scheme it was sent by");
}

#[test]
fn an_allowed_name_is_served_over_both_schemes_and_both_families() {
    needs!(root, bpf, curl);
    let world = World::new();
    for (family, host, address) in [
        ("-4", "four.test", "203.0.113.4"),
        ("-6", "six.test", "2001:db8::6"),
        // The family that the client speaks to us need not be the one that the target has.
        ("-6", "four.test", "203.0.113.4"),
        ("-4", "six.test", "2001:db8::6"),
    ] {
        for (scheme, tls) in [("http", false), ("https", true)] {
            let url = format!("{scheme}://{host}/");
            let rule = format!("domain={host}");
            let curl = ["curl", family, "-sS", url.as_str()];
            is_served(&world.boundary(&["--allow", &rule], &curl).output(), address, tls);
        }
    }
}

#[test]
fn an_allowed_address_is_served_over_both_schemes_and_both_families() {
    needs!(root, bpf, curl);
    let world = World::new();
    for (literal, address) in [("203.0.113.10", "203.0.113.10"), ("[2001:db8::10]", "2001:db8::10")]
    {
        for (scheme, tls) in [("http", false), ("https", true)] {
            let url = format!("{scheme}://{literal}/");
            let rule = format!("host={literal}");
            let curl = ["curl", "-sS", url.as_str()];
            is_served(&world.boundary(&["--allow", &rule], &curl).output(), address, tls);
        }
    }
}

#[test]
fn what_no_rule_names_is_denied_over_both_schemes_and_nothing_leaves() {
    needs!(root, bpf, curl);
    let world = World::new();
    for url in [
        "http://denied.test/",
        "https://denied.test/",
        "http://203.0.113.66/",
        "https://203.0.113.66/",
        "http://[2001:db8::66]/",
        "https://[2001:db8::66]/",
        "http://denied.test:8080/",
        "https://denied.test:8443/",
    ] {
        for family in ["-4", "-6"] {
            if url.contains("203.") && family == "-6" || url.contains('[') && family == "-4" {
                continue;
            }
            let curl = ["curl", family, "-sS", "-w", "%{http_code}", url];
            let out = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
            out.exits(0).says(BLOCKED).says("403").nothing_left();
            out.record(&[("decision", "deny"), ("code", "no_rule"), ("proto", "http")]);
        }
    }
}

#[test]
fn an_empty_policy_denies_everything_and_says_so() {
    needs!(root, bpf, curl);
    let world = World::new();
    let out = world.boundary(&[], &["curl", "-sS", "http://allowed.test/"]).output();
    out.exits(0).says(BLOCKED).complains("everything is denied").nothing_left();
}

#[test]
fn a_denial_says_what_why_and_what_would_permit_it() {
    needs!(root, bpf, curl);
    let world = World::new();
    let url = "https://denied.test/some/path?with=query";
    let curl = ["curl", "-sS", "-i", "-X", "PUT", url];
    let out = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
    out.exits(0)
        .says(" 403")
        .says(BLOCKED)
        .says("PUT")
        .says("https://denied.test/some/path")
        .says("no_rule")
        .says("--allow")
        .says("domain=denied.test");
    let head = out.stdout.to_lowercase();
    out.expect(head.contains("content-type: text/plain; charset=utf-8"), "it is text");
    out.expect(head.contains("x-boundary-denied: no_rule"), "its code is in a header");
}

#[test]
fn a_client_that_takes_only_json_gets_json() {
    needs!(root, bpf, curl);
    let world = World::new();
    let curl = ["curl", "-sS", "-H", "Accept: application/json", "http://denied.test/"];
    let out = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
    let body: Result<serde_json::Value, _> = serde_json::from_str(&out.stdout);
    out.expect(body.is_ok(), "the body is JSON").says(BLOCKED).says("no_rule");
}

#[test]
fn the_rule_that_a_denial_offers_permits_the_request() {
    needs!(root, bpf, curl);
    let world = World::new();
    let curl = ["curl", "-sS", "http://denied.test/some/path"];
    let denied = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
    let offer = denied.stdout.lines().find_map(|line| line.split_once("--allow").map(|(_, it)| it));
    denied.expect(offer.is_some(), "it offers a rule");
    let quotes = |letter: char| letter == '\'' || letter == '"' || letter.is_whitespace();
    let rule = offer.unwrap_or_default().trim_matches(quotes);
    is_served(&world.boundary(&["--allow", rule], &curl).output(), "203.0.113.66", false);
}

#[test]
fn a_method_and_a_path_are_part_of_the_verdict() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "method=GET domain=allowed.test path=/public/*"];
    let code = |extra: &[&str], url: &str| {
        let curl = [&["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"], extra, &[url]];
        world.boundary(&options, &curl.concat()).output()
    };
    code(&[], "http://allowed.test/public/a?b=c").says("200");
    code(&[], "http://allowed.test/private").says("403").nothing_left();
    code(&["-X", "POST"], "http://allowed.test/public/a").says("403").nothing_left();
    code(&["--head"], "http://allowed.test/public/a").says("403").nothing_left();
    let climbing = "http://allowed.test/public/../private";
    code(&["--path-as-is"], climbing).says("403").nothing_left();
    let hidden = "http://allowed.test/public/%2e%2e/private";
    code(&["--path-as-is"], hidden).says("403").nothing_left();
    let twice = "http://allowed.test/public/%252e%252e/private";
    let out = code(&["--path-as-is"], twice);
    out.says("400").nothing_left().record(&[("decision", "deny"), ("code", "ambiguous_path")]);
}

#[test]
fn a_port_is_part_of_the_verdict() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test port=8080"];
    let open = ["curl", "-sS", "http://allowed.test:8080/"];
    world.boundary(&options, &open).output().says("this is allowed.test:8080");
    let shut = ["curl", "-sS", "http://allowed.test/"];
    world.boundary(&options, &shut).output().says(BLOCKED).nothing_left();
}

#[test]
fn a_client_that_uses_the_proxy_gets_the_same_verdicts() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--proxy-port", "18080", "--allow", "domain=allowed.test"];
    // Absolute-form, CONNECT with TLS inside, CONNECT with HTTP inside.
    for (extra, scheme, tls) in
        [("-s", "http", false), ("-s", "https", true), ("-p", "http", false)]
    {
        let url = format!("{scheme}://allowed.test/");
        let curl = ["curl", "-sS", "-4", extra, "-x", PROXY, url.as_str()];
        let out = world.boundary(&options, &curl).output();
        out.exits(0).says("this is allowed.test");
        out.expect(out.requests.len() == 1, "exactly one request arrives");
        out.expect(out.requests[0].connection.sni.is_some() == tls, "over the right scheme");
        out.record(&[("decision", "allow"), ("door", "explicit"), ("proto", "http")]);
        let url = format!("{scheme}://denied.test/");
        let curl = ["curl", "-sS", extra, "-x", PROXY, url.as_str()];
        let out = world.boundary(&options, &curl).output();
        out.nothing_left().record(&[("decision", "deny"), ("door", "explicit")]);
        let told = out.stdout.contains(BLOCKED) || out.stderr.contains("403");
        out.expect(told, "the client learns of the 403");
    }
}

#[test]
fn every_request_of_a_connection_is_judged() {
    needs!(root, bpf, curl);
    let world = World::new();
    for scheme in ["http", "https"] {
        let options = ["--allow", "domain=allowed.test path=/yes"];
        let yes = format!("{scheme}://allowed.test/yes");
        let no = format!("{scheme}://allowed.test/no");
        let out = world.boundary(&options, &["curl", "-sSv", &yes, &no, &yes]).output();
        out.exits(0).says("/yes").says(BLOCKED).complains("Re-using existing connection");
        out.expect(out.requests.len() == 2, "two of three arrive");
        out.expect(out.requests.iter().all(|request| request.target == "/yes"), "the allowed ones");
        let connections = out.requests.iter().map(|request| request.connection.number);
        let same = connections.collect::<std::collections::BTreeSet<_>>().len() == 1;
        out.expect(same, "and upstream they share a connection too");
    }
}

#[test]
fn another_host_on_the_same_connection_is_refused() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test"];
    for url in ["http://allowed.test/", "https://allowed.test/"] {
        let curl = ["curl", "-sS", url, "--next", "-sS", "-H", "Host: denied.test", url];
        let out = world.boundary(&options, &curl).output();
        out.exits(0).says("this is allowed.test").says(BLOCKED);
        out.expect(out.requests.len() == 1, "only the first arrives");
        out.record(&[("decision", "deny"), ("code", "host_mismatch")]);
    }
}

#[test]
fn an_allowed_host_header_does_not_open_another_address() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test"];
    for extra in [
        ["-H", "Host: allowed.test", "http://203.0.113.66/"],
        ["--resolve", "allowed.test:80:203.0.113.66", "http://allowed.test/"],
        ["--resolve", "allowed.test:443:203.0.113.66", "https://allowed.test/"],
        ["--connect-to", "allowed.test:80:denied.test:80", "http://allowed.test/"],
    ] {
        let out = world.boundary(&options, &[&["curl", "-sS"], &extra[..]].concat()).output();
        let denied = "203.0.113.66".parse().ok();
        out.expect(out.requests.is_empty(), "no request arrives");
        let strays = out.packets.iter().filter(|packet| packet.target == denied).count();
        out.expect(strays == 0, "no packet reaches the denied address");
        out.record(&[("decision", "deny"), ("code", "host_mismatch")]);
    }
}

#[test]
fn a_stream_arrives_while_it_is_still_being_written() {
    needs!(root, bpf, curl);
    for url in ["http://allowed.test/stream/gate", "https://allowed.test/stream/gate"] {
        let world = World::new();
        let curl = ["curl", "-sSN", url];
        let session = world.boundary(&["--allow", "domain=allowed.test"], &curl).start();
        session.wait_for("first");
        world.open("gate");
        session.finish().exits(0).says("second");
    }
}

#[test]
fn large_bodies_pass_both_ways_whole() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test"];
    let down = ["curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}"];
    let down = [&down[..], &["https://allowed.test/size/20000000"]].concat();
    world.boundary(&options, &down).output().exits(0).says("20000000");
    let text = "0123456789abcdef".repeat(200_000);
    for framing in ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let up = ["curl", "-sS", "--data-binary", "@-", "-H", framing, "http://allowed.test/post"];
        let out = world.boundary(&options, &up).input(&text).output();
        out.exits(0).says("this is");
        out.expect(out.requests.len() == 1, "one request arrives");
        out.expect(out.requests[0].body == text.as_bytes(), "its content is whole");
        let dropped = out.records.iter().any(|record| record["code"] == "packet");
        out.expect(!dropped, "no packet of it is refused on the way");
    }
}

#[test]
fn a_denied_upload_is_told_so() {
    needs!(root, bpf, curl);
    let world = World::new();
    let text = "0123456789abcdef".repeat(200_000);
    for url in ["http://denied.test/", "https://denied.test/"] {
        let up = ["curl", "-sS", "--data-binary", "@-", url];
        let out = world.boundary(&["--allow", "domain=allowed.test"], &up).input(&text).output();
        out.says(BLOCKED).nothing_left();
    }
}

#[test]
fn responses_without_content_end_where_they_end() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test"];
    for (extra, path, status) in
        [("--head", "/", "200"), ("-s", "/status/204", "204"), ("-s", "/status/304", "304")]
    {
        let url = format!("http://allowed.test{path}");
        let curl = ["curl", "-sS", "-i", extra, &url, "-w", "\n%{http_code}\n", &url];
        let out = world.boundary(&options, &curl).output();
        out.exits(0).says(status);
        out.expect(out.requests.len() == 2, "the connection serves the next request too");
    }
}

#[test]
fn the_request_arrives_as_it_was_sent_and_names_nobody_on_the_way() {
    needs!(root, bpf, curl);
    let world = World::new();
    let headers = ["-H", "X-MiXeD-CaSe: Kept", "-H", "Connection: X-Hop", "-H", "X-Hop: gone"];
    let url = "http://allowed.test/a%2Fb//c;d?query=%2e%2e";
    let curl = [&["curl", "-sS"], &headers[..], &[url]].concat();
    let out = world.boundary(&["--allow", "domain=allowed.test"], &curl).output();
    out.exits(0);
    let request = &out.requests[0];
    out.expect(request.target == "/a%2Fb//c;d?query=%2e%2e", "the target is kept");
    let sent = String::from_utf8_lossy(&request.bytes).into_owned();
    out.expect(sent.contains("X-MiXeD-CaSe: Kept"), "the case of names is kept");
    out.expect(!sent.contains("X-Hop"), "hop-by-hop headers go no further");
    let lower = sent.to_lowercase();
    let named = ["boundary", "via:", "forwarded", "proxy-"].iter().find(|it| lower.contains(**it));
    out.expect(named.is_none(), "nothing names boundary");
}

#[test]
fn a_name_that_resolves_to_loopback_or_metadata_is_refused_and_a_private_one_is_not() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.loopback_service(80);
    for name in ["loopback.test", "metadata.test"] {
        let rule = format!("domain={name}");
        let url = format!("http://{name}/");
        let out = world.boundary(&["--allow", &rule], &["curl", "-sS", &url]).output();
        out.says("address_refused");
        out.expect(!out.stdout.contains("host service"), "the host's service is not reached");
        out.expect(out.requests.is_empty(), "no request arrives");
    }
    let curl = ["curl", "-sS", "http://private.test/"];
    let out = world.boundary(&["--allow", "domain=private.test"], &curl).output();
    out.says("this is private.test");
}

#[test]
fn a_name_that_moves_to_loopback_while_it_is_used_does_not_get_there() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.loopback_service(80);
    world.name("moving.test", &["203.0.113.30"]);
    let script = "curl -sSN http://moving.test/stream/gate; curl -sS http://moving.test/";
    let session = world.boundary(&["--allow", "domain=moving.test"], &["sh", "-c", script]).start();
    session.wait_for("first");
    world.name("moving.test", &["127.0.0.1"]);
    world.open("gate");
    let out = session.finish();
    out.says("second");
    out.expect(!out.stdout.contains("host service"), "the host's service is not reached");
}

#[test]
fn a_service_of_the_host_on_loopback_needs_a_rule_that_names_it() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.loopback_service(9100);
    world.bare(&["curl", "-sS", "http://127.0.0.1:9100/"]).output().says("host service");
    for (url, rule) in [
        ("http://127.0.0.1:9100/", "host=127.0.0.1 port=9100"),
        ("http://[::1]:9100/", "host=[::1] port=9100"),
        ("http://localhost:9100/", "host=localhost port=9100"),
    ] {
        let out = world.boundary(&["--allow", "domain=*"], &["curl", "-sS", url]).output();
        out.expect(!out.stdout.contains("host service"), "no wildcard opens the host's loopback");
        out.record(&[("decision", "deny")]);
        let out = world.boundary(&["--allow", rule], &["curl", "-sS", url]).output();
        out.exits(0).says("host service");
    }
}

#[test]
fn a_failing_upstream_is_a_502_that_says_why() {
    needs!(root, bpf, curl);
    let world = World::new();
    let options = ["--allow", "domain=allowed.test,unknown.test"];
    for url in ["http://unknown.test/", "http://allowed.test:81/"] {
        let out = world.boundary(&options, &["curl", "-sS", "-i", url]).output();
        out.exits(0).says("HTTP/1.1 502");
    }
}

#[test]
fn a_tcp_rule_opens_that_name_and_port_to_any_bytes() {
    needs!(root, bpf, bash);
    let world = World::new();
    let rule = ["--allow", "proto=tcp host=allowed.test port=22"];
    let first =
        |host: &str| format!("exec 3<>/dev/tcp/{host}; IFS= read -r -t 20 line <&3; echo $line");
    // The server speaks first: nobody waits for the client.
    let open = first("allowed.test/22");
    world.boundary(&rule, &["bash", "-c", &open]).output().says("SSH-2.0-simulated");
    for shut in [first("allowed.test/7"), first("denied.test/22"), first("203.0.113.10/22")] {
        let out = world.boundary(&rule, &["bash", "-c", &shut]).output();
        out.expect(!out.stdout.contains("SSH"), "nothing comes back").nothing_left();
        out.record(&[("decision", "deny")]);
    }
}
