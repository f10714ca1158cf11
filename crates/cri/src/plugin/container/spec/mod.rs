//! From what a kubelet asks for, and an image, to a runtime configuration.
//!
//! Nothing that is asked for is left out in silence: what cannot be done is an error that names the field. What is wrong
//! by itself has not come here: the contract's [`Validate`](crate::contract::Validate) has the rules for single fields.

mod annotations;
mod apparmor;
mod args;
mod capabilities;
pub(crate) mod devices;
pub(crate) mod env;
mod images;
mod mounts;
mod namespaces;
mod propagation;
mod resources;
mod seccomp;
mod selinux;
mod signals;
mod user;
mod volumes;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ledger::Owner;
use oci_runtime::contract::{Process, Spec};
use oci_runtime::default_spec;
use oci_runtime::users::Users;

pub(crate) use devices::Devices;
pub(crate) use resources::{replace_resources, resources};

use super::record::User;
use crate::contract::Error;
use crate::contract::v1::{
    ContainerConfig, ContainerState, LinuxContainerSecurityContext, NamespaceMode, Signal,
};
use crate::plugin::cdi;
use crate::plugin::images::ForContainer;
use crate::plugin::node::Node;
use crate::plugin::pod::{self, Pod};

/// Loading a profile is the process's affair, and not a container's.
static APPARMOR: apparmor::Done = apparmor::Done::nothing();

/// What a configuration is made from.
pub(crate) struct Wishes<'a> {
    pub(crate) node: &'a Node,
    pub(crate) pod: &'a Pod,
    pub(crate) id: &'a str,
    pub(crate) config: &'a ContainerConfig,
    pub(crate) image: &'a ForContainer,
    /// What of the container outlives a boot.
    pub(crate) state: &'a Path,
    /// Where the configuration will be.
    pub(crate) bundle: &'a Path,
}

/// A configuration, and what has to be made before it can be used.
pub(crate) struct Built {
    pub(crate) spec: Spec,
    /// What StopContainer sends: the kernel's number, and CRI's.
    pub(crate) stop_signal: (i32, Signal),
    images: Vec<images::ImageVolume>,
    volumes: Vec<volumes::Volume>,
    /// The layers of the root, the topmost first.
    lower: Vec<PathBuf>,
}

impl Built {
    /// Makes what the configuration's mounts are made from: images are mounted, the image's volumes are filled. The
    /// container's directories are there.
    pub(crate) fn furnish(&self, owner: &mut Owner) -> Result<(), Error> {
        self.images.iter().try_for_each(|image| image.mount(owner))?;
        volumes::fill(&self.volumes, &self.lower)
    }

    /// The ids of the mounted images, by their mount's `container_path`.
    pub(crate) fn mounted_images(&self) -> BTreeMap<String, String> {
        self.images.iter().map(|image| (image.container_path.clone(), image.id.clone())).collect()
    }

    /// The layers of the mounted images, by diffID.
    pub(crate) fn mounted_layers(&self) -> Vec<String> {
        self.images.iter().flat_map(|image| image.layers.iter().cloned()).collect()
    }

    /// Who the program runs as.
    pub(crate) fn user(&self) -> User {
        let user = self.spec.process.as_ref().map(|p| p.user.clone()).unwrap_or_default();
        User { uid: user.uid, gid: user.gid, groups: user.additional_gids }
    }
}

