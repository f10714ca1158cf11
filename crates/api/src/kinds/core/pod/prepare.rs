//! What the server does to pods before it looks at them: the status of a new one, what an update of a part may change.

use super::{annotations, qos};
use crate::contract::Object;
use crate::kinds::base::{Defaults, Fields};
use crate::resource::Part;
use serde_json::{Map, Value, json};

pub(super) fn create(object: &mut Object) {
    let class = object.spec().map_or("BestEffort", qos::class);
    let mut status = json!({ "phase": "Pending", "qosClass": class });
    if !object.spec().list("schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": null,
            "lastTransitionTime": crate::kinds::core::now(),
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    object.0.insert("status".to_owned(), status);
    let labels = object.strings("labels").cloned().unwrap_or_default();
    annotations::profiles_to_fields(object);
    let spec = object.make(&["spec"]);
    disabled(spec);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
    }
    label_keys(spec, &labels);
}

/// Fields that Kubernetes has behind switches which are off.
pub(super) fn disabled(spec: &mut Map<String, Value>) {
    spec.remove("schedulingGroup");
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.each(field) {
            let Some(lifecycle) = container.within("lifecycle") else { continue };
            if lifecycle.remove("stopSignal").is_some() && lifecycle.is_empty() {
                container.remove("lifecycle");
            }
        }
    }
    for volume in spec.each("volumes") {
        if let Some(projected) = volume.within("projected") {
            for source in projected.each("sources") {
                source.remove("clusterTrustBundle");
                source.remove("podCertificate");
            }
        }
    }
}

/// `matchLabelKeys` say that pods with the same labels as this one are meant: the selectors say so from now on.
fn label_keys(spec: &mut Map<String, Value>, labels: &Map<String, Value>) {
    if let Some(affinity) = spec.within("affinity") {
        for kind in ["podAffinity", "podAntiAffinity"] {
            let Some(pods) = affinity.within(kind) else { continue };
            for term in pods.each("preferredDuringSchedulingIgnoredDuringExecution") {
                if let Some(term) = term.within("podAffinityTerm") {
                    merge_keys(term, labels);
                }
            }
            pods.each("requiredDuringSchedulingIgnoredDuringExecution")
                .for_each(|term| merge_keys(term, labels));
        }
    }
    spec.each("topologySpreadConstraints").for_each(|constraint| merge_keys(constraint, labels));
}

fn merge_keys(term: &mut Map<String, Value>, labels: &Map<String, Value>) {
    let mut added = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.texts(field) {
            if let Some(value) = labels.maybe(key) {
                added.push(json!({ "key": key, "operator": operator, "values": [value] }));
            }
        }
    }
    if let (false, Some(selector)) = (added.is_empty(), term.within("labelSelector")) {
        let mut list = selector.list("matchExpressions").to_vec();
        list.append(&mut added);
        selector.insert("matchExpressions".to_owned(), list.into());
    }
}

pub(super) fn update(part: Part, object: &mut Object, old: &Object) {
    match part {
        Part::Status => status(object, old),
        Part::EphemeralContainers => {
            let added = object.at(&["spec", "ephemeralContainers"]).cloned();
            reset(object, old);
            if let Some(added) = added {
                object.make(&["spec"]).insert("ephemeralContainers".to_owned(), added);
            } else {
                object.remove(&["spec", "ephemeralContainers"]);
            }
        }
        Part::Resize => resize(object, old),
        _ => {}
    }
    if let (false, Some(spec)) = (part == Part::Status, object.0.within("spec")) {
        disabled(spec);
    }
}

/// A status that says no class or no generation keeps those of the old one.
fn status(object: &mut Object, old: &Object) {
    let metadata = object.metadata_mut();
    metadata.remove("deletionTimestamp");
    if let Some(time) = old.at(&["metadata", "deletionTimestamp"]) {
        metadata.insert("deletionTimestamp".to_owned(), time.clone());
    }
    let class = old.text(&["status", "qosClass"]).to_owned();
    let mut generations: Vec<(String, i64)> = old
        .status()
        .list("conditions")
        .iter()
        .map(|condition| {
            (condition.text("type").to_owned(), condition.int("observedGeneration").unwrap_or(0))
        })
        .collect();
    let generation = old.status().int("observedGeneration").unwrap_or(0);
    let status = object.make(&["status"]);
    // A feature that Kubernetes has switched off.
    status.remove("nodeAllocatableResourceClaimStatuses");
    if !class.is_empty() {
        status.fill_text("qosClass", &class);
    }
    let keep = |fields: &mut Map<String, Value>, kept: i64| {
        if fields.int("observedGeneration").unwrap_or(0) == 0 && kept != 0 {
            fields.insert("observedGeneration".to_owned(), kept.into());
        }
    };
    keep(status, generation);
    for condition in status.each("conditions") {
        let same = generations.iter().position(|(name, _)| name == condition.text("type"));
        let kept = same.map_or(0, |at| generations.remove(at).1);
        keep(condition, kept);
    }
}

/// Everything but what the part is for is as it was.
fn reset(object: &mut Object, old: &Object) {
    for field in ["spec", "status"] {
        match old.0.get(field) {
            Some(value) => drop(object.0.insert(field.to_owned(), value.clone())),
            None => drop(object.0.remove(field)),
        }
    }
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ] {
        match old.at(&["metadata", field]) {
            Some(value) => drop(object.metadata_mut().insert(field.to_owned(), value.clone())),
            None => drop(object.metadata_mut().remove(field)),
        }
    }
}

/// Of a resize only resources and resize policies are taken; where containers differ in number, all is left to be refused.
fn resize(object: &mut Object, old: &Object) {
    let count = |object: &Object, field| object.spec().list(field).len();
    let fields = ["containers", "initContainers"];
    if fields.iter().any(|field| count(object, field) != count(old, field)) {
        return;
    }
    let merged: Vec<(&str, Vec<Value>)> = fields
        .into_iter()
        .map(|field| (field, resized(object.spec().list(field), old.spec().list(field))))
        .collect();
    let whole = object.at(&["spec", "resources"]).cloned();
    reset(object, old);
    let spec = object.make(&["spec"]);
    for (field, list) in merged {
        if !list.is_empty() {
            spec.insert(field.to_owned(), list.into());
        }
    }
    match whole {
        Some(whole) => drop(spec.insert("resources".to_owned(), whole)),
        None => drop(spec.remove("resources")),
    }
}

fn resized(new: &[Value], old: &[Value]) -> Vec<Value> {
    if new.iter().zip(old).any(|(new, old)| new.text("name") != old.text("name")) {
        return new.to_vec();
    }
    let merge = |(new, old): (&Value, &Value)| {
        let mut merged = old.clone();
        for field in ["resources", "resizePolicy"] {
            match (new.get(field), merged.as_object_mut()) {
                (Some(value), Some(merged)) => drop(merged.insert(field.to_owned(), value.clone())),
                (None, Some(merged)) => drop(merged.remove(field)),
                (_, None) => {}
            }
        }
        merged
    };
    new.iter().zip(old).map(merge).collect()
}
