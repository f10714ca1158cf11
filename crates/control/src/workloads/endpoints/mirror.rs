//! Endpoints that people write, of Services without a selector: copied into slices, which is what is read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::slices::{self, Plan};
use super::{CHANGED, old};
use crate::workloads::{owned, pods};

/// Who writes such slices.
pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints on which a leader was once told.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// What `kubectl apply` has noted on them is not the slices'.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// More addresses of a subset than this are not copied.
const MOST: usize = 1000;

/// Whether somebody wants them to be copied.
pub(super) fn is_copied(endpoints: &Endpoints) -> bool {
    endpoints.labels().get(old::NO_MIRROR).map(String::as_str) != Some("true")
        && !endpoints.annotations().contains_key(LEADER)
        && endpoints.metadata.deletion_timestamp.is_none()
}

/// What is to be done so that slices tell what the Endpoints do; nothing is left where there are none.
pub(super) fn plan(endpoints: Option<&Endpoints>, there: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut left: Vec<Arc<EndpointSlice>> = there.to_vec();
    for wanted in endpoints.into_iter().flat_map(copies) {
        let is_like = |slice: &Arc<EndpointSlice>| {
            slice.address_type == wanted["addressType"]
                && json!(slice.ports.as_deref().unwrap_or_default()) == wanted["ports"]
        };
        let Some(at) = left.iter().position(is_like) else {
            plan.create.push(wanted);
            continue;
        };
        let slice = left.remove(at);
        let metadata = &wanted["metadata"];
        let is_same = json!(slice.endpoints) == wanted["endpoints"]
            && json!(slice.labels()) == metadata["labels"]
            && json!(slice.annotations()) == metadata["annotations"]
            && slice
                .owner_references()
                .iter()
                .any(|owner| metadata["ownerReferences"][0]["uid"] == owner.uid);
        if !is_same {
            let told = json!({
                "labels": told(slice.labels(), &metadata["labels"]),
                "annotations": told(slice.annotations(), &metadata["annotations"]),
                "ownerReferences": metadata["ownerReferences"],
            });
            plan.change.push((slice, json!({"metadata": told, "endpoints": wanted["endpoints"]})));
        }
    }
    plan.delete = left;
    plan
}

/// What a merge patch says so that these become the wanted ones.
fn told(there: &BTreeMap<String, String>, wanted: &Value) -> Value {
    let mut told = wanted.clone();
    for key in there.keys().filter(|key| wanted.get(key).is_none()) {
        told[key] = Value::Null;
    }
    told
}

/// The addresses of a subset that are copied, and whether each is ready; and how many are none at all.
fn addresses(subset: &EndpointSubset) -> (Vec<(&EndpointAddress, IpAddr, bool)>, usize) {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let (mut copied, mut wrong) = (Vec::new(), 0);
    for (address, is_ready) in ready.chain(not) {
        if copied.len() >= MOST {
            break;
        }
        match address.ip.parse() {
            Ok(ip) => copied.push((address, ip, is_ready)),
            Err(_) => wrong += 1,
        }
    }
    (copied, wrong)
}

/// What is not copied, as people are told: reason and text.
pub(super) fn skipped(endpoints: &Endpoints) -> Vec<(&'static str, String)> {
    let (mut wrong, mut skipped, mut told) = (0, 0, Vec::new());
    for subset in endpoints.subsets.iter().flatten() {
        let all =
            [&subset.addresses, &subset.not_ready_addresses].map(|list| list.as_ref().map_or(0, Vec::len));
        let (copied, its) = addresses(subset);
        wrong += its;
        skipped += all.iter().sum::<usize>() - copied.len();
    }
    if wrong > 0 {
        let text = format!("Skipped {wrong} invalid IP addresses when mirroring to EndpointSlices");
        told.push(("InvalidIPAddress", text));
    }
    if skipped > wrong {
        let text = format!(
            "A max of {MOST} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
        );
        told.push(("TooManyAddressesToMirror", text));
    }
    told
}

