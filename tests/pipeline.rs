//! The pipelines that bring the record to Loki, on lines of a real session: what `deploy/grafana` has
//! for Alloy and for Promtail is read, and does what both programs do with it (the stages of Alloy's
//! `internal/component/loki/process/stages`, which Promtail's became).
//!
//! *Never*: takes a stage that it does not know.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::deploy::{asked, dashboard, names, rules, text};
use crate::world::World;
use crate::world::needs::needs;

/// Names with what each is taken from.
type Names = BTreeMap<String, String>;

/// A stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Takes fields out of a line, by their path in it.
    Json(Names),
    /// Takes the time out of a field, in a format of Go's.
    Timestamp { source: String, format: String },
    /// Makes labels of fields.
    Labels(Names),
}

/// The stages of Promtail's file. A label that says nothing is of the field of its name.
fn of_promtail() -> Vec<Stage> {
    let file: serde_yaml::Value = serde_yaml::from_str(&text("promtail.yaml")).expect("YAML");
    let stages = file["scrape_configs"][0]["pipeline_stages"].as_sequence().expect("stages");
    let words = |value: &serde_yaml::Value| -> Names {
        let pairs = value.as_mapping().expect("a mapping").iter();
        let word = |value: &serde_yaml::Value| value.as_str().map(str::to_owned);
        pairs
            .map(|(name, value)| (word(name).expect("text"), word(value).or(word(name))))
            .map(|(name, value)| (name, value.expect("text")))
            .collect()
    };
    let stage = |stage: &serde_yaml::Value| {
        let all = stage.as_mapping().expect("a mapping");
        assert_eq!(all.len(), 1, "{stage:?}");
        let (name, settings) = all.iter().next().expect("one");
        match name.as_str().expect("text") {
            "json" => Stage::Json(words(&settings["expressions"])),
            "timestamp" => timestamp(&words(settings)),
            "labels" => Stage::Labels(words(settings)),
            other => panic!("{other}"),
        }
    };
    stages.iter().map(stage).collect()
}

/// The stages of Alloy's file: blocks of one component, in their order.
fn of_alloy() -> Vec<Stage> {
    let file = text("boundary.alloy");
    let component = file.split("\nloki.process ").nth(1).expect("a component");
    let component = component.split("\n}\n").next().expect("its end");
    let stage = |block: &str| {
        let (name, settings) = block.split_once(" {").expect("a block");
        let pairs = settings.lines().filter_map(|line| line.split_once('='));
        let quoted = |text: &str| {
            let text = text.trim().trim_end_matches(',');
            Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
        };
        let words = pairs.filter_map(|(key, value)| Some((key.trim().to_owned(), quoted(value)?)));
        let words: Names = words.collect();
        match name {
            "json" => Stage::Json(words),
            "timestamp" => timestamp(&words),
            "labels" => Stage::Labels(words),
            other => panic!("{other}"),
        }
    };
    component.split("\n  stage.").skip(1).map(stage).collect()
}

/// A stage that takes the time.
fn timestamp(settings: &Names) -> Stage {
    let setting = |name: &str| settings.get(name).expect("it is set").clone();
    assert_eq!(settings.len(), 2, "{settings:?}");
    Stage::Timestamp { source: setting("source"), format: setting("format") }
}

/// What becomes of a line: its time, where one is taken, and its labels. A field that is not there gives
/// no label; of what is made of several its JSON is one.
fn collected(stages: &[Stage], line: &str) -> (Option<Timestamp>, Names) {
    let (mut fields, mut labels, mut time) = (BTreeMap::new(), Names::new(), None);
    for stage in stages {
        match stage {
            Stage::Json(names) => {
                let record: Value = serde_json::from_str(line).expect("JSON");
                for (name, path) in names {
                    // Of all paths that there can be these are the plainest.
                    assert!(path.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{path}");
                    fields.insert(name.clone(), record[path].clone());
                }
            }
            Stage::Timestamp { source, format } => {
                assert_eq!(format, "RFC3339Nano");
                let text = fields.get(source).and_then(Value::as_str).expect("it was taken");
                time = Some(text.parse().expect("a time"));
            }
            Stage::Labels(names) => {
                let value = |source: &String| label(fields.get(source).expect("it was taken"));
                let found = names.iter().filter_map(|(name, it)| Some((name.clone(), value(it)?)));
                labels.extend(found);
            }
        }
    }
    (time, labels)
}

/// What a label says of a field.
fn label(field: &Value) -> Option<String> {
    match field {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(field.to_string())
        }
    }
}

