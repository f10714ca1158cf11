//! What pods of the level `restricted` have to say of themselves, beside what `baseline` forbids.

use super::baseline::{bad_seccomp, is_bad_seccomp, is_profile};
use super::checks::{Finding, Pod, Texts, at, counted_containers, items, plural, quoted, text};
use serde_json::Value;

/// Kinds of volumes that hold nothing of the machine's.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// The others, in the order in which Kubernetes looks for them.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Finding> {
    let may = |container| {
        at(container, &["securityContext", "allowPrivilegeEscalation"]) != Some(&Value::Bool(false))
    };
    let bad = pod.named(may);
    if bad.is_empty() {
        return None;
    }
    let detail =
        format!("{} must set securityContext.allowPrivilegeEscalation=false", counted_containers(&bad));
    Finding::new("allowPrivilegeEscalation != false", detail)
}

pub(super) fn escalation_but_windows(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { escalation(pod) }
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let has = |container, list, wanted: &str| {
        items(container, &["securityContext", "capabilities", list]).any(|name| name == wanted)
    };
    let keeping = pod.named(|container| !has(container, "drop", "ALL"));
    let mut forbidden = Texts::new();
    let adding = pod.named(|container| {
        let added = items(container, &["securityContext", "capabilities", "add"]).filter_map(Value::as_str);
        let wrong: Vec<String> =
            added.filter(|name| *name != "NET_BIND_SERVICE").map(str::to_owned).collect();
        let any = !wrong.is_empty();
        forbidden.extend(wrong);
        any
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = counted_containers(&keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let (who, what) = (counted_containers(&adding), quoted(&forbidden));
        details.push(format!("{who} must not include {what} in securityContext.capabilities.add"));
    }
    if details.is_empty() { None } else { Finding::new("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn capabilities_but_windows(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Finding> {
    let (mut names, mut kinds) = (Vec::new(), Texts::new());
    for volume in items(pod.spec, &["volumes"]).filter_map(Value::as_object) {
        let has = |kind: &&str| at(volume, &[*kind]).is_some();
        if VOLUMES.iter().any(&has) {
            continue;
        }
        names.push(text(volume, &["name"]));
        kinds.insert((*OTHER_VOLUMES.iter().find(|kind| has(kind)).unwrap_or(&"unknown")).to_owned());
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural(names.len(), "volume", "volumes"),
        quoted(&names),
        plural(names.len(), "uses", "use"),
        plural(kinds.len(), "restricted volume type", "restricted volume types"),
        quoted(&kinds)
    );
    Finding::new("restricted volume types", detail)
}

pub(super) fn non_root(pod: &Pod<'_>) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    let says = |wanted: bool| move |value: Option<&Value>| value == Some(&Value::Bool(wanted));
    let setters = pod.setters(|context| says(false)(context.get("runAsNonRoot")));
    if !setters.is_empty() {
        let who = setters.join(" and ");
        return Finding::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if says(true)(at(pod.spec, &["securityContext", "runAsNonRoot"])) {
        return None;
    }
    let silent = pod.named(|container| at(container, &["securityContext", "runAsNonRoot"]).is_none());
    if silent.is_empty() {
        return None;
    }
    let who = counted_containers(&silent);
    Finding::new(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

pub(super) fn non_root_but_for_users(pod: &Pod<'_>) -> Option<Finding> {
    if pod.has_own_users() { None } else { non_root(pod) }
}

pub(super) fn user(pod: &Pod<'_>) -> Option<Finding> {
    let is_root = |context: &serde_json::Map<String, Value>| {
        context.get("runAsUser").and_then(Value::as_i64) == Some(0)
    };
    let setters = pod.setters(is_root);
    if setters.is_empty() {
        return None;
    }
    Finding::new("runAsUser=0", format!("{} must not set runAsUser=0", setters.join(" and ")))
}

pub(super) fn user_but_for_users(pod: &Pod<'_>) -> Option<Finding> {
    if pod.has_own_users() { None } else { user(pod) }
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    const REASON: &str = "seccompProfile";
    let mut kinds = Texts::new();
    let setters = pod.setters(|context| is_bad_seccomp(context, &mut kinds));
    if !setters.is_empty() {
        return Finding::new(REASON, bad_seccomp(&setters, &kinds));
    }
    if is_profile(text(pod.spec, &["securityContext", "seccompProfile", "type"])) {
        return None;
    }
    let silent = pod.named(|container| at(container, &["securityContext", "seccompProfile"]).is_none());
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        counted_containers(&silent)
    );
    Finding::new(REASON, detail)
}

pub(super) fn seccomp_but_windows(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { seccomp(pod) }
}
