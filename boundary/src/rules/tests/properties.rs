//! What holds for every input.

use proptest::prelude::*;

use super::super::pattern::Domain;
use super::super::{Code, Denial, DomainMatch, Host, Intent, Method, Rule, RuleSet, Scheme};

/// Text made of what parsers stumble over.
fn tricky() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9._:@%/\\\\;,*?#=\\[\\] -]{0,40}",
        "(/|%2[fF]|%5[cC]|%25|\\.|%2[eE]|;|a|%00|%c0%ae|\\*|,|@|%40){0,16}",
    ]
}

/// Targets that often parse.
fn target() -> impl Strategy<Value = String> {
    "(/|/a|/\\.\\.|/%2e|/b%2[fF]c|/%41|/%2C|/x\\*|/,|/@|/;p|/%E9|//|/\\[){0,8}(\\?[a-z=&%/]{0,8})?"
}

/// Hosts that often parse.
fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "([a-cA-C_ü-]{1,3}\\.){0,4}[a-c]{1,3}\\.?",
        "(0x)?[0-9]{1,3}(\\.(0x)?[0-7]{1,3}){0,3}",
        any::<std::net::Ipv6Addr>().prop_map(|v6| format!("[{v6}]")),
        Just("localhost".to_owned()),
    ]
}

fn intent() -> impl Strategy<Value = Intent> {
    let method = prop_oneof![Just("GET".to_owned()), "[A-Za-z!#*-]{1,8}"];
    let scheme =
        prop_oneof![Just(Scheme::Http), Just(Scheme::Https), Just(Scheme::Tls), Just(Scheme::Tcp)];
    (scheme, method, host(), 1_u16.., target()).prop_filter_map(
        "not an intent",
        |(scheme, method, host, port, target)| {
            let host = Host::parse(&host).ok()?;
            match scheme {
                Scheme::Http | Scheme::Https => {
                    Intent::http(scheme, &method, host, port, &target).ok()
                }
                Scheme::Tls | Scheme::Tcp => Some(Intent::stream(scheme, host, port)),
            }
        },
    )
}

fn readings() -> impl Strategy<Value = DomainMatch> {
    prop_oneof![Just(DomainMatch::Subdomains), Just(DomainMatch::Exact)]
}

/// Rules over a small world, so that they often agree with an intent.
fn rule() -> impl Strategy<Value = Rule> {
    let domain = prop_oneof![
        Just(String::new()),
        Just(" domain=*".to_owned()),
        " domain=([ab*]\\.){0,2}[ab](,[ab])?",
        " host=[ab](\\.[ab])?(,127\\.0\\.0\\.1)?",
        " domain=\\*\\.[ab] host=[ab]\\.[ab],localhost",
    ];
    let method = prop_oneof![Just(String::new()), " method=(GET|HEAD)(,POST)?"];
    let path = prop_oneof![Just(String::new()), " path=(/[ab*]){1,2}/?"];
    (domain, method, path).prop_filter_map("not a rule", |(domain, method, path)| {
        format!("{domain}{method}{path}").parse().ok()
    })
}

fn small_intent() -> impl Strategy<Value = Intent> {
    let host = prop_oneof![
        "([ab]\\.){0,3}[ab]",
        Just("localhost".to_owned()),
        Just("127.0.0.1".to_owned())
    ];
    (host, "(GET|POST)", "(/[ab]){0,3}/?").prop_map(|(host, method, path)| {
        let host = Host::parse(&host).unwrap();
        Intent::http(Scheme::Https, &method, host, 443, &path).unwrap()
    })
}

/// The path that a careless server finds: decoded so many times, `\\` read as `/`, parameters and
/// blanks cut off, then dot segments resolved.
fn careless(path: &str, times: usize) -> Vec<String> {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..times {
        let mut decoded = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((first, after)) = rest.split_first() {
            let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            let escape =
                hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
            decoded.push(escape.unwrap_or(*first));
            rest = if escape.is_some() { &after[2..] } else { after };
        }
        bytes = decoded;
    }
    let mut found = Vec::new();
    for segment in String::from_utf8_lossy(&bytes).replace('\\', "/").split('/').skip(1) {
        match segment.split([';', '\0']).next().unwrap().trim() {
            "." => {}
            ".." => drop(found.pop()),
            other => found.push(other.to_owned()),
        }
    }
    found
}

