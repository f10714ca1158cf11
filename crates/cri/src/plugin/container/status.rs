//! ContainerStatus and ListContainers, from memory.

use std::collections::BTreeMap;

use serde_json::json;

use super::Container;
use crate::contract::Error;
use crate::contract::v1::{
    self, ContainerFilter, ContainerResources, ContainerState, ContainerStatus, ContainerStatusRequest,
    ContainerStatusResponse, ContainerUser, ImageSpec, LinuxContainerResources, LinuxContainerUser,
};
use crate::plugin::node::{Node, blocking};
use crate::plugin::pod::has_labels;

impl Container {
    /// As ContainerStatus tells it.
    pub(crate) fn status(&self) -> ContainerStatus {
        let (record, live) = (&self.record, self.live());
        let config = &record.config;
        ContainerStatus {
            id: record.id.clone(),
            metadata: config.metadata.clone(),
            state: live.state.into(),
            created_at: record.created,
            started_at: live.started_at,
            finished_at: live.finished_at,
            exit_code: live.exit_code,
            image: Some(self.image()),
            image_ref: record.image_ref.clone(),
            reason: live.reason.clone(),
            message: live.message.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: record.mounts(),
            log_path: record.log.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            resources: self.resources().map(|linux| ContainerResources { linux: Some(linux), windows: None }),
            image_id: record.image_id.clone(),
            user: (live.state != ContainerState::ContainerCreated).then(|| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: record.user.uid.into(),
                    gid: record.user.gid.into(),
                    supplemental_groups: record.user.groups.iter().copied().map(i64::from).collect(),
                }),
            }),
            stop_signal: v1::Signal::try_from(record.signal).unwrap_or_default().into(),
        }
    }

    /// Its image as it was asked for, under a name where it has one.
    fn image(&self) -> ImageSpec {
        let mut image = self.record.config.image.clone().unwrap_or_default();
        if !self.record.image_name.is_empty() {
            image.image.clone_from(&self.record.image_name);
        }
        image
    }

    /// The limits that are in force.
    pub(crate) fn resources(&self) -> Option<LinuxContainerResources> {
        let asked = || self.record.config.linux.as_ref().and_then(|l| l.resources.clone());
        self.live().resources.or_else(asked)
    }

    fn listed(&self) -> v1::Container {
        let config = &self.record.config;
        v1::Container {
            id: self.record.id.clone(),
            pod_sandbox_id: self.record.pod.clone(),
            metadata: config.metadata.clone(),
            image: config.image.clone(),
            image_ref: self.record.image_ref.clone(),
            state: self.state().into(),
            created_at: self.record.created,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            image_id: self.record.image_id.clone(),
        }
    }

    fn passes(&self, filter: &ContainerFilter) -> bool {
        self.id().starts_with(&filter.id)
            && self.record.pod.starts_with(&filter.pod_sandbox_id)
            && filter.state.as_ref().is_none_or(|wanted| wanted.state() == self.state())
            && has_labels(&self.record.config.labels, &filter.label_selector)
    }
}

impl Node {
    /// Containers that pass `filter`, the youngest first.
    pub(crate) fn list_containers(&self, filter: Option<&ContainerFilter>) -> Vec<v1::Container> {
        let mut containers = self.state.containers();
        containers.retain(|container| filter.is_none_or(|filter| container.passes(filter)));
        containers.sort_by_key(|container| std::cmp::Reverse(container.record.created));
        containers.iter().map(|container| container.listed()).collect()
    }

    /// A container's status; with `verbose` all that is known of it.
    pub(crate) async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Error> {
        let container = self.state.container(&request.container_id)?;
        let status = Some(container.status());
        if !request.verbose {
            return Ok(ContainerStatusResponse { status, info: BTreeMap::new() });
        }
        let path = self.place.bundle(container.id()).join("config.json");
        // After a reboot there is none.
        let spec: Option<serde_json::Value> =
            blocking(move || Ok(crate::plugin::files::read_json(&path).unwrap_or_default())).await?;
        let info = json!({
            "sandboxID": container.record.pod,
            "pid": container.live().pid,
            "removing": false,
            "snapshotKey": container.id(),
            "snapshotter": "overlayfs",
            "runtimeType": "io.sextant.v1",
            "config": container.record.config,
            "runtimeSpec": spec,
        });
        Ok(ContainerStatusResponse { status, info: BTreeMap::from([("info".to_owned(), info.to_string())]) })
    }
}
