//! Sources that are files: paths, keys of ConfigMaps and Secrets, the downward API, folders of the host.

use super::FILE_MODE;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Errors, Fields};
use crate::kinds::core::pod::env;
use serde_json::Value;

/// A path without `..` in it.
pub(in crate::kinds::core) fn no_backsteps(errors: &mut FieldErrors, path: &Path, text: &str) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// A relative path that goes down.
pub(in crate::kinds::core::pod) fn descending(errors: &mut FieldErrors, path: &Path, text: &str) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(errors, path, text);
}

/// A relative path that goes down and does not begin with two dots.
pub(in crate::kinds::core::pod) fn local_path(errors: &mut FieldErrors, path: &Path, text: &str) {
    descending(errors, path, text);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

pub(in crate::kinds::core) fn host_path(errors: &mut FieldErrors, at: &Path, source: &Value) {
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let path = source.text("path");
    if path.is_empty() {
        errors.required(&at.child("path"), "");
        return;
    }
    no_backsteps(errors, &at.child("path"), path);
    errors.choice(at, source, "type", TYPES, false);
}

/// A file mode, where there is one.
pub(super) fn mode(errors: &mut FieldErrors, at: &Path, owner: &Value, field: &str) {
    if let Some(mode) = owner.int(field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&at.child(field), mode, FILE_MODE);
    }
}

/// Keys of the Secret or ConfigMap that `name` names, as files.
pub(super) fn keys(errors: &mut FieldErrors, at: &Path, source: &Value, name: &str) {
    errors.needs(at, source, name);
    mode(errors, at, source, "defaultMode");
    items(errors, at, source);
}

/// `items`: which key becomes which file.
pub(super) fn items(errors: &mut FieldErrors, at: &Path, source: &Value) {
    for (index, item) in source.list("items").iter().enumerate() {
        key_to_path(errors, &at.child("items").index(index), item);
    }
}

pub(super) fn key_to_path(errors: &mut FieldErrors, at: &Path, item: &Value) {
    errors.needs(at, item, "key");
    errors.needs(at, item, "path");
    local_path(errors, &at.child("path"), item.text("path"));
    mode(errors, at, item, "mode");
}

pub(super) fn downward(errors: &mut FieldErrors, at: &Path, source: &Value) {
    mode(errors, at, source, "defaultMode");
    for file in source.list("items") {
        downward_file(errors, at, file);
    }
}

/// One file of the downward API; Kubernetes tells its errors without the index.
pub(super) fn downward_file(errors: &mut FieldErrors, at: &Path, file: &Value) {
    const FIELDS: &[&str] =
        &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    errors.needs(at, file, "path");
    local_path(errors, &at.child("path"), file.text("path"));
    match (file.field("fieldRef"), file.field("resourceFieldRef")) {
        (Some(field), resource) => {
            env::field_ref(errors, &at.child("fieldRef"), field, FIELDS);
            if resource.is_some() {
                let rule = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(at, "resource", rule);
            }
        }
        (None, Some(resource)) => env::resource_ref(errors, &at.child("resourceFieldRef"), resource, true),
        (None, None) => errors.required(at, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(errors, at, file, "mode");
}
