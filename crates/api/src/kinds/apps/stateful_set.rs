//! StatefulSet.

use super::replicas;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::core::claim;
use crate::kinds::inside::Inside;
use crate::kinds::shown::{self, Shown};
use crate::kinds::template;
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What of the spec may change.
const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) fn kind() -> Kind {
    Kind::new("apps", "v1", "StatefulSet", "statefulsets", "io.k8s.api.apps.v1.StatefulSet")
        .short(&["sts"])
        .categories(&["all"])
        .named(names::dns_label)
        .parts(&[Part::Status, Part::Scale])
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .default(default)
        .prepare_create(|object| {
            object.0.insert("status".to_owned(), json!({"replicas": 0, "availableReplicas": 0}));
            drop_disabled(object);
        })
        .prepare_update(|_, object, _| drop_disabled(object))
        .validate(|object| validate(object, true))
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

/// How many pods may be away during an update is a feature that Kubernetes has switched off.
fn drop_disabled(object: &mut Object) {
    object.remove(&["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"]);
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    template::default(spec);
    spec.fill("serviceName", "");
    spec.fill_text("podManagementPolicy", "OrderedReady");
    if let Some(strategy) = spec.inside("updateStrategy") {
        if strategy.text("type").is_empty() {
            strategy.insert("type".to_owned(), "RollingUpdate".into());
            strategy.inside("rollingUpdate");
        }
        if strategy.text("type") == "RollingUpdate"
            && let Some(rolling) = strategy.within("rollingUpdate")
        {
            rolling.fill("partition", 0);
        }
    }
    if let Some(policy) = spec.inside("persistentVolumeClaimRetentionPolicy") {
        policy.fill_text("whenDeleted", "Retain");
        policy.fill_text("whenScaled", "Retain");
    }
    spec.fill("replicas", 1);
    spec.fill("revisionHistoryLimit", 10);
    for template in spec.each("volumeClaimTemplates") {
        template.insert("kind".to_owned(), "PersistentVolumeClaim".into());
        template.insert("apiVersion".to_owned(), "v1".into());
        template.inside("metadata");
        if let Some(spec) = template.inside("spec") {
            claim::default_spec(spec);
        }
        if let Some(status) = template.inside("status") {
            status.fill_text("phase", "Pending");
        }
    }
    if let Some(status) = object.0.within("status") {
        status.fill("replicas", 0);
        status.fill("availableReplicas", 0);
    }
}

/// `new`: what cannot change later is looked at too.
fn validate(object: &Object, new: bool) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let at = path.child("podManagementPolicy");
    match spec.text("podManagementPolicy") {
        "" => errors.push(FieldError::required(&at, "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(FieldError::invalid(&at, other, "must be 'OrderedReady' or 'Parallel'")),
    }
    strategy(&mut errors, spec.under("updateStrategy"), &path.child("updateStrategy"));
    if let Some(policy) = spec.under("persistentVolumeClaimRetentionPolicy") {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            check::one_of(&mut errors, &at.child(field), policy.text(field), &["Retain", "Delete"]);
        }
    }
    if new {
        let at = path.child("volumeClaimTemplates");
        for (index, template) in spec.list("volumeClaimTemplates").iter().enumerate() {
            let claim = template.field("spec").unwrap_or(&Value::Null);
            errors.extend(claim::validate_spec(claim, &at.index(index).child("spec")));
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        check::not_negative(&mut errors, &path.child(field), spec.int(field));
    }
    let start = spec.under("ordinals").int("start");
    check::not_negative(&mut errors, &path.child("ordinals").child("start"), start);
    let service = spec.text("serviceName");
    if new && !service.is_empty() {
        let wrong = names::dns_label(service, false);
        errors.extend(check::invalid(&path.child("serviceName"), service, wrong));
    }
    pods(&mut errors, spec, &path);
    template::forever(&mut errors, spec, &path, "StatefulSet");
    errors
}

fn strategy(errors: &mut FieldErrors, strategy: Option<&Map<String, Value>>, path: &Path) {
    let rolling = strategy.under("rollingUpdate");
    let shown = rolling.map_or_else(
        || "null".to_owned(),
        |rolling| {
            let partition = Value::from(rolling.int("partition").unwrap_or(0));
            Shown::new().field("Partition", Some(&partition)).field("MaxUnavailable", None).end()
        },
    );
    match (strategy.text("type"), rolling) {
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(_)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(shown::invalid(&path.child("rollingUpdate"), shown, detail));
        }
        ("OnDelete", None) => {}
        ("RollingUpdate", rolling) => {
            let at = path.child("rollingUpdate").child("partition");
            check::not_negative(errors, &at, rolling.int("partition"));
        }
        (kind, _) => {
            let value = Shown::new().text("Type", kind).raw("RollingUpdate", &shown).end();
            errors.push(shown::invalid(path, value, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

fn pods(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    let at = path.child("selector");
    errors.extend(template::selector_errors(spec, &at, "statefulset"));
    let Ok(selects) = template::selects(spec) else {
        errors.push(shown::invalid(&at, shown::selector(spec.field("selector")), ""));
        return;
    };
    if !selects {
        errors.push(template::unselected(spec, path));
    }
    let with_claims = with_claims(spec);
    errors.extend(template::errors(with_claims.as_ref().or(spec), path));
    // Kubernetes looks at these twice, here under other paths than usual.
    if let Some(labels) = template::labels(spec) {
        errors.extend(names::labels_errors(&path.child("template").child("labels"), labels));
    }
    let metadata = spec.under("template").under("metadata");
    if let Some(annotations) = metadata.under("annotations") {
        errors.extend(names::annotations_errors(&path.child("template").child("annotations"), annotations));
    }
}

/// The spec as its pods will be: with a volume for each claim, and without what the set writes itself.
fn with_claims(spec: Option<&Map<String, Value>>) -> Option<Map<String, Value>> {
    let mut spec = spec?.clone();
    let mut seen = BTreeSet::new();
    let claims: Vec<String> = spec
        .list("volumeClaimTemplates")
        .iter()
        .map(|claim| claim.map("metadata").text("name").to_owned())
        .filter(|name| seen.insert(name.clone()))
        .collect();
    let pod = spec.within("template")?.within("spec")?;
    pod.remove("hostname");
    pod.remove("subdomain");
    if !claims.is_empty() {
        let own = pod
            .list("volumes")
            .iter()
            .filter(|volume| !claims.iter().any(|name| name == volume.text("name")));
        let own: Vec<Value> = own.cloned().collect();
        let made =
            claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        pod.insert("volumes".to_owned(), made.chain(own).collect());
    }
    Some(spec)
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if part != Part::Status {
        errors.extend(validate(object, false));
        let fixed = |object: &Object| {
            let mut spec = object.spec().cloned().unwrap_or_default();
            spec.retain(|field, value| !MUTABLE.contains(&field.as_str()) && !value.is_null());
            spec
        };
        if fixed(object) != fixed(old) {
            let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                          'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden(&Path::new("spec"), detail));
        }
        return errors;
    }
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    replicas::not_negative(&mut errors, object, &["replicas"]);
    replicas::not_negative(&mut errors, object, &parts);
    replicas::not_negative(&mut errors, object, &["observedGeneration", "collisionCount"]);
    replicas::not_above(&mut errors, object, &parts, "replicas", "status.replicas");
    replicas::not_above(&mut errors, object, &["availableReplicas"], "readyReplicas", "status.readyReplicas");
    replicas::collisions_go_up(&mut errors, object, old);
    errors
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let mut warnings = template::warnings(object, old, &["spec", "template"]);
    for (index, template) in object.spec().list("volumeClaimTemplates").iter().enumerate() {
        // Kubernetes leaves the spec out of the path, and of an update it writes it large.
        let at = Path::new("spec").child("volumeClaimTemplates").index(index);
        let at = if old.is_some() { at.child("Spec") } else { at };
        warnings.extend(claim::spec_warnings(template.field("spec"), &at));
    }
    if object.spec().int("revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        warnings.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
    warnings
}

fn columns() -> Vec<Column> {
    vec![
        table::name(),
        table::column("Ready", "string", "How many pods are ready, of how many wished for."),
        table::age(),
        table::wide("Containers", "string", "The names of the template's containers."),
        table::wide("Images", "string", "The images of the template's containers."),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let ready = object.status().int("readyReplicas").unwrap_or(0);
    let (containers, images) = table::containers(spec.under("template").under("spec"));
    vec![
        object.name().into(),
        format!("{ready}/{}", spec.int("replicas").unwrap_or(0)).into(),
        table::age_of(object, now),
        containers.into(),
        images.into(),
    ]
}
