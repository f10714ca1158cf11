//! EndpointSlices: what is to be in them, and how little of them has to change for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::who::{self, Member};
use crate::workloads::{owned, pods};

/// On a slice: the Service's name.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";
/// On a slice: who writes it.
pub(super) const MANAGED: &str = "endpointslice.kubernetes.io/managed-by";
/// Who writes ours.
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// On slices and Endpoints of a Service without an address.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// More endpoints than this are not in one slice.
pub(super) const MOST: usize = 100;

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Slices that are to be made.
    pub(super) create: Vec<Value>,
    /// Slices that are to be changed, and how.
    pub(super) change: Vec<(Arc<EndpointSlice>, Value)>,
    /// Slices that are empty.
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// Endpoints of one family with the same ports, by the uids of their pods.
type Group = BTreeMap<String, Value>;

/// Where requests are to stay, as a Service has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Near {
    /// Anywhere.
    Any,
    /// In the zone that they come from.
    Zone,
    /// On their node, or else in the zone.
    Node,
}

fn near(service: &Service) -> Near {
    match service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") => Near::Zone,
        Some("PreferSameNode") => Near::Node,
        _ => Near::Any,
    }
}

/// For whom an endpoint is to be.
fn hints(member: &Member, zone: Option<&str>, near: Near) -> Option<Value> {
    if near == Near::Any || !member.ready {
        return None;
    }
    let mut hints = serde_json::Map::new();
    if let Some(zone) = zone {
        hints.insert("forZones".into(), json!([{"name": zone}]));
    }
    if let Some(node) = pods::node(&member.pod).filter(|_| near == Near::Node) {
        hints.insert("forNodes".into(), json!([{"name": node}]));
    }
    (!hints.is_empty()).then_some(Value::Object(hints))
}

fn endpoint(member: &Member, zone: Option<&str>, near: Near) -> Value {
    let mut told = json!({
        "addresses": [member.address],
        "conditions": {"ready": member.ready, "serving": member.serving, "terminating": member.terminating},
        "targetRef": who::target(&member.pod),
    });
    let more =
        [("nodeName", pods::node(&member.pod)), ("hostname", member.hostname.as_deref()), ("zone", zone)];
    for (field, value) in more {
        if let Some(value) = value {
            told[field] = json!(value);
        }
    }
    if let Some(hints) = hints(member, zone, near) {
        told["hints"] = hints;
    }
    told
}

/// The labels of a Service's slices.
fn labels(service: &Service) -> Value {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    if who::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE.into(), service.name_any());
    labels.insert(MANAGED.into(), MANAGER.into());
    json!(labels)
}

fn pod_of(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.uid.as_deref()
}

/// What is to be done so that slices tell of these members, by family.
pub(super) fn plan(
    service: &Service,
    members: &BTreeMap<String, Vec<Member>>,
    nodes: impl Fn(&str) -> Option<Arc<Node>>,
    there: &[Arc<EndpointSlice>],
) -> Plan {
    let mut plan = Plan::default();
    for (family, members) in members {
        let mut groups: BTreeMap<String, (Value, Group)> = BTreeMap::new();
        for member in members {
            let zone = pods::node(&member.pod).and_then(&nodes);
            let zone = zone.as_ref().and_then(|node| node.labels().get(ZONE)).map(String::as_str);
            let ports = json!(member.ports);
            let group = groups.entry(ports.to_string()).or_insert_with(|| (ports, Group::new()));
            group.1.insert(member.pod.uid().unwrap_or_default(), endpoint(member, zone, near(service)));
        }
        let mut its: Vec<_> = there.iter().filter(|slice| slice.address_type == *family).cloned().collect();
        let is_new = its.is_empty();
        for (ports, group) in groups.into_values() {
            let (same, other) =
                its.into_iter().partition(|slice| json!(slice.ports.as_deref().unwrap_or_default()) == ports);
            its = other;
            fill(service, family, &ports, group, same, &mut plan);
        }
        if members.is_empty() {
            // One is kept, or made, so that it can be told: there are none.
            if is_new {
                plan.create.push(slice(service, family, &json!([]), Vec::new()));
            } else {
                fill(service, family, &json!([]), Group::new(), vec![its.remove(0)], &mut plan);
            }
        }
        plan.delete.extend(its);
    }
    let families: Vec<&String> = members.keys().collect();
    plan.delete.extend(there.iter().filter(|slice| !families.contains(&&slice.address_type)).cloned());
    plan
}

/// Puts a group into its slices: what is in one stays there, new ones fill what has room.
fn fill(
    service: &Service,
    family: &str,
    ports: &Value,
    mut group: Group,
    slices: Vec<Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let is_empty = group.is_empty();
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Value>)> = Vec::new();
    for slice in slices {
        let stay =
            slice.endpoints.iter().flatten().filter_map(|endpoint| group.remove(pod_of(endpoint)?)).collect();
        kept.push((slice, stay));
    }
    // The fullest first: the others may become empty, and go.
    kept.sort_by_key(|(_, endpoints)| std::cmp::Reverse(endpoints.len()));
    let mut new = group.into_values();
    for (_, endpoints) in &mut kept {
        let room = MOST.saturating_sub(endpoints.len());
        endpoints.extend(new.by_ref().take(room));
    }
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && !is_empty {
            plan.delete.push(slice);
            continue;
        }
        let (wanted, told) = (labels(service), json!(slice.labels()));
        let is_same = json!(slice.endpoints.as_deref().unwrap_or_default()) == json!(endpoints)
            && json!(slice.ports.as_deref().unwrap_or_default()) == *ports
            && told == wanted;
        if !is_same {
            let mut labels = wanted;
            for key in slice.labels().keys() {
                if labels.get(key).is_none() {
                    labels[key] = Value::Null;
                }
            }
            plan.change.push((
                slice,
                json!({"metadata": {"labels": labels}, "endpoints": endpoints, "ports": ports}),
            ));
        }
    }
    let rest: Vec<Value> = new.collect();
    plan.create.extend(rest.chunks(MOST).map(|some| slice(service, family, ports, some.to_vec())));
}

