//! The dashboard against Grafana's schema: what it may hold where, and what it must.
//!
//! *Standing*: the table holds as much of the published types as the dashboard uses: those of Grafana 13
//! (`@grafana/schema` 13.2.3) and of Grafana 10.1 (its foundation SDK), where both agree. *Never*: takes a
//! field that it does not know.

use serde_json::{Value, json};

use crate::deploy::dashboard;

/// By kind of object: its fields, and what each holds. `!` must be there.
const SCHEMA: &str = "
dashboard
  title:text! uid:text tags:texts schemaVersion:count! version:count editable:flag refresh:text
  timezone:text time:span templating:variables annotations:annotations panels:[panel]
span from:text! to:text!
variables list:[variable]
variable
  name:text! label:text type:datasource|textbox|query|custom|constant|interval|adhoc! query:text
  current:option hide:count
option text:text! value:text!
annotations list:[annotation]
annotation name:text! datasource:source! enable:flag! iconColor:text! expr:text
source type:text uid:text
place h:count! w:count! x:count! y:count!
panel/row id:count! title:text type:text! gridPos:place collapsed:flag! panels:[panel]!
panel/stat
  id:count title:text description:text type:text! gridPos:place datasource:source targets:[query]
  fieldConfig:fields options:stat-options
panel/timeseries
  id:count title:text description:text type:text! gridPos:place datasource:source
  targets:[query] fieldConfig:fields options:timeseries-options
panel/bargauge
  id:count title:text description:text type:text! gridPos:place datasource:source
  targets:[query] fieldConfig:fields options:bargauge-options
panel/logs
  id:count title:text description:text type:text! gridPos:place datasource:source targets:[query]
  options:logs-options
query
  refId:text! datasource:source! expr:text! legendFormat:text queryType:range|instant
fields defaults:field! overrides:[override]!
field unit:text color:color thresholds:thresholds custom:lines
color mode:fixed|thresholds|palette-classic! fixedColor:text
thresholds mode:absolute|percentage! steps:[step]!
step color:text! value:number-or-none!
lines
  drawStyle:line|bars|points fillOpacity:count lineWidth:count showPoints:auto|never|always
  stacking:stacking
stacking mode:none|normal|percent group:text
override matcher:matcher! properties:[property]!
matcher id:byName|byRegexp! options:text
property id:color|unit! value:color
stat-options
  reduceOptions:reduce! colorMode:value|background|background_solid|none graphMode:none|line|area
reduce calcs:texts! fields:text values:flag
timeseries-options legend:legend! tooltip:tooltip!
legend calcs:texts! displayMode:list|table|hidden! placement:bottom|right! showLegend:flag!
tooltip mode:single|multi|none! sort:asc|desc|none!
bargauge-options
  reduceOptions:reduce! displayMode:basic|lcd|gradient orientation:auto|vertical|horizontal
  showUnfilled:flag
logs-options
  showTime:flag wrapLogMessage:flag sortOrder:Descending|Ascending enableLogDetails:flag
";

/// The fields of a kind of object: name, content, and whether it must be there.
fn fields(kind: &str) -> Vec<(&'static str, &'static str, bool)> {
    let mut words = SCHEMA.split_whitespace().skip_while(|word| *word != kind);
    assert!(words.next().is_some(), "no such kind: {kind}");
    let all = words.map_while(|word| word.split_once(':'));
    all.map(|(name, content)| (name, content.trim_end_matches('!'), content.ends_with('!')))
        .collect()
}

/// What is wrong with a value that is to hold this.
fn faults(value: &Value, content: &str, at: &str) -> Vec<String> {
    let fault = |is_right: bool| {
        if is_right { Vec::new() } else { vec![format!("{at} is no {content}: {value}")] }
    };
    if let Some(kind) = content.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        let Some(all) = value.as_array() else { return fault(false) };
        let each = all.iter().enumerate();
        return each.flat_map(|(index, it)| faults(it, kind, &format!("{at}[{index}]"))).collect();
    }
    match content {
        "text" => fault(value.is_string()),
        "flag" => fault(value.is_boolean()),
        "count" => fault(value.is_u64()),
        "number-or-none" => fault(value.is_number() || value.is_null()),
        "texts" => fault(value.as_array().is_some_and(|all| all.iter().all(Value::is_string))),
        "panel" => match value["type"].as_str() {
            Some(kind @ ("row" | "stat" | "timeseries" | "bargauge" | "logs")) => {
                of_object(value, &format!("panel/{kind}"), at)
            }
            Some(_) | None => fault(false),
        },
        words if words.contains('|') => {
            fault(value.as_str().is_some_and(|it| words.split('|').any(|word| word == it)))
        }
        kind => of_object(value, kind, at),
    }
}

/// What is wrong with an object of a kind.
fn of_object(value: &Value, kind: &str, at: &str) -> Vec<String> {
    let Some(object) = value.as_object() else {
        return vec![format!("{at} is no {kind}: {value}")];
    };
    let known = fields(kind);
    let strange = object.keys().filter(|key| known.iter().all(|(name, ..)| name != key));
    let mut all: Vec<String> = strange.map(|key| format!("{at} has a field {key}")).collect();
    for (name, content, is_needed) in known {
        match object.get(name) {
            Some(held) => all.extend(faults(held, content, &format!("{at}.{name}"))),
            None if is_needed => all.push(format!("{at} has no {name}")),
            None => {}
        }
    }
    all
}

#[test]
fn the_dashboard_is_one_by_grafanas_schema() {
    assert_eq!(faults(&dashboard(), "dashboard", "dashboard"), [""; 0]);
}

#[test]
fn whatever_the_schema_does_not_have_is_found() {
    let right = dashboard();
    let panels = right["panels"].as_array().expect("panels");
    let of = |kind: &str| panels.iter().position(|panel| panel["type"] == kind).expect("one");
    let (stat, lines) = (of("stat"), of("timeseries"));
    for (place, value) in [
        ("/title".to_owned(), json!(7)),
        ("/schemaVersion".to_owned(), json!("39")),
        ("/time".to_owned(), json!({"from": "now-1h"})),
        ("/templating/list/0/type".to_owned(), json!("data")),
        ("/annotations/list/0/datasource".to_owned(), json!("loki")),
        (format!("/panels/{stat}/type"), json!("stats")),
        (format!("/panels/{stat}/gridPos"), json!({"x": 0, "y": 0, "w": 4})),
        (format!("/panels/{stat}/options/colorMode"), json!("values")),
        (format!("/panels/{stat}/options/reduceOptions"), json!({"values": false})),
        (format!("/panels/{lines}/targets/0/refId"), json!(null)),
        (format!("/panels/{lines}/options/tooltip"), json!({"mode": "multi"})),
        (
            format!("/panels/{lines}/fieldConfig"),
            json!({"defaults": {"units": "s"}, "overrides": []}),
        ),
    ] {
        let mut wrong = right.clone();
        *wrong.pointer_mut(&place).expect("it is there") = value;
        assert!(!faults(&wrong, "dashboard", "dashboard").is_empty(), "{place}");
    }
}
