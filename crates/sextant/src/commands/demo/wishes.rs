//! What the demo asks its node for, as a kubelet would.

use std::path::Path;

use cri::contract::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol,
};

/// The namespace of its pods.
pub(super) const NAMESPACE: &str = "demo";

/// Where a container has its volume.
pub(super) const DATA: &str = "/data";

/// A pod with a network of its own, and with a port of it at one of this machine.
pub(super) fn pod(name: &str, logs: &Path, published: Option<(u16, u16)>) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata {
        name: name.into(),
        uid: format!("demo-{name}"),
        namespace: NAMESPACE.into(),
        attempt: 0,
    };
    let port = |(host, container): (u16, u16)| PortMapping {
        protocol: Protocol::Tcp.into(),
        container_port: container.into(),
        host_port: host.into(),
        host_ip: "127.0.0.1".into(),
    };
    PodSandboxConfig {
        metadata: Some(metadata),
        hostname: name.into(),
        log_directory: logs.display().to_string(),
        port_mappings: published.map(port).into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..PodSandboxConfig::default()
    }
}

/// The same with a volume at [`DATA`], as root: a kubelet would have given the volume to the container's group.
pub(super) fn with_volume(volume: &Path, config: ContainerConfig) -> ContainerConfig {
    let mount =
        Mount { container_path: DATA.into(), host_path: volume.display().to_string(), ..Mount::default() };
    let mut linux = config.linux.unwrap_or_default();
    linux.security_context.get_or_insert_default().run_as_user = Some(Int64Value { value: 0 });
    ContainerConfig { mounts: vec![mount], linux: Some(linux), ..config }
}

/// A container of this image with these arguments of its entry point.
pub(super) fn container(name: &str, image: &str, args: &[&str]) -> ContainerConfig {
    let options = NamespaceOption { pid: NamespaceMode::Container.into(), ..NamespaceOption::default() };
    let security = LinuxContainerSecurityContext {
        namespace_options: Some(options),
        ..LinuxContainerSecurityContext::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: image.into(), ..ImageSpec::default() }),
        args: args.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig { resources: None, security_context: Some(security) }),
        ..ContainerConfig::default()
    }
}
