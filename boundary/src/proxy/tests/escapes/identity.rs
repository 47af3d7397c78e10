//! Section C: who is meant. Everything that names the host agrees, or nobody is reached.

use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use rustls::crypto::hpke::Hpke as _;

use super::super::tls;
use super::*;

/// A refusal in any words: an answer that says no, or the end.
fn is_refused(seen: &Seen) -> bool {
    matches!(seen.status, 0 | 400..=499)
}

/// Two names that disagree: 403 where the connection may go on, 421 where the client should come
/// back on another.
fn is_mismatch(seen: &Seen) -> bool {
    matches!(seen.status, 403 | 421) && seen.code == "host_mismatch"
}

#[tokio::test]
async fn c01_fronting_is_refused_at_every_entry_though_both_names_are_allowed() {
    let scene = Scene::new(&["host=localhost", "host=127.0.0.2", "domain=front.example"]).await;
    for entry in Entry::ALL {
        let rows = [
            Ask { host: Some("front.example:PORT"), ..Ask::default() },
            Ask { host: Some("127.0.0.2:PORT"), ..Ask::default() },
            Ask { host: Some("localhost:1"), ..Ask::default() },
        ];
        for row in rows {
            let seen = scene.ask(entry, &row).await;
            assert!(
                is_mismatch(&seen) || entry.is_h2() && is_refused(&seen),
                "{entry:?} {row:?} {seen:?}"
            );
        }
        for host in ["front.example:PORT", "127.0.0.2:PORT", "localhost:1"] {
            // To a proxy, absolute-form alone says where: there it is another request.
            if entry != Entry::Absolute {
                let seen = scene.ask(entry, &Ask::of(host)).await;
                assert!(is_mismatch(&seen), "{entry:?} {host} {seen:?}");
            }
        }
        if entry.is_tls() {
            for host in [HERE, "front.example:PORT"] {
                let mut talk = scene.greet(entry, "front.example").await.unwrap();
                let seen = talk.ask(entry, scene.port(entry), &Ask::of(host)).await;
                assert!(is_mismatch(&seen), "{entry:?} SNI front.example, {host}: {seen:?}");
            }
        }
        assert!(scene.heard(entry).is_empty(), "{entry:?}");
        assert_eq!(scene.ask(entry, &Ask::default()).await.status, 200, "{entry:?} agrees");
        assert_eq!(scene.heard(entry).len(), 1);
    }
    scene.nobody_else_heard();
}

#[tokio::test]
async fn c02_an_allowed_name_on_a_connection_to_another_address_goes_nowhere() {
    let evil = Scripted::at(([127, 0, 0, 2], 0).into()).await;
    let port = evil.address.port();
    let stage = Stage::redirected(evil.address, &["host=localhost".into()]);
    let host = format!("localhost:{port}");
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let got = stage.connect().await.ask(&request).await;
    assert_eq!(got.field("x-boundary-denied"), Some("host_mismatch"));
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let stream = stage.connect().await.0;
        let mut client = offered(&stage, stream, "localhost", &[protocol]).await.unwrap();
        let status = if protocol == b"h2" {
            let mut frames = Frames::begin(client.0).await;
            let fields: [frames::Field<'_>; 4] = [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", host.as_bytes()),
                (b":path", b"/"),
            ];
            frames.ask(&fields, b"").await.status
        } else {
            client.ask(&request).await.status
        };
        assert!(matches!(status, 403 | 421), "{status}");
    }
    assert_eq!(evil.connections(), 0);
    assert!(stage.decisions().await.iter().all(|it| it.starts_with("deny host_mismatch")));
}

