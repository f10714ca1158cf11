//! The identity service.

use grpc::{Code, Failure, Status};

use super::pool::Pool;
use super::{Service, block};
use crate::contract::v1::plugin_capability::{service, volume_expansion};
use crate::contract::v1::*;

/// What the driver is called.
pub const NAME: &str = "csi.sextant.dev";

impl Identity for Service {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Result<GetPluginInfoResponse, Status> {
        let vendor_version = env!("CARGO_PKG_VERSION").into();
        Ok(GetPluginInfoResponse { name: NAME.into(), vendor_version, ..Default::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Result<GetPluginCapabilitiesResponse, Status> {
        use service::Type as Has;
        let services = [
            Has::ControllerService,
            Has::VolumeAccessibilityConstraints,
            Has::GroupControllerService,
            Has::SnapshotMetadataService,
        ];
        let mut capabilities = services.map(PluginCapability::service).to_vec();
        capabilities.push(PluginCapability::expansion(volume_expansion::Type::Online));
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    /// Healthy as long as its pools can be asked.
    async fn probe(&self, _: ProbeRequest) -> Result<ProbeResponse, Status> {
        let asked = block(self, |driver| driver.pools.iter().try_for_each(Pool::probe)).await;
        asked.map_err(|error| Failure { code: Code::FailedPrecondition, ..error })?;
        Ok(ProbeResponse { ready: Some(BoolValue { value: true }) })
    }
}
