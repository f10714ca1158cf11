//! The runtime behind its socket: any that speaks `runtime.v1`.

mod follow;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::cache::Name;
use cri::caller::Client;
use cri::contract::v1::*;
use futures_util::future::try_join_all;

use crate::names::{AGENT, Key, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::observed::Observed;

/// How long a call may take that does not say itself how long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A failed call.
pub(crate) type Failed = grpc::Error;

/// The way to the runtime. It is connected again where the connection has ended.
#[derive(Debug)]
pub(crate) struct Runtime {
    socket: PathBuf,
    /// Whose pods are looked at: those of this node's agent.
    node: String,
    client: Mutex<Option<Client>>,
}

impl Runtime {
    /// One that is connected when it is first called.
    pub(crate) fn new(socket: PathBuf, node: String) -> Self {
        Self { socket, node, client: Mutex::new(None) }
    }

    /// The connection, without a deadline.
    pub(crate) async fn endless(&self) -> Result<Client, Failed> {
        let there = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = there.filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let client = Client::connect(&self.socket).await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// The connection, for calls that take this long and what runtimes need beyond.
    pub(crate) async fn within(&self, time: Duration) -> Result<Client, Failed> {
        Ok(self.endless().await?.with_deadline(time + PATIENCE))
    }

    /// The connection, for calls that wait for nobody.
    pub(crate) async fn client(&self) -> Result<Client, Failed> {
        self.within(Duration::ZERO).await
    }

    /// The keys of all pods of this agent that the runtime has something of.
    pub(crate) async fn keys(&self) -> Result<Vec<Key>, Failed> {
        let filter = PodSandboxFilter { label_selector: self.selector(None), ..Default::default() };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let pods = self.client().await?.list_pod_sandbox(request).await?.items;
        Ok(pods.iter().filter_map(|pod| self.key(&pod.labels)).collect())
    }

    /// Whose it is, if it is a pod of this agent.
    pub(crate) fn key(&self, labels: &BTreeMap<String, String>) -> Option<Key> {
        if labels.get(AGENT) != Some(&self.node) {
            return None;
        }
        let name = Name::new(labels.get(POD_NAMESPACE)?, labels.get(POD_NAME)?);
        Some(Key { name, uid: labels.get(POD_UID)?.clone() })
    }

    fn selector(&self, uid: Option<&str>) -> BTreeMap<String, String> {
        let agent = (AGENT.to_owned(), self.node.clone());
        std::iter::once(agent).chain(uid.map(|uid| (POD_UID.to_owned(), uid.to_owned()))).collect()
    }

    /// All that the runtime has of a pod.
    pub(crate) async fn observe(&self, uid: &str) -> Result<Observed, Failed> {
        let client = self.client().await?;
        let filter = PodSandboxFilter { label_selector: self.selector(Some(uid)), ..Default::default() };
        let sandboxes = client.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) });
        let filter = ContainerFilter { label_selector: self.selector(Some(uid)), ..Default::default() };
        let containers = client.list_containers(ListContainersRequest { filter: Some(filter) });
        let (sandboxes, containers) = futures_util::try_join!(sandboxes, containers)?;
        let containers = containers.containers;
        let sandbox_of = containers.iter().map(|one| (one.id.clone(), one.pod_sandbox_id.clone())).collect();
        let sandboxes = sandboxes.items.into_iter().map(async |pod| {
            let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id, verbose: false };
            found(client.pod_sandbox_status(request).await).map(|answer| answer.and_then(|a| a.status))
        });
        let containers = containers.into_iter().map(async |container| {
            let request = ContainerStatusRequest { container_id: container.id, verbose: false };
            found(client.container_status(request).await).map(|answer| answer.and_then(|a| a.status))
        });
        let (sandboxes, containers) =
            futures_util::try_join!(try_join_all(sandboxes), try_join_all(containers))?;
        let (sandboxes, containers) = (sandboxes.into_iter().flatten(), containers.into_iter().flatten());
        Ok(Observed::new(sandboxes.collect(), containers.collect(), sandbox_of))
    }
}

/// An answer, or `None` where what was asked for is gone.
fn found<T>(answer: Result<T, Failed>) -> Result<Option<T>, Failed> {
    match answer {
        Err(error) if error.code() == grpc::Code::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

/// Without how the call was named: for statuses and events.
pub(crate) fn cause(error: &Failed) -> String {
    match error {
        grpc::Error::Call { status, .. } => status.message.clone(),
        error => error.to_string(),
    }
}
