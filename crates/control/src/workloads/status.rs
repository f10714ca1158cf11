//! Statuses: written where they have changed, and not over another's.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What an object's status lacks of the one it should have; `None` where it is so. What is zero need not be there.
fn difference(object: &impl Serialize, new: &Value) -> Option<Value> {
    let whole = serde_json::to_value(object).unwrap_or_default();
    let old = &whole["status"];
    let mut changed = serde_json::Map::new();
    for (field, value) in new.as_object().into_iter().flatten() {
        let held = &old[field];
        if without_nothing(held) != without_nothing(value) {
            changed.insert(field.clone(), value.clone());
        }
    }
    (!changed.is_empty()).then_some(Value::Object(changed))
}

/// A value without fields that say nothing: what is zero or empty need not be there.
fn without_nothing(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64() == Some(0) => Value::Null,
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Object(map) => {
            let fields = map.iter().map(|(field, value)| (field.clone(), without_nothing(value)));
            let left: serde_json::Map<String, Value> = fields.filter(|(_, value)| !value.is_null()).collect();
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        other => other.clone(),
    }
}

/// Writes what has changed of a status into an object that is as it was read: one that has changed is looked at again anyway. The object
/// as it is then; `None` where nothing was to be written, or the object is gone.
pub(super) async fn write<K>(client: &Client, object: &K, new: &Value) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let Some(changed) = difference(object, new) else { return Ok(None) };
    let meta = object.meta();
    let api: Api<K> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let metadata = json!({"uid": meta.uid, "resourceVersion": meta.resource_version});
    let patch = Patch::Merge(json!({"metadata": metadata, "status": changed}));
    let name = meta.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &PatchParams::default(), &patch).await {
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        done => done.map(Some),
    }
}

/// The conditions of a status.
pub(super) fn conditions(status: &impl Serialize) -> Vec<Value> {
    let status = serde_json::to_value(status).unwrap_or_default();
    status["conditions"].as_array().cloned().unwrap_or_default()
}

/// One condition.
pub(super) fn condition<'a>(held: &'a [Value], kind: &str) -> Option<&'a Value> {
    held.iter().find(|condition| condition["type"] == kind)
}

/// Writes a condition; since when it is so changes with its status alone. Whether it is another than before.
pub(super) fn set(
    held: &mut Vec<Value>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let old = condition(held, kind).cloned();
    let same = |field: &str, value: &str| old.as_ref().is_some_and(|old| old[field] == value);
    if same("status", status) && same("reason", reason) && same("message", message) {
        return false;
    }
    let mut new = json!({"type": kind, "status": status, "reason": reason, "message": message});
    let since = old.as_ref().filter(|_| same("status", status)).map(|old| old["lastTransitionTime"].clone());
    new["lastTransitionTime"] = since.unwrap_or_else(|| json!(format!("{now:.0}")));
    match held.iter_mut().find(|condition| condition["type"] == kind) {
        Some(place) => *place = new,
        None => held.push(new),
    }
    true
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;

    use super::*;

    #[test]
    fn only_what_has_changed_is_written() {
        let set: ReplicaSet =
            serde_json::from_value(json!({"status": {"replicas": 2, "readyReplicas": 1}})).unwrap();
        let new = json!({"replicas": 2, "readyReplicas": 0, "availableReplicas": 0, "conditions": []});
        assert_eq!(difference(&set, &new), Some(json!({"readyReplicas": 0})));
        assert_eq!(difference(&set, &json!({"replicas": 2, "conditions": []})), None);
    }

    #[test]
    fn a_condition_is_since_its_status_changed() {
        let mut held = Vec::new();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        assert!(set(&mut held, "A", "True", "One", "", at(0)));
        assert!(!set(&mut held, "A", "True", "One", "", at(1)));
        assert!(set(&mut held, "A", "True", "Two", "", at(2)));
        assert_eq!(held[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert!(set(&mut held, "A", "False", "Two", "", at(3)));
        assert_eq!(held[0]["lastTransitionTime"], "1970-01-01T00:00:03Z");
    }
}
