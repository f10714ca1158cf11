//! Limit ranges: what containers get that ask for nothing, and what they may not go below or beyond.

use super::amounts::{self, Amounts};
use super::{Admission, Operation, Request};
use crate::contract::quantity::Quantity;
use crate::contract::{Object, Result};
use crate::registry::BoxFuture;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const KIND: &str = "limitranges";
const TOLD: &str = "kubernetes.io/limit-ranger";

/// What Kubernetes calls LimitRanger.
pub(super) struct Limits;

impl Admission for Limits {
    fn handles(&self, request: &Request<'_>) -> bool {
        let on_pods = request.is(Operation::Create, "pods")
            || (request.kind() == "pods"
                && request.subresource == "resize"
                && request.operation == Operation::Update);
        let on_claims = request.is(Operation::Create, "persistentvolumeclaims")
            || request.is(Operation::Update, "persistentvolumeclaims");
        (on_pods || on_claims) && !request.old.is_some_and(Object::is_terminating)
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(defaulted(request)))
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(checked(request)))
    }
}

/// The limits of a range that are for one type.
fn of_type<'a>(range: &'a Object, kind: &'a str) -> impl Iterator<Item = &'a Map<String, Value>> {
    let list = range.at(&["spec", "limits"]).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_object)
        .filter(move |limit| limit.get("type").and_then(Value::as_str) == Some(kind))
}

fn defaulted(request: &mut Request<'_>) -> Result<()> {
    if request.kind() != "pods" {
        return Ok(());
    }
    let ranges = request.registry.every(KIND, Some(&request.target.namespace))?;
    let Some(pod) = &mut request.object else { return Ok(()) };
    for range in &ranges {
        let mut requests = Map::new();
        let mut limits = Map::new();
        for limit in of_type(range, "Container") {
            let map = |field| limit.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
            requests.extend(map("defaultRequest"));
            limits.extend(map("default"));
        }
        fill(pod, &requests, &limits);
    }
    Ok(())
}

/// Gives containers what they do not say, and tells it in an annotation.
fn fill(pod: &mut Object, requests: &Map<String, Value>, limits: &Map<String, Value>) {
    let mut told = Vec::new();
    for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
        let list = pod.make(&["spec"]).get_mut(field).and_then(Value::as_array_mut);
        for container in list.into_iter().flatten().filter_map(Value::as_object_mut) {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            for (side, defaults, word) in [("requests", requests, "request"), ("limits", limits, "limit")] {
                let new = fill_side(container, side, defaults);
                if !new.is_empty() {
                    told.push(format!("{} {word} for {what} {name}", new.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        pod.make(&["metadata", "annotations"]).insert(TOLD.to_owned(), text.into());
    }
}

fn fill_side(container: &mut Map<String, Value>, side: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut new = Vec::new();
    for (name, amount) in defaults {
        let resources = container.entry("resources").or_insert_with(|| Value::Object(Map::new()));
        let Some(resources) = resources.as_object_mut() else { return new };
        let held = resources.entry(side.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        let Some(held) = held.as_object_mut() else { return new };
        if !held.contains_key(name) {
            held.insert(name.clone(), amount.clone());
            new.push(name.clone());
        }
    }
    new
}

fn checked(request: &Request<'_>) -> Result<()> {
    let Some(object) = &request.object else { return Ok(()) };
    for range in request.registry.every(KIND, Some(&request.target.namespace))? {
        let causes =
            if request.kind() == "pods" { pod_causes(&range, object) } else { claim_causes(&range, object) };
        match causes.as_slice() {
            [] => {}
            [cause] => return Err(request.forbidden(cause)),
            several => return Err(request.forbidden(&format!("[{}]", several.join(", ")))),
        }
    }
    Ok(())
}

fn pod_causes(range: &Object, pod: &Object) -> Vec<String> {
    let mut causes = Vec::new();
    for limit in of_type(range, "Container") {
        let all = amounts::containers(pod, "containers").chain(amounts::containers(pod, "initContainers"));
        for container in all {
            let requests = amounts::of_container(container, "requests");
            let limits = amounts::of_container(container, "limits");
            causes.extend(constraints("Container", limit, &requests, Some(&limits)));
        }
    }
    for limit in of_type(range, "Pod") {
        let requests = amounts::of_pod(pod, "requests");
        let limits = amounts::of_pod(pod, "limits");
        causes.extend(constraints("Pod", limit, &requests, Some(&limits)));
    }
    unique(causes)
}

fn claim_causes(range: &Object, claim: &Object) -> Vec<String> {
    let requests = amounts::of(claim.at(&["spec", "resources", "requests"]));
    let limits = of_type(range, "PersistentVolumeClaim");
    unique(limits.flat_map(|limit| constraints("PersistentVolumeClaim", limit, &requests, None)).collect())
}

/// Each text once, as Kubernetes tells several errors.
fn unique(causes: Vec<String>) -> Vec<String> {
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    causes.into_iter().filter(|cause| seen.insert(cause.clone(), ()).is_none()).collect()
}

/// What is wrong with requests and limits; a claim has no limits.
fn constraints(
    kind: &str,
    limit: &Map<String, Value>,
    requests: &Amounts,
    limits: Option<&Amounts>,
) -> Vec<String> {
    let mut causes = Vec::new();
    for (name, least) in amounts::of(limit.get("min")) {
        let rule = format!("minimum {name} usage per {kind} is {least}");
        match (requests.get(&name), limits.and_then(|limits| limits.get(&name))) {
            (None, _) => causes.push(format!("{rule}.  No request is specified")),
            (Some(own), _) if *own < least => causes.push(format!("{rule}, but request is {own}")),
            (_, Some(own)) if *own < least => causes.push(format!("{rule}, but limit is {own}")),
            _ => {}
        }
    }
    for (name, most) in amounts::of(limit.get("max")) {
        let rule = format!("maximum {name} usage per {kind} is {most}");
        let own = requests.get(&name);
        match (limits.map(|limits| limits.get(&name)), own) {
            (Some(None), _) => causes.push(format!("{rule}.  No limit is specified")),
            (Some(Some(limit)), _) if *limit > most => causes.push(format!("{rule}, but limit is {limit}")),
            (None, None) => causes.push(format!("{rule}.  No request is specified")),
            (_, Some(own)) if *own > most => causes.push(format!("{rule}, but request is {own}")),
            _ => {}
        }
    }
    for (name, most) in amounts::of(limit.get("maxLimitRequestRatio")) {
        let limit = limits.and_then(|limits| limits.get(&name));
        causes.extend(ratio(kind, &name, &most, requests.get(&name), limit));
    }
    causes
}

fn ratio(
    kind: &str,
    name: &str,
    most: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let rule = format!("{name} max limit to request ratio per {kind} is {most}");
    let some = |amount: Option<&Quantity>| amount.map(Quantity::milli_value).filter(|amount| *amount != 0);
    let Some(request) = some(request) else {
        return Some(format!("{rule}, but no request is specified or request is 0"));
    };
    let Some(limit) = some(limit) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0"));
    };
    #[expect(clippy::cast_precision_loss, reason = "a ratio is told with six digits")]
    let (ratio, most) = (limit as f64 / request as f64, most.milli_value() as f64 / 1000.0);
    (ratio > most).then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
}
