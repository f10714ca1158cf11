//! The pods that a CRI runtime has, and where their network namespaces are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cri::caller::Client;
use cri::contract::v1::{ListPodSandboxRequest, PodSandboxState, PodSandboxStatusRequest};
use serde_json::Value;
use smi::contract::Name;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::{Failure, Result};
use crate::pods::said;

/// How long a runtime may take to say what it holds: it does so from memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a runtime has told of pods.
#[derive(Debug)]
pub(super) struct Found {
    /// The sandboxes that are ready, each by its pod; the newest, if a pod has several.
    pub(super) ready: BTreeMap<Name, String>,
    /// Where network namespaces are, by the sandboxes: of those that were asked for.
    pub(super) netns: BTreeMap<String, Result<PathBuf>>,
}

/// The way to the runtime, connected again where that has ended.
#[derive(Debug)]
pub(super) struct Sandboxes {
    socket: PathBuf,
    client: Option<Client>,
}

impl Sandboxes {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, client: None }
    }

    async fn client(&mut self) -> Result<Client> {
        if let Some(client) = self.client.clone().filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let connected = timeout(PATIENCE, Client::connect(&self.socket)).await.map_err(|_| {
            Failure::new(format!("cannot ask the runtime for pods: no answer in {} s", PATIENCE.as_secs()))
        })?;
        let client = connected.map_err(|error| said("ask the runtime for pods", &error))?;
        let client = client.with_deadline(PATIENCE);
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The sandboxes that are ready, and where the network namespaces of those of `wanted` are which are not the ones that are known already.
    pub(super) async fn find(&mut self, wanted: &BTreeMap<Name, Option<String>>) -> Result<Found> {
        let client = self.client().await?;
        let ready = ready(&client).await?;
        let mut asking = JoinSet::new();
        for (name, known) in wanted {
            let Some(sandbox) = ready.get(name).filter(|sandbox| known.as_ref() != Some(*sandbox)) else {
                continue;
            };
            let (client, sandbox) = (client.clone(), sandbox.clone());
            asking.spawn(async move {
                let told = netns(&client, &sandbox).await;
                (sandbox, told)
            });
        }
        let mut netns = BTreeMap::new();
        while let Some(asked) = asking.join_next().await {
            // Nobody ends one of them but by a panic, which is told.
            if let Ok((sandbox, told)) = asked {
                netns.insert(sandbox, told);
            }
        }
        Ok(Found { ready, netns })
    }
}

async fn ready(client: &Client) -> Result<BTreeMap<Name, String>> {
    let asked = client.list_pod_sandbox(ListPodSandboxRequest::default()).await;
    let mut all = asked.map_err(|error| said("list the runtime's pods", &error))?.items;
    all.retain(|pod| pod.state() == PodSandboxState::SandboxReady);
    all.sort_by_key(|pod| pod.created_at);
    let named = all.into_iter().filter_map(|pod| {
        let metadata = pod.metadata?;
        Some((Name::new(metadata.namespace, metadata.name), pod.id))
    });
    Ok(named.collect())
}

/// Where a sandbox's network namespace is.
async fn netns(client: &Client, sandbox: &str) -> Result<PathBuf> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: true };
    let asked = client.pod_sandbox_status(request).await;
    let told = asked.map_err(|error| said("look at its sandbox", &error))?.info;
    netns_of(&told).ok_or_else(|| {
        Failure::new(format!(
            "cannot find the network namespace of sandbox {sandbox}: the runtime does not tell it \
             (info.runtimeSpec.linux.namespaces of its verbose status)"
        ))
    })
}

/// The path that a verbose status tells: as containerd, CRI-O and Sextant say it.
fn netns_of(told: &BTreeMap<String, String>) -> Option<PathBuf> {
    let info: Value = serde_json::from_str(told.get("info")?).ok()?;
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces")?.as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    network["path"].as_str().filter(|path| path.starts_with('/')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_where_runtimes_tell_it() {
        let of = |info: &str| netns_of(&BTreeMap::from([("info".to_owned(), info.to_owned())]));
        let namespaces =
            |list: &str| format!(r#"{{"runtimeSpec": {{"linux": {{"namespaces": [{list}]}}}}}}"#);
        let told = namespaces(r#"{"type": "pid"}, {"type": "network", "path": "/run/netns/a"}"#);
        assert_eq!(of(&told), Some("/run/netns/a".into()));
        // A pod on its node's network, one whose runtime keeps it to itself, and what is none of it.
        for none in [
            namespaces(r#"{"type": "pid", "path": "/proc/1/ns/pid"}"#),
            namespaces(r#"{"type": "network"}"#),
            namespaces(r#"{"type": "network", "path": ""}"#),
            namespaces(r#"{"type": "network", "path": 7}"#),
            "{}".into(),
            "no JSON".into(),
        ] {
            assert_eq!(of(&none), None, "{none}");
        }
        assert_eq!(netns_of(&BTreeMap::new()), None);
    }
}
