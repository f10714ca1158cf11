//! What files take of a disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes and files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes of the disk.
    pub(crate) bytes: u64,
    /// Files and folders.
    pub(crate) files: u64,
}

impl Taken {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }
}

/// What a folder takes with all below it, on its own filesystem. What cannot be looked at counts nothing. It may take long.
pub(crate) fn taken(folder: &Path) -> Taken {
    let Ok(top) = fs::symlink_metadata(folder) else { return Taken::default() };
    let mut all = Taken::default();
    let mut left: Vec<PathBuf> = vec![folder.to_owned()];
    let mut linked = std::collections::BTreeSet::new();
    while let Some(folder) = left.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries {
            // Not through links: pods make them.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() || meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino()) {
                continue;
            }
            all = all.and(Taken { bytes: meta.blocks().saturating_mul(512), files: 1 });
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    all
}

/// What pods have on the node's disk beside what their containers write into themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfPod {
    /// Its `emptyDir` volumes, by name; those in memory are none of the disk.
    pub(crate) volumes: Vec<(String, Taken)>,
    /// Its logs, by container.
    pub(crate) logs: Vec<(String, Taken)>,
}

impl OfPod {
    /// All together.
    pub(crate) fn sum(&self) -> Taken {
        self.volumes.iter().chain(&self.logs).fold(Taken::default(), |all, (_, one)| all.and(*one))
    }
}

/// Looks at the folder of a pod, and at that with its logs.
pub(crate) fn of_pod(folder: &Path, logs: &Path) -> OfPod {
    let disk = fs::symlink_metadata(folder).map(|meta| meta.dev()).ok();
    let below = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let own = folders.filter(|entry| entry.metadata().is_ok_and(|meta| Some(meta.dev()) == disk));
        own.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect::<Vec<_>>()
    };
    let volumes = below(folder.join("volumes/kubernetes.io~empty-dir"));
    let logs = fs::read_dir(logs).into_iter().flatten().flatten();
    let logs = logs.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    OfPod {
        volumes: volumes.into_iter().map(|(name, path)| (name, taken(&path))).collect(),
        logs: logs.map(|(name, path)| (name, taken(&path))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), vec![1; 100_000]).unwrap();
        fs::hard_link(inner.join("file"), inner.join("same")).unwrap();
        std::os::unix::fs::symlink("/", inner.join("root")).unwrap();
        let all = taken(dir.path());
        assert!(all.bytes >= 100_000 && all.bytes < 150_000, "{all:?}");
        assert_eq!(all.files, 4);
        assert_eq!(taken(&dir.path().join("none")), Taken::default());
    }
}
