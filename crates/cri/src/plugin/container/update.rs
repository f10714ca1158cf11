//! UpdateContainerResources: other limits, for a container that runs or will.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use shim::protocol::{UPDATE, UpdateRequest};

use super::{Container, spec};
use crate::contract::Error;
use crate::contract::v1::{ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest};
use crate::plugin::files;
use crate::plugin::node::{Node, blocking};
use crate::plugin::nri;
use crate::plugin::nri::wire::LinuxResources;

/// What procfs says of a process that ends while it is looked at.
const GONE: i32 = rustix::io::Errno::SRCH.raw_os_error();

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
        let pod = self.state.pod(&container.record.pod)?;
        let _turn = container.turn.lock().await;
        let _entered = self.nri.enter().await;
        let wanted = self.nri.update_container(&pod, &container, &asked).await?;
        let (limits, others) =
            wanted.map_or_else(Default::default, |(limits, others)| (Some(limits), others));
        self.change_others(others).await?;
        self.change_limits(&container, Some(&asked), limits.as_ref()).await?;
        self.nri.updated_container(&pod, &container).await;
        Ok(())
    }

    /// Changes a container's limits to what the kubelet asks, and plugins over it.
    pub(crate) async fn change_limits(
        self: &Arc<Self>,
        container: &Arc<Container>,
        asked: Option<&LinuxContainerResources>,
        wanted: Option<&LinuxResources>,
    ) -> Result<(), Error> {
        let at_shim = container.limits.lock().await;
        let mut merged = container.resources().unwrap_or_default();
        let old_score = merged.oom_score_adj;
        for new in asked.into_iter().cloned().chain(wanted.map(nri::known_to_cri)) {
            merged = merge(merged, &new);
        }
        let mut limits = spec::resources(&merged, "linux")?;
        if let Some(wanted) = wanted {
            nri::limits(wanted, &mut limits.resources)?;
        }
        let bytes = serde_json::to_vec(&limits.resources)
            .map_err(|e| Error::internal(format!("cannot write the limits: {e}")))?;
        match container.state() {
            state if state == ContainerState::ContainerRunning || *at_shim && container.may_run() => {
                let shim = self.state.pod(&container.record.pod)?.shim()?;
                let update = UpdateRequest { container: container.id().to_owned(), resources: bytes };
                let answer = shim.call(&UPDATE, &update).await?;
                self.warn(container.id(), &answer.warnings);
                if limits.oom_score_adj != i32::try_from(old_score).unwrap_or_default() {
                    let cgroup = container.cgroup();
                    let warning = blocking(move || set_oom_score(&cgroup, limits.oom_score_adj)).await?;
                    self.warn(container.id(), warning.as_slice());
                }
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

/// Gives the score to every process of a cgroup; it is no limit of the cgroup's. One that may not be lowered (that takes
/// CAP_SYS_RESOURCE) is a warning, as at the start.
fn set_oom_score(cgroup: &Path, score: i32) -> Result<Option<String>, Error> {
    let mut warning = None;
    for pid in kernel::cgroup::Cgroup::at(cgroup)?.pids()? {
        match std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
            Ok(()) => {}
            // It has ended meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(GONE) => {}
            Err(e) => warning = Some(format!("linux.oom_score_adj {score} is not in force: {e}")),
        }
    }
    Ok(warning)
}

/// `old`, with what `new` sets.
pub(super) fn merge(old: LinuxContainerResources, new: &LinuxContainerResources) -> LinuxContainerResources {
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
        memory_swap_limit_in_bytes: match (new.memory_limit_in_bytes, new.memory_swap_limit_in_bytes) {
            // Without swap before, without swap now.
            (limit @ 1.., 0) if old.memory_swap_limit_in_bytes == old.memory_limit_in_bytes => limit,
            (_, swap) => number(swap, old.memory_swap_limit_in_bytes),
        },
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
    fn a_limit_of_memory_without_swap_takes_that_of_swap_along() {
        let limits = |memory, swap| LinuxContainerResources {
            memory_limit_in_bytes: memory,
            memory_swap_limit_in_bytes: swap,
            ..LinuxContainerResources::default()
        };
        let swap = |old, new| merge(old, &new).memory_swap_limit_in_bytes;
        assert_eq!(swap(limits(64, 64), limits(128, 0)), 128);
        assert_eq!(swap(limits(64, 100), limits(80, 0)), 100);
        assert_eq!(swap(limits(64, 64), limits(128, 256)), 256);
        assert_eq!(swap(limits(64, 64), limits(0, 0)), 64);
    }

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
