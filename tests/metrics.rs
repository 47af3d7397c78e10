//! What operators see while a session runs: counts, and no door for the command.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::world::needs::{cgroup2, needs};
use crate::world::processes::eventually;
use crate::world::{Session, World};

/// Where the stage has them shown.
const PORT: &str = "9464";

/// Where a port is taken the user is told once, in one line.
#[test]
fn a_port_that_is_taken_is_told_once() {
    needs!(root);
    let world = World::new();
    let options = ["--jail-type", "landjail", "--metrics-port", PORT];
    let session = world.boundary(&options, &["sh", "-c", "echo ready; exec sleep 1000"]).start();
    session.wait_for("ready");
    let out = world.boundary(&options, &["true"]).output();
    session.kill();
    drop(session.finish());
    out.exits(125).complains("cannot start the proxy");
    out.expect(!out.stderr.contains("the proxy ended"), "not twice");
}

/// A session that has asked for a permitted and a refused thing, and waits at a gate.
fn held<'w>(world: &'w World, options: &[&str]) -> Session<'w> {
    let script = "curl -sS http://denied.test/; curl -sSN https://allowed.test/stream/gate";
    let options = [&["--allow", "domain=allowed.test", "--metrics-port", PORT], options].concat();
    let session = world.boundary(&options, &["sh", "-c", script]).start();
    session.wait_for("first");
    session
}

/// What somebody on the machine reads at a path.
fn read(world: &World, url: &str) -> String {
    world.bare(&["curl", "-sS", "--max-time", "20", url]).output().stdout
}

#[test]
fn decisions_bytes_times_and_sizes_are_counted_and_told() {
    needs!(root, bpf, curl);
    let world = World::new();
    let session = held(&world, &[]);
    let told = read(&world, &format!("http://127.0.0.1:{PORT}/metrics"));
    for line in [
        "boundary_decisions_total{door=\"redirect\",decision=\"allow\",code=\"\"} 1\n",
        "boundary_decisions_total{door=\"redirect\",decision=\"deny\",code=\"no_rule\"} 1\n",
        "boundary_decision_seconds_count 2\n",
        "boundary_upstream_seconds_count 1\n",
        "boundary_connections 1\n",
        "boundary_leaves 1\n",
        "boundary_records_dropped_total 0\n",
        "boundary_refusals_lost_total 0\n",
        "boundary_bytes_total{direction=\"down\"}",
        "boundary_tasks ",
        "boundary_names ",
        "boundary_upstream_idle ",
        "boundary_records_undelivered_total 0\n",
        "boundary_hosts_http1 ",
        "boundary_answered_addresses ",
        "boundary_questions 0\n",
        "boundary_rooms 0\n",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
    assert!(told.contains(",command=\"sh\"} 1\n"), "{told}");
    assert!(told.ends_with("# EOF\n"), "{told}");
    assert!(!told.contains("allowed.test") && !told.contains("denied.test"), "{told}");
    world.open("gate");
    session.finish().exits(0);
}

#[test]
fn sessions_inside_and_what_is_learned_are_counted() {
    needs!(root, rooms, curl);
    let world = World::new();
    let learned = world.folder().join("learned.yaml");
    let options = ["--metrics-port", PORT, "--learn", learned.to_str().expect("our own name")];
    let gate = [
        "--allow",
        "domain=allowed.test",
        "--",
        "curl",
        "-sSN",
        "https://allowed.test/stream/gate",
    ];
    let inner = world.exact(&gate).words().join(" ");
    let session = world.boundary(&options, &["sh", "-c", &inner]).start();
    session.wait_for("first");
    let told = read(&world, &format!("http://127.0.0.1:{PORT}/metrics"));
    assert!(told.contains("boundary_rooms 1\n"), "{told}");
    let held = told.lines().find_map(|line| line.strip_prefix("boundary_learned_bytes "));
    let held = held.and_then(|held| held.parse::<u64>().ok());
    assert!(held.is_some_and(|held| held > 20), "{told}");
    world.open("gate");
    session.finish().exits(0);
}

#[test]
fn what_the_command_uses_is_told_while_it_runs_and_in_the_last_record() {
    needs!(root, ebpf, curl);
    let world = World::new();
    let session = held(&world, &[]);
    let told = read(&world, &format!("http://127.0.0.1:{PORT}/metrics"));
    let figure = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.and_then(|figure| figure.parse::<f64>().ok())
    };
    world.open("gate");
    let out = session.finish();
    out.exits(0);
    let end = out.session.last().expect("a last record");
    assert_eq!(end["event"], "end");
    let now = figure("boundary_command_cpu_seconds_total").expect("it is counted");
    let spent = end["cpu_ms"].as_f64().expect("it is counted") / 1000.0;
    assert!(now > 0.0 && now <= spent, "{now} and {spent}");
    // Memory where the machine has that controller on, and the kernel the file (5.19).
    let (memory, peak) = (figure("boundary_command_memory_bytes"), &end["memory_peak"]);
    let seen = figure("boundary_command_memory_peak_bytes");
    assert_eq!(memory.is_some(), has_memory_controller(), "{told}");
    assert_eq!(seen.is_some(), peak.is_u64(), "{told}");
    assert!(seen.is_none_or(|seen| seen > 0.0 && Some(seen) <= peak.as_f64()), "{told}");
}

