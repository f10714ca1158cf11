//! Pods of a CRI runtime, this node's or any other's, as the command line asks for them.
//!
//! Nothing here knows whose runtime it is: all is said through CRI, and streams come as every runtime gives them.

mod find;
mod forward;
mod session;
mod stdio;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::caller::{Blocking, Client};
use cri::contract::v1::{
    Container, ContainerState, ContainerStatusRequest, ContainerStatusResponse, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox,
};

pub(crate) use find::{Held, pod_name};
pub(crate) use forward::{Ports, forward};
pub(crate) use session::{Asked, attach, exec, run_at};

use crate::cli::CriArgs;
use crate::failure::{Failure, Result};

/// How long a runtime may take to say what it holds: it does so from memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime that answers.
#[derive(Debug)]
pub(crate) struct Runtime {
    cri: Blocking,
    socket: PathBuf,
}

impl Runtime {
    /// The runtime that was named, or the node of this run directory.
    pub(crate) fn connect(run_dir: &Path, args: &CriArgs) -> Result<Self> {
        let socket = socket(run_dir, args);
        let cri = Blocking::connect(&socket).map_err(|error| {
            let why = match error {
                grpc::Error::Connect { source, .. } => source.to_string(),
                other => other.to_string(),
            };
            Failure::new(format!(
                "cannot reach a runtime at {}: {why} (is `sextant node` running? --cri names another)",
                socket.display()
            ))
        })?;
        Ok(Self { cri, socket })
    }

    /// The runtime that was named, which must answer; or the node of this run directory, if one serves there.
    pub(crate) fn if_there(run_dir: &Path, args: &CriArgs) -> Result<Option<Self>> {
        match (Self::connect(run_dir, args), &args.cri) {
            (Ok(runtime), _) => Ok(Some(runtime)),
            (Err(failure), Some(_)) => Err(failure),
            (Err(_), None) => Ok(None),
        }
    }

    /// Where it is.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits for calls.
    pub(crate) fn wait<T>(&self, call: impl AsyncFnOnce(&Client) -> T) -> T {
        self.cri.wait(call)
    }

    /// The answer to one call; `what` says what it was for.
    pub(crate) fn ask<T>(
        &self,
        what: &str,
        call: impl AsyncFnOnce(&Client) -> Result<T, grpc::Error>,
    ) -> Result<T> {
        self.cri.wait(async |client| call(&client.with_deadline(PATIENCE)).await).map_err(|e| said(what, &e))
    }

    /// Everything it holds.
    pub(crate) fn held(&self) -> Result<Held> {
        self.ask("list pods", async |client| {
            let pods = client.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
            let containers = client.list_containers(ListContainersRequest::default()).await?.containers;
            Ok(Held { pods, containers })
        })
    }

    /// The pod that `text` means.
    pub(crate) fn pod(&self, text: &str) -> Result<PodSandbox> {
        self.held()?.pod(text).cloned().map_err(Failure::new)
    }

    /// A pod's container: the one called `name`, or its only one; with `previous` the one before it.
    pub(crate) fn container_of(&self, pod: &str, name: Option<&str>, previous: bool) -> Result<Container> {
        let held = self.held()?;
        let found = held.pod(pod).and_then(|pod| held.container_of(pod, name));
        chosen(&held, found, previous)
    }

    /// The container that `text` means, of whatever pod.
    pub(crate) fn container(&self, text: &str, previous: bool) -> Result<Container> {
        let held = self.held()?;
        chosen(&held, held.container(text), previous)
    }

    /// A container's state and what else its runtime tells of it.
    pub(crate) fn status(&self, id: &str, verbose: bool) -> Result<ContainerStatusResponse> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose };
        self.ask("look at the container", async |client| client.container_status(request).await)
    }
}

/// A container's state in one word.
pub(crate) fn state(container: &Container) -> &'static str {
    match container.state() {
        ContainerState::ContainerCreated => "created",
        ContainerState::ContainerRunning => "running",
        ContainerState::ContainerExited => "exited",
        ContainerState::ContainerUnknown => "unknown",
    }
}

/// Whether its program runs.
pub(crate) fn is_running(container: &Container) -> bool {
    container.state() == ContainerState::ContainerRunning
}

fn chosen(held: &Held, found: Result<&Container, String>, previous: bool) -> Result<Container> {
    let found = found.and_then(|container| match previous {
        true => held.previous(container),
        false => Ok(container),
    });
    found.cloned().map_err(Failure::new)
}

/// A unix socket, as a path or as kubelets write it.
pub(crate) fn socket(run_dir: &Path, args: &CriArgs) -> PathBuf {
    let Some(given) = &args.cri else { return run_dir.join("cri.sock") };
    given.to_str().and_then(|text| text.strip_prefix("unix://")).map_or_else(|| given.clone(), PathBuf::from)
}

/// What a runtime answered instead of doing it: its own words, which name field and cause.
pub(crate) fn said(what: &str, error: &grpc::Error) -> Failure {
    match error {
        grpc::Error::Call { status, .. } => Failure::new(format!("cannot {what}: {}", status.message)),
        other => Failure::new(format!("cannot {what}: {other}")),
    }
}
