//! Annotations of pods that Kubernetes reads.

use super::all_containers;
use super::volumes::descending;
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Defaults, Errors, Fields};
use crate::kinds::core::scheduling;
use serde_json::{Map, Value, json};

/// The annotation of a pod that a kubelet made of a file.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// The longest name of a profile.
const LONGEST_PROFILE: usize = 4095;
pub(super) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is wrong with the annotations of a pod or template with `spec`.
pub(super) fn check(
    errors: &mut FieldErrors,
    path: &Path,
    annotations: Option<&Map<String, Value>>,
    spec: &Map<String, Value>,
) {
    let Some(annotations) = annotations else { return };
    if let Some(value) = annotations.maybe(MIRROR)
        && spec.text("nodeName").is_empty()
    {
        errors.invalid(&path.key(MIRROR), value, "must set spec.nodeName if mirror pod annotation is set");
    }
    let tolerations = annotations.text(TOLERATIONS);
    if !tolerations.is_empty() {
        match serde_json::from_str::<Vec<Value>>(tolerations) {
            Ok(list) => scheduling::tolerations(errors, &path.child(TOLERATIONS), &list),
            Err(error) => errors.invalid(path, TOLERATIONS, error.to_string()),
        }
    }
    if let Some(cost) = annotations.maybe(DELETION_COST).filter(|cost| !is_cost(cost)) {
        errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    if let Some(profile) = annotations.maybe(SECCOMP_POD) {
        seccomp(errors, &path.child(SECCOMP_POD), profile);
    }
    for (key, profile) in annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER)) {
        seccomp(errors, &path.child(key), profile.as_str().unwrap_or_default());
    }
    for (key, profile) in annotations {
        if let Some(container) = key.strip_prefix(APPARMOR) {
            apparmor(errors, &path.key(key), container, profile.as_str().unwrap_or_default(), spec);
        }
    }
}

/// A number of 32 bits without a plus sign and without zeros in front.
fn is_cost(cost: &str) -> bool {
    let digits = cost.strip_prefix('-').unwrap_or(cost);
    let first = cost == "0" || digits.starts_with(|digit: char| matches!(digit, '1'..='9'));
    first && cost.parse::<i32>().is_ok()
}

fn seccomp(errors: &mut FieldErrors, path: &Path, profile: &str) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => descending(errors, path, file),
        None => errors.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

fn apparmor(
    errors: &mut FieldErrors,
    path: &Path,
    container: &str,
    profile: &str,
    spec: &Map<String, Value>,
) {
    if !all_containers(&Path::root(), spec).any(|(_, own)| own.text("name") == container) {
        errors.invalid(path, container, "container not found");
    }
    let known = matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
    if !known {
        errors.invalid(path, profile, format!("invalid AppArmor profile name: {profile:?}"));
    }
}

/// A container whose AppArmor profile is told by the old annotation alone: its place, the annotation, and the profile that
/// it asks for, unless it is none or the one that the whole pod has.
fn old_profiles(object: &Object) -> Vec<(&'static str, usize, String, Option<Value>)> {
    let (Some(annotations), Some(spec)) = (object.strings("annotations"), object.spec()) else {
        return Vec::new();
    };
    if spec.field("os").text("name") == "windows" {
        return Vec::new();
    }
    let whole = spec.field("securityContext").field("appArmorProfile");
    let mut found = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in spec.list(list).iter().enumerate() {
            let key = format!("{APPARMOR}{}", container.text("name"));
            let Some(text) = annotations.maybe(&key) else { continue };
            if container.field("securityContext").has("appArmorProfile") {
                continue;
            }
            let profile = profile(text);
            if profile.is_none() || profile.as_ref() != whole {
                found.push((list, index, key, profile));
            }
        }
    }
    found
}

/// The field for an annotation; `None` where it says no profile.
fn profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({ "type": "Unconfined" })),
        "" | "runtime/default" => Some(json!({ "type": "RuntimeDefault" })),
        _ => {
            let file = annotation.strip_prefix("localhost/").filter(|file| !file.trim().is_empty())?;
            let is_good = file.trim() == file && file.len() <= LONGEST_PROFILE;
            is_good.then(|| json!({ "type": "Localhost", "localhostProfile": file }))
        }
    }
}

