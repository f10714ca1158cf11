//! Resource quotas: how much all objects of a namespace may take together.

use super::amounts::{self, Amounts};
use super::{Admission, Operation, Request, Reserved};
use crate::contract::quantity::{Form, Quantity};
use crate::contract::{Object, Result};
use crate::registry::BoxFuture;
use crate::resource::Resource;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const KIND: &str = "resourcequotas";
/// A quota of these has every container say how much of it it takes.
const TO_BE_SAID: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// What Kubernetes calls ResourceQuota.
#[derive(Default)]
pub(super) struct Quota;

impl Admission for Quota {
    fn handles(&self, request: &Request<'_>) -> bool {
        let counts = match request.kind() {
            "persistentvolumeclaims" | "services" => {
                request.subresource.is_empty()
                    && matches!(request.operation, Operation::Create | Operation::Update)
            }
            "pods" if request.subresource == "resize" => true,
            "pods" if request.operation == Operation::Update => {
                request.subresource.is_empty() && changes_scope(request)
            }
            _ => request.subresource.is_empty() && request.operation == Operation::Create,
        };
        counts && !request.target.namespace.is_empty() && request.target.resource.verbs.read
    }

    fn reserve<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<Reserved>> {
        Box::pin(reserved(request))
    }
}

/// What the object takes off the quotas that are about it: kept with the object, so that nothing is taken that is not there
/// and nothing is there that is not taken.
async fn reserved(request: &Request<'_>) -> Result<Reserved> {
    let namespace = request.target.namespace.as_str();
    let mut reserved = Reserved::default();
    let Some(object) = request.object.as_ref() else { return Ok(reserved) };
    if request.registry.every(KIND, Some(namespace))?.is_empty() {
        return Ok(reserved);
    }
    // One after the other: what was read here is still so when it is kept.
    reserved.turns.push(request.registry.quota_turn(namespace).await);
    let quotas = request.registry.every(KIND, Some(namespace))?;
    let resource = &request.target.resource;
    let (whole, more) = (taken(resource, object), needed(request, object));
    for quota in quotas.iter().filter(|quota| covers(quota, resource, object)) {
        let hard = amounts::of(quota.at(&["status", "hard"]));
        let about: BTreeSet<String> = hard.keys().filter(|name| is_about(name, resource)).cloned().collect();
        if about.is_empty() {
            continue;
        }
        if resource.stored_as == "pods"
            && let Some(cause) = unsaid(object, &about)
        {
            return Err(request.forbidden(&format!("failed quota: {}: {cause}", quota.name())));
        }
        let mut used = amounts::of(quota.at(&["status", "used"]));
        if about.iter().any(|name| !used.contains_key(name)) {
            let names: Vec<&str> = about.iter().map(String::as_str).collect();
            let cause = format!("status unknown for quota: {}, resources: {}", quota.name(), names.join(","));
            return Err(request.forbidden(&cause));
        }
        // One that was not about it before has all of it to bear.
        let is_new = request.old.is_some_and(|old| !covers(quota, resource, old));
        let needed = if is_new { &whole } else { &more };
        let asked = needed.iter().filter(|(name, _)| hard.contains_key(*name));
        let asked: Amounts = asked.map(|(name, amount)| (name.clone(), amount.clone())).collect();
        if asked.is_empty() {
            continue;
        }
        fits(request, quota.name(), &asked, &used, &hard)?;
        amounts::add(&mut used, &asked);
        let mut changed = quota.clone();
        changed.make(&["status"]).insert("used".to_owned(), written(&used));
        reserved.writes.push(request.registry.rewritten(KIND, quota, &changed)?);
    }
    Ok(reserved)
}

/// What an object takes, without what it takes nothing of: a quota that is used up does not refuse that.
fn taken(resource: &Resource, object: &Object) -> Amounts {
    let mut taken = usage(resource, object);
    taken.retain(|_, amount| !amount.is_zero());
    taken
}

/// How much more the object takes than before.
fn needed(request: &Request<'_>, object: &Object) -> Amounts {
    let resource = &request.target.resource;
    let mut needed = taken(resource, object);
    if let Some(old) = request.old {
        for (name, before) in usage(resource, old) {
            if let Some(amount) = needed.get_mut(&name) {
                *amount = amount.minus(&before);
            }
        }
        needed.retain(|_, amount| !amount.is_zero() && !amount.is_negative());
    }
    needed
}

/// Whether a pod comes under other quotas than it did: of what scopes are about this alone can change.
fn changes_scope(request: &Request<'_>) -> bool {
    request.old.zip(request.object.as_ref()).is_some_and(|(old, new)| ends(old) != ends(new))
}