#[tokio::test]
async fn c03_the_first_request_of_a_connection_opens_nothing_for_the_second() {
    let scene = Scene::new(&["host=localhost path=/yes", "host=127.0.0.2"]).await;
    for entry in Entry::ALL {
        let mut talk = scene.open(entry).await;
        let port = scene.port(entry);
        let rows = [
            (Ask::default(), 200),
            (Ask::path("/no"), 403),
            (Ask::method("POST"), 200),
            (Ask { host: Some("127.0.0.2:PORT"), ..Ask::default() }, 403),
            (Ask::default(), 200),
        ];
        for (ask, status) in rows {
            let seen = talk.ask(entry, port, &ask).await;
            let is_other_host = ask.host.is_some();
            let fine = if is_other_host { is_refused(&seen) } else { seen.status == status };
            assert!(fine, "{entry:?} {ask:?} {seen:?}");
        }
        let heard = scene.heard(entry);
        assert_eq!(heard.len(), 3, "{entry:?} {heard:?}");
        assert!(heard.iter().all(|it| it.contains(" /yes HTTP/1.1\r\n")), "{heard:?}");
    }
    scene.nobody_else_heard();
}

/// What names no host, or two.
const UNCLEAR: [&str; 22] = [
    "user@localhost:PORT",
    "user:password@localhost:PORT",
    "localhost:PORT@127.0.0.2:PORT",
    "localhost:x@127.0.0.2",
    "localhost:PORT,127.0.0.2:PORT",
    "localhost:PORT, 127.0.0.2:PORT",
    "localhost:PORT 127.0.0.2:PORT",
    "localhost:PORT\t127.0.0.2:PORT",
    "localhost:PORT#127.0.0.2",
    "localhost:PORT?127.0.0.2",
    "localhost:PORT\\127.0.0.2",
    "http://localhost:PORT",
    "",
    ":PORT",
    ".",
    "..",
    "localhost..:PORT",
    "-:PORT",
    "*",
    "[localhost]:PORT",
    "[::1:PORT",
    "::1]:PORT",
];

#[tokio::test]
async fn c04_an_authority_that_is_not_one_host_and_port_is_no_request() {
    let scene = Scene::new(&["host=localhost", "host=127.0.0.2"]).await;
    for entry in Entry::ALL {
        for host in UNCLEAR {
            let row = Ask { host: Some(host), ..Ask::default() };
            for ask in [Ask::of(host), row] {
                let seen = scene.ask(entry, &ask).await;
                assert!(matches!(seen.status, 0 | 400), "{entry:?} {ask:?} {seen:?}");
            }
        }
        let more = ["Host: localhost:PORT", "Host: 127.0.0.2:PORT", "host:localhost:PORT"];
        for fields in more {
            let ask = Ask { fields, host: Some(HERE), ..Ask::default() };
            // HTTP/2 knows no field without a space behind its name: it is not there.
            if !entry.is_h2() || fields.contains(": ") {
                let seen = scene.ask(entry, &ask).await;
                assert!(matches!(seen.status, 0 | 400), "{entry:?} two hosts: {seen:?}");
            }
        }
        assert!(scene.heard(entry).is_empty(), "{entry:?}");
    }
    scene.nobody_else_heard();
    // Neither does a tunnel open.
    for host in UNCLEAR {
        let mut client = scene.explicit.connect().await;
        let text = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n").replace("PORT", "1");
        client.say(text).await;
        let seen = client.seen().await;
        assert!(is_refused(&seen), "{host} {seen:?}");
    }
}

