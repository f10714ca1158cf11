//! Endpoints, the one object of a Service that slices have taken the place of.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::slices::HEADLESS;
use super::who::{self, Member};
use crate::workloads::pods;

pub(super) const MANAGED: &str = "endpoints.kubernetes.io/managed-by";
/// Who writes ours.
pub(super) const MANAGER: &str = "endpoint-controller";
/// The slices are made here: nobody need copy them from this.
pub(super) const NO_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Says that not all addresses are told.
const OVER: &str = "endpoints.kubernetes.io/over-capacity";
/// More addresses than this are not told.
const MOST: usize = 1000;

/// What is to be changed so that the object tells of these members; `None` where it does.
pub(super) fn change(service: &Service, members: &[Member], there: Option<&Endpoints>) -> Option<Value> {
    let all = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or_default();
    let mut groups: BTreeMap<String, [Vec<Value>; 3]> = BTreeMap::new();
    let mut told: Vec<&Member> = members.iter().filter(|member| all || !member.terminating).collect();
    let over = (told.len() > MOST).then_some("truncated");
    // Where not all are told, those that are ready are.
    told.sort_by_key(|member| over.is_some() && !member.ready);
    for member in told.into_iter().take(MOST) {
        let mut address = json!({"ip": member.address, "targetRef": who::target(&member.pod)});
        let more = [("nodeName", pods::node(&member.pod)), ("hostname", member.hostname.as_deref())];
        for (field, value) in more {
            if let Some(value) = value {
                address[field] = json!(value);
            }
        }
        let ports: Vec<Value> = member.ports.iter().map(without_empty_name).collect();
        let group = groups.entry(json!(ports).to_string()).or_insert_with(|| [ports, Vec::new(), Vec::new()]);
        if member.ready { group[1].push(address) } else { group[2].push(address) }
    }
    let subsets: Vec<Value> = groups
        .into_values()
        .map(|[ports, ready, not]| {
            let mut subset = json!({});
            for (field, list) in [("ports", ports), ("addresses", ready), ("notReadyAddresses", not)] {
                if !list.is_empty() {
                    subset[field] = json!(list);
                }
            }
            subset
        })
        .collect();
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    if who::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED.into(), MANAGER.into());
    labels.insert(NO_MIRROR.into(), "true".into());
    let is_same = there.is_some_and(|there| {
        json!(there.subsets.as_deref().unwrap_or_default()) == json!(subsets)
            && *there.labels() == labels
            && there.annotations().get(OVER).map(String::as_str) == over
    });
    (!is_same).then(|| {
        let mut told = json!(labels);
        for key in
            there.iter().flat_map(|there| there.labels().keys()).filter(|key| !labels.contains_key(*key))
        {
            told[key] = Value::Null;
        }
        let mut whole = json!({"metadata": {"labels": told, "annotations": {}}, "subsets": subsets});
        if over.is_some() || there.is_some_and(|there| there.annotations().contains_key(OVER)) {
            whole["metadata"]["annotations"][OVER] = json!(over);
        }
        whole
    })
}

fn without_empty_name(port: &Value) -> Value {
    let mut port = port.clone();
    if port["name"] == ""
        && let Some(fields) = port.as_object_mut()
    {
        fields.remove("name");
    }
    port
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn of_too_many_those_that_are_ready_are_told() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}});
        let pod: Arc<k8s_openapi::api::core::v1::Pod> = Arc::new(serde_json::from_value(pod).unwrap());
        let member = |at: usize, ready: bool| Member {
            pod: pod.clone(),
            address: format!("10.0.{}.{}", at / 256, at % 256),
            ports: Vec::new(),
            ready,
            serving: ready,
            terminating: false,
            hostname: None,
        };
        let mut members: Vec<Member> = (0..=MOST).map(|at| member(at, at > 0)).collect();
        let told = change(&Service::default(), &members, None).unwrap();
        assert_eq!(told["metadata"]["annotations"], json!({OVER: "truncated"}));
        assert_eq!(told["subsets"][0]["addresses"].as_array().unwrap().len(), MOST);
        assert_eq!(told["subsets"][0].get("notReadyAddresses"), None);
        let there: Endpoints = serde_json::from_value(told).unwrap();
        assert!(change(&Service::default(), &members, Some(&there)).is_none());
        members.truncate(1);
        let next = change(&Service::default(), &members, Some(&there)).unwrap();
        assert_eq!(next["metadata"]["annotations"], json!({OVER: null}));
    }
}
