//! Writing a policy: what the tools say of it beforehand is what it does.

use serde_json::Value;

use crate::world::World;
use crate::world::needs::needs;

/// Rules of every kind, and requests that they permit, and that they do not.
const RULES: [&str; 5] = [
    "method=GET domain=four.test path=/public/*",
    "host=six.test",
    "domain=*.allowed.test port=80",
    "proto=tls domain=pinned.test",
    "method=POST domain=four.test path=/in",
];
const ASKED: [(&str, &str); 9] = [
    ("GET", "http://four.test/public/x"),
    ("GET", "http://four.test/private"),
    ("HEAD", "http://four.test/public/x"),
    ("POST", "http://four.test/in?x=y"),
    ("GET", "http://six.test/"),
    ("GET", "http://sub.six.test/"),
    ("GET", "http://www.allowed.test/"),
    ("GET", "http://allowed.test/"),
    ("GET", "http://four.test/public/../private"),
];

/// The options that say the rules.
fn options() -> Vec<&'static str> {
    RULES.iter().flat_map(|rule| ["--allow", *rule]).collect()
}

#[test]
fn what_check_says_is_what_a_run_does() {
    needs!(root, bpf, curl);
    let world = World::new();
    for host in ["sub.six.test", "www.allowed.test"] {
        world.name(host, &["203.0.113.4"]);
    }
    let asks: Vec<String> = ASKED
        .iter()
        .map(|(method, url)| {
            let method = if *method == "HEAD" { "-I".to_owned() } else { format!("-X {method}") };
            format!("curl -s --path-as-is -o /dev/null -w '%{{http_code}}\\n' {method} {url}")
        })
        .collect();
    let out = world.boundary(&options(), &["sh", "-c", &asks.join("; ")]).output();
    let statuses: Vec<&str> = out.stdout.lines().collect();
    out.expect(statuses.len() == ASKED.len(), "every request has an answer");
    for ((method, url), status) in ASKED.into_iter().zip(statuses) {
        let words = [&["check"][..], &options(), &[method, url]].concat();
        let said = world.exact(&words).output();
        said.exits(i32::from(status == "403")).says(if status == "403" { "deny" } else { "allow" });
    }
}

#[test]
fn check_names_the_nearest_rule_and_what_missed() {
    needs!(root);
    let world = World::new();
    let file = world.file("policy.yaml", "allowlist:\n  - method=GET domain=a.test path=/x\n");
    let file = file.to_str().expect("our own name");
    let out = world.exact(&["check", "--config", file, "POST", "https://a.test/x"]).output();
    out.exits(1).says("policy.yaml:2").says("misses the method").says("no_rule");
    let out =
        world.exact(&["check", "--json", "--config", file, "POST", "https://b.a.test/y"]).output();
    let said: Value = serde_json::from_str(&out.stdout).expect("JSON");
    out.exits(1).expect(said["decision"] == "deny", "it is denied");
    out.expect(said["nearest"]["missed"][0] == "method", "the method missed");
    out.expect(said["nearest"]["missed"][1] == "path", "and the path");
    out.expect(said["remedy"] == "method=POST domain=b.a.test path=/y", "and what would permit it");
}

#[test]
fn check_without_a_url_looks_the_policy_over() {
    needs!(root);
    let world = World::new();
    let over = |text: &str| {
        let file = world.file("policy.yaml", text);
        world.exact(&["check", "--config", file.to_str().expect("our own name")]).output()
    };
    over("allowlist: [domain=a.test]\n").exits(0).says("1 rule");
    over("allowlist:\n  - domain=a.test\n  - path=/x domain=b.a.test\n")
        .exits(1)
        .says("policy.yaml:3")
        .says("[shadowed]");
    let wrong = over("allowlist:\n  - domian=a.test\n  - domain=b.test\n  - path=/a,\n");
    wrong.exits(1).says("policy.yaml:2:5").says("policy.yaml:4:13").says("[mistake]");
}

#[test]
fn a_difference_is_what_is_newly_allowed_and_denied() {
    needs!(root);
    let world = World::new();
    let before = world.file("a.yaml", "allowlist: [\"method=GET,PUT domain=a.test\"]\n");
    let after = world.file("b.yaml", "include: [c.yaml]\nallowlist: [domain=b.test]\n");
    world.file("c.yaml", "allowlist: [method=GET domain=a.test]\n");
    let paths = [&before, &after].map(|path| path.to_str().expect("our own name"));
    let out = world.exact(&["policy", "diff", paths[0], paths[1]]).output();
    out.exits(1).says("+ domain=b.test").says("- method=PUT domain=a.test");
    out.expect(!out.stdout.contains("GET"), "what stays is not told");
    world.exact(&["policy", "diff", paths[0], paths[0]]).output().exits(0).says("no difference");
}
