//! A container, as a runtime is asked for it.

use cri::contract::v1::*;
use k8s_openapi::api::core::v1::{self as core, Pod};

use super::env::expand;
use super::sandbox::{groups, groups_policy, namespaces, selinux};
use super::spec::{Part, hash};
use super::{fields, resources};
use crate::Setup;
use crate::names::*;

/// What is hidden of /proc and /sys, but from who asks for `procMount: Unmasked`.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// What of /proc cannot be written to.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container is made from beside its spec.
pub(crate) struct Given<'a> {
    /// How often it was started before.
    pub(crate) restarts: u32,
    /// The image as the runtime names it.
    pub(crate) image: &'a Image,
    /// Its environment.
    pub(crate) env: Vec<(String, Vec<u8>)>,
    /// Its mounts.
    pub(crate) mounts: Vec<Mount>,
    /// Its block devices.
    pub(crate) devices: Vec<Device>,
    /// The container whose processes an ephemeral one sees.
    pub(crate) target: Option<String>,
    /// The first of the pod's own ids.
    pub(crate) users: Option<u32>,
    /// What the node has of memory.
    pub(crate) memory: i64,
}

/// The container.
///
/// # Errors
/// The pod asks for what cannot be: in a kubelet's words (`CreateContainerConfigError`).
pub(crate) fn config(
    setup: &Setup,
    pod: &Pod,
    part: &Part<'_>,
    given: Given<'_>,
) -> Result<ContainerConfig, String> {
    let container = &*part.container;
    let key = Key::of(pod);
    let labels = [
        (POD_NAME, key.name.name.clone()),
        (POD_NAMESPACE, key.name.namespace.clone()),
        (POD_UID, key.uid.clone()),
        (CONTAINER_NAME, container.name.clone()),
        (AGENT, setup.node.clone()),
    ];
    let known = |name: &str| {
        let found = given.env.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    let words =
        |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, known)).collect();
    let security = security(setup, pod, part, &given)?;
    let resources = resources::of_container(pod, container, given.memory);
    let image = ImageSpec {
        image: given.image.id.clone(),
        user_specified_image: container.image.clone().unwrap_or_default(),
        ..ImageSpec::default()
    };
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: given.restarts }),
        image: Some(image),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        annotations: annotations(pod, container, given.restarts),
        log_path: format!("{}/{}.log", container.name, given.restarts),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig { resources: Some(resources), security_context: Some(security) }),
        envs: given.env.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        mounts: given.mounts,
        devices: given.devices,
        stop_signal: stop_signal(container),
        ..ContainerConfig::default()
    })
}

/// What is read again when the pod is gone, or the agent is another.
fn annotations(
    pod: &Pod,
    container: &core::Container,
    restarts: u32,
) -> std::collections::BTreeMap<String, String> {
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let all = [
        (HASH, hash(container)),
        (RESTART_COUNT, restarts.to_string()),
        (TERMINATION_PATH, path.to_owned()),
        (TERMINATION_POLICY, policy.to_owned()),
        (GRACE, super::spec::grace(pod).to_string()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

fn stop_signal(container: &core::Container) -> i32 {
    let name = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    name.and_then(Signal::from_str_name).unwrap_or(Signal::RuntimeDefault).into()
}

fn security(
    setup: &Setup,
    pod: &Pod,
    part: &Part<'_>,
    given: &Given<'_>,
) -> Result<LinuxContainerSecurityContext, String> {
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = part.container.security_context.clone().unwrap_or_default();
    let number = |value: Option<i64>| value.map(|value| Int64Value { value });
    let asked = own.run_as_user.or(of_pod.run_as_user);
    let user = number(asked).or(given.image.uid);
    let name = if user.is_none() { given.image.username.clone() } else { String::new() };
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        refuse_root(&Key::of(pod), part, asked, given.image)?;
    }
    let mut namespaces = namespaces(spec, given.users);
    if let Some(target) = &given.target {
        namespaces.pid = NamespaceMode::Target.into();
        namespaces.target_id.clone_from(target);
    }
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths =
        |all: &[&str]| if unmasked { Vec::new() } else { all.iter().map(ToString::to_string).collect() };
    let privileged = own.privileged == Some(true);
    let seccomp = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let seccomp = seccomp.map(|one| (one.type_.as_str(), one.localhost_profile.clone().unwrap_or_default()));
    let apparmor = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref());
    let apparmor =
        apparmor.map(|one| (one.type_.as_str(), one.localhost_profile.clone().unwrap_or_default()));
    let profiles = setup.folder.join("seccomp");
    Ok(LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|all| Capability {
            add_capabilities: all.add.clone().unwrap_or_default(),
            drop_capabilities: all.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces),
        selinux_options: own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref()).map(selinux),
        run_as_group: number(own.run_as_group.or(of_pod.run_as_group))
            .filter(|_| user.is_some() || !name.is_empty()),
        run_as_user: user,
        run_as_username: name,
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&of_pod),
        supplemental_groups_policy: groups_policy(&of_pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(profile(seccomp, |name| profiles.join(name).display().to_string())),
        apparmor: apparmor.map(|one| profile(Some(one), str::to_owned)),
        ..LinuxContainerSecurityContext::default()
    })
}

