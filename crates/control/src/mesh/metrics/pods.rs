//! What pods belong to: a node tells of pods, and people ask about what has made them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kube::ResourceExt as _;
use smi::contract::Name;
use tokio::time::Instant;

use super::kinds::Kind;
use crate::workloads::TEMPLATE_HASH;

/// For so long a pod that is gone is known: what it has done last is told after that.
const KEPT: Duration = Duration::from_mins(1);

/// A pod, and what it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Party {
    pub(super) pod: Name,
    /// Empty where it is on none yet.
    pub(super) node: String,
    /// What has made it, and what has made that.
    pub(super) owners: Vec<(Kind, String)>,
}

impl Party {
    fn of(name: &Name, pod: &v1::Pod) -> Self {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let mut owners = Vec::new();
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        let known = owner
            .and_then(|owner| Some((Kind::of_owner(&owner.api_version, &owner.kind)?, owner.name.clone())));
        if let Some((kind, name)) = known {
            let hash = pod.labels().get(TEMPLATE_HASH).filter(|_| kind == Kind::ReplicaSet);
            let deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            let deployment = deployment.map(|deployment| (Kind::Deployment, deployment.to_owned()));
            owners.push((kind, name));
            owners.extend(deployment);
        }
        Self { pod: name.clone(), node, owners }
    }
}

/// All pods.
#[derive(Debug, Default)]
pub(super) struct Pods(BTreeMap<Name, Known>);

#[derive(Debug)]
struct Known {
    party: Arc<Party>,
    /// Since when it is gone.
    gone: Option<Instant>,
}

impl Pods {
    /// A pod is so, or is there no more.
    pub(super) fn take(&mut self, name: &Name, pod: Option<&v1::Pod>, now: Instant) {
        match pod {
            Some(pod) => {
                let party = Arc::new(Party::of(name, pod));
                self.0.insert(name.clone(), Known { party, gone: None });
            }
            None => {
                self.0.retain(|_, known| known.gone.is_none_or(|gone| now.duration_since(gone) < KEPT));
                if let Some(known) = self.0.get_mut(name) {
                    known.gone = Some(now);
                }
            }
        }
    }

    pub(super) fn find(&self, name: &Name) -> Option<&Arc<Party>> {
        self.0.get(name).map(|known| &known.party)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value) -> v1::Pod {
        serde_json::from_value(
            json!({"metadata": metadata, "spec": {"nodeName": "node-1", "containers": []}}),
        )
        .unwrap()
    }

    fn owners(api_version: &str, kind: &str, name: &str, hash: &str) -> Vec<(Kind, String)> {
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": true});
        let pod = pod(json!({"labels": {TEMPLATE_HASH: hash}, "ownerReferences": [owner]}));
        Party::of(&Name::new("shop", "web"), &pod).owners
    }

    #[test]
    fn a_pod_belongs_to_its_controller_and_to_what_has_made_that() {
        let set = (Kind::ReplicaSet, "web-5d4".to_owned());
        assert_eq!(
            owners("apps/v1", "ReplicaSet", "web-5d4", "5d4"),
            [set.clone(), (Kind::Deployment, "web".to_owned())]
        );
        assert_eq!(owners("apps/v1", "ReplicaSet", "web-5d4", "other"), [set], "made by hand");
        assert_eq!(
            owners("apps/v1", "StatefulSet", "db-5d4", "5d4"),
            [(Kind::StatefulSet, "db-5d4".to_owned())]
        );
        assert!(owners("example.org/v1", "ReplicaSet", "web-5d4", "5d4").is_empty());
        let other = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u"});
        let party = Party::of(&Name::new("shop", "web"), &pod(json!({"ownerReferences": [other]})));
        assert_eq!((party.owners, party.node.as_str()), (vec![], "node-1"));
    }

    #[test]
    fn a_pod_that_is_gone_is_known_for_a_while() {
        let (mut pods, now) = (Pods::default(), Instant::now());
        let names = ["a", "b"].map(|name| Name::new("shop", name));
        for name in &names {
            pods.take(name, Some(&pod(json!({}))), now);
        }
        pods.take(&names[0], None, now);
        assert!(pods.find(&names[0]).is_some());
        pods.take(&names[1], None, now + KEPT);
        assert!(pods.find(&names[0]).is_none() && pods.find(&names[1]).is_some());
    }
}
