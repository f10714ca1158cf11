//! PriorityClass.

use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::resource::{Column, Part};
use serde_json::Value;

/// The highest priority that is not the system's.
const USER_MAX: i64 = 1_000_000_000;
/// The classes of the system, with their values.
const SYSTEM: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.scheduling.v1.PriorityClass";
    Kind::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", type_name)
        .cluster_scoped()
        .short(&["pc"])
        .default(|object| {
            object.0.fill("value", 0);
            object.0.fill("preemptionPolicy", "PreemptLowerPriority");
        })
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let value = object.0.int("value").unwrap_or(0);
    if object.name().starts_with("system-") {
        if let Err(cause) = system(object, value) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {cause}"
            );
            errors.push(FieldError::forbidden(&Path::new("metadata").child("name"), detail));
        }
    } else if value > USER_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
        errors.push(FieldError::forbidden(&Path::new("value"), detail));
    }
    let path = Path::new("preemptionPolicy");
    match object.0.maybe("preemptionPolicy") {
        None => {}
        Some("") => errors.push(FieldError::required(&path, "")),
        Some(policy) => check::one_of(&mut errors, &path, policy, &["PreemptLowerPriority", "Never"]),
    }
    errors
}

fn system(object: &Object, value: i64) -> Result<(), String> {
    let name = object.name();
    let Some((_, wanted)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *wanted {
        return Err(format!("value of {name} PriorityClass must be {wanted}"));
    }
    if object.0.is("globalDefault") {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if object.0.int("value") != old.0.int("value") {
        errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    let (new, old) = (object.0.get("preemptionPolicy"), old.0.get("preemptionPolicy"));
    check::immutable(&mut errors, &Path::new("preemptionPolicy"), new, old);
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Value", "integer", "The priority."),
        column("Global-Default", "boolean", "Whether pods that name no class have it."),
        table::age(),
        column("PreemptionPolicy", "string", "Whether its pods push others away."),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![
        object.name().into(),
        object.0.int("value").unwrap_or(0).into(),
        object.0.is("globalDefault").into(),
        table::age_of(object, now),
        object.0.text("preemptionPolicy").into(),
    ]
}
