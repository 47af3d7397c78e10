//! What a decision costs, by how many rules there are; what reading a policy, naming a request and
//! minting a leaf cost.
//!
//! *Standing*: `cargo bench -p boundary`.

#![expect(clippy::expect_used, reason = "a bench stops where its own input is wrong")]

use std::hint::black_box;

use boundary::ca::Authority;
use boundary::rules::{DomainMatch, Host, Intent, Rule, RuleSet, Scheme};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// How many rules a policy has.
const SIZES: [usize; 3] = [10, 10_000, 100_000];

/// The text of a rule: all shapes that a policy has, hosts of three to four labels.
fn text(number: usize) -> String {
    match number % 4 {
        0 => format!("domain=host{number}.example.com"),
        1 => format!("method=GET,HEAD domain=*.host{number}.example.org"),
        2 => format!("method=POST domain=api.host{number}.example.net path=/v1/*"),
        _ => format!("host=www.host{number}.example port=443"),
    }
}

/// A policy of so many rules.
fn policy(size: usize) -> RuleSet {
    let rules = (0..size).map(|number| text(number).parse().expect("a rule"));
    RuleSet::new(rules.collect(), DomainMatch::Subdomains)
}

/// A request for a page of a host.
fn request(host: &str) -> Intent {
    let host = Host::parse(host).expect("a host");
    Intent::http(Scheme::Https, "GET", host, 443, "/a/page?query=1").expect("a request")
}

/// One decision: permitted by the rule in the middle, and refused below a host that is named.
fn decide(criterion: &mut Criterion) {
    for size in SIZES {
        let rules = policy(size);
        let middle = size / 2 / 4 * 4;
        let hosts = [
            ("hit", format!("www.host{middle}.example.com")),
            ("miss", format!("www.elsewhere{middle}.example.com")),
        ];
        for (name, host) in hosts {
            let intent = request(&host);
            assert_eq!(rules.decide(intent.clone()).is_ok(), name == "hit");
            let id = format!("decide/{name}/{size}");
            criterion.bench_function(&id, |bencher| {
                // The request is the caller's, and so is its end.
                bencher.iter_batched_ref(
                    || (Some(intent.clone()), None),
                    |(intent, verdict)| *verdict = intent.take().map(|intent| rules.decide(intent)),
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

/// Reading one rule, and building the index of many.
fn read(criterion: &mut Criterion) {
    let line = "method=GET,HEAD domain=github.com,*.githubusercontent.com path=/a/*,/b";
    criterion.bench_function("parse/rule", |bencher| {
        bencher.iter(|| black_box(line).parse::<Rule>());
    });
    let rules: Vec<Rule> =
        (0..10_000).map(|number| text(number).parse().expect("a rule")).collect();
    criterion.bench_function("index/10000", |bencher| {
        let build = |rules| RuleSet::new(rules, DomainMatch::Subdomains);
        bencher.iter_batched(|| rules.clone(), build, BatchSize::LargeInput);
    });
}

/// From the words of a request to the one spelling in which rules are written.
fn name(criterion: &mut Criterion) {
    criterion.bench_function("intent", |bencher| {
        bencher.iter(|| request(black_box("www.host4.example.com")));
    });
}

/// A leaf for a host that was not visited before.
fn mint(criterion: &mut Criterion) {
    let authority = Authority::new().expect("an authority");
    let mut number = 0_u64;
    criterion.bench_function("mint", |bencher| {
        let next = || {
            number += 1;
            Host::parse(&format!("host{number}.example.com")).expect("a host")
        };
        bencher.iter_batched(next, |host| authority.leaf(&host), BatchSize::SmallInput);
    });
}

criterion_group!(benches, decide, read, name, mint);
criterion_main!(benches);
