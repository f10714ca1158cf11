//! What may change of a running pod's resources.

use super::annotations::MIRROR;
use super::{metadata_and_spec, qos};
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Defaults, Errors, Fields, check as base, internal};
use serde_json::{Map, Value};

/// What is wrong with a resize.
pub(super) fn check(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = metadata_and_spec(new);
    let refuse = |rule: &str| {
        let mut errors = FieldErrors::new();
        errors.forbidden(&base::whole(), rule);
        errors
    };
    if old.strings("annotations").has(MIRROR) {
        return refuse("static pods cannot be resized");
    }
    let empty = Map::new();
    let (new_spec, old_spec) = (new.spec().unwrap_or(&empty), old.spec().unwrap_or(&empty));
    if old_spec.field("os").text("name") == "windows" {
        return refuse("windows pods cannot be resized");
    }
    let path = Path::new("spec");
    let class = match old.text(&["status", "qosClass"]) {
        "" => qos::class(old_spec),
        class => class,
    };
    if class != qos::class(new_spec) {
        let told = new.text(&["status", "qosClass"]);
        errors.invalid(&path, told, "Pod QOS Class may not change as a result of resizing");
    }
    let running = old.status().list("containerStatuses").iter();
    let running = running.clone().find(|status| status.field("state").has("running"));
    if running.is_some_and(|status| !status.has("resources")) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    let mut wished = new_spec.clone();
    whole_pod(&mut errors, &path, &mut wished, old_spec);
    if !old.status().list("nodeAllocatableResourceClaimStatuses").is_empty() {
        errors.forbidden(&path, "pods with node allocatable resource claims cannot be resized");
    }
    if reordered(&mut errors, &path, new_spec, old_spec) {
        return errors;
    }
    removed(&mut errors, &path, new_spec, old_spec);
    containers(&mut errors, &path, &mut wished, old_spec);
    if errors.is_empty() && !internal::same("PodSpec", &wished.into(), &old_spec.clone().into()) {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
    errors
}

fn is_set(spec: &Map<String, Value>) -> bool {
    let own = spec.field("resources");
    own.entries("requests").next().is_some() || own.entries("limits").next().is_some()
}

/// Resources of the pod as a whole.
fn whole_pod(
    errors: &mut FieldErrors,
    path: &Path,
    wished: &mut Map<String, Value>,
    old: &Map<String, Value>,
) {
    if !is_set(wished) && !is_set(old) {
        return;
    }
    let at = path.child("resources");
    if old.has("resources") && !wished.has("resources") {
        errors.forbidden(&at, "pod-level resources cannot be removed");
        return;
    }
    if old.has("resources") {
        for field in ["requests", "limits"] {
            if lost(wished.field("resources"), old.field("resources"), field) {
                errors.forbidden(&at.child(field), format!("pod-level resource {field} cannot be removed"));
            }
        }
    }
    let old_resources = old.field("resources").cloned();
    if let Some(own) = wished.within("resources") {
        without_cpu_and_memory(own, old_resources.as_ref());
    }
    if old_resources.is_none() && !is_set(wished) && wished.field("resources").list("claims").is_empty() {
        wished.remove("resources");
    }
    let null = Value::Null;
    let (is, was) = (wished.field("resources").unwrap_or(&null), old_resources.as_ref().unwrap_or(&null));
    if !internal::same("*ResourceRequirements", is, was) {
        errors.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
}

/// Whether a resource that was there is not any more.
fn lost(new: Option<&Value>, old: Option<&Value>, field: &str) -> bool {
    old.entries(field).any(|(name, _)| !new.field(field).has(name))
}

fn reordered(
    errors: &mut FieldErrors,
    path: &Path,
    new: &Map<String, Value>,
    old: &Map<String, Value>,
) -> bool {
    let before = errors.len();
    for field in ["containers", "initContainers"] {
        let (is, was) = (new.list(field), old.list(field));
        let at = path.child(field);
        if is.len() != was.len() {
            errors.forbidden(&at, format!("{field} may not be added or removed on resize"));
            continue;
        }
        for (index, (is, was)) in is.iter().zip(was).enumerate() {
            if is.text("name") != was.text("name") {
                let rule = format!("{field} may not be renamed or reordered on resize");
                errors.forbidden(&at.index(index).child("name"), rule);
            }
        }
    }
    errors.len() > before
}

fn removed(errors: &mut FieldErrors, path: &Path, new: &Map<String, Value>, old: &Map<String, Value>) {
    for list in ["initContainers", "containers"] {
        for (index, (is, was)) in new.list(list).iter().zip(old.list(list)).enumerate() {
            for field in ["requests", "limits"] {
                if lost(is.field("resources"), was.field("resources"), field) {
                    let at = path.child(list).index(index).child("resources").child(field);
                    errors.forbidden(&at, format!("resource {field} cannot be removed"));
                }
            }
        }
    }
}

/// Takes CPU and memory of `own` from `old`, so that what is left has to be equal.
fn without_cpu_and_memory(own: &mut Map<String, Value>, old: Option<&Value>) {
    for field in ["requests", "limits"] {
        let kept = old.field(field);
        if !own.has(field) && kept.is_none() {
            continue;
        }
        let Some(list) = own.inside(field) else { continue };
        for name in ["cpu", "memory"] {
            match kept.field(name) {
                Some(amount) => drop(list.insert(name.to_owned(), amount.clone())),
                None => drop(list.remove(name)),
            }
        }
    }
}

fn containers(
    errors: &mut FieldErrors,
    path: &Path,
    wished: &mut Map<String, Value>,
    old: &Map<String, Value>,
) {
    for list in ["containers", "initContainers"] {
        for (index, (container, was)) in wished.each(list).zip(old.list(list)).enumerate() {
            let changed = !internal::same("Container", &container.clone().into(), was);
            if let Some(own) = container.inside("resources") {
                without_cpu_and_memory(own, was.field("resources"));
                own.remove("claims");
            }
            let sidecar = container.text("restartPolicy") == "Always";
            let restarts = container.list("resizePolicy").iter();
            let restarts =
                restarts.filter(|policy| policy.text("restartPolicy") == "RestartContainer").count();
            let differs = !internal::same("Container", &container.clone().into(), was);
            if list == "containers" {
                if differs {
                    errors.forbidden(path, "only cpu and memory resources are mutable");
                }
                continue;
            }
            let at = path.child(list).index(index);
            if differs {
                let rule = "only cpu and memory resources for init or sidecar containers are mutable";
                errors.forbidden(&at, rule);
            }
            for _ in 0..if changed && !sidecar { restarts } else { 0 } {
                let rule =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                errors.forbidden(&at, rule);
            }
        }
    }
}
