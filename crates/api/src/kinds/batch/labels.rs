//! The labels by which a Job finds its pods, written by the server.

use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::selector::LabelSelector;
use crate::kinds::base::Fields;
use crate::kinds::{shown, template};
use serde_json::{Map, Value, json};

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

/// Writes the labels into the template and the selector that asks for them.
pub(super) fn write(object: &mut Object) {
    let (uid, name) = (object.uid().to_owned(), object.name().to_owned());
    let labels = object.make(&["spec", "template", "metadata", "labels"]);
    for (key, value) in [(OLD_NAME, &name), (NAME, &name), (OLD_UID, &uid), (UID, &uid)] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    object.make(&["spec", "selector", "matchLabels"]).entry(UID).or_insert_with(|| uid.into());
}

/// What is wrong with selector and labels of a Job that says no selector of its own. `all`: whether the labels with a
/// domain have to be there too, which Jobs of old do not have.
pub(super) fn errors(object: &Object, all: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = object.spec();
    let Some(selector) = spec.field("selector").filter(|_| !spec.is("manualSelector")) else { return errors };
    if object.uid().is_empty() {
        errors.push(FieldError::required(&Path::new("metadata").child("uid"), ""));
    }
    let labels = template::labels(spec);
    let mut expected = Map::new();
    for (key, value, needed) in [
        (OLD_UID, object.uid(), true),
        (OLD_NAME, object.name(), true),
        (UID, object.uid(), all),
        (NAME, object.name(), all),
    ] {
        if needed {
            errors.extend(label_error(labels, key, value));
            expected.insert(key.to_owned(), json!(value));
        }
    }
    if LabelSelector::from_object(selector).is_ok_and(|selector| !selector.matches(Some(&expected))) {
        let at = Path::new("spec").child("selector");
        errors.push(shown::invalid(&at, shown::selector(Some(selector)), "`selector` not auto-generated"));
    }
    errors
}

fn label_error(labels: Option<&Map<String, Value>>, key: &str, wanted: &str) -> Option<FieldError> {
    let path = Path::new("spec").child("template").child("metadata").child("labels").key(key);
    let detail = format!("must be '{wanted}'");
    match labels.maybe(key) {
        None => Some(FieldError::required(&path, detail)),
        Some(found) if found != wanted => {
            Some(FieldError::invalid(&path, labels.cloned().unwrap_or_default(), detail))
        }
        Some(_) => None,
    }
}

/// Whether the template has both labels with a domain.
pub(super) fn has_all(object: &Object) -> bool {
    let labels = template::labels(object.spec());
    labels.has(UID) && labels.has(NAME)
}