/// The slices of Endpoints: for each subset one of each family.
fn copies(endpoints: &Endpoints) -> Vec<Value> {
    let mut labels = endpoints.labels().clone();
    labels.insert(slices::SERVICE.into(), endpoints.name_any());
    labels.insert(slices::MANAGED.into(), MANAGER.into());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|key, _| ![CHANGED, APPLIED].contains(&key.as_str()));
    let base = format!("{}-", endpoints.name_any());
    let mut copies = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<Value> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| {
                let mut told = json!({"name": port.name.as_deref().unwrap_or_default(), "port": port.port,
                    "protocol": port.protocol.as_deref().unwrap_or("TCP")});
                if let Some(app) = &port.app_protocol {
                    told["appProtocol"] = json!(app);
                }
                told
            })
            .collect();
        let mut families: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (address, ip, is_ready) in addresses(subset).0 {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            families.entry(family).or_default().push(endpoint(address, ip, is_ready));
        }
        for (family, all) in families {
            for some in all.chunks(slices::MOST) {
                copies.push(json!({
                    "metadata": {
                        "generateName": base, "name": pods::name(&base), "namespace": endpoints.namespace(),
                        "labels": labels, "annotations": annotations, "ownerReferences": [owned::reference(endpoints)],
                    },
                    "addressType": family, "endpoints": some, "ports": ports,
                }));
            }
        }
    }
    copies
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, is_ready: bool) -> Value {
    let mut told = json!({"addresses": [ip.to_string()], "conditions": {"ready": is_ready}});
    let more = [
        ("hostname", address.hostname.as_ref().filter(|name| !name.is_empty()).map(|name| json!(name))),
        ("nodeName", address.node_name.as_ref().map(|name| json!(name))),
        ("targetRef", address.target_ref.as_ref().map(|of| json!(of))),
    ];
    for (field, value) in more {
        if let Some(value) = value {
            told[field] = value;
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(addresses: &[&str]) -> Endpoints {
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip, "nodeName": "n"})).collect();
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "subsets": [{"addresses": addresses, "notReadyAddresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 5432}]}]}))
        .unwrap()
    }

    fn made(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
        plan.create.iter().map(|slice| Arc::new(serde_json::from_value(slice.clone()).unwrap())).collect()
    }

    #[test]
    fn what_people_write_is_copied_by_family() {
        let first = plan(Some(&endpoints(&["10.0.0.1", "fd00::1"])), &[]);
        let there = made(&first);
        assert_eq!(
            there.iter().map(|slice| slice.address_type.as_str()).collect::<Vec<_>>(),
            ["IPv4", "IPv6"]
        );
        let v4 = json!(*there[0]);
        assert_eq!(
            v4["endpoints"][0],
            json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "n"})
        );
        assert_eq!(v4["endpoints"][1]["conditions"], json!({"ready": false}));
        assert_eq!(v4["ports"], json!([{"name": "", "port": 5432, "protocol": "TCP"}]));
        assert_eq!(
            v4["metadata"]["labels"],
            json!({"a": "b", slices::SERVICE: "db", slices::MANAGED: MANAGER})
        );
        assert_eq!(v4["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
        assert_eq!(plan(Some(&endpoints(&["10.0.0.1", "fd00::1"])), &there), Plan::default());
        let next = plan(Some(&endpoints(&["10.0.0.2"])), &there);
        assert_eq!((next.create.len(), next.change.len(), next.delete.len()), (0, 1, 1));
        assert_eq!(plan(None, &there).delete.len(), 2);
    }

    #[test]
    fn annotations_are_copied_and_what_is_skipped_is_told() {
        let mut one = endpoints(&["10.0.0.1", "x", "y"]);
        let annotations = one.annotations_mut();
        for key in [APPLIED, CHANGED, "a"] {
            annotations.insert(key.into(), "1".into());
        }
        let there = made(&plan(Some(&one), &[]));
        assert_eq!(json!(there[0].annotations()), json!({"a": "1"}));
        assert_eq!(plan(Some(&one), &there), Plan::default());
        let told = skipped(&one);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1, "Skipped 2 invalid IP addresses when mirroring to EndpointSlices");
        one.annotations_mut().clear();
        let next = plan(Some(&one), &there);
        assert_eq!(next.change[0].1["metadata"]["annotations"], json!({"a": null}));
        let many: Vec<String> = (0..1001).map(|at| format!("10.0.{}.{}", at / 256, at % 256)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            skipped(&endpoints(&many))[0].1,
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 2 addresses were skipped"
        );
        assert_eq!(skipped(&endpoints(&["10.0.0.1"])), []);
    }

    #[test]
    fn some_are_not_to_be_copied() {
        let mut one = endpoints(&["10.0.0.1"]);
        assert!(is_copied(&one));
        one.labels_mut().insert(old::NO_MIRROR.into(), "true".into());
        assert!(!is_copied(&one));
        let mut one = endpoints(&["10.0.0.1"]);
        one.annotations_mut().insert(LEADER.into(), String::new());
        assert!(!is_copied(&one));
    }
}
