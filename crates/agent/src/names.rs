//! Labels, annotations and paths, as a kubelet names them.

use std::path::{Path, PathBuf};

use client::cache::Name;
use k8s_openapi::api::core::v1::Pod;

/// A label of sandboxes and containers: the pod's name.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// A label: the pod's namespace.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// A label: the pod's uid.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
/// A label: the container's name.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// A label of this agent's alone: the node whose agent made it. What bears another's, or none, is not touched.
pub const AGENT: &str = "sextant.dev/agent";
/// An annotation: how often the container was started before.
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// An annotation: what of the container's spec cannot be changed while it runs.
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
/// An annotation: where in the container its last words are.
pub(crate) const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// An annotation: which of its output are its last words where that file is empty.
pub(crate) const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// An annotation: the pod's grace period in seconds, for a pod that is gone.
pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// An annotation of pods: where they come from, `api` or `file`.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// An annotation of static pods: what follows from their file.
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// An annotation of mirrors: which static pod they are of.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// An annotation of static pods: when their file was seen.
pub(crate) const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// One pod: a name may have another uid later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Namespace and name.
    pub(crate) name: Name,
    /// The uid.
    pub(crate) uid: String,
}

impl Key {
    /// That of an object.
    pub(crate) fn of(pod: &Pod) -> Self {
        Self { name: Name::of(pod), uid: pod.metadata.uid.clone().unwrap_or_default() }
    }

    /// As kubelets write it in messages.
    pub(crate) fn words(&self) -> String {
        format!("{}_{}({})", self.name.name, self.name.namespace, self.uid)
    }

    /// The folder with the pod's logs.
    pub(crate) fn logs(&self, root: &Path) -> PathBuf {
        root.join(format!("{}_{}_{}", self.name.namespace, self.name.name, self.uid))
    }
}
