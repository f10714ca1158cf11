//! What a driver is told when it starts.

use std::path::{Path, PathBuf};

use grpc::Failure;
use serde::{Deserialize, Serialize};

/// Where a driver's volumes are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Its pools. The first is what a class gets that names none.
    #[serde(default, rename = "pool")]
    pub pools: Vec<PoolConfig>,
}

/// A directory that holds volumes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PoolConfig {
    /// What the parameter `pool` of a class says: small letters, digits and `-`.
    pub name: String,
    /// The directory; made where it is not there.
    pub path: PathBuf,
    /// A block device for the backend `lvm-thin`, all of which it takes: the directory has the records alone.
    #[serde(default)]
    pub device: Option<PathBuf>,
    /// The backends that classes may take, the default one first. Empty: all that can be had there.
    #[serde(default)]
    pub backends: Vec<String>,
    /// How much more may be promised than there is: 1 is nothing more, 2 is twice.
    #[serde(default = "one")]
    pub overcommit: f64,
    /// The first and the last of the numbers that the backend `quota` gives volumes and snapshots as their projects. Nobody else
    /// is to take one of them on this file system.
    #[serde(default = "high")]
    pub project_ids: [u32; 2],
}

fn one() -> f64 {
    1.0
}

/// Far from what people and kubelets (from 1048577 on) take.
fn high() -> [u32; 2] {
    [1 << 30, (1 << 30) + (1 << 24) - 1]
}

impl PoolConfig {
    /// A pool at a directory, of which everything else is as by default.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> PoolConfig {
        PoolConfig {
            name: name.into(),
            path: path.into(),
            device: None,
            backends: Vec::new(),
            overcommit: one(),
            project_ids: high(),
        }
    }

    fn validate(&self) -> Result<(), Failure> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 32 || !self.name.chars().all(good) {
            let rule = "is no name of a pool: write 1 to 32 small letters, digits and '-'";
            return Err(Failure::invalid("pool.name", format!("{:?} {rule}", self.name)));
        }
        if !self.path.is_absolute() {
            let rule = "is no path of a pool: write an absolute one";
            return Err(Failure::invalid("pool.path", format!("{:?} {rule}", self.path)));
        }
        if let Some(device) = self.device.as_ref().filter(|device| !device.is_absolute()) {
            let rule = "is no path of a device: write an absolute one";
            return Err(Failure::invalid("pool.device", format!("{device:?} {rule}")));
        }
        let is_thin = self.backends.iter().map(String::as_str).all(|name| name == super::backend::thin::NAME);
        if self.device.is_some() && !is_thin {
            let rule = "a pool with a device has the backend lvm-thin alone: leave it out";
            return Err(Failure::invalid("pool.backends", rule));
        }
        if !(1.0..=1000.0).contains(&self.overcommit) {
            let rule = "is no factor: write 1 (nothing more than there is) to 1000";
            return Err(Failure::invalid("pool.overcommit", format!("{} {rule}", self.overcommit)));
        }
        let [first, last] = self.project_ids;
        if first == 0 || first > last || last == u32::MAX {
            let rule = "is no range: write the first and the last of them, from 1 to 4294967294";
            return Err(Failure::invalid("pool.project-ids", format!("[{first}, {last}] {rule}")));
        }
        Ok(())
    }
}

impl Config {
    /// Reads a file of TOML.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be.
    pub fn read(path: &Path) -> Result<Config, Failure> {
        let failed =
            |e: &dyn std::fmt::Display| Failure::internal(format!("cannot read {}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
        Config::parse(&text).map_err(|e| failed(&e))
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// It is none, or says what cannot be.
    pub fn parse(text: &str) -> Result<Config, Failure> {
        let config: Config = toml::from_str(text).map_err(Failure::of)?;
        config.validate()?;
        Ok(config)
    }

    /// The first thing that cannot be.
    ///
    /// # Errors
    /// It names the field.
    pub fn validate(&self) -> Result<(), Failure> {
        for (at, pool) in self.pools.iter().enumerate() {
            pool.validate()?;
            if self.pools.iter().take(at).any(|other| other.name == pool.name) {
                return Err(Failure::invalid("pool.name", format!("{:?} is there twice", pool.name)));
            }
        }
        if self.pools.is_empty() {
            return Err(Failure::invalid("pool", "is missing: say where volumes are to be"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let pool = |text: &str| {
            let config: Result<Config, _> = toml::from_str(&format!("[[pool]]\n{text}"));
            config.map_err(|e| e.to_string()).and_then(|config| config.validate().map_err(|e| e.to_string()))
        };
        pool("name = 'fast'\npath = '/x'\novercommit = 2.5\nbackends = ['dir']").unwrap();
        for (text, named) in [
            ("name = 'Fast'\npath = '/x'", "pool.name"),
            ("name = ''\npath = '/x'", "pool.name"),
            ("name = 'a'\npath = 'x'", "pool.path"),
            ("name = 'a'\npath = '/x'\novercommit = 0.5", "pool.overcommit"),
            ("name = 'a'\npath = '/x'\nproject-ids = [7, 6]", "pool.project-ids"),
            ("name = 'a'\npath = '/x'\nproject-ids = [0, 6]", "pool.project-ids"),
            ("name = 'a'\npath = '/x'\nsize = 1", "size"),
            ("name = 'a'\npath = '/x'\ndevice = 'sda'", "pool.device"),
            ("name = 'a'\npath = '/x'\ndevice = '/dev/sda'\nbackends = ['dir']", "pool.backends"),
            ("name = 'a'\npath = '/x'\n[[pool]]\nname = 'a'\npath = '/y'", "twice"),
        ] {
            let error = pool(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(Config::default().validate().is_err());
    }
}
