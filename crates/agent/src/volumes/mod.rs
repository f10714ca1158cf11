//! Volumes of pods: folders of the agent's own, below `pods/UID/volumes`, and paths of the node.
//!
//! Each is made, or brought up to date, whenever the pod is looked at; so one that a reboot has emptied comes back, and one whose
//! objects have changed follows. Their inverse is [`remove`]: it takes all that is mounted below the pod's folder away first, and
//! deletes nothing while something is. What drivers have mounted is theirs to take back ([`csi`]).

mod claims;
pub(crate) mod csi;
mod files;
mod paths;
mod payload;
mod remove;
mod sub_paths;
mod writer;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::contract::v1::{Device, IdMapping, ImageSpec, Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use kube::Resource as _;

use crate::agent::Agent;
use crate::events::PartOf;
use crate::names::Key;
use crate::pod::containers::sub_path;
use crate::pod::images::Wanted;

pub(crate) use files::{beginning, hosts, last_words, open, write_record};
pub(crate) use payload::Tokens;
pub(crate) use remove::{detach_below, remove, uids};

/// What a volume is for a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A path of the node; whether nobody may write to it.
    Path(PathBuf, bool),
    /// An image.
    Image(ImageSpec),
    /// A device of the node; whether nobody may write to it.
    Device(PathBuf, bool),
}

/// A pod's volumes, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volumes {
    sources: BTreeMap<String, Source>,
    /// When one of them has to be looked at again.
    pub(crate) again: Option<Duration>,
    /// One that could not be brought up to date: it stays as it was.
    pub(crate) stale: Option<Failed>,
}

/// Why a volume cannot be had.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// The reason of the event.
    pub(crate) reason: &'static str,
    /// As kubelets tell it.
    pub(crate) words: String,
    /// Whether others are at it, so that it may pass by itself: it is told if it does not.
    pub(crate) waits: bool,
}

impl Failed {
    /// It cannot be mounted.
    pub(crate) fn new(words: String) -> Self {
        Self { reason: "FailedMount", words, waits: false }
    }

    /// It cannot be set up for the pod.
    pub(crate) fn set_up(volume: &str, why: &str) -> Self {
        Self::new(format!("MountVolume.SetUp failed for volume {volume:?} : {why}"))
    }

    /// It may pass by itself.
    pub(crate) fn later(self) -> Self {
        Self { waits: true, ..self }
    }
}

/// The pod's own folder in the agent's.
pub(crate) fn folder(agent: &Path, uid: &str) -> PathBuf {
    agent.join("pods").join(uid)
}

/// Makes all volumes of a pod, and brings them up to date.
pub(crate) async fn prepare(agent: &Arc<Agent>, pod: &Arc<Pod>) -> Result<Volumes, Failed> {
    let key = Key::of(pod);
    let mut all = Volumes::default();
    let named = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    for volume in named.into_iter().flatten() {
        let is_of_claim = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
        let source = if is_of_claim || volume.csi.is_some() {
            let had = claims::have(agent, &key, pod, volume, &mut all).await;
            had.or_else(|failed| claims::stays(&agent.csi, &key, volume, failed, &mut all))?
        } else {
            let made = one(agent, &key, pod, volume, &mut all).await;
            made.map_err(|why| Failed::set_up(&volume.name, &why))?
        };
        all.sources.insert(volume.name.clone(), source);
    }
    Ok(all)
}

async fn one(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    volume: &Volume,
    all: &mut Volumes,
) -> Result<Source, String> {
    let folder = folder(&agent.setup.folder, &key.uid).join("volumes");
    let place = |kind: &str| folder.join(format!("kubernetes.io~{kind}")).join(&volume.name);
    let group =
        pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|one| one.fs_group);
    if let Some(empty) = &volume.empty_dir {
        let path = place("empty-dir");
        return paths::empty(&path, empty, group).map(|()| Source::Path(path, false));
    }
    if let Some(host) = &volume.host_path {
        paths::host(&host.path, host.type_.as_deref().unwrap_or_default())?;
        return Ok(Source::Path(host.path.clone().into(), false));
    }
    if let Some(image) = &volume.image {
        // The pod is looked at often; who pulls always does so once, and what runs does not wait for a registry.
        if let Some(Some(had)) = agent.with_memory(key, |memory| memory.images.get(&volume.name).cloned()) {
            return Ok(Source::Image(had));
        }
        let reference = image.reference.clone().unwrap_or_default();
        let wanted = Wanted {
            agent,
            pod,
            of: PartOf(pod.object_ref(&())),
            sandbox: &cri::contract::v1::PodSandboxConfig::default(),
            image: &reference,
            policy: image.pull_policy.as_deref(),
        };
        let there = wanted.have().await.map_err(|missing| missing.waiting.message)?;
        let had = ImageSpec { image: there.id, user_specified_image: reference, ..ImageSpec::default() };
        agent.with_memory(key, |memory| memory.images.insert(volume.name.clone(), had.clone()));
        return Ok(Source::Image(had));
    }
    let (kind, in_memory) = match volume {
        one if one.config_map.is_some() => ("configmap", false),
        one if one.secret.is_some() => ("secret", true),
        one if one.downward_api.is_some() => ("downward-api", false),
        one if one.projected.is_some() => ("projected", true),
        _ => return Err(unknown(volume)),
    };
    let path = place(kind);
    let payload = match payload::of(agent, key, pod, volume, &mut all.again).await {
        Ok(payload) => payload,
        // What a pod has stays as it was, and holds up nothing of it.
        Err(why) if path.join("..data").exists() => {
            all.stale = Some(Failed::set_up(&volume.name, &why));
            return Ok(Source::Path(path, true));
        }
        Err(why) => return Err(why),
    };
    paths::directory(&path, in_memory.then_some(paths::Memory { size: None, mode: c"0755", group: None }))?;
    writer::write(&path, &payload, group).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    Ok(Source::Path(path, true))
}

