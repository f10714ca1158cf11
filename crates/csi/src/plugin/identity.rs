//! The identity service.

use grpc::Status;

use super::Service;
use super::block;
use crate::contract::v1::plugin_capability::{self, service, volume_expansion};
use crate::contract::v1::*;

/// What the driver is called.
pub const NAME: &str = "csi.sextant.dev";

impl Identity for Service {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Result<GetPluginInfoResponse, Status> {
        Ok(GetPluginInfoResponse {
            name: NAME.into(),
            vendor_version: env!("CARGO_PKG_VERSION").into(),
            ..GetPluginInfoResponse::default()
        })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Result<GetPluginCapabilitiesResponse, Status> {
        use service::Type::{
            ControllerService, GroupControllerService, SnapshotMetadataService,
            VolumeAccessibilityConstraints,
        };
        let services = [
            ControllerService,
            VolumeAccessibilityConstraints,
            GroupControllerService,
            SnapshotMetadataService,
        ];
        let services = services
            .map(|kind| plugin_capability::Type::Service(plugin_capability::Service { r#type: kind.into() }));
        let online = plugin_capability::VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
        let all = services.into_iter().chain([plugin_capability::Type::VolumeExpansion(online)]);
        let capabilities = all.map(|kind| PluginCapability { r#type: Some(kind) }).collect();
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    /// Healthy as long as its pools can be asked.
    async fn probe(&self, _: ProbeRequest) -> Result<ProbeResponse, Status> {
        block(self, |driver| driver.pools.iter().try_for_each(|pool| pool.available().map(drop)))
            .await
            .map_err(|error| Status::new(grpc::Code::FailedPrecondition, error.message))?;
        Ok(ProbeResponse { ready: Some(BoolValue { value: true }) })
    }
}
