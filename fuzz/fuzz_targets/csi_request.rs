//! Any bytes as any of CSI's requests, which the first byte chooses: no panic; what was read is written and read the same; what is
//! wrong is named, briefly.

use csi::contract::v1::*;
use csi::contract::{Code, Validate};
use prost::Message;

fn request<R: Message + Default + PartialEq + Validate>(bytes: &[u8]) {
    let Ok(request) = R::decode(bytes) else { return };
    let again = R::decode(request.encode_to_vec().as_slice());
    assert!(again.is_ok_and(|again| again == request));
    let Err(error) = request.validate() else { return };
    assert!(matches!(error.code, Code::InvalidArgument | Code::OutOfRange), "{error}");
    assert!(error.field.as_deref().is_some_and(|field| !field.is_empty()), "{error}");
    assert!(error.message.len() <= 4096, "{} bytes", error.message.len());
}

const REQUESTS: &[fn(&[u8])] = &[
    request::<GetPluginInfoRequest>,
    request::<GetPluginCapabilitiesRequest>,
    request::<ProbeRequest>,
    request::<CreateVolumeRequest>,
    request::<DeleteVolumeRequest>,
    request::<ControllerPublishVolumeRequest>,
    request::<ControllerUnpublishVolumeRequest>,
    request::<ValidateVolumeCapabilitiesRequest>,
    request::<ListVolumesRequest>,
    request::<ControllerGetVolumeRequest>,
    request::<ControllerModifyVolumeRequest>,
    request::<GetCapacityRequest>,
    request::<ControllerGetCapabilitiesRequest>,
    request::<CreateSnapshotRequest>,
    request::<DeleteSnapshotRequest>,
    request::<ListSnapshotsRequest>,
    request::<GetSnapshotRequest>,
    request::<ControllerExpandVolumeRequest>,
    request::<NodeStageVolumeRequest>,
    request::<NodeUnstageVolumeRequest>,
    request::<NodePublishVolumeRequest>,
    request::<NodeUnpublishVolumeRequest>,
    request::<NodeGetVolumeStatsRequest>,
    request::<NodeGetCapabilitiesRequest>,
    request::<NodeGetInfoRequest>,
    request::<NodeExpandVolumeRequest>,
    request::<GroupControllerGetCapabilitiesRequest>,
    request::<CreateVolumeGroupSnapshotRequest>,
    request::<DeleteVolumeGroupSnapshotRequest>,
    request::<GetVolumeGroupSnapshotRequest>,
    request::<GetMetadataAllocatedRequest>,
    request::<GetMetadataDeltaRequest>,
];

pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    if let Some(request) = REQUESTS.get(usize::from(*first)) {
        request(rest);
    }
}
