//! Where a node keeps things, and what its things in the kernel are called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ledger::{Ledger, OwnerId};

/// The directories and names of one instance.
#[derive(Debug, Clone)]
pub struct Place {
    /// What outlives a boot (`/var/lib/sextant`).
    pub data: PathBuf,
    /// What does not (`/run/sextant`).
    pub run: PathBuf,
    /// What bridge, table and cgroups are called after: `sextant`, or a name of its own for other directories.
    pub name: String,
    /// Who owns what.
    pub ledger: Ledger,
}

impl Place {
    /// The lasting directories of pods.
    pub(crate) fn pods(&self) -> PathBuf {
        pods(&self.data)
    }

    /// The lasting directories of containers.
    pub(crate) fn containers(&self) -> PathBuf {
        containers(&self.data)
    }

    /// What a pod is, across boots.
    pub(crate) fn pod(&self, id: &str) -> PathBuf {
        self.pods().join(id)
    }

    /// What a container is, across boots, with its writable layer.
    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// What a pod needs while it is up: its shim's socket, the files about names.
    pub(crate) fn pod_run(&self, id: &str) -> PathBuf {
        self.run.join("cri/pods").join(id)
    }

    /// A container's bundle.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.run.join("cri/containers").join(id)
    }

    /// Where a pod's network namespace is pinned.
    pub(crate) fn netns(&self, id: &str) -> PathBuf {
        self.run.join("netns").join(id)
    }

    /// Where the results of attachments are.
    pub(crate) fn cni_cache(&self) -> PathBuf {
        self.run.join("cni")
    }
}

fn pods(data: &Path) -> PathBuf {
    data.join("cri/pods")
}

fn containers(data: &Path) -> PathBuf {
    data.join("cri/containers")
}

/// Whether a pod or a container of the node stands for what `owner` has: then nobody may take it back.
pub fn is_alive(data: &Path, owner: &OwnerId) -> bool {
    let id = owner.as_str();
    let pod = pods(data).join(id);
    pod.join(super::pod::RECORD).exists()
        // Plugins have to be asked to take back what they did for it, and the node alone can.
        || pod.join(super::pod::ATTACHING).exists()
        || containers(data).join(id).join(super::container::RECORD).exists()
}

/// The layers that containers of the node are made of, by diffID; `None` if that cannot be told now.
pub fn layers_in_use(data: &Path) -> Option<BTreeSet<String>> {
    let mut layers = BTreeSet::new();
    let entries = match std::fs::read_dir(containers(data)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(layers),
        entries => entries.ok()?,
    };
    for entry in entries {
        if let Some(record) = super::container::Record::read(&entry.ok()?.path()).ok()? {
            layers.extend(record.layers);
            layers.extend(record.mounted_layers);
        }
    }
    Some(layers)
}