/// Makes fields of the annotations of AppArmor profiles, which is where who runs the pod looks.
pub(super) fn profiles_to_fields(object: &mut Object) {
    // In the order of the lists and of what they hold.
    let mut found = old_profiles(object).into_iter().peekable();
    while let Some(list) = found.peek().map(|(list, ..)| *list) {
        for (index, container) in object.make(&["spec"]).each(list).enumerate() {
            let here = found.next_if(|(of, at, ..)| *of == list && *at == index);
            let Some((.., Some(profile))) = here else { continue };
            if let Some(context) = container.inside("securityContext") {
                context.insert("appArmorProfile".to_owned(), profile);
            }
        }
        // What was told of something that is no container.
        while found.next_if(|(of, ..)| *of == list).is_some() {}
    }
}

/// That these annotations are old.
pub(super) fn warnings(object: &Object) -> Vec<String> {
    let at = Path::new("metadata").child("annotations");
    let old = |(_, _, key, _): (_, _, String, _)| {
        format!("{}: deprecated since v1.30; use the \"appArmorProfile\" field instead", at.key(&key))
    };
    old_profiles(object).into_iter().map(old).collect()
}

/// Annotations and fields of profiles have to say the same in a new pod.
pub(super) fn check_match(errors: &mut FieldErrors, path: &Path, object: &Object, spec: &Map<String, Value>) {
    let annotations = object.strings("annotations");
    let pod = spec.field("securityContext");
    let at = path.child("securityContext").child("seccompProfile");
    matching(errors, &at, annotations.maybe(SECCOMP_POD), pod.field("seccompProfile"), "seccomp");
    for (at, container) in all_containers(path, spec) {
        let annotation = annotations.maybe(&format!("{SECCOMP_CONTAINER}{}", container.text("name")));
        let own = container.field("securityContext").field("seccompProfile");
        let at = at.child("securityContext").child("seccompProfile");
        matching(errors, &at, annotation, own, "seccomp");
    }
    if spec.field("os").text("name") == "windows" {
        return;
    }
    for (at, container) in all_containers(path, spec) {
        let annotation = annotations.maybe(&format!("{APPARMOR}{}", container.text("name")));
        let own = container.field("securityContext").field("appArmorProfile");
        let at = at.child("securityContext").child("appArmorProfile");
        matching(errors, &at, annotation, own.or(pod.field("appArmorProfile")), "apparmor");
    }
}

fn matching(
    errors: &mut FieldErrors,
    at: &Path,
    annotation: Option<&str>,
    profile: Option<&Value>,
    kind: &str,
) {
    let (Some(annotation), Some(profile)) = (annotation, profile) else { return };
    let same_type = match profile.text("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => {
            annotation == "runtime/default" || (kind == "seccomp" && annotation == "docker/default")
        }
        "Localhost" => annotation.starts_with("localhost/"),
        _ => true,
    };
    if !same_type {
        errors.forbidden(&at.child("type"), format!("{kind} type in annotation and field must match"));
    } else if profile.text("type") == "Localhost"
        && annotation.strip_prefix("localhost/") != profile.maybe("localhostProfile")
    {
        let rule = format!("{kind} profile in annotation and field must match");
        errors.forbidden(&at.child("localhostProfile"), rule);
    }
}

/// Annotations of a kept pod that cannot change.
pub(super) fn check_update(errors: &mut FieldErrors, path: &Path, new: &Object, old: &Object) {
    let (new_all, old_all) = (new.strings("annotations"), old.strings("annotations"));
    let fixed = |key: &str| {
        if key.starts_with(APPARMOR) {
            Some("AppArmor annotations")
        } else {
            (key == MIRROR).then_some("mirror pod annotation")
        }
    };
    for (key, value) in old_all.into_iter().flatten() {
        if let Some(what) = fixed(key).filter(|_| new_all.field(key) != Some(value)) {
            errors.forbidden(&path.key(key), format!("may not remove or update {what}"));
        }
    }
    for (key, _) in new_all.into_iter().flatten() {
        if let Some(what) = fixed(key).filter(|_| !old_all.has(key)) {
            errors.forbidden(&path.key(key), format!("may not add {what}"));
        }
    }
    if let Some(spec) = new.spec() {
        check(errors, path, new_all, spec);
    }
}
