//! Requests that mean two things, or nothing: refused before anything is dialled.
//!
//! They are written by hand to a redirected connection, since no client would send them.

use crate::world::needs::needs;
use crate::world::{Output, World};

/// The rule that permits the address that these tests speak to, below one path.
const ALLOW: [&str; 2] = ["--allow", "host=203.0.113.10 path=/yes"];

/// Sends bytes to the allowed address and reads until it closes.
fn send(world: &World, text: &str) -> Output {
    let all = format!("all:{text}");
    world.boundary(&ALLOW, &[world.attack(), "tcp", "203.0.113.10", "80", &all]).output()
}

#[test]
fn a_request_by_hand_is_served() {
    needs!(root, bpf);
    let world = World::new();
    let text = "GET /yes HTTP/1.1\r\nHost: 203.0.113.10\r\nConnection: close\r\n\r\n";
    let out = send(&world, text);
    out.succeeded().says("200 OK");
    out.expect(out.requests.len() == 1, "it arrives");
}

#[test]
fn a_pipelined_request_is_judged_by_itself() {
    needs!(root, bpf);
    let world = World::new();
    let yes = "GET /yes HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n";
    let no = "GET /no HTTP/1.1\r\nHost: 203.0.113.10\r\nConnection: close\r\n\r\n";
    let out = send(&world, &format!("{yes}{no}"));
    out.says("200 OK").says("403");
    out.expect(out.requests.len() == 1, "only the first arrives");
}

#[test]
fn a_request_with_two_lengths_or_two_hosts_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    let host = "Host: 203.0.113.10\r\n";
    let smuggled = "0\r\n\r\nGET /no HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n";
    for (what, head) in [
        ("two framings", format!("{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("two lengths", format!("{host}Content-Length: 5\r\nContent-Length: 6\r\n")),
        ("a list of lengths", format!("{host}Content-Length: 5, 6\r\n")),
        ("a signed length", format!("{host}Content-Length: +5\r\n")),
        ("an unknown coding", format!("{host}Transfer-Encoding: xchunked\r\n")),
        ("chunked twice", format!("{host}Transfer-Encoding: chunked, chunked\r\n")),
        ("a folded line", format!("{host}X-A: b\r\n c\r\nTransfer-Encoding: chunked\r\n")),
        ("a space before the colon", format!("{host}Transfer-Encoding : chunked\r\n")),
        ("two hosts", format!("{host}Host: denied.test\r\n")),
        ("no host", String::new()),
        ("an empty host", "Host:\r\n".to_owned()),
        ("a userinfo", "Host: 203.0.113.10:x@denied.test\r\n".to_owned()),
        ("a list of hosts", "Host: 203.0.113.10, denied.test\r\n".to_owned()),
    ] {
        let text = format!("POST /yes HTTP/1.1\r\n{head}Connection: close\r\n\r\n{smuggled}");
        let out = send(&world, &text);
        out.expect(out.requests.is_empty(), &format!("{what}: no request arrives"));
        out.expect(!out.stdout.contains("200 OK"), &format!("{what}: it is not served"));
    }
}

#[test]
fn a_target_that_names_another_host_is_refused() {
    needs!(root, bpf);
    let world = World::new();
    for line in [
        "GET http://denied.test/yes HTTP/1.1",
        "GET http://203.0.113.66/yes HTTP/1.1",
        "CONNECT denied.test:443 HTTP/1.1",
        "CONNECT 203.0.113.66:80 HTTP/1.1",
    ] {
        let out =
            send(&world, &format!("{line}\r\nHost: 203.0.113.10\r\nConnection: close\r\n\r\n"));
        out.nothing_left().record(&[("decision", "deny")]);
    }
}

#[test]
fn other_protocols_in_http_clothes_are_refused() {
    needs!(root, bpf);
    let world = World::new();
    for text in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /yes\r\n\r\n",
        "GET /yes HTTP/0.9\r\n\r\n",
        "GET /yes HTTP/3.0\r\nHost: 203.0.113.10\r\n\r\n",
        "\u{1}\u{2}\u{3}",
    ] {
        let out = send(&world, text);
        out.expect(out.requests.is_empty(), "no request arrives");
    }
}
