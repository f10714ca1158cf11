//! The nodes and what is on them, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::cache::Name;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;

use super::filters::{self, HostPort};
use super::resources::{self, Amounts};
use crate::workloads::pods;

/// A node with its pods.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The node.
    pub(super) node: Arc<Node>,
    /// The pods that are on it and have not ended, and those that are to be.
    pub(super) pods: Vec<Arc<Pod>>,
    /// What they ask for.
    pub(super) used: Amounts,
    /// The same for comparing nodes.
    pub(super) weight: Amounts,
    /// The ports of the host that they take.
    pub(super) ports: BTreeSet<HostPort>,
}

impl Place {
    /// A node without pods.
    pub(super) fn new(node: Arc<Node>) -> Self {
        let (used, weight) = (Amounts::new(), Amounts::new());
        Self { node, pods: Vec::new(), used, weight, ports: BTreeSet::new() }
    }

    /// Puts a pod on it.
    pub(super) fn put(&mut self, pod: Arc<Pod>) {
        resources::add(&mut self.used, &resources::requests(&pod));
        resources::add(&mut self.weight, &resources::weight(&pod));
        self.ports.extend(filters::host_ports(&pod));
        self.pods.push(pod);
    }

    /// The same node without some of its pods.
    pub(super) fn without(&self, gone: impl Fn(&Pod) -> bool) -> Self {
        let mut left = Self::new(self.node.clone());
        self.pods.iter().filter(|pod| !gone(pod)).for_each(|pod| left.put(pod.clone()));
        left
    }
}

/// All nodes. `assumed` says where pods are that the cache still has nowhere.
pub(super) fn places(
    nodes: &[Arc<Node>],
    all: &[Arc<Pod>],
    assumed: &BTreeMap<Name, (String, String)>,
) -> Vec<Place> {
    let mut places: Vec<Place> = nodes.iter().map(|node| Place::new(node.clone())).collect();
    let by_name: BTreeMap<String, usize> =
        nodes.iter().enumerate().map(|(at, node)| (node.name_any(), at)).collect();
    for pod in all.iter().filter(|pod| !pods::is_over(pod)) {
        let thought =
            assumed.get(&Name::of(&**pod)).filter(|(uid, _)| pod.metadata.uid.as_ref() == Some(uid));
        let node = pods::node(pod).or(thought.map(|(_, node)| node.as_str()));
        if let Some(at) = node.and_then(|node| by_name.get(node)) {
            places[*at].put(pod.clone());
        }
    }
    places
}
