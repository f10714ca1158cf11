//! The cgroups of pods: `kubepods/pod…`, `kubepods/burstable/pod…`, `kubepods/besteffort/pod…`, called after their uids.
//!
//! Where the runtime lets systemd make cgroups, the slices are systemd's: they are named alike, come with the first container, and have no
//! limits of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cri::contract::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::Pod;
use kernel::cgroup::{Cgroup, Limits, Roots, destroy};

use crate::pod::resources::{Qos, of_pod};

/// Those of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    root: String,
    /// How many process ids each pod may have.
    pids: Option<u32>,
    is_systemd: OnceLock<bool>,
}

impl Cgroups {
    /// Below `root`, a path from the hierarchies' root, or empty.
    pub(crate) fn new(root: &str) -> Self {
        Self { root: root.trim_matches('/').to_owned(), pids: None, is_systemd: OnceLock::new() }
    }

    /// The same, with so many process ids for each pod.
    pub(crate) fn with_pids(self, pids: Option<u32>) -> Self {
        Self { pids, ..self }
    }

    /// How the runtime makes cgroups: known before the first pod.
    pub(crate) fn driver(&self, is_systemd: bool) {
        let _ = self.is_systemd.set(is_systemd);
    }

    fn is_systemd(&self) -> bool {
        self.is_systemd.get() == Some(&true)
    }

    fn path(&self, class: &str, uid: &str) -> PathBuf {
        [self.root.as_str(), "kubepods", class, &format!("pod{uid}")]
            .iter()
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// The pod's cgroup, as the runtime is told it.
    pub(crate) fn parent(&self, pod: &Pod) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let class = class(Qos::of(pod));
        if !self.is_systemd() {
            return format!("/{}", self.path(class, uid).display());
        }
        let uid = format!("pod{}", uid.replace('-', "_"));
        let root = self.root.replace(['/', '-'], "_");
        let (mut name, mut path) = (String::new(), String::new());
        for part in [root.as_str(), "kubepods", class, &uid].into_iter().filter(|part| !part.is_empty()) {
            name = if name.is_empty() { part.to_owned() } else { format!("{name}-{part}") };
            path = format!("{path}/{name}.slice");
        }
        path
    }

    /// Makes the pod's cgroup, with what all its containers together may take.
    pub(crate) fn make(&self, pod: &Pod) -> Result<(), String> {
        self.limit(pod, &of_pod(pod))
    }