/// What of a volume this agent has not.
fn unknown(volume: &Volume) -> String {
    let kinds = serde_json::to_value(volume).unwrap_or_default();
    let kind =
        kinds.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).find(|key| *key != "name");
    format!("no volume plugin matched: sextant agent has no volumes of kind {}", kind.unwrap_or("(none)"))
}

/// A container's mounts.
///
/// # Errors
/// In a kubelet's words (`CreateContainerConfigError`).
pub(crate) fn mounts(
    agent: &Agent,
    pod: &Pod,
    container: &Container,
    volumes: &Volumes,
    env: &[(String, Vec<u8>)],
) -> Result<Vec<Mount>, String> {
    let key = Key::of(pod);
    let mut mounts = Vec::new();
    for (index, wish) in container.volume_mounts.iter().flatten().enumerate() {
        let missing =
            || format!("cannot find volume {:?} to mount into container {:?}", wish.name, container.name);
        let source = volumes.sources.get(&wish.name).ok_or_else(missing)?;
        let inner = sub_path(wish, env)?;
        let mut mount = Mount {
            container_path: absolute(&wish.mount_path),
            readonly: wish.read_only == Some(true),
            propagation: propagation(wish.mount_propagation.as_deref()),
            recursive_read_only: matches!(wish.recursive_read_only.as_deref(), Some("Enabled")),
            uid_mappings: Vec::<IdMapping>::new(),
            ..Mount::default()
        };
        match source {
            Source::Device(..) => {
                return Err(format!("volumeMounts[{index}].name: volume {:?} is a block device", wish.name));
            }
            Source::Image(image) => {
                mount.image = Some(image.clone());
                mount.image_sub_path = inner.unwrap_or_default();
                mount.readonly = true;
            }
            Source::Path(path, is_fixed) => {
                mount.readonly |= is_fixed;
                mount.host_path = match inner {
                    None => path.display().to_string(),
                    Some(inner) => {
                        let at =
                            folder(&agent.setup.folder, &key.uid).join("volume-subpaths").join(&wish.name);
                        let at = at.join(&container.name).join(index.to_string());
                        let bound = sub_paths::bind(path, &inner, &at);
                        bound.map_err(|why| {
                            format!(
                                "failed to prepare subPath for volumeMount {:?} of container {:?}: {why}",
                                wish.name, container.name
                            )
                        })?;
                        at.display().to_string()
                    }
                };
            }
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// A container's block devices.
///
/// # Errors
/// In a kubelet's words (`CreateContainerConfigError`).
pub(crate) fn devices(container: &Container, volumes: &Volumes) -> Result<Vec<Device>, String> {
    let device =
        container.volume_devices.iter().flatten().map(|wish| match volumes.sources.get(&wish.name) {
            Some(Source::Device(path, is_fixed)) => Ok(Device {
                container_path: absolute(&wish.device_path),
                host_path: path.display().to_string(),
                permissions: if *is_fixed { "r" } else { "mrw" }.into(),
            }),
            _ => {
                Err(format!("cannot find volume {:?} to pass into container {:?}", wish.name, container.name))
            }
        });
    device.collect()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn propagation(asked: Option<&str>) -> i32 {
    match asked {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    }
    .into()
}

/// Gives a file or directory to the pod's group, with what the group may do.
fn share(path: &Path, group: i64, mode: u32) -> std::io::Result<()> {
    let group = u32::try_from(group).map_err(std::io::Error::other)?;
    chown(path, None, Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
