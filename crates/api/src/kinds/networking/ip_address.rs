//! IPAddress.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::shown::{self, Shown};
use crate::kinds::{idle, names as kind_names};
use crate::resource::{Column, Part};
use serde_json::Value;

pub(super) fn kind() -> Kind {
    Kind::new(GROUP, "v1", "IPAddress", "ipaddresses", "io.k8s.api.networking.v1.IPAddress")
        .cluster_scoped()
        .short(&["ip"])
        .without_generation()
        .named(|name, _| names::ip(&Path::root(), name).into_iter().map(|error| error.detail).collect())
        .default(default)
        .validate(validate)
        .validate_update(validate_update)
        .warnings(idle::warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    if let Some(parent) = object.make(&["spec"]).within("parentRef")
        && parent.text("group").is_empty()
    {
        parent.remove("group");
    }
}

fn validate(object: &Object) -> FieldErrors {
    let path = Path::new("spec").child("parentRef");
    let Some(parent) = object.spec().under("parentRef") else {
        return vec![FieldError::required(&path, "")];
    };
    let group = parent.text("group");
    let wrong = if group.is_empty() { Vec::new() } else { names::dns_subdomain(group, false) };
    let mut errors: FieldErrors = check::invalid(&path.child("group"), group, wrong).collect();
    for field in ["resource", "name"] {
        errors.extend(kind_names::path_segment(&path.child(field), parent.text(field)));
    }
    if let Some(namespace) = parent.maybe("namespace").filter(|namespace| !namespace.is_empty()) {
        errors.extend(kind_names::path_segment(&path.child("namespace"), namespace));
    }
    errors
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let (new, old) = (object.spec().under("parentRef"), old.spec().under("parentRef"));
    if new == old {
        return FieldErrors::new();
    }
    let shown = new.map_or_else(
        || "null".to_owned(),
        |parent| {
            let fields =
                [("Group", "group"), ("Resource", "resource"), ("Namespace", "namespace"), ("Name", "name")];
            fields
                .into_iter()
                .fold(Shown::new(), |shown, (name, field)| shown.text(name, parent.text(field)))
                .end()
        },
    );
    vec![shown::invalid(&Path::new("spec").child("parentRef"), shown, check::IMMUTABLE)]
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("ParentRef", "string", "What has the address.")]
}

fn row(object: &Object, _now: i64) -> Vec<Value> {
    let parent = object.spec().under("parentRef").map(|parent| {
        let group = parent.maybe("group").filter(|group| !group.is_empty());
        let group = group.map(|group| format!(".{group}")).unwrap_or_default();
        let namespace = parent.maybe("namespace").filter(|namespace| !namespace.is_empty());
        let namespace = namespace.map(|namespace| format!("/{namespace}")).unwrap_or_default();
        format!(
            "{}{namespace}/{}",
            format!("{}{group}", parent.text("resource")).to_lowercase(),
            parent.text("name")
        )
    });
    vec![object.name().into(), parent.unwrap_or_else(|| "<none>".to_owned()).into()]
}
