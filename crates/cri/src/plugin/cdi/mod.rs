//! CDI: devices by a vendor's name, described in files that their drivers write (Container Device Interface 0.3.0 to
//! 1.1.0).
//!
//! [`Document`] is such a file, in JSON or YAML. A container's devices are looked up anew each time one is created, for
//! drivers write when they like; nothing is kept.

mod document;
mod edits;
mod registry;
mod yaml;

use std::path::{Path, PathBuf};

pub use document::{Document, parse};
pub(crate) use edits::apply;
pub(crate) use registry::resolve;

use crate::contract::Error;
use crate::contract::v1::ContainerConfig;

/// Where files are: what an administrator puts there, and above it what drivers write at run time.
pub(crate) fn dirs() -> [PathBuf; 2] {
    ["/etc/cdi", "/var/run/cdi"].map(|dir| Path::new(dir).to_path_buf())
}

/// The names of a container's devices with the field each stands in: of the list, and of annotations `cdi.k8s.io/*`, which
/// older kubelets' plugins write. Each once.
pub(crate) fn names(config: &ContainerConfig) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, field: String| {
        if !names.iter().any(|(known, _)| known == name) {
            names.push((name.to_owned(), field));
        }
    };
    for (index, device) in config.cdi_devices.iter().enumerate() {
        add(&device.name, format!("config.cdi_devices[{index}].name"));
    }
    for (key, value) in config.annotations.iter().filter(|(key, _)| key.starts_with("cdi.k8s.io/")) {
        value.split(',').for_each(|name| add(name.trim(), format!("config.annotations[{key:?}]")));
    }
    names
}

/// A failure of a document, which has no field in the request.
fn wrong(message: impl Into<String>) -> Error {
    Error::precondition(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::CdiDevice;

    #[test]
    fn each_name_counts_once() {
        let config = ContainerConfig {
            cdi_devices: vec![CdiDevice { name: "v.com/c=a".into() }],
            annotations: [("cdi.k8s.io/plugin_x", "v.com/c=b, v.com/c=a"), ("other/cdi.k8s.io", "v.com/c=d")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..ContainerConfig::default()
        };
        let names = names(&config);
        let found: Vec<_> = names.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, ["v.com/c=a", "v.com/c=b"]);
        assert_eq!(names[1].1, "config.annotations[\"cdi.k8s.io/plugin_x\"]");
    }
}
