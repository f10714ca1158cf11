//! RoleBinding and ClusterRoleBinding.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::names as kind_names;
use crate::kinds::shown::{self, Shown};
use crate::resource::Column;
use serde_json::Value;

pub(super) fn kind() -> Kind {
    let kind = Kind::new(GROUP, "v1", "RoleBinding", "rolebindings", "io.k8s.api.rbac.v1.RoleBinding");
    both(kind)
        .validate(|object| validate(object, true))
        .validate_update(|_, object, old| validate_update(object, old, true))
}

pub(super) fn cluster_kind() -> Kind {
    let type_name = "io.k8s.api.rbac.v1.ClusterRoleBinding";
    let kind = Kind::new(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings", type_name);
    both(kind)
        .cluster_scoped()
        .validate(|object| validate(object, false))
        .validate_update(|_, object, old| validate_update(object, old, false))
}

fn both(kind: Kind) -> Kind {
    kind.without_generation().named(names::path_segment).default(default).table(columns, row)
}

fn default(object: &mut Object) {
    if let Some(role) = object.0.inside("roleRef") {
        role.fill_text("apiGroup", GROUP);
    }
    for subject in object.0.each("subjects") {
        if matches!(subject.text("kind"), "User" | "Group") {
            subject.fill_text("apiGroup", GROUP);
        }
    }
}

fn validate(object: &Object, namespaced: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (role, path) = (object.0.map("roleRef"), Path::new("roleRef"));
    check::one_of(&mut errors, &path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    check::one_of(&mut errors, &path.child("kind"), role.text("kind"), kinds);
    errors.extend(kind_names::path_segment(&path.child("name"), role.text("name")));
    for (index, subject) in object.0.list("subjects").iter().enumerate() {
        subject_errors(&mut errors, subject, namespaced, &Path::new("subjects").index(index));
    }
    errors
}

fn subject_errors(errors: &mut FieldErrors, subject: &Value, namespaced: bool, path: &Path) {
    let (name, group) = (subject.text("name"), subject.text("apiGroup"));
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.extend(check::invalid(&path.child("name"), name, names::dns_subdomain(name, false)));
            }
            check::one_of(errors, &path.child("apiGroup"), group, &[""]);
            if !namespaced && subject.text("namespace").is_empty() {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => check::one_of(errors, &path.child("apiGroup"), group, &[GROUP]),
        other => {
            let supported = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(&path.child("kind"), other, &supported));
        }
    }
}

fn validate_update(object: &Object, old: &Object, namespaced: bool) -> FieldErrors {
    let mut errors = validate(object, namespaced);
    let (role, old) = (object.0.map("roleRef"), old.0.map("roleRef"));
    if ["apiGroup", "kind", "name"].iter().any(|field| role.text(field) != old.text(field)) {
        let fields = [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")];
        let shown =
            fields.into_iter().fold(Shown::new(), |shown, (name, field)| shown.text(name, role.text(field)));
        errors.push(shown::invalid(&Path::new("roleRef"), shown.end(), "cannot change roleRef"));
    }
    errors
}

fn columns() -> Vec<Column> {
    let wide = table::wide;
    vec![
        table::name(),
        table::column("Role", "string", "What is granted."),
        table::age(),
        wide("Users", "string", "To which users."),
        wide("Groups", "string", "To which groups."),
        wide("ServiceAccounts", "string", "To which service accounts."),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let role = object.0.map("roleRef");
    let of = |kind: &str, shown: fn(&Value) -> String| {
        let subjects = object.0.list("subjects").iter().filter(|subject| subject.text("kind") == kind);
        Value::from(subjects.map(shown).collect::<Vec<_>>().join(", "))
    };
    let name: fn(&Value) -> String = |subject| subject.text("name").to_owned();
    vec![
        object.name().into(),
        format!("{}/{}", role.text("kind"), role.text("name")).into(),
        table::age_of(object, now),
        of("User", name),
        of("Group", name),
        of("ServiceAccount", |subject| format!("{}/{}", subject.text("namespace"), subject.text("name"))),
    ]
}
