//! The record as logs of OpenTelemetry, at a collector on the same machine.

use serde_json::Value;

use crate::world::World;
use crate::world::collector::Collector;
use crate::world::needs::needs;

/// Whether the collector has a field as the record has it: text as it is, all else as JSON.
fn is_told(value: &Value, text: Option<&str>) -> bool {
    let Some(text) = text else { return false };
    value.as_str() == Some(text)
        || serde_json::from_str(text).is_ok_and(|told: Value| told == *value)
}

#[test]
fn every_record_is_a_log_with_its_fields_though_no_rule_speaks_of_the_collector() {
    needs!(root, bpf, curl);
    let world = World::new();
    let collector = Collector::start(&world, 4318);
    let script = "curl -sS http://denied.test/a; curl -sS https://allowed.test/b";
    let options = ["--allow", "domain=allowed.test", "--otlp-endpoint", "http://127.0.0.1:4318"];
    let run = world.boundary(&options, &["sh", "-c", script]);
    let out = run.env("OTEL_EXPORTER_OTLP_HEADERS", "x-token=abc").output();
    out.exits(0);
    let logs = collector.logs();
    let written: Vec<_> = out.records.iter().chain(&out.session).collect();
    out.expect(logs.len() == written.len(), &format!("as many as in the file: {logs:?}"));
    for record in written {
        let fields = record.as_object().expect("an object").iter();
        // The file's own chain is of its lines.
        let fields: Vec<_> = fields.filter(|(key, _)| *key != "prev").collect();
        let is_there =
            logs.iter().any(|log| fields.iter().all(|(key, value)| is_told(value, log.field(key))));
        out.expect(is_there, &format!("{record} is among\n{logs:?}"));
    }
    let denied = logs.iter().find(|log| log.body == "deny GET http://denied.test/a");
    let denied = denied.expect("the denial");
    assert_eq!(denied.severity, "WARN");
    assert!(denied.time > 1_700_000_000_000_000_000, "{denied:?}");
    let resource = |key: &str| denied.resource.iter().find(|(it, _)| it == key).map(|it| &*it.1);
    assert_eq!(resource("service.name"), Some("boundary"));
    assert_eq!(resource("service.instance.id"), denied.field("session_id"));
    for head in collector.heads() {
        assert!(head.starts_with("post /v1/logs http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nx-token: abc\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
    }
}

#[test]
fn the_standards_variables_say_where_to_and_switch_nothing_on() {
    needs!(root, bpf);
    let world = World::new();
    let (one, other) = (Collector::start(&world, 4318), Collector::start(&world, 4319));
    let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4319");
    world.boundary(&[], &["true"]).env(at.0, at.1).output().exits(0);
    assert!(other.logs().is_empty(), "they may be the command's");
    let asked = ["--otlp-endpoint", "default"];
    world.boundary(&asked, &["true"]).env(at.0, at.1).output().exits(0);
    assert_eq!((one.logs().len(), other.logs().len()), (0, 2), "start and end");
}

#[test]
fn a_collector_that_is_gone_holds_up_nothing_and_its_loss_is_told() {
    needs!(root, bpf, curl);
    let world = World::new();
    let curl = ["curl", "-sS", "http://allowed.test/"];
    let options = ["--allow", "domain=allowed.test", "--otlp-endpoint", "http://127.0.0.1:4318"];
    let out = world.boundary(&options, &curl).output();
    out.exits(0).complains("could not be sent to the collector");
    out.record(&[("http_url", "http://allowed.test/"), ("decision", "allow")]);
}

#[test]
fn a_collector_that_never_answers_holds_up_nothing_and_its_loss_is_told() {
    needs!(root, bpf);
    let world = World::new();
    let _collector = Collector::start_silent(&world, 4318);
    let options = ["--otlp-endpoint", "http://127.0.0.1:4318"];
    let out = world.boundary(&options, &["sleep", "1"]).output();
    out.exits(0).complains("could not be sent to the collector");
}

#[test]
fn what_is_no_url_of_a_collector_is_refused_before_anything_runs() {
    needs!(root);
    let world = World::new();
    for wrong in ["collector", "ftp://127.0.0.1", "http://user:secret@127.0.0.1:4318"] {
        let out = world.boundary(&["--otlp-endpoint", wrong], &["echo", "ran"]).output();
        out.exits(125).complains("--otlp-endpoint");
        out.expect(!out.stderr.contains("secret") && out.stdout.is_empty(), "nothing ran");
    }
}

#[test]
fn a_collector_behind_tls_is_believed_by_the_authority_that_was_named_alone() {
    needs!(root, bpf);
    let world = World::new();
    let collector = Collector::start_behind_tls(&world, 4318);
    let options = ["--otlp-endpoint", "https://127.0.0.1:4318"];
    let out = world.boundary(&options, &["true"]).output();
    out.exits(0).complains("could not be sent to the collector");
    assert!(collector.logs().is_empty(), "it was not believed");
    let authority = world.folder().join("ca.pem");
    let authority = authority.to_str().expect("our own name");
    let run = world.boundary(&options, &["true"]);
    let out = run.env("OTEL_EXPORTER_OTLP_CERTIFICATE", authority).output();
    out.exits(0).expect(!out.stderr.contains("collector"), "nothing to complain of");
    assert_eq!(collector.logs().len(), 2, "start and end");
}
