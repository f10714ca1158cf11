//! `autoscaling/v1`: what the second version knows more is kept in annotations.

use super::{STORED_AS, STORED_VERSION, convert, rows, v2};
use crate::contract::{Object, Result};
use crate::kinds::base::{Defaults, Kind};
use crate::kinds::idle;
use crate::resource::Part;
use serde_json::json;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler";
    Kind::new("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", type_name)
        .short(&["hpa"])
        .categories(&["all"])
        .without_generation()
        .stored(STORED_AS, STORED_VERSION)
        .converted(from_stored, to_stored)
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(prepare_create)
        .validate(|object| v2::spec_errors(&as_v2(object), None))
        .validate_update(|part, object, old| v2::validate_update(part, &as_v2(object), &as_v2(old)))
        .warnings(idle::warnings)
        .table(rows::columns, |object, now| rows::row(&as_v2(object), now))
}

fn default(object: &mut Object) {
    object.make(&["spec"]).fill("minReplicas", 1);
    if let Some(status) = object.0.within("status") {
        status.fill("currentReplicas", 0);
        status.fill("desiredReplicas", 0);
    }
    // What the second version fills in is told in this one too.
    *object = convert::to_v1(as_v2(object));
}

fn prepare_create(object: &mut Object) {
    object.0.insert("status".to_owned(), json!({"currentReplicas": 0, "desiredReplicas": 0}));
    let annotations = object.metadata_mut().within("annotations");
    if let Some(annotations) = annotations {
        convert::STATUS_ANNOTATIONS.iter().for_each(|key| drop(annotations.remove(*key)));
    }
    object.metadata_mut().drop_empty("annotations");
}

/// The same autoscaler in the second version, with its defaults.
fn as_v2(object: &Object) -> Object {
    let mut object = convert::to_v2(object.clone());
    v2::default(&mut object);
    object
}

fn from_stored(object: Object) -> Result<Object> {
    Ok(convert::to_v1(object))
}

fn to_stored(object: Object) -> Result<Object> {
    Ok(as_v2(&object))
}
