//! Where pods and containers are at: one call for each.
//!
//! What makes something new fails with a plugin's refusal. What ends something goes on.

use std::sync::Arc;

use oci_runtime::contract::Spec;

use super::collect::limits_of;
use super::wire::{self, Container, ContainerEvent, Event, PodEvent, PodSandbox};
use super::{Nri, apply, collect::Collected, describe};
use crate::contract::Error;
use crate::contract::v1::{ContainerConfig, LinuxContainerResources};
use crate::plugin::node::blocking;
use crate::plugin::{container, files, pod};

/// What plugins want of other containers.
#[derive(Debug, Default)]
pub(crate) struct Others {
    pub(super) updates: Vec<wire::ContainerUpdate>,
    pub(super) evictions: Vec<wire::ContainerEviction>,
}

/// What plugins want of a container that is being created, beyond its configuration.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Names of CDI devices.
    pub(crate) devices: Vec<String>,
    /// Its limits, which are in the configuration already.
    pub(crate) limits: Option<wire::LinuxResources>,
    pub(crate) others: Others,
}

impl From<Collected> for Others {
    fn from(collected: Collected) -> Self {
        Self { updates: collected.updates.into_values().collect(), evictions: collected.evictions }
    }
}

impl Nri {
    fn pod(&self, record: &pod::Record) -> PodSandbox {
        describe::pod(record, &self.place.netns(&record.id))
    }

    async fn container(&self, container: &Arc<container::Container>) -> Container {
        let path = self.place.bundle(container.id()).join("config.json");
        let spec: Option<Spec> = blocking(move || files::read_json(&path)).await.unwrap_or_else(|error| {
            super::log(&error.to_string());
            None
        });
        describe::living(container, spec.as_ref())
    }

    async fn of_pod(&self, event: Event, record: &pod::Record, ends: bool) -> Result<(), Error> {
        let Some(plugins) = self.wanting(event) else { return Ok(()) };
        let pod = self.pod(record);
        let request = PodEvent { pod: Some(pod.clone()) };
        self.tell(&plugins, event, &request, (&pod, None), ends).await
    }

    async fn of_container(
        &self,
        event: Event,
        record: &pod::Record,
        container: &Arc<container::Container>,
        ends: bool,
    ) -> Result<(), Error> {
        let Some(plugins) = self.wanting(event) else { return Ok(()) };
        let (pod, container) = (self.pod(record), self.container(container).await);
        let request = ContainerEvent { pod: Some(pod.clone()), container: Some(container.clone()) };
        self.tell(&plugins, event, &request, (&pod, Some(&container)), ends).await
    }

    /// A pod is up, and not ready yet.
    pub(crate) async fn run_pod(&self, record: &pod::Record) -> Result<(), Error> {
        self.of_pod(Event::RunPodSandbox, record, true).await
    }

    /// A pod did not come to be.
    pub(crate) async fn undo_pod(&self, record: &pod::Record) {
        for event in [Event::StopPodSandbox, Event::RemovePodSandbox] {
            let _ = self.of_pod(event, record, false).await;
        }
    }

    /// Nothing runs in a pod any more; its network is there yet. Told once.
    pub(crate) async fn stop_pod(&self, pod: &pod::Pod) {
        let tell = async { drop(self.of_pod(Event::StopPodSandbox, &pod.record, false).await) };
        pod.told_stopped.get_or_init(|| tell).await;
    }

    /// A pod is gone.
    pub(crate) async fn remove_pod(&self, pod: &pod::Pod) {
        let _ = self.of_pod(Event::RemovePodSandbox, &pod.record, false).await;
    }

    /// The limits of a pod as a whole are to change.
    pub(crate) async fn update_pod(
        &self,
        pod: &pod::Pod,
        overhead: Option<&LinuxContainerResources>,
        resources: Option<&LinuxContainerResources>,
    ) -> Result<(), Error> {
        let Some(plugins) = self.wanting(Event::UpdatePodSandbox) else { return Ok(()) };
        let pod = self.pod(&pod.record);
        let request = wire::UpdatePodSandboxRequest {
            pod: Some(pod.clone()),
            overhead_linux_resources: overhead.map(describe::limits),
            linux_resources: resources.map(describe::limits),
        };
        self.tell(&plugins, Event::UpdatePodSandbox, &request, (&pod, None), true).await
    }

    /// They have changed.
    pub(crate) async fn updated_pod(&self, pod: &pod::Pod) {
        let _ = self.of_pod(Event::PostUpdatePodSandbox, &pod.record, false).await;
    }

