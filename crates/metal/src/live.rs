//! The provider's file as it is now: it is looked at at each call, and read again where it is another.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, ConfigError};

/// What a file is known by without being read: device, number, size, and when it and what is known of it changed.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

#[derive(Debug)]
struct Held {
    config: Arc<Config>,
    stamp: Option<Stamp>,
    /// It is right, and cannot be taken yet.
    next: Option<Config>,
    /// What people were told at last; nothing, where the file is in use as it is.
    told: String,
}

/// A file, and what it says.
#[derive(Debug)]
pub(crate) struct Live {
    path: Option<PathBuf>,
    held: Mutex<Held>,
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.size(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec())))
}

impl Live {
    /// Reads it for the first time; without one the configuration is empty.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, ConfigError> {
        // Before it is read: what is written meanwhile is read again.
        let stamp = path.and_then(stamp);
        let config = Arc::new(path.map(Config::read).transpose()?.unwrap_or_default());
        let held = Mutex::new(Held { config, stamp, next: None, told: String::new() });
        Ok(Self { path: path.map(Path::to_owned), held })
    }

    /// What it says now. A file that is wrong, or that `fits` does not let in (old, new), leaves what was said before; people are told
    /// so once.
    pub(crate) fn current(&self, fits: impl FnOnce(&Config, &Config) -> Result<(), String>) -> Arc<Config> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.path else { return held.config.clone() };
        let now = stamp(path);
        let mut told = None;
        if now != held.stamp || (now.is_none() && held.told.is_empty()) {
            held.stamp = now;
            match Config::read(path) {
                Ok(config) => held.next = Some(config),
                Err(error) => (held.next, told) = (None, Some(error.to_string())),
            }
        }
        if let Some(next) = held.next.take() {
            match fits(&held.config, &next) {
                Ok(()) => {
                    if *held.config != next {
                        eprintln!("sextant: {} was read again", path.display());
                        held.config = Arc::new(next);
                    }
                    held.told.clear();
                }
                Err(why) => {
                    told = Some(format!("cannot use {}: {why}", path.display()));
                    held.next = Some(next);
                }
            }
        }
        if let Some(told) = told.filter(|told| *told != held.told) {
            eprintln!("sextant: warning: {told}; what it said before holds on");
            held.told = told;
        }
        held.config.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "pools: [{name: one, addresses: [10.0.0.1]}]";

    fn name(live: &Live, fits: bool) -> String {
        let config = live.current(|_, _| if fits { Ok(()) } else { Err("held".into()) });
        config.pools.first().map(|pool| pool.name.clone()).unwrap_or_default()
    }

    #[test]
    fn a_file_is_read_again_where_it_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metal.yaml");
        assert!(Live::open(Some(&path)).is_err(), "one that is not there is no empty one");
        // As a ConfigMap changes: another file under the name.
        let write = |text: &str| {
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        write(ONE);
        let live = Live::open(Some(&path)).unwrap();
        assert_eq!(name(&live, false), "one");
        write(&ONE.replace("one", "two"));
        assert_eq!((name(&live, false), name(&live, false)), ("one".into(), "one".into()), "it does not fit");
        assert!(live.held.lock().unwrap().told.contains("held"));
        assert_eq!(name(&live, true), "two", "it fits now");
        for wrong in ["pools: 7", "{"] {
            write(wrong);
            assert_eq!(name(&live, true), "two", "{wrong}");
            assert!(!live.held.lock().unwrap().told.is_empty());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!((name(&live, true), name(&live, true)), ("two".into(), "two".into()));
        assert!(live.held.lock().unwrap().told.starts_with("cannot read "));
        write(ONE);
        assert_eq!(name(&live, true), "one");
        assert_eq!(live.held.lock().unwrap().told, "");
    }

    #[test]
    fn without_a_file_nothing_is_said() {
        assert_eq!(*Live::open(None).unwrap().current(|_, _| Ok(())), Config::default());
    }
}
