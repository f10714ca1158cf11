//! The other calls.

use super::*;

#[test]
fn calls_about_one_thing_name_it() {
    macro_rules! nameless {
        ($($id:ident $message:ident)*) => {
            $({
                let error = $message::default().validate().unwrap_err();
                assert_eq!(error.field.as_deref(), Some(stringify!($id)), "{}", stringify!($message));
            })*
        };
    }
    nameless! {
        pod_sandbox_id StopPodSandboxRequest
        pod_sandbox_id RemovePodSandboxRequest
        pod_sandbox_id PodSandboxStatusRequest
        pod_sandbox_id PodSandboxStatsRequest
        pod_sandbox_id PortForwardRequest
        pod_sandbox_id UpdatePodSandboxResourcesRequest
        container_id StartContainerRequest
        container_id StopContainerRequest
        container_id RemoveContainerRequest
        container_id ContainerStatusRequest
        container_id ContainerStatsRequest
        container_id ReopenContainerLogRequest
        container_id UpdateContainerResourcesRequest
        container_id CheckpointContainerRequest
        container_id ExecSyncRequest
        container_id ExecRequest
        container_id AttachRequest
        image ImageStatusRequest
        image PullImageRequest
        image RemoveImageRequest
    }
}

#[test]
fn commands_streams_and_ports() {
    let sync = || ExecSyncRequest {
        container_id: "c".into(),
        cmd: vec!["true".into()],
        ..ExecSyncRequest::default()
    };
    refused(sync(), |r| r.cmd.clear(), "cmd", "empty");
    refused(sync(), |r| r.cmd.push("\0".into()), "cmd[1]", "NUL");
    refused(sync(), |r| r.timeout = -1, "timeout", "-1");
    let exec = || ExecRequest {
        container_id: "c".into(),
        cmd: vec!["sh".into()],
        tty: true,
        stdin: true,
        ..ExecRequest::default()
    };
    refused(exec(), |r| r.stderr = true, "stderr", "terminal");
    refused(exec(), |r| r.stdin = false, "stdin", "none of");
    refused(exec(), |r| r.cmd.clear(), "cmd", "empty");
    let attach = || AttachRequest { container_id: "c".into(), stderr: true, ..AttachRequest::default() };
    refused(attach(), |r| r.tty = true, "stderr", "terminal");
    refused(attach(), |r| r.stderr = false, "stdin", "none of");
    let forward = || PortForwardRequest { pod_sandbox_id: "p".into(), port: vec![] };
    refused(forward(), |r| r.port = vec![80, 0], "port[1]", "0");
    let stop = || StopContainerRequest { container_id: "c".into(), timeout: 0 };
    refused(stop(), |r| r.timeout = -1, "timeout", "-1");
    let checkpoint =
        || CheckpointContainerRequest { container_id: "c".into(), location: "/x".into(), timeout: 0 };
    refused(checkpoint(), |r| r.location = "x".into(), "location", "relative");
    refused(checkpoint(), |r| r.timeout = -1, "timeout", "-1");
}

#[test]
fn filters_images_and_networks() {
    let state =
        |state| Some(PodSandboxFilter { state: Some(PodSandboxStateValue { state }), ..Default::default() });
    refused(ListPodSandboxRequest::default(), |r| r.filter = state(2), "filter.state.state", "2");
    accepted(StreamPodSandboxesRequest::default(), |r| r.filter = state(1));
    let state =
        |state| Some(ContainerFilter { state: Some(ContainerStateValue { state }), ..Default::default() });
    refused(StreamContainersRequest::default(), |r| r.filter = state(4), "filter.state.state", "4");
    let selector = || [(String::new(), String::new())].into();
    let filter = |r: &mut ListContainerStatsRequest| {
        r.filter = Some(ContainerStatsFilter { label_selector: selector(), ..Default::default() });
    };
    refused(ListContainerStatsRequest::default(), filter, "filter.label_selector", "empty key");
    let filter = |r: &mut ListPodSandboxStatsRequest| {
        r.filter = Some(PodSandboxStatsFilter { label_selector: selector(), ..Default::default() });
    };
    refused(ListPodSandboxStatsRequest::default(), filter, "filter.label_selector", "empty key");
    accepted(ListImagesRequest::default(), |r| {
        r.filter = Some(ImageFilter { image: Some(Default::default()) })
    });
    let spec = |image: &str| Some(ImageSpec { image: image.into(), ..Default::default() });
    let filter = |r: &mut ListImagesRequest| r.filter = Some(ImageFilter { image: spec("a b") });
    refused(ListImagesRequest::default(), filter, "filter.image.image", "a b");

    let pull = || PullImageRequest { image: spec("busybox"), ..PullImageRequest::default() };
    accepted(pull(), |r| r.sandbox_config = Some(PodSandboxConfig::default()));
    refused(
        pull(),
        |r| r.image.as_mut().unwrap().runtime_handler = "a/b".into(),
        "image.runtime_handler",
        "a/b",
    );
    let selector = |r: &mut PullImageRequest| {
        r.sandbox_config = Some(PodSandboxConfig { labels: selector(), ..Default::default() });
    };
    refused(pull(), selector, "sandbox_config.labels", "empty key");

    let cidr = |pod_cidr: &str| {
        let network_config = Some(NetworkConfig { pod_cidr: pod_cidr.into() });
        Some(RuntimeConfig { network_config })
    };
    let field = "runtime_config.network_config.pod_cidr";
    accepted(UpdateRuntimeConfigRequest::default(), |r| r.runtime_config = cidr("10.0.0.0/24,fd00::/64"));
    accepted(UpdateRuntimeConfigRequest::default(), |r| r.runtime_config = cidr(""));
    let change = |r: &mut UpdateRuntimeConfigRequest| r.runtime_config = cidr("10.0.0.0/24,x");
    refused(UpdateRuntimeConfigRequest::default(), change, field, "\"x\"");
}

#[test]
fn a_long_value_is_not_repeated_whole() {
    let long = "é\n".repeat(4096);
    let error = ImageSpec { image: long, ..Default::default() }.validate().unwrap_err();
    assert!(error.message.len() < 1024, "{} bytes", error.message.len());
}
