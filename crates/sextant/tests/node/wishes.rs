//! What a kubelet asks for, as short as the tests want it.

use cri::contract::v1::*;

use crate::machine::IMAGE;

/// A pod of its own network and namespaces.
pub(crate) fn pod(name: &str) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata {
        name: name.into(),
        uid: format!("uid-{name}"),
        namespace: "tests".into(),
        attempt: 0,
    };
    PodSandboxConfig {
        metadata: Some(metadata),
        hostname: name.into(),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..PodSandboxConfig::default()
    }
}

/// The same pod with these namespaces.
pub(crate) fn with_namespaces(mut pod: PodSandboxConfig, options: NamespaceOption) -> PodSandboxConfig {
    let linux = pod.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(options);
    pod
}

/// A pod on the node's own network: the quickest kind.
pub(crate) fn host_pod(name: &str) -> PodSandboxConfig {
    let options = NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() };
    with_namespaces(pod(name), options)
}

/// A container that runs these words, with a PID namespace of its own and a log called after it.
pub(crate) fn container(name: &str, words: &[&str]) -> ContainerConfig {
    let image = ImageSpec { image: IMAGE.into(), ..ImageSpec::default() };
    let options = NamespaceOption { pid: NamespaceMode::Container.into(), ..NamespaceOption::default() };
    let security = LinuxContainerSecurityContext {
        namespace_options: Some(options),
        ..LinuxContainerSecurityContext::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(image),
        command: words.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig { resources: None, security_context: Some(security) }),
        ..ContainerConfig::default()
    }
}

/// The same container with these limits.
pub(crate) fn with_limits(
    mut container: ContainerConfig,
    limits: LinuxContainerResources,
) -> ContainerConfig {
    container.linux.get_or_insert_default().resources = Some(limits);
    container
}
