//! Writing a policy: what the tools say of it beforehand is what it does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::world::needs::needs;
use crate::world::{World, jail};

/// Rules of every kind, and requests that they permit, and that they do not.
const RULES: [&str; 5] = [
    "method=GET domain=four.test path=/public/*",
    "host=six.test",
    "domain=*.allowed.test port=80",
    "proto=tls domain=pinned.test",
    "method=POST domain=four.test path=/in",
];
const ASKED: [(&str, &str); 11] = [
    ("GET", "http://four.test/public/x"),
    ("GET", "http://four.test/private"),
    ("HEAD", "http://four.test/public/x"),
    ("POST", "http://four.test/in?x=y"),
    ("GET", "http://six.test/"),
    ("GET", "http://sub.six.test/"),
    ("GET", "http://www.allowed.test/"),
    ("GET", "http://allowed.test/"),
    ("GET", "http://four.test/public/../private"),
    ("CONNECT", "http://six.test/"),
    ("connect", "http://six.test/x"),
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
            let ask = format!("curl -s --path-as-is -o /dev/null -D - {method} {url}");
            format!("{ask} | tr -d '\\r' | awk '{TOLD}'")
        })
        .collect();
    let out = world.boundary(&options(), &["sh", "-c", &asks.join("; ")]).output();
    let told: Vec<&str> = out.stdout.lines().collect();
    out.expect(told.len() == ASKED.len(), "every request has an answer");
    for ((method, url), told) in ASKED.into_iter().zip(told) {
        let words = [&["check"][..], &options(), &[method, url]].concat();
        let said = world.exact(&words).output();
        let (status, code) = told.split_once(' ').expect("two words");
        match status {
            "400" | "403" => said.exits(1).says("deny").says(&format!("{code}: ")),
            _ => said.exits(0).says("allow"),
        };
        let is_remedied = said.stdout.contains("--allow");
        said.expect(status != "400" || !is_remedied, "no rule permits what is no request");
    }
}

/// The status and the code of an answer, out of its head.
const TOLD: &str = r#"/^HTTP/ { status = $2 } tolower($1) == "x-boundary-denied:" { code = $2 }
    END { print status, code }"#;

/// A run of several programs: requests of all kinds, and streams that nobody can open, of which in
/// one the server speaks first.
const RUN: &str = "
curl -sS -o /dev/null -w '%{http_code}\\n' http://four.test/a?x=1
for n in 1 2 3 4 5; do curl -sS -o /dev/null -w '%{http_code}\\n' https://four.test/v1/items/$n; done
curl -sS -o /dev/null -w '%{http_code}\\n' -X POST -d x http://six.test:8080/up
exec 3<>/dev/tcp/allowed.test/22; head -c 17 <&3; echo
exec 3<>/dev/tcp/allowed.test/7; printf '\\0hello\\n' >&3; head -c 7 <&3";

#[test]
fn what_was_learned_permits_the_same_run_and_no_other() {
    needs!(root, bpf, curl);
    let world = World::new();
    let file = world.folder().join("learned.yaml");
    let path = file.to_str().expect("our own name");
    let first = world.boundary(&["--learn", path], &["bash", "-c", RUN]).output();
    first.exits(0).complains("LEARNING").complains("learned.yaml");
    first.expect(!first.stdout.contains("403"), "nothing is denied");
    first.says("SSH-2.0-simulated").says("hello");
    let learned = fs::read_to_string(&file).expect("what was learned");
    for rule in [
        "method=GET host=four.test path=/a,/v1/items/*",
        "method=POST host=six.test port=8080 path=/up",
        "proto=tcp host=allowed.test port=22",
        "proto=tcp host=allowed.test port=7",
        "times by curl",
    ] {
        first.expect(learned.contains(rule), &format!("{rule} in {learned}"));
    }
    for reading in ["exact", "subdomains"] {
        let options = ["--config", path, "--domain-match", reading];
        let again = world.boundary(&options, &["bash", "-c", RUN]).output();
        again.exits(0);
        again.expect(again.stdout == first.stdout, "the same run");
        let other = ["curl", "-sS", "http://four.test/b"];
        world.boundary(&options, &other).output().says("Request Blocked");
    }
    world.exact(&["check", "--config", path]).output().exits(0);
}

#[test]
fn learning_writes_over_nothing_that_it_did_not_write() {
    needs!(root, bpf);
    let world = World::new();
    let file = world.file("own.yaml", "allowlist: [domain=a.test]\n");
    let path = file.to_str().expect("our own name");
    world.boundary(&["--learn", path], &["true"]).output().exits(125).complains("--learn");
    let kept = fs::read_to_string(&file).expect("it is there");
    assert_eq!(kept, "allowlist: [domain=a.test]\n");
    let fresh = world.folder().join("fresh.yaml");
    let path = fresh.to_str().expect("our own name");
    for _ in 0..2 {
        world.boundary(&["--learn", path], &["true"]).output().exits(0);
    }
    // What was learned before is there until more has been.
    let before = "# learned by boundary\nallowlist: [domain=a.test]\n";
    fs::write(&fresh, before).expect("ours");
    world.boundary(&["--learn", path], &["cat", path]).output().exits(0).says("domain=a.test");
}

