//! Secret: its types and the keys they need.

use super::DATA_MAX;
use super::config_map::frozen;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::resource::{Column, Part};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Secret", "secrets", "io.k8s.api.core.v1.Secret")
        .without_generation()
        .prepare_create(|_| {})
        .prepare_update(prepare_update)
        .default(default)
        .validate(validate)
        .validate_update(validate_update)
        .warnings(|object, _| warnings(object))
        .table(columns, row)
        .selectable(&["type"])
}

/// `stringData` is written over `data` and never kept.
fn default(object: &mut Object) {
    if let Some(Value::Object(texts)) = object.0.remove("stringData")
        && let Some(data) = object.0.inside("data")
    {
        for (key, value) in texts {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
    object.0.drop_empty("data");
    object.0.fill_text("type", "Opaque");
}

/// An update that says no type keeps the old one.
fn prepare_update(_part: Part, object: &mut Object, old: &Object) {
    if object.0.text("type").is_empty() {
        object.0.insert("type".to_owned(), old.0.text("type").into());
    }
}

/// How many bytes a base64 text holds.
pub(super) fn decoded_length(text: &str) -> usize {
    text.len() / 4 * 3
        - text.bytes().rev().take(2).filter(|byte| *byte == b'=').count().min(text.len() / 4 * 3)
}

fn validate(object: &Object) -> FieldErrors {
    let path = Path::new("data");
    let mut errors = FieldErrors::new();
    let mut size = 0;
    for (key, value) in object.0.entries("data") {
        let found = names::config_key(key);
        if !found.is_empty() {
            errors.extend(check::invalid(&path.key(key), key, found));
        }
        size += decoded_length(value.as_str().unwrap_or_default());
    }
    if size > DATA_MAX {
        errors.push(FieldError::too_long(&path, DATA_MAX));
    }
    errors.extend(type_errors(object, &path));
    errors
}

fn type_errors(object: &Object, path: &Path) -> FieldErrors {
    let data = object.0.map("data");
    let missing = |key: &str| data.is_none_or(|data| !data.contains_key(key));
    let required = |keys: &[&str]| -> FieldErrors {
        keys.iter().map(|key| FieldError::required(&path.key(key), "")).collect()
    };
    match object.0.text("type") {
        "kubernetes.io/service-account-token" => {
            let account = object.strings("annotations").and_then(|all| all.get(ACCOUNT_NAME));
            if account.and_then(Value::as_str).is_none_or(str::is_empty) {
                let at = Path::new("metadata").child("annotations").key(ACCOUNT_NAME);
                return vec![FieldError::required(&at, "")];
            }
        }
        "kubernetes.io/dockercfg" => return docker_errors(data, ".dockercfg", path),
        "kubernetes.io/dockerconfigjson" => return docker_errors(data, ".dockerconfigjson", path),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            return required(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if data.text("ssh-privatekey").is_empty() => {
            return required(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => {
            let absent: Vec<&str> = ["tls.crt", "tls.key"].into_iter().filter(|key| missing(key)).collect();
            return required(&absent);
        }
        _ => {}
    }
    FieldErrors::new()
}

/// A certificate or a key that nobody can use.
fn warnings(object: &Object) -> Vec<String> {
    if object.0.text("type") != "kubernetes.io/tls" {
        return Vec::new();
    }
    let data = object.0.map("data");
    let holds = |key: &str, mark: &str| {
        let bytes = STANDARD.decode(data.text(key)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(mark)
    };
    if !holds("tls.crt", "-----BEGIN ") {
        vec!["tls: failed to find any PEM data in certificate input".to_owned()]
    } else if !holds("tls.key", "-----BEGIN ") {
        vec!["tls: failed to find any PEM data in key input".to_owned()]
    } else {
        Vec::new()
    }
}

/// Credentials of registries have to be a JSON object; what is wrong is told without the secret.
fn docker_errors(data: Option<&Map<String, Value>>, key: &str, path: &Path) -> FieldErrors {
    let Some(text) = data.and_then(|data| data.get(key)).and_then(Value::as_str) else {
        return vec![FieldError::required(&path.key(key), "")];
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let Some(cause) = crate::kinds::base::go::object_error(&bytes) else { return FieldErrors::new() };
    vec![FieldError::invalid(&path.key(key), "<secret contents redacted>", cause)]
}

fn validate_update(_part: Part, new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check::immutable(&mut errors, &Path::new("type"), new.0.get("type"), old.0.get("type"));
    errors.extend(frozen(new, old, &["data"]));
    errors.extend(validate(new));
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Type", "string", "Secret.type"),
        column("Data", "string", "Secret.data"),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let count = object.0.entries("data").count();
    let kind = object.0.text("type");
    vec![object.name().into(), kind.into(), count.to_string().into(), table::age_of(object, now)]
}
