//! The agent as a whole: what its parts share, and how it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use client::cache::Cache;
use client::queue::{Pace, Queue};
use cri::contract::v1::{CgroupDriver, RuntimeConfigRequest, VersionRequest, VersionResponse};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::Client;
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::cgroups::Cgroups;
use crate::events::Events;
use crate::names::Key;
use crate::node::Node;
use crate::node::machine::Machine;
use crate::objects::Objects;
use crate::pod::fields::Here;
use crate::pod::memory::Memory;
use crate::pod::sync;
use crate::runtime::Runtime;
use crate::volumes::Tokens;
use crate::volumes::csi::{self, Csi};
use crate::{Setup, server, volumes};

/// How long the runtime and the API server may take at the start before it is told that they are waited for.
const SOON: Duration = Duration::from_secs(5);

/// What all parts share.
pub(crate) struct Agent {
    /// What it was told.
    pub(crate) setup: Setup,
    /// The way to the API server.
    pub(crate) client: Client,
    /// The way to the runtime.
    pub(crate) runtime: Runtime,
    /// Pods of this node.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// All services.
    pub(crate) services: Arc<Cache<Service>>,
    /// Config maps that pods name.
    pub(crate) config_maps: Objects<ConfigMap>,
    /// Secrets that pods name.
    pub(crate) secrets: Objects<Secret>,
    /// Claims that pods name.
    pub(crate) claims: Objects<PersistentVolumeClaim>,
    /// Drivers of volumes, and what is mounted of them.
    pub(crate) csi: Csi,
    /// Tokens of pods.
    pub(crate) tokens: Tokens,
    /// What people are told.
    pub(crate) events: Events,
    /// Pods to look at.
    pub(crate) queue: Arc<Queue<Key>>,
    /// Cgroups of pods.
    pub(crate) cgroups: Cgroups,
    /// What the node has.
    pub(crate) machine: Machine,
    version: OnceLock<VersionResponse>,
    memories: Mutex<BTreeMap<Key, Memory>>,
    changes: watch::Sender<()>,
}

impl Agent {
    fn new(client: Client, setup: Setup, machine: Machine) -> Arc<Self> {
        let pace = Pace { longest: Duration::from_secs(60), ..Pace::default() };
        let queue = Queue::new(pace);
        let of_node = watcher::Config::default().fields(&format!("spec.nodeName={}", setup.node));
        let pods = Cache::start_with(&client, of_node);
        let agent = Arc::new(Self {
            runtime: Runtime::new(setup.socket.clone(), setup.node.clone()),
            services: Cache::start(&client),
            config_maps: Objects::new(&client, &queue),
            secrets: Objects::new(&client, &queue),
            claims: Objects::new(&client, &queue),
            csi: Csi::new(&setup.folder),
            tokens: Tokens::default(),
            events: Events::start(&client, &setup.node),
            cgroups: Cgroups::new(&setup.cgroup_root),
            machine,
            version: OnceLock::new(),
            memories: Mutex::default(),
            changes: watch::Sender::new(()),
            pods,
            queue,
            client,
            setup,
        });
        let (queue, changes) = (agent.queue.clone(), agent.changes.clone());
        agent.pods.listen(move |change| {
            queue.add(Key::of(change.object()));
            changes.send_replace(());
        });
        agent
    }

    /// The pod, if the one of this uid is still there.
    pub(crate) fn pod(&self, key: &Key) -> Option<Arc<Pod>> {
        self.pods.get(&key.name).filter(|pod| pod.metadata.uid.as_ref() == Some(&key.uid))
    }

    /// Resolves once this holds of the pod as the API server has it.
    pub(crate) async fn until(&self, key: &Key, holds: impl Fn(Option<&Pod>) -> bool) {
        let mut changes = self.changes.subscribe();
        while !holds(self.pod(key).as_deref()) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What is known of a pod begins, where nothing is.
    pub(crate) fn remember(&self, key: &Key, pod: &Pod) {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(key.clone()).or_insert_with(|| Memory::begin(pod));
    }

    /// Does something with what is known of a pod; nothing where nothing is.
    pub(crate) fn with_memory<T>(&self, key: &Key, act: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key).map(act)
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.config_maps.release(key);
        self.secrets.release(key);
        self.claims.release(key);
        self.tokens.forget(&key.uid);
    }

    /// The runtime's name, as ids of containers begin.
    pub(crate) fn runtime_name(&self) -> &str {
        self.version.get().map_or("cri", |version| version.runtime_name.as_str())
    }

    /// What pods may ask of their node, and of themselves.
    pub(crate) fn here<'a>(&'a self, addresses: &'a [String]) -> Here<'a> {
        Here {
            node: &self.setup.node,
            host: &self.machine.address,
            addresses,
            cpus: self.machine.cpus * 1000,
            memory: self.machine.memory,
        }
    }