/// Whether the kernel counts the memory of a cgroup that is made at the top.
fn has_memory_controller() -> bool {
    let at = cgroup2().expect("it is mounted");
    let on = std::fs::read_to_string(format!("{at}/cgroup.subtree_control")).expect("it is there");
    on.split_whitespace().any(|controller| controller == "memory")
}

#[test]
fn requests_of_http1_are_timed_like_any() {
    needs!(root, bpf, curl);
    let world = World::new();
    let curl = "curl -sS --http1.1";
    let script = format!("{curl} http://denied.test/; {curl} -N https://allowed.test/stream/gate");
    let options = ["--allow", "domain=allowed.test", "--metrics-port", PORT];
    let session = world.boundary(&options, &["sh", "-c", &script]).start();
    session.wait_for("first");
    let told = read(&world, &format!("http://127.0.0.1:{PORT}/metrics"));
    for line in ["boundary_decision_seconds_count 2\n", "boundary_upstream_seconds_count 1\n"] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
    world.open("gate");
    session.finish().exits(0);
}

#[test]
fn eight_may_look_at_once_and_the_next_is_turned_away() {
    needs!(root, bpf, curl);
    let world = World::new();
    let session = held(&world, &[]);
    #[expect(clippy::disallowed_methods, reason = "operators look, from the host itself")]
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", 9464)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("there are timers");
        stream
    };
    let mut lookers: Vec<TcpStream> = world.host().run(move || (0..9).map(|_| connect()).collect());
    let mut ninth = lookers.pop().expect("just made");
    let turned_away = ninth.read(&mut [0; 1]);
    assert!(matches!(turned_away, Ok(0)), "{turned_away:?}");
    let request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    for mut looker in lookers {
        looker.write_all(request).expect("it is held");
        let mut told = String::new();
        looker.read_to_string(&mut told).expect("it is answered");
        assert!(told.contains("boundary_connections 1\n"), "{told}");
    }
    world.open("gate");
    session.finish().exits(0);
}

#[test]
fn without_a_port_nothing_is_shown() {
    needs!(root, bpf, curl);
    let world = World::new();
    let curl = ["curl", "-sSN", "https://allowed.test/stream/gate"];
    let session = world.boundary(&["--allow", "domain=allowed.test"], &curl).start();
    session.wait_for("first");
    let out = world.bare(&["curl", "-sS", &format!("http://127.0.0.1:{PORT}/metrics")]).output();
    out.exits(7);
    world.open("gate");
    session.finish().exits(0);
}

#[test]
fn a_port_that_is_taken_is_an_error_before_anything_runs() {
    needs!(root, bpf);
    let world = World::new();
    world.loopback_service(9464);
    for options in [["--metrics-port", PORT], ["--pprof", "--pprof-port=9464"]] {
        let out = world.boundary(&options, &["echo", "ran"]).output();
        out.exits(125).complains("127.0.0.1:9464");
        out.expect(!out.stdout.contains("ran"), "nothing ran");
    }
}

/// A session that asks again and again until a file is there, and has profiles made at a port.
fn busy<'w>(world: &'w World, options: &[&str]) -> Session<'w> {
    let script = "echo begun; until [ -e tmp/enough ]; do curl -sS http://denied.test/; done";
    let session = world.boundary(options, &["sh", "-c", script]).start();
    session.wait_for("begun");
    session
}

