//! What parses, what does not, and what the message says.

use serde::Deserialize as _;

use super::super::Rule;
use super::{DomainMatch, Verdict, verdict};

fn accepts(rule: &str) {
    if let Err(mistake) = rule.parse::<Rule>() {
        panic!("{rule:?}: {mistake}");
    }
}

fn refuses(rule: &str, column: usize, hint: &str) {
    let mistake = rule.parse::<Rule>().expect_err(rule);
    assert_eq!(mistake.column, column, "{rule:?}: {mistake}");
    assert!(mistake.what.contains(hint), "{rule:?}: {mistake}");
}

macro_rules! accepted {
    ($($name:ident($rule:literal);)*) => {$(
        #[test]
        fn $name() {
            accepts($rule);
        }
    )*};
}

macro_rules! refused {
    ($($name:ident($rule:expr, $column:literal, $hint:literal);)*) => {$(
        #[test]
        fn $name() {
            refuses($rule, $column, $hint);
        }
    )*};
}

mod accepted {
    use super::accepts;

    accepted! {
        method("method=GET");
        domain("domain=google.com");
        path("path=/api/v1");
        method_and_domain("method=POST domain=api.example.com");
        three("method=DELETE domain=test.com path=/resources/456");
        wildcard("domain=*.example.com");
        inner_wildcard_path("path=/api/*/users");
        any_method("method=*");
        path_list("domain=jsonplaceholder.typicode.com path=/api/v1,/api/v2");
        wildcard_path_list("path=/api/v1/*,/api/v2/*");
        every_token_byte("method=!#$%&'*+-.^_`|~");
        v4("domain=192.168.1.1");
        hyphens("domain=my-site.example-domain.co.uk");
        case("domain=Example.COM");
        two_wildcard_labels("domain=*.*.com");
        label_starts_with_a_digit("domain=1test.example");
        trailing_dot("domain=example.com.");
        unicode("domain=bücher.example,*.bücher.example,a.*.bücher.example");
        ideographic_stops("domain=*。example。com");
        escaped_blank("path=/hello%20world");
        sub_delimiters("path=/!$&'()+;=");
        colon_and_at("path=/user:password@domain,/host:8080/status");
        assignment("path=/filter='test'&sort=name");
        trailing_slash("path=/api/users/");
        many_stars("path=/*/v1/*/profile");
        tilde("path=/api/~user/docs~backup");
        unicode_path("path=/café");
        escaped_star_and_comma("path=/a%2Ab%2Cc");
        hosts("host=10.0.0.7,[::1],::1,example.com,0x7f.1");
        ports("port=443,1024-2048,1-65535");
        protos("proto=http domain=a.com");
        tls("proto=tls domain=pinned.example.com");
        tcp("proto=tcp host=git.example.com port=22");
        any_order("port=22 domain=git.example.com proto=tcp");
        blanks("  method=GET \t domain=a.com\r\n");
        domain_and_host("domain=github.com host=api.github.com");
    }
}

mod refused {
    use super::refuses;