    /// A container is to be: changes `spec` as plugins want it, but for CDI devices, whose names are returned.
    pub(crate) async fn create_container(
        &self,
        pod: &pod::Record,
        id: &str,
        config: &ContainerConfig,
        spec: &mut Spec,
    ) -> Result<Beside, Error> {
        let wanting =
            self.wanting(Event::CreateContainer).or_else(|| self.wanting(Event::ValidateContainerAdjustment));
        let Some(plugins) = wanting else { return Ok(Default::default()) };
        let container = describe::container(&pod.id, id, config, spec);
        let collected = self.ask_create(&plugins, self.pod(pod), container).await?;
        apply::apply(&collected.adjust, spec)?;
        Ok(Beside {
            devices: collected.adjust.cdi_devices.iter().map(|device| device.name.clone()).collect(),
            limits: collected.adjust.linux.as_ref().and_then(|linux| linux.resources.clone()),
            others: collected.into(),
        })
    }

    /// A container did not come to be.
    pub(crate) async fn undo_container(&self, pod: &pod::Record, id: &str, config: &ContainerConfig) {
        for event in [Event::StopContainer, Event::RemoveContainer] {
            let Some(plugins) = self.wanting(event) else { continue };
            let (pod, container) =
                (self.pod(pod), describe::container(&pod.id, id, config, &Spec::default()));
            let request = ContainerEvent { pod: Some(pod.clone()), container: Some(container.clone()) };
            let _ = self.tell(&plugins, event, &request, (&pod, Some(&container)), false).await;
        }
    }

    /// A container is there.
    pub(crate) async fn created_container(&self, pod: &pod::Pod, container: &Arc<container::Container>) {
        let _ = self.of_container(Event::PostCreateContainer, &pod.record, container, false).await;
    }

    /// A container's program is to start.
    pub(crate) async fn start_container(
        &self,
        pod: &pod::Pod,
        container: &Arc<container::Container>,
    ) -> Result<(), Error> {
        self.of_container(Event::StartContainer, &pod.record, container, true).await
    }

    /// It has started.
    pub(crate) async fn started_container(&self, pod: &pod::Pod, container: &Arc<container::Container>) {
        let _ = self.of_container(Event::PostStartContainer, &pod.record, container, false).await;
    }

    /// A container's limits are to change to `asked`: what they are to be.
    pub(crate) async fn update_container(
        &self,
        pod: &pod::Pod,
        container: &Arc<container::Container>,
        asked: &LinuxContainerResources,
    ) -> Result<Option<(wire::LinuxResources, Others)>, Error> {
        let Some(plugins) = self.wanting(Event::UpdateContainer) else { return Ok(None) };
        let id = container.id();
        let asked = describe::limits(asked);
        let mut request = wire::UpdateContainerRequest {
            pod: Some(self.pod(&pod.record)),
            container: Some(self.container(container).await),
            linux_resources: Some(asked.clone()),
        };
        let mut collected = Collected::default();
        for plugin in plugins.iter() {
            let answer =
                plugin.ask::<wire::UpdateContainerResponse>(Event::UpdateContainer, &request).await?;
            let Some(answer) = answer else { continue };
            collected.update(&plugin.name, answer.update, None)?;
            collected.evictions.extend(answer.evict);
            request.linux_resources = Some(limits_of(&collected, id, &asked));
        }
        let limits = limits_of(&collected, id, &asked);
        collected.updates.remove(id);
        Ok(Some((limits, collected.into())))
    }

    /// They have changed.
    pub(crate) async fn updated_container(&self, pod: &pod::Pod, container: &Arc<container::Container>) {
        let _ = self.of_container(Event::PostUpdateContainer, &pod.record, container, false).await;
    }

    /// A container's program has ended. Told once.
    pub(crate) async fn stop_container(
        &self,
        pod: &pod::Record,
        container: &Arc<container::Container>,
    ) -> Others {
        let mut others = Others::default();
        container.told_stopped.get_or_init(|| async { others = self.ask_stop(pod, container).await }).await;
        others
    }

    async fn ask_stop(&self, pod: &pod::Record, container: &Arc<container::Container>) -> Others {
        let Some(plugins) = self.wanting(Event::StopContainer) else { return Others::default() };
        let (pod, container) = (self.pod(pod), self.container(container).await);
        let request = ContainerEvent { pod: Some(pod), container: Some(container) };
        let mut collected = Collected::default();
        for plugin in plugins.iter() {
            let answer = plugin.ask::<wire::StopContainerResponse>(Event::StopContainer, &request).await;
            let updates = answer.map(|answer| answer.map(|answer| answer.update).unwrap_or_default());
            let taken = updates.and_then(|updates| collected.update(&plugin.name, updates, None));
            if let Err(error) = taken {
                super::log(&error.to_string());
            }
        }
        collected.into()
    }

    /// A container is gone.
    pub(crate) async fn remove_container(&self, pod: &pod::Pod, container: &Arc<container::Container>) {
        let _ = self.of_container(Event::RemoveContainer, &pod.record, container, false).await;
    }
}
