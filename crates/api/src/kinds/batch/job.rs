//! Job.

use super::{conditions, failure, labels, spec, status, success};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Fields, Kind, check, internal, table};
use crate::kinds::inside::Inside;
use crate::kinds::{shown, template};
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

pub(super) fn kind() -> Kind {
    Kind::new("batch", "v1", "Job", "jobs", "io.k8s.api.batch.v1.Job")
        .categories(&["all"])
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(prepare_create)
        .prepare_update(prepare_update)
        .validate(|object| validate(object, true))
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
        .selectable(&["status.successful"])
        .selected(|object, _| object.status().int("succeeded").unwrap_or(0).to_string())
}

fn default(object: &mut Object) {
    let job = object.make(&["spec"]);
    spec::default(job);
    if !job.has("completions") && !job.has("parallelism") {
        job.insert("completions".to_owned(), 1.into());
    }
    job.fill("parallelism", 1);
    let limit = if job.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
    job.fill("backoffLimit", limit);
    job.fill("completionMode", "NonIndexed");
    job.fill("suspend", false);
    let policy = if job.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    job.fill("podReplacementPolicy", policy);
    job.fill("manualSelector", false);
}

/// A Job without labels has those of its template.
fn labels_of_template(object: &mut Object) {
    let labels = template::labels(object.spec()).cloned();
    if let Some(labels) = labels.filter(|_| object.strings("labels").is_none_or(Map::is_empty)) {
        object.metadata_mut().insert("labels".to_owned(), labels.into());
    }
}

fn prepare_create(object: &mut Object) {
    if !object.spec().is("manualSelector") {
        labels::write(object);
    }
    labels_of_template(object);
    object.0.insert("status".to_owned(), json!({}));
}

fn prepare_update(part: Part, object: &mut Object, _old: &Object) {
    if part == Part::Main {
        labels_of_template(object);
    }
}

/// `all_labels`: whether the template needs the labels that Jobs of old do not have.
fn validate(object: &Object, all_labels: bool) -> FieldErrors {
    let (job, path) = (object.spec(), Path::new("spec"));
    let mut errors = labels::errors(object, all_labels);
    errors.extend(spec_errors(object, &path));
    if let Some(completions) = job.int("completions").filter(|count| *count > 0 && spec::is_indexed(job)) {
        let hostname = format!("{}-{}", object.name(), completions - 1);
        if !names::dns_label(&hostname, false).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
            errors.push(FieldError::invalid(&Path::new("metadata").child("name"), object.name(), detail));
        }
    }
    errors
}

fn spec_errors(object: &Object, path: &Path) -> FieldErrors {
    let job = object.spec();
    let mut errors = spec::errors(job, path);
    match job.under("selector") {
        None => errors.push(FieldError::required(&path.child("selector"), "")),
        Some(selector) => check::label_selector(&mut errors, &path.child("selector"), selector),
    }
    if template::selects(job) == Ok(false) {
        errors.push(template::unselected(job, path));
    }
    errors
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    if part == Part::Status {
        return status::errors(object, old);
    }
    let path = Path::new("spec");
    let mut errors = validate(object, labels::has_all(old));
    // Kubernetes looks at the spec twice, and tells the same once.
    errors.extend(spec_errors(object, &path));
    completions(&mut errors, object, old, &path.child("completions"));
    let (new, old_spec) = (object.spec(), old.spec());
    let mut same = |field: &str, shown: fn(Option<&Value>) -> String| {
        if new.field(field) != old_spec.field(field) {
            errors.push(shown::invalid(&path.child(field), shown(new.field(field)), check::IMMUTABLE));
        }
    };
    let plain: fn(Option<&Value>) -> String = |value| value.unwrap_or(&Value::Null).to_string();
    same("selector", shown::selector);
    if let Some((at, shown)) = changed_template(object, old) {
        errors.push(shown::invalid(&at, shown, check::IMMUTABLE));
    }
    let mut same = |field: &str, shown: fn(Option<&Value>) -> String| {
        if new.field(field) != old_spec.field(field) {
            errors.push(shown::invalid(&path.child(field), shown(new.field(field)), check::IMMUTABLE));
        }
    };
    same("completionMode", plain);
    same("podFailurePolicy", failure::shown);
    same("backoffLimitPerIndex", plain);
    same("managedBy", plain);
    same("successPolicy", success::shown);
    errors
}

