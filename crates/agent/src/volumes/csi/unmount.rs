//! Volumes are taken back, by what was written down of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csi::caller::Driver;
use csi::contract::v1::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};
use kube::Client;

use super::record::{self, Held, Id, Published};
use super::{Csi, attach, reach, words};
use crate::agent::Agent;
use crate::volumes::detach_below;

/// Takes back all that drivers have made for a pod, of which nothing runs any more.
///
/// # Errors
/// What drivers say, in a kubelet's words: that is to be tried again.
pub(crate) async fn release(agent: &Agent, uid: &str) -> Result<(), String> {
    release_of(&agent.csi, Some(&agent.client), uid).await
}

async fn release_of(csi: &Csi, client: Option<&Client>, uid: &str) -> Result<(), String> {
    let published = record::of_pod(&csi.folder, uid);
    if !published.is_empty() {
        // What is mounted of a volume once more would hold it.
        detach_below(&super::super::folder(&csi.folder, uid).join("volume-subpaths"))?;
    }
    let mut failed = Vec::new();
    for (place, one) in published {
        failed.extend(unpublish(csi, client, &place, &one).await.err());
    }
    csi.forget(uid);
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// Takes back what drivers have made for all pods of an agent that does not run, without an API server. Nothing of those pods may run
/// any more, and the drivers have to. Returns what could not be taken back.
pub async fn release_all(folder: &Path) -> Vec<String> {
    let csi = Csi::new(folder);
    let mut failed = Vec::new();
    for uid in super::users(folder) {
        failed.extend(release_of(&csi, None, &uid).await.err());
    }
    for held in record::held(folder) {
        let _turn = csi.turn(&held.id).await;
        failed.extend(let_go(&csi, None, &held.id).await.err());
    }
    failed
}

/// Unpublishes a volume; and takes it from the node, if no other pod has it.
async fn unpublish(csi: &Csi, client: Option<&Client>, place: &Path, one: &Published) -> Result<(), String> {
    let _turn = csi.turn(&one.id).await;
    // Somebody may have done so meanwhile.
    let Some(one) = record::read::<Published>(place) else { return Ok(()) };
    let name = record::name_of(place);
    let failed = |why: &str| format!("UnmountVolume.TearDown failed for volume {name:?} : {why}");
    let driver = driver(csi, &one.id, &one.endpoint).await.map_err(|why| failed(&why))?;
    let target = place.join(&one.point);
    let (volume_id, target_path) = (one.id.handle.clone(), target.display().to_string());
    match driver.client.node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id, target_path }).await {
        Err(error) if error.code() != grpc::Code::NotFound => return Err(failed(&words(&error))),
        _ => {}
    }
    record::remove_point(&target).map_err(|error| failed(&error.to_string()))?;
    record::remove(place).map_err(|error| failed(&error.to_string()))?;
    // By now no pod tells of it, and who waits for this may be gone before it is done.
    csi.untidy.notify_one();
    let_go(csi, client, &one.id).await
}

/// Takes a volume from the node, if no pod has it. Its turn is the caller's.
async fn let_go(csi: &Csi, client: Option<&Client>, id: &Id) -> Result<(), String> {
    let place = record::place(&csi.folder, id);
    let Some(held) = record::read::<Held>(&place) else { return Ok(()) };
    if record::all(&csi.folder).iter().any(|(.., one)| one.id == *id) {
        return Ok(());
    }
    let failed = |why: &str| format!("UnmountDevice failed for volume {:?} : {why}", id.handle);
    if held.staged {
        let driver = driver(csi, id, &held.endpoint).await.map_err(|why| failed(&why))?;
        let staging = place.join("globalmount");
        let (volume_id, staging_target_path) = (id.handle.clone(), staging.display().to_string());
        let request = NodeUnstageVolumeRequest { volume_id, staging_target_path };
        match driver.client.node_unstage_volume(request).await {
            Err(error) if error.code() != grpc::Code::NotFound => return Err(failed(&words(&error))),
            _ => {}
        }
        record::remove_point(&staging).map_err(|error| failed(&error.to_string()))?;
    }
    // Without an API server the attachment stays, until an agent finds that nothing tells of it.
    if let (Some(name), Some(client)) = (&held.attachment, client) {
        attach::detach(csi, client, id, name).await?;
    }
    record::remove(&place).map_err(|error| failed(&error.to_string()))
}

/// The driver where it is registered now, or where it was.
async fn driver(csi: &Csi, id: &Id, before: &Path) -> Result<Driver, String> {
    let endpoint: PathBuf = csi.endpoint(&id.driver).unwrap_or_else(|| before.to_owned());
    let reached = reach(&endpoint).await;
    let driver =
        reached.map_err(|error| format!("driver {} cannot be reached: {}", id.driver, words(&error)))?;
    if driver.name != id.driver {
        return Err(format!("driver name {} not found in the list of registered CSI drivers", id.driver));
    }
    Ok(driver)
}

/// Looks for what no pod has any more, now, whenever a driver has come, and again while something is left: for ever.
pub(crate) async fn tidy(agent: &Arc<Agent>) -> ! {
    let mut told = BTreeSet::new();
    let mut is_swept = false;
    loop {
        let mut failed = BTreeSet::new();
        for (key, ..) in record::all(&agent.csi.folder) {
            // Those that the runtime has nothing of any more are known by this alone.
            if agent.pod(&key).is_none() {
                agent.queue.add(key);
            }
        }
        for held in record::held(&agent.csi.folder) {
            let _turn = agent.csi.turn(&held.id).await;
            failed.extend(let_go(&agent.csi, Some(&agent.client), &held.id).await.err());
        }
        if !is_swept {
            let swept = attach::sweep(&agent.csi, &agent.client, &agent.setup.node).await;
            is_swept = swept.is_ok();
            failed.extend(swept.err());
        }
        for why in failed.difference(&told) {
            eprintln!("sextant agent: warning: cannot take a volume back, and tries again: {why}");
        }
        let wait = if failed.is_empty() { None } else { Some(super::CALL / 12) };
        told = failed;
        match wait {
            None => agent.csi.untidy.notified().await,
            Some(wait) => drop(tokio::time::timeout(wait, agent.csi.untidy.notified()).await),
        }
    }
}