/// Makes the configuration. Reads the image's files and the host's devices; a directory of the host that is to be mounted
/// and is not there is all that it makes.
pub(crate) fn build(wishes: &Wishes<'_>) -> Result<Built, Error> {
    let Wishes { node, pod, id, config, image, .. } = wishes;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    check_privileged(pod, &security)?;
    annotations::check(&pod.record.config, config)?;
    let stop_signal = signals::stop_signal(config.stop_signal(), image.config.config.stop_signal.as_deref());
    let capabilities = capabilities::wanted(&security, available_capabilities()?)?;
    let limits = resources(&linux.resources.unwrap_or_default(), "config.linux.resources")?;
    let mut devices = devices::devices(&config.devices, security.privileged, Path::new("/dev"))?;
    let lower = layers(node, image)?;
    let labels = labels(pod, &security);
    let (apparmor_profile, warning) = apparmor::profile(&security, &apparmor::Machine::here(), &APPARMOR)?;
    warning.iter().for_each(|warning| node.log(&format!("warning: {warning}")));
    let mut spec = default_spec::container();
    spec.process = Some(Process {
        terminal: config.tty,
        user: user::user(&security, &image.config.config.user, &Users::read(&open_all(&lower)?))?,
        args: args::args(config, &image.config)?,
        env: env::env(config, &image.config, &pod::hostname(&pod.record.config))?,
        cwd: args::working_dir(config, &image.config),
        capabilities: Some(capabilities.sets()),
        no_new_privileges: security.no_new_privs,
        oom_score_adj: Some(limits.oom_score_adj),
        apparmor_profile,
        selinux_label: labels.process,
        ..Process::default()
    });
    if let Some(root) = &mut spec.root {
        root.readonly = security.readonly_rootfs;
    }
    let around = around(node, pod, &security);
    let (images, mut further) = image_volumes(wishes, &around)?;
    let (volumes, of_volumes) =
        volumes::plan(&image.config, &config.mounts, &wishes.state.join("volumes"), &around)?;
    further.extend(of_volumes);
    let (mounts, propagation) = mounts::mounts(&config.mounts, further, &around)?;
    mounts::relabel(&config.mounts, &labels.files)?;
    spec.mounts = mounts;
    spec.annotations = annotations::annotations(pod.id(), &pod.record.config, config, &image.name);
    let linux = spec.linux.get_or_insert_default();
    linux.rootfs_propagation = propagation;
    linux.mount_label = labels.files;
    linux.cgroups_path = pod.record.cgroup.child(&node.place.name, id);
    linux.resources = Some(limits.resources);
    linux.seccomp = seccomp::seccomp(&security, capabilities.all)?;
    // What was sent, and nothing else; a privileged container has none.
    if !security.privileged {
        linux.masked_paths.clone_from(&security.masked_paths);
        linux.readonly_paths.clone_from(&security.readonly_paths);
    }
    let options = security.namespace_options.as_ref();
    let shared = namespaces::Shared {
        options: pod.namespace_options(),
        network: node.place.netns(pod.id()),
        held: pod.record.namespaces.clone(),
    };
    let target = target(node, pod, config)?;
    let layout = kernel::cgroup::layout()?;
    namespaces::fill(linux, &shared, options, target, security.privileged, layout)?;
    let found = cdi::resolve(&cdi::names(config), &cdi::dirs())?;
    cdi::apply(&found, &mut spec, &mut devices)?;
    devices.put(&mut spec, !around.uids.is_empty());
    Ok(Built { spec, stop_signal, images, volumes, lower })
}

/// The images that are mounted, and their mounts.
fn image_volumes(
    wishes: &Wishes<'_>,
    around: &mounts::Surroundings,
) -> Result<(Vec<images::ImageVolume>, Vec<oci_runtime::contract::Mount>), Error> {
    let mut both = (Vec::new(), Vec::new());
    for (index, mount) in wishes.config.mounts.iter().enumerate().filter(|(_, m)| m.image.is_some()) {
        let field = format!("config.mounts[{index}]");
        let image = wishes.node.images.for_container(mount.image.as_ref()).map_err(|error| {
            let message = format!("ImageVolumeMountFailed: {field}.image.image: {}", error.message);
            Error::new(error.code, message)
        })?;
        let lower = layers(wishes.node, &image)?;
        let dir = wishes.bundle.join("images").join(index.to_string());
        let (volume, mount) = images::plan(mount, &field, image, lower, dir, around)?;
        both.0.push(volume);
        both.1.push(mount);
    }
    Ok(both)
}

