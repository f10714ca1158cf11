//! The calls that no conformance suite makes, and what the node tells of itself.

use cri::contract::Code;
use cri::contract::v1::*;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("the_node_tells_what_it_is", status),
    ("streamed_lists_are_the_lists", streams),
    ("unknown_ids_are_not_found_or_done", unknown),
    ("filters_choose", filters),
    ("clients_that_go_end_nothing", gone),
];

fn status(b: &Bench) {
    let status = b.ok(async |c| c.status(StatusRequest { verbose: true }).await);
    let conditions = status.status.unwrap().conditions;
    let names: Vec<&str> = conditions.iter().map(|c| c.r#type.as_str()).collect();
    assert_eq!(names, ["RuntimeReady", "NetworkReady"]);
    assert!(conditions.iter().all(|c| c.status), "{conditions:?}");
    assert!(status.runtime_handlers.iter().any(|h| h.name.is_empty()), "{:?}", status.runtime_handlers);
    assert!(status.info["config"].contains(b.path("data").to_str().unwrap()), "{:?}", status.info);
    let config = b.ok(async |c| c.runtime_config(RuntimeConfigRequest {}).await);
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
    let network = NetworkConfig { pod_cidr: "10.9.0.0/24".into() };
    let request =
        UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config: Some(network) }) };
    b.ok(async |c| c.update_runtime_config(request).await);
    let usage = b.ok(async |c| c.image_fs_info(ImageFsInfoRequest {}).await);
    for filesystem in usage.image_filesystems.iter().chain(&usage.container_filesystems) {
        assert!(filesystem.timestamp > 0 && filesystem.inodes_used.is_some(), "{filesystem:?}");
        let at = filesystem.fs_id.clone().unwrap().mountpoint;
        assert!(std::path::Path::new(&at).is_dir(), "{at}");
    }
    let image = usage.image_filesystems[0].used_bytes.unwrap().value;
    assert!(image > std::fs::metadata("/proc/self/exe").unwrap().len(), "{image}");
}

fn streams(b: &Bench) {
    let pods = ["one", "two"].map(|name| b.host_pod(name));
    for pod in &pods {
        b.run(pod, "c", &["probe", "sleep"]);
    }
    /// Reads a stream to its end.
    macro_rules! all {
        ($call:ident, $request:ident, $field:ident) => {
            b.wait(async |client| {
                let mut parts = client.$call($request::default()).await.unwrap();
                let mut all = Vec::new();
                while let Some(part) = parts.next().await.unwrap() {
                    all.extend(part.$field);
                }
                all
            })
        };
    }
    assert_eq!(all!(stream_pod_sandboxes, StreamPodSandboxesRequest, pod_sandboxes), b.pods());
    assert_eq!(all!(stream_containers, StreamContainersRequest, containers), b.containers());
    let images = b.ok(async |c| c.list_images(ListImagesRequest::default()).await).images;
    assert_eq!(all!(stream_images, StreamImagesRequest, images), images);
    let ids = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let stats = all!(stream_container_stats, StreamContainerStatsRequest, container_stats);
    let streamed = stats.into_iter().map(|s| s.attributes.unwrap().id).collect();
    assert_eq!(ids(streamed), ids(b.containers().into_iter().map(|c| c.id).collect()));
    let stats = all!(stream_pod_sandbox_stats, StreamPodSandboxStatsRequest, pod_sandbox_stats);
    let streamed = stats.into_iter().map(|s| s.attributes.unwrap().id).collect();
    assert_eq!(ids(streamed), ids(pods.to_vec()));
    let metrics = all!(stream_pod_sandbox_metrics, StreamPodSandboxMetricsRequest, pod_sandbox_metrics);
    let streamed = metrics.into_iter().map(|m| m.pod_sandbox_id).collect();
    assert_eq!(ids(streamed), ids(pods.to_vec()));
    pods.iter().for_each(|pod| b.remove_pod(pod));
}

