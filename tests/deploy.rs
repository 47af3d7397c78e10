//! What is given to operators under `deploy/` speaks of what there is: every metric, label, field and
//! code in it is one that a session tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use boundary::rules::Code;
use serde_json::Value;

use crate::world::World;
use crate::world::needs::needs;

/// A file of the folder.
fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana")).join(name)
}

/// Its text.
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(file(name)).expect("it is in the repository")
}

/// The dashboard.
pub(crate) fn dashboard() -> Value {
    serde_json::from_str(&text("dashboard.json")).expect("JSON")
}

/// What the dashboard asks, and of which kind of source.
pub(crate) fn asked(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let word = |value: &Value| value.as_str().expect("text").to_owned();
    targets.map(|it| (word(&it["datasource"]["type"]), word(&it["expr"]))).collect()
}

/// What the rules in a file ask.
pub(crate) fn rules(name: &str) -> Vec<String> {
    let expressions = text(name);
    let lines = expressions.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    lines.map(str::to_owned).collect()
}

/// Whether a character can stand in a name.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The names that a query compares or groups by: `name=`, `name!=`, `by (name, name)`.
pub(crate) fn names(query: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut quoted = false;
    for (at, c) in query.char_indices() {
        quoted ^= c == '"';
        let (before, rest) = query.split_at(at);
        let is_end = !quoted && (c == '=' || rest.starts_with("!="));
        let name: String = before.chars().rev().take_while(|c| is_of_name(*c)).collect();
        if is_end && !name.is_empty() {
            found.insert(name.chars().rev().collect());
        }
    }
    for group in query.split("by (").skip(1) {
        let group = group.split(')').next().unwrap_or_default();
        found.extend(group.split(',').map(|name| name.trim().to_owned()));
    }
    found
}

/// The metrics that a query names.
fn metrics(query: &str) -> BTreeSet<String> {
    let words = query.split(|c| !is_of_name(c));
    words.filter(|word| word.starts_with("boundary_")).map(str::to_owned).collect()
}

/// What a session tells: metrics with their labels, and the fields of its records.
struct Told {
    metrics: String,
    fields: BTreeSet<String>,
}

impl Told {
    /// By a session that allows, denies and sends.
    fn by_a_session(world: &World) -> Self {
        let script = "curl -sS http://denied.test/; curl -sSN https://allowed.test/stream/gate";
        let options = ["--allow", "domain=allowed.test", "--metrics-port", "9464"];
        let session = world.boundary(&options, &["sh", "-c", script]).start();
        session.wait_for("first");
        let metrics = world.bare(&["curl", "-sS", "http://127.0.0.1:9464/metrics"]).output().stdout;
        world.open("gate");
        let out = session.finish();
        let records = out.records.iter().chain(&out.session);
        let keys = records.filter_map(Value::as_object).flat_map(|record| record.keys().cloned());
        Self { metrics, fields: keys.collect() }
    }

