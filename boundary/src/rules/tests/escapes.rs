//! Known ways around a rule, a table each.

use std::net::IpAddr;

use super::super::{Code, DomainMatch, Host, Intent, Method, Scheme, Unclear};
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

macro_rules! sent_as {
    ($($name:ident: $target:expr => $sent:literal;)*) => {$(
        #[test]
        fn $name() {
            assert_eq!(sent($target), Ok($sent.to_owned()));
            assert_eq!(sent($sent), Ok($sent.to_owned()));
        }
    )*};
}

macro_rules! unsent {
    ($($name:ident: $target:expr => $code:ident;)*) => {$(
        #[test]
        fn $name() {
            assert_eq!(sent($target), Err(Code::$code));
        }
    )*};
}

/// What goes upstream for a target.
fn sent(target: &str) -> Result<String, Code> {
    let host = Host::parse("a.com").unwrap();
    Intent::http(Scheme::Https, "GET", host, 443, target)
        .map(|intent| intent.path_and_query().unwrap())
        .map_err(|denial| denial.code)
}

mod one_path_has_one_spelling {
    use super::*;

    sent_as! {
        empty: "" => "/";
        query_alone: "?q" => "/?q";
        root: "/" => "/";
        dots: "/public/../secret" => "/secret";
        encoded_dots: "/public/%2e%2e/secret" => "/secret";
        half_encoded_dots: "/public/.%2E/%2e/secret" => "/secret";
        above_the_root: "/../../etc" => "/etc";
        dots_at_the_end: "/a/b/.." => "/a/";
        dot_at_the_end: "/a/." => "/a/";
        dots_to_the_root: "/a/.." => "/";
        three_dots: "/.../x" => "/.../x";
        dot_file: "/.git/..x" => "/.git/..x";
        two_slashes: "//a//b" => "//a//b";
        two_slashes_and_dots: "/a//../b" => "/a/b";
        parameter: "/a;x=1/b;" => "/a;x=1/b;";
        encoded_slash: "/@scope%2fpkg" => "/@scope%2Fpkg";
        encoded_backslash: "/a%5cb" => "/a%5Cb";
        encoded_dot_file: "/group%2F.github" => "/group%2F.github";
        unreserved: "/%7Euser/%41%2Dz" => "/~user/A-z";
        reserved_stays: "/%40a/%3B%2c" => "/%40a/%3B%2C";
        hex_case: "/%c3%a9" => "/%C3%A9";
        percent: "/100%25" => "/100%25";
        twice_encoded_blank: "/a%2520b" => "/a%2520b";
        visible_but_illegal: "/a[0]|{b}\"<c>^`" => "/a%5B0%5D%7C%7Bb%7D%22%3Cc%3E%5E%60";
        query_is_not_touched: "/a?../%2e%2e//\\&x=%zz|[1]?" => "/a?../%2e%2e//\\&x=%zz|[1]?";
        empty_query: "/a?" => "/a?";
    }
}

mod no_path_has_two_meanings {
    use super::*;

    unsent! {
        encoded_slash_after_dots: "/public/..%2fsecret" => AmbiguousPath;
        all_encoded: "/public/%2e%2e%2fsecret" => AmbiguousPath;
        dots_between_encoded_slashes: "/public/x%2F..%2F..%2Fsecret" => AmbiguousPath;
        dot_before_an_encoded_slash: "/.%2Fsecret" => AmbiguousPath;
        dots_after_an_encoded_slash: "/x%2F.." => AmbiguousPath;
        raw_backslash: "/public\\..\\secret" => AmbiguousPath;
        encoded_backslash_and_dots: "/public/..%5csecret" => AmbiguousPath;
        dots_and_a_parameter: "/public/..;/secret" => AmbiguousPath;
        dots_and_a_named_parameter: "/public/..;x=y/secret" => AmbiguousPath;
        encoded_dots_and_a_parameter: "/public/%2e%2e;x/secret" => AmbiguousPath;
        dot_and_a_parameter: "/public/.;x/secret" => AmbiguousPath;
        dots_and_an_encoded_parameter: "/public/..%3bx/secret" => AmbiguousPath;
        dots_and_a_blank: "/public/..%20/secret" => AmbiguousPath;
        dots_twice_encoded: "/public/%252e%252e/secret" => AmbiguousPath;
        dot_twice_encoded: "/public/.%252e/secret" => AmbiguousPath;
        slash_twice_encoded: "/a%252Fb" => AmbiguousPath;
        backslash_twice_encoded: "/a%255cb" => AmbiguousPath;
        slash_three_times_encoded: "/a%25252fb" => AmbiguousPath;
        percent_encoded_by_digits: "/a%25%32%66b" => AmbiguousPath;
        percent_split_across_layers: "/a%25%2532fb" => AmbiguousPath;
        nine_times_encoded: "/a%2525252525252525252541" => AmbiguousPath;
        nul: "/a%00.png" => AmbiguousPath;
        nul_twice_encoded: "/a%2500.png" => AmbiguousPath;
        overlong_dots: "/public/%c0%ae%c0%ae/secret" => AmbiguousPath;
        overlong_slash: "/public/..%c0%afsecret" => AmbiguousPath;
        overlong_in_three: "/public/%e0%80%ae/secret" => AmbiguousPath;
        percent_alone: "/100%" => BadRequest;
        percent_and_one_digit: "/a%2" => BadRequest;
        percent_and_no_digits: "/a%zz" => BadRequest;
        percent_u: "/%u002e%u002e/secret" => BadRequest;
        no_slash: "a/b" => BadRequest;
        absolute_form: "https://b.com/x" => BadRequest;
        space: "/a b" => BadRequest;
        tab: "/a\tb" => BadRequest;
        newline: "/a\nb" => BadRequest;
        escape: "/a\u{1b}b" => BadRequest;
        delete: "/a\u{7f}b" => BadRequest;
        raw_unicode: "/é" => BadRequest;
        fragment: "/a#b" => BadRequest;
        fragment_in_query: "/a?b#c" => BadRequest;
        space_in_query: "/a?b c" => BadRequest;
        newline_in_query: "/a?b\r\nX: y" => BadRequest;
        unicode_in_query: "/a?é" => BadRequest;
        star_for_get: "*" => BadRequest;
    }
}