/// The SELinux labels; none where there is no SELinux, and of a privileged container.
fn labels(pod: &Pod, security: &LinuxContainerSecurityContext) -> selinux::Labels {
    if !selinux::is_enabled() || security.privileged {
        return selinux::Labels::default();
    }
    let sandbox = pod.record.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let of_pod = sandbox.and_then(|sandbox| sandbox.selinux_options.as_ref());
    selinux::labels(pod.id(), security.selinux_options.as_ref(), of_pod)
}

/// A privileged container is in a privileged pod alone.
fn check_privileged(pod: &Pod, security: &LinuxContainerSecurityContext) -> Result<(), Error> {
    let sandbox = pod.record.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    if security.privileged && !sandbox.is_some_and(|sandbox| sandbox.privileged) {
        let hint = "run the pod sandbox with linux.security_context.privileged, or leave it out here";
        return Err(Error::invalid(
            "config.linux.security_context.privileged",
            format!("is true, and the pod is not privileged: {hint}"),
        ));
    }
    Ok(())
}

/// What the kernel knows and this process, whose children containers are, may still give.
fn available_capabilities() -> Result<kernel::capability::CapSet, Error> {
    Ok(kernel::capability::Sets::current()?.bounding & kernel::capability::supported())
}

/// Where the layers of an image are, the topmost first.
fn layers(node: &Node, image: &ForContainer) -> Result<Vec<PathBuf>, Error> {
    image.layers.iter().map(|digest| Ok(node.images.layer_path(digest)?.into())).collect()
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>, Error> {
    let open = |path: &PathBuf| {
        let opened = fs::File::open(path).map(OwnedFd::from);
        opened.map_err(|e| Error::internal(format!("cannot open the layer {}: {e}", path.display())))
    };
    paths.iter().map(open).collect()
}

fn around(node: &Node, pod: &Pod, security: &LinuxContainerSecurityContext) -> mounts::Surroundings {
    let user = pod.namespace_options().userns_options.filter(|user| user.mode() == NamespaceMode::Pod);
    let user = user.unwrap_or_default();
    mounts::Surroundings {
        pod: node.place.pod_run(pod.id()),
        own_shm: pod.record.shm,
        host_network: pod::is_host(&pod.record.config),
        user: pod.record.namespaces.iter().find(|(kind, _)| kind == "user").map(|(_, path)| path.into()),
        uids: user.uids,
        gids: user.gids,
        privileged: security.privileged,
        readonly_rootfs: security.readonly_rootfs,
    }
}

/// The PID of the container whose processes are to be shared: one of this pod that runs.
pub(crate) fn target(node: &Node, pod: &Pod, config: &ContainerConfig) -> Result<Option<i32>, Error> {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(options) = security.and_then(|security| security.namespace_options.as_ref()) else {
        return Ok(None);
    };
    if options.pid() != NamespaceMode::Target || options.target_id.is_empty() {
        return Ok(None);
    }
    let field = "config.linux.security_context.namespace_options.target_id";
    let container = node.state.container(&options.target_id).map_err(|error| error.within(field))?;
    if container.record.pod != pod.id() {
        return Err(Error::invalid(field, format!("{} is in another pod", options.target_id)));
    }
    let live = container.live();
    if live.state != ContainerState::ContainerRunning {
        let hint = "start it first";
        return Err(
            Error::precondition(format!("{} is not running: {hint}", options.target_id)).within(field)
        );
    }
    Ok(Some(live.pid))
}

#[cfg(test)]
mod tests {
    use oci_image::contract::ImageConfig;

    /// An image that says nothing.
    pub(super) fn image() -> ImageConfig {
        serde_json::from_str(
            r#"{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}"#,
        )
        .unwrap()
    }

    /// A pod that is nothing special.
    pub(super) fn around() -> super::mounts::Surroundings {
        super::mounts::Surroundings {
            pod: "/run/pod".into(),
            own_shm: true,
            host_network: false,
            user: None,
            uids: Vec::new(),
            gids: Vec::new(),
            privileged: false,
            readonly_rootfs: false,
        }
    }
}
