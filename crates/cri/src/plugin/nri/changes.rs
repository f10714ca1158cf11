//! What plugins want of containers that are there: other limits, or their end.

use std::sync::Arc;
use std::time::Duration;

use super::hooks::Others;
use super::wire::{ContainerUpdate, LinuxResources};
use crate::contract::Error;
use crate::plugin::node::Node;

impl Node {
    /// Does what plugins want of other containers. An update that must not fail, and does, is an error.
    pub(crate) async fn change_others(self: &Arc<Self>, others: Others) -> Result<(), Error> {
        for eviction in others.evictions {
            let id = eviction.container_id;
            super::log(&format!("container {id} is ended, as a plugin wants: {}", eviction.reason));
            self.end_soon(id);
        }
        let failed = self.update_containers(others.updates).await;
        match failed.into_iter().find(|(update, _)| !update.ignore_failure) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn end_soon(self: &Arc<Self>, id: String) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = node.stop_container(&id, Duration::ZERO).await {
                super::log(&format!("container {id}: {error}"));
            }
        });
    }

    /// Changes limits: those that could not be, and why.
    pub(super) async fn update_containers(
        self: &Arc<Self>,
        updates: Vec<ContainerUpdate>,
    ) -> Vec<(ContainerUpdate, Error)> {
        let mut failed = Vec::new();
        for update in updates {
            let resources =
                update.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default();
            if let Err(error) = self.update_one(&update.container_id, &resources).await {
                super::log(&format!("cannot update container {}: {error}", update.container_id));
                failed.push((update, error));
            }
        }
        failed
    }

    async fn update_one(self: &Arc<Self>, id: &str, resources: &LinuxResources) -> Result<(), Error> {
        // One that has gone meanwhile needs no limits.
        match self.state.container(id) {
            Ok(container) => self.change_limits(&container, None, Some(resources)).await,
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
