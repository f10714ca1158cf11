//! A CRI runtime that has the pods which the test says it has.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener as Listener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cri::contract::v1::{
    ImageService, ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxMetadata,
    PodSandboxState, PodSandboxStatusRequest, PodSandboxStatusResponse, RuntimeService,
};
use cri::plugin::server::serve;
use serde_json::json;
use tokio::net::UnixListener;

#[derive(Clone, Default)]
pub(crate) struct Runtime {
    /// Sandboxes by their ids: the pod of namespace `default`, and where its network namespace is.
    pods: Arc<Mutex<BTreeMap<String, (String, PathBuf)>>>,
    hangs: Arc<AtomicBool>,
    unanswered: Arc<AtomicUsize>,
}

impl Runtime {
    /// Serves at `socket` from now on, without pods, on a thread of its own.
    pub(crate) fn start(socket: &Path) -> Self {
        let runtime = Self::default();
        let listener = Listener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let served = Arc::new(runtime.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).unwrap();
                let never = std::future::pending();
                serve(listener, served, Arc::new(Images), never, Duration::ZERO).await.unwrap();
            });
        });
        runtime
    }

    /// A pod has a sandbox that is ready.
    pub(crate) fn add(&self, sandbox: &str, pod: &str, netns: &Path) {
        self.pods.lock().unwrap().insert(sandbox.into(), (pod.into(), netns.into()));
    }

    /// From now on it answers nobody who asks for sandboxes, or does again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    /// How many have asked meanwhile.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    /// A sandbox is gone.
    pub(crate) fn remove(&self, sandbox: &str) {
        self.pods.lock().unwrap().remove(sandbox);
    }
}

impl RuntimeService for Runtime {
    async fn list_pod_sandbox(
        &self,
        _: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, grpc::Status> {
        if self.hangs.load(Ordering::SeqCst) {
            self.unanswered.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        let one = |(id, (pod, _)): (&String, &(String, PathBuf))| {
            let metadata =
                PodSandboxMetadata { name: pod.clone(), namespace: "default".into(), ..Default::default() };
            let state = PodSandboxState::SandboxReady.into();
            PodSandbox { id: id.clone(), metadata: Some(metadata), state, ..PodSandbox::default() }
        };
        Ok(ListPodSandboxResponse { items: self.pods.lock().unwrap().iter().map(one).collect() })
    }

    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, grpc::Status> {
        let sandboxes = self.pods.lock().unwrap();
        let Some((_, netns)) = sandboxes.get(&request.pod_sandbox_id) else {
            return Err(grpc::Status::new(grpc::Code::NotFound, "there is no such sandbox"));
        };
        let namespaces = json!([{"type": "network", "path": netns}]);
        let info = json!({"runtimeSpec": {"linux": {"namespaces": namespaces}}}).to_string();
        let info = request.verbose.then(|| ("info".to_owned(), info));
        Ok(PodSandboxStatusResponse { info: info.into_iter().collect(), ..Default::default() })
    }
}

struct Images;

impl ImageService for Images {}