#[test]
fn deep_encoding_costs_little() {
    let nested = format!("/%{}", "25".repeat(30_000));
    assert_eq!(sent(&nested), Err(Code::AmbiguousPath));
}

mod a_method_is_what_it_says {
    use super::*;

    fn code(rule: &str, method: &str) -> Result<(), Code> {
        decide(rule, method, "https://a.com/x").map(drop).map_err(|denial| denial.code)
    }

    #[test]
    fn get_does_not_imply_head() {
        assert_eq!(code("method=GET", "HEAD"), Err(Code::NoRule));
    }

    #[test]
    fn case_makes_no_other_method() {
        assert_eq!(code("method=GET", "get"), Ok(()));
        assert_eq!(code("method=get", "gEt"), Ok(()));
        let intent = ask("pAtCh", "https://a.com/").unwrap();
        assert_eq!(intent.method().map(Method::as_str), Some("PATCH"));
    }

    #[test]
    fn trace_and_connect_are_methods_like_others() {
        for method in ["TRACE", "CONNECT", "M-SEARCH", "PURGE"] {
            assert_eq!(code("method=GET,POST", method), Err(Code::NoRule), "{method}");
            assert_eq!(code(&format!("method={method}"), method), Ok(()), "{method}");
        }
    }

    #[test]
    fn what_is_no_token_is_no_method() {
        for method in
            ["", "*", "GET ", " GET", "GE T", "GET\0", "GET\r\n", "GÉT", "GET/", "GET,POST"]
        {
            assert_eq!(code("method=*", method), Err(Code::BadMethod), "{method:?}");
        }
    }

    #[test]
    fn options_may_ask_the_whole_server() {
        let host = Host::parse("a.com").unwrap();
        let ask = || Intent::http(Scheme::Http, "OPTIONS", host.clone(), 80, "*").unwrap();
        assert_eq!(ask().path_and_query().as_deref(), Some("*"));
        assert_eq!(ask().url(true), "http://a.com");
        for (rule, granted) in
            [("path=*", true), ("domain=a.com", true), ("path=/*", false), ("path=/", false)]
        {
            let rules = policy(rule, DomainMatch::Subdomains).unwrap();
            assert_eq!(rules.decide(ask()).is_ok(), granted, "{rule}");
        }
    }
}

mod a_port_is_part_of_the_rule {
    use super::*;

    macro_rules! granted {
        ($($name:ident($rule:literal, $url:literal) = $granted:literal;)*) => {$(
            #[test]
            fn $name() {
                assert_eq!(decide($rule, "GET", $url).is_ok(), $granted);
            }
        )*};
    }

    granted! {
        any_port_for_http("domain=a.com", "http://a.com:8080/") = true;
        named_port("domain=a.com port=443", "https://a.com/") = true;
        other_port("domain=a.com port=443", "https://a.com:8443/") = false;
        plain_http_is_port_80("domain=a.com port=443", "http://a.com/") = false;
        inside_a_range("port=1024-2048", "https://a.com:2048/") = true;
        outside_a_range("port=1024-2048", "https://a.com:2049/") = false;
        one_of_a_list("port=80,8000-8999", "https://a.com:8443/") = true;
        http_rule_is_not_for_tcp("domain=a.com", "tcp://a.com:22") = false;
        http_rule_is_not_for_closed_tls("domain=a.com", "tls://a.com:443") = false;
        tcp_rule("proto=tcp domain=a.com port=22", "tcp://a.com:22") = true;
        tcp_rule_on_another_port("proto=tcp domain=a.com port=22", "tcp://a.com:23") = false;
        tcp_rule_is_not_for_http("proto=tcp domain=a.com port=443", "https://a.com/") = false;
        tls_rule("proto=tls domain=a.com", "tls://www.a.com:443") = true;
        tls_rule_is_not_for_https("proto=tls domain=a.com", "https://a.com/") = false;
        tls_rule_is_not_for_tcp("proto=tls domain=a.com", "tcp://a.com:443") = false;
        domain_and_host_both_hold("domain=a.com host=x.a.com", "https://x.a.com/") = true;
        domain_and_host_disagree("domain=a.com host=b.com", "https://b.com/") = false;
        host_has_no_subdomains("host=a.com", "https://x.a.com/") = false;
        host_in_another_spelling("host=0x0A.0.0.7", "https://10.7/") = true;
        mapped_address_is_the_address("host=10.0.0.7", "https://[::ffff:10.0.0.7]/") = true;
    }

    #[test]
    fn a_connection_may_pass_unopened_only_by_its_own_rule() {
        let rules = "proto=tcp host=git.com port=22 ; proto=tls domain=pin.com ; domain=a.com";
        let rules = policy(rules, DomainMatch::Subdomains).unwrap();
        let unopened = |host, port| rules.unopened(&Host::parse(host).unwrap(), port);
        assert_eq!(unopened("git.com", 22), Some(Scheme::Tcp));
        assert_eq!(unopened("git.com", 443), None);
        assert_eq!(unopened("x.pin.com", 443), Some(Scheme::Tls));
        assert_eq!(unopened("a.com", 443), None);
    }
}

/// Addresses that a name must not lead to unasked, and some that it may.
mod addresses {
    use super::*;

    const GUARDED: [&str; 31] = [
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
