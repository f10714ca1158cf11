//! What a pool has, in memory: a cache of its records.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grpc::Failure;

use super::record::{Group, Snapshot, Volume};

/// A record, and where it is.
#[derive(Debug)]
pub(crate) struct Kept<R> {
    pub(crate) record: R,
    pub(crate) place: PathBuf,
}

/// By id, and ids by name.
#[derive(Default)]
pub(super) struct Index {
    pub(super) volumes: BTreeMap<String, Arc<Kept<Volume>>>,
    pub(super) snapshots: BTreeMap<String, Arc<Kept<Snapshot>>>,
    pub(super) groups: BTreeMap<String, Arc<Kept<Group>>>,
    /// Names of places whose records cannot be read, and why.
    pub(super) unreadable: HashMap<String, Failure>,
    volume_names: HashMap<String, String>,
    snapshot_names: HashMap<String, String>,
    group_names: HashMap<String, String>,
}

impl Index {
    pub(super) fn add_volume(&mut self, record: Volume, place: PathBuf) -> Arc<Kept<Volume>> {
        // An ephemeral volume has no name: nobody asks for it by one.
        if !record.ephemeral {
            self.volume_names.insert(record.name.clone(), record.id.clone());
        }
        let id = record.id.clone();
        let kept = Arc::new(Kept { record, place });
        self.volumes.insert(id, Arc::clone(&kept));
        kept
    }

    pub(super) fn add_snapshot(&mut self, record: Snapshot, place: PathBuf) -> Arc<Kept<Snapshot>> {
        // Members are known by their group's name.
        if record.group.is_empty() {
            self.snapshot_names.insert(record.name.clone(), record.id.clone());
        }
        let id = record.id.clone();
        let kept = Arc::new(Kept { record, place });
        self.snapshots.insert(id, Arc::clone(&kept));
        kept
    }

    pub(super) fn add_group(&mut self, record: Group, place: PathBuf) {
        self.group_names.insert(record.name.clone(), record.id.clone());
        self.groups.insert(record.id.clone(), Arc::new(Kept { record, place }));
    }

    /// Keeps in mind that something is there, and says so.
    pub(super) fn add_unreadable(&mut self, place: &Path, error: Failure) {
        eprintln!("sextant csi: {error}");
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.unreadable.insert(name, error);
    }

    pub(super) fn volume_named(&self, name: &str) -> Option<Arc<Kept<Volume>>> {
        self.volumes.get(self.volume_names.get(name)?).cloned()
    }

    pub(super) fn snapshot_named(&self, name: &str) -> Option<Arc<Kept<Snapshot>>> {
        self.snapshots.get(self.snapshot_names.get(name)?).cloned()
    }

    pub(super) fn group_named(&self, name: &str) -> Option<Arc<Kept<Group>>> {
        self.groups.get(self.group_names.get(name)?).cloned()
    }

    pub(super) fn remove_volume(&mut self, id: &str) {
        if let Some(kept) = self.volumes.remove(id)
            && !kept.record.ephemeral
        {
            self.volume_names.remove(&kept.record.name);
        }
    }

    pub(super) fn remove_snapshot(&mut self, id: &str) {
        if let Some(kept) = self.snapshots.remove(id)
            && kept.record.group.is_empty()
        {
            self.snapshot_names.remove(&kept.record.name);
        }
    }

    pub(super) fn remove_group(&mut self, id: &str) {
        if let Some(kept) = self.groups.remove(id) {
            self.group_names.remove(&kept.record.name);
        }
    }
}