    refused! {
        nothing("", 1, "domain=*");
        blank(" \t ", 1, "domain=*");
        wildcards_alone("method=* domain=*.* path=/*/", 17, "cannot end in `*`");
        unknown_key("invalid=value", 1, "keys are method, domain");
        unknown_key_later("domain=a.com deny=b.com", 14, "`deny` is not a key");
        no_value("method=", 8, "missing");
        no_method("method=@invalid", 8, "not a method");
        method_and_more("method=GET@test", 8, "not a method");
        method_with_a_parameter("method=GET;charset", 8, "not a method");
        leading_hyphen("domain=-invalid.com", 8, "not a host");
        trailing_hyphen("domain=invalid-.com", 8, "not a host");
        inner_trailing_hyphen("domain=test.invalid-.com", 8, "not a host");
        empty_label("domain=test..com", 8, "not a host");
        dot_alone("domain=.", 8, "not a host");
        star_at_the_end("domain=github.*", 8, "cannot end in `*`");
        star_in_a_label("domain=a*.com", 8, "whole label");
        star_over_an_address("domain=*.0.0.1", 8, "no subdomains");
        port_in_domain("domain=github.com:8080", 8, "domain=github.com port=8080");
        port_in_host("host=github.com:8080", 6, "host=github.com port=8080");
        path_in_domain("domain=example.org/path", 8, "domain=example.org path=/path");
        scheme_in_domain("domain=https://a.com", 8, "write `domain=a.com`");
        scheme_and_path_in_domain("domain=https://a.com/x", 8, "domain=a.com path=/x");
        userinfo_in_domain("domain=test@example.com", 8, "not a host");
        v6_in_domain("domain=[::1]", 8, "host=[::1]");
        v6_with_a_zone("host=[fe80::1%25eth0]", 6, "not a host");
        no_address("host=1.2.3.4.5", 6, "not a host");
        number_too_large("host=256.256.256.256", 6, "not a host");
        nul_in_host("host=a\0b.com", 6, "not a host");
        star_in_host("host=*.example.com", 6, "`domain=`");
        bare_domain("github.com", 1, "domain=github.com");
        bare_word("method=GET please", 12, "key=value");
        upper_case_key("Domain=a.com", 1, "domain=");
        list_ends_early("path=/a,", 9, "empty element");
        list_starts_late("path=,/a", 6, "empty element");
        list_has_a_hole("domain=a.com,,b.com", 14, "empty element");
        blank_after_comma("domain=a.com, b.com", 14, "empty element");
        domain_twice("domain=a.com domain=b.com", 14, "domain=a,b");
        host_twice("host=a.com host=b.com", 12, "host=a,b");
        port_twice("port=1 port=2", 8, "port=a,b");
        proto_twice("proto=tls proto=tls", 11, "a rule for each");
        second_of_a_list("domain=a.com,b_.com-", 14, "not a host");
        column_counts_characters("domain=bücher.example path=/a?b", 28, "query");
        query("path=/api/users?limit=10", 6, "query");
        fragment("path=/docs/api#authentication", 6, "fragment");
        half_an_escape("path=/test%2", 6, "%25");
        no_escape("path=/test%ZZ", 6, "%25");
        star_before_text("path=/*abc", 6, "whole segment");
        star_after_text("path=/user*", 6, "%2A");
        dot_segment("path=/a/../b", 6, "dot segments");
        encoded_dot_segment("path=/a/%2e%2E", 6, "dot segments");
        backslash("path=/a\\b", 6, "%5C");
        twice_encoded("path=/a%252fb", 6, "more than one meaning");
        control("path=/a\u{1}b", 6, "control");
        port_zero("port=0", 6, "1 to 65535");
        port_too_large("port=65537", 6, "1 to 65535");
        port_signed("port=+80", 6, "1 to 65535");
        port_name("port=https", 6, "1 to 65535");
        port_star("port=*", 6, "1-65535");
        range_backwards("port=20-10", 6, "10-20");
        range_open("port=1024-", 6, "range like");
        unknown_proto("proto=udp", 7, "`tcp`");
        proto_list("proto=tls,tcp port=1", 7, "not one of");
        tcp_without_a_port("domain=a.com proto=tcp", 14, "port=22");
        tcp_with_a_method("method=GET proto=tcp port=1", 1, "no method");
        tls_with_a_path("proto=tls path=/x", 11, "no path");
    }
}

#[test]
fn a_rule_keeps_its_text() {
    let rule: Rule = "  method=get   domain=A.com \n".parse().unwrap();
    assert_eq!(rule.as_str(), "method=get   domain=A.com");
    assert_eq!(rule.to_string(), rule.as_str());
}

#[test]
fn a_star_of_the_path_is_written_escaped() {
    for url in ["https://a.com/a*b,c", "https://a.com/a%2ab%2Cc"] {
        let verdict = verdict("path=/a%2Ab%2cc", "GET", url, DomainMatch::Exact);
        assert_eq!(verdict, Verdict::Allow, "{url}");
    }
}

#[test]
fn digits_after_another_character_are_no_escape() {
    let verdict = verdict("path=/a2Cb%20", "GET", "https://a.com/,b%20", DomainMatch::Exact);
    assert_eq!(verdict, Verdict::Deny);
}

#[derive(Debug, serde::Deserialize)]
struct Policy {
    allowlist: Vec<Rule>,
}

#[test]
fn a_mistake_in_a_file_has_its_line() {
    let text = "allowlist:\n  - domain=a.com\n  - domain=b.com:80\n";
    let error = serde_yaml::from_str::<Policy>(text).unwrap_err();
    assert_eq!(error.location().map(|place| place.line()), Some(3), "{error}");
    assert!(error.to_string().contains("column 8: a domain has no port"), "{error}");
}

#[test]
fn a_rule_in_a_file_is_a_string() {
    let policy: Policy = serde_yaml::from_str("allowlist: [domain=a.com]").unwrap();
    assert_eq!(policy.allowlist, ["domain=a.com".parse().unwrap()]);
    let number = serde_yaml::Value::from(7);
    assert!(Rule::deserialize(number).is_err());
}