#[tokio::test]
async fn c05_bytes_that_no_host_has_are_refused_wherever_a_host_stands() {
    let rows = [
        "localhost\0.evil.example:PORT",
        "evil.example\0localhost:PORT",
        "localhost\u{1}:PORT",
        "localhost\u{7f}:PORT",
        "local%68ost:PORT",
        "localhost%00.evil.example:PORT",
        "localhost%2eevil.example:PORT",
        "loc\u{e4}lhost:PORT",
        "\u{217c}ocalhost:PORT",
        "localhost\u{3002}:PORT",
        "local\u{ad}host:PORT",
        "localhost\u{200b}:PORT",
        "loc/alhost:PORT",
        "localhost;x:PORT",
        "'localhost':PORT",
        "<localhost>:PORT",
        "localhost|x:PORT",
    ];
    let scene = Scene::new(&["domain=localhost", "domain=evil.example"]).await;
    for entry in Entry::ALL {
        for host in rows {
            for ask in [Ask::of(host), Ask { host: Some(host), ..Ask::default() }] {
                let seen = scene.ask(entry, &ask).await;
                assert!(is_refused(&seen), "{entry:?} {host:?} {seen:?}");
            }
        }
        assert!(scene.heard(entry).is_empty(), "{entry:?}");
    }
    for host in rows {
        let mut client = scene.explicit.connect().await;
        let text = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n").replace("PORT", "1");
        client.say(text).await;
        let seen = client.seen().await;
        assert!(is_refused(&seen), "{host:?} {seen:?}");
    }
    // In a greeting, byte for byte.
    let greeting = tls::greeting("localhost.evil.example");
    for byte in [b'\0', b'/', b' ', b'@', 0x80] {
        let mut bytes = greeting.clone();
        let at = bytes.windows(9).position(|window| window == b"localhost").unwrap();
        bytes[at + 9] = byte;
        let mut client = scene.redirect_tls.connect().await;
        client.say(&bytes).await;
        let answer = client.rest().await;
        assert_ne!(answer.first(), Some(&0x16), "no handshake with {byte:#x}");
    }
    let decisions = scene.redirect_tls.decisions().await;
    assert!(decisions.iter().all(|it| it.starts_with("deny ")), "{decisions:?}");
}

#[tokio::test]
async fn c06_a_suffix_without_its_dot_is_another_host() {
    let scene = Scene::new(&["domain=localhost"]).await;
    for host in ["evillocalhost", "localhost.evil.example", "xlocalhost", "localhost-x", "ocalhost"]
    {
        let named = format!("{host}:PORT");
        for entry in Entry::ALL {
            let seen = scene.ask(entry, &Ask::of(&named)).await;
            let fine =
                if entry == Entry::Absolute { seen.is(403, "no_rule") } else { is_mismatch(&seen) };
            assert!(fine, "{entry:?} {host} {seen:?}");
            assert!(scene.heard(entry).is_empty());
        }
        let status = scene.explicit.connect().await.open(&format!("{host}:1")).await;
        assert_eq!(status, 403, "{host}");
    }
}

#[tokio::test]
async fn c08_a_host_has_one_spelling_and_that_is_sent() {
    let scene = Scene::new(&["host=localhost"]).await;
    for entry in Entry::ALL {
        let sent = format!("localhost:{}", scene.port(entry));
        for host in ["LOCALHOST:PORT", "LocalHost.:PORT", "localhost.:PORT", "localhost:0PORT"] {
            let seen = scene.ask(entry, &Ask::of(host)).await;
            // Five digits are the most that a port has.
            let is_long = scene.port(entry) > 9999 && host.contains(":0");
            assert_eq!(seen.status, if is_long { 400 } else { 200 }, "{entry:?} {host} {seen:?}");
            for heard in scene.heard(entry) {
                let named =
                    heard.lines().find(|line| line.to_ascii_lowercase().starts_with("host:"));
                let named = named.unwrap().split_once(": ").unwrap().1;
                assert_eq!(named, sent, "{entry:?} {host}");
            }
        }
    }
    // Looks the same, is another: in its ASCII form a name like any.
    let seen = scene.ask(Entry::Absolute, &Ask::of("xn--lcalhost-9fg:PORT")).await;
    assert!(is_refused(&seen), "{seen:?}");
}

