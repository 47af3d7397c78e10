//! Known ways around the host of a rule: other spellings, other names, other addresses.

use std::net::IpAddr;

use super::super::{Code, DomainMatch, Host, Intent, Scheme, Unclear};
use super::{ask, decide, policy};

macro_rules! same_host {
    ($($name:ident: $text:expr => $canonical:literal;)*) => {$(
        #[test]
        fn $name() {
            let host = Host::parse($text).unwrap();
            assert_eq!(host.to_string(), $canonical);
            assert_eq!(Host::parse($canonical).unwrap(), host);
            assert_eq!(Host::parse(&host.bare()).unwrap(), host);
        }
    )*};
}

macro_rules! no_host {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            assert_eq!(Host::parse($text), Err(Unclear::Host));
        }
    )*};
}

mod one_host_has_one_spelling {
    use super::*;

    same_host! {
        case: "GitHub.COM" => "github.com";
        trailing_dot: "github.com." => "github.com";
        underscore: "_dmarc.My_Host.local" => "_dmarc.my_host.local";
        idn: "Bücher.example" => "xn--bcher-kva.example";
        a_label_in_capitals: "XN--BCHER-KVA.example" => "xn--bcher-kva.example";
        homoglyph_stays_another: "gіthub.com" => "xn--gthub-n2e.com";
        fullwidth: "ＧＩＴＨＵＢ．com" => "github.com";
        ideographic_stop: "github。com" => "github.com";
        soft_hyphen: "git\u{ad}hub.com" => "github.com";
        hyphens_in_third_place: "r3---sn-x.example" => "r3---sn-x.example";
        hex: "0x7f000001" => "127.0.0.1";
        hex_parts: "0X7F.0x0.0.1" => "127.0.0.1";
        hex_of_nothing: "0x" => "0.0.0.0";
        octal: "0177.0.0.1" => "127.0.0.1";
        decimal: "2130706433" => "127.0.0.1";
        two_parts: "127.1" => "127.0.0.1";
        three_parts: "127.0.1" => "127.0.0.1";
        short_private: "10.258" => "10.0.1.2";
        zero: "0" => "0.0.0.0";
        address_with_a_dot: "127.0.0.1." => "127.0.0.1";
        fullwidth_address: "１２７。０．０.１" => "127.0.0.1";
        v6: "[2001:DB8:0:0::1]" => "[2001:db8::1]";
        v6_bare: "::1" => "[::1]";
        v6_mapped: "[::ffff:127.0.0.1]" => "127.0.0.1";
        v6_mapped_hex: "[0:0:0:0:0:ffff:7f00:1]" => "127.0.0.1";
        number_in_front: "1e100.net" => "1e100.net";
        digits_in_front: "10.example" => "10.example";
    }
}

mod not_a_host {
    use super::*;

    no_host! {
        empty: "";
        dot: ".";
        two_dots: "a..com";
        leading_dot: ".a.com";
        trailing_dots: "a.com..";
        userinfo: "allowed.com@evil.com";
        userinfo_with_password: "allowed:x@attacker";
        nul: "attacker\0.google.com";
        encoded_nul: "attacker%00.google.com";
        space: "a b.com";
        leading_space: " a.com";
        tab: "a.com\t";
        newline: "a.com\n";
        slash: "a.com/b";
        fullwidth_slash: "a.com／b";
        backslash: "a.com\\b";
        hash: "a.com#b";
        question: "a.com?b";
        percent: "%61.com";
        comma: "a.com,b.com";
        star: "*.com";
        port: "a.com:80";
        delete: "a\u{7f}.com";
        unassigned: "a\u{378}.com";
        bad_punycode: "xn--a.com";
        punycode_of_ascii: "xn--github-.com";
        leading_hyphen: "-a.com";
        trailing_hyphen: "a-.com";
        long_label: &"a".repeat(64);
        long_name: &["a"; 128].join(".");
        five_numbers: "1.2.3.4.5";
        five_numbers_and_a_zero: "1.2.3.4.0.0";
        five_numbers_with_a_zero: "1.2.3.4.0";
        octet_too_large: "256.0.0.1";
        last_too_large: "127.0.0.256";
        decimal_too_large: "4294967296";
        not_octal: "08.0.0.1";
        number_at_the_end: "example.1";
        hex_at_the_end: "example.0x1";
        v6_zone: "[fe80::1%eth0]";
        v6_encoded_zone: "[fe80::1%25eth0]";
        v6_zone_bare: "fe80::1%eth0";
        v6_unclosed: "[::1";
        v6_port_inside: "[::1:]";
        v4_in_brackets: "[127.0.0.1]";
        name_in_brackets: "[a.com]";
        v6_then_more: "[::1]x";
    }
}

