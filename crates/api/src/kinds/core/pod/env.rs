//! Environment variables and what they are taken from.

use super::resources::quantity;
use super::volumes::no_backsteps;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::contract::quantity::Quantity;
use crate::kinds::base::{Errors, Fields};
use serde_json::Value;

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of a pod that the downward API knows, beside the maps of the metadata.
const KNOWN: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.annotations",
    "metadata.labels",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What is wrong with `env`.
pub(super) fn check(errors: &mut FieldErrors, path: &Path, variables: &[Value]) {
    for (index, variable) in variables.iter().enumerate() {
        let at = path.index(index);
        let name = variable.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.malformed(&at, "name", name, names::env_name(name));
        }
        if let Some(from) = variable.field("valueFrom") {
            value_from(errors, &at.child("valueFrom"), from, variable.text("value"));
        }
    }
}

fn value_from(errors: &mut FieldErrors, at: &Path, from: &Value, value: &str) {
    let mut sources = 0;
    if let Some(field) = from.field("fieldRef") {
        sources += 1;
        field_ref(errors, &at.child("fieldRef"), field, FIELDS);
    }
    if let Some(resource) = from.field("resourceFieldRef") {
        sources += 1;
        resource_ref(errors, &at.child("resourceFieldRef"), resource, false);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = from.field(kind) {
            sources += 1;
            key_ref(errors, &at.child(kind), key);
        }
    }
    if let Some(file) = from.field("fileKeyRef") {
        sources += 1;
        file_ref(errors, &at.child("fileKeyRef"), file);
    }
    if sources == 0 {
        let rule = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(at, "", rule);
    } else if !value.is_empty() {
        errors.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(at, "", "may not have more than one field specified at a time");
    }
}

/// A reference to a field of the pod, one of `fields`.
pub(super) fn field_ref(errors: &mut FieldErrors, at: &Path, field: &Value, fields: &[&str]) {
    for name in ["apiVersion", "fieldPath"] {
        if field.text(name).is_empty() {
            errors.required(&at.child(name), "");
            return;
        }
    }
    let (version, path) = (field.text("apiVersion"), field.text("fieldPath"));
    let (base, key) = subscript(path);
    if version != "v1" {
        let rule = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&at.child("fieldPath"), path, rule);
        return;
    }
    match key {
        Some(key) => match base {
            "metadata.annotations" => errors.extend(names::qualified_name_errors(at, &key.to_lowercase())),
            "metadata.labels" => errors.extend(names::qualified_name_errors(at, key)),
            _ => {
                let rule =
                    format!("error converting fieldPath: field label does not support subscript: {path}");
                errors.invalid(&at.child("fieldPath"), path, rule);
            }
        },
        None if !KNOWN.contains(&path) => {
            let rule = format!("error converting fieldPath: field label not supported: {path}");
            errors.invalid(&at.child("fieldPath"), path, rule);
        }
        None => {
            let path = if path == "spec.host" { "spec.nodeName" } else { path };
            if !fields.contains(&path) {
                errors.not_supported(&at.child("fieldPath"), path, fields);
            }
        }
    }
}

/// `metadata.labels['a']` as field and key.
fn subscript(path: &str) -> (&str, Option<&str>) {
    let parts = path.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    match parts {
        Some((base, key)) if !base.is_empty() => (base, Some(key)),
        _ => (path, None),
    }
}

/// A reference to a request or limit of a container; `volume`: in a volume, where the container has to be named.
pub(super) fn resource_ref(errors: &mut FieldErrors, at: &Path, reference: &Value, volume: bool) {
    let resource = reference.text("resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if volume && reference.text("containerName").is_empty() {
        errors.required(&at.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&at.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&at.child("resource"), resource, RESOURCES);
    }
    if let Some(divisor) = reference.field("divisor").and_then(quantity).filter(|divisor| !divisor.is_zero())
    {
        divisor_errors(errors, at, resource, &divisor, huge);
    }
}

fn divisor_errors(errors: &mut FieldErrors, at: &Path, resource: &str, divisor: &Quantity, huge: bool) {
    const SIZES: &[&str] =
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (of, sizes): (&str, &[&str]) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => ("cpu", &["1m", "1"]),
        "memory" => ("memory", SIZES),
        "ephemeral-storage" => ("local ephemeral storage", SIZES),
        _ if huge => ("hugepages", SIZES),
        _ => return,
    };
    if !sizes.contains(&divisor.to_string().as_str()) {
        let sizes = if of == "cpu" { "1m and 1".to_owned() } else { SIZES.join(", ") };
        let rule = format!("only divisor's values {sizes} are supported with the {of} resource");
        errors.invalid(&at.child("divisor"), resource, rule);
    }
}

/// A key of a ConfigMap or Secret.
fn key_ref(errors: &mut FieldErrors, at: &Path, reference: &Value) {
    let (name, key) = (reference.text("name"), reference.text("key"));
    errors.malformed(at, "name", name, names::dns_subdomain(name, false));
    if key.is_empty() {
        errors.required(&at.child("key"), "");
    } else {
        errors.malformed(at, "key", key, names::config_key(key));
    }
}

fn file_ref(errors: &mut FieldErrors, at: &Path, reference: &Value) {
    let (key, volume, path) = (reference.text("key"), reference.text("volumeName"), reference.text("path"));
    if key.is_empty() {
        errors.required(&at.child("key"), "");
    } else {
        errors.malformed(at, "key", key, names::env_name(key));
    }
    if volume.is_empty() {
        errors.required(&at.child("volumeName"), "");
    } else {
        errors.malformed(at, "volumeName", volume, names::dns_label(volume, false));
    }
    if path.is_empty() {
        errors.required(&at.child("path"), "");
    } else {
        no_backsteps(errors, &at.child("path"), path);
    }
}

/// What is wrong with `envFrom`.
pub(super) fn check_from(errors: &mut FieldErrors, path: &Path, sources: &[Value]) {
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            errors.malformed(&at, "prefix", prefix, names::env_name(prefix));
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let Some(reference) = source.field(kind) else { continue };
            count += 1;
            let name = reference.text("name");
            if name.is_empty() {
                errors.required(&at.child(kind).child("name"), "");
            } else {
                errors.malformed(&at.child(kind), "name", name, names::dns_subdomain(name, true));
            }
        }
        match count {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}

/// A variable that is read from a file needs a volume of the type emptyDir.
pub(super) fn check_file_volumes(
    errors: &mut FieldErrors,
    path: &Path,
    variables: &[Value],
    volumes: &[Value],
) {
    for (index, variable) in variables.iter().enumerate() {
        let Some(reference) = variable.field("valueFrom").field("fileKeyRef") else { continue };
        let name = reference.text("volumeName");
        let at = || path.child("env").index(index).child("valueFrom").child("fileKeyRef").child("volumeName");
        match volumes.iter().rfind(|volume| volume.text("name") == name) {
            None => errors.not_found(&at(), name),
            Some(volume) if !volume.has("emptyDir") => {
                errors.invalid(&at(), name, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}
