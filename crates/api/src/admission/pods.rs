//! What pods get of their priority classes, and how long they stay on a node that is gone.

use super::{Admission, Operation, Request};
use crate::contract::{Object, Result};
use crate::registry::BoxFuture;
use serde_json::{Value, json};

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";
/// Seconds that a pod stays on a node that is not ready or not reachable.
const STAYS: i64 = 300;

/// What Kubernetes calls Priority.
pub(super) struct Priority;

impl Admission for Priority {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update)
            && matches!(request.kind(), "pods" | CLASSES)
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(prioritised(request)))
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(only_default(request)))
    }
}

fn prioritised(request: &mut Request<'_>) -> Result<()> {
    if request.kind() != "pods" {
        return Ok(());
    }
    let Some(mut pod) = request.object.take() else { return Ok(()) };
    let refused = match request.old {
        Some(old) => {
            kept(&mut pod, old);
            None
        }
        None => given(request, &mut pod)?,
    };
    request.object = Some(pod);
    refused.map_or(Ok(()), |cause| Err(request.forbidden(&cause)))
}

/// What an update leaves out stays as it was.
fn kept(pod: &mut Object, old: &Object) {
    for field in ["priority", "preemptionPolicy"] {
        if let (None, Some(held)) = (pod.at(&["spec", field]), old.at(&["spec", field])) {
            let held = held.clone();
            pod.make(&["spec"]).insert(field.to_owned(), held);
        }
    }
}

/// Writes priority and preemption into a new pod; returns why it is refused.
fn given(request: &Request<'_>, pod: &mut Object) -> Result<Option<String>> {
    let name = pod.text(&["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        default_class(request)?
    } else {
        match request.registry.peek(CLASSES, "", &name)? {
            Some(class) => Some(class),
            None => return Ok(Some(format!("no PriorityClass with name {name} was found"))),
        }
    };
    let value = class.as_ref().and_then(|class| class.0.get("value")).and_then(Value::as_i64).unwrap_or(0);
    let policy =
        class.as_ref().map(|class| class.text(&["preemptionPolicy"])).filter(|text| !text.is_empty());
    let policy = policy.unwrap_or("PreemptLowerPriority").to_owned();
    if let Some(own) = pod.at(&["spec", "priority"]).and_then(Value::as_i64)
        && own != value
    {
        return Ok(Some(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        )));
    }
    if let Some(own) = pod.at(&["spec", "preemptionPolicy"]).and_then(Value::as_str)
        && own != policy
    {
        return Ok(Some(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        )));
    }
    let spec = pod.make(&["spec"]);
    if let Some(class) = class {
        spec.insert("priorityClassName".to_owned(), class.name().into());
    }
    spec.insert("priority".to_owned(), value.into());
    spec.insert("preemptionPolicy".to_owned(), policy.into());
    Ok(None)
}

/// The class of pods that name none: of several defaults the lowest.
fn default_class(request: &Request<'_>) -> Result<Option<Object>> {
    let value = |class: &Object| class.0.get("value").and_then(Value::as_i64).unwrap_or(0);
    let classes = request.registry.every(CLASSES, None)?;
    Ok(classes.into_iter().filter(is_default).min_by_key(value))
}

fn is_default(class: &Object) -> bool {
    class.0.get("globalDefault").and_then(Value::as_bool).unwrap_or(false)
}

/// There is one default class at most.
fn only_default(request: &Request<'_>) -> Result<()> {
    let Some(class) =
        request.object.as_ref().filter(|object| request.kind() == CLASSES && is_default(object))
    else {
        return Ok(());
    };
    match default_class(request)? {
        Some(held) if request.operation == Operation::Create || held.name() != class.name() => {
            let cause = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                held.name()
            );
            Err(request.forbidden(&cause))
        }
        _ => Ok(()),
    }
}

/// What Kubernetes calls DefaultTolerationSeconds.
pub(super) struct Tolerations;

impl Admission for Tolerations {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.is(Operation::Create, "pods") || request.is(Operation::Update, "pods")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        if let Some(pod) = &mut request.object {
            tolerate(pod);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn tolerate(pod: &mut Object) {
    let list = pod.make(&["spec"]).entry("tolerations").or_insert_with(|| Value::Array(Vec::new()));
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    let text = |toleration: &Value, field: &str| {
        toleration.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let told = list.iter().any(|toleration| {
            let (its_key, effect) = (text(toleration, "key"), text(toleration, "effect"));
            (its_key == key || its_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !told {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": STAYS,
            }));
        }
    }
}
