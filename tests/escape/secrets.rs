//! What the record must not tell, and what it must not let anybody say in its place.

use std::fs;
use std::path::Path;

use super::ALLOW;
use crate::world::agent::Agent;
use crate::world::needs::needs;
use crate::world::{World, install, lines};

/// What is in every secret, plain and as Basic credentials and percent-encoding would have it.
const CANARIES: [&str; 4] = ["canary", "Y2FuYXJ5", "NhbmFye", "%63anary"];

/// Everything that was written below a folder.
fn written(folder: &Path) -> String {
    let files = fs::read_dir(folder).expect("it was made").flatten();
    let texts = files.map(|file| fs::read(file.path()).expect("readable"));
    texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

/// Requests with a secret in every place that has room for one, by every door.
fn secrets(port: &str) -> String {
    let with = "-sS -o /dev/null -H 'Authorization: Bearer canary' -H 'X-Api-Key: canary' \
                -H 'Cookie: id=canary' -A canary -e http://canary.test/ -d canary=canary";
    let requests =
        ["http://allowed.test", "https://allowed.test", "http://denied.test"].map(|to| {
            format!(
                "curl {with} {to}/a#canary; curl -sS -o /dev/null -u canary:canary {to}/b; \
             curl {with} -x http://127.0.0.1:{port} {to}/c; \
             curl {with} -x http://canary:canary@127.0.0.1:{port} {to}/d; "
            )
        });
    // Userinfo in the request itself, which curl never sends.
    let raw = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET http://canary:canary@%s/e HTTP/1.1\\r\\n\
         Host: %s\\r\\nConnection: close\\r\\n\\r\\n' allowed.test allowed.test >&3; cat <&3"
    );
    format!("{} {raw}; : canary", requests.concat())
}

#[test]
fn g02_no_secret_is_in_any_output_at_any_level() {
    needs!(root, bpf, curl, bash);
    let world = World::new();
    let agent = Agent::at(&world.folder().join("tmp/boundary-audit.sock")).start();
    for (number, level) in ["error", "warn", "info", "debug"].iter().enumerate() {
        for format in ["text", "json"] {
            let logs = world.folder().join(format!("logs-{level}-{format}"));
            let port = format!("1810{number}");
            let there = logs.to_str().expect("our own name");
            let options = ["--log-level", level, "--log-format", format, "--log-dir", there];
            let own = ["--audit-log", &format!("{there}/audit.jsonl"), "--proxy-port", &port];
            let options = [&ALLOW[..], &options, &own].concat();
            let script = secrets(&port);
            let run = world.boundary(&options, &["bash", "-c", &script, "canary"]);
            let out = run.env("SECRET", "canary").output();
            out.exits(0);
            let all = written(&logs);
            for canary in CANARIES {
                let at = all.lines().find(|line| line.contains(canary));
                out.expect(at.is_none(), &format!("no {canary} is written: {at:?}"));
            }
            out.expect(all.contains("http://allowed.test/c"), "though the requests are");
        }
    }
    let told = format!("{:?}", agent.requests());
    assert!(told.contains("http://denied.test/a"), "the agent has the requests");
    assert!(CANARIES.iter().all(|canary| !told.contains(canary)), "and no secret of theirs");
}

#[test]
fn g02_a_query_is_nowhere_when_it_is_left_out() {
    needs!(root, bpf, curl);
    let world = World::new();
    let agent = Agent::at(&world.folder().join("tmp/boundary-audit.sock")).start();
    let logs = world.folder().join("logs-query");
    let there = logs.to_str().expect("our own name");
    let config =
        world.file("config.yaml", "audit_query: false\nallowlist: [domain=allowed.test]\n");
    let config = config.to_str().expect("our own name");
    let audit = format!("{there}/audit.jsonl");
    let options =
        ["--config", config, "--log-level", "debug", "--log-dir", there, "--audit-log", &audit];
    let urls = ["https://allowed.test/a?token=canary", "http://denied.test/b?token=canary"];
    world.boundary(&options, &[&["curl", "-sS"][..], &urls].concat()).output().exits(0);
    let all = written(&logs) + &format!("{:?}", agent.requests());
    assert!(!all.contains("canary"), "{all}");
    assert!(all.contains("https://allowed.test/a") && all.contains("http://denied.test/b"));
}

