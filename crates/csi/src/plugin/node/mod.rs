//! The node service: volumes where workloads look for them.

mod attach;
mod options;
mod publish;
mod stage;
mod stats;
mod uses;

use grpc::{Failure, Status};

use super::controller::here;
use super::{Service, answer};
use crate::contract::v1::node_service_capability::rpc;
use crate::contract::v1::*;
pub(super) use uses::{Uses, exercise};

impl Node for Service {
    async fn node_stage_volume(
        &self,
        request: NodeStageVolumeRequest,
    ) -> Result<NodeStageVolumeResponse, Status> {
        answer(self, move |driver| {
            stage::stage(driver, &request)?;
            Ok(NodeStageVolumeResponse {})
        })
        .await
    }

    async fn node_unstage_volume(
        &self,
        request: NodeUnstageVolumeRequest,
    ) -> Result<NodeUnstageVolumeResponse, Status> {
        answer(self, move |driver| {
            stage::unstage(driver, &request)?;
            Ok(NodeUnstageVolumeResponse {})
        })
        .await
    }

    async fn node_publish_volume(
        &self,
        request: NodePublishVolumeRequest,
    ) -> Result<NodePublishVolumeResponse, Status> {
        answer(self, move |driver| {
            publish::publish(driver, &request)?;
            Ok(NodePublishVolumeResponse {})
        })
        .await
    }

    async fn node_unpublish_volume(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Result<NodeUnpublishVolumeResponse, Status> {
        answer(self, move |driver| {
            publish::unpublish(driver, &request)?;
            Ok(NodeUnpublishVolumeResponse {})
        })
        .await
    }

    async fn node_get_volume_stats(
        &self,
        request: NodeGetVolumeStatsRequest,
    ) -> Result<NodeGetVolumeStatsResponse, Status> {
        answer(self, move |driver| stats::stats(driver, &request)).await
    }

    /// ControllerExpandVolume has done it already, where it could: the volume is on this machine.
    async fn node_expand_volume(
        &self,
        request: NodeExpandVolumeRequest,
    ) -> Result<NodeExpandVolumeResponse, Status> {
        answer(self, move |driver| {
            let _turn = driver.turn(&request.volume_id)?;
            let (pool, kept) = driver.volume(&request.volume_id)?;
            let volume = &kept.record;
            let used = driver.uses.of(&volume.id);
            let is_there = used.as_ref().is_some_and(|used| used.is_at(&request.volume_path));
            if !is_there {
                return Err(not_at(&volume.id, &request.volume_path));
            }
            let backend = pool.backend_of(volume)?;
            backend.expand(
                &kept.place,
                volume,
                volume.capacity,
                used.as_ref().and_then(|used| used.root()),
            )?;
            Ok(NodeExpandVolumeResponse {
                capacity_bytes: i64::try_from(volume.capacity).unwrap_or(i64::MAX),
            })
        })
        .await
    }

    async fn node_get_capabilities(
        &self,
        _: NodeGetCapabilitiesRequest,
    ) -> Result<NodeGetCapabilitiesResponse, Status> {
        use rpc::Type::{
            ExpandVolume, GetVolumeStats, SingleNodeMultiWriter, StageUnstageVolume, VolumeCondition,
        };
        let all = [StageUnstageVolume, GetVolumeStats, ExpandVolume, VolumeCondition, SingleNodeMultiWriter];
        Ok(NodeGetCapabilitiesResponse { capabilities: all.map(NodeServiceCapability::of).to_vec() })
    }

    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Result<NodeGetInfoResponse, Status> {
        Ok(NodeGetInfoResponse {
            node_id: self.0.node.clone(),
            max_volumes_per_node: 0,
            accessible_topology: Some(here(&self.0)),
        })
    }
}

/// A volume is not where it is said to be.
fn not_at(volume: &str, path: &str) -> Failure {
    let message = format!("volume {volume} is not at {}", crate::contract::shown(path));
    Failure { field: Some("volume_path".into()), ..Failure::new(grpc::Code::NotFound, message) }
}
