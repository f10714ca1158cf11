//! The runtime service: each call, to what does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grpc::{Code, Messages, Status};
use serde_json::json;

use super::cgroup::Driver;
use super::exec::Streams;
use super::history::Who;
use super::node::Node;
use crate::contract::Error;
use crate::contract::v1::*;

/// RuntimeService over a node.
#[derive(Clone)]
pub(super) struct Runtime {
    pub(super) node: Arc<Node>,
    pub(super) streams: Arc<Streams>,
}

/// Answers for a list in parts, each far below what a message may hold.
const PART: usize = 1000;

/// A list as a stream of parts.
pub(super) fn parts<T, A>(mut all: Vec<T>, part: impl Fn(Vec<T>) -> A) -> Messages<A> {
    let mut messages = Vec::new();
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(PART));
        messages.push(part(std::mem::replace(&mut all, rest)));
    }
    messages.into()
}

impl RuntimeService for Runtime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse, Status> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "sextant".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse, Status> {
        let pod_sandbox_id = self.node.run_pod(request).await?;
        Ok(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Status> {
        let node = Arc::clone(&self.node);
        run(async move { node.stop_pod(&request.pod_sandbox_id).await }).await?;
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Status> {
        let node = Arc::clone(&self.node);
        run(async move { node.remove_pod(&request.pod_sandbox_id).await }).await?;
        Ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Status> {
        Ok(self.node.pod_status(&request)?)
    }

    async fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Status> {
        Ok(ListPodSandboxResponse { items: self.node.list_pods(request.filter.as_ref()) })
    }

    async fn stream_pod_sandboxes(
        &self,
        request: StreamPodSandboxesRequest,
    ) -> Result<Messages<StreamPodSandboxesResponse>, Status> {
        let all = self.node.list_pods(request.filter.as_ref());
        Ok(parts(all, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
    }

    async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Status> {
        let container_id = self.node.create_container(request).await?;
        Ok(CreateContainerResponse { container_id })
    }

    async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Status> {
        self.node.start_container(&request.container_id).await?;
        Ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse, Status> {
        let timeout = Duration::from_secs(request.timeout.max(0).unsigned_abs());
        let node = Arc::clone(&self.node);
        run(async move { node.stop_container(&request.container_id, timeout).await }).await?;
        Ok(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Status> {
        self.node.remove_container(&request.container_id).await?;
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Status> {
        Ok(ListContainersResponse { containers: self.node.list_containers(request.filter.as_ref()) })
    }

    async fn stream_containers(
        &self,
        request: StreamContainersRequest,
    ) -> Result<Messages<StreamContainersResponse>, Status> {
        let all = self.node.list_containers(request.filter.as_ref());
        Ok(parts(all, |containers| StreamContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Status> {
        Ok(self.node.container_status(request).await?)
    }

    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse, Status> {
        let node = Arc::clone(&self.node);
        run(async move { node.update_container(request).await }).await?;
        Ok(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse, Status> {
        self.node.reopen_log(&request.container_id).await?;
        Ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        Ok(self.node.exec_sync(request).await?)
    }

    async fn update_runtime_config(
        &self,
        _: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse, Status> {
        // Nothing here is made from the node's CIDR; the network add-on's configuration has it.
        Ok(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, request: StatusRequest) -> Result<StatusResponse, Status> {
        let networks = Arc::clone(&self.node);
        let network = super::node::blocking(move || networks.networks.current()).await;
        let condition = |kind: &str, problem: Option<(&str, String)>| RuntimeCondition {
            r#type: kind.into(),
            status: problem.is_none(),
            reason: problem.as_ref().map(|(reason, _)| (*reason).to_owned()).unwrap_or_default(),
            message: problem.map(|(_, message)| message).unwrap_or_default(),
        };
        let problem = network.as_ref().err().map(|e| ("NetworkPluginNotReady", e.to_string()));
        let last = problem.as_ref().map_or_else(|| "OK".to_owned(), |(_, text)| text.clone());
        let handlers = self
            .node
            .handlers
            .features()
            .map(|(name, features)| RuntimeHandler { name: name.to_owned(), features: Some(features) });
        let mut info = BTreeMap::new();
        if request.verbose {
            let settings = &self.node.config.network;
            let config = json!({
                "stateDir": self.node.place.run,
                "rootDir": self.node.place.data,
                "cni": {"confDir": settings.conf_dir, "binDirs": settings.bin_dirs, "builtIn": settings.builtin},
            });
            info.insert("config".into(), config.to_string());
            info.insert("lastCNILoadStatus".into(), last);
            let there: Vec<Who> =
                self.node.state.pods().iter().map(|pod| Who::of(&pod.record.config)).collect();
            let others = self.node.history.told_of_others(|who| there.contains(who));
            info.insert("podsNotMade".into(), others.to_string());
            if let Ok(list) = &network {
                info.insert("cniconfig".into(), json!({"name": list.name}).to_string());
            }
        }
        Ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![condition("RuntimeReady", None), condition("NetworkReady", problem)],
            }),
            info,
            runtime_handlers: handlers.collect(),
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
            }),
        })
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecResponse, Status> {
        Ok(ExecResponse { url: self.streams.exec(&self.node, request)? })
    }

    async fn attach(&self, request: AttachRequest) -> Result<AttachResponse, Status> {
        Ok(AttachResponse { url: self.streams.attach(&self.node, &request)? })
    }

    async fn port_forward(&self, request: PortForwardRequest) -> Result<PortForwardResponse, Status> {
        Ok(PortForwardResponse { url: self.streams.port_forward(&self.node, &request)? })
    }

    async fn container_stats(
        &self,
        request: ContainerStatsRequest,
    ) -> Result<ContainerStatsResponse, Status> {
        Ok(ContainerStatsResponse { stats: Some(self.node.container_stats(&request.container_id).await?) })
    }

    async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> Result<ListContainerStatsResponse, Status> {
        Ok(ListContainerStatsResponse { stats: self.node.list_container_stats(request.filter).await? })
    }

    async fn stream_container_stats(
        &self,
        request: StreamContainerStatsRequest,
    ) -> Result<Messages<StreamContainerStatsResponse>, Status> {
        let all = self.node.list_container_stats(request.filter).await?;
        Ok(parts(all, |container_stats| StreamContainerStatsResponse { container_stats }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: PodSandboxStatsRequest,
    ) -> Result<PodSandboxStatsResponse, Status> {
        Ok(PodSandboxStatsResponse { stats: Some(self.node.pod_stats(&request.pod_sandbox_id).await?) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> Result<ListPodSandboxStatsResponse, Status> {
        Ok(ListPodSandboxStatsResponse { stats: self.node.list_pod_stats(request.filter).await? })
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: StreamPodSandboxStatsRequest,
    ) -> Result<Messages<StreamPodSandboxStatsResponse>, Status> {
        let all = self.node.list_pod_stats(request.filter).await?;
        Ok(parts(all, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
    }

    async fn get_container_events(
        &self,
        _: GetEventsRequest,
    ) -> Result<Messages<ContainerEventResponse>, Status> {
        let (sender, messages) = Messages::channel(64);
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            let is_there = |id: &str| node.state.pod(id).is_ok() || node.state.container(id).is_ok();
            let (unheard, mut events) = node.events.listen();
            let mut unheard = unheard.into_iter();
            while let Some(happened) = unheard.next() {
                if sender.send(node.event(&happened)).await.is_err() {
                    node.events.give_back(std::iter::once(happened).chain(unheard), is_there);
                    return node.events.leave(None, events, is_there);
                }
            }
            node.events.see();
            loop {
                let next = tokio::select! {
                    next = events.recv() => next,
                    () = sender.closed() => return node.events.leave(None, events, is_there),
                };
                match next {
                    Ok(happened) => {
                        if sender.send(node.event(&happened)).await.is_err() {
                            return node.events.leave(Some(happened), events, is_there);
                        }
                    }
                    Err(_) => {
                        let text = "events were missed, for they were read too slowly: list, and ask again";
                        sender.fail(Status::new(Code::ResourceExhausted, text)).await;
                        return;
                    }
                }
            }
        });
        Ok(messages)
    }

    async fn list_metric_descriptors(
        &self,
        _: ListMetricDescriptorsRequest,
    ) -> Result<ListMetricDescriptorsResponse, Status> {
        Ok(ListMetricDescriptorsResponse { descriptors: self.node.metric_descriptors().await? })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: ListPodSandboxMetricsRequest,
    ) -> Result<ListPodSandboxMetricsResponse, Status> {
        Ok(ListPodSandboxMetricsResponse { pod_metrics: self.node.pod_metrics().await? })
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: StreamPodSandboxMetricsRequest,
    ) -> Result<Messages<StreamPodSandboxMetricsResponse>, Status> {
        let all = self.node.pod_metrics().await?;
        Ok(parts(all, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
    }

    async fn runtime_config(&self, _: RuntimeConfigRequest) -> Result<RuntimeConfigResponse, Status> {
        let driver = match self.node.cgroup_driver {
            Driver::Cgroupfs => CgroupDriver::Cgroupfs,
            Driver::Systemd => CgroupDriver::Systemd,
        };
        Ok(RuntimeConfigResponse { linux: Some(LinuxRuntimeConfiguration { cgroup_driver: driver.into() }) })
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse, Status> {
        let node = Arc::clone(&self.node);
        run(async move {
            let pod = node.state.pod(&request.pod_sandbox_id)?;
            let _entered = node.nri.enter().await;
            node.nri.update_pod(&pod, request.overhead.as_ref(), request.resources.as_ref()).await?;
            // The pod's own cgroup is the kubelet's, which has changed it already.
            node.nri.updated_pod(&pod).await;
            Ok(UpdatePodSandboxResourcesResponse {})
        })
        .await
        .map_err(Status::from)
    }
}

/// Brings `work` to its end whether or not its caller waits.
async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.map_err(|e| Error::internal(format!("a bug ended the call: {e}")))?
}
