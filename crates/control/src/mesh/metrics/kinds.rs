//! Kinds of objects that can be asked about, and how they are asked.

use kube::api::ApiResource;
use smi::contract::metrics::Reference;

/// One of [`smi::contract::metrics::KINDS`]. TrafficSplits are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    Node,
    Pod,
    ReplicationController,
    Service,
    DaemonSet,
    Deployment,
    ReplicaSet,
    StatefulSet,
    Job,
}

/// Kind, its plural, its name, its group and version.
type Row = (Kind, &'static str, &'static str, &'static str);

const ROWS: [Row; 10] = [
    (Kind::Namespace, "namespaces", "Namespace", "v1"),
    (Kind::Node, "nodes", "Node", "v1"),
    (Kind::Pod, "pods", "Pod", "v1"),
    (Kind::ReplicationController, "replicationcontrollers", "ReplicationController", "v1"),
    (Kind::Service, "services", "Service", "v1"),
    (Kind::DaemonSet, "daemonsets", "DaemonSet", "apps/v1"),
    (Kind::Deployment, "deployments", "Deployment", "apps/v1"),
    (Kind::ReplicaSet, "replicasets", "ReplicaSet", "apps/v1"),
    (Kind::StatefulSet, "statefulsets", "StatefulSet", "apps/v1"),
    (Kind::Job, "jobs", "Job", "batch/v1"),
];

impl Kind {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        // The table has every kind, which a test sees to; its first row stands in for the compiler.
        ROWS.iter().find(|row| row.0 == self).unwrap_or(&ROWS[0])
    }

    /// Of its name in paths.
    pub(super) fn of_path(text: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.1 == text).map(|row| row.0)
    }

    /// Of what an owner of a pod says that it is.
    pub(super) fn of_owner(api_version: &str, kind: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.2 == kind && row.3 == api_version).map(|row| row.0)
    }

    pub(super) fn plural(self) -> &'static str {
        self.row().1
    }

    pub(super) fn as_str(self) -> &'static str {
        self.row().2
    }

    pub(super) fn api_version(self) -> &'static str {
        self.row().3
    }

    pub(super) fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    /// An object of it; none of them in particular where there is no name.
    pub(super) fn reference(self, namespace: &str, name: &str) -> Reference {
        Reference {
            kind: self.as_str().into(),
            namespace: namespace.into(),
            name: name.into(),
            api_version: self.api_version().into(),
        }
    }

    /// How the API server is asked about it.
    pub(super) fn resource(self) -> ApiResource {
        let api_version = self.api_version();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: self.as_str().into(),
            plural: self.plural().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_of_the_specification() {
        for kind in Kind::all() {
            assert_eq!(kind.row().0, kind);
            assert_eq!(Kind::of_path(kind.plural()), Some(kind));
            assert_eq!(Kind::of_owner(kind.api_version(), kind.as_str()), Some(kind));
        }
        let missing: Vec<&str> = smi::contract::metrics::KINDS
            .into_iter()
            .filter(|plural| Kind::of_path(plural).is_none())
            .collect();
        assert_eq!(missing, ["trafficsplits"]);
        assert_eq!(Kind::of_owner("apps/v1beta1", "ReplicaSet"), None);
        assert_eq!(Kind::Job.resource().group, "batch");
        assert_eq!((Kind::Pod.resource().group.as_str(), Kind::Pod.resource().version.as_str()), ("", "v1"));
    }
}
