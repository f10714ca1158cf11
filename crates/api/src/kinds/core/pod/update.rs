//! What may change of a pod that is kept.

use super::annotations::{self, MIRROR};
use super::metadata_and_spec;
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, check, diff, internal};
use crate::kinds::core::scheduling;
use serde_json::{Map, Value};

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                       `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                       `spec.tolerations` (only additions to existing tolerations),\
                       `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with an update.
pub(super) fn check(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = metadata_and_spec(new);
    annotations::check_update(&mut errors, &Path::new("metadata").child("annotations"), new, old);
    let empty = Map::new();
    let (new, old) = (new.spec().unwrap_or(&empty), old.spec().unwrap_or(&empty));
    let path = Path::new("spec");
    for field in ["containers", "initContainers"] {
        if containers(&mut errors, &path.child(field), new.list(field), old.list(field)) {
            return errors;
        }
    }
    if deadline(&mut errors, &path.child("activeDeadlineSeconds"), new, old) {
        return errors;
    }
    tolerations(&mut errors, &path.child("tolerations"), new, old);
    gates(&mut errors, &path.child("schedulingGates"), new, old);
    rest(&mut errors, &path, new, old);
    errors
}

/// Whether containers came or went, in which case no more is told.
fn containers(errors: &mut FieldErrors, path: &Path, new: &[Value], old: &[Value]) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return true;
    }
    for (index, container) in new.iter().enumerate() {
        errors.needs(&path.index(index), container, "image");
        super::containers::image_padding(errors, &path.index(index), container);
    }
    false
}

/// Whether the deadline was put off, in which case no more is told.
fn deadline(
    errors: &mut FieldErrors,
    path: &Path,
    new: &Map<String, Value>,
    old: &Map<String, Value>,
) -> bool {
    let most = i64::from(i32::MAX);
    match (new.int("activeDeadlineSeconds"), old.int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=most).contains(&new) => errors.invalid(path, new, names::between(0, most)),
        (Some(new), Some(old)) if old < new => {
            errors.invalid(path, new, "must be less than or equal to previous value");
        }
        (Some(_), _) | (None, None) => return false,
        (None, Some(_)) => {
            errors.invalid(path, Value::Null, "must not update from a positive integer to nil value");
            return false;
        }
    }
    true
}

fn tolerations(errors: &mut FieldErrors, path: &Path, new: &Map<String, Value>, old: &Map<String, Value>) {
    const FIELDS: &[&str] = &["key", "operator", "value", "effect"];
    let list = new.list("tolerations");
    let same = |one: &Value, other: &Value| FIELDS.iter().all(|field| one.text(field) == other.text(field));
    if old.list("tolerations").iter().any(|kept| !list.iter().any(|new| same(kept, new))) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    } else {
        scheduling::tolerations(errors, path, list);
    }
}

fn gates(errors: &mut FieldErrors, path: &Path, new: &Map<String, Value>, old: &Map<String, Value>) {
    for (index, gate) in new.list("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !old.list("schedulingGates").iter().any(|kept| kept.text("name") == name) {
            let rule = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(index).child("name"), rule);
        }
    }
}

/// Everything else is as it was; the message shows what would have changed.
fn rest(errors: &mut FieldErrors, path: &Path, new: &Map<String, Value>, old: &Map<String, Value>) {
    let was: Value = old.clone().into();
    let mut wished = new.clone();
    for field in ["containers", "initContainers"] {
        with_images_of(&mut wished, field, old.list(field));
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut wished, old, field);
    }
    let negative = old.int("terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0);
    if negative && wished.int("terminationGracePeriodSeconds") == Some(1) {
        keep(&mut wished, old, "terminationGracePeriodSeconds");
    }
    if !old.list("schedulingGates").is_empty() {
        gated(errors, path, &mut wished, old);
    }
    let wished: Value = wished.into();
    if !internal::same("PodSpec", &was, &wished) {
        let changes =
            diff::unified(&internal::pretty("PodSpec", &was), &internal::pretty("PodSpec", &wished));
        errors.forbidden(path, format!("{MUTABLE}\n{changes}"));
    }
}

