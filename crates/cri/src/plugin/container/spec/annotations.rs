//! Annotations of the configuration: what other shims and runtimes, and tools that read configurations, look for.

use std::collections::BTreeMap;

use crate::contract::Error;
use crate::contract::v1::{ContainerConfig, PodSandboxConfig};

/// Annotations that ask for a class of cache, memory bandwidth or block I/O. Classes are what an administrator defines, and
/// this node has no place for that.
const CLASSES: [&str; 6] = [
    "io.kubernetes.cri.rdt-class",
    "io.kubernetes.cri.blockio-class",
    "rdt.resources.beta.kubernetes.io/pod",
    "rdt.resources.beta.kubernetes.io/container.",
    "blockio.resources.beta.kubernetes.io/pod",
    "blockio.resources.beta.kubernetes.io/container.",
];

/// An error for what is asked by an annotation and cannot be done.
pub(super) fn check(pod_config: &PodSandboxConfig, config: &ContainerConfig) -> Result<(), Error> {
    let name = config.metadata.as_ref().map_or("", |metadata| &metadata.name);
    let both = [("config", &config.annotations), ("sandbox_config", &pod_config.annotations)];
    for (whose, annotations) in both {
        for (key, value) in annotations {
            let asks = CLASSES.iter().any(|class| match class.strip_suffix("container.") {
                Some(prefix) => key.strip_prefix(prefix) == Some(&format!("container.{name}")),
                None => key == class,
            });
            if asks && !value.is_empty() {
                let field = format!("{whose}.annotations[{key:?}]");
                let hint = "this node knows no classes of RDT and block I/O: leave it out";
                return Err(Error::invalid(field, format!("{value:?} cannot be: {hint}")));
            }
        }
    }
    Ok(())
}

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
    fn classes_are_refused_for_whom_they_are_meant() {
        let annotated = |key: &str| [(key.to_owned(), "gold".to_owned())].into();
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "c".into(), attempt: 0 }),
            annotations: annotated("io.kubernetes.cri.rdt-class"),
            ..ContainerConfig::default()
        };
        let mut pod = PodSandboxConfig::default();
        let error = check(&pod, &config).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("config.annotations[\"io.kubernetes.cri.rdt-class\"]"));
        config.annotations = annotated("my.own/rdt-class");
        pod.annotations = annotated("blockio.resources.beta.kubernetes.io/container.other");
        check(&pod, &config).unwrap();
        pod.annotations = annotated("blockio.resources.beta.kubernetes.io/container.c");
        assert!(check(&pod, &config).unwrap_err().to_string().starts_with("sandbox_config.annotations"));
    }

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
