//! Templates of pods, as the workload kinds have them.

use super::base::{Defaults, Fields, check, internal};
use super::core::pod;
use super::shown;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::contract::selector::LabelSelector;
use crate::kinds::inside::Inside;
use serde_json::{Map, Value};

/// Fills in what a template under `template` leaves out.
pub(super) fn default(spec: &mut Map<String, Value>) {
    if let Some(template) = spec.inside("template") {
        template.inside("metadata");
        if let Some(pod) = template.inside("spec") {
            pod::default_spec(pod);
        }
    }
}

/// Labels of the template in `spec`.
pub(super) fn labels(spec: Option<&Map<String, Value>>) -> Option<&Map<String, Value>> {
    spec.under("template")?.map("metadata")?.map("labels")
}

/// Whether the selector in `spec` selects the pods of the template there; an error where the selector is none.
pub(super) fn selects(spec: Option<&Map<String, Value>>) -> Result<bool, ()> {
    let selector = spec.field("selector").unwrap_or(&Value::Null);
    let selector = LabelSelector::from_object(selector).map_err(|_| ())?;
    Ok(selector.is_everything() || selector.matches(labels(spec)))
}

/// That a selector does not select the template's labels.
pub(super) fn unselected(spec: Option<&Map<String, Value>>, path: &Path) -> FieldError {
    let at = path.child("template").child("metadata").child("labels");
    let labels = labels(spec).map_or(Value::Null, |labels| labels.clone().into());
    FieldError::invalid(&at, labels, "`selector` does not match template `labels`")
}

/// What is wrong with the selector of a workload, which has to be there and to select something.
pub(super) fn selector_errors(spec: Option<&Map<String, Value>>, path: &Path, whose: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match spec.under("selector") {
        None => errors.push(FieldError::required(path, "")),
        Some(selector) => {
            check::label_selector(&mut errors, path, selector);
            if check::selects_all(selector) {
                let detail = format!("empty selector is invalid for {whose}");
                errors.push(shown::invalid(path, shown::selector(spec.field("selector")), detail));
            }
        }
    }
    errors
}

/// What is wrong with the template of pods that are always restarted. `whose`: the kind that the message names.
pub(super) fn errors(spec: Option<&Map<String, Value>>, path: &Path) -> FieldErrors {
    let template = spec.field("template").unwrap_or(&Value::Null);
    pod::validate_template(template, &path.child("template"))
}

/// Pods of a workload are restarted for ever and without a deadline.
pub(super) fn forever(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path, whose: &str) {
    let pod = spec.under("template").under("spec");
    let path = path.child("template").child("spec");
    let restart = pod.text("restartPolicy");
    check::one_of(errors, &path.child("restartPolicy"), restart, &["Always"]);
    if pod.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {whose} is not Supported");
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
}

/// A template as messages show it: with its metadata in line.
pub(super) fn shown(template: &Value) -> String {
    let metadata = template.map("metadata");
    let fields = ["name", "generateName", "namespace", "labels", "annotations", "finalizers"];
    let shown = fields.into_iter().fold(shown::Shown::new(), |shown, field| match metadata.field(field) {
        Some(value) => shown.field(field, Some(value)),
        None => shown,
    });
    let spec = internal::shown("PodSpec", template.field("spec").unwrap_or(&Value::Null));
    shown.raw("Spec", &spec).end()
}

/// The warnings of an object with a template at `at`, which are given again only when the template changes.
pub(super) fn warnings(object: &Object, old: Option<&Object>, at: &[&str]) -> Vec<String> {
    let template = object.at(at).unwrap_or(&Value::Null);
    if old.is_some_and(|old| old.at(at) == object.at(at)) {
        return Vec::new();
    }
    let path = at.iter().fold(Path::root(), |path, name| path.child(name));
    pod::template_warnings(template, &path)
}

/// The warning of a name that is no label, although names of pods are made of it.
pub(super) fn name_warning(object: &Object, old: Option<&Object>) -> Option<String> {
    let wrong = names::dns_label(object.name(), false);
    (old.is_none() && !wrong.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            wrong.join(" ")
        )
    })
}
