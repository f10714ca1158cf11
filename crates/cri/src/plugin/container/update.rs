//! UpdateContainerResources: other limits, for a container that runs or will.

use std::path::Path;
use std::sync::Arc;

use shim::protocol::{UPDATE, UpdateRequest};

use super::spec;
use crate::contract::Error;
use crate::contract::v1::{ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest};
use crate::plugin::files;
use crate::plugin::node::{Node, blocking};

/// The limits that a container has been given since it was created.
const UPDATED: &str = "resources.json";

/// Reads the limits that the container whose directory is `dir` was given last, if they were changed.
pub(crate) fn updated_resources(dir: &Path) -> Result<Option<LinuxContainerResources>, Error> {
    files::read_json(&dir.join(UPDATED))
}

impl Node {
    /// Changes a container's limits; what the request does not set stays.
    pub(crate) async fn update_container(
        self: &Arc<Self>,
        request: UpdateContainerResourcesRequest,
    ) -> Result<(), Error> {
        let container = self.state.container(&request.container_id)?;
        let Some(asked) = request.linux else { return Ok(()) };
        let _turn = container.turn.lock().await;
        let merged = merge(container.resources().unwrap_or_default(), &asked);
        let limits = spec::resources(&merged, "linux")?;
        let bytes = serde_json::to_vec(&limits.resources)
            .map_err(|e| Error::internal(format!("cannot write the limits: {e}")))?;
        match container.state() {
            ContainerState::ContainerRunning => {
                let shim = self.state.pod(&container.record.pod)?.shim()?;
                let update = UpdateRequest { container: container.id().to_owned(), resources: bytes };
                let answer = shim.call(&UPDATE, &update).await?;
                self.warn(container.id(), &answer.warnings);
            }
            // It is started with them.
            ContainerState::ContainerCreated => {
                let path = self.place.bundle(container.id()).join("config.json");
                blocking(move || spec::replace_resources(&path, limits)).await?;
            }
            _ => {}
        }
        container.set_resources(merged.clone());
        let place = self.place.clone();
        let id = container.id().to_owned();
        blocking(move || files::write_json(&place.container(&id).join(UPDATED), &merged)).await
    }
}

/// `old`, with what `new` sets.
fn merge(old: LinuxContainerResources, new: &LinuxContainerResources) -> LinuxContainerResources {
    fn number(new: i64, old: i64) -> i64 {
        if new != 0 { new } else { old }
    }
    fn text(new: &str, old: String) -> String {
        if new.is_empty() { old } else { new.to_owned() }
    }
    let mut unified = old.unified;
    unified.extend(new.unified.clone());
    LinuxContainerResources {
        cpu_period: number(new.cpu_period, old.cpu_period),
        cpu_quota: number(new.cpu_quota, old.cpu_quota),
        cpu_shares: number(new.cpu_shares, old.cpu_shares),
        memory_limit_in_bytes: number(new.memory_limit_in_bytes, old.memory_limit_in_bytes),
        memory_swap_limit_in_bytes: number(new.memory_swap_limit_in_bytes, old.memory_swap_limit_in_bytes),
        oom_score_adj: number(new.oom_score_adj, old.oom_score_adj),
        cpuset_cpus: text(&new.cpuset_cpus, old.cpuset_cpus),
        cpuset_mems: text(&new.cpuset_mems, old.cpuset_mems),
        hugepage_limits: if new.hugepage_limits.is_empty() {
            old.hugepage_limits
        } else {
            new.hugepage_limits.clone()
        },
        unified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_changes() {
        let old = LinuxContainerResources {
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            cpuset_cpus: "0".into(),
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..LinuxContainerResources::default()
        };
        let new = LinuxContainerResources {
            cpu_shares: 1024,
            cpu_quota: -1,
            unified: [("memory.min".to_owned(), "2".to_owned())].into(),
            ..LinuxContainerResources::default()
        };
        let merged = merge(old, &new);
        assert_eq!((merged.cpu_shares, merged.cpu_quota, merged.memory_limit_in_bytes), (1024, -1, 64 << 20));
        assert_eq!((merged.cpuset_cpus.as_str(), merged.unified.len()), ("0", 2));
    }
}
