//! Annotations of the configuration: what other shims and runtimes, and tools that read configurations, look for.

use std::collections::BTreeMap;

use crate::contract::v1::{ContainerConfig, PodSandboxConfig};

/// The annotations of a container: who it is and which pod it is in, under the names that containerd gives them.
pub(super) fn annotations(
    pod: &str,
    pod_config: &PodSandboxConfig,
    config: &ContainerConfig,
    image: &str,
) -> BTreeMap<String, String> {
    let metadata = pod_config.metadata.clone().unwrap_or_default();
    let name = config.metadata.as_ref().map_or("", |metadata| &metadata.name);
    let specified = config.image.as_ref().map_or("", |image| &image.user_specified_image);
    [
        ("container-type", "container"),
        ("sandbox-id", pod),
        ("sandbox-name", &metadata.name),
        ("sandbox-namespace", &metadata.namespace),
        ("sandbox-uid", &metadata.uid),
        ("container-name", name),
        ("image-name", if specified.is_empty() { image } else { specified }),
    ]
    .map(|(key, value)| (format!("io.kubernetes.cri.{key}"), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::{ContainerMetadata, ImageSpec, PodSandboxMetadata};

    #[test]
    fn who_it_is_and_where() {
        let pod = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "p".into(),
                uid: "u".into(),
                namespace: "n".into(),
                attempt: 1,
            }),
            ..PodSandboxConfig::default()
        };
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "c".into(), attempt: 0 }),
            ..ContainerConfig::default()
        };
        let found = annotations("id", &pod, &config, "docker.io/library/busybox:latest");
        let of = |key: &str| found[&format!("io.kubernetes.cri.{key}")].as_str();
        assert_eq!((of("container-type"), of("sandbox-id"), of("sandbox-uid")), ("container", "id", "u"));
        assert_eq!((of("sandbox-name"), of("sandbox-namespace"), of("container-name")), ("p", "n", "c"));
        assert_eq!(of("image-name"), "docker.io/library/busybox:latest");
        let image = ImageSpec { user_specified_image: "busybox".into(), ..ImageSpec::default() };
        config.image = Some(image);
        assert_eq!(annotations("id", &pod, &config, "x")["io.kubernetes.cri.image-name"], "busybox");
    }
}
