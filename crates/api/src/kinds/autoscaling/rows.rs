//! The table of autoscalers.

use crate::contract::Object;
use crate::kinds::base::{Fields, table};
use crate::kinds::inside::Inside;
use crate::resource::Column;
use serde_json::{Map, Value};

/// How many metrics are shown.
const SHOWN: usize = 2;

/// The columns of both versions.
pub(super) fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Reference", "string", "What is scaled."),
        column("Targets", "string", "Each metric: what it is and what it should be."),
        column("MinPods", "string", "The fewest replicas."),
        column("MaxPods", "string", "The most replicas."),
        column("Replicas", "string", "How many replicas there are."),
        table::age(),
    ]
}

/// The row of an autoscaler in the second version.
pub(super) fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let target = spec.under("scaleTargetRef");
    vec![
        object.name().into(),
        format!("{}/{}", target.text("kind"), target.text("name")).into(),
        targets(spec, status).into(),
        spec.int("minReplicas").map_or_else(|| "<unset>".to_owned(), |min| min.to_string()).into(),
        spec.int("maxReplicas").unwrap_or(0).into(),
        status.int("currentReplicas").unwrap_or(0).into(),
        table::age_of(object, now),
    ]
}

fn targets(spec: Option<&Map<String, Value>>, status: Option<&Map<String, Value>>) -> String {
    let metrics = spec.items("metrics");
    let current = status.items("currentMetrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(index, metric)| target(metric, current.get(index)))
        .collect();
    let shown = shown.join(", ");
    match metrics.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn target(metric: &Value, current: Option<&Value>) -> String {
    let field = match metric.text("type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let source = metric.map(field);
    let wished = source.under("target");
    let now = current.and_then(|current| current.map(field)).under("current");
    let told = |field: &str| now.maybe(field).unwrap_or("<unknown>").to_owned();
    let percent = |number: Option<i64>, none: &str| {
        number.map_or_else(|| none.to_owned(), |number| format!("{number}%"))
    };
    let average = wished.maybe("averageValue");
    match (field, average) {
        ("resource" | "containerResource", Some(average)) => {
            format!("{}: {}/{average}", source.text("name"), told("averageValue"))
        }
        ("resource" | "containerResource", None) => {
            let current = percent(now.int("averageUtilization"), "<unknown>");
            let target = percent(wished.int("averageUtilization"), "<auto>");
            format!("{}: {current}/{target}", source.text("name"))
        }
        ("pods", average) => format!("{}/{}", told("averageValue"), average.unwrap_or_default()),
        (_, Some(average)) => format!("{}/{average} (avg)", told("averageValue")),
        (_, None) => format!("{}/{}", told("value"), wished.text("value")),
    }
}
