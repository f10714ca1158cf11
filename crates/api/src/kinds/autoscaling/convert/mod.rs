//! Autoscalers of one version told in the other.

mod behavior;
mod sources;
mod statuses;

use crate::contract::Object;
use crate::kinds::base::{Defaults, Fields};
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The annotations that tell of the status.
pub(super) const STATUS_ANNOTATIONS: &[&str] = &[CURRENT_METRICS, CONDITIONS];

/// The field of a metric of a type: `ContainerResource` is told in `containerResource`.
fn field_of(kind: &str) -> String {
    let mut field = kind.to_owned();
    if let Some(first) = field.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    field
}

/// The utilization of the CPU that a metric wishes for, which is all that the first version tells of metrics.
fn cpu_target(metric: &Value) -> Option<i64> {
    let resource = metric.map("resource").filter(|resource| resource.text("name") == "cpu")?;
    (metric.text("type") == "Resource").then(|| resource.map("target").int("averageUtilization"))?
}

/// An autoscaler of the second version in the first.
pub(super) fn to_v1(mut object: Object) -> Object {
    object.0.insert("apiVersion".to_owned(), "autoscaling/v1".into());
    let mut annotations: Vec<(&str, String)> = Vec::new();
    let spec = object.make(&["spec"]);
    let metrics = spec.remove("metrics");
    let metrics = metrics.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if let Some(target) = metrics.iter().find_map(cpu_target) {
        spec.insert("targetCPUUtilizationPercentage".to_owned(), target.into());
    }
    let others: Vec<String> =
        metrics.iter().filter(|metric| cpu_target(metric).is_none()).map(sources::to_v1).collect();
    if !others.is_empty() {
        annotations.push((METRICS, format!("[{}]", others.join(","))));
    }
    if let Some(behavior) = spec.remove("behavior").filter(|behavior| !behavior.is_null()) {
        annotations.push((BEHAVIOR, behavior::to_v1(&behavior)));
    }
    if let Some(status) = object.0.within("status") {
        status_to_v1(status, &mut annotations);
    }
    if !annotations.is_empty() {
        let kept = object.make(&["metadata", "annotations"]);
        kept.extend(annotations.into_iter().map(|(key, text)| (key.to_owned(), text.into())));
    }
    object
}

fn status_to_v1(status: &mut Map<String, Value>, annotations: &mut Vec<(&str, String)>) {
    let current = status.remove("currentMetrics");
    let current = current.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let cpu = current.iter().filter(|metric| metric.text("type") == "Resource").rev().find_map(|metric| {
        let resource = metric.map("resource").filter(|resource| resource.text("name") == "cpu")?;
        resource.map("current").int("averageUtilization")
    });
    if let Some(cpu) = cpu {
        status.insert("currentCPUUtilizationPercentage".to_owned(), cpu.into());
    }
    if !current.is_empty() {
        let texts: Vec<String> = current.iter().map(statuses::to_v1).collect();
        annotations.push((CURRENT_METRICS, format!("[{}]", texts.join(","))));
    }
    let conditions = status.remove("conditions");
    let conditions = conditions.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !conditions.is_empty() {
        let texts: Vec<String> = conditions.iter().map(statuses::condition).collect();
        annotations.push((CONDITIONS, format!("[{}]", texts.join(","))));
    }
    status.fill("currentReplicas", 0);
    status.fill("desiredReplicas", 0);
}

/// An autoscaler of the first version in the second. An annotation that cannot be read tells nothing.
pub(super) fn to_v2(mut object: Object) -> Object {
    object.0.insert("apiVersion".to_owned(), "autoscaling/v2".into());
    let mut annotations = object.strings("annotations").cloned().unwrap_or_default();
    let mut read = |key: &str| -> Option<Value> {
        let text = annotations.remove(key)?;
        serde_json::from_str(text.as_str()?).ok()
    };
    let (metrics, behavior) = (read(METRICS), read(BEHAVIOR));
    let (current, conditions) = (read(CURRENT_METRICS), read(CONDITIONS));
    if object.strings("annotations").is_some_and(|all| all.len() != annotations.len()) {
        object.metadata_mut().insert("annotations".to_owned(), annotations.into());
        object.metadata_mut().drop_empty("annotations");
    }
    let spec = object.make(&["spec"]);
    let mut all: Vec<Value> =
        metrics.iter().flat_map(|list| list.as_array().into_iter().flatten()).map(sources::to_v2).collect();
    if let Some(target) = spec.remove("targetCPUUtilizationPercentage").and_then(|target| target.as_i64()) {
        let target = json!({"type": "Utilization", "averageUtilization": target});
        all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !all.is_empty() {
        spec.insert("metrics".to_owned(), all.into());
    }
    if let Some(behavior) = behavior.and_then(|behavior| behavior::to_v2(&behavior)) {
        spec.insert("behavior".to_owned(), behavior);
    }
    if object.status().is_some() || current.is_some() || conditions.is_some() {
        status_to_v2(object.make(&["status"]), current, conditions);
    }
    object
}

fn status_to_v2(status: &mut Map<String, Value>, current: Option<Value>, conditions: Option<Value>) {
    if let Some(cpu) = status.remove("currentCPUUtilizationPercentage") {
        let metric = json!({"name": "cpu", "current": {"averageUtilization": cpu}});
        status.insert("currentMetrics".to_owned(), json!([{"type": "Resource", "resource": metric}]));
    }
    if let Some(Value::Array(current)) = current {
        status.insert("currentMetrics".to_owned(), current.iter().map(statuses::to_v2).collect());
    }
    if let Some(Value::Array(conditions)) = conditions {
        status.insert("conditions".to_owned(), conditions.into());
    }
    if status.int("currentReplicas") == Some(0) {
        status.remove("currentReplicas");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An autoscaler with each kind of metric, as kube-apiserver 1.36.2 gives it in both versions.
    #[test]
    fn both_versions_tell_the_same() {
        let recorded: Value = serde_json::from_str(include_str!("recorded.json")).unwrap();
        let of = |version: &str| Object::from_value(recorded[version].clone()).unwrap();
        assert_eq!(to_v1(of("v2")), of("v1"));
        // The first version tells the CPU's target apart from the rest: it comes last on the way back.
        let mut wanted = of("v2");
        let metrics = wanted.make(&["spec"]).get_mut("metrics").and_then(Value::as_array_mut).unwrap();
        metrics.rotate_left(1);
        assert_eq!(to_v2(of("v1")), wanted);
    }

    #[test]
    fn annotations_that_cannot_be_read_tell_nothing() {
        let object = json!({"metadata": {"annotations": {METRICS: "{", "mine": "x"}}, "spec": {}});
        let object = to_v2(Object::from_value(object).unwrap());
        assert_eq!(object.strings("annotations").unwrap().len(), 1);
        assert!(!object.spec().has("metrics"));
    }
}
