//! What is wrong with the metadata of an object.

use super::{dns_label, label_value, qualified_name};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path, quoted};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Annotations of an object in all, keys and values, in bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;
const MANAGER_MAX: usize = 128;
const SUBRESOURCE_MAX: usize = 256;
/// The finalizer of what leaves what it owns alone when it is deleted.
pub const ORPHAN: &str = "orphan";
/// The finalizer of what is deleted after what it owns.
pub const FOREGROUND: &str = "foregroundDeletion";

/// What is wrong with a key of labels at `path`.
#[must_use]
pub fn qualified_name_errors(path: &Path, key: &str) -> FieldErrors {
    qualified_name(key).into_iter().map(|detail| FieldError::invalid(path, key, detail)).collect()
}

/// What is wrong with labels.
#[must_use]
pub fn labels_errors(path: &Path, labels: &Map<String, Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (key, value) in labels {
        let value = value.as_str().unwrap_or_default();
        errors.extend(qualified_name_errors(path, key));
        errors.extend(label_value(value).into_iter().map(|detail| FieldError::invalid(path, value, detail)));
    }
    errors
}

/// What is wrong with annotations: their keys (in which case does not matter) and their size.
#[must_use]
pub fn annotations_errors(path: &Path, annotations: &Map<String, Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut size = 0;
    for (key, value) in annotations {
        let found = qualified_name(&key.to_lowercase());
        errors.extend(found.into_iter().map(|detail| FieldError::invalid(path, key.as_str(), detail)));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_MAX));
    }
    errors
}

/// What is wrong with the metadata of a new object, whose name is generated already. `name` tells what is wrong with a
/// name ([`Strategy::name_errors`](crate::resource::Strategy::name_errors)).
#[must_use]
pub fn meta_errors(
    object: &Object,
    namespaced: bool,
    name: impl Fn(&str, bool) -> Vec<String>,
) -> FieldErrors {
    let at = Path::new("metadata");
    let mut errors = FieldErrors::new();
    let generate = object.text(&["metadata", "generateName"]);
    if !generate.is_empty() {
        let path = at.child("generateName");
        errors
            .extend(name(generate, true).into_iter().map(|text| FieldError::invalid(&path, generate, text)));
    }
    let own = object.name();
    if own.is_empty() {
        errors.push(FieldError::required(&at.child("name"), "name or generateName is required"));
    } else {
        let path = at.child("name");
        errors.extend(name(own, false).into_iter().map(|text| FieldError::invalid(&path, own, text)));
    }
    errors.extend(namespace_errors(object.namespace(), namespaced, &at.child("namespace")));
    if object.generation() < 0 {
        let rule = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&at.child("generation"), object.generation(), rule));
    }
    errors.extend(strings_errors(object, &at));
    errors.extend(owner_errors(object, &at.child("ownerReferences")));
    errors.extend(finalizer_errors(object, &at.child("finalizers")));
    errors.extend(manager_errors(object, &at.child("managedFields")));
    errors
}

/// What is wrong with the metadata of an updated object against the one that is kept.
#[must_use]
pub fn meta_update_errors(new: &Object, old: &Object) -> FieldErrors {
    let at = Path::new("metadata");
    let mut errors = FieldErrors::new();
    if old.is_terminating() {
        let kept: HashSet<&str> = old.finalizers().collect();
        let mut added: Vec<&str> = new.finalizers().filter(|name| !kept.contains(name)).collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let added: Vec<String> = added.into_iter().map(quoted).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden(&at.child("finalizers"), detail));
        }
    }
    if new.resource_version().is_empty() {
        errors.push(FieldError::invalid(&at.child("resourceVersion"), "", "must be specified for an update"));
    }
    if new.generation() < old.generation() {
        let detail = "must not be decremented";
        errors.push(FieldError::invalid(&at.child("generation"), new.generation(), detail));
    }
    let texts = ["name", "namespace", "uid"];
    for field in texts.iter().chain(&["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"])
    {
        let (is, was) = (new.at(&["metadata", field]), old.at(&["metadata", field]));
        if is.filter(|value| !value.is_null()) != was.filter(|value| !value.is_null()) {
            let empty = if texts.contains(field) { Value::String(String::new()) } else { Value::Null };
            let shown = is.cloned().unwrap_or(empty);
            errors.push(FieldError::invalid(&at.child(field), shown, "field is immutable"));
        }
    }
    errors.extend(strings_errors(new, &at));
    errors.extend(owner_errors(new, &at.child("ownerReferences")));
    errors.extend(manager_errors(new, &at.child("managedFields")));
    errors
}