#[test]
fn a_profile_of_the_proxy_is_made_while_it_works_and_another_tool_reads_it() {
    needs!(root, bpf, curl, go);
    let world = World::new();
    let session = busy(&world, &["--pprof"]);
    let place = world.folder().join("tmp");
    let place = place.to_str().expect("our own name");
    let url = "http://127.0.0.1:6060/debug/pprof/profile?seconds=3";
    let tool = ["go", "tool", "pprof", "-symbolize=none", "-raw", url];
    let read = || world.bare(&tool).env("PPROF_TMPDIR", place).env("HOME", place).output();
    let told = RefCell::new(String::new());
    // On a machine that is busy with much else it may not have run in the time.
    eventually("it was seen at work", || {
        let out = read();
        out.exits(0);
        let has_samples = !out.stdout.contains("samples/count cpu/nanoseconds\nLocations");
        told.replace(out.stdout);
        has_samples
    });
    let told = told.into_inner();
    world.file("tmp/enough", "");
    session.finish().exits(0);
    assert!(told.contains("PeriodType: cpu nanoseconds\nPeriod: 10000000\n"), "{told}");
    let section = |name: &str| told.split(name).nth(1).expect("it is told").lines().skip(1);
    let samples = section("\nsamples/count cpu/nanoseconds");
    let deepest = samples.take_while(|line| line.contains(':')).map(|line| line.split(' ').count());
    assert!(deepest.max().is_some_and(|words| words > 6), "with their callers: {told}");
    let program = section("\nMappings").any(|line| line.contains("/boundary"));
    assert!(program, "{told}");
    for secret in ["denied.test", "curl"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn one_profile_is_made_at_a_time_and_none_where_nobody_said_so() {
    needs!(root, bpf, curl);
    let world = World::new();
    let session = busy(&world, &["--pprof", "--pprof-port=6061"]);
    let url = "http://127.0.0.1:6061/debug/pprof/profile";
    let status = |query: &str| {
        let asked = format!("{url}{query}");
        let curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20"];
        world.bare(&[&curl[..], &[&asked]].concat()).output().stdout
    };
    let first = world.bare(&["curl", "-sS", "-m", "60", &format!("{url}?seconds=300")]).start();
    eventually("it is being made", || status("?seconds=1") == "503");
    // Whoever leaves has it end.
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.finish();
    eventually("another can be made", || status("?seconds=1") == "200");
    assert_eq!(status("?seconds=301"), "400");
    world.file("tmp/enough", "");
    session.finish().exits(0);
    let session = held(&world, &[]);
    for port in ["6060", PORT] {
        let out = world.bare(&["curl", "-sS", &format!("http://127.0.0.1:{port}/debug/pprof/")]);
        let out = out.output();
        out.expect(!out.stdout.contains("there is /debug"), "no profile is to be had");
    }
    world.open("gate");
    session.finish().exits(0);
}

#[test]
fn the_command_reaches_no_metrics_whatever_the_policy_permits() {
    needs!(root, bpf, curl);
    let world = World::new();
    world.name("here.test", &["127.0.0.1"]);
    let everything = "domain=*";
    let named = "host=127.0.0.1,[::1],0.0.0.0,[::],localhost,here.test";
    let stream = "proto=tcp host=127.0.0.1 port=9464,6060";
    let script = "for at in 127.0.0.1 127.1 2130706433 localhost '[::1]' '[::ffff:127.0.0.1]' \
                  0.0.0.0 '[::]' here.test; do \
                  curl -sS -g --max-time 20 http://$at:9464/metrics; \
                  curl -sS -g --max-time 20 -H 'Host: 127.0.0.1:9464' http://$at:9464/metrics; \
                  curl -sS -g --max-time 20 -x http://$at:8080 http://127.0.0.1:9464/metrics; \
                  curl -sS -g --max-time 20 -p -x http://$at:8080 http://127.0.0.1:9464/metrics; \
                  curl -sS -g --max-time 20 http://$at:6060/; \
                  curl -sS -g --max-time 20 -H 'Host: 127.0.0.1:6060' http://$at:6060/; \
                  curl -sS -g --max-time 20 -p -x http://$at:8080 http://127.0.0.1:6060/; \
                  done; echo tried";
    for rules in [&[everything, named][..], &[everything, named, stream]] {
        let mut options = vec!["--metrics-port", PORT, "--pprof"];
        for rule in rules {
            options.extend(["--allow", rule]);
        }
        let out = world.boundary(&options, &["sh", "-c", script]).output();
        out.says("tried").expect(!out.stdout.contains("boundary_"), "no figure is told");
        out.expect(!out.stdout.contains("there is /debug"), "no profile is to be had");
    }
}

#[test]
fn prometheus_scrapes_them() {
    needs!(root, bpf, curl, prometheus);
    let world = World::new();
    let session = held(&world, &[]);
    let target = format!("127.0.0.1:{PORT}");
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: boundary, static_configs: [{{targets: ['{target}']}}]}}]\n"
    );
    let config = world.file("prometheus.yml", &config);
    let config = format!("--config.file={}", config.display());
    let store = format!("--storage.tsdb.path={}", world.folder().join("tmp/tsdb").display());
    let listen = "--web.listen-address=127.0.0.1:9490";
    let server = world.bare(&["prometheus", &config, &store, listen]).start();
    let asked = |query: &str| -> Value {
        let (query, url) = (format!("query={query}"), "http://127.0.0.1:9490/api/v1/query");
        let curl = ["curl", "-sS", "--max-time", "20", "-G", "--data-urlencode", &query, url];
        serde_json::from_str(&world.bare(&curl).output().stdout).unwrap_or_default()
    };
    let first = |query: &str| asked(query)["data"]["result"][0]["value"][1].clone();
    eventually("it is scraped", || first("up") == "1");
    let denied = "sum(boundary_decisions_total{decision=\"deny\"})";
    eventually("it has the denial", || first(denied).as_str().is_some_and(|count| count != "0"));
    let quick = "histogram_quantile(0.5,boundary_decision_seconds_bucket)";
    eventually("it has the histogram", || first(quick).is_string());
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.finish();
    world.open("gate");
    session.finish().exits(0);
}
