//! From `kubectl apply` on the client's side to server-side apply: the annotation with what was applied last.

use super::set::Set;
use super::typed::Type;
use super::update::Conflict;
use super::{check, compare, field_set};
use crate::contract::Object;
use serde_json::Value;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How many bytes the annotations of an object may have.
const MOST_ANNOTATED: usize = 256 << 10;

/// Of conflicts those that stay: fields are no conflict that were applied from the client's side and still have the value
/// from then. `None` where none stays.
pub(super) fn not_allowed(
    conflicts: Vec<Conflict>,
    live: &Object,
    kind: Type<'_>,
    api_version: &str,
) -> Option<Vec<Conflict>> {
    let Some(allowed) = allowed(live, kind, api_version) else { return Some(conflicts) };
    let left: Vec<Conflict> = conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect();
    (!left.is_empty()).then_some(left)
}

fn allowed(live: &Object, kind: Type<'_>, api_version: &str) -> Option<Set> {
    let text = live.strings("annotations")?.get(ANNOTATION)?.as_str()?;
    let applied: Value = serde_json::from_str(text).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(api_version)
        || check::check(kind, &applied).is_err()
    {
        return None;
    }
    let found = compare::objects(kind, &applied, &Value::Object(live.0.clone()));
    let fields = field_set::of(kind, &applied);
    Some(fields.difference(&found.modified).difference(&found.added).difference(&found.removed))
}

/// Writes what is applied into the annotation, where there is one: `kubectl` keeps to its old ways beside the new.
pub(super) fn refresh(object: &mut Object, config: &Object) {
    let has = |object: &Object| {
        let text = object.strings("annotations").and_then(|annotations| annotations.get(ANNOTATION));
        text.and_then(Value::as_str).is_some_and(|text| !text.is_empty())
    };
    if !has(object) {
        return;
    }
    let mut applied = config.clone();
    applied.remove(&["metadata", "annotations", ANNOTATION]);
    let text = format!("{}\n", applied.into_value());
    let annotations = object.make(&["metadata", "annotations"]);
    annotations.insert(ANNOTATION.to_owned(), text.into());
    let size: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MOST_ANNOTATED {
        annotations.remove(ANNOTATION);
    }
}
