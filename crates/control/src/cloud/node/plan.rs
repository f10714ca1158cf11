//! What a node is to be, by what its provider knows of its instance.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cpi::caller::check::is_kept;
use cpi::contract::InstanceMetadata;
use k8s_openapi::api::core::v1::{Node, NodeAddress};
use serde_json::{Map, Value, json};

use super::super::{UNINITIALIZED, taints};

/// Addresses that a kubelet was told to have, with commas between them.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";
/// Labels of the same value: the older one, and that of today.
const TYPE: [&str; 2] = ["beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"];
const ZONE: [&str; 2] = ["failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"];
const REGION: [&str; 2] = ["failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"];
/// All that are kept alike.
const ALIKE: [[&str; 2]; 3] = [ZONE, REGION, TYPE];

/// Whether no cloud controller has seen a node yet.
pub(super) fn is_new(node: &Node) -> bool {
    taints(node).iter().any(|taint| taint.key == UNINITIALIZED)
}

/// Whether what a provider has said of `asked` is to be written into a node as it is `now`: nobody has done that yet, and it is the same
/// instance.
pub(super) fn is_answered(asked: &Node, now: &Node) -> bool {
    is_new(now) && asked.metadata.uid == now.metadata.uid && id(asked) == id(now)
}

/// The id of a node's instance, where it has one.
fn id(node: &Node) -> Option<&str> {
    node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).filter(|id| !id.is_empty())
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(key)
}

/// The one change that initializes a node: the id of its instance, labels, and the taint taken away. What the node says already stays.
///
/// # Errors
/// What is wrong with the metadata: the node stays as it is.
pub(super) fn initialized(node: &Node, metadata: &InstanceMetadata) -> Result<Value, String> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let has_id = id(node).is_some();
    if !has_id && metadata.provider_id.is_empty() {
        return Err(format!("the cloud provider tells no provider id of node {name}"));
    }
    addresses_of_its_own(node, metadata.node_addresses.clone())
        .map_err(|why| format!("provided node ip for node {name:?} is not valid: {why}"))?;
    let mut labels = Map::new();
    for (keys, value) in [(TYPE, &metadata.instance_type), (ZONE, &metadata.zone), (REGION, &metadata.region)]
    {
        if !value.is_empty() {
            labels.extend(keys.map(|key| (key.to_owned(), json!(value))));
        }
    }
    for (key, value) in &metadata.additional_labels {
        if is_kept(key) {
            eprintln!(
                "sextant control: warning: label {key} that the cloud provider has for node {name} is left out"
            );
        } else if label(node, key).is_none() {
            labels.insert(key.clone(), json!(value));
        }
    }
    let left: Vec<_> = taints(node).iter().filter(|taint| taint.key != UNINITIALIZED).collect();
    let mut spec = json!({"taints": left});
    if !has_id {
        spec["providerID"] = json!(metadata.provider_id);
    }
    let metadata = json!({"resourceVersion": node.metadata.resource_version, "uid": node.metadata.uid, "labels": labels});
    Ok(json!({"metadata": metadata, "spec": spec}))
}

/// Labels of today that are not as their older ones are.
pub(super) fn labels(node: &Node) -> BTreeMap<&'static str, String> {
    let mut wanted = BTreeMap::new();
    for [older, newer] in ALIKE {
        if let Some(value) = label(node, older).filter(|value| label(node, newer) != Some(*value)) {
            wanted.insert(newer, value.clone());
        }
    }
    wanted
}

/// The addresses that a node is to have, where they are others than it has.
///
/// # Errors
/// An address that its kubelet was told to have is not the instance's.
pub(super) fn addresses(node: &Node, of_cloud: &[NodeAddress]) -> Result<Option<Vec<NodeAddress>>, String> {
    if is_new(node) || of_cloud.is_empty() {
        return Ok(None);
    }
    let has = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let is_hostname = |address: &&NodeAddress| address.type_ == "Hostname";
    let mut wanted = of_cloud.to_vec();
    if !of_cloud.iter().any(|address| is_hostname(&address)) {
        wanted.extend(has.iter().filter(is_hostname).cloned());
    }
    let wanted = addresses_of_its_own(node, wanted)?;
    Ok(differ(has, &wanted).then_some(wanted))
}

/// Whether addresses are others: by their number, and by the last of each type.
fn differ(has: &[NodeAddress], wanted: &[NodeAddress]) -> bool {
    let by_type = |all: &[NodeAddress]| -> BTreeMap<String, String> {
        all.iter().map(|one| (one.type_.clone(), one.address.clone())).collect()
    };
    has.len() != wanted.len() || by_type(has) != by_type(wanted)
}

/// The addresses, in which those that the kubelet was told to have come first, as the only ones of their types.
fn addresses_of_its_own(node: &Node, all: Vec<NodeAddress>) -> Result<Vec<NodeAddress>, String> {
    let told = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(PROVIDED_IP));
    let Some(told) = told else { return Ok(all) };
    let (mut first, mut types) = (Vec::new(), Vec::new());
    for text in told.split(',') {
        let ip: IpAddr = text.trim().parse().map_err(|_| format!("failed to parse node IP {told:?}"))?;
        let its: Vec<&NodeAddress> = all.iter().filter(|one| one.address.parse() == Ok(ip)).collect();
        if its.is_empty() {
            return Err(format!("failed to get node address from cloud provider that matches ip: {ip}"));
        }
        for one in its {
            types.push(one.type_.clone());
            first.push(one.clone());
        }
    }
    let others = all.iter().filter(|one| !types.contains(&one.type_)).cloned();
    Ok(first.iter().cloned().chain(others).collect())
}