fn namespace_errors(namespace: &str, namespaced: bool, path: &Path) -> FieldErrors {
    match (namespaced, namespace.is_empty()) {
        (true, true) => vec![FieldError::required(path, "")],
        (true, false) => dns_label(namespace, false)
            .into_iter()
            .map(|text| FieldError::invalid(path, namespace, text))
            .collect(),
        (false, true) => FieldErrors::new(),
        (false, false) => vec![FieldError::forbidden(path, "not allowed on this type")],
    }
}

fn strings_errors(object: &Object, at: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(labels) = object.strings("labels") {
        errors.extend(labels_errors(&at.child("labels"), labels));
    }
    if let Some(annotations) = object.strings("annotations") {
        errors.extend(annotations_errors(&at.child("annotations"), annotations));
    }
    errors
}

fn items<'a>(object: &'a Object, field: &str) -> &'a [Value] {
    object.at(&["metadata", field]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn owner_errors(object: &Object, path: &Path) -> FieldErrors {
    let owners = items(object, "ownerReferences");
    let mut errors = FieldErrors::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        let (api_version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
        // `group/version`; more than one slash is no version at all.
        let (group, version) = match api_version.split_once('/') {
            None => ("", api_version),
            Some((_, version)) if version.contains('/') => ("", ""),
            Some(both) => both,
        };
        if version.is_empty() {
            let detail = "version must not be empty";
            errors.push(FieldError::invalid(&path.child("apiVersion"), api_version, detail));
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.push(FieldError::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if (group, version, kind) == ("", "v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.clone(), detail));
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let this = format!("{kind}/{}", text(owner, "name"));
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {this}"
                );
                errors.push(FieldError::invalid(path, Value::Array(owners.to_vec()), detail));
            } else {
                controller = Some(this);
            }
        }
    }
    errors
}

/// Finalizers that are no qualified names: of kinds whose metadata Kubernetes looks at as a whole in updates too.
#[must_use]
pub fn finalizer_form_errors(object: &Object) -> FieldErrors {
    let at = Path::new("metadata").child("finalizers");
    object.finalizers().flat_map(|finalizer| qualified_name_errors(&at, finalizer)).collect()
}

fn finalizer_errors(object: &Object, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for finalizer in object.finalizers() {
        errors.extend(qualified_name_errors(path, finalizer));
    }
    let has = |name| object.finalizers().any(|finalizer| finalizer == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(path, Value::Array(items(object, "finalizers").to_vec()), detail));
    }
    errors
}

/// What is wrong with finalizers of built-in kinds, beside what [`meta_errors`] says: those without a domain are Kubernetes'
/// own.
#[must_use]
pub fn own_finalizer_errors(object: &Object) -> FieldErrors {
    let at = Path::new("metadata").child("finalizers");
    let foreign = |name: &str| !name.contains('/') && !matches!(name, "kubernetes" | ORPHAN | FOREGROUND);
    let finalizers = object.finalizers().enumerate().filter(|(_, name)| foreign(name));
    let rule = "name is neither a standard finalizer name nor is it fully qualified";
    finalizers.map(|(index, name)| FieldError::invalid(&at.index(index), name, rule)).collect()
}

fn manager_errors(object: &Object, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, entry) in items(object, "managedFields").iter().enumerate() {
        let at = || path.index(index);
        let operation = text(entry, "operation");
        if !matches!(operation, "Apply" | "Update") {
            let detail = "must be `Apply` or `Update`";
            errors.push(FieldError::invalid(&at().child("operation"), operation, detail));
        }
        let form = text(entry, "fieldsType");
        if !matches!(form, "" | "FieldsV1") {
            errors.push(FieldError::invalid(&at().child("fieldsType"), form, "must be `FieldsV1`"));
        }
        errors.extend(field_manager_errors(text(entry, "manager"), &at().child("manager")));
        if text(entry, "subresource").len() > SUBRESOURCE_MAX {
            errors.push(FieldError::too_long(&at().child("subresource"), SUBRESOURCE_MAX));
        }
    }
    errors
}

/// What is wrong with the name of a field manager.
#[must_use]
pub fn field_manager_errors(manager: &str, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if manager.len() > MANAGER_MAX {
        errors.push(FieldError::too_long(path, MANAGER_MAX));
    }
    for (at, character) in manager.char_indices().filter(|(_, character)| character.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        errors.push(FieldError::invalid(path, manager, detail));
    }
    errors
}
