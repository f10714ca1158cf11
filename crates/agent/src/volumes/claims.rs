//! Volumes that pods have by a claim, named or made for the pod, and those of a driver that the pod's own spec describes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;
use tokio::time::Instant;

use super::csi::{self, Csi, Mounted, Wanted};
use super::{Failed, Source, Volumes, paths};
use crate::agent::Agent;
use crate::names::Key;

/// A volume of a claim, or of a driver.
///
/// # Errors
/// It cannot be had now: in a kubelet's words.
pub(super) async fn have(
    agent: &Arc<Agent>,
    key: &Key,
    pod: &Arc<Pod>,
    volume: &Volume,
    all: &mut Volumes,
) -> Result<Source, Failed> {
    let mounted = agent.csi.mounted(&key.uid, &volume.name);
    if let Some(source) = &volume.csi {
        let read_only = source.read_only == Some(true);
        if let Some(there) = mounted.filter(|there| !is_due(there)) {
            return Ok(of(there, read_only, all));
        }
        let there = csi::mount(agent, key, pod, Wanted::inline(key, &volume.name, source)).await?;
        return Ok(of(there, read_only, all));
    }
    let (claim_name, read_only) = match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => (claim.claim_name.clone(), claim.read_only == Some(true)),
        _ => (format!("{}-{}", key.name.name, volume.name), false),
    };
    let claim = agent.claims.get(key, &claim_name).await;
    if let Some(there) = mounted.filter(|there| !is_due(there)) {
        // What a pod has stays, whatever becomes of its claim.
        if let Ok(Some(claim)) = &claim
            && csi::is_pending(claim)
        {
            all.stale = grow(agent, pod, volume, claim, &there.path).await.err().or(all.stale.take());
        }
        return Ok(of(there, read_only, all));
    }
    let wrong = |why: &str| {
        unprocessed(&volume.name, &format!("error processing PVC {}/{claim_name}: {why}", key.name.namespace))
    };
    let claim = claim.map_err(|why| wrong(&why))?;
    let not_found =
        format!("failed to fetch PVC from API server: persistentvolumeclaims {claim_name:?} not found");
    let claim = claim.ok_or_else(|| wrong(&not_found).later())?;
    if volume.ephemeral.is_some() && !is_owned(&claim, &key.uid) {
        let why = format!(
            "PVC {}/{claim_name} was not created for pod {} (pod is not owner)",
            key.name.namespace, key.name
        );
        return Err(unprocessed(&volume.name, &why));
    }
    let bound = bound(&claim).map_err(|why| wrong(why).later())?;
    let object = object(agent, bound).await.map_err(|why| wrong(&why))?;
    fits(pod, volume, &object).map_err(|why| unprocessed(&volume.name, &why))?;
    is_of(bound, &object, &claim).map_err(|why| wrong(&why).later())?;
    match Wanted::of_volume(&volume.name, &object, read_only) {
        Some(wanted) => {
            let there = csi::mount(agent, key, pod, wanted).await?;
            if csi::is_pending(&claim) {
                all.stale = grow(agent, pod, volume, &claim, &there.path).await.err().or(all.stale.take());
            }
            Ok(of(there, read_only, all))
        }
        None => of_node(agent, key, pod, volume, &object, read_only).await,
    }
}

/// What is there stays where its driver was asked for it once more and refused; it holds up nothing of its pod.
///
/// # Errors
/// That of before: nothing is there.
pub(super) fn stays(
    csi: &Csi,
    key: &Key,
    volume: &Volume,
    failed: Failed,
    all: &mut Volumes,
) -> Result<Source, Failed> {
    let Some(there) = csi.postpone(&key.uid, &volume.name) else { return Err(failed) };
    all.stale = Some(failed);
    let of_driver = volume.csi.as_ref().and_then(|source| source.read_only);
    let of_claim = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only);
    Ok(of(there, of_driver.or(of_claim) == Some(true), all))
}

fn is_due(there: &Mounted) -> bool {
    there.again.is_some_and(|again| again <= Instant::now())
}