/// Whether a pod is to end at a time.
fn ends(pod: &Object) -> bool {
    pod.at(&["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|time| time >= 0)
}

/// Whether an object takes less than it did, or off another quota. Where that cannot happen nothing is counted.
pub(crate) fn gives_back(resource: &Resource, old: &Object, new: &Object) -> bool {
    let differs = |path: &[&str]| old.at(path) != new.at(path);
    match &*resource.stored_as {
        "pods" => {
            differs(&["status", "phase"])
                || differs(&["spec", "containers"])
                || differs(&["spec", "activeDeadlineSeconds"])
        }
        "services" | "persistentvolumeclaims" => differs(&["spec"]),
        _ => false,
    }
}

/// Refuses what is more than the quota allows.
fn fits(request: &Request<'_>, quota: &str, asked: &Amounts, used: &Amounts, hard: &Amounts) -> Result<()> {
    let mut after = used.clone();
    amounts::add(&mut after, asked);
    let too_much: BTreeSet<&String> = asked
        .keys()
        .filter(
            |name| matches!((after.get(*name), hard.get(*name)), (Some(after), Some(hard)) if after > hard),
        )
        .collect();
    if too_much.is_empty() {
        return Ok(());
    }
    let only = |amounts: &Amounts| {
        let only = amounts.iter().filter(|(name, _)| too_much.contains(name));
        amounts::shown(&only.map(|(name, amount)| (name.clone(), amount.clone())).collect())
    };
    Err(request.forbidden(&format!(
        "exceeded quota: {quota}, requested: {}, used: {}, limited: {}",
        only(asked),
        only(used),
        only(hard)
    )))
}

/// Amounts as JSON.
pub(crate) fn written(amounts: &Amounts) -> Value {
    let map: Map<String, Value> =
        amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    Value::Object(map)
}

/// Which containers do not say how much they take of what the quota is about.
fn unsaid(pod: &Object, about: &BTreeSet<String>) -> Option<String> {
    let mut causes = Vec::new();
    for name in TO_BE_SAID.into_iter().filter(|name| about.contains(*name)) {
        let (side, plain) = match name.split_once('.') {
            Some((side, plain)) => (side, plain),
            None => ("requests", name),
        };
        let all = amounts::containers(pod, "containers").chain(amounts::containers(pod, "initContainers"));
        let silent: BTreeSet<&str> = all
            .filter(|container| !amounts::of_container(container, side).contains_key(plain))
            .filter_map(|container| container.get("name").and_then(Value::as_str))
            .collect();
        if !silent.is_empty() {
            let silent: Vec<&str> = silent.into_iter().collect();
            causes.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    (!causes.is_empty()).then(|| format!("must specify {}", causes.join("; ")))
}

/// Whether a name in a quota is about a kind of objects.
pub(crate) fn is_about(name: &str, resource: &Resource) -> bool {
    let plural = &resource.names.plural;
    if name == counted(resource) {
        return true;
    }
    match &*resource.stored_as {
        "pods" => {
            matches!(name, "pods" | "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("requests.") && name != "requests.storage"
                || name.starts_with("limits.")
                || name.starts_with("hugepages-")
        }
        "services" => name == "services" || name.starts_with("services."),
        "persistentvolumeclaims" => {
            matches!(name, "persistentvolumeclaims" | "requests.storage")
                || name.contains(".storageclass.storage.k8s.io/")
        }
        "configmaps" | "secrets" | "replicationcontrollers" | KIND => name == plural,
        _ => false,
    }
}

/// `count/deployments.apps`.
fn counted(resource: &Resource) -> String {
    let names = &resource.names;
    if names.group.is_empty() {
        format!("count/{}", names.plural)
    } else {
        format!("count/{}.{}", names.plural, names.group)
    }
}

/// What an object takes.
pub(crate) fn usage(resource: &Resource, object: &Object) -> Amounts {
    let one = || Quantity::of(1, Form::Decimal);
    let mut amounts = Amounts::from([(counted(resource), one())]);
    match &*resource.stored_as {
        "pods" => pod_usage(object, &mut amounts),
        "services" => {
            amounts.insert("services".to_owned(), one());
            service_usage(object, &mut amounts);
        }
        "persistentvolumeclaims" => claim_usage(object, &mut amounts),
        "configmaps" | "secrets" | "replicationcontrollers" | KIND => {
            amounts.insert(resource.names.plural.to_string(), one());
        }
        _ => {}
    }
    amounts
}

fn service_usage(service: &Object, amounts: &mut Amounts) {
    let kind = service.text(&["spec", "type"]);
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let has_number =
        |port: &Value| port.get("nodePort").and_then(Value::as_u64).is_some_and(|port| port != 0);
    let is_given = service.at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    let on_nodes = match kind {
        "NodePort" => ports.len(),
        "LoadBalancer" if is_given => ports.len(),
        // Those that are asked for by number are given all the same.
        "LoadBalancer" => ports.iter().filter(|port| has_number(port)).count(),
        _ => 0,
    };
    let on_nodes = i64::try_from(on_nodes).unwrap_or(i64::MAX);
    amounts.insert("services.nodeports".to_owned(), Quantity::of(on_nodes, Form::Decimal));
    let balanced = i64::from(kind == "LoadBalancer");
    amounts.insert("services.loadbalancers".to_owned(), Quantity::of(balanced, Form::Decimal));
}

fn pod_usage(pod: &Object, amounts: &mut Amounts) {
    // What has ended takes nothing but its place among the objects.
    if matches!(pod.text(&["status", "phase"]), "Failed" | "Succeeded") {
        return;
    }
    amounts.insert("pods".to_owned(), Quantity::of(1, Form::Decimal));
    // What the runtime itself takes, too; of limits where there are any.
    let overhead = amounts::of(pod.at(&["spec", "overhead"]));
    let mut requests = amounts::of_pod(pod, "requests");
    amounts::add(&mut requests, &overhead);
    for (name, amount) in requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            amounts.insert(name.clone(), amount.clone());
        }
        amounts.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in amounts::of_pod(pod, "limits") {
        let amount = overhead.get(&name).map_or(amount.clone(), |more| amount.plus(more));
        amounts.insert(format!("limits.{name}"), amount);
    }
}

fn claim_usage(claim: &Object, amounts: &mut Amounts) {
    let one = Quantity::of(1, Form::Decimal);
    amounts.insert("persistentvolumeclaims".to_owned(), one.clone());
    let size = amounts::of(claim.at(&["spec", "resources", "requests"])).remove("storage");
    let class = claim.text(&["spec", "storageClassName"]);
    if !class.is_empty() {
        amounts.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one);
    }
    if let Some(size) = size {
        if !class.is_empty() {
            amounts.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), size.clone());
        }
        amounts.insert("requests.storage".to_owned(), size);
    }
}

/// Whether a quota's scopes hold of an object. Scopes are about pods.
pub(crate) fn covers(quota: &Object, resource: &Resource, object: &Object) -> bool {
    let scopes = quota.at(&["spec", "scopes"]).and_then(Value::as_array).into_iter().flatten();
    let selected = quota
        .at(&["spec", "scopeSelector", "matchExpressions"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let plain = scopes.filter_map(Value::as_str).map(|scope| (scope, "Exists", Vec::new()));
    let selected = selected.map(|wish| {
        let text = |field| wish.get(field).and_then(Value::as_str).unwrap_or_default();
        let values = wish.get("values").and_then(Value::as_array).into_iter().flatten();
        (text("scopeName"), text("operator"), values.filter_map(Value::as_str).collect())
    });
    plain.chain(selected).all(|(scope, operator, values)| {
        match &*resource.stored_as {
            "pods" => in_scope(object, scope, operator, &values),
            // Of claims there is one scope: which class of attributes they want or have.
            "persistentvolumeclaims" if scope == "VolumeAttributesClass" => {
                let paths: [&[&str]; 3] = [
                    &["spec", "volumeAttributesClassName"],
                    &["status", "currentVolumeAttributesClassName"],
                    &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
                ];
                let classes = paths.map(|path| object.text(path));
                let classes: Vec<&str> = classes.into_iter().filter(|class| !class.is_empty()).collect();
                match operator {
                    "In" => classes.iter().any(|class| values.contains(class)),
                    "NotIn" => !classes.iter().any(|class| values.contains(class)),
                    "DoesNotExist" => classes.is_empty(),
                    _ => !classes.is_empty(),
                }
            }
            _ => false,
        }
    })
}

/// Whether affinities of a pod are about pods of other namespaces.
fn looks_elsewhere(pod: &Object) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let list = |when: &str| {
            pod.at(&["spec", "affinity", kind, when]).and_then(Value::as_array).into_iter().flatten()
        };
        let required = list("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = list("preferredDuringSchedulingIgnoredDuringExecution")
            .filter_map(|weighted| weighted.get("podAffinityTerm"));
        required.chain(preferred).any(|term| {
            let named = term.get("namespaces").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
            named || term.get("namespaceSelector").is_some_and(Value::is_object)
        })
    })
}

fn in_scope(pod: &Object, scope: &str, operator: &str, values: &[&str]) -> bool {
    let asks_nothing = ["requests", "limits"]
        .iter()
        .all(|side| amounts::of_pod(pod, side).keys().all(|name| !matches!(name.as_str(), "cpu" | "memory")));
    match scope {
        "Terminating" => ends(pod),
        "NotTerminating" => !ends(pod),
        "BestEffort" => asks_nothing,
        "NotBestEffort" => !asks_nothing,
        "CrossNamespacePodAffinity" => looks_elsewhere(pod),
        "PriorityClass" => {
            let class = pod.text(&["spec", "priorityClassName"]);
            match operator {
                "In" => values.contains(&class),
                "NotIn" => !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        _ => false,
    }
}
