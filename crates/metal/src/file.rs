//! The provider's file, followed: read again where it is another.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError};

/// What a file is known by without being read: device, number, size, and when it and what is known of it changed.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(path: &Path) -> Option<Stamp> {
    let of = fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.size(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec())))
}

/// A file of `--cloud-config` that is read again where it has changed, also where another has taken its name.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// It was told that it is not there.
    is_gone: bool,
}

impl File {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// It cannot be read, or is not as it must be.
    pub fn open(path: &Path) -> Result<(Self, Config), ConfigError> {
        // Before it is read: what is written meanwhile is read again.
        let stamp = stamp(path);
        let config = Config::read(path)?;
        Ok((Self { path: path.into(), stamp, is_gone: false }, config))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says, if it may say something else than when it was read last; an error comes once for each state of the file.
    pub fn again(&mut self) -> Option<Result<Config, ConfigError>> {
        let now = stamp(&self.path);
        if now == self.stamp && (now.is_some() || self.is_gone) {
            return None;
        }
        (self.stamp, self.is_gone) = (now, now.is_none());
        Some(Config::read(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_file_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metal.yaml");
        assert!(File::open(&path).is_err());
        fs::write(&path, "{}").unwrap();
        let (mut file, config) = File::open(&path).unwrap();
        assert_eq!((config, file.path()), (Config::default(), path.as_path()));
        assert!(file.again().is_none());
        let replace = |text: &str| {
            fs::write(dir.path().join("new"), text).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
        };
        replace("{}");
        assert_eq!(file.again().unwrap().unwrap(), Config::default(), "another one that says the same");
        replace("pools: 7");
        assert!(file.again().unwrap().is_err());
        assert!(file.again().is_none(), "an error comes once");
        fs::remove_file(&path).unwrap();
        assert!(file.again().unwrap().is_err());
        assert!(file.again().is_none());
        replace("{}");
        assert!(file.again().unwrap().is_ok());
    }
}
