//! A node within another command: what `sextant node` is, on a thread of that command, so that it never outlives it.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use cri::contract::v1::{ListPodSandboxRequest, PodSandbox, RemovePodSandboxRequest, StopPodSandboxRequest};
use cri::plugin::Config;
use tokio::sync::oneshot;

use crate::cli::CriArgs;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::pods::Runtime;

/// A node that serves, and the way to it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) cri: Runtime,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Node {
    /// Starts one in these directories; it serves when this returns. Pods that are there already are its own.
    pub(crate) fn start(data: &Path, run: &Path, config: Config) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (told, ready) = mpsc::channel();
        let (data, run_dir) = (data.to_owned(), run.to_owned());
        let thread = std::thread::Builder::new()
            .name("node".into())
            .spawn(move || serve(&data, &run_dir, config, stopped, told))
            .context(|| "start the node".into())?;
        if ready.recv().is_err() {
            // It has ended without serving.
            return Err(ended(thread).err().unwrap_or_else(|| Failure::new("the node ended")));
        }
        let cri = Runtime::connect(run, &CriArgs { cri: None })?;
        Ok(Self { cri, stop, thread })
    }

    /// Ends it; pods would live on.
    pub(crate) fn end(self) -> Result<()> {
        let _ = self.stop.send(());
        // Its last connection: it waits for those that have calls.
        drop(self.cri);
        ended(self.thread)
    }

    /// Takes the pods down of which `which` holds; how many there were, or which could not be.
    pub(crate) fn remove_pods(&self, which: impl Fn(&PodSandbox) -> bool) -> Result<usize, Vec<Failure>> {
        let list =
            self.cri.ask("list pods", async |c| c.list_pod_sandbox(ListPodSandboxRequest::default()).await);
        let pods = list.map_err(|failure| vec![failure])?.items.into_iter().filter(which).collect::<Vec<_>>();
        let failures: Vec<Failure> = pods.iter().filter_map(|pod| self.remove_pod(pod).err()).collect();
        if failures.is_empty() { Ok(pods.len()) } else { Err(failures) }
    }

    /// As a kubelet takes it down.
    pub(crate) fn remove_pod(&self, pod: &PodSandbox) -> Result<()> {
        let pod_sandbox_id = pod.id.clone();
        self.cri.ask("remove the pod", async |client| {
            let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
            client.stop_pod_sandbox(request).await?;
            client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.map(drop)
        })
    }
}

fn serve(
    data: &Path,
    run: &Path,
    config: Config,
    stopped: oneshot::Receiver<()>,
    told: mpsc::Sender<()>,
) -> Result<()> {
    let instance = Instance::open(data, run)?;
    let socket = instance.run.join("cri.sock");
    let setup = super::setup(instance, config, socket)?;
    let stop = async {
        // Whoever would tell it is gone too.
        let _ = stopped.await;
    };
    let ready = move || {
        let _ = told.send(());
    };
    super::serve(setup, stop, ready)
}

fn ended(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Failure::new("a bug ended the node")))
}
