//! CSIDriver.

use super::GROUP;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::resource::{Column, Part};
use serde_json::{Value, json};
use std::collections::HashSet;

const TOKENS_IN_SECRETS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true \
                                 to prevent possible logging of tokens in volume attributes";

pub(super) fn kind() -> Kind {
    Kind::new(GROUP, "v1", "CSIDriver", "csidrivers", "io.k8s.api.storage.v1.CSIDriver")
        .lax_updates()
        .cluster_scoped()
        .without_generation()
        .default(default)
        .prepare_create(|object| drop(object.remove(&["spec", "preventPodSchedulingIfMissing"])))
        .prepare_update(|_, object, _| drop(object.remove(&["spec", "preventPodSchedulingIfMissing"])))
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.fill("attachRequired", true);
    spec.fill("fsGroupPolicy", "ReadWriteOnceWithFSType");
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        spec.fill(field, false);
    }
    if spec.list("volumeLifecycleModes").is_empty() {
        spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    if let Some(policy) = spec.maybe("fsGroupPolicy") {
        let supported = ["File", "None", "ReadWriteOnceWithFSType"];
        check::one_of(&mut errors, &path.child("fsGroupPolicy"), policy, &supported);
    }
    let list = |field| spec.items(field);
    let tokens = list("tokenRequests");
    token_errors(&mut errors, tokens, &path.child("tokenRequests"));
    for mode in list("volumeLifecycleModes") {
        let mode = mode.as_str().unwrap_or_default();
        check::one_of(&mut errors, &path.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
    }
    let period = spec.int("nodeAllocatableUpdatePeriodSeconds");
    if let Some(period) = period.filter(|period| *period < 10) {
        let at = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(FieldError::invalid(&at, period, "must be greater than or equal to 10 seconds"));
    }
    if let Some(in_secrets) = spec.flag("serviceAccountTokenInSecrets").filter(|_| tokens.is_empty()) {
        let at = path.child("serviceAccountTokenInSecrets");
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(FieldError::invalid(&at, in_secrets, detail));
    }
    errors
}

fn token_errors(errors: &mut FieldErrors, tokens: &[Value], path: &Path) {
    let mut audiences = HashSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let path = path.index(index);
        let audience = token.text("audience");
        if !audiences.insert(audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
            continue;
        }
        if let Some(seconds) = token.int("expirationSeconds") {
            crate::kinds::authentication::lifetime_errors(errors, seconds, &path.child("expirationSeconds"));
        }
    }
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object);
    for (field, told) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        let (new, old) = (object.spec().field(field), old.spec().field(field));
        check::immutable(&mut errors, &Path::new("spec").child(told), new, old);
    }
    errors
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let tokens = |object: &Object| object.spec().field("tokenRequests").cloned();
    let some = object.spec().is_some_and(|spec| !spec.list("tokenRequests").is_empty());
    let changed = old.is_none_or(|old| tokens(old) != tokens(object));
    let unset = !object.spec().has("serviceAccountTokenInSecrets");
    if some && changed && unset { vec![TOKENS_IN_SECRETS.to_owned()] } else { Vec::new() }
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("AttachRequired", "boolean", "Whether volumes are attached to nodes."),
        column("PodInfoOnMount", "boolean", "Whether it is told of the pod at a mount."),
        column("StorageCapacity", "boolean", "Whether it tells what room it has."),
        column("TokenRequests", "string", "For whom it needs tokens of service accounts."),
        column("RequiresRepublish", "boolean", "Whether it wants to be asked again and again."),
        column("Modes", "string", "Which kinds of volumes it has."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let list = |field| spec.items(field);
    let audiences = spec.has("tokenRequests").then(|| {
        list("tokenRequests").iter().map(|token| token.text("audience")).collect::<Vec<_>>().join(",")
    });
    let modes = list("volumeLifecycleModes").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    vec![
        object.name().into(),
        spec.flag("attachRequired").unwrap_or(true).into(),
        spec.is("podInfoOnMount").into(),
        spec.is("storageCapacity").into(),
        audiences.unwrap_or_else(|| "<unset>".to_owned()).into(),
        spec.is("requiresRepublish").into(),
        if modes.is_empty() { "<none>".into() } else { modes.into() },
        table::age_of(object, now),
    ]
}
