//! What containers have written into their roots.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::tree::{Taken, measure};

/// How long a measurement is good: walking a tree is the dearest part of statistics.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// Measurements that are good for a while.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    known: Mutex<HashMap<String, (Instant, Taken)>>,
}

impl Layers {
    /// What is below `dir`, of the container `id`; measured if that was long ago.
    pub(crate) fn used(&self, id: &str, dir: &Path) -> Taken {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, used)) = lock().get(id)
            && at.elapsed() < GOOD_FOR
        {
            return *used;
        }
        let used = measure(dir);
        lock().insert(id.to_owned(), (Instant::now(), used));
        used
    }

    /// Forgets all containers but those that `is_there` says are.
    pub(crate) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_there(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![7; 10_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("c")).unwrap();
        std::fs::hard_link(dir.path().join("a/b"), dir.path().join("again")).unwrap();
        let layers = Layers::default();
        let used = layers.used("x", dir.path());
        assert_eq!(used.inodes, 3);
        assert!((10_000..30_000).contains(&used.bytes), "{used:?}");
        std::fs::write(dir.path().join("later"), "").unwrap();
        assert_eq!(layers.used("x", dir.path()), used);
        layers.retain(|_| false);
        assert_eq!(layers.used("x", dir.path()).inodes, 4);
    }
}