#[test]
fn g03_no_name_or_url_forges_a_line_or_moves_a_cursor() {
    needs!(root, bpf);
    let world = World::new();
    let evil = world.folder().join("tmp/\u{1b}[2Jx\ntime=0");
    install(world.attack().as_ref(), &evil);
    let evil = evil.to_str().expect("text");
    let logs = world.folder().join("logs-forged");
    let there = logs.to_str().expect("our own name");
    let audit = format!("{there}/audit.jsonl");
    let options = ["--log-level", "debug", "--log-dir", there, "--audit-log", &audit];
    let command = [evil, "tcp", "203.0.113.10", "80", "http:denied.test"];
    let out = world.boundary(&options, &command).output();
    let records = lines(Path::new(&audit));
    out.expect(records.iter().all(|record| record["session_id"].is_string()), "each is a record");
    let named = records.iter().find(|record| record["comm"].is_string());
    let named = named.and_then(|record| record["comm"].as_str()).unwrap_or_default();
    out.expect(named.starts_with("\u{1b}[2Jx\ntime"), "the name is told as it is");
    let all = written(&logs);
    let plain = |c: char| c == '\n' || c == ' ' || c.is_ascii_graphic();
    out.expect(all.chars().all(plain), "nothing moves a cursor");
    let starts = |line: &str| line.starts_with("time=20") || line.starts_with('{');
    out.expect(all.lines().all(starts), "no line is forged");
    let shown = world.exact(&["audit", "show", &audit]).output();
    shown.exits(0).expect(shown.stdout.chars().all(plain), "nor where it is shown");
}

#[test]
fn g01_a_client_that_leaves_is_on_record_with_what_it_got() {
    needs!(root, bpf, curl);
    let world = World::new();
    let curl = ["curl", "-sSN", "http://allowed.test/stream/gate"];
    let script = format!("{} & p=$!; read go; kill -9 $p; wait; true", curl.join(" "));
    let pipe = world.folder().join("tmp/go");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
    let script = format!("exec <>{}; {script}", pipe.display());
    let session = world.boundary(&ALLOW, &["sh", "-c", &script]).start();
    session.wait_for("first");
    fs::write(&pipe, "go\n").expect("somebody reads");
    let out = session.finish();
    out.exits(0);
    let sequence = out.record(&[("proto", "http"), ("decision", "allow")])["sequence"].to_string();
    let closing = out.record(&[("sequence", &sequence), ("http_status", "200")]);
    out.expect(closing["bytes_down"].as_u64() > Some(0), "with what it got until then");
    let is_its = |it: &&serde_json::Value| it["sequence"].as_u64() == sequence.parse().ok();
    let same = out.records.iter().filter(is_its).count();
    out.expect(same == 2, "once when it was decided and once when it was over");
}

#[test]
fn g02_the_password_of_an_upstream_proxy_is_nowhere_to_be_read_inside() {
    needs!(root, bpf);
    let world = World::new();
    let url = "http://teller:mum-is-the-word@203.0.113.99:8888";
    // What is told must not be in the words of who looks for it.
    let look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'";
    let look = ["sh", "-c", look];
    let run = |options: &[&str]| world.boundary(&[&ALLOW[..], options].concat(), &look);
    let (apart, joined) = (["--upstream-proxy", url], [&*format!("--upstream-proxy={url}")]);
    for run in [run(&apart), run(&joined), run(&[]).env("BOUNDARY_UPSTREAM_PROXY", url)] {
        let out = run.output();
        out.exits(0).says("cat\n");
        out.expect(!out.stdout.contains("mum-is-the-word"), "nobody tells it");
    }
    for run in [run(&apart), run(&joined), run(&[]).env("BOUNDARY_UPSTREAM_PROXY", url)] {
        let out = run.through_sudo().output();
        out.expect(!out.stdout.contains("mum-is-the-word"), "nor the user's");
    }
}
