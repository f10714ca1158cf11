//! Where a node keeps things, and what its things in the kernel are called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ledger::{Effect, Ledger, Owner, OwnerId, Record as _};

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

    /// Records folders of pods and containers that stand for nothing, so that they go with what their owners have. A power cut leaves
    /// such ones: of the folder and its records in files that nobody waits for, it may take the records alone.
    ///
    /// Only before anything is made here.
    pub(crate) fn record_again(&self) -> Vec<ledger::Error> {
        let folders = [self.pods(), self.containers()];
        let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let recorded = entries.filter_map(|entry| {
            // What has another name is not ours.
            let owner = OwnerId::new(entry.file_name().to_string_lossy()).ok()?;
            if is_alive(&self.data, &owner) {
                return None;
            }
            let again = Effect::Tree { path: entry.path() };
            let record = |mut owner: Owner| {
                let is_there = owner.records().iter().any(|(_, effect)| *effect == again);
                if is_there { Ok(()) } else { owner.record(again).map(drop) }
            };
            self.ledger.owner(&owner).and_then(record).err()
        });
        recorded.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_any_record_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("data"), dir.path().join("run"));
        let ledger = Ledger::open(&run, &data).unwrap();
        let place = Place { data, run, name: "here".into(), ledger };
        let make = |path: PathBuf, file: &str| {
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(file), "{}").unwrap();
        };
        make(place.pod("whole"), super::super::pod::RECORD);
        make(place.pod("attaching"), super::super::pod::ATTACHING);
        make(place.pod("bare"), "shim.err");
        make(place.container("whole-too"), super::super::container::RECORD);
        make(place.container("bare-too"), "upper");
        // One whose record is there is as it was.
        make(place.container("known"), "upper");
        let mut known = place.ledger.owner(&OwnerId::new("known").unwrap()).unwrap();
        known.record(Effect::Tree { path: place.container("known") }).unwrap();
        drop(known);

        for _ in 0..2 {
            assert!(place.record_again().is_empty());
            // A child that another test has forked has the lock of the record until it executes its program.
            let reports = || place.ledger.converge(&|owner| is_alive(&place.data, owner));
            let report = std::iter::repeat_with(reports).find(|report| report.busy.is_empty()).unwrap();
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            let names = |folder: PathBuf| {
                let entries = std::fs::read_dir(folder).unwrap();
                entries
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect::<BTreeSet<_>>()
            };
            assert_eq!(names(place.pods()), ["attaching", "whole"].map(String::from).into());
            assert_eq!(names(place.containers()), ["whole-too"].map(String::from).into());
            assert!(place.ledger.owners().unwrap().is_empty());
        }
    }
}
