//! Asking as a kubelet does: what a kill interrupts is asked again, whatever else fails is a fault.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cri::caller::{Blocking, Client};
use cri::contract::Code;
use cri::contract::v1::*;

use super::Site;
use crate::bench::LIMIT;

/// A caller of its own, on its own thread.
pub(crate) struct Kubelet<'a> {
    site: &'a Site,
    /// The connection, and how many kills there had been when it was made.
    connection: RefCell<Option<(u64, Blocking)>>,
}

impl<'a> Kubelet<'a> {
    pub(crate) fn new(site: &'a Site) -> Self {
        Self { site, connection: RefCell::default() }
    }

    /// The answer, and whether a kill made it necessary to ask more than once.
    fn asked<T>(
        &self,
        call: impl AsyncFn(&Client) -> Result<T, grpc::Error>,
    ) -> (Result<T, grpc::Error>, bool) {
        let (end, mut again) = (Instant::now() + LIMIT, false);
        loop {
            assert!(Instant::now() < end, "no answer for {LIMIT:?}");
            let kills = self.site.kills.load(Ordering::SeqCst);
            let result = match kills % 2 {
                0 => self.once(kills, &call),
                _ => Err(None),
            };
            match result {
                Ok(answer) => return (Ok(answer), again),
                Err(Some(error)) if self.site.kills.load(Ordering::SeqCst) == kills => {
                    return (Err(error), again);
                }
                Err(error) => again |= error.is_some(),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn once<T>(
        &self,
        kills: u64,
        call: &impl AsyncFn(&Client) -> Result<T, grpc::Error>,
    ) -> Result<T, Option<grpc::Error>> {
        let mut connection = self.connection.borrow_mut();
        if connection.as_ref().is_none_or(|(made, _)| *made != kills) {
            *connection = Some((kills, Blocking::connect(&self.site.socket)?));
        }
        let (_, cri) = connection.as_ref().ok_or(None)?;
        Ok(cri.wait(async |client| call(client).await)?)
    }

    /// A call that must succeed.
    #[track_caller]
    pub(crate) fn ok<T>(&self, call: impl AsyncFn(&Client) -> Result<T, grpc::Error>) -> T {
        self.asked(call).0.unwrap_or_else(|e| panic!("{e}"))
    }

    #[track_caller]
    pub(crate) fn run_pod(&self, mut config: PodSandboxConfig) -> String {
        let name = config.metadata.clone().unwrap_or_default().name;
        config.log_directory = self.site.logs.join(name).display().to_string();
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        self.ok(async |c| c.run_pod_sandbox(request.clone()).await).pod_sandbox_id
    }

    #[track_caller]
    pub(crate) fn create(&self, pod: &str, config: ContainerConfig) -> String {
        let request =
            CreateContainerRequest { pod_sandbox_id: pod.into(), config: Some(config), sandbox_config: None };
        self.ok(async |c| c.create_container(request.clone()).await).container_id
    }

    /// A container that has started; it may have ended.
    #[track_caller]
    pub(crate) fn run(&self, pod: &str, config: ContainerConfig) -> String {
        let id = self.create(pod, config);
        let request = StartContainerRequest { container_id: id.clone() };
        match self.asked(async |c| c.start_container(request.clone()).await) {
            (Ok(_), _) => {}
            // The answer was lost, and it has ended meanwhile: its status tells.
            (Err(error), true) if error.code() == Code::FailedPrecondition => {}
            (Err(error), _) => panic!("{error}"),
        }
        id
    }

    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.ok(async |c| c.container_status(request.clone()).await).status.unwrap()
    }

    #[track_caller]
    pub(crate) fn pod_state(&self, id: &str) -> PodSandboxState {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        self.ok(async |c| c.pod_sandbox_status(request.clone()).await).status.unwrap().state()
    }

    /// The ids of all pods and containers.
    #[track_caller]
    pub(crate) fn all(&self) -> Vec<String> {
        let pods = self.ok(async |c| c.list_pod_sandbox(ListPodSandboxRequest::default()).await).items;
        let containers = self.ok(async |c| c.list_containers(ListContainersRequest::default()).await);
        pods.into_iter().map(|p| p.id).chain(containers.containers.into_iter().map(|c| c.id)).collect()
    }

    #[track_caller]
    pub(crate) fn until_exited(&self, id: &str) -> ContainerStatus {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status(id);
            if status.state() == ContainerState::ContainerExited {
                return status;
            }
            assert!(Instant::now() < end, "{status:?} does not exit");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub(crate) fn exec(&self, id: &str, words: &[&str]) -> ExecSyncResponse {
        let cmd = words.iter().map(|&word| word.to_owned()).collect();
        let request = ExecSyncRequest { container_id: id.into(), cmd, timeout: 60 };
        self.ok(async |c| c.exec_sync(request.clone()).await)
    }

    #[track_caller]
    pub(crate) fn reopen_log(&self, id: &str) {
        let request = ReopenContainerLogRequest { container_id: id.into() };
        self.ok(async |c| c.reopen_container_log(request.clone()).await);
    }

    #[track_caller]
    pub(crate) fn stop(&self, id: &str) {
        let request = StopContainerRequest { container_id: id.into(), timeout: 0 };
        self.ok(async |c| c.stop_container(request.clone()).await);
    }

    #[track_caller]
    pub(crate) fn remove(&self, id: &str) {
        let request = RemoveContainerRequest { container_id: id.into() };
        self.ok(async |c| c.remove_container(request.clone()).await);
        self.site.removed().insert(id.into());
    }

    #[track_caller]
    pub(crate) fn stop_pod(&self, id: &str) {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.ok(async |c| c.stop_pod_sandbox(request.clone()).await);
    }

    /// Removes a pod with these containers.
    #[track_caller]
    pub(crate) fn remove_pod(&self, id: &str, containers: &[&String]) {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.ok(async |c| c.remove_pod_sandbox(request.clone()).await);
        let all = containers.iter().map(|&id| id.clone()).chain([id.to_owned()]);
        self.site.removed().extend(all);
    }
}
