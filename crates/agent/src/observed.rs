//! What the runtime has of one pod.

use cri::contract::v1::{ContainerState, ContainerStatus, PodSandboxState, PodSandboxStatus};

use crate::names::{CONTAINER_NAME, RESTART_COUNT};

/// Sandboxes and containers of one pod, the youngest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Its sandboxes.
    pub(crate) sandboxes: Vec<PodSandboxStatus>,
    /// Its containers, of all sandboxes.
    pub(crate) containers: Vec<ContainerStatus>,
    /// Of which sandbox a container is, by its id.
    pub(crate) sandbox_of: std::collections::BTreeMap<String, String>,
}

impl Observed {
    /// Sorted.
    pub(crate) fn new(
        mut sandboxes: Vec<PodSandboxStatus>,
        mut containers: Vec<ContainerStatus>,
        sandbox_of: std::collections::BTreeMap<String, String>,
    ) -> Self {
        sandboxes.sort_by_key(|one| std::cmp::Reverse((attempt(one), one.created_at)));
        containers.sort_by_key(|one| std::cmp::Reverse((one.created_at, restarts(one))));
        Self { sandboxes, containers, sandbox_of }
    }

    /// The sandbox that containers are made in: the youngest, if it is ready.
    pub(crate) fn sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes.first().filter(|one| one.state() == PodSandboxState::SandboxReady)
    }

    /// The youngest container of this name.
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.named(name).next()
    }

    /// The one before it.
    pub(crate) fn previous(&self, name: &str) -> Option<&ContainerStatus> {
        self.named(name).nth(1)
    }

    /// All containers of this name, the youngest first.
    pub(crate) fn named<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a ContainerStatus> + use<'a, 'n> {
        self.containers.iter().filter(move |one| name_of(one) == name)
    }

    /// The youngest container of this name in the sandbox of today.
    pub(crate) fn here(&self, name: &str) -> Option<&ContainerStatus> {
        let sandbox = self.sandbox()?;
        self.named(name).find(|one| self.sandbox_of.get(&one.id) == Some(&sandbox.id))
    }

    /// Those that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(|one| is_running(one))
    }

    /// The pod's addresses.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let Some(network) = self.sandbox().and_then(|one| one.network.as_ref()) else { return Vec::new() };
        let more = network.additional_ips.iter().map(|one| one.ip.clone());
        std::iter::once(network.ip.clone()).chain(more).filter(|ip| !ip.is_empty()).collect()
    }
}

/// A container's name in the pod.
pub(crate) fn name_of(container: &ContainerStatus) -> &str {
    let label = container.labels.get(CONTAINER_NAME).map(String::as_str);
    label.or(container.metadata.as_ref().map(|meta| meta.name.as_str())).unwrap_or_default()
}

/// How often a container was started before.
pub(crate) fn restarts(container: &ContainerStatus) -> u32 {
    container.annotations.get(RESTART_COUNT).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Counts the sandboxes of a pod.
pub(crate) fn attempt(sandbox: &PodSandboxStatus) -> u32 {
    sandbox.metadata.as_ref().map(|meta| meta.attempt).unwrap_or_default()
}

/// Whether it was made, and has not run.
pub(crate) fn is_made(container: &ContainerStatus) -> bool {
    container.state() == ContainerState::ContainerCreated
}

/// Whether it runs.
pub(crate) fn is_running(container: &ContainerStatus) -> bool {
    container.state() == ContainerState::ContainerRunning
}

/// Whether it has ended: what the runtime knows nothing of has, too.
pub(crate) fn is_exited(container: &ContainerStatus) -> bool {
    matches!(container.state(), ContainerState::ContainerExited | ContainerState::ContainerUnknown)
}
