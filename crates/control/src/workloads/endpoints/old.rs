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
/// More addresses than this are not told.
const MOST: usize = 1000;

/// What is to be changed so that the object tells of these members; `None` where it does.
pub(super) fn change(service: &Service, members: &[Member], there: Option<&Endpoints>) -> Option<Value> {
    let all = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or_default();
    let mut groups: BTreeMap<String, [Vec<Value>; 3]> = BTreeMap::new();
    for member in members.iter().filter(|member| all || !member.terminating).take(MOST) {
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
        json!(there.subsets.as_deref().unwrap_or_default()) == json!(subsets) && *there.labels() == labels
    });
    (!is_same).then(|| {
        let mut told = json!(labels);
        for key in
            there.iter().flat_map(|there| there.labels().keys()).filter(|key| !labels.contains_key(*key))
        {
            told[key] = Value::Null;
        }
        json!({"metadata": {"labels": told}, "subsets": subsets})
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
