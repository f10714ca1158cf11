//! The provider's file, as it is now.

use std::path::Path;

use metal::{Config, File};

use crate::failure::{Failure, Result};

/// A file that is read again when it has changed.
#[derive(Debug)]
pub(in crate::commands) struct ConfigFile {
    file: File,
    config: Config,
}

impl ConfigFile {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read, or is not as it must be.
    pub(in crate::commands) fn open(path: &Path) -> Result<Self> {
        let (file, config) = File::open(path).map_err(|e| Failure::new(e.to_string()))?;
        Ok(Self { file, config })
    }

    /// What it says; what it said last while it cannot be read.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Tells people if it has nothing in it that could be answered for.
    pub(super) fn tell_if_empty(&self, command: &str) {
        if self.config.pools.is_empty() {
            let path = self.file.path().display();
            eprintln!(
                "sextant {command}: {path} has no pools: addresses of load balancers are not answered for"
            );
        }
    }

    /// Looks whether it has changed, and reads it then. Whether it says something else now: where it is wrong all stays as it was.
    pub(super) fn has_changed(&mut self, command: &str) -> bool {
        let Some(read) = self.file.again() else { return false };
        match read {
            Ok(config) if config == self.config => false,
            Ok(config) => {
                self.config = config;
                eprintln!("sextant {command}: {} has changed, and is followed", self.file.path().display());
                self.tell_if_empty(command);
                true
            }
            Err(error) => {
                eprintln!("sextant {command}: warning: {error}; what it said before is followed");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed_and_one_that_is_wrong_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cloud.yaml");
        assert!(ConfigFile::open(&path).is_err());
        let pool = |addresses: &str| format!("pools: [{{name: a, addresses: [{addresses}]}}]");
        std::fs::write(&path, pool("192.0.2.1")).unwrap();
        let mut file = ConfigFile::open(&path).unwrap();
        let has =
            |file: &ConfigFile, address: &str| file.config().pool_of(address.parse().unwrap()).is_some();
        assert!(!file.has_changed("test") && has(&file, "192.0.2.1"));
        // As programs that replace files do it: another one takes its name, which was ready long ago.
        let replace = |text: &str| {
            let new = dir.path().join("new");
            std::fs::write(&new, text).unwrap();
            let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
            std::fs::File::options().append(true).open(&new).unwrap().set_modified(long_ago).unwrap();
            std::fs::rename(new, &path).unwrap();
        };
        replace(&pool("192.0.2.7-192.0.2.9"));
        assert!(file.has_changed("test") && has(&file, "192.0.2.8") && !has(&file, "192.0.2.1"));
        replace("pools: none");
        assert!(!file.has_changed("test") && has(&file, "192.0.2.8"));
        std::fs::remove_file(&path).unwrap();
        assert!(!file.has_changed("test") && has(&file, "192.0.2.8"));
        replace("{}");
        assert!(file.has_changed("test") && !has(&file, "192.0.2.8"));
    }
}