#[test]
fn what_is_refused_by_nature_stays_refused_while_learning() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.loopback_service(9310);
    let path = world.folder().join("learned.yaml");
    let path = path.to_str().expect("our own name");
    let script = "curl -s -o /dev/null -w '%{http_code}\\n' http://169.254.169.254/; \
        curl -sf --max-time 5 http://127.0.0.1:9310/ && echo reached";
    let out = world.boundary(&["--learn", path], &["sh", "-c", script]).output();
    out.says("403").expect(!out.stdout.contains("reached"), "loopback of the host is not");
    let learned = fs::read_to_string(path).expect("what was learned");
    out.expect(learned.contains("allowlist: []"), &learned);
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
fn what_check_says_would_permit_it_expands_nothing_in_a_shell() {
    needs!(root);
    let world = World::new();
    let url = "https://a.test/$(id)`id`'$HOME";
    let said = world.exact(&["check", url]).output();
    let (_, option) = said.stdout.split_once("permit it: ").expect("what would");
    let read = r#"eval "set -- $1"; printf '%s\n' "$#" "$@""#;
    let words = Command::new("sh").args(["-c", read, "sh", option.trim()]).output();
    let words = String::from_utf8(words.expect("a shell").stdout).expect("text");
    let json = world.exact(&["check", "--json", url]).output();
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let rule = json["remedy"].as_str().expect("a rule");
    said.expect(words == format!("2\n--allow\n{rule}\n"), &words);
    said.expect(rule.contains("/$(id)") && rule.contains('\''), rule);
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

/// A value for every key of the file that makes no rules.
const KEYS: [(&str, &str); 26] = [
    ("jail_type", "landjail"),
    ("proxy_port", "8081"),
    ("use_real_dns", "true"),
    ("no_user_namespace", "true"),
    ("log_level", "error"),
    ("log_dir", "/elsewhere"),
    ("log_format", "json"),
    ("audit_log", "/dev/null"),
    ("audit_query", "false"),
    ("audit_max_size", "1MiB"),
    ("audit_files", "1"),
    ("audit_on_error", "drop"),
    ("disable_audit_logs", "true"),
    ("log_proxy_socket_path", "/elsewhere.sock"),
    ("session_correlation_enabled", "true"),
    ("session_id_inject_targets", "[domain=b.test]"),
    ("upstream_proxy", "http://b.test:3128"),
    ("upstream_ca", "[/elsewhere.pem]"),
    ("limits", "{prompt_time: 1h}"),
    ("domain_match", "exact"),
    ("unix_sockets", "[/run/docker.sock]"),
    ("prompt", "/elsewhere"),
    ("otlp_endpoint", "http://b.test:4318"),
    ("metrics_port", "9464"),
    ("pprof_enabled", "true"),
    ("pprof_port", "6061"),
];

#[test]
fn a_difference_is_every_key_that_is_set_otherwise() {
    needs!(root);
    let world = World::new();
    let rules = "allowlist: [domain=a.test]\n";
    let before = world.file("a.yaml", rules);
    let before = before.to_str().expect("our own name");
    let diff = |words: &[&str]| world.exact(&[&["policy", "diff"][..], words].concat()).output();
    for (key, value) in KEYS {
        let after = world.file("b.yaml", &format!("{rules}{key}: {value}\n"));
        let after = after.to_str().expect("our own name");
        diff(&[before, after]).exits(1).says(&format!("! {key}: not set -> "));
        diff(&[after, before]).exits(1).says(&format!("! {key}: ")).says("-> not set");
        diff(&[after, after]).exits(0).says("no difference");
        let out = diff(&["--json", before, after]);
        let said: Value = serde_json::from_str(&out.stdout).expect("JSON");
        out.exits(1).expect(said["settings"][0]["key"] == key, key);
    }
    // The parser lists what it knows when it is told what it does not.
    let strange = world.file("c.yaml", "strange: 1\n");
    let out = diff(&[before, strange.to_str().expect("our own name")]);
    let listed = out.stderr.split_once("one of").expect("a list").1;
    let mut known: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    known.retain(|key| !["include", "allowlist"].contains(key));
    let mut told: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
    known.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, known);
}

#[test]
fn what_a_difference_shows_moves_no_cursor() {
    needs!(root);
    let world = World::new();
    let before = world.file("a.yaml", "{}\n");
    let after = world.file("b.yaml", "unix_sockets: [\"/a\\x9b2K\\e[2K\\x7f\"]\n");
    let paths = [&before, &after].map(|path| path.to_str().expect("our own name"));
    for more in [&["policy", "diff"][..], &["policy", "diff", "--json"]] {
        let out = world.exact(&[more, &paths].concat()).output();
        let is_plain = out.stdout.trim_end().chars().all(|c| c == '\n' || !c.is_control());
        out.exits(1).says("unix_sockets").expect(is_plain, "nothing but text");
    }
}