#[allow(clippy::needless_update, reason = "some of the requests have the named fields alone")]
fn unknown(b: &Bench) {
    let id = || "0123456789abcdef".to_owned();
    /// The code of a call that fails.
    macro_rules! code {
        ($call:ident, $request:ident { $($field:ident: $value:expr),* }) => {
            b.wait(async |c| c.$call($request { $($field: $value,)* ..$request::default() }).await)
                .map(|_| ()).unwrap_err().code()
        };
    }
    let not_found = [
        code!(pod_sandbox_status, PodSandboxStatusRequest { pod_sandbox_id: id() }),
        code!(pod_sandbox_stats, PodSandboxStatsRequest { pod_sandbox_id: id() }),
        code!(update_pod_sandbox_resources, UpdatePodSandboxResourcesRequest { pod_sandbox_id: id() }),
        code!(container_status, ContainerStatusRequest { container_id: id() }),
        code!(container_stats, ContainerStatsRequest { container_id: id() }),
        code!(start_container, StartContainerRequest { container_id: id() }),
        code!(reopen_container_log, ReopenContainerLogRequest { container_id: id() }),
        code!(update_container_resources, UpdateContainerResourcesRequest { container_id: id() }),
        code!(exec_sync, ExecSyncRequest { container_id: id(), cmd: vec!["probe".into()] }),
        code!(exec, ExecRequest { container_id: id(), cmd: vec!["probe".into()], stdout: true }),
        code!(attach, AttachRequest { container_id: id(), stdout: true }),
        code!(port_forward, PortForwardRequest { pod_sandbox_id: id() }),
    ];
    assert!(not_found.iter().all(|code| *code == Code::NotFound), "{not_found:?}");
    // What is wanted gone is gone.
    b.stop(&id(), 0);
    b.remove(&id());
    b.remove_pod(&id());
    let location = "/var/tmp/none".to_owned();
    let checkpoint =
        code!(checkpoint_container, CheckpointContainerRequest { container_id: id(), location: location });
    assert_eq!(checkpoint, Code::Unimplemented);
    assert_eq!(code!(container_status, ContainerStatusRequest {}), Code::InvalidArgument);
}

fn filters(b: &Bench) {
    let label = |value: &str| [("app".to_owned(), value.to_owned())].into();
    let mut config = crate::wishes::host_pod("red");
    config.labels = label("red");
    let (red, blue) = (b.run_pod(config), b.host_pod("blue"));
    let mut config = crate::wishes::container("c", &["probe", "sleep"]);
    config.labels = label("red");
    let (one, two) = (b.run_as(&red, config), b.create(&blue, crate::wishes::container("c", &["probe"])));
    let pods = |filter| {
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let items = b.ok(async |c| c.list_pod_sandbox(request).await).items;
        items.into_iter().map(|pod| pod.id).collect::<Vec<_>>()
    };
    let containers = |filter| {
        let request = ListContainersRequest { filter: Some(filter) };
        let items = b.ok(async |c| c.list_containers(request).await).containers;
        items.into_iter().map(|container| container.id).collect::<Vec<_>>()
    };
    assert_eq!(
        pods(PodSandboxFilter { label_selector: label("red"), ..Default::default() }),
        std::slice::from_ref(&red)
    );
    assert_eq!(
        pods(PodSandboxFilter { id: blue[..13].into(), ..Default::default() }),
        std::slice::from_ref(&blue)
    );
    let created = ContainerStateValue { state: ContainerState::ContainerCreated.into() };
    assert_eq!(containers(ContainerFilter { state: Some(created), ..Default::default() }), [two]);
    let of_red = ContainerFilter { pod_sandbox_id: red.clone(), ..Default::default() };
    assert_eq!(containers(of_red), std::slice::from_ref(&one));
    assert_eq!(containers(ContainerFilter { label_selector: label("red"), ..Default::default() }), [one]);
    b.stop_pod(&red);
    let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
    assert_eq!(
        pods(PodSandboxFilter { state: Some(ready), ..Default::default() }),
        std::slice::from_ref(&blue)
    );
    b.remove_pod(&red);
    b.remove_pod(&blue);
}

/// What is written to a client that has gone is lost, and nothing else is.
fn gone(b: &Bench) {
    use std::io::Write;
    // HTTP/2's preface and empty settings, then so many pings that answers to them are on their way at the end.
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..500 {
        hello.extend_from_slice(b"\0\0\x08\x06\0\0\0\0\0goodbye!");
    }
    for _ in 0..50 {
        let mut client = std::os::unix::net::UnixStream::connect(b.path("run").join("cri.sock")).unwrap();
        // A server that has had enough says so, and that is its right.
        let _ = client.write_all(&hello);
    }
    // Answers to clients that are gone are written for a while after they went.
    for _ in 0..20 {
        b.ok(async |c| c.version(VersionRequest::default()).await);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