    /// Every metric of a query is told, and every label of it.
    fn has_metrics(&self, query: &str) {
        for metric in metrics(query) {
            let is_told = self.metrics.lines().any(|line| {
                line.strip_prefix(&metric).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            // Of the kernel's table only where there is one.
            assert!(is_told || metric == "boundary_flows", "{metric} in {query}");
        }
        for label in names(query) {
            let is_told = self.metrics.contains(&format!("{label}=\""));
            // Given by whoever scrapes, and by the query itself.
            assert!(is_told || ["instance", "job"].contains(&&*label), "{label} in {query}");
        }
    }

    /// Every name of a query is a field of a record.
    fn has_fields(&self, query: &str) {
        for name in names(query) {
            // `job` is given where the lines are collected; the other is Loki's own.
            let is_known = self.fields.contains(&name) || ["job", "__error__"].contains(&&*name);
            assert!(is_known, "{name} in {query}");
        }
        for part in query.split("{{.").skip(1) {
            let name: String = part.chars().take_while(|c| is_of_name(*c)).collect();
            assert!(self.fields.contains(&name), "{name} in {query}");
        }
    }
}

#[test]
fn every_metric_label_and_field_is_one_that_a_session_tells() {
    needs!(root, bpf, curl);
    let told = Told::by_a_session(&World::new());
    let asked = asked(&dashboard());
    assert!(asked.len() > 20, "{asked:?}");
    for (source, query) in &asked {
        match source.as_str() {
            "prometheus" => told.has_metrics(query),
            "loki" => told.has_fields(query),
            other => panic!("{other}"),
        }
    }
    let (prometheus, loki) = (rules("alerts.prometheus.yaml"), rules("alerts.loki.yaml"));
    assert!(prometheus.len() >= 5 && loki.len() >= 3);
    for query in &prometheus {
        told.has_metrics(query);
    }
    for query in &loki {
        told.has_fields(query);
    }
    for name in ["event_time", "decision", "door", "jail", "event"] {
        assert!(told.fields.contains(name), "{name}");
        let is_taken = |text: &str, as_it_is: &str| text.lines().any(|it| it.trim() == as_it_is);
        assert!(is_taken(&text("promtail.yaml"), &format!("{name}: {name}")), "{name}");
        let alloy = text("boundary.alloy").replace("  ", "");
        let alloy = alloy.replace(&format!("{name} ="), &format!("{name}="));
        assert!(alloy.contains(&format!("{name}= \"{name}\",")), "{name} in\n{alloy}");
    }
}

#[test]
fn every_code_and_verdict_in_a_query_is_one_of_ours() {
    let mut queries: Vec<String> =
        asked(&dashboard()).into_iter().map(|(_, query)| query).collect();
    queries.extend(rules("alerts.prometheus.yaml"));
    queries.extend(rules("alerts.loki.yaml"));
    for (label, known) in [
        ("code", Code::ALL.map(Code::as_str).to_vec()),
        ("decision", vec!["allow", "deny"]),
        ("door", vec!["", "redirect", "explicit", "dns", "kernel"]),
        ("event", vec!["start", "end", "lost"]),
    ] {
        for (query, sign) in queries.iter().flat_map(|it| [(it, "="), (it, "!=")]) {
            for value in query.split(&format!("{label}{sign}\"")).skip(1) {
                let value = value.split('"').next().unwrap_or_default();
                assert!(known.contains(&value), "{label}={value} in {query}");
            }
        }
    }
}

#[test]
fn the_dashboard_has_the_shape_of_one() {
    let dashboard = dashboard();
    for (field, is_so) in [
        ("title", dashboard["title"].is_string()),
        ("uid", dashboard["uid"].as_str().is_some_and(|uid| uid.len() <= 40)),
        ("schemaVersion", dashboard["schemaVersion"].as_u64().is_some_and(|it| it >= 39)),
        ("id", dashboard.get("id").is_none()),
        ("time", dashboard["time"]["from"].is_string() && dashboard["time"]["to"].is_string()),
    ] {
        assert!(is_so, "{field}");
    }
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables: Vec<_> = variables.iter().filter_map(|it| it["name"].as_str()).collect();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64()), "each panel has a number of its own: {panel}");
        assert!(panel["type"].is_string() && panel["title"].is_string(), "{panel}");
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{panel}");
        for (x, y) in (place("x")..place("x") + place("w"))
            .flat_map(|x| (place("y")..place("y") + place("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert((x, y)), "panels lie over each other: {panel}");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let source = target["datasource"]["uid"].as_str().unwrap_or_default();
            let source = source.trim_start_matches("${").trim_end_matches('}');
            assert!(variables.contains(&source), "{target}");
            assert!(target["refId"].is_string(), "{target}");
        }
    }
}

#[test]
fn the_first_question_for_metadata_raises_the_alarm() {
    needs!(promtool);
    // The counter is not there before; the second row had refusals before, and none of late.
    let test = format!(
        "rule_files: [{}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'boundary_decisions_total{{code=\"address_refused\",instance=\"new\"}}', values: '_x20 1x40'}}
      - {{series: 'boundary_decisions_total{{code=\"address_refused\",instance=\"old\"}}', values: '3x60'}}
    alert_rule_test:
      - {{eval_time: 25m, alertname: BoundaryMetadataAsked, exp_alerts: [{{exp_labels: {{instance: new, severity: warning}}}}]}}
      - {{eval_time: 50m, alertname: BoundaryMetadataAsked, exp_alerts: []}}
",
        file("alerts.prometheus.yaml").display()
    );
    // What it says is not what is asked here.
    let test = test.replace(
        "severity: warning}}",
        "severity: warning}, exp_annotations: {summary: 'new asked for an address of the machine, its \
         link or its cloud''s metadata'}}",
    );
    let path = std::env::temp_dir().join(format!("alarm-{}.yaml", std::process::id()));
    fs::write(&path, test).expect("the temporary folder can be written");
    let checked = Command::new("promtool").args(["test", "rules"]).arg(&path).output();
    fs::remove_file(&path).expect("it is ours");
    let checked = checked.expect("it starts");
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_takes_the_rules() {
    needs!(promtool);
    let rules = file("alerts.prometheus.yaml");
    let checked = Command::new("promtool").args(["check", "rules"]).arg(rules).output();
    let checked = checked.expect("it starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    // The queries of the dashboard as well: as rules, with what Grafana fills in.
    let complete = |query: &str| query.replace("$__rate_interval", "5m");
    let panels = asked(&dashboard()).into_iter().filter(|(source, _)| source == "prometheus");
    let recorded: Vec<String> = panels
        .enumerate()
        .map(|(index, (_, query))| {
            format!("{{record: 'd:{index}', expr: {}}}", Value::from(complete(&query)))
        })
        .collect();
    let file = format!("groups: [{{name: dashboard, rules: [{}]}}]\n", recorded.join(","));
    let path = std::env::temp_dir().join(format!("dashboard-{}.yaml", std::process::id()));
    fs::write(&path, file).expect("the temporary folder can be written");
    let checked = Command::new("promtool").args(["check", "rules"]).arg(&path).output();
    fs::remove_file(&path).expect("it is ours");
    let checked = checked.expect("it starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
