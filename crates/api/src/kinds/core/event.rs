//! Event, as the core group has it; `events.k8s.io` shares its objects.

use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, Kind, table};
use crate::resource::Column;
use serde_json::Value;

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Event", "events", "io.k8s.api.core.v1.Event")
        .short(&["ev"])
        .any_finalizer()
        .named(names::path_segment)
        .without_generation()
        .prepare_create(|_| {})
        .default(|object| {
            for field in ["involvedObject", "source"] {
                object.make(&[field]);
            }
        })
        .validate(validate)
        .table(columns, row)
        .selectable(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ])
        .selected(|object, field| match field {
            "source" if object.text(&["source", "component"]).is_empty() => {
                object.0.text("reportingComponent").to_owned()
            }
            "source" => object.text(&["source", "component"]).to_owned(),
            _ => object.text(&field.split('.').collect::<Vec<_>>()).to_owned(),
        })
}

/// What is wrong with an event: one with `eventTime` is of the newer form, which has more rules.
fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let about = object.text(&["involvedObject", "namespace"]);
    let own = object.namespace();
    let dated = object.0.has("eventTime");
    let matches = match (dated, about.is_empty()) {
        (false, true) => matches!(own, "" | "default"),
        (false, false) => own == about,
        (true, true) => matches!(own, "default" | "kube-system"),
        (true, false) => true,
    };
    if !matches {
        let at = Path::new("involvedObject").child("namespace");
        errors.invalid(&at, about, "does not match event.namespace");
    }
    if dated {
        newer(&mut errors, object);
    }
    for detail in names::dns_subdomain(own, false) {
        errors.invalid(&Path::new("namespace"), own, detail);
    }
    errors
}

fn newer(errors: &mut FieldErrors, object: &Object) {
    const LENGTHS: &[(&str, usize)] = &[("reportingInstance", 128), ("action", 128), ("reason", 128)];
    let controller = object.0.text("reportingComponent");
    let at = Path::new("reportingComponent");
    if controller.is_empty() {
        errors.required(&at, "");
    }
    errors.extend(names::qualified_name_errors(&at, controller));
    for (field, most) in LENGTHS {
        let text = object.0.text(field);
        if text.is_empty() {
            errors.required(&Path::new(field), "");
        }
        if text.len() > *most {
            errors.invalid(&Path::new(field), "", format!("can have at most {most} characters"));
        }
    }
    if object.0.text("message").len() > 1024 {
        errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
    }
}

/// The columns of events of both groups.
pub(in crate::kinds) fn columns() -> Vec<Column> {
    let (column, wide) = (table::column, table::wide);
    vec![
        column("Last Seen", "string", "Event.lastTimestamp"),
        column("Type", "string", "Event.type"),
        column("Reason", "string", "Event.reason"),
        column("Object", "string", "Event.involvedObject"),
        wide("Subobject", "string", "ObjectReference.fieldPath"),
        wide("Source", "string", "Event.source"),
        column("Message", "string", "Event.message"),
        wide("First Seen", "string", "Event.firstTimestamp"),
        wide("Count", "string", "Event.count"),
        wide("Name", "string", "ObjectMeta.name"),
    ]
}

/// The row of an event as the core group has it.
pub(in crate::kinds) fn row(object: &Object, now: i64) -> Vec<Value> {
    let event = &object.0;
    let or = |first: &'static str, second: &'static str| match event.text(first) {
        "" => event.text(second),
        text => text,
    };
    let first = table::since(or("firstTimestamp", "eventTime"), now);
    let mut last = match event.text("lastTimestamp") {
        "" => first.clone(),
        time => table::since(time, now),
    };
    let mut count = event.int("count").filter(|count| *count != 0).unwrap_or(1);
    if let Some(series) = event.field("series") {
        last = table::since(series.text("lastObservedTime"), now);
        count = series.int("count").unwrap_or(0);
    }
    let about = event.field("involvedObject");
    let target = match about.text("name") {
        "" => about.text("kind").to_lowercase(),
        name => format!("{}/{name}", about.text("kind").to_lowercase()),
    };
    let pick = |own: &'static str, reporting: &'static str| match event.field("source").text(own) {
        "" => event.text(reporting),
        text => text,
    };
    let (component, host) = (pick("component", "reportingComponent"), pick("host", "reportingInstance"));
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    vec![
        last.into(),
        event.text("type").into(),
        event.text("reason").into(),
        target.into(),
        about.text("fieldPath").into(),
        source.into(),
        event.text("message").trim().into(),
        first.into(),
        count.into(),
        object.name().into(),
    ]
}
