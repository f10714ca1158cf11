//! The provider's file as it is now: it is looked at at each call, and read again where it is another.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Config, ConfigError};
use crate::file::File;

#[derive(Debug)]
struct Held {
    config: Arc<Config>,
    file: Option<File>,
    /// It is right, and cannot be taken yet.
    next: Option<Config>,
    /// What people were told at last; nothing, where the file is in use as it is.
    told: String,
    /// How often it was another.
    revision: u64,
}

/// A file, and what it says.
#[derive(Debug)]
pub(crate) struct Live(Mutex<Held>);

impl Live {
    /// Reads it for the first time; without one the configuration is empty.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (file, config) = path.map(File::open).transpose()?.unzip();
        let config = Arc::new(config.unwrap_or_default());
        Ok(Self(Mutex::new(Held { config, file, next: None, told: String::new(), revision: 0 })))
    }

    /// What it says now. A file that is wrong, or that `fits` does not let in (old, new), leaves what was said before; people are told
    /// so once.
    pub(crate) fn current(&self, fits: impl FnOnce(&Config, &Config) -> Result<(), String>) -> Arc<Config> {
        let mut held = self.held();
        let held = &mut *held;
        let Some(file) = &mut held.file else { return held.config.clone() };
        let mut told = None;
        match file.again() {
            None => {}
            Some(Ok(config)) => held.next = Some(config),
            Some(Err(error)) => (held.next, told) = (None, Some(error.to_string())),
        }
        let path = file.path().display();
        if let Some(next) = held.next.take() {
            match fits(&held.config, &next) {
                Ok(()) => {
                    if *held.config != next {
                        eprintln!("sextant: {path} was read again");
                        held.config = Arc::new(next);
                        held.revision += 1;
                    }
                    held.told.clear();
                }
                Err(why) => {
                    told = Some(format!("cannot use {path}: {why}"));
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

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the file is not in use as it is; `None` where it is. As of the last time that it was asked for what it says.
    pub(crate) fn trouble(&self) -> Option<String> {
        let held = self.held();
        (!held.told.is_empty()).then(|| format!("{}; what it said before holds on", held.told))
    }

    /// How often it has come to say something else.
    pub(crate) fn revision(&self) -> u64 {
        self.held().revision
    }

    /// Whether it is in use as it is, and was seen unchanged for so long ([`SETTLED`](crate::file::SETTLED)) that nobody is at writing
    /// it; always, where there is none.
    pub(crate) fn is_settled(&self) -> bool {
        let mut held = self.held();
        held.told.is_empty() && held.file.as_mut().is_none_or(File::is_settled)
    }

    /// Where it is, for people.
    pub(crate) fn path(&self) -> String {
        self.held().file.as_ref().map_or_else(String::new, |file| file.path().display().to_string())
    }

    /// Has the file be seen for long as it is now.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.held().file.as_mut().unwrap().settle();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

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
        // Another file under the name, which was ready long ago.
        let write = |text: &str| {
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            let long_ago = SystemTime::now() - Duration::from_secs(3600);
            fs::File::options().append(true).open(&new).unwrap().set_modified(long_ago).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        write(ONE);
        let live = Live::open(Some(&path)).unwrap();
        assert_eq!(name(&live, false), "one");
        write(&ONE.replace("one", "two"));
        assert_eq!((name(&live, false), name(&live, false)), ("one".into(), "one".into()), "it does not fit");
        assert!(live.0.lock().unwrap().told.contains("held"));
        assert_eq!(name(&live, true), "two", "it fits now");
        for wrong in ["pools: 7", "{"] {
            write(wrong);
            assert_eq!(name(&live, true), "two", "{wrong}");
            assert!(!live.0.lock().unwrap().told.is_empty());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!((name(&live, true), name(&live, true)), ("two".into(), "two".into()));
        assert!(live.0.lock().unwrap().told.starts_with("cannot read "));
        write(ONE);
        assert_eq!(name(&live, true), "one");
        assert_eq!(live.0.lock().unwrap().told, "");
    }

    #[test]
    fn without_a_file_nothing_is_said() {
        assert_eq!(*Live::open(None).unwrap().current(|_, _| Ok(())), Config::default());
    }
}