/// What is mounted, for containers.
fn of(there: Mounted, read_only: bool, all: &mut Volumes) -> Source {
    if let Some(again) = there.again {
        let left = again.saturating_duration_since(Instant::now());
        all.again = Some(all.again.map_or(left, |again| again.min(left)));
    }
    if there.block { Source::Device(there.path, read_only) } else { Source::Path(there.path, read_only) }
}

/// A volume that cannot even be tried.
fn unprocessed(volume: &str, why: &str) -> Failed {
    Failed::new(format!(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]: {why}"
    ))
}

/// Whether a claim was made for a pod.
fn is_owned(claim: &PersistentVolumeClaim, uid: &str) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// The volume that a claim has.
fn bound(claim: &PersistentVolumeClaim) -> Result<&str, &'static str> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted");
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Bound") {
        return Err("PVC is not bound");
    }
    let name =
        claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
    name.ok_or("PVC has empty pvc.Spec.VolumeName")
}

async fn object(agent: &Agent, name: &str) -> Result<PersistentVolume, String> {
    let failed = |why: &dyn std::fmt::Display| format!("failed to fetch PV {name} from API server: {why}");
    let got = Api::<PersistentVolume>::all(agent.client.clone()).get_opt(name).await;
    let got = got.map_err(|error| failed(&client::causes(&error)))?;
    got.ok_or_else(|| failed(&format!("persistentvolumes {name:?} not found")))
}

/// Whether a volume knows itself to be its claim's.
fn is_of(name: &str, object: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let Some(claimed) = object.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    if claimed.uid == claim.metadata.uid {
        return Ok(());
    }
    let uid = |uid: &Option<String>| uid.clone().unwrap_or_default();
    Err(format!(
        "found PV object {name} but its pv.Spec.ClaimRef.UID {} does not point to claim.UID {}",
        uid(&claimed.uid),
        uid(&claim.metadata.uid)
    ))
}

/// Whether containers take the volume for what it is.
fn fits(pod: &Pod, volume: &Volume, object: &PersistentVolume) -> Result<(), String> {
    let is_block = object.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
    let spec = pod.spec.as_ref();
    let all =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    for container in all {
        let is_mounted = container.volume_mounts.iter().flatten().any(|one| one.name == volume.name);
        if is_block && is_mounted {
            return Err(format!(
                "volume {} has volumeMode Block, but is specified in volumeMounts",
                volume.name
            ));
        }
        let is_device = container.volume_devices.iter().flatten().any(|one| one.name == volume.name);
        if !is_block && is_device {
            return Err(format!(
                "volume {} has volumeMode Filesystem, but is specified in volumeDevices",
                volume.name
            ));
        }
    }
    Ok(())
}

/// A claim that waits for the node is brought to what its volume has.
async fn grow(
    agent: &Arc<Agent>,
    pod: &Pod,
    volume: &Volume,
    claim: &PersistentVolumeClaim,
    path: &Path,
) -> Result<(), Failed> {
    let Ok(name) = bound(claim) else { return Ok(()) };
    let object = object(agent, name).await.map_err(|why| unprocessed(&volume.name, &why))?;
    match Wanted::of_volume(&volume.name, &object, false) {
        Some(wanted) => csi::expand(agent, pod, claim, &wanted, path).await,
        None => Ok(()),
    }
}

