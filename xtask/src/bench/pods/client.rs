//! What a kubelet asks for, of either side alike.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cri::caller::Blocking;
use cri::contract::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, DnsConfig, ExecSyncRequest, ImageSpec,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, ListPodSandboxStatsRequest, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PortMapping, PullImageRequest, RemoveContainerRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
    StopPodSandboxRequest, VersionRequest,
};

use crate::Result;

/// The first of the host's ports that pods publish.
const FIRST_PORT: i32 = 20_000;

/// A pod with a container that runs.
#[derive(Debug)]
pub(in crate::bench) struct Pod {
    id: String,
    container: String,
}

/// One connection, and what its pods have in common.
pub(in crate::bench) struct Client<'a> {
    connection: Blocking,
    pub(in crate::bench) image: &'a str,
    /// The cgroup that containers are below.
    pub(in crate::bench) parent: &'a str,
    pub(in crate::bench) logs: &'a Path,
}

impl<'a> Client<'a> {
    /// Waits until somebody answers on the socket.
    pub(in crate::bench) fn connect(
        socket: &Path,
        image: &'a str,
        parent: &'a str,
        logs: &'a Path,
    ) -> Result<Self> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let asked = Blocking::connect(socket).and_then(|connection| {
                connection.wait(async |cri| cri.version(VersionRequest::default()).await)?;
                Ok(connection)
            });
            match asked {
                Ok(connection) => return Ok(Self { connection, image, parent, logs }),
                Err(e) if Instant::now() > end => return Err(e.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    pub(in crate::bench) fn pull(&self) -> Result<()> {
        let request = PullImageRequest { image: Some(self.spec()), ..PullImageRequest::default() };
        self.connection.wait(async |cri| cri.pull_image(request).await)?;
        Ok(())
    }

    /// RunPodSandbox, CreateContainer, StartContainer.
    pub(in crate::bench) fn up(&self, number: usize) -> Result<Pod> {
        let sandbox = self.sandbox(number)?;
        let container = self.container();
        self.connection.wait(async |cri| {
            let request =
                RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
            let id = cri.run_pod_sandbox(request).await?.pod_sandbox_id;
            let request = CreateContainerRequest {
                pod_sandbox_id: id.clone(),
                config: Some(container),
                sandbox_config: Some(sandbox),
            };
            let container_id = cri.create_container(request).await?.container_id;
            cri.start_container(StartContainerRequest { container_id: container_id.clone() }).await?;
            Ok(Pod { id, container: container_id })
        })
    }

    /// ExecSync of `true`.
    pub(in crate::bench) fn exec(&self, pod: &Pod) -> Result<()> {
        let request =
            ExecSyncRequest { container_id: pod.container.clone(), cmd: vec!["true".into()], timeout: 10 };
        let done = self.connection.wait(async |cri| cri.exec_sync(request).await)?;
        if done.exit_code == 0 { Ok(()) } else { Err(format!("true ended with {}", done.exit_code).into()) }
    }

    /// StopContainer at once, RemoveContainer, StopPodSandbox, RemovePodSandbox.
    pub(in crate::bench) fn down(&self, pod: &Pod) -> Result<()> {
        let (container_id, pod_sandbox_id) = (pod.container.clone(), pod.id.clone());
        self.connection.wait(async |cri| {
            let stop = StopContainerRequest { container_id: container_id.clone(), timeout: 0 };
            cri.stop_container(stop).await?;
            cri.remove_container(RemoveContainerRequest { container_id }).await?;
            cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await?;
            cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await?;
            Ok(())
        })
    }

    /// ListPodSandboxStats; how many pods it told of.
    pub(in crate::bench) fn stats(&self) -> Result<usize> {
        let request = ListPodSandboxStatsRequest::default();
        Ok(self.connection.wait(async |cri| cri.list_pod_sandbox_stats(request).await)?.stats.len())
    }

    fn spec(&self) -> ImageSpec {
        ImageSpec {
            image: self.image.into(),
            user_specified_image: self.image.into(),
            ..ImageSpec::default()
        }
    }

    fn sandbox(&self, number: usize) -> Result<PodSandboxConfig> {
        let name = format!("bench-{number}");
        let logs: PathBuf = self.logs.join(&name);
        std::fs::create_dir_all(logs.join("main"))?;
        let port = FIRST_PORT + i32::try_from(number)?;
        let context = LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces()),
            ..LinuxSandboxSecurityContext::default()
        };
        Ok(PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.clone(),
                uid: name.clone(),
                namespace: "bench".into(),
                attempt: 0,
            }),
            hostname: name,
            log_directory: logs.display().to_string(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.96.0.10".into()],
                searches: vec!["bench.svc.cluster.local".into()],
                options: Vec::new(),
            }),
            port_mappings: vec![PortMapping {
                container_port: 80,
                host_port: port,
                ..PortMapping::default()
            }],
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.parent.into(),
                security_context: Some(context),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        })
    }

    fn container(&self) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(self.spec()),
            command: vec!["sleep".into(), "100000".into()],
            log_path: "main/0.log".into(),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    memory_limit_in_bytes: 64 << 20,
                    cpu_shares: 102,
                    ..LinuxContainerResources::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..LinuxContainerSecurityContext::default()
                }),
            }),
            ..ContainerConfig::default()
        }
    }
}

/// As a kubelet sends them for a pod that asks for nothing: processes of each container by themselves.
fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..NamespaceOption::default() }
}