    /// Gives the pod's cgroup, which is made where it is not there, these limits.
    pub(crate) fn limit(&self, pod: &Pod, asked: &LinuxContainerResources) -> Result<(), String> {
        if self.is_systemd() {
            return Ok(());
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let limits = Limits {
            memory: Some(asked.memory_limit_in_bytes).filter(|limit| *limit > 0),
            cpu_shares: u64::try_from(asked.cpu_shares).ok(),
            cpu_quota: Some(asked.cpu_quota).filter(|quota| *quota > 0),
            cpu_period: u64::try_from(asked.cpu_period).ok().filter(|period| *period > 0),
            // One that was limited before is not any more.
            pids: Some(self.pids.map_or(-1, i64::from)),
            ..Limits::default()
        };
        let cgroup = Cgroup::at(&self.path(class(Qos::of(pod)), uid)).map_err(|error| error.to_string())?;
        cgroup.create().and_then(|()| cgroup.apply(&limits)).map(drop).map_err(|error| error.to_string())
    }

    /// The pod's limit of memory, if it has one, and what it uses, in bytes; `None` where the pod's cgroup is not the agent's.
    ///
    /// # Errors
    /// The hierarchy cannot be found.
    pub(crate) fn usage(&self, pod: &Pod) -> Result<Option<(Option<u64>, u64)>, String> {
        if self.is_systemd() {
            return Ok(None);
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let cgroup = Cgroup::at(&self.path(class(Qos::of(pod)), uid)).map_err(|error| error.to_string())?;
        let usage = cgroup.usage();
        let idle = usage.inactive_file.unwrap_or_default();
        Ok(usage.memory.map(|used| (usage.memory_limit, used.saturating_sub(idle))))
    }

    /// Ends what is left in a pod's cgroup, and removes it.
    pub(crate) fn remove(&self, uid: &str) -> Result<(), String> {
        if self.is_systemd() || uid.is_empty() {
            return Ok(());
        }
        let remove = |class| destroy(&self.path(class, uid)).map_err(|error| error.to_string());
        ["", "burstable", "besteffort"].into_iter().try_for_each(remove)
    }

    /// The same by a thread: for what is on its way out it waits, and others do not.
    pub(crate) async fn clear(&self, uid: &str) -> Result<(), String> {
        let (own, uid) = (self.clone(), uid.to_owned());
        let removing = tokio::task::spawn_blocking(move || own.remove(&uid));
        removing.await.map_err(|error| error.to_string())?
    }

    /// Pods that have a cgroup.
    pub(crate) fn uids(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let Ok(roots) = Roots::find() else { return found };
        // Every hierarchy has the same; one of them is always there.
        for root in ["memory", "cpu", "pids"].into_iter().filter_map(|name| roots.of(name)) {
            for class in ["", "burstable", "besteffort"] {
                let below: PathBuf = Path::new(&self.root).join("kubepods").join(class);
                let entries = std::fs::read_dir(root.join(below)).into_iter().flatten().flatten();
                let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
                found.extend(names.filter_map(|name| name.strip_prefix("pod").map(str::to_owned)));
            }
        }
        found
    }
}

fn class(qos: Qos) -> &'static str {
    match qos {
        Qos::Guaranteed => "",
        Qos::Burstable => "burstable",
        Qos::BestEffort => "besteffort",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_below_the_agents_own_root() {
        let top = format!("sextant-agent-cgroups-{}", std::process::id());
        let at = |path: &String| Cgroup::at(Path::new(path)).unwrap();
        // A kubelet's and those of other instances; then the agent's own.
        let others = [
            format!("{top}/kubepods/podx"),
            format!("{top}/kubepods/burstable/podx"),
            format!("{top}/own-agent-2/kubepods/podx"),
            format!("{top}/own-agent/podx"),
        ];
        let (own, known) =
            (format!("{top}/own-agent/kubepods/podx"), format!("{top}/own-agent/kubepods/podk"));
        others.iter().chain([&own, &known]).for_each(|path| at(path).create().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let root = format!("{top}/own-agent");
        let living = BTreeSet::from(["k".to_owned()]);
        let failed = crate::agent::remove_all_but(&living, folder.path(), &Cgroups::new(&root));
        let swept = (failed, at(&own).exists(), at(&known).exists());
        let none = BTreeSet::new();
        let failed = crate::agent::remove_all_but(&none, folder.path(), &Cgroups::new(&root));
        let cleared = (failed, at(&known).exists());
        let stayed = others.iter().map(|path| at(path).exists()).collect::<Vec<_>>();
        destroy(Path::new(&top)).unwrap();
        assert_eq!(swept, (Vec::new(), false, true));
        assert_eq!(cleared, (Vec::new(), false));
        assert_eq!(stayed, [true; 4]);
    }

    #[test]
    fn names_are_a_kubelets() {
        let pod: Pod = serde_json::from_value(
            serde_json::json!({"metadata": {"uid": "a-b"}, "spec": {"containers": [{"name": "c"}]}}),
        )
        .unwrap();
        let plain = Cgroups::new("");
        assert_eq!(plain.parent(&pod), "/kubepods/besteffort/poda-b");
        let systemd = Cgroups::new("");
        systemd.driver(true);
        assert_eq!(
            systemd.parent(&pod),
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-poda_b.slice"
        );
        assert_eq!(Cgroups::new("/x/").parent(&pod), "/x/kubepods/besteffort/poda-b");
    }
}
