//! A whole driver: volumes in memory, as large as was asked for, empty each time they are published.
//! `cargo run -p csi --example scratch -- /run/scratch/csi.sock`

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::volume_capability::AccessType;
use csi::contract::v1::*;
use csi::contract::{Code, Failure};
use csi::plugin::Services;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

type Answer<T> = Result<T, grpc::Status>;

/// Volumes by id, which is their name, and their bytes.
#[derive(Default)]
struct Scratch(Mutex<BTreeMap<String, i64>>);

impl Scratch {
    fn volumes(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self, id: &str) -> Result<i64, Failure> {
        self.volumes().get(id).copied().ok_or_else(|| Failure::not_found("volume", id))
    }
}

impl Identity for Scratch {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Answer<GetPluginInfoResponse> {
        let (name, vendor_version) = ("scratch.example.com".into(), "1.0.0".into());
        Ok(GetPluginInfoResponse { name, vendor_version, ..Default::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Answer<GetPluginCapabilitiesResponse> {
        let capabilities = vec![PluginCapability::service(Service::ControllerService)];
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    async fn probe(&self, _: ProbeRequest) -> Answer<ProbeResponse> {
        Ok(ProbeResponse { ready: Some(BoolValue { value: true }) })
    }
}

impl Controller for Scratch {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let capabilities = vec![ControllerServiceCapability::of(Call::CreateDeleteVolume)];
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn create_volume(&self, request: CreateVolumeRequest) -> Answer<CreateVolumeResponse> {
        let asked = request.capacity_range.unwrap_or_default().required_bytes.max(1 << 20);
        let capacity_bytes = *self.volumes().entry(request.name.clone()).or_insert(asked);
        if capacity_bytes != asked {
            return Err(Failure::exists(format!("{:?} has {capacity_bytes} bytes", request.name)).into());
        }
        let volume = Volume { volume_id: request.name, capacity_bytes, ..Default::default() };
        Ok(CreateVolumeResponse { volume: Some(volume) })
    }

    async fn delete_volume(&self, request: DeleteVolumeRequest) -> Answer<DeleteVolumeResponse> {
        self.volumes().remove(&request.volume_id);
        Ok(DeleteVolumeResponse {})
    }

    async fn validate_volume_capabilities(
        &self,
        request: ValidateVolumeCapabilitiesRequest,
    ) -> Answer<ValidateVolumeCapabilitiesResponse> {
        self.bytes(&request.volume_id)?;
        Ok(ValidateVolumeCapabilitiesResponse { message: "publish it, and see".into(), ..Default::default() })
    }
}

impl Node for Scratch {
    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Answer<NodeGetInfoResponse> {
        Ok(NodeGetInfoResponse { node_id: "here".into(), ..Default::default() })
    }

    async fn node_get_capabilities(
        &self,
        _: NodeGetCapabilitiesRequest,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        Ok(NodeGetCapabilitiesResponse::default())
    }

    async fn node_publish_volume(
        &self,
        request: NodePublishVolumeRequest,
    ) -> Answer<NodePublishVolumeResponse> {
        let (bytes, path) = (self.bytes(&request.volume_id)?, &request.target_path);
        let access = request.volume_capability.and_then(|capability| capability.access_type);
        if !matches!(access, Some(AccessType::Mount(_))) || request.readonly {
            return Err(
                Failure::invalid("volume_capability", "only file systems to write to are had here").into()
            );
        }
        // Published already: nobody is to lose what is there.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if !mounts.contains(&format!(" {path} ")) {
            let _there_already = std::fs::create_dir(path);
            let size = std::ffi::CString::new(format!("size={bytes}")).unwrap_or_default();
            mount("scratch", path, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, Some(&*size))
                .map_err(|e| Failure::internal(format!("cannot mount {path}: {e}")))?;
        }
        Ok(NodePublishVolumeResponse {})
    }

    async fn node_unpublish_volume(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Answer<NodeUnpublishVolumeResponse> {
        // Not there, or not mounted: it is done.
        if unmount(&request.target_path, UnmountFlags::NOFOLLOW) == Err(rustix::io::Errno::BUSY) {
            return Err(Failure::new(Code::FailedPrecondition, "somebody has files open there").into());
        }
        let _not_there = std::fs::remove_dir(&request.target_path);
        Ok(NodeUnpublishVolumeResponse {})
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let socket = std::env::args().nth(1).unwrap_or_else(|| "/run/scratch/csi.sock".into());
    let driver = Arc::new(Scratch::default());
    let services = Services::new().identity(driver.clone()).controller(driver.clone()).node(driver);
    services.serve(Path::new(&socket), std::future::pending(), || println!("serves on {socket}")).await
}
