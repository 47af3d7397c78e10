//! Reading the record: at a terminal, and as a page in a real browser.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::world::browser::Browser;
use crate::world::needs::needs;
use crate::world::{Output, World};

/// What a page must not turn into anything.
const HOSTILE: &str =
    "\"><script>document.title='owned'</script><img src=x onerror=alert(1)>\u{202e}";

/// A file with the record of a session in which a shell asked for an allowed and a denied host.
fn recorded(world: &World) -> String {
    let path = world.folder().join("logs/review.jsonl").to_str().expect("our own name").to_owned();
    let script = "curl -sS https://allowed.test/a http://denied.test/b & wait; \
                  curl -sS http://denied.test/c?d=e & wait";
    let options = ["--audit-log", &path, "--allow", "domain=allowed.test"];
    world.boundary(&options, &["sh", "-c", script]).output().exits(0);
    path
}

/// What `boundary audit show` prints with these options.
fn show(world: &World, path: &str, options: &[&str]) -> Output {
    let out = world.exact(&[&["audit", "show"], options, &[path]].concat()).output();
    out.exits(0);
    out
}

#[test]
fn the_record_is_shown_a_line_a_decision_with_who_asked_and_what_would_permit_it() {
    needs!(root, bpf, curl);
    let world = World::new();
    let path = recorded(&world);
    let out = show(&world, &path, &[]);
    let line = |word: &str| out.stdout.lines().find(|line| line.contains(word)).unwrap_or_default();
    let allowed = line("ALLOW GET https://allowed.test/a");
    for part in ["  200 ", " down, ", "  curl[", "  by domain=allowed.test"] {
        out.expect(allowed.contains(part), part);
    }
    let denied = line("http://denied.test/c?d=e");
    for part in ["DENY ", "no_rule", "--allow 'method=GET domain=denied.test path=/c'"] {
        out.expect(denied.contains(part), part);
    }
    out.expect(!out.stdout.contains('\u{1b}'), "no colour where there is no terminal");
}

#[test]
fn the_record_is_filtered_by_host_decision_process_and_time() {
    needs!(root, bpf, numbers, curl);
    let world = World::new();
    let path = recorded(&world);
    let count = |options: &[&str]| {
        let out = show(&world, &path, options);
        out.stdout.lines().filter(|line| line.contains(" GET ")).count()
    };
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--host", "allowed.test"]), 1);
    assert_eq!(count(&["--host", "test"]), 3);
    assert_eq!(count(&["--decision", "deny"]), 2);
    assert_eq!(count(&["--process", "curl"]), 3);
    assert_eq!(count(&["--process", "sh", "--decision", "allow"]), 1);
    assert_eq!(count(&["--process", "wget"]), 0);
    assert_eq!(count(&["--since", "1d"]), 3);
    assert_eq!(count(&["--since", "2999-01-01"]), 0);
    assert_eq!(count(&["--since", "1d", "--last", "1"]), 0, "the session's end is the last");
    // Which it is depends on the jail: the last look-up tries datagrams beside the request.
    let last = show(&world, &path, &["--decision", "deny", "--last", "1"]);
    last.expect(last.stdout.matches("DENY ").count() == 1, "the last one alone");
    let json = show(&world, &path, &["--json", "--decision", "allow", "--host", "allowed.test"]);
    let lines = fs::read_to_string(&path).expect("it is there");
    json.expect(json.stdout.lines().all(|line| lines.contains(line)), "lines as they are");
    let wrong = world.exact(&["audit", "show", "--since", "sometime", &path]).output();
    wrong.exits(125).complains("--since").complains("sometime");
}

#[test]
fn a_terminal_gets_colour_unless_somebody_wants_none() {
    needs!(root, bpf, curl);
    let world = World::new();
    let path = recorded(&world);
    let shown = |variable: (&str, &str)| {
        let run = world.exact(&["audit", "show", &path]).env("TERM", "xterm");
        let (session, terminal) = run.env(variable.0, variable.1).on_terminal();
        terminal.wait_for("ended");
        session.finish();
        terminal.text()
    };
    assert!(shown(("NO_COLOR", "")).contains("\u{1b}[32mALLOW"));
    assert!(!shown(("NO_COLOR", "1")).contains("\u{1b}["));
}

#[test]
fn a_record_is_followed_while_it_grows_and_through_its_rotation() {
    needs!(root, machine);
    let world = World::new();
    let path = world.file("logs/grows.jsonl", "");
    let append = |name: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(&path).expect("ours");
        let record = json!({"session_id": "s", "sequence": 0, "decision": "deny",
            "proto": "tcp", "host": name});
        writeln!(file, "{record}").expect("there is room");
    };
    append("first.test");
    let shown = path.to_str().expect("our own name");
    let session = world.exact(&["audit", "show", "-f", shown]).start();
    session.wait_for("tcp first.test");
    append("second.test");
    session.wait_for("tcp second.test");
    fs::rename(&path, path.with_extension("jsonl.1")).expect("ours");
    append("third.test");
    session.wait_for("tcp third.test");
    session.signal(Signal::SIGINT);
    let out = session.finish();
    for name in ["first", "second", "third"] {
        out.expect(out.stdout.matches(&format!("{name}.test")).count() == 1, "each once");
    }
}

/// Makes the page of a record.
fn report(world: &World, path: &str) -> PathBuf {
    let page = world.folder().join("report.html");
    let shown = page.to_str().expect("our own name");
    world.exact(&["audit", "report", "-o", shown, path]).output().exits(0);
    page
}

