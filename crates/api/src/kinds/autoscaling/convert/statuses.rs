//! Metrics as they are.

use super::field_of;
use super::sources::{copy, identifier, present, reference, with_selector};
use crate::kinds::base::Fields;
use crate::kinds::shown::Shown;
use serde_json::{Map, Value, json};

/// A metric of the second version as text of the first.
pub(super) fn to_v1(metric: &Value) -> String {
    let kind = metric.text("type");
    let field = field_of(kind);
    let shown = Shown::new().text("type", kind);
    let Some(status) = metric.map(&field) else { return shown.end() };
    let (current, metric) = (status.map("current"), status.map("metric"));
    let zero = json!("0");
    let value = ("currentValue", Some(current.field("value").unwrap_or(&zero)));
    let average = current.field("averageValue");
    let needed = ("currentAverageValue", Some(average.unwrap_or(&zero)));
    let (name, metric_name) = (("name", status.field("name")), ("metricName", metric.field("name")));
    let utilization = ("currentAverageUtilization", current.field("averageUtilization"));
    let selector = metric.field("selector");
    let told = match &*field {
        "resource" => present(Shown::new(), [name, utilization, needed]),
        "containerResource" => {
            present(Shown::new(), [name, utilization, needed, ("container", status.field("container"))])
        }
        "pods" => with_selector(present(Shown::new(), [metric_name, needed]), "selector", selector),
        "object" => {
            let shown = Shown::new().raw("target", &reference(status.map("describedObject")));
            let shown = with_selector(present(shown, [metric_name, value]), "selector", selector);
            present(shown, [("averageValue", average)])
        }
        _ => {
            let shown = with_selector(present(Shown::new(), [metric_name]), "metricSelector", selector);
            present(shown, [value, ("currentAverageValue", average)])
        }
    };
    shown.raw(&field, &told.end()).end()
}

/// A condition as text; both versions have the same.
pub(super) fn condition(condition: &Value) -> String {
    let fields = ["type", "status", "lastTransitionTime", "reason", "message"];
    present(Shown::new(), fields.map(|field| (field, condition.field(field)))).end()
}

/// A metric of the first version in the second.
pub(super) fn to_v2(metric: &Value) -> Value {
    let kind = metric.text("type");
    let field = field_of(kind);
    let mut to = Map::from_iter([("type".to_owned(), json!(kind))]);
    let Some(status) = metric.map(&field) else { return to.into() };
    let of = |name: &str| status.field(name);
    let (mut told, mut current) = (Map::new(), Map::new());
    // The first version has a zero where the second has nothing, beside an average.
    let value = of("currentValue");
    let average = if field == "object" { of("averageValue") } else { of("currentAverageValue") };
    let value = value.filter(|value| average.is_none() || value.as_str() != Some("0"));
    copy(&mut current, "value", value);
    copy(&mut current, "averageValue", average);
    copy(&mut current, "averageUtilization", of("currentAverageUtilization"));
    if matches!(&*field, "resource" | "containerResource") {
        copy(&mut told, "name", of("name"));
        copy(&mut told, "container", of("container"));
    } else {
        copy(&mut told, "describedObject", of("target"));
        let selector = if field == "external" { "metricSelector" } else { "selector" };
        told.insert("metric".to_owned(), identifier(of("metricName"), of(selector)));
    }
    told.insert("current".to_owned(), current.into());
    to.insert(field, told.into());
    to.into()
}
