//! A driver that attaches and stages, has nothing behind it, notes every call, and fails where it is told to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use csi::contract::v1::controller_service_capability::rpc::Type as ControllerCall;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::volume_capability::AccessType;
use csi::contract::v1::*;
use csi::plugin::Services;
use grpc::{Code, Status};

use crate::stands::{Answer, Named, Thread};

/// What a driver can do, what it has been asked, and which calls fail.
pub(crate) struct Driver {
    can: Vec<ControllerCall>,
    calls: Mutex<Vec<String>>,
    failing: Mutex<BTreeMap<&'static str, Code>>,
}

impl Driver {
    /// Notes a call, with what of it is looked at.
    fn called(&self, name: &'static str, what: &str) -> Answer<()> {
        self.calls.lock().unwrap().push(format!("{name} {what}"));
        match self.failing.lock().unwrap().get(name) {
            Some(code) => Err(Status::new(*code, format!("{name} is to fail"))),
            None => Ok(()),
        }
    }
}

/// One that serves, on a thread of the test's.
pub(crate) struct Serving {
    driver: Arc<Driver>,
    _thread: Thread,
}

impl Serving {
    pub(crate) fn start(socket: PathBuf, can: &[ControllerCall]) -> Serving {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let (calls, failing) = Default::default();
        let driver = Arc::new(Driver { can: can.to_vec(), calls, failing });
        let services = Services::new().identity(Arc::new(Named("fake.example.com")));
        let services = services.controller(Arc::clone(&driver)).node(Arc::clone(&driver));
        Serving { driver, _thread: Thread::serve(services, socket, None) }
    }

    /// From here on this call fails with this code.
    pub(crate) fn fail(&self, name: &'static str, code: Code) {
        self.driver.failing.lock().unwrap().insert(name, code);
    }

    pub(crate) fn mend(&self) {
        self.driver.failing.lock().unwrap().clear();
    }

    /// What was called since this was asked the last time.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.driver.calls.lock().unwrap())
    }
}

/// The file system that a capability asks for.
fn file_system(capability: Option<VolumeCapability>) -> String {
    match capability.and_then(|capability| capability.access_type) {
        Some(AccessType::Mount(mount)) => mount.fs_type,
        Some(AccessType::Block(_)) => "block".into(),
        None => "unsaid".into(),
    }
}

impl Controller for Driver {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let capabilities = self.can.iter().map(|call| ControllerServiceCapability::of(*call)).collect();
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    /// The same page for ever.
    async fn list_volumes(&self, _: ListVolumesRequest) -> Answer<ListVolumesResponse> {
        Ok(ListVolumesResponse { next_token: "again".into(), ..Default::default() })
    }

    /// Two, on a page of each.
    async fn list_snapshots(&self, request: ListSnapshotsRequest) -> Answer<ListSnapshotsResponse> {
        let (snapshot_id, next_token) = match request.starting_token.as_str() {
            "" => ("s-1", "2"),
            _ => ("s-2", ""),
        };
        let snapshot = Snapshot { snapshot_id: snapshot_id.into(), ..Default::default() };
        let entries = vec![list_snapshots_response::Entry { snapshot: Some(snapshot) }];
        Ok(ListSnapshotsResponse { entries, next_token: next_token.into() })
    }

    async fn delete_volume(&self, request: DeleteVolumeRequest) -> Answer<DeleteVolumeResponse> {
        self.called("DeleteVolume", &request.volume_id)?;
        Ok(DeleteVolumeResponse {})
    }

    async fn delete_snapshot(&self, request: DeleteSnapshotRequest) -> Answer<DeleteSnapshotResponse> {
        self.called("DeleteSnapshot", &request.snapshot_id)?;
        Ok(DeleteSnapshotResponse {})
    }

    async fn controller_publish_volume(
        &self,
        request: ControllerPublishVolumeRequest,
    ) -> Answer<ControllerPublishVolumeResponse> {
        self.called("attach", &request.node_id)?;
        Ok(ControllerPublishVolumeResponse::default())
    }

    async fn controller_unpublish_volume(
        &self,
        request: ControllerUnpublishVolumeRequest,
    ) -> Answer<ControllerUnpublishVolumeResponse> {
        self.called("detach", &request.node_id)?;
        Ok(ControllerUnpublishVolumeResponse {})
    }

    async fn controller_expand_volume(
        &self,
        request: ControllerExpandVolumeRequest,
    ) -> Answer<ControllerExpandVolumeResponse> {
        let capacity_bytes = request.capacity_range.unwrap_or_default().required_bytes;
        Ok(ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: true })
    }
}

impl Node for Driver {
    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Answer<NodeGetInfoResponse> {
        Ok(NodeGetInfoResponse { node_id: "here".into(), ..Default::default() })
    }

    async fn node_get_capabilities(
        &self,
        _: NodeGetCapabilitiesRequest,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        let capabilities = vec![NodeServiceCapability::of(NodeCall::StageUnstageVolume)];
        Ok(NodeGetCapabilitiesResponse { capabilities })
    }

    async fn node_stage_volume(&self, request: NodeStageVolumeRequest) -> Answer<NodeStageVolumeResponse> {
        let context: String =
            request.volume_context.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.called("stage", format!("{} {context}", file_system(request.volume_capability)).trim())?;
        Ok(NodeStageVolumeResponse {})
    }

    async fn node_unstage_volume(
        &self,
        request: NodeUnstageVolumeRequest,
    ) -> Answer<NodeUnstageVolumeResponse> {
        self.called("unstage", &request.volume_id)?;
        Ok(NodeUnstageVolumeResponse {})
    }

    async fn node_publish_volume(
        &self,
        request: NodePublishVolumeRequest,
    ) -> Answer<NodePublishVolumeResponse> {
        self.called("publish", &request.target_path)?;
        Ok(NodePublishVolumeResponse {})
    }

    async fn node_unpublish_volume(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Answer<NodeUnpublishVolumeResponse> {
        self.called("unpublish", &request.target_path)?;
        Ok(NodeUnpublishVolumeResponse {})
    }

    async fn node_expand_volume(&self, request: NodeExpandVolumeRequest) -> Answer<NodeExpandVolumeResponse> {
        let staged = if request.staging_target_path.is_empty() { "unstaged" } else { "staged" };
        let fs_type = file_system(request.volume_capability);
        self.called("expand", &format!("{} {staged} {fs_type}", request.volume_path))?;
        Ok(NodeExpandVolumeResponse::default())
    }
}