/// A volume that is a path of the node.
async fn of_node(
    agent: &Arc<Agent>,
    key: &Key,
    pod: &Pod,
    volume: &Volume,
    object: &PersistentVolume,
    read_only: bool,
) -> Result<Source, Failed> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let failed = |why: &str| Failed::set_up(&name, why);
    let Some(spec) = &object.spec else { return Err(failed("the volume has no spec")) };
    if let Some(host) = &spec.host_path {
        paths::host(&host.path, host.type_.as_deref().unwrap_or_default()).map_err(|why| failed(&why))?;
        return Ok(Source::Path(host.path.clone().into(), read_only));
    }
    let Some(local) = &spec.local else {
        let kinds = serde_json::to_value(spec).unwrap_or_default();
        let kinds = kinds.as_object().into_iter().flatten().filter(|(_, value)| value.is_object());
        let kind = kinds
            .map(|(key, _)| key.clone())
            .find(|key| !matches!(key.as_str(), "capacity" | "claimRef" | "nodeAffinity"));
        let kind = kind.unwrap_or_else(|| "(none)".into());
        return Err(failed(&format!(
            "no volume plugin matched: sextant agent has no volumes of kind {kind}"
        )));
    };
    let path = PathBuf::from(&local.path);
    let there = std::fs::metadata(&path)
        .map_err(|error| failed(&format!("path {:?} does not exist: {error}", local.path)))?;
    if spec.volume_mode.as_deref() == Some("Block") {
        paths::host(&local.path, "BlockDevice").map_err(|why| failed(&why))?;
        return Ok(Source::Device(path, read_only));
    }
    if !there.is_dir() {
        let why = format!(
            "local.path {path:?} is no directory: sextant agent mounts no file systems of devices for local volumes"
        );
        return Err(failed(&why));
    }
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    if let Some(group) = context.and_then(|context| context.fs_group).filter(|_| !read_only) {
        let is_lazy = context.and_then(|all| all.fs_group_change_policy.as_deref()) == Some("OnRootMismatch");
        csi::share_local(agent, key, &volume.name, &path, group, is_lazy)
            .await
            .map_err(|why| failed(&why))?;
    }
    Ok(Source::Path(path, read_only))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_claim_has_its_volume_once_both_say_so() {
        let of = |claim: Value| bound(&serde_json::from_value(claim).unwrap()).map(str::to_owned);
        let whole = json!({"spec": {"volumeName": "pvc-1"}, "status": {"phase": "Bound"}});
        assert_eq!(of(whole.clone()), Ok("pvc-1".into()));
        assert_eq!(
            of(json!({"spec": {}, "status": {"phase": "Bound"}})),
            Err("PVC has empty pvc.Spec.VolumeName")
        );
        assert_eq!(
            of(json!({"spec": {"volumeName": "pvc-1"}, "status": {"phase": "Pending"}})),
            Err("PVC is not bound")
        );
        let mut going = whole;
        going["metadata"] = json!({"deletionTimestamp": "2026-11-27T00:00:00Z"});
        assert_eq!(of(going), Err("PVC is being deleted"));
    }

    #[test]
    fn what_is_there_stays_when_it_is_refused_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let (csi, mut all) = (Csi::new(dir.path()), Volumes::default());
        let key = Key { name: client::cache::Name::new("shop", "db-0"), uid: "u".into() };
        let volume = json!({"name": "v", "csi": {"driver": "d", "readOnly": true}});
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let refused = || Failed::set_up("v", "refused");
        stays(&csi, &key, &volume, refused(), &mut all).unwrap_err();
        let there = Mounted { path: "/v".into(), block: false, again: Some(Instant::now()) };
        assert!(is_due(&there) && all.stale.is_none());
        csi.set_mounted("u", "v", there);
        let source = stays(&csi, &key, &volume, refused(), &mut all).unwrap();
        assert_eq!(source, Source::Path("/v".into(), true));
        assert!(all.stale.is_some() && all.again.is_some_and(|again| !again.is_zero()));
        assert!(!is_due(&csi.mounted("u", "v").unwrap()), "it is not asked for at once");
    }

    #[test]
    fn devices_are_no_file_systems() {
        let pod = |container: Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap()
        };
        let volume: Volume = serde_json::from_value(json!({"name": "v"})).unwrap();
        let object = |mode: &str| serde_json::from_value(json!({"spec": {"volumeMode": mode}})).unwrap();
        let mounts = pod(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
        let devices = pod(json!({"name": "c", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}));
        assert!(fits(&mounts, &volume, &object("Filesystem")).is_ok());
        assert!(fits(&devices, &volume, &object("Block")).is_ok());
        assert_eq!(
            fits(&mounts, &volume, &object("Block")).unwrap_err(),
            "volume v has volumeMode Block, but is specified in volumeMounts"
        );
        assert_eq!(
            fits(&devices, &volume, &object("Filesystem")).unwrap_err(),
            "volume v has volumeMode Filesystem, but is specified in volumeDevices"
        );
    }
}