/// The text that a browser shows of an element.
fn text(browser: &mut Browser<'_>, part: &str) -> String {
    let found = browser.find(&format!("document.getElementById('{part}').parentElement.innerText"));
    found.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_browser_shows_who_asked_for_what_under_which_policy() {
    needs!(root, bpf, numbers, curl, chromium);
    let world = World::new();
    let page = report(&world, &recorded(&world));
    let mode = fs::metadata(&page).map(|file| file.permissions().mode() & 0o777);
    assert_eq!(mode.ok(), Some(0o600), "it names what was asked for");
    let mut browser = Browser::start(&world);
    browser.resize((1200, 900), "light");
    browser.show(&page);
    let denied = text(&mut browser, "denied");
    assert!(denied.contains("--allow 'method=GET domain=denied.test path=/c'"), "{denied}");
    assert!(denied.contains("No rule of the policy permits this request."), "{denied}");
    let hosts = text(&mut browser, "hosts");
    assert!(hosts.contains("allowed.test") && hosts.contains("denied.test"), "{hosts}");
    let processes = text(&mut browser, "processes");
    let (shell, curl) = (processes.find("sh "), processes.find("curl "));
    assert!(shell.is_some() && shell < curl, "who started it comes first: {processes}");
    let policy = text(&mut browser, "policy");
    assert!(policy.contains("domain=allowed.test permitted 1"), "{policy}");
    let all = browser.find("document.body.innerText");
    let all = all.as_str().unwrap_or_default();
    assert!(all.contains("The chain of hashes is intact"), "{all}");
    browser.close();
}

#[test]
fn the_page_needs_no_network_and_nothing_in_it_runs() {
    needs!(root, chromium);
    let world = World::new();
    let page = report(&world, &hostile(&world));
    let mut browser = Browser::start(&world);
    browser.show(&page);
    assert_eq!(browser.find("document.scripts.length + document.images.length"), 0);
    let title = browser.find("document.title");
    assert!(title.as_str().is_some_and(|title| title.starts_with("boundary")), "{title}");
    let shown = browser.find("document.body.innerText");
    assert!(shown.as_str().is_some_and(|text| text.contains("<script>")), "it is there as text");
    let asked: Vec<_> = named(&browser.events, "Network.requestWillBeSent")
        .filter_map(|event| event["request"]["url"].as_str())
        .collect();
    assert!(asked.iter().all(|url| url.starts_with("file://")) && asked.len() == 1, "{asked:?}");
    let complaints: Vec<_> = named(&browser.events, "Log.entryAdded").collect();
    assert!(complaints.is_empty(), "its own policy fits it: {complaints:?}");
    // Whatever were to get into it could load nothing.
    let load = "new Promise(done => { document.addEventListener('securitypolicyviolation', \
                event => done(event.violatedDirective)); const image = new Image(); \
                image.src = 'http://allowed.test/'; document.body.append(image); })";
    let asked = json!({"expression": load, "awaitPromise": true, "returnByValue": true});
    let refused = browser.ask("Runtime.evaluate", &asked);
    assert_eq!(refused["result"]["value"], "img-src");
    let out = browser.close();
    out.expect(!out.requests.iter().any(|it| it.target == "/"), "nothing was asked for");
}

#[test]
fn the_page_is_readable_on_a_phone_in_the_dark_on_paper_and_by_keyboard() {
    needs!(root, chromium);
    let world = World::new();
    let page = report(&world, &hostile(&world));
    let mut browser = Browser::start(&world);
    let colours = "[getComputedStyle(document.body)].map(it => it.color + it.backgroundColor)[0]";
    let mut seen = Vec::new();
    for (size, scheme) in [((360, 740), "light"), ((360, 740), "dark"), ((1280, 900), "dark")] {
        browser.resize(size, scheme);
        browser.show(&page);
        let width = browser.find("document.documentElement.scrollWidth");
        assert!(width.as_u64().is_some_and(|width| width <= size.0.into()), "{size:?}: {width}");
        seen.push(browser.find(colours));
    }
    assert_ne!(seen[0], seen[1], "the dark is dark");
    assert_eq!(seen[1], seen[2]);
    browser.tab();
    assert_eq!(browser.find("document.activeElement.innerText"), "Skip to the timeline");
    browser.tab();
    assert_eq!(browser.find("document.activeElement.hash"), "#timeline");
    let printed = browser.ask("Page.printToPDF", &json!({}));
    let length = printed["data"].as_str().map_or(0, str::len);
    assert!(length > 10_000, "{length} bytes are no page");
    browser.close();
}

/// The parameters of the browser's events of a name.
fn named<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    let fits = events.iter().filter(move |event| event["method"] == name);
    fits.map(|event| &event["params"])
}

/// A record in which everything that the command chooses is hostile, and long.
fn hostile(world: &World) -> String {
    let long = format!("{HOSTILE}{}", "a".repeat(300));
    let start = json!({"event_time": "2026-05-01T11:00:00Z", "session_id": "s", "event": "start",
        "command": long, "jail": "ebpf", "rules": [long], "domain_match": "subdomains"});
    let mut text = format!("{start}\n");
    for (sequence, decision) in ["deny", "allow", "deny"].iter().enumerate() {
        let record = json!({"event_time": "2026-05-01T11:00:00Z", "session_id": "s",
            "sequence": sequence, "decision": decision, "code": "no_rule", "proto": "http",
            "http_method": "GET", "http_url": format!("http://{long}/"), "host": long,
            "port": 80, "pid": 7, "comm": HOSTILE, "exe": long, "remedy": long,
            "parents": [{"pid": 6, "comm": HOSTILE}]});
        text.extend([record.to_string().as_str(), "\n"]);
    }
    let path = world.file("logs/hostile.jsonl", &text);
    path.to_str().expect("our own name").to_owned()
}
