//! The node's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cgroup::Driver;
use crate::contract::Error;

/// `node.toml`. Every key has a default, and an unknown one is an error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[network]`
    pub network: Network,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[images]`
    pub images: Images,
}

/// How pods are connected.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Where configurations of CNI are. The first, by name, is what pods are attached to.
    pub conf_dir: PathBuf,
    /// Where plugins are that are not built in.
    pub bin_dirs: Vec<PathBuf>,
    /// Without a configuration there, pods get a bridge of this node's own.
    pub builtin: bool,
}

/// How containers are run.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// As the kubelet's `cgroupDriver`; it asks by `RuntimeConfig`.
    pub cgroup_driver: Driver,
    /// Seconds that a pod or a container whose caller has left waits for the caller to come again, before it is removed.
    /// The kubelet's own deadline is two minutes, and its back-off begins at ten seconds.
    pub grace: u64,
    /// Runtime handlers by name, as RuntimeClasses name them.
    pub handlers: BTreeMap<String, Handler>,
}

/// What runs a pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Handler {
    /// The OCI runtime in Sextant's own shim.
    BuiltIn,
    /// Another OCI runtime's command, under Sextant's shim.
    Oci {
        /// The program.
        path: PathBuf,
    },
    /// Another shim, by containerd's Task API.
    Shim {
        /// `containerd-shim-NAME-vN`, or a path.
        path: PathBuf,
    },
}

/// Where images come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// Folders of `REGISTRY/hosts.toml`, as containerd's `config_path`.
    pub hosts_dirs: Vec<PathBuf>,
    /// Credentials for pulls that bring none: a `config.json` as docker and podman write it.
    pub auth_file: Option<PathBuf>,
    /// Names of images that are not removed, and not collected by the kubelet.
    pub pinned: Vec<String>,
    /// How many images may be pulled at once; 0 for any number. Others wait.
    pub max_parallel_pulls: usize,
    /// Seconds after which a pull ends that does not get on.
    pub pull_progress_timeout: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            conf_dir: cni::caller::CONF_DIR.into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            builtin: false,
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self { cgroup_driver: Driver::Cgroupfs, grace: 180, handlers: BTreeMap::new() }
    }
}

impl Default for Images {
    fn default() -> Self {
        let hosts_dirs = ["/etc/sextant/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"];
        Self {
            hosts_dirs: hosts_dirs.map(PathBuf::from).to_vec(),
            auth_file: None,
            pinned: Vec::new(),
            max_parallel_pulls: 4,
            pull_progress_timeout: 300,
        }
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or a key is unknown or has a wrong value: which, and on which line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::internal(format!("cannot read {}: {e}", path.display())))?;
        Self::parse(&text).map_err(|e| Error::internal(format!("cannot use {}: {e}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}
