//! The kind `CustomResourceDefinition` itself.

use super::{status, validate};
use crate::contract::Object;
use crate::contract::field::FieldErrors;
use crate::kinds::base::{Defaults, Fields, Kind, table};
use crate::resource::{Column, Part, Resource};
use serde_json::{Value, json};

/// The resource of the kind.
pub(super) fn resource() -> Resource {
    Kind::new(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    )
    .cluster_scoped()
    .any_finalizer()
    .short(&["crd", "crds"])
    .categories(&["api-extensions"])
    .parts(&[Part::Status])
    .default(default)
    .prepare_create(prepare_create)
    .prepare_update(prepare_update)
    .validate(validate)
    .validate_update(validate_update)
    .table(columns, row)
    .resource()
}

fn default(object: &mut Object) {
    let storage = {
        let Some(spec) = object.0.within("spec") else { return };
        if let Some(names) = spec.inside("names") {
            let kind = names.text("kind").to_owned();
            if !kind.is_empty() {
                names.fill_text("singular", &kind.to_lowercase());
                names.fill_text("listKind", &format!("{kind}List"));
            }
        }
        if !spec.has("conversion") {
            spec.insert("conversion".to_owned(), json!({"strategy": "None"}));
        }
        spec.list("versions")
            .iter()
            .find(|version| version.is("storage"))
            .map(|version| version.text("name").to_owned())
    };
    // Kubernetes keeps both lists even where they are empty.
    let status = object.make(&["status"]);
    status.fill("conditions", json!([]));
    if !status.has("acceptedNames") {
        status.insert("acceptedNames".to_owned(), json!({"plural": "", "kind": ""}));
    }
    if let Some(name) = storage
        && status.list("storedVersions").is_empty()
    {
        status.insert("storedVersions".to_owned(), json!([name]));
    }
}

fn prepare_create(object: &mut Object) {
    object.0.remove("status");
    default(object);
    status::store_version(object);
}

fn prepare_update(part: Part, object: &mut Object, old: &Object) {
    match part {
        Part::Status => {
            if let Some(spec) = old.0.get("spec") {
                object.0.insert("spec".to_owned(), spec.clone());
            }
        }
        _ => {
            match old.0.get("status") {
                Some(status) => drop(object.0.insert("status".to_owned(), status.clone())),
                None => drop(object.0.remove("status")),
            }
            status::store_version(object);
        }
    }
}

fn validate(object: &Object) -> FieldErrors {
    let wanted = format!("{}.{}", object.text(&["spec", "names", "plural"]), object.text(&["spec", "group"]));
    let mut errors = FieldErrors::new();
    if !object.name().is_empty() && object.name() != wanted {
        let path = crate::contract::field::Path::new("metadata").child("name");
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(crate::contract::field::FieldError::invalid(&path, object.name(), detail));
    }
    errors.extend(validate::create(object));
    errors
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    match part {
        Part::Status => validate::accepted(object),
        _ => validate::update(object, old),
    }
}

fn columns() -> Vec<Column> {
    let about = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not \
                 guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is \
                 represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
                 https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
    vec![table::name(), table::column("Created At", "date", about)]
}

fn row(object: &Object, _: i64) -> Vec<Value> {
    vec![object.name().into(), object.text(&["metadata", "creationTimestamp"]).into()]
}
