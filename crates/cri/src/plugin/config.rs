//! The node's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::Driver;
use crate::contract::Error;

/// `node.toml`. Every key has a default, and an unknown one is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[network]`
    pub network: Network,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[images]`
    pub images: Images,
    /// `[nri]`
    pub nri: Nri,
}

/// Plugins of the Node Resource Interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nri {
    /// Plugins are taken on.
    pub enabled: bool,
    /// Where they connect. Without it: where plugins look for a runtime (`/var/run/nri/nri.sock`), or `nri.sock` in the
    /// run directory of a node that is not in the usual one.
    pub socket: Option<PathBuf>,
    /// Plugins that the node starts: programs called `NN-NAME`.
    pub plugin_dir: PathBuf,
    /// Their configurations: `NN-NAME.conf` or `NAME.conf`.
    pub config_dir: PathBuf,
    /// Seconds that a plugin has to answer; then it is gone.
    pub request_timeout: u64,
    /// Seconds that a plugin has to say who it is.
    pub registration_timeout: u64,
}

impl Default for Nri {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: None,
            plugin_dir: "/opt/nri/plugins".into(),
            config_dir: "/etc/nri/conf.d".into(),
            request_timeout: 10,
            registration_timeout: 5,
        }
    }
}

impl Nri {
    /// Where plugins connect to the node in `place`.
    pub(crate) fn socket(&self, place: &super::Place) -> PathBuf {
        match &self.socket {
            Some(path) => path.clone(),
            None if place.run == Path::new("/run/sextant") => "/var/run/nri/nri.sock".into(),
            None => place.run.join("nri.sock"),
        }
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout.max(1))
    }

    pub(crate) fn registration_timeout(&self) -> Duration {
        Duration::from_secs(self.registration_timeout.max(1))
    }
}

/// How pods are connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Where configurations of CNI are. The first, by name, is what pods are attached to.
    pub conf_dir: PathBuf,
    /// Where plugins are that are not built in.
    pub bin_dirs: Vec<PathBuf>,
    /// Without a configuration there, pods get a bridge of this node's own.
    pub builtin: bool,
    /// Where `sextant mesh` is told of each pod's network, before the pod's first container starts.
    pub mesh_pods: Option<PathBuf>,
}

/// How containers are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Handler {
    /// The OCI runtime in Sextant's own shim.
    BuiltIn,
    /// Another OCI runtime's command (runc's), under Sextant's shim.
    Oci {
        /// The program, an absolute path.
        program: PathBuf,
        /// Given to it before each command.
        #[serde(default)]
        arguments: Vec<String>,
    },
    /// Another shim, by containerd's Task API.
    Shim {
        /// `containerd-shim-NAME-vN`, an absolute path.
        program: PathBuf,
        /// The shim's own configuration, an absolute path.
        #[serde(default)]
        options: Option<PathBuf>,
        /// Of which type that is, for shims that ask for one.
        #[serde(default)]
        options_type: String,
        /// Annotations of pods that the shim reads: their keys, or what those begin with and `*`.
        #[serde(default)]
        annotations: Vec<String>,
    },
}

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Seconds after which a pull ends that does not get on; 0 for never.
    pub pull_progress_timeout: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            conf_dir: cni::caller::CONF_DIR.into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            builtin: false,
            mesh_pods: None,
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
    /// A `node.toml` with every key, its default and what it means. A key without a default is commented out.
    pub const EXAMPLE: &'static str = include_str!("node.toml");

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

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    /// The example with the keys that are commented out: `#key` is one, `# Words` are none.
    fn whole_example() -> String {
        let uncommented = |line: &'static str| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
            _ => line,
        };
        Config::EXAMPLE.lines().map(uncommented).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_is_the_defaults() {
        assert_eq!(Config::parse(Config::EXAMPLE).unwrap(), Config::default());
    }

    #[test]
    fn the_example_has_every_key() {
        // What is no key of Config is refused.
        Config::parse(&whole_example()).unwrap();
        let shown: Value = toml::from_str(&whole_example()).unwrap();
        let all = serde_json::to_value(Config::default()).unwrap();
        let keys = |value: &Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
        for (section, fields) in keys(&all) {
            for key in keys(&fields).keys() {
                assert!(shown[&section].get(key).is_some(), "node.toml shows no {section}.{key}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("[network]\nbin_dir = 'x'", "bin_dir"),
            ("[runtime]\ncgroup_driver = 'cgroups'", "cgroups"),
            ("[runtime.handlers.kata]\nkind = 'shim'", "program"),
            ("[runtime.handlers.crun]\nkind = 'oci'\nprogram = '/c'\npath = '/c'", "path"),
            ("[images]\nmax_parallel_pulls = -1", "-1"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
