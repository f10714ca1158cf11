//! Metrics as they are wished for.

use super::field_of;
use crate::kinds::base::Fields;
use crate::kinds::shown::{self, Shown};
use serde_json::{Map, Value, json};

/// A metric of the second version as text of the first.
pub(super) fn to_v1(metric: &Value) -> String {
    let kind = metric.text("type");
    let field = field_of(kind);
    let shown = Shown::new().text("type", kind);
    let Some(source) = metric.map(&field) else { return shown.end() };
    let (target, identifier) = (source.map("target"), source.map("metric"));
    let utilization = ("targetAverageUtilization", target.field("averageUtilization"));
    let average = target.field("averageValue");
    let name = ("name", source.field("name"));
    let metric_name = ("metricName", identifier.field("name"));
    let selector = identifier.field("selector");
    let source = match &*field {
        "resource" => present(Shown::new(), [name, utilization, ("targetAverageValue", average)]),
        "containerResource" => {
            let container = ("container", source.field("container"));
            present(Shown::new(), [name, utilization, ("targetAverageValue", average), container])
        }
        "pods" => {
            let shown = present(Shown::new(), [metric_name, ("targetAverageValue", average)]);
            with_selector(shown, "selector", selector)
        }
        "object" => {
            let zero = json!("0");
            let value = target.field("value").unwrap_or(&zero);
            let reference = reference(source.map("describedObject"));
            let shown = Shown::new().raw("target", &reference);
            let shown = present(shown, [metric_name, ("targetValue", Some(value))]);
            present(with_selector(shown, "selector", selector), [("averageValue", average)])
        }
        _ => {
            let shown = with_selector(present(Shown::new(), [metric_name]), "metricSelector", selector);
            present(shown, [("targetValue", target.field("value")), ("targetAverageValue", average)])
        }
    };
    shown.raw(&field, &source.end()).end()
}

/// The fields that are there, in this order.
pub(super) fn present<'a>(
    shown: Shown,
    fields: impl IntoIterator<Item = (&'a str, Option<&'a Value>)>,
) -> Shown {
    fields.into_iter().fold(shown, |shown, (name, value)| match value {
        Some(value) => shown.field(name, Some(value)),
        None => shown,
    })
}

/// A selector, where there is one.
pub(super) fn with_selector(shown: Shown, name: &str, selector: Option<&Value>) -> Shown {
    match selector {
        Some(selector) => shown.raw(name, &shown::selector(Some(selector))),
        None => shown,
    }
}

/// A reference to an object.
pub(super) fn reference(reference: Option<&Map<String, Value>>) -> String {
    let shown = Shown::new().text("kind", reference.text("kind")).text("name", reference.text("name"));
    let version = reference.field("apiVersion").filter(|version| version.as_str() != Some(""));
    present(shown, [("apiVersion", version)]).end()
}

/// A metric of the first version in the second.
pub(super) fn to_v2(metric: &Value) -> Value {
    let kind = metric.text("type");
    let field = field_of(kind);
    let mut to = Map::from_iter([("type".to_owned(), json!(kind))]);
    let Some(source) = metric.map(&field) else { return to.into() };
    let of = |name: &str| source.field(name);
    let average = of("targetAverageValue");
    let mut told = Map::new();
    let (kind, value, average) = match &*field {
        "resource" | "containerResource" => {
            copy(&mut told, "name", of("name"));
            copy(&mut told, "container", of("container"));
            let utilization = of("targetAverageUtilization");
            let mut target = target(utilization.is_some(), "Utilization", None, average);
            copy(&mut target, "averageUtilization", utilization);
            told.insert("target".to_owned(), target.into());
            to.insert(field, told.into());
            return to.into();
        }
        "pods" => (false, None, average),
        "object" => {
            copy(&mut told, "describedObject", of("target"));
            let average = of("averageValue");
            let value = of("targetValue").filter(|value| average.is_none() || value.as_str() != Some("0"));
            (average.is_none(), value, average)
        }
        _ => (of("targetValue").is_some(), of("targetValue"), average),
    };
    let selector = if field == "external" { "metricSelector" } else { "selector" };
    told.insert("metric".to_owned(), identifier(of("metricName"), of(selector)));
    told.insert("target".to_owned(), target(kind, "Value", value, average).into());
    to.insert(field, told.into());
    to.into()
}

fn target(first: bool, kind: &str, value: Option<&Value>, average: Option<&Value>) -> Map<String, Value> {
    let kind = if first { kind } else { "AverageValue" };
    let mut target = Map::from_iter([("type".to_owned(), json!(kind))]);
    copy(&mut target, "value", value);
    copy(&mut target, "averageValue", average);
    target
}

/// The name of a metric and what it is selected by.
pub(super) fn identifier(name: Option<&Value>, selector: Option<&Value>) -> Value {
    let mut identifier = Map::new();
    identifier.insert("name".to_owned(), name.cloned().unwrap_or_else(|| "".into()));
    copy(&mut identifier, "selector", selector);
    identifier.into()
}

/// Sets a field where there is a value.
pub(super) fn copy(to: &mut Map<String, Value>, field: &str, value: Option<&Value>) {
    if let Some(value) = value {
        to.insert(field.to_owned(), value.clone());
    }
}
