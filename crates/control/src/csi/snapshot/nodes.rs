//! Which node a volume is on.

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::ResourceExt as _;

use super::Snapshots;
use crate::csi::reach::reaches;

impl Snapshots {
    /// The only node from which a volume can be reached, for drivers whose controller part is on each node.
    pub(super) fn node_of(&self, volume: &PersistentVolume) -> Option<String> {
        let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
        let is_on = |node: &Node| reaches(Some(affinity), &node.name_any(), node.labels());
        match &self.context.nodes.find(is_on)[..] {
            [node] => Some(node.name_any()),
            _ => None,
        }
    }
}