#[tokio::test]
async fn c08_an_address_is_an_address_however_it_is_written() {
    let origin = Scripted::fine().await;
    let (port, host) = (origin.address.port(), origin.authority());
    let spellings = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7F000001",
        "0177.0.0.1",
        "017700000001",
        "2130706433",
        "127.0.0.1.",
        "0x7f.0x0.0x0.0x1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:1]",
    ];
    let none = [
        "127.0.0.1.1",
        "127.0.0.256",
        "127.0.0.0x",
        "08.0.0.1",
        "4294967296",
        "1.2.3",
        "[127.0.0.1]",
        "[::1%25lo]",
        "[::1%lo]",
        "[fe80::1%eth0]",
        "[::ffff:127.0.0.1",
        "0x",
        "127.0.0.1x",
        "[::]x",
        "[1:2:3:4:5:6:7:8:9]",
    ];
    let allowed = Setting::explicit(&origin.rule("")).start();
    // A rule for another address, and one that means the world: not this machine, in any spelling.
    let denied = Setting::explicit(&["host=127.0.0.2".into(), "domain=*".into()]).start();
    for spelling in spellings {
        let request =
            format!("GET http://{spelling}:{port}/ HTTP/1.1\r\nHost: {spelling}:{port}\r\n\r\n");
        assert_eq!(allowed.connect().await.ask(&request).await.status, 200, "{spelling}");
        let sent = origin.requests().pop().unwrap();
        assert!(sent.contains(&format!("Host: {host}\r\n")), "{spelling}: {sent}");
        let got = denied.connect().await.ask(&request).await;
        assert_eq!(got.field("x-boundary-denied"), Some("address_refused"), "{spelling}");
        let mut tunnel = denied.connect().await;
        assert_eq!(tunnel.open(&format!("{spelling}:{port}")).await, 403, "{spelling}");
    }
    let count = origin.requests().len();
    for spelling in none {
        let request =
            format!("GET http://{spelling}:{port}/ HTTP/1.1\r\nHost: {spelling}:{port}\r\n\r\n");
        let status = allowed.connect().await.ask(&request).await.status;
        assert!(matches!(status, 400 | 403), "{spelling} is {status}");
    }
    assert_eq!(origin.requests().len(), count);
}

#[tokio::test]
async fn c12_an_encrypted_greeting_hides_no_name() {
    let scene = Scene::new(&["host=localhost", "domain=front.example"]).await;
    let stage = &scene.redirect_tls;
    let suite = DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = suite.generate_key_pair().unwrap();
    let ask = async |name: &str, host: &str| {
        let mode = EchMode::from(EchGreaseConfig::new(suite, key.clone()));
        let stream = stage.connect().await.0;
        let config = (config().with_ech(mode).unwrap(), &[][..]);
        let mut client = greet(stage, stream, name, config).await.unwrap();
        let host = host.replace("PORT", &scene.secure.port().to_string());
        client.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.status
    };
    // What is outside is the name: what may be inside is opened by nobody, and asked again here.
    assert_eq!(ask("localhost", HERE).await, 200);
    assert_eq!(ask("localhost", "front.example:PORT").await, 403);
    assert_eq!(ask("front.example", HERE).await, 403);
    assert_eq!(scene.heard(Entry::Secure).len(), 1);
}

#[tokio::test]
async fn c16_a_port_is_a_number_and_part_of_the_rule() {
    let scene = Scene::new(&["host=localhost port=1"]).await;
    for entry in Entry::ALL {
        // A tunnel opens for a host that some rule names; what is asked inside is judged.
        let seen = scene.ask(entry, &Ask::default()).await;
        assert!(seen.is(403, "no_rule"), "{entry:?} {seen:?}");
    }
    let scene = Scene::new(&["host=localhost"]).await;
    for entry in Entry::ALL {
        let wrapped = format!("localhost:{}", u32::from(scene.port(entry)) + 65_536);
        let none = [
            wrapped.as_str(),
            "localhost:+PORT",
            "localhost:-PORT",
            "localhost: PORT",
            "localhost:PORT:PORT",
            "localhost:0xPORT",
            "localhost:PORTx",
            "localhost:0",
            "localhost:99999",
            "localhost:PORT.0",
        ];
        for host in none {
            let seen = scene.ask(entry, &Ask::of(host)).await;
            assert!(matches!(seen.status, 0 | 400), "{entry:?} {host} {seen:?}");
        }
        assert!(scene.heard(entry).is_empty(), "{entry:?}");
    }
}