#[test]
fn an_authority_has_one_host_and_a_real_port() {
    let read = |text| Host::parse_authority(text).map(|(host, port)| (host.to_string(), port));
    assert_eq!(read("A.com"), Ok(("a.com".to_owned(), None)));
    assert_eq!(read("a.com:8080"), Ok(("a.com".to_owned(), Some(8080))));
    assert_eq!(read("a.com:"), Ok(("a.com".to_owned(), None)));
    assert_eq!(read("[::1]:80"), Ok(("[::1]".to_owned(), Some(80))));
    assert_eq!(read("[::1]"), Ok(("[::1]".to_owned(), None)));
    for text in [
        "a.com:0",
        "a.com:65536",
        "a.com:65537",
        "a.com:+80",
        "a.com:000080",
        "a.com:-1",
        "a.com:80x",
        "a.com: 80",
        "a.com:80:80",
        "::1",
        "::1:80",
        "[::1]80",
        "[::1",
        "u:p@a.com",
        "u:80@a.com:80",
        ":80",
        "",
    ] {
        assert_eq!(read(text), Err(Unclear::Host), "{text}");
    }
}

/// Addresses that a name must not lead to unasked, and some that it may.
mod addresses {
    use super::*;

    const GUARDED: [&str; 36] = [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "febf::1",
        "224.0.0.1",
        "239.255.255.255",
        "ff02::1",
        "255.255.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "::ffff:0.0.0.0",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "fd00:100::100:200",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "2002:6464:64c8::",
    ];

    const FREE: [&str; 14] = [
        "10.0.0.7",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fd00::1",
        "1.1.1.1",
        "198.17.0.1",
        "198.20.0.1",
        "169.253.0.1",
        "2001:db8::1",
        "64:ff9b::a00:7",
        "2002:a00:7::1",
        "223.0.0.1",
        "fec0::1",
    ];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_does_not_lead_to_a_guarded_address() {
        for rule in ["domain=*", "method=GET", "domain=a.com", "host=a.com"] {
            let permit = decide(rule, "GET", "https://a.com/").unwrap();
            for guarded in GUARDED {
                let denial = permit.admits(address(guarded)).expect_err(guarded);
                assert_eq!(denial.code, Code::AddressRefused);
            }
        }
    }

    #[test]
    fn a_name_leads_to_private_and_public_addresses() {
        let permit = decide("domain=a.com", "GET", "https://a.com/").unwrap();
        for free in FREE {
            assert_eq!(permit.admits(address(free)), Ok(()), "{free}");
        }
    }

