//! What pods get of their runtime classes: what the runtime itself takes, and on which nodes it is.

use super::amounts;
use super::{Admission, Operation, Request};
use crate::contract::{Object, Result};
use crate::registry::BoxFuture;
use serde_json::{Map, Value};

const CLASSES: &str = "runtimeclasses.node.k8s.io";
const OTHER: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const NONE: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

/// What Kubernetes calls RuntimeClass.
pub(super) struct RuntimeClasses;

impl Admission for RuntimeClasses {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.is(Operation::Create, "pods")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(given(request)))
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(checked(request)))
    }
}

/// The class of a pod; `None` of one that names none.
fn class(request: &Request<'_>) -> Result<Option<Object>> {
    let Some(pod) = &request.object else { return Ok(None) };
    let Some(name) = pod.at(&["spec", "runtimeClassName"]).and_then(Value::as_str) else { return Ok(None) };
    match request.registry.peek(CLASSES, "", name)? {
        Some(class) => Ok(Some(class)),
        None => Err(request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// `overhead` of a pod, if it says that it has one.
fn own(pod: &Object) -> Option<&Map<String, Value>> {
    pod.at(&["spec", "overhead"]).and_then(Value::as_object).filter(|overhead| !overhead.is_empty())
}

fn given(request: &mut Request<'_>) -> Result<()> {
    let Some(class) = class(request)? else { return Ok(()) };
    let Some(pod) = &mut request.object else { return Ok(()) };
    if let Some(overhead) = class.at(&["overhead"]).filter(|overhead| overhead.is_object()) {
        let fixed = overhead.get("podFixed").filter(|fixed| fixed.is_object());
        if own(pod).is_some() && amounts::of(pod.at(&["spec", "overhead"])) != amounts::of(fixed) {
            return Err(request.forbidden(OTHER));
        }
        if let Some(fixed) = fixed {
            pod.make(&["spec"]).insert("overhead".to_owned(), fixed.clone());
        }
    }
    let conflict = scheduled(&class, pod);
    conflict.map_or(Ok(()), |cause| Err(request.forbidden(&cause)))
}

/// Gives a pod where its class is; returns why that cannot be.
fn scheduled(class: &Object, pod: &mut Object) -> Option<String> {
    let scheduling = class.at(&["scheduling"]).and_then(Value::as_object)?;
    let selector = scheduling.get("nodeSelector").and_then(Value::as_object);
    for (key, value) in selector.into_iter().flatten() {
        let held = pod.make(&["spec", "nodeSelector"]);
        if let Some(other) = held.get(key).filter(|other| *other != value) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Some(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(other)
            ));
        }
        held.insert(key.clone(), value.clone());
    }
    let more = scheduling.get("tolerations").and_then(Value::as_array).filter(|more| !more.is_empty())?;
    let own = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let all: Vec<Value> = own.into_iter().chain(more.iter().cloned()).collect();
    pod.make(&["spec"]).insert("tolerations".to_owned(), merged(&all).into());
    None
}

/// Tolerations without those that others cover; of equal ones the first stays.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(all.len());
    for (index, toleration) in all.iter().enumerate() {
        let later = all.iter().skip(index + 1).filter(|other| *other != toleration);
        let is_covered = |other: &Value| covers(other, toleration);
        if !merged.iter().any(is_covered) && !later.into_iter().any(is_covered) {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// Whether one toleration tolerates everything that another does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    let text =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let seconds = |value: &Value| value.get("tolerationSeconds").and_then(Value::as_i64);
    if wide == narrow {
        return true;
    }
    let (operator, key, effect) = (text(wide, "operator"), text(wide, "key"), text(wide, "effect"));
    let all_keys = key.is_empty() && operator == "Exists";
    if text(narrow, "key") != key && !all_keys || text(narrow, "effect") != effect && !effect.is_empty() {
        return false;
    }
    if effect == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(narrow).is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match operator.as_str() {
        "Equal" | "" => text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value"),
        "Exists" => true,
        _ => false,
    }
}

fn checked(request: &Request<'_>) -> Result<()> {
    let class = class(request)?;
    let Some(pod) = &request.object else { return Ok(()) };
    match class.as_ref().and_then(|class| class.at(&["overhead"])).filter(|overhead| overhead.is_object()) {
        Some(overhead) => {
            let same = amounts::of(pod.at(&["spec", "overhead"])) == amounts::of(overhead.get("podFixed"));
            if same { Ok(()) } else { Err(request.forbidden(OTHER)) }
        }
        None if own(pod).is_some() => Err(request.forbidden(NONE)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::slice;

    fn toleration(key: &str, operator: &str, effect: &str, seconds: Option<i64>) -> Value {
        let mut toleration = json!({"key": key, "operator": operator, "effect": effect});
        if let Some(seconds) = seconds {
            toleration["tolerationSeconds"] = seconds.into();
        }
        toleration
    }

    #[test]
    fn what_another_toleration_covers_is_left_out() {
        let all_of_t = json!({"key": "t", "operator": "Exists"});
        let narrow = toleration("t", "Exists", "NoSchedule", None);
        assert_eq!(merged(&[all_of_t.clone(), narrow.clone()]), slice::from_ref(&all_of_t));
        assert_eq!(merged(&[narrow.clone(), all_of_t.clone()]), slice::from_ref(&all_of_t));
        assert_eq!(merged(&[narrow.clone(), narrow.clone()]), [narrow]);
        let long = toleration("n", "Exists", "NoExecute", Some(300));
        let short = toleration("n", "Exists", "NoExecute", Some(5));
        assert_eq!(merged(&[long.clone(), short.clone()]), slice::from_ref(&long));
        assert_eq!(merged(&[short, long.clone()]), [long]);
        let (one, two) = (toleration("a", "Equal", "", None), toleration("b", "Equal", "", None));
        assert_eq!(merged(&[one.clone(), two.clone()]), [one, two]);
    }

    #[test]
    fn a_class_says_on_which_nodes_it_is() {
        let class =
            Object::from_value(json!({"scheduling": {"nodeSelector": {"k": "v"}}})).expect("an object");
        let mut pod = Object::from_value(json!({"spec": {"nodeSelector": {"a": "b"}}})).expect("an object");
        assert_eq!(scheduled(&class, &mut pod), None);
        assert_eq!(pod.at(&["spec", "nodeSelector"]), Some(&json!({"a": "b", "k": "v"})));
        let mut other = Object::from_value(json!({"spec": {"nodeSelector": {"k": "w"}}})).expect("an object");
        assert_eq!(
            scheduled(&class, &mut other).as_deref(),
            Some("conflict: runtimeClass.scheduling.nodeSelector[k] = v; pod.spec.nodeSelector[k] = w")
        );
    }
}
