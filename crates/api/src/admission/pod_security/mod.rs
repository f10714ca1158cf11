//! Pod Security: the labels of a namespace say how much of the machine its pods may ask for.
//!
//! Pods that do not reach the level are refused, or told of; templates of pods are told of alone, for it is the pods made of
//! them that are refused. Nobody is exempt: there is no configuration but the labels.

mod baseline;
mod checks;
mod policy;
mod restricted;

use super::{Admission, Operation, Request};
use crate::contract::{Object, Result, Status};
use crate::registry::BoxFuture;
use checks::{Finding, Pod, findings};
use policy::{Bar, Level, PREFIX, Policy};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};

/// So many pods of a namespace are looked at when its level changes.
const PODS_MAX: usize = 3000;
/// Subresources of pods that change nothing that a level is about.
const PARTS: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// What Kubernetes calls PodSecurity.
pub(super) struct PodSecurity;

impl Admission for PodSecurity {
    fn handles(&self, request: &Request<'_>) -> bool {
        let about = match request.kind() {
            "pods" => !PARTS.contains(&request.subresource),
            "namespaces" => request.subresource.is_empty(),
            kind => request.subresource.is_empty() && template(kind).is_some(),
        };
        about && matches!(request.operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(match request.kind() {
            "namespaces" => namespace(request),
            _ => pod(request),
        }))
    }
}

/// Where a kind has its template of pods; empty: it is a pod itself.
fn template(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "pods" => Some(&[]),
        "podtemplates" => Some(&["template"]),
        "replicationcontrollers"
        | "replicasets.apps"
        | "deployments.apps"
        | "statefulsets.apps"
        | "daemonsets.apps"
        | "jobs.batch" => Some(&["spec", "template"]),
        "cronjobs.batch" => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// `reason (detail), reason (detail)`.
fn told(findings: &[Finding]) -> String {
    let texts = findings.iter().map(|finding| match finding.detail.as_str() {
        "" => finding.reason.to_owned(),
        detail => format!("{} ({detail})", finding.reason),
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn pod(request: &Request<'_>) -> Result<()> {
    let enforced = request.kind() == "pods";
    let name = request.target.namespace.as_str();
    let Some(namespace) = request.registry.peek("namespaces", "", name)? else {
        return Err(Status::internal(format!("failed to lookup namespace {name:?}")));
    };
    let (policy, errors) = Policy::of(namespace.strings("labels"));
    let notes = &request.context.notes;
    if errors.is_empty() && policy.is_open() {
        if enforced {
            notes.add(format!("{PREFIX}enforce-policy"), policy.enforce.to_string());
        }
        return Ok(());
    }
    let Some(object) = &request.object else { return Ok(()) };
    if enforced && request.old.is_some_and(|old| !is_significant(object, old)) {
        return Ok(());
    }
    let Some(pod) = pod_of(request.kind(), object) else { return Ok(()) };
    if !errors.is_empty() {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
        notes.add(format!("{PREFIX}error"), format!("Failed to parse policy: {text}"));
    }
    let mut refused = None;
    if enforced {
        notes.add(format!("{PREFIX}enforce-policy"), policy.enforce.to_string());
        let found = findings(policy.enforce, &pod);
        refused = (!found.is_empty()).then(|| {
            let cause = format!("violates PodSecurity \"{}\": {}", policy.enforce, told(&found));
            let names = &request.target.resource.names;
            Status::forbidden(&names.group, &names.plural, object.name(), &cause)
        });
    }
    let would = |bar: Bar| {
        let found = findings(bar, &pod);
        (!found.is_empty()).then(|| format!("would violate PodSecurity \"{bar}\": {}", told(&found)))
    };
    if let Some(text) = would(policy.audit) {
        notes.add(format!("{PREFIX}audit-violations"), text);
    }
    // Who is refused knows it.
    if let Some(refused) = refused {
        return Err(refused);
    }
    request.context.warnings.extend(would(policy.warn));
    Ok(())
}

fn pod_of<'a>(kind: &str, object: &'a Object) -> Option<Pod<'a>> {
    let path = template(kind)?;
    let holder = if path.is_empty() { &object.0 } else { object.at(path)?.as_object()? };
    let spec = holder.get("spec")?.as_object()?;
    let annotations = holder.get("metadata").and_then(|metadata| metadata.get("annotations"));
    Some(Pod { annotations: annotations.and_then(Value::as_object), spec })
}

/// Whether an update changes more than what no level looks at: another image may need other rights, so it is looked at anew.
fn is_significant(new: &Object, old: &Object) -> bool {
    let images = |pod, field| -> Vec<Option<Value>> {
        super::amounts::containers(pod, field).map(|container| container.get("image").cloned()).collect()
    };
    let changed = |field| images(new, field) != images(old, field);
    if changed("containers") || changed("initContainers") {
        return true;
    }
    let key =
        |container: &Map<String, Value>| (container.get("name").cloned(), container.get("image").cloned());
    let had: Vec<_> = super::amounts::containers(old, "ephemeralContainers").map(key).collect();
    super::amounts::containers(new, "ephemeralContainers").any(|container| !had.contains(&key(container)))
}

fn namespace(request: &Request<'_>) -> Result<()> {
    let Some(object) = &request.object else { return Ok(()) };
    let (policy, errors) = Policy::of(object.strings("labels"));
    let before = request.old.map(|old| Policy::of(old.strings("labels")));
    let known = before.as_ref().is_some_and(|(_, known)| *known == errors);
    if !errors.is_empty() && !known {
        return Err(Status::invalid("", "Namespace", object.name(), &errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let (new, old) = (policy.enforce, before.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new == old || new.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let pods = request.registry.every("pods", Some(object.name()))?;
    request.context.warnings.extend(violations(object.name(), new, &pods));
    Ok(())
}

/// What is told of the pods that a new level would refuse: each reason once, with one of its pods.
fn violations(namespace: &str, bar: Bar, pods: &[Object]) -> Vec<String> {
    let mut by_reason: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for pod in first_of_each_owner(pods).into_iter().take(PODS_MAX) {
        let Some(read) = pod_of("pods", pod) else { continue };
        let reasons: Vec<&str> = findings(bar, &read).iter().map(|finding| finding.reason).collect();
        if reasons.is_empty() {
            continue;
        }
        let (count, name) = by_reason.entry(reasons.join(", ")).or_insert((0, pod.name()));
        *count += 1;
        *name = (*name).min(pod.name());
    }
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    if !by_reason.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{bar}\""
        ));
    }
    let mut told: Vec<String> = by_reason
        .iter()
        .map(|(reason, (count, name))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            more => format!("{name} (and {} other pods): {reason}", more - 1),
        })
        .collect();
    told.sort_unstable();
    warnings.extend(told);
    warnings
}

/// The pods, with those in front whose controllers have no other in front of them: replicas are alike.
fn first_of_each_owner(pods: &[Object]) -> Vec<&Object> {
    let controller = |pod: &Object| -> Option<String> {
        let owners = pod.at(&["metadata", "ownerReferences"])?.as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        owner.get("uid")?.as_str().map(str::to_owned)
    };
    let mut seen = HashSet::new();
    let is_first = |pod: &&Object| controller(pod).is_none_or(|uid| seen.insert(uid));
    let (mut first, others): (Vec<&Object>, Vec<&Object>) = pods.iter().partition(is_first);
    first.extend(others);
    first
}
