//! Known ways around the rest of a rule: paths, methods, ports.

use super::super::{Code, Denial, DomainMatch, Host, Intent, Method, Scheme, quoted};
use super::{ask, decide, policy};

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

/// The remedy that a client is told, word for word.
#[test]
fn a_denial_says_what_would_permit_it() {
    for (method, url, remedy) in [
        ("post", "https://Api.example.com/x?token=1", "method=POST domain=api.example.com path=/x"),
        ("GET", "http://a.com", "method=GET domain=a.com path=/"),
        ("GET", "http://a.com:443/", "method=GET domain=a.com port=443 path=/"),
        ("GET", "https://a.com:8443/b/", "method=GET domain=a.com port=8443 path=/b/"),
        ("GET", "https://a.com/b,c/*", "method=GET domain=a.com path=/b%2Cc/%2A"),
        ("GET", "http://169.254.169.254/x", "method=GET host=169.254.169.254 path=/x"),
        ("GET", "http://[::1]/", "method=GET host=[::1] path=/"),
        ("", "tcp://git.com:22", "proto=tcp host=git.com port=22"),
        ("", "tls://[2001:db8::1]:443", "proto=tls host=[2001:db8::1] port=443"),
    ] {
        let denial = decide("domain=other.com", method, url).unwrap_err();
        assert_eq!(denial.remedy().as_deref(), Some(remedy));
    }
}

#[test]
fn a_quoted_rule_is_one_word_in_which_a_shell_expands_nothing() {
    for (rule, word) in [
        ("domain=a.com path=/x", "'domain=a.com path=/x'"),
        ("path=/$(id)`id`", "'path=/$(id)`id`'"),
        ("path=/'$(id)'", r"'path=/'\''$(id)'\'''"),
        ("", "''"),
    ] {
        assert_eq!(quoted(rule), word);
    }
}

#[test]
fn a_refused_address_is_named_in_the_remedy() {
    let permit = decide("domain=a.com", "GET", "https://a.com/x").unwrap();
    let denial = permit.admits([127, 0, 0, 1].into()).unwrap_err();
    let remedy = denial.remedy();
    assert_eq!(remedy.as_deref(), Some("method=GET host=a.com,127.0.0.1 path=/x"));
}

#[test]
fn what_no_rule_can_permit_has_no_remedy() {
    let intent = ask("GET", "https://a.com/").unwrap();
    for code in Code::ALL {
        let is_for_rules = matches!(
            code,
            Code::NoRule
                | Code::Declined
                | Code::AddressRefused
                | Code::UnclearProtocol
                | Code::HandshakeFailed
        );
        assert_eq!(Denial::of(code, intent.clone()).remedy().is_some(), is_for_rules, "{code:?}");
        assert_eq!(Denial::new(code).remedy(), None, "{code:?}");
    }
    let nowhere = Intent::stream(Scheme::Tcp, Host::parse("a.com").unwrap(), 0);
    assert_eq!(Denial::of(Code::NoRule, nowhere).remedy(), None);
}

/// The URL of the record and the `Host` header.
#[test]
fn an_intent_says_where_it_goes() {
    for (url, with_query, authority) in [
        ("https://A.com/x?y=1", "https://a.com/x?y=1", "a.com"),
        ("http://a.com:443", "http://a.com:443/", "a.com:443"),
        ("https://[::1]:8443/", "https://[::1]:8443/", "[::1]:8443"),
        ("tcp://git.com:22", "tcp://git.com:22", "git.com:22"),
        ("tls://pin.com:443", "tls://pin.com:443", "pin.com:443"),
    ] {
        let intent = ask("GET", url).unwrap();
        assert_eq!(intent.url(true), with_query);
        assert_eq!(intent.url(false), with_query.split('?').next().unwrap());
        assert_eq!(intent.authority(), authority);
    }
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
        let passes = |scheme, host, port| {
            let stream = Intent::stream(scheme, Host::parse(host).unwrap(), port);
            rules.decide(stream).is_ok()
        };
        assert!(passes(Scheme::Tcp, "git.com", 22) && !passes(Scheme::Tls, "git.com", 22));
        assert!(!passes(Scheme::Tcp, "git.com", 443) && !passes(Scheme::Tls, "git.com", 443));
        assert!(passes(Scheme::Tls, "x.pin.com", 443) && !passes(Scheme::Tcp, "x.pin.com", 443));
        assert!(!passes(Scheme::Tls, "a.com", 443) && !passes(Scheme::Tcp, "a.com", 443));
    }
}
