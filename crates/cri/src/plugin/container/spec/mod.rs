//! From what a kubelet asks for, and an image, to a runtime configuration.

use std::collections::BTreeMap;
use std::path::Path;

use ledger::Owner;
use oci_runtime::contract::{NamespaceType, Resources, Spec};
use oci_runtime::default_spec;

use super::record::User;
use crate::contract::Error;
use crate::contract::v1::{ContainerConfig, LinuxContainerResources, NamespaceMode, Signal};
use crate::plugin::images::ForContainer;
use crate::plugin::node::Node;
use crate::plugin::pod::Pod;

/// What a configuration is made from.
pub(crate) struct Wishes<'a> {
    pub(crate) node: &'a Node,
    pub(crate) pod: &'a Pod,
    pub(crate) id: &'a str,
    pub(crate) config: &'a ContainerConfig,
    pub(crate) image: &'a ForContainer,
    /// Where the configuration will be.
    pub(crate) bundle: &'a Path,
}

/// A configuration, and what has to be made before it can be used.
pub(crate) struct Built {
    pub(crate) spec: Spec,
    /// What StopContainer sends: the kernel's number, and CRI's.
    pub(crate) stop_signal: (i32, Signal),
}

impl Built {
    /// Mounts the images that are mounted in the container.
    pub(crate) fn mount_images(&self, _owner: &mut Owner) -> Result<(), Error> {
        Ok(())
    }

    /// The ids of those images, by their mount's `container_path`.
    pub(crate) fn mounted_images(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Who the program runs as.
    pub(crate) fn user(&self) -> User {
        let user = self.spec.process.as_ref().map(|p| p.user.clone()).unwrap_or_default();
        User { uid: user.uid, gid: user.gid, groups: user.additional_gids }
    }
}

/// Makes the configuration. Reads the image's files and the host's devices; changes nothing.
pub(crate) fn build(wishes: &Wishes<'_>) -> Result<Built, Error> {
    let Wishes { node, pod, id, config, image, .. } = wishes;
    let mut spec = default_spec::container();
    if let Some(process) = &mut spec.process {
        let mut args = config.command.clone();
        args.extend(config.args.clone());
        if args.is_empty() {
            args = image.config.config.entrypoint.clone().unwrap_or_default();
            args.extend(image.config.config.cmd.clone().unwrap_or_default());
        }
        process.args = args;
        process.env.extend(image.config.config.env.iter().cloned());
        process.terminal = config.tty;
    }
    spec.hostname = String::new();
    if let Some(linux) = &mut spec.linux {
        linux.cgroups_path = pod.record.cgroup.child(&node.place.name, id);
        let options = pod.namespace_options();
        if options.network() == NamespaceMode::Node {
            linux.namespaces.retain(|n| n.kind != NamespaceType::Network);
        }
        for namespace in &mut linux.namespaces {
            let path = match namespace.kind {
                NamespaceType::Network => Some(node.place.netns(pod.id()).display().to_string()),
                NamespaceType::Ipc => pod.namespace("ipc").map(str::to_owned),
                NamespaceType::Uts => pod.namespace("uts").map(str::to_owned),
                _ => None,
            };
            namespace.path = path.unwrap_or_default();
        }
    }
    Ok(Built { spec, stop_signal: (15, Signal::Sigterm) })
}

/// The limits as the runtime specification has them. `field` is where they stand in the request.
pub(crate) fn resources(_asked: &LinuxContainerResources, _field: &str) -> Result<Resources, Error> {
    Ok(Resources::default())
}

/// Puts other limits into the configuration at `path`.
pub(crate) fn replace_resources(_path: &Path, _resources: Resources) -> Result<(), Error> {
    Ok(())
}
