//! What is known of a pod beside its object and the runtime: all of it can be lost.

use std::collections::BTreeMap;
use std::time::Duration;

use cri::contract::v1::{ContainerStatus, ImageSpec, LinuxContainerResources};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::probes::{self, Answers, Asked};
use super::resize::{self, Given};
use super::spec::{Kind, Part};
use crate::observed::{Observed, is_exited, is_running};

/// Why a container does not run yet, or again: a word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// `ErrImagePull`.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
}

impl Waiting {
    /// This reason with this message.
    pub(crate) fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

/// One pod's.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Containers that end again and again, by name.
    pub(crate) crashes: Backoff,
    /// Images that cannot be had, by name.
    pub(crate) pulls: Backoff,
    /// When an image could not be had last, and why.
    pub(crate) pull_failures: BTreeMap<String, (Timestamp, Waiting)>,
    /// Why containers wait, by name.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// Containers that are to end, by id, and what is told of it.
    pub(crate) doomed: BTreeMap<String, String>,
    /// What probes last said, by container id.
    pub(crate) probed: BTreeMap<(String, Asked), bool>,
    /// Probes that are asked; they end with this.
    pub(crate) probing: BTreeMap<(String, Asked), probes::Running>,
    /// What is counted of probes, for monitors.
    pub(crate) answers: Answers,
    /// The last words of containers, by id.
    pub(crate) last_words: BTreeMap<String, String>,
    /// Whether the node takes it: what it asks for is no other's any more.
    pub(crate) admitted: bool,
    /// Whether it has come to its end by itself: nothing of the node is its any more, whether or not the API server has been told.
    pub(crate) ended: bool,
    /// Why the pod failed as a whole.
    pub(crate) failed: Option<Waiting>,
    /// How long its containers have to end then, where that is not the pod's own time.
    pub(crate) grace: Option<Duration>,
    /// Whether it was the node's doing.
    pub(crate) disrupted: bool,
    /// Since when it is on its way out because of what it uses.
    pub(crate) evicted: Option<Instant>,
    /// The pod as the API server answered when its status was last written.
    pub(crate) written: Option<Pod>,
    /// Images that are volumes of the pod, by the volumes' names: each is had once.
    pub(crate) images: BTreeMap<String, ImageSpec>,
    /// What the pod's containers were given of resources.
    pub(crate) given: Given,
    /// Why they are not given what their spec asks for now.
    pub(crate) refused: Option<Waiting>,
    /// Why what they were given could not be had from the runtime.
    pub(crate) resize_failed: Option<String>,
    /// What the runtime was told of containers' resources, by their ids.
    pub(crate) enacted: BTreeMap<String, LinuxContainerResources>,
    /// Whether the pod's cgroup has the limits that the pod's containers come to, and no others.
    pub(crate) settled: bool,
    /// What was last told of why it does not begin: the node, or volumes that cannot be had.
    pub(crate) told: Option<String>,
    /// Why it could not be written down, of a pod of a file.
    pub(crate) unnoted: Option<String>,
    /// Since when volumes cannot be had.
    pub(crate) without: Option<Instant>,
}

impl Memory {
    /// What an agent that starts can know: containers that were ready when it was last seen are.
    pub(crate) fn begin(pod: &Pod) -> Self {
        let mut memory = Self { given: resize::given(pod), ..Self::default() };
        let status = pod.status.as_ref();
        let all = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
        let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
        for container in all.chain(init) {
            let id = container.container_id.as_deref().and_then(|id| id.split_once("://"));
            let Some((_, id)) = id else { continue };
            if container.started == Some(true) {
                memory.probed.insert((id.into(), Asked::Startup), true);
                memory.probed.insert((id.into(), Asked::Readiness), container.ready);
            }
        }
        memory
    }

    /// Whether a container that runs has come up.
    pub(crate) fn is_started(&self, part: &Part<'_>, container: &ContainerStatus) -> bool {
        let said = || self.probed.get(&(container.id.clone(), Asked::Startup)) == Some(&true);
        is_running(container) && (part.container.startup_probe.is_none() || said())
    }

    /// Whether a container does what it is there for.
    pub(crate) fn is_ready(&self, part: &Part<'_>, container: &ContainerStatus) -> bool {
        if part.kind == Kind::Init {
            return is_exited(container) && container.exit_code == 0;
        }
        let said = || self.probed.get(&(container.id.clone(), Asked::Readiness)) == Some(&true);
        self.is_started(part, container) && (part.container.readiness_probe.is_none() || said())
    }

    /// Forgets containers that are gone.
    pub(crate) fn forget(&mut self, observed: &Observed) {
        let there = |id: &String| observed.containers.iter().any(|one| one.id == *id);
        let runs = |id: &String| observed.running().any(|one| one.id == *id);
        self.probed.retain(|(id, _), _| there(id));
        self.probing.retain(|(id, _), _| runs(id));
        self.doomed.retain(|id, _| runs(id));
        self.last_words.retain(|id, _| there(id));
        self.enacted.retain(|id, _| there(id));
    }
}
