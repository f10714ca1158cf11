//! Any bytes as any of CRI's requests, which the first byte chooses: no panic; what was read is written and read the same;
//! what is wrong is named, briefly.

use cri::contract::v1::*;
use cri::contract::{Code, Validate};
use prost::Message;

fn request<R: Message + Default + PartialEq + Validate>(bytes: &[u8]) {
    let Ok(request) = R::decode(bytes) else { return };
    let again = R::decode(request.encode_to_vec().as_slice());
    assert!(again.is_ok_and(|again| again.encode_to_vec() == request.encode_to_vec()));
    let Err(error) = request.validate() else { return };
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.field.as_deref().is_some_and(|field| !field.is_empty()), "{error}");
    assert!(error.message.len() <= 4096, "{} bytes", error.message.len());
    let status = grpc::Status::from(error);
    assert_eq!(status.code, Code::InvalidArgument);
}

const REQUESTS: &[fn(&[u8])] = &[
    request::<VersionRequest>,
    request::<StatusRequest>,
    request::<RuntimeConfigRequest>,
    request::<UpdateRuntimeConfigRequest>,
    request::<RunPodSandboxRequest>,
    request::<StopPodSandboxRequest>,
    request::<RemovePodSandboxRequest>,
    request::<PodSandboxStatusRequest>,
    request::<ListPodSandboxRequest>,
    request::<StreamPodSandboxesRequest>,
    request::<UpdatePodSandboxResourcesRequest>,
    request::<CreateContainerRequest>,
    request::<StartContainerRequest>,
    request::<StopContainerRequest>,
    request::<RemoveContainerRequest>,
    request::<ListContainersRequest>,
    request::<StreamContainersRequest>,
    request::<ContainerStatusRequest>,
    request::<UpdateContainerResourcesRequest>,
    request::<ReopenContainerLogRequest>,
    request::<CheckpointContainerRequest>,
    request::<ExecSyncRequest>,
    request::<ExecRequest>,
    request::<AttachRequest>,
    request::<PortForwardRequest>,
    request::<ContainerStatsRequest>,
    request::<ListContainerStatsRequest>,
    request::<StreamContainerStatsRequest>,
    request::<PodSandboxStatsRequest>,
    request::<ListPodSandboxStatsRequest>,
    request::<StreamPodSandboxStatsRequest>,
    request::<GetEventsRequest>,
    request::<ListMetricDescriptorsRequest>,
    request::<ListPodSandboxMetricsRequest>,
    request::<StreamPodSandboxMetricsRequest>,
    request::<ListImagesRequest>,
    request::<StreamImagesRequest>,
    request::<ImageStatusRequest>,
    request::<PullImageRequest>,
    request::<RemoveImageRequest>,
    request::<ImageFsInfoRequest>,
];

pub fn run(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    REQUESTS[usize::from(which) % REQUESTS.len()](bytes);
}