fn with_images_of(spec: &mut Map<String, Value>, field: &str, old: &[Value]) {
    let Some(list) = spec.get_mut(field).and_then(Value::as_array_mut) else { return };
    for (container, old) in list.iter_mut().filter_map(Value::as_object_mut).zip(old) {
        container.insert("image".to_owned(), old.text("image").into());
    }
}

fn keep(spec: &mut Map<String, Value>, old: &Map<String, Value>, field: &str) {
    match old.get(field) {
        Some(value) => drop(spec.insert(field.to_owned(), value.clone())),
        None => drop(spec.remove(field)),
    }
}

/// A pod that waits for its gates may still be told more about where it may go.
fn gated(errors: &mut FieldErrors, path: &Path, wished: &mut Map<String, Value>, old: &Map<String, Value>) {
    let selector = wished.map("nodeSelector").cloned().unwrap_or_default();
    if old.entries("nodeSelector").any(|(key, value)| selector.get(key) != Some(value)) {
        let rule = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&path.child("nodeSelector"), selector, rule);
    }
    keep(wished, old, "nodeSelector");
    let nodes = |spec: &Map<String, Value>| spec.field("affinity").field("nodeAffinity").cloned();
    let (is, was) = (nodes(wished), nodes(old));
    if is == was {
        return;
    }
    node_terms(errors, &path.child("affinity").child("nodeAffinity"), is.as_ref(), was.as_ref());
    let others = ["podAffinity", "podAntiAffinity"];
    let alone = wished.map("affinity").is_some_and(|affinity| !others.iter().any(|kind| affinity.has(kind)));
    if alone && !old.has("affinity") {
        wished.remove("affinity");
        return;
    }
    let mut affinity = wished.map("affinity").cloned().unwrap_or_default();
    match was {
        Some(was) => drop(affinity.insert("nodeAffinity".to_owned(), was)),
        None => drop(affinity.remove("nodeAffinity")),
    }
    wished.insert("affinity".to_owned(), affinity.into());
}

fn node_terms(errors: &mut FieldErrors, path: &Path, new: Option<&Value>, old: Option<&Value>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |affinity: Option<&Value>| affinity.field(REQUIRED).list("nodeSelectorTerms").to_vec();
    let (is, was) = (terms(new), terms(old));
    let at = path.child(REQUIRED).child("nodeSelectorTerms");
    if !was.is_empty() && is.len() != was.len() {
        let rule = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid_inside(&at, "[]NodeSelectorTerm", &is.into(), rule);
        return;
    }
    for (index, (new, old)) in is.iter().zip(&was).enumerate() {
        let empty = ["matchExpressions", "matchFields"].iter().all(|field| old.list(field).is_empty());
        let kept = ["matchExpressions", "matchFields"].iter().all(|field| {
            let (new, old) = (new.list(field), old.list(field));
            new.starts_with(old) && (!empty || new.is_empty())
        });
        if !kept {
            let rule = "only additions are allowed (no mutations or deletions)";
            errors.invalid_inside(&at.index(index), "NodeSelectorTerm", new, rule);
        }
    }
}

/// What is wrong with an update of the containers for debugging: they can only be added.
pub(super) fn ephemeral(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = metadata_and_spec(new);
    annotations::check_update(&mut errors, &Path::new("metadata").child("annotations"), new, old);
    if old.strings("annotations").has(MIRROR) {
        let mut errors = FieldErrors::new();
        errors.forbidden(&check::whole(), "static pods do not support ephemeral containers");
        return errors;
    }
    let path = Path::new("spec").child("ephemeralContainers");
    let list = new.spec().list("ephemeralContainers");
    for kept in old.spec().list("ephemeralContainers") {
        let name = kept.text("name");
        let Some(new) = list.iter().rfind(|container| container.text("name") == name) else {
            let rule = format!("existing ephemeral containers {name:?} may not be removed\n");
            errors.forbidden(&path, rule);
            continue;
        };
        if !internal::same("EphemeralContainer", kept, new) {
            let pretty = |container| internal::pretty("EphemeralContainer", container);
            let changes = diff::unified(&pretty(kept), &pretty(new));
            let rule = format!("existing ephemeral containers {name:?} may not be changed\n{changes}");
            errors.forbidden(&path, rule);
        }
    }
    errors
}
