//! The rules of events of both groups, on events as the core group has them.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Fields, check};

const TEXT_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

/// What is wrong with an event of either group. `controller`: how the group calls who reported it.
pub(in crate::kinds) fn errors(event: &Object, controller: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (namespace, about) = (event.namespace(), event.text(&["involvedObject", "namespace"]));
    let dated = event.0.has("eventTime");
    let fits = match (dated, about) {
        (false, "") => matches!(namespace, "" | "default"),
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (false, about) => about == namespace,
        (true, _) => true,
    };
    if !fits {
        let at = Path::new("involvedObject").child("namespace");
        errors.push(FieldError::invalid(&at, about, "does not match event.namespace"));
    }
    if dated {
        reporter_errors(&mut errors, event, controller);
    }
    errors.extend(check::invalid(&Path::new("namespace"), namespace, names::dns_subdomain(namespace, false)));
    errors
}

fn reporter_errors(errors: &mut FieldErrors, event: &Object, controller: &str) {
    let (reporter, at) = (event.0.text("reportingComponent"), Path::new(controller));
    if reporter.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    errors.extend(check::invalid(&at, reporter, names::qualified_name(reporter)));
    for field in ["reportingInstance", "action", "reason"] {
        if event.0.text(field).is_empty() {
            errors.push(FieldError::required(&Path::new(field), ""));
        }
        short(errors, event, field, TEXT_MAX);
    }
    short(errors, event, "message", MESSAGE_MAX);
}

fn short(errors: &mut FieldErrors, event: &Object, field: &str, most: usize) {
    if event.0.text(field).len() > most {
        let detail = format!("can have at most {most} characters");
        errors.push(FieldError::invalid(&Path::new(field), "", detail));
    }
}

/// What is wrong with the series of an event.
pub(super) fn series_errors(errors: &mut FieldErrors, event: &Object) {
    let Some(series) = event.0.map("series") else { return };
    let path = |field: &str| Path::new("series").child(field);
    if series.int("count").unwrap_or(0) < 2 {
        errors.push(FieldError::invalid(&path("count"), "", "should be at least 2"));
    }
    if !series.has("lastObservedTime") {
        errors.push(FieldError::required(&path("lastObservedTime"), ""));
    }
}

/// What is wrong with a new event of `events.k8s.io`, which has not what is deprecated.
pub(super) fn new_errors(errors: &mut FieldErrors, event: &Object) {
    if !event.0.has("eventTime") {
        errors.push(FieldError::required(&Path::new("eventTime"), ""));
    }
    let kind = event.0.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid(&Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    let source = event.0.map("source");
    let set = [
        ("firstTimestamp", event.0.has("firstTimestamp")),
        ("lastTimestamp", event.0.has("lastTimestamp")),
        ("count", event.0.int("count").unwrap_or(0) != 0),
        ("source", !source.text("component").is_empty() || !source.text("host").is_empty()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.push(FieldError::invalid(&Path::new(field), "", "needs to be unset"));
    }
}
