//! What is read as a gateway, what it shows of itself, and who goes round it.

use super::*;

fn gateway(text: &str) -> Result<Gateway, Invalid> {
    text.parse()
}

/// The credentials as they are sent.
fn sent(text: &str) -> Option<String> {
    let gateway = gateway(text).unwrap();
    gateway.credentials().map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn a_gateway_is_read_from_its_url() {
    let rows = [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        (" HTTP://Proxy.Example:3128/ ", "http://proxy.example:3128"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example", "http://proxy.example:80"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ("http://192.0.2.1", "http://192.0.2.1:80"),
        ("http://user:secret@proxy.example:1", "http://proxy.example:1"),
    ];
    for (text, shown) in rows {
        let gateway = gateway(text).unwrap();
        assert_eq!(gateway.to_string(), shown, "{text}");
        assert_eq!(format!("{gateway:?}"), shown, "{text}");
    }
}

#[test]
fn what_is_no_gateway_is_refused_without_being_repeated() {
    let rows = [
        ("socks5://u:secret@proxy.example:1080", Invalid::Scheme),
        ("ftp://proxy.example", Invalid::Scheme),
        ("", Invalid::Authority),
        ("http://", Invalid::Authority),
        ("http://:3128", Invalid::Authority),
        ("http://u:secret@", Invalid::Authority),
        ("http://proxy.example:0", Invalid::Authority),
        ("http://proxy.example:65536", Invalid::Authority),
        ("http://proxy.example:+1", Invalid::Authority),
        ("http://pro xy", Invalid::Authority),
        ("http://u:sec/ret@proxy.example", Invalid::More),
        ("http://proxy.example/path", Invalid::More),
        ("http://proxy.example?secret", Invalid::More),
        ("http://proxy.example#secret", Invalid::More),
    ];
    for (text, why) in rows {
        let error = gateway(text).unwrap_err();
        assert_eq!(error, why, "{text}");
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("ret@"));
    }
}

#[test]
fn credentials_are_sent_decoded_and_shown_nowhere() {
    // RFC 7617's own example, and characters that a URL writes otherwise.
    let rows = [
        ("http://Aladdin:open%20sesame@p.example", Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ("http://u:p%40%2F%3A@p.example", Some("Basic dTpwQC86")),
        ("http://u:p@q@p.example", Some("Basic dTpwQHE=")),
        ("http://u@p.example", Some("Basic dTo=")),
        ("http://@p.example", None),
        ("http://p.example", None),
    ];
    for (text, value) in rows {
        assert_eq!(sent(text).as_deref(), value, "{text}");
    }
    let one = gateway("http://Aladdin:sesame@p.example").unwrap();
    let all = Gateways { http: Some(Arc::new(one)), ..Gateways::default() };
    let shown = format!("{all:?} {:?}", all.http.as_ref().unwrap().credentials());
    assert!(!shown.contains("QWxh") && !shown.contains("sesame"), "{shown}");
    assert!(!shown.contains("Aladdin"), "{shown}");
}

#[test]
fn an_exempt_host_is_dialled_directly() {
    let list = "example.com,.below.test *.star.test, ported.test:8443 ,192.0.2.1,10.0.0.0/8, \
                [2001:db8::1]:80,2001:db8:1::/48,300.1.1.1/8,a..b,10.0.0.0/33";
    let exempt = Exempt::parse(list);
    let rows = [
        ("example.com", 443, true),
        ("EXAMPLE.com.", 443, true),
        ("sub.example.com", 443, true),
        ("anexample.com", 443, false),
        ("example.com.test", 443, false),
        ("below.test", 443, false),
        ("a.below.test", 443, true),
        ("star.test", 443, false),
        ("a.star.test", 443, true),
        ("ported.test", 8443, true),
        ("ported.test", 443, false),
        ("192.0.2.1", 1, true),
        ("::ffff:192.0.2.1", 1, true),
        ("192.0.2.2", 1, false),
        ("10.255.0.1", 1, true),
        ("11.0.0.1", 1, false),
        ("[2001:db8::1]", 80, true),
        ("[2001:db8::1]", 81, false),
        ("[2001:db8:1:ff::]", 81, true),
        ("[2001:db8:2::]", 81, false),
    ];
    for (host, port, expected) in rows {
        let host = Host::parse(host).unwrap();
        assert_eq!(exempt.covers(&host, port), expected, "{host} {port}");
    }
    assert!(Exempt::parse("*").covers(&Host::parse("any.test").unwrap(), 1));
    assert!(!Exempt::parse(" ,, ").covers(&Host::parse("any.test").unwrap(), 1));
}

#[test]
fn each_scheme_has_its_gateway_and_this_machine_none() {
    let one = |text: &str| Some(Arc::new(gateway(text).unwrap()));
    let gateways = Gateways {
        http: one("http://plain.example"),
        tunnel: one("http://tunnel.example"),
        exempt: Exempt::parse("exempt.test"),
    };
    let rows = [
        (Scheme::Http, "a.test", Some("plain")),
        (Scheme::Https, "a.test", Some("tunnel")),
        (Scheme::Tls, "a.test", Some("tunnel")),
        (Scheme::Tcp, "10.1.2.3", Some("tunnel")),
        (Scheme::Https, "exempt.test", None),
        (Scheme::Https, "localhost", None),
        (Scheme::Https, "a.localhost", None),
        (Scheme::Http, "127.0.0.1", None),
        (Scheme::Https, "[::1]", None),
        (Scheme::Https, "[fe80::1]", None),
        (Scheme::Http, "169.254.169.254", None),
    ];
    for (scheme, host, expected) in rows {
        let intent = Intent::stream(scheme, Host::parse(host).unwrap(), 443);
        let found = gateways.of(&intent).map(ToString::to_string);
        let fits = match (&found, expected) {
            (Some(found), Some(expected)) => found.contains(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(fits, "{scheme:?} {host}: {found:?}");
    }
}

#[test]
fn a_gateway_that_is_our_own_door_is_noticed() {
    let doors = crate::proxy::Doors::bind(None).unwrap();
    let port = doors.tcp[0].local_addr().unwrap().port();
    let through = |host: &str, port: u16| {
        let gateway = Some(Arc::new(gateway(&format!("http://{host}:{port}")).unwrap()));
        Gateways { tunnel: gateway, ..Gateways::default() }
    };
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.9.9.9", "[::]"] {
        assert!(through(host, port).looping(&doors).is_some(), "{host}");
        assert!(through(host, port ^ 1).looping(&doors).is_none(), "{host}");
    }
    assert!(through("proxy.example", port).looping(&doors).is_none());
    assert!(through("192.0.2.1", port).looping(&doors).is_none());
}