    #[test]
    fn a_name_leads_to_an_address_that_its_rule_names() {
        let permit = decide("host=a.com,127.0.0.1,[::1]", "GET", "https://a.com/").unwrap();
        for named in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(permit.admits(address(named)), Ok(()), "{named}");
        }
        assert!(permit.admits(address("127.0.0.2")).is_err());
        assert!(permit.admits(address("64:ff9b::127.0.0.1")).is_err());
    }

    #[test]
    fn the_order_of_rules_does_not_matter_to_an_address() {
        let rules = "domain=* ; domain=a.com ; method=GET domain=a.com,169.254.169.254";
        let permit = decide(rules, "GET", "https://a.com/").unwrap();
        assert_eq!(permit.rule(), "domain=*");
        assert_eq!(permit.admits(address("169.254.169.254")), Ok(()));
        let permit = decide(rules, "POST", "https://a.com/").unwrap();
        assert!(permit.admits(address("169.254.169.254")).is_err());
    }

    #[test]
    fn localhost_leads_to_loopback_if_it_is_named() {
        for (rule, url) in [
            ("domain=localhost", "http://localhost:8080/"),
            ("domain=localhost", "http://app.localhost/"),
            ("domain=*.localhost", "http://app.localhost/"),
            ("host=localhost", "http://LOCALHOST./"),
        ] {
            let permit = decide(rule, "GET", url).unwrap();
            assert_eq!(permit.admits(address("127.0.0.1")), Ok(()), "{rule}");
            assert_eq!(permit.admits(address("::1")), Ok(()), "{rule}");
            assert!(permit.admits(address("169.254.169.254")).is_err(), "{rule}");
        }
    }

    #[test]
    fn a_wildcard_does_not_name_localhost() {
        for rule in ["domain=*", "method=GET", "path=*"] {
            for url in ["http://localhost/", "http://x.localhost/"] {
                let denial = decide(rule, "GET", url).unwrap_err();
                assert_eq!(denial.code, Code::AddressRefused, "{rule} {url}");
            }
        }
        assert!(decide("domain=*", "GET", "http://notlocalhost/").is_ok());
    }

    #[test]
    fn a_guarded_address_is_reached_only_by_its_name() {
        for guarded in GUARDED {
            let url = format!("http://{}/", Host::from(address(guarded)));
            let denial = decide("domain=*", "GET", &url).unwrap_err();
            assert_eq!(denial.code, Code::AddressRefused, "{guarded}");
            let denial = decide("domain=a.com", "GET", &url).unwrap_err();
            assert_eq!(denial.code, Code::NoRule, "{guarded}");
            let permit = decide(&format!("host={guarded}"), "GET", &url).unwrap();
            assert_eq!(permit.admits(address(guarded)), Ok(()), "{guarded}");
        }
        assert!(decide("domain=127.0.0.1", "GET", "http://127.1/").is_ok());
        assert!(decide("domain=*", "GET", "http://10.0.0.7/").is_ok());
    }

    #[test]
    fn a_mapped_address_is_unwrapped_whoever_wrote_it() {
        let host = Host::Address(address("::ffff:127.0.0.1"));
        let intent = Intent::stream(Scheme::Tcp, host.clone(), 22);
        assert_eq!(intent.host(), &Host::Address(address("127.0.0.1")));
        let intent = Intent::http(Scheme::Http, "GET", host, 80, "/").unwrap();
        let rules = policy("domain=* ; proto=tcp port=22", DomainMatch::Subdomains).unwrap();
        assert_eq!(rules.decide(intent).unwrap_err().code, Code::AddressRefused);
    }

    #[test]
    fn an_address_is_reached_nowhere_else() {
        let permit = decide("domain=*", "GET", "http://10.0.0.7/").unwrap();
        assert_eq!(permit.admits(address("::ffff:10.0.0.7")), Ok(()));
        assert!(permit.admits(address("10.0.0.8")).is_err());
    }
}

#[test]
fn a_suffix_without_a_dot_is_another_host() {
    for (rule, host) in [
        ("domain=example.com", "evilexample.com"),
        ("domain=*.example.com", "evilexample.com"),
        ("domain=*.example.com", "evil.example.com.evil.com"),
        ("domain=github.com", "github.com.evil.com"),
        ("domain=github.com", "github.com-evil.com"),
        ("domain=a.*.com", "ba.x.com"),
        ("domain=localhost", "evillocalhost"),
    ] {
        for reading in [DomainMatch::Subdomains, DomainMatch::Exact] {
            let rules = policy(rule, reading).unwrap();
            let url = format!("https://{host}/");
            let denial = rules.decide(ask("GET", &url).unwrap()).unwrap_err();
            assert_eq!(denial.code, Code::NoRule, "{rule} {host}");
        }
    }
}

#[test]
fn a_name_is_worth_an_answer_if_any_rule_covers_it() {
    let rules =
        "method=POST domain=a.com path=/x ; proto=tcp host=git.com port=22 ; domain=*.b.com";
    let rules = policy(rules, DomainMatch::Subdomains).unwrap();
    for (host, covered) in [
        ("a.com", true),
        ("x.a.com", true),
        ("git.com", true),
        ("x.git.com", false),
        ("b.com", false),
        ("x.b.com", true),
        ("c.com", false),
    ] {
        assert_eq!(rules.names_host(&Host::parse(host).unwrap()), covered, "{host}");
    }
}