/// The labels that a pipeline makes.
fn made(stages: &[Stage]) -> BTreeSet<String> {
    let of = |stage: &Stage| match stage {
        Stage::Labels(names) => names.keys().cloned().collect(),
        Stage::Json(_) | Stage::Timestamp { .. } => Vec::new(),
    };
    stages.iter().flat_map(of).collect()
}

#[test]
fn both_pipelines_are_one() {
    assert_eq!(of_promtail(), of_alloy());
    assert_eq!(of_alloy().len(), 3);
}

#[test]
fn a_line_of_each_kind_has_its_time_and_the_labels_that_are_its_own() {
    needs!(root, bpf, curl);
    let world = World::new();
    let path = world.folder().join("audit.jsonl");
    let options = ["--allow", "domain=allowed.test", "--audit-log", path.to_str().expect("ours")];
    let script = "curl -sS http://denied.test/; curl -sS https://allowed.test/";
    let before = Timestamp::now();
    let out = world.boundary(&options, &["sh", "-c", script]).output();
    out.exits(0);
    let after = Timestamp::now();
    let kept = std::fs::read_to_string(&path).expect("it was written");
    let start: Value = serde_json::from_str(kept.lines().next().expect("a line")).expect("JSON");
    let jail = start["jail"].as_str().expect("it says so").to_owned();
    let mut seen = BTreeSet::new();
    for (line, stages) in kept.lines().flat_map(|it| [(it, of_promtail()), (it, of_alloy())]) {
        let (time, labels) = collected(&stages, line);
        assert!(time.is_some_and(|time| before <= time && time <= after), "{line}");
        let record: Value = serde_json::from_str(line).expect("JSON");
        for (label, value) in &labels {
            assert_eq!(record[label], **value, "{label} of {line}");
        }
        seen.insert(labels.into_values().collect::<Vec<_>>().join(" "));
    }
    // In the order of their names: decision, door, event, jail. What became of a decision has no door.
    let expected = ["start", "allow redirect", "deny redirect"].map(|it| format!("{it} {jail}"));
    for labels in expected.iter().map(String::as_str).chain(["end", "allow", "deny"]) {
        assert!(seen.remove(labels), "{labels} in {seen:?}");
    }
    // What there is beside depends on how names are resolved.
    let beside = ["allow dns", "deny dns", "deny kernel"].map(|it| format!("{it} {jail}"));
    assert!(seen.iter().all(|labels| beside.contains(labels)), "{seen:?}");
}

#[test]
fn what_is_asked_of_loki_chooses_by_labels_that_a_line_has() {
    let known = made(&of_alloy());
    let mut queries = asked(&dashboard());
    queries.retain(|(source, _)| source == "loki");
    let queries = queries.into_iter().map(|(_, query)| query).chain(rules("alerts.loki.yaml"));
    let mut count = 0;
    for query in queries {
        for chosen in query.split('{').skip(1).filter(|it| !it.starts_with('{')) {
            let chosen = chosen.split('}').next().unwrap_or_default();
            // What is filled into a line that is shown begins with a dot.
            let labels = names(chosen).into_iter().filter(|_| !chosen.starts_with('.'));
            for label in labels.filter(|label| label != "job") {
                assert!(known.contains(&label), "{label} in {query}");
                count += 1;
            }
        }
    }
    assert!(count > 5, "there are queries");
}
