//! The node's part of an expansion: the file system grows to what the volume has by now, and the claim says so.

use std::path::Path;
use std::sync::Arc;

use client::quantity;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::{CapacityRange, NodeExpandVolumeRequest};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::wanted::For;
use super::{Wanted, reach, record, words};
use crate::agent::Agent;
use crate::volumes::Failed;

/// The conditions that are about expansion.
const CONDITIONS: [&str; 4] =
    ["Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError"];

/// Whether the claim waits for the node.
pub(crate) fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let Some(status) = &claim.status else { return false };
    let step = status.allocated_resource_statuses.as_ref().and_then(|all| all.get("storage"));
    match step.map(String::as_str) {
        Some(step) => matches!(step, "NodeResizePending" | "NodeResizeInProgress"),
        None => {
            let all = status.conditions.iter().flatten();
            all.into_iter().any(|one| one.type_ == "FileSystemResizePending" && one.status == "True")
        }
    }
}

/// Has the driver make the file system as large as the volume.
///
/// # Errors
/// In a kubelet's words; the pod goes on with what it has.
pub(crate) async fn expand(
    agent: &Arc<Agent>,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
    wanted: &Wanted,
    path: &Path,
) -> Result<(), Failed> {
    let Some(bytes) = wanted.bytes else { return Ok(()) };
    let _turn = agent.csi.turn(&wanted.id).await;
    if let Some(why) = agent.csi.refused(&wanted.id) {
        return Err(why);
    }
    let growing = async {
        let endpoint = agent.csi.endpoint(&wanted.id.driver);
        let endpoint =
            endpoint.ok_or_else(|| (false, format!("driver {} is not there", wanted.id.driver)))?;
        let other = |why: String| (false, why);
        let driver = reach(&endpoint).await.map_err(|error| other(words(&error)))?;
        if !driver.serves_node(NodeCall::ExpandVolume) {
            return Ok(());
        }
        let begun = json!({"allocatedResourceStatuses": {"storage": "NodeResizeInProgress"}});
        write(agent, claim, begun).await.map_err(other)?;
        let staged = driver.serves_node(NodeCall::StageUnstageVolume);
        let staging = record::place(&agent.setup.folder, &wanted.id).join("globalmount");
        let request = NodeExpandVolumeRequest {
            volume_id: wanted.id.handle.clone(),
            volume_path: path.display().to_string(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            staging_target_path: if staged { staging.display().to_string() } else { String::new() },
            volume_capability: Some(wanted.capability(&driver, None).map_err(other)?),
            secrets: wanted.secrets(&agent.client, For::Expand).await.map_err(other)?,
        };
        driver.client.node_expand_volume(request).await.map(drop).map_err(|error| {
            use grpc::Code::{InvalidArgument, NotFound, OutOfRange};
            (matches!(error.code(), InvalidArgument | NotFound | OutOfRange), words(&error))
        })
    };
    let failed = |why: &str| Failed {
        reason: "VolumeResizeFailed",
        ..Failed::new(format!(
            "NodeExpandVolume.NodeExpandVolume failed for volume {:?} : {why}",
            wanted.name
        ))
    };
    if let Err((is_infeasible, why)) = growing.await {
        let mut status =
            json!({"conditions": [{"type": "NodeResizeError", "status": "True", "message": why}]});
        if is_infeasible {
            status["allocatedResourceStatuses"] = json!({"storage": "NodeResizeInfeasible"});
        }
        // That it failed is told in any case.
        let _told = write(agent, claim, status).await;
        let failed = failed(&why);
        agent.csi.refuse(&wanted.id, failed.clone());
        return Err(failed);
    }
    let gone: Vec<Value> = CONDITIONS.iter().map(|kind| json!({"$patch": "delete", "type": kind})).collect();
    let grown = json!({
        "capacity": {"storage": quantity::of(bytes)},
        "allocatedResourceStatuses": {"storage": null},
        "conditions": gone,
    });
    write(agent, claim, grown).await.map_err(|why| failed(&why))?;
    let told =
        format!("MountVolume.NodeExpandVolume succeeded for volume {:?} {}", wanted.name, agent.setup.node);
    agent.events.normal(pod, "FileSystemResizeSuccessful", told.clone());
    agent.events.normal(claim, "FileSystemResizeSuccessful", told);
    Ok(())
}

async fn write(agent: &Agent, claim: &PersistentVolumeClaim, status: Value) -> Result<(), String> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(agent.client.clone(), &claim.namespace().unwrap_or_default());
    let patch = Patch::Strategic(json!({"metadata": {"uid": claim.uid()}, "status": status}));
    let written = api.patch_status(&claim.name_any(), &PatchParams::default(), &patch).await;
    written.map(drop).map_err(|error| format!("cannot write the claim's status: {}", client::causes(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::csi::{Csi, Id};

    #[test]
    fn who_has_refused_is_not_asked_again_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let csi = Csi::new(dir.path());
        let [one, other] = ["1", "2"].map(|handle| Id { driver: "d".into(), handle: handle.into() });
        csi.refuse(&one, Failed::new("not now".into()));
        assert_eq!(csi.refused(&one).unwrap().words, "not now");
        assert!(csi.refused(&other).is_none());
    }

    #[test]
    fn a_claim_waits_for_the_node_when_it_says_so() {
        let waits = |status: Value| is_pending(&serde_json::from_value(json!({"status": status})).unwrap());
        let pending = json!([{"type": "FileSystemResizePending", "status": "True"}]);
        assert!(waits(json!({"conditions": pending})));
        assert!(waits(json!({"allocatedResourceStatuses": {"storage": "NodeResizePending"}})));
        assert!(!waits(
            json!({"conditions": pending, "allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}})
        ));
        assert!(!waits(json!({"allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"}})));
        assert!(!waits(json!({})));
    }
}
