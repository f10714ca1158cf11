//! What pods ask for, and what nodes have.

use std::collections::BTreeMap;

use client::quantity;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// By resource: thousandths of processors, of everything else whole ones.
pub(in crate::workloads) type Amounts = BTreeMap<String, i64>;

/// What a container that asks for nothing is counted as where nodes are compared: a tenth of a processor, 200 MiB.
const UNTOLD: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 << 20)];

/// A quantity in the unit of its resource.
fn amount(resource: &str, quantity: &Quantity) -> i64 {
    let count = if resource == "cpu" { quantity::thousandths(quantity) } else { quantity::bytes(quantity) };
    count.unwrap_or_default()
}

fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let all = quantities.into_iter().flatten();
    all.map(|(resource, quantity)| (resource.clone(), amount(resource, quantity))).collect()
}

/// Adds to what there is.
pub(super) fn add(to: &mut Amounts, more: &Amounts) {
    for (resource, count) in more {
        let held = to.entry(resource.clone()).or_default();
        *held = held.saturating_add(*count);
    }
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (resource, count) in other {
        let held = to.entry(resource.clone()).or_default();
        *held = (*held).max(*count);
    }
}

fn of_container(pod: &Pod, container: &Container, is_told: bool) -> Amounts {
    let mut asked = amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    if !is_told {
        for (resource, count) in UNTOLD {
            asked.entry(resource.into()).or_insert(count);
        }
    }
    // One that is being resized has what it had until it has what it asks for.
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|status| {
        let main = status.container_statuses.iter().flatten();
        main.chain(status.init_container_statuses.iter().flatten())
    });
    if let Some(held) = all.into_iter().find(|status| status.name == container.name) {
        raise(&mut asked, &amounts(held.allocated_resources.as_ref()));
        raise(
            &mut asked,
            &amounts(held.resources.as_ref().and_then(|resources| resources.requests.as_ref())),
        );
    }
    asked
}

fn sum(pod: &Pod, is_told: bool) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of_container(pod, container, is_told));
    }
    let (mut sidecars, mut beginning) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let asked = of_container(pod, container, is_told);
        if container.restart_policy.as_deref() == Some("Always") {
            // It runs on beside all that follow.
            add(&mut total, &asked);
            add(&mut sidecars, &asked);
            raise(&mut beginning, &sidecars);
        } else {
            let mut then = sidecars.clone();
            add(&mut then, &asked);
            raise(&mut beginning, &then);
        }
    }
    raise(&mut total, &beginning);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        total.extend(amounts(Some(whole)));
    }
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// What a pod asks for: of its containers together, or, if that is more, of what runs while it begins; and its overhead.
pub(in crate::workloads) fn requests(pod: &Pod) -> Amounts {
    let mut asked = sum(pod, true);
    asked.retain(|_, count| *count > 0);
    asked
}

/// The same for comparing nodes, where who asks for nothing counts for something.
pub(super) fn weight(pod: &Pod) -> Amounts {
    sum(pod, false)
}

/// What pods may have of a node.
pub(super) fn allocatable(node: &Node) -> Amounts {
    amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn processors_are_counted_in_thousandths() {
        for (text, count) in [
            ("1", 1000),
            ("250m", 250),
            ("0.1", 100),
            ("1.5", 1500),
            ("2k", 2_000_000),
            ("100u", 1),
            ("1e1", 10_000),
        ] {
            assert_eq!(amount("cpu", &Quantity(text.into())), count, "{text}");
        }
        assert_eq!(amount("memory", &Quantity("1Mi".into())), 1 << 20);
    }

    #[test]
    fn a_pod_asks_for_what_runs_at_the_same_time() {
        let container = |cpu: &str, policy: Option<&str>| {
            json!({"name": cpu, "restartPolicy": policy,
            "resources": {"requests": {"cpu": cpu}}})
        };
        let pod = |init: Vec<serde_json::Value>, spec: serde_json::Value| {
            let mut whole = json!({"containers": [container("100m", None), container("200m", None)], "initContainers": init});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let pod: Pod = serde_json::from_value(json!({"spec": whole})).unwrap();
            requests(&pod)["cpu"]
        };
        assert_eq!(pod(vec![], json!({})), 300);
        assert_eq!(pod(vec![container("1", None)], json!({})), 1000);
        assert_eq!(pod(vec![container("50m", Some("Always"))], json!({})), 350);
        assert_eq!(pod(vec![container("50m", Some("Always")), container("1", None)], json!({})), 1050);
        assert_eq!(pod(vec![container("1", None), container("50m", Some("Always"))], json!({})), 1000);
        assert_eq!(pod(vec![], json!({"overhead": {"cpu": "10m"}})), 310);
        assert_eq!(pod(vec![], json!({"resources": {"requests": {"cpu": "2"}}})), 2000);
    }
}