/// Completions change only together with the pods at once, where they are counted by index.
fn completions(errors: &mut FieldErrors, object: &Object, old: &Object, path: &Path) {
    let (new, old) = (object.spec(), old.spec());
    let count = new.int("completions");
    if count == old.int("completions") {
        return;
    }
    let shown = count.map_or(Value::Null, Value::from);
    if !spec::is_indexed(new) {
        errors.push(FieldError::invalid(path, shown, check::IMMUTABLE));
    } else if count.is_some() && count != new.int("parallelism") {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(path, shown, detail));
    }
}

/// Where the template has changed although it may not, and what it is now. While a Job is suspended it may be told where its pods run and
/// what they get.
fn changed_template(object: &Object, old: &Object) -> Option<(Path, String)> {
    let of = |object: &Object| object.spec().field("template").cloned().unwrap_or_default();
    let (mut new, mut kept) = (of(object), of(old));
    let path = Path::new("spec");
    let suspended = old.spec().is("suspend");
    let idle = old.status().int("active").unwrap_or(0) == 0;
    let paused = !old.status().has("startTime") || conditions::is(old, "Suspended");
    if !suspended || !idle || !paused {
        return (new != kept).then(|| (path.child("template"), template::shown(&new)));
    }
    for template in [&mut new, &mut kept] {
        if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
            drop_directives(spec);
        }
    }
    let now = of(object);
    let shown = || internal::shown("PodSpec", now.field("spec").unwrap_or(&Value::Null));
    (new.field("spec") != kept.field("spec")).then(|| (path.child("template.spec"), shown()))
}

fn drop_directives(pod: &mut Map<String, Value>) {
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        pod.remove(field);
    }
    if let Some(affinity) = pod.within("affinity") {
        affinity.remove("nodeAffinity");
        if affinity.is_empty() {
            pod.remove("affinity");
        }
    }
    for list in ["containers", "initContainers"] {
        pod.each(list).for_each(|container| drop(container.remove("resources")));
    }
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let name = template::name_warning(object, old).into_iter();
    let changed = old.is_none_or(|old| old.spec() != object.spec());
    let own = changed.then(|| spec::warnings(object.spec(), &Path::new("spec"))).flatten();
    name.chain(own).chain(template::warnings(object, old, &["spec", "template"])).collect()
}

fn columns() -> Vec<Column> {
    let column = table::column;
    let own = [
        table::name(),
        column("Status", "string", "Whether it runs or how it ended."),
        column("Completions", "string", "How many pods succeeded, of how many wished for."),
        column("Duration", "string", "How long it ran."),
        table::age(),
    ];
    own.into_iter().chain(table::template_columns("Which pods belong to it.")).collect()
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (job, status) = (object.spec(), object.status());
    let succeeded = status.int("succeeded").unwrap_or(0);
    let completions = match (job.int("completions"), job.int("parallelism").unwrap_or(0)) {
        (Some(wished), _) => format!("{succeeded}/{wished}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let end = table::seconds(status.text("completionTime")).unwrap_or(now);
    let start = table::seconds(status.text("startTime"));
    let (containers, images) = table::containers(job.under("template").under("spec"));
    vec![
        object.name().into(),
        state(object).into(),
        completions.into(),
        start.map_or_else(String::new, |start| table::duration(end - start)).into(),
        table::age_of(object, now),
        containers.into(),
        images.into(),
        table::selector(job.under("selector")).into(),
    ]
}

fn state(object: &Object) -> &'static str {
    let first = ["Complete", "Failed"].into_iter().find(|kind| conditions::is(object, kind));
    let deleted = || object.is_terminating().then_some("Terminating");
    let later = || {
        let kinds = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
        kinds.into_iter().find(|kind| conditions::is(object, kind))
    };
    first.or_else(deleted).or_else(later).unwrap_or("Running")
}