fn slice(service: &Service, family: &str, ports: &Value, endpoints: Vec<Value>) -> Value {
    let base = format!("{}-", service.name_any());
    json!({
        "metadata": {
            "generateName": base, "name": pods::name(&base), "namespace": service.namespace(),
            "labels": labels(service), "ownerReferences": [owned::reference(service)],
        },
        "addressType": family, "endpoints": endpoints, "ports": ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "spec": {"clusterIP": "None", "selector": {"app": "x"}, "ports": [
                {"name": "http", "port": 80, "targetPort": "web"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}}))
        .unwrap()
    }

    fn pod(number: usize, port: i32, status: Value) -> Arc<k8s_openapi::api::core::v1::Pod> {
        let name = format!("p{number}");
        let mut whole = json!({"podIP": format!("10.0.{}.{}", number / 250, number % 250)});
        whole.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "x"}},
                "spec": {"nodeName": "node", "hostname": "h", "subdomain": "s", "containers": [
                    {"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
                "status": whole,
            }))
            .unwrap(),
        )
    }

    fn ready() -> Value {
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    }

    fn planned(pods: &[Arc<k8s_openapi::api::core::v1::Pod>], there: &[Arc<EndpointSlice>]) -> Plan {
        let members = [("IPv4".to_owned(), who::members(&service(), pods, "IPv4"))].into();
        plan(&service(), &members, |_| None, there)
    }

    fn made(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
        plan.create.iter().map(|slice| Arc::new(serde_json::from_value(slice.clone()).unwrap())).collect()
    }

    #[test]
    fn requests_are_kept_near_where_a_service_wants_it() {
        let node = |_: &str| {
            let node = json!({"metadata": {"name": "node", "labels": {ZONE: "z"}}});
            Some(Arc::new(serde_json::from_value(node).unwrap()))
        };
        let hints = |distribution: Option<&str>, status: Value| {
            let mut service = service();
            service.spec.as_mut().unwrap().traffic_distribution = distribution.map(str::to_owned);
            let members = [("IPv4".to_owned(), who::members(&service, &[pod(1, 80, status)], "IPv4"))].into();
            plan(&service, &members, node, &[]).create[0]["endpoints"][0]["hints"].clone()
        };
        let (zones, nodes) = (json!([{"name": "z"}]), json!([{"name": "node"}]));
        for zone in ["PreferClose", "PreferSameZone"] {
            assert_eq!(hints(Some(zone), ready()), json!({"forZones": zones}));
        }
        assert_eq!(hints(Some("PreferSameNode"), ready()), json!({"forZones": zones, "forNodes": nodes}));
        assert_eq!(hints(None, ready()), Value::Null);
        assert_eq!(hints(Some("PreferClose"), json!({"phase": "Running"})), Value::Null, "it is not ready");
    }

    #[test]
    fn a_slice_tells_what_its_pods_are() {
        let plan = planned(&[pod(1, 8080, ready()), pod(2, 8080, json!({"phase": "Failed"}))], &[]);
        let slice = &plan.create[0];
        assert_eq!(
            slice["endpoints"],
            json!([{"addresses": ["10.0.0.1"], "hostname": "h", "nodeName": "node",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "p1", "uid": "p1"}}])
        );
        assert_eq!(
            slice["ports"],
            json!([{"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"}])
        );
        assert_eq!(
            slice["metadata"]["labels"],
            json!({"a": "b", SERVICE: "s", MANAGED: MANAGER, HEADLESS: ""})
        );
    }

    #[test]
    fn what_is_as_it_should_be_is_left() {
        let pods: Vec<_> = (0..250).map(|number| pod(number, 80, ready())).collect();
        let first = planned(&pods, &[]);
        let there = made(&first);
        assert_eq!(
            there.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        assert_eq!(planned(&pods, &there), Plan::default());
        // One is no longer ready: its slice alone changes.
        let mut changed = pods.clone();
        changed[7] = pod(7, 80, json!({"phase": "Running"}));
        let plan = planned(&changed, &there);
        assert_eq!((plan.create.len(), plan.change.len(), plan.delete.len()), (0, 1, 0));
        // Another port is another slice.
        changed[7] = pod(7, 81, ready());
        let plan = planned(&changed, &there);
        assert_eq!((plan.create.len(), plan.change.len()), (1, 1));
        // None at all: one slice says so.
        let plan = planned(&[], &there);
        assert_eq!((plan.create.len(), plan.change.len(), plan.delete.len()), (0, 1, 2));
    }
}
