//! What of a pod's spec the agent asks again and again.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Resource as _;
use sha2::{Digest as _, Sha256};

use crate::events::PartOf;

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It runs before the others, to its end.
    Init,
    /// It is started before the others, and runs beside them.
    Sidecar,
    /// One of those that the pod is there for.
    Main,
    /// It was added to a pod that ran.
    Ephemeral,
}

/// A container with what it is.
#[derive(Clone, Debug)]
pub(crate) struct Part<'a> {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its spec.
    pub(crate) container: Cow<'a, Container>,
}

impl Part<'_> {
    /// The container, as events name it.
    pub(crate) fn of(&self, pod: &Pod) -> PartOf {
        let list = match self.kind {
            Kind::Init | Kind::Sidecar => "initContainers",
            Kind::Main => "containers",
            Kind::Ephemeral => "ephemeralContainers",
        };
        let field_path = Some(format!("spec.{list}{{{}}}", self.container.name));
        PartOf(k8s_openapi::api::core::v1::ObjectReference { field_path, ..pod.object_ref(&()) })
    }

    /// How it is told that it has to end and, if so, is started again: of init containers nothing is said.
    pub(crate) fn again(&self, restarts: bool) -> &'static str {
        if restarts && self.kind == Kind::Main { ", will be restarted" } else { "" }
    }

    /// What it is called where it has to end.
    pub(crate) fn title(&self) -> String {
        let what =
            if matches!(self.kind, Kind::Init | Kind::Sidecar) { "Init container" } else { "Container" };
        format!("{what} {}", self.container.name)
    }
}

/// What comes after a container's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It is started again.
    Always,
    /// It is started again if it failed.
    OnFailure,
    /// Nothing.
    Never,
}

impl Policy {
    fn named(name: &str) -> Self {
        match name {
            "Never" => Self::Never,
            "OnFailure" => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// That of a pod.
    pub(crate) fn of_pod(pod: &Pod) -> Self {
        Self::named(pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always"))
    }

    /// That of one of its containers.
    pub(crate) fn of(pod: &Pod, part: &Part<'_>) -> Self {
        let own = part.container.restart_policy.as_deref().map(Self::named);
        match (part.kind, own.unwrap_or_else(|| Self::of_pod(pod))) {
            (Kind::Sidecar, _) => Self::Always,
            (Kind::Ephemeral, _) => Self::Never,
            (Kind::Init, Self::Always) => Self::OnFailure,
            (_, policy) => policy,
        }
    }

    /// Whether one that ended with this code is started again.
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// All containers: those of the start in their order, then the others.
pub(crate) fn parts(pod: &Pod) -> Vec<Part<'_>> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        let kind = if is_sidecar { Kind::Sidecar } else { Kind::Init };
        Part { kind, container: Cow::Borrowed(container) }
    });
    let main = spec.containers.iter().map(|one| Part { kind: Kind::Main, container: Cow::Borrowed(one) });
    let added = spec.ephemeral_containers.iter().flatten().filter_map(|one| {
        // The same fields, and which container's processes it sees.
        let container = serde_json::to_value(one).and_then(serde_json::from_value).ok()?;
        Some(Part { kind: Kind::Ephemeral, container: Cow::Owned(container) })
    });
    init.chain(main).chain(added).collect()
}

/// What cannot be changed of a container that runs.
pub(crate) fn hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{}\n{image}", container.name));
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// How long the pod's containers have to end.
pub(crate) fn grace(pod: &Pod) -> i64 {
    let asked = pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.deletion_grace_period_seconds);
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    // A century is for ever, and clocks can count it.
    asked.or(own).unwrap_or(30).clamp(0, i64::from(u32::MAX))
}

/// Whether the pod is on the node's own network.
pub(crate) fn is_on_host(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

/// Whether nothing of the pod is to run any more.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    #[test]
    fn times_to_end_are_such_as_clocks_can_count() {
        let of = |spec: serde_json::Value| grace(&serde_json::from_value(json!({"spec": spec})).unwrap());
        assert_eq!(of(json!({"containers": []})), 30);
        assert_eq!(of(json!({"containers": [], "terminationGracePeriodSeconds": 0})), 0);
        assert_eq!(of(json!({"containers": [], "terminationGracePeriodSeconds": -5})), 0);
        let longest = of(json!({"containers": [], "terminationGracePeriodSeconds": i64::MAX}));
        let time = Duration::from_secs(u64::try_from(longest).unwrap());
        assert!(Instant::now().checked_add(time * 2).is_some(), "{longest}");
    }
}