fn profile(asked: Option<(&str, String)>, local: impl Fn(&str) -> String) -> SecurityProfile {
    use security_profile::ProfileType;
    let (kind, name) = match asked {
        Some(("RuntimeDefault", _)) => (ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", name)) => (ProfileType::Localhost, local(&name)),
        _ => (ProfileType::Unconfined, String::new()),
    };
    SecurityProfile { profile_type: kind.into(), localhost_ref: name }
}

/// `runAsNonRoot`, as a kubelet takes it.
fn refuse_root(key: &Key, part: &Part<'_>, asked: Option<i64>, image: &Image) -> Result<(), String> {
    let of = format!("(pod: \"{}\", container: {})", key.words(), part.container.name);
    match (asked, &image.uid, image.username.as_str()) {
        (Some(0), ..) => Err(format!("container's runAsUser breaks non-root policy {of}")),
        (None, Some(user), _) if user.value == 0 => {
            Err(format!("container has runAsNonRoot and image will run as root {of}"))
        }
        (None, None, name) if !name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {of}"
        )),
        (None, None, _) => Err(format!("container has runAsNonRoot and image will run as root {of}")),
        _ => Ok(()),
    }
}

/// The path in a volume that a mount means; `None` for its root.
///
/// # Errors
/// It leads out of the volume, or names what the environment has not.
pub(crate) fn sub_path(
    mount: &core::VolumeMount,
    env: &[(String, Vec<u8>)],
) -> Result<Option<String>, String> {
    let path = match (&mount.sub_path, &mount.sub_path_expr) {
        (_, Some(text)) if !text.is_empty() => {
            let missing = std::cell::Cell::new(false);
            let path = expand(text, |name| {
                let found = env.iter().find(|(known, _)| known == name);
                missing.set(missing.get() || found.is_none());
                found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            });
            if missing.get() {
                return Err(format!(
                    "missing value for {:?}",
                    mount.sub_path_expr.as_deref().unwrap_or_default()
                ));
            }
            path
        }
        (Some(path), _) if !path.is_empty() => path.clone(),
        _ => return Ok(None),
    };
    if path.starts_with('/') {
        return Err(format!("error SubPath `{path}` must not be an absolute path"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{path}`: must not contain '..'"));
    }
    Ok(Some(path))
}

/// The port that a probe or a hook means.
pub(crate) fn port(
    container: &core::Container,
    port: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString,
) -> Result<u16, String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("couldn't find port: {port:?} in container {}", container.name))
}

/// What an ephemeral container is to see the processes of.
pub(crate) fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let added = pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
    added
        .iter()
        .find(|one| one.name == name)?
        .target_container_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// Whether the pod has a container of this name.
pub(crate) fn has(pod: &Pod, name: &str) -> bool {
    fields::container(pod, name).is_some()
        || super::spec::parts(pod).iter().any(|part| part.container.name == name)
}