#[test]
fn the_policy_in_force_cannot_be_changed_from_inside() {
    needs!(root, bpf);
    let world = World::new();
    let policy = world.file("policy.yaml", "allowlist: [domain=allowed.test]\n");
    let (file, mode) = (policy.display(), fs::Permissions::from_mode(0o666));
    fs::set_permissions(&policy, mode).expect("it is ours");
    let script = format!(
        "cat {file}; echo wide > {file}; echo wide > {file}.new; mv -f {file}.new {file}; \
         rm -f {file}; echo tried"
    );
    let options = ["--config", policy.to_str().expect("its name is text")];
    for through_sudo in [false, true] {
        let run = world.boundary(&options, &["sh", "-c", &script]);
        let out = if through_sudo { run.through_sudo().output() } else { run.output() };
        out.says("domain=allowed.test").says("tried");
        let is_same = fs::read_to_string(&policy).is_ok_and(|text| text.contains("allowed.test"));
        // There is nothing there that could keep a file from its own user.
        out.expect(is_same || jail() == "landjail", "it is what it was");
    }
}

#[test]
fn a_package_managers_preset_is_what_it_said_before_the_command_started() {
    needs!(root, bpf, curl);
    let world = World::new();
    let says = |host: &str| {
        let text = format!("#!/bin/sh\necho '{{\"registry\": \"http://{host}/npm/\"}}'\n");
        world.program("npm", &text);
    };
    says("four.test");
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", world.folder().display());
    let file = world.file("policy.yaml", "include: [npm]\n");
    let go = world.folder().join("go");
    let script = format!(
        "ask() {{ curl -s -o /dev/null -w \"$1 %{{http_code}}\\n\" ${{@:2}}; }}
        ask below http://four.test/npm/x; ask beside http://four.test/y
        ask sent -d x http://four.test/npm/x; until [ -e {} ]; do sleep 0.05; done
        ask again http://four.test/npm/x; ask other http://six.test/npm/x",
        go.display()
    );
    let options = ["--config", file.to_str().expect("our own name")];
    let session = world.boundary(&options, &["bash", "-c", &script]).env("PATH", &path).start();
    session.wait_for("sent");
    // As the command itself could.
    says("six.test");
    let sessions = world.exact(&["ctl", "ps", "--json"]).output();
    let all: Value = serde_json::from_str(&sessions.stdout).expect("JSON");
    let all = all.as_array().expect("a list");
    let own = all.iter().find(|it| it["pid"] == session.pid().as_raw()).expect("it is listed");
    let id = own["id"].as_str().expect("text");
    let told = world.exact(&["ctl", "--session", id, "reload"]).output();
    told.exits(0).says("1 rule in force");
    fs::write(&go, "").expect("written");
    let out = session.finish();
    out.exits(0).says("below 200").says("beside 403").says("sent 403");
    out.says("again 200").says("other 403");
}

#[test]
fn a_package_manager_that_is_not_there_or_does_not_answer_is_named() {
    needs!(root);
    let world = World::new();
    world.program("npm", "#!/bin/sh\nexit 3\n");
    let folder = world.folder().to_str().expect("our own name");
    let run = |preset| world.boundary(&["--preset", preset], &["true"]).env("PATH", folder);
    run("go").output().exits(125).complains("go is not installed here");
    run("npm").output().exits(125).complains("npm did not answer").complains("3");
}

/// A policy of the shapes that grow in an organisation: so many owners, each with a rule of its own.
fn grown(owners: usize) -> String {
    let rule = |n: usize| {
        let name = format!("owner-{n}.example");
        match n % 6 {
            0 => format!("domain={name}"),
            1 => format!("method=GET,HEAD domain={name}"),
            2 => format!("domain=*.{name}"),
            3 => format!("method=POST host=api.{name} path=/v1/*,/v2/upload"),
            4 => format!("domain=cdn.{name},images.{name} port=443"),
            _ => format!("proto=tcp host=git.{name} port=22"),
        }
    };
    let rules: Vec<String> = (0..owners).map(|n| format!("  - {}\n", rule(n))).collect();
    format!("allowlist:\n{}", rules.concat())
}

#[test]
fn there_is_nothing_to_say_about_a_grown_policy_in_either_reading() {
    needs!(root);
    let world = World::new();
    let file = world.file("grown.yaml", &grown(180));
    let file = file.to_str().expect("our own name");
    for reading in ["subdomains", "exact"] {
        let check = ["check", "--config", file, "--domain-match", reading];
        world.exact(&check).output().exits(0).says("180 rules, nothing to say about them");
    }
    // It would be said.
    let file = world.file("slip.yaml", &grown(180).replacen("owner-6.", "owner-0.", 1));
    let file = file.to_str().expect("our own name");
    world.exact(&["check", "--config", file]).output().exits(1).says("[");
}