proptest! {
    #[test]
    fn a_rule_that_misses_nothing_is_one_that_permits(
        rule in rule(),
        intent in small_intent(),
        reading in readings(),
    ) {
        let missed = rule.missed(&intent, reading);
        let permits = RuleSet::new(vec![rule], reading).decide(intent).is_ok();
        prop_assert_eq!(missed.is_empty(), permits, "{:?}", missed);
    }

    #[test]
    fn a_rule_that_covers_another_permits_all_that_it_does(
        one in rule(),
        other in rule(),
        readings in (readings(), readings()),
        intents in proptest::collection::vec(small_intent(), 16),
    ) {
        let covers = one.covers(readings.0, (&other, readings.1));
        let (one, other) =
            (RuleSet::new(vec![one], readings.0), RuleSet::new(vec![other], readings.1));
        for intent in intents {
            if covers && other.decide(intent.clone()).is_ok() {
                prop_assert!(one.decide(intent).is_ok());
            }
        }
    }

    #[test]
    fn a_rule_taken_apart_permits_the_same(
        rule in rule(),
        reading in readings(),
        intents in proptest::collection::vec(small_intent(), 16),
    ) {
        let apart = RuleSet::new(rule.atoms(), reading);
        let whole = RuleSet::new(vec![rule], reading);
        for intent in intents {
            let permits = whole.decide(intent.clone()).is_ok();
            prop_assert_eq!(permits, apart.decide(intent).is_ok());
        }
    }

    #[test]
    fn no_server_finds_the_way_out_of_a_permitted_path(
        text in "(/|/|%2[fF]|%5[cC]|%25|2[fF]|5c|2e|\\.|\\.\\.|%2[eE]|;|%3b|a|%20|%00){0,12}",
        times in 0_usize..5,
    ) {
        let rules = RuleSet::new(vec!["path=/p/q/*".parse().unwrap()], DomainMatch::default());
        let host = Host::parse("a.com").unwrap();
        let target = format!("/p/q/{text}");
        let permit = Intent::http(Scheme::Https, "GET", host, 443, &target)
            .and_then(|intent| rules.decide(intent));
        if let Ok(permit) = permit {
            let path = permit.intent().path().unwrap();
            let found = careless(path, times);
            prop_assert_eq!(&found[..2], ["p", "q"], "{}", path);
        }
    }

    #[test]
    fn no_text_breaks_a_parser(text in tricky(), port: u16) {
        drop(text.parse::<Rule>());
        drop(Host::parse(&text));
        drop(Host::parse_authority(&text));
        drop(Method::parse(&text));
        let host = Host::parse("a.com").unwrap();
        for method in ["GET", "OPTIONS", &text] {
            drop(Intent::http(Scheme::Https, method, host.clone(), port, &text));
        }
        for key in ["method", "domain", "host", "path", "port", "proto"] {
            drop(format!("{key}={text}").parse::<Rule>());
        }
    }

    #[test]
    fn a_mistake_points_into_the_rule(text in tricky()) {
        if let Err(mistake) = text.parse::<Rule>() {
            prop_assert!((1..=text.chars().count() + 1).contains(&mistake.column));
            prop_assert!(!mistake.what.is_empty());
        }
    }

    #[test]
    fn a_host_read_twice_is_itself(text in prop_oneof![tricky(), host()]) {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()), Ok(host.clone()));
            prop_assert_eq!(Host::parse(&host.bare()), Ok(host));
        }
    }

    #[test]
    fn what_is_matched_is_what_is_sent(intent in intent()) {
        if let (Some(method), Some(sent)) = (intent.method(), intent.path_and_query()) {
            let host = intent.host().clone();
            let again = Intent::http(intent.scheme(), method.as_str(), host, intent.port(), &sent);
            prop_assert_eq!(again.as_ref(), Ok(&intent));
        }
        let (host, port) = Host::parse_authority(&intent.authority()).unwrap();
        prop_assert_eq!(&host, intent.host());
        prop_assert_eq!(port.or(intent.scheme().default_port()), Some(intent.port()));
    }

    #[test]
    fn any_target_that_is_taken_is_taken_again(text in tricky()) {
        let host = Host::parse("a.com").unwrap();
        if let Ok(intent) = Intent::http(Scheme::Http, "GET", host.clone(), 80, &text) {
            let sent = intent.path_and_query().unwrap();
            prop_assert_eq!(Intent::http(Scheme::Http, "GET", host, 80, &sent), Ok(intent));
            prop_assert!(sent.is_ascii() && sent.starts_with('/'));
            let path = sent.split('?').next().unwrap();
            prop_assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{}", sent);
        }
    }

    #[test]
    fn nothing_is_permitted_by_no_rule(intent in intent(), reading in readings()) {
        let denial = RuleSet::new(Vec::new(), reading).decide(intent.clone()).unwrap_err();
        prop_assert_eq!(denial, Denial::of(Code::NoRule, intent));
    }

    #[test]
    fn a_remedy_permits_what_was_denied(intent in intent(), reading in readings()) {
        let denial = Denial::of(Code::NoRule, intent.clone());
        let remedy = denial.remedy().unwrap();
        let rule: Rule = remedy.parse().map_err(|mistake| {
            TestCaseError::fail(format!("{remedy}: {mistake}"))
        })?;
        let permit = RuleSet::new(vec![rule], reading).decide(intent);
        prop_assert!(permit.is_ok(), "{}", remedy);
    }

    #[test]
    fn a_remedy_permits_nothing_beside(ours in small_intent(), other in small_intent()) {
        let rule = Denial::of(Code::NoRule, ours.clone()).remedy().unwrap().parse().unwrap();
        let rules = RuleSet::new(vec![rule], DomainMatch::Exact);
        // A path that ends in a slash names the one without it too.
        let path = |intent: &Intent| intent.path().map(|path| path.trim_end_matches('/').to_owned());
        let is_same = other.method() == ours.method()
            && other.host() == ours.host()
            && path(&other) == path(&ours);
        prop_assert!(is_same || rules.decide(other).is_err());
    }

    #[test]
    fn a_remedy_admits_the_address(intent in intent(), address: std::net::IpAddr) {
        let everything = format!("host={} port={}", intent.host(), intent.port());
        let everything = match intent.scheme() {
            Scheme::Http | Scheme::Https => everything,
            stream @ (Scheme::Tls | Scheme::Tcp) => format!("proto={} {everything}", stream.as_str()),
        };
        let everything: Rule = everything.parse().unwrap();
        let rules = RuleSet::new(vec![everything.clone()], DomainMatch::default());
        let permit = rules.decide(intent.clone()).unwrap();
        if let (Err(denial), Host::Name(_)) = (permit.admits(address), intent.host()) {
            let remedy: Rule = denial.remedy().unwrap().parse().unwrap();
            let rules = RuleSet::new(vec![everything, remedy], DomainMatch::default());
            prop_assert_eq!(rules.decide(intent).unwrap().admits(address), Ok(()));
        }
    }

    /// The index finds what a look through all the rules in order finds.
    #[test]
    fn the_first_rule_in_order_wins(
        rules in prop::collection::vec(rule(), 0..12),
        intent in small_intent(),
        reading in readings(),
    ) {
        let host = intent.host();
        let looked_through = rules.iter().find(|rule| {
            let domain = |domain: &Domain| {
                let is_named = *domain != Domain::Any || !rule.hosts().is_empty();
                domain.covers(host, reading) && (is_named || !host.is_guarded())
            };
            let is_any = rule.hosts().is_empty() && rule.domains().is_empty();
            rule.permits(&intent)
                && (rule.hosts().is_empty() || rule.hosts().contains(host))
                && (rule.domains().is_empty() || rule.domains().iter().any(domain))
                && !(is_any && host.is_guarded())
        });
        let expected = looked_through.map(|rule| rule.as_str().to_owned());
        let found = RuleSet::new(rules.clone(), reading).decide(intent.clone());
        prop_assert_eq!(found.ok().map(|permit| permit.rule().to_owned()), expected);
    }

    #[test]
    fn more_rules_never_permit_less(
        rules in prop::collection::vec(rule(), 1..8),
        intent in small_intent(),
        reading in readings(),
    ) {
        let fewer = RuleSet::new(rules[1..].to_vec(), reading).decide(intent.clone()).is_ok();
        let all = RuleSet::new(rules, reading).decide(intent).is_ok();
        prop_assert!(all || !fewer);
    }
}

#[test]
fn a_code_has_a_text_a_meaning_and_a_status() {
    let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), Code::ALL.len());
    for code in Code::ALL {
        assert!(code.meaning().ends_with('.'), "{code:?}");
        // What cannot be put on record is not served, which is no fault of the client's.
        let statuses: &[u16] = if code == Code::Unrecorded { &[503] } else { &[400, 403] };
        assert!(statuses.contains(&code.http_status()), "{code:?}");
    }
}
