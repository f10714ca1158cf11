//! Event.

use super::{convert, rules};
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, check};
use crate::kinds::core::event as core;
use crate::kinds::shown::{self, Shown};
use crate::resource::Part;
use serde_json::Value;

const SELECTABLE: &[&str] = &[
    "reason",
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reportingController",
    "type",
];

pub(super) fn kind() -> Kind {
    Kind::new("events.k8s.io", "v1", "Event", "events", "io.k8s.api.events.v1.Event")
        .short(&["ev"])
        // Kubernetes takes all events for those of the core group.
        .refused_as("", "Event")
        .without_generation()
        .stored("events", "v1")
        .converted(|object| Ok(convert::from_core(object)), |object| Ok(convert::to_core(object)))
        .default(convert::default)
        .validate(validate)
        .validate_update(validate_update)
        .table(core::columns, |object, now| core::row(&convert::to_core(object.clone()), now))
        .selectable(SELECTABLE)
}

fn validate(object: &Object) -> FieldErrors {
    let event = convert::to_core(object.clone());
    let mut errors = rules::errors(&event, "reportingController");
    rules::series_errors(&mut errors, &event);
    rules::new_errors(&mut errors, &event);
    errors
}

type Say = fn(Option<&Value>) -> String;

/// An event does not change: only its series goes on.
fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let (new, old) = (convert::to_core(object.clone()), convert::to_core(old.clone()));
    let mut errors = rules::errors(&new, "reportingController");
    if new.0.field("series") != old.0.field("series") {
        rules::series_errors(&mut errors, &new);
    }
    let text: Say = |value| value.map_or_else(|| "\"\"".to_owned(), Value::to_string);
    let plain: Say = |value| value.unwrap_or(&Value::Null).to_string();
    let count: Say = |value| value.map_or_else(|| "0".to_owned(), Value::to_string);
    let fields: [(&str, &str, Say); 13] = [
        ("involvedObject", "involvedObject", reference),
        ("reason", "reason", text),
        ("message", "message", text),
        ("source", "source", source),
        ("firstTimestamp", "firstTimestamp", plain),
        ("lastTimestamp", "lastTimestamp", plain),
        ("count", "count", count),
        ("type", "type", text),
        ("eventTime", "eventTime", plain),
        ("action", "action", text),
        ("related", "related", reference),
        ("reportingComponent", "reportingController", text),
        ("reportingInstance", "reportingInstance", text),
    ];
    for (field, told, shown) in fields {
        if new.0.field(field) != old.0.field(field) {
            errors.push(shown::invalid(&Path::new(told), shown(new.0.field(field)), check::IMMUTABLE));
        }
    }
    errors
}

fn reference(reference: Option<&Value>) -> String {
    let Some(reference) = reference else { return "null".to_owned() };
    let fields = [
        ("Kind", "kind"),
        ("Namespace", "namespace"),
        ("Name", "name"),
        ("UID", "uid"),
        ("APIVersion", "apiVersion"),
        ("ResourceVersion", "resourceVersion"),
        ("FieldPath", "fieldPath"),
    ];
    fields
        .into_iter()
        .fold(Shown::new(), |shown, (name, field)| shown.text(name, reference.text(field)))
        .end()
}

fn source(source: Option<&Value>) -> String {
    Shown::new().text("Component", source.text("component")).text("Host", source.text("host")).end()
}