    /// Waits for the runtime.
    async fn meet(&self) -> VersionResponse {
        let mut told = false;
        let began = tokio::time::Instant::now();
        loop {
            let asked = async {
                let client = self.runtime.client().await?;
                let version = client.version(VersionRequest { version: "v1".into() }).await?;
                // An older runtime does not know the call.
                let config = client.runtime_config(RuntimeConfigRequest {}).await.unwrap_or_default();
                Ok::<_, grpc::Error>((version, config))
            };
            match asked.await {
                Ok((version, config)) => {
                    let is_systemd =
                        config.linux.is_some_and(|linux| linux.cgroup_driver() == CgroupDriver::Systemd);
                    self.cgroups.driver(is_systemd);
                    let _ = self.version.set(version.clone());
                    return version;
                }
                Err(error) if began.elapsed() > SOON && !std::mem::replace(&mut told, true) => {
                    eprintln!("sextant agent: waits for the runtime: {error}");
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// All pods that the runtime has something of are looked at.
    async fn relist(&self) {
        match self.runtime.keys().await {
            Ok(keys) => self.queue.add_all(keys),
            Err(error) => eprintln!("sextant agent: warning: cannot list the runtime's pods: {error}"),
        }
        self.queue.add_all(self.pods.all().iter().map(|pod| Key::of(pod)));
    }

    /// Removes what is called after pods that neither the API server nor the runtime has.
    async fn sweep(&self) {
        let Ok(keys) = self.runtime.keys().await else { return };
        let pods = self.pods.all();
        let of_pods = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
        // What drivers have mounted is taken back by them, as soon as they are there.
        let mounted = csi::record::all(&self.setup.folder).into_iter().map(|(key, ..)| key);
        let known: BTreeSet<String> =
            of_pods.chain(keys.into_iter().chain(mounted).map(|key| key.uid)).collect();
        for failed in remove_all_but(&known, &self.setup.folder, &self.cgroups) {
            eprintln!("sextant agent: warning: {failed}");
        }
    }
}

/// Removes what is called after other pods; what could not be.
pub(crate) fn remove_all_but(known: &BTreeSet<String>, folder: &Path, cgroups: &Cgroups) -> Vec<String> {
    let found: BTreeSet<String> = volumes::uids(folder).into_iter().chain(cgroups.uids()).collect();
    let removed = found.difference(known).flat_map(|uid| [cgroups.remove(uid), volumes::remove(folder, uid)]);
    removed.filter_map(Result::err).collect()
}

/// Removes what an agent that has ended has left of its pods in `folder` and below the cgroup `root` ([`Setup::folder`],
/// [`Setup::cgroup_root`]), once the runtime has none of them any more. Drivers of their volumes have to be there still. Returns what
/// could not be removed.
pub async fn clear(folder: &Path, root: &str) -> Vec<String> {
    let mut left = csi::release_all(folder).await;
    left.extend(remove_all_but(&BTreeSet::new(), folder, &Cgroups::new(root)));
    left
}

/// Does a kubelet's work until `ended` resolves; calls `ready` once the node is registered and its pods are known.
///
/// # Errors
/// It cannot start: a text for people.
pub async fn run(
    client: Client,
    setup: Setup,
    ended: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), String> {
    let machine = Machine::read(&setup)?;
    let server = server::Server::bind(&setup).await?;
    let agent = Agent::new(client, setup, machine);
    let working = async {
        let version = agent.meet().await;
        let node = Node::new(agent.clone(), version, server.port());
        node.register().await;
        agent.pods.filled().await;
        agent.services.filled().await;
        agent.sweep().await;
        agent.relist().await;
        ready();
        let look = |key: Key| sync::look(agent.clone(), key);
        tokio::select! {
            () = agent.queue.clone().run_in_lanes(Key::clone, look) => {}
            never = agent.runtime.follow(|key| agent.queue.add(key), || agent.relist()) => never,
            never = node.keep() => never,
            never = csi::drivers::follow(&agent) => never,
            never = csi::tidy(&agent) => never,
            never = server.serve(&agent) => never,
        }
    };
    tokio::select! {
        () = working => {}
        () = ended => {}
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    pub(crate) fn setup() -> Setup {
        Setup {
            node: "node".into(),
            socket: "/nowhere".into(),
            folder: "/nowhere".into(),
            logs: "/nowhere".into(),
            cgroup_root: String::new(),
            address: Ipv4Addr::LOCALHOST.into(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            client_authorities: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            labels: Vec::new(),
            pods: 110,
            renew: Duration::from_secs(10),
        }
    }
}
