//! The agent as a whole: what its parts share, and how it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use client::cache::{Cache, Name};
use client::queue::{Pace, Queue};
use cri::contract::v1::{CgroupDriver, RuntimeConfigRequest, VersionRequest, VersionResponse};
use k8s_openapi::api::core::v1::{
    ConfigMap, Node as NodeObject, PersistentVolumeClaim, Pod, Secret, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::watcher;
use tokio::sync::{Notify, watch};

use crate::cgroups::Cgroups;
use crate::collect::{self, Images};
use crate::events::Events;
use crate::evict::{self, Pressures};
use crate::names::Key;
use crate::node::Node;
use crate::node::machine::Machine;
use crate::objects::Objects;
use crate::pod::fields::Here;
use crate::pod::memory::Memory;
use crate::pod::sync;
use crate::runtime::Runtime;
use crate::statics::{self, Statics, is_mirror, mirrored};
use crate::stats::{self, Last};
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
    /// Pods of this node that the API server has, mirrors of static ones among them.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// Pods of this node's files.
    pub(crate) statics: Statics,
    /// This node, as the API server has it.
    pub(crate) nodes: Arc<Cache<NodeObject>>,
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
    /// What the API server has said of who asks this agent.
    pub(crate) reviews: server::Reviews,
    /// What people are told.
    pub(crate) events: Events,
    /// Pods to look at.
    pub(crate) queue: Arc<Queue<Key>>,
    /// Cgroups of pods.
    pub(crate) cgroups: Cgroups,
    /// Images, and who uses them.
    pub(crate) images: Images,
    /// What the node is short of.
    pub(crate) pressures: Pressures,
    /// The node's conditions have changed.
    pub(crate) node_changes: Notify,
    /// What was read last of what is used.
    pub(crate) last: Last,
    /// Whether the node has been registered: from then on the API server has it with the labels that it was told.
    pub(crate) is_registered: AtomicBool,
    /// Since when this agent runs.
    pub(crate) started: Timestamp,
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
        let own = watcher::Config::default().fields(&format!("metadata.name={}", setup.node));
        let agent = Arc::new(Self {
            runtime: Runtime::new(setup.socket.clone(), setup.node.clone()),
            statics: Statics::default(),
            nodes: Cache::start_with(&client, own),
            services: Cache::start(&client),
            config_maps: Objects::new(&client, &queue),
            secrets: Objects::new(&client, &queue),
            claims: Objects::new(&client, &queue),
            csi: Csi::new(&setup.folder),
            tokens: Tokens::default(),
            reviews: server::Reviews::default(),
            events: Events::start(&client, &setup.node),
            cgroups: Cgroups::new(&setup.cgroup_root).with_pids(setup.pod_pids),
            images: Images::default(),
            pressures: Pressures::default(),
            node_changes: Notify::new(),
            last: Last::default(),
            is_registered: AtomicBool::new(false),
            started: Timestamp::now(),
            machine,
            version: OnceLock::new(),
            memories: Mutex::default(),
            changes: watch::Sender::new(()),
            pods,
            queue,
            client,
            setup,
        });
        let (weak, queue, changes) = (Arc::downgrade(&agent), agent.queue.clone(), agent.changes.clone());
        agent.pods.listen(move |change| {
            let pod = change.object();
            match mirrored(pod) {
                None => queue.add(Key::of(pod)),
                // What there is to tell of that one can be told now.
                Some(uid) => {
                    let of = weak.upgrade().and_then(|agent| agent.statics.get(&Name::of(&**pod)));
                    let of = of.filter(|of| of.metadata.uid.as_ref() == Some(uid));
                    queue.add_all(of.map(|of| Key::of(&of)));
                }
            }
            changes.send_replace(());
        });
        agent
    }

    /// The pod, if the one of this uid is still there.
    pub(crate) fn pod(&self, key: &Key) -> Option<Arc<Pod>> {
        self.named(&key.name).filter(|pod| pod.metadata.uid.as_ref() == Some(&key.uid))
    }

    /// The pod of this name.
    pub(crate) fn named(&self, name: &Name) -> Option<Arc<Pod>> {
        self.statics.get(name).or_else(|| self.pods.get(name).filter(|pod| !is_mirror(pod)))
    }

    /// All pods of this node.
    pub(crate) fn all_pods(&self) -> Vec<Arc<Pod>> {
        let mut all = self.pods.find(|pod| !is_mirror(pod));
        all.extend(self.statics.all());
        all
    }

    /// The pod as the API server has it: its mirror, of a static one. That of another that was in its file before is none.
    pub(crate) fn shown(&self, pod: &Pod) -> Option<Arc<Pod>> {
        let key = Key::of(pod);
        match self.statics.get(&key.name) {
            Some(_) => self.pods.get(&key.name).filter(|one| mirrored(one) == pod.metadata.uid.as_ref()),
            None => self.pod(&key),
        }
    }

    /// Hears of pods that change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Pods have changed.
    pub(crate) fn tell_changes(&self) {
        self.changes.send_replace(());
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

    /// What `of` tells of each pod's memory.
    pub(crate) fn memories<T>(&self, of: impl Fn(&Key, &Memory) -> T) -> Vec<T> {
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.iter().map(|(key, memory)| of(key, memory)).collect()
    }

    /// The pods of whose memory this holds.
    pub(crate) fn keys_with(&self, holds: impl Fn(&Memory) -> bool) -> Vec<Key> {
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.iter().filter(|(_, memory)| holds(memory)).map(|(key, _)| key.clone()).collect()
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.config_maps.release(key);
        self.secrets.release(key);
        self.claims.release(key);
        self.tokens.forget(&key.uid);
        self.queue.add_all(self.statics.forget(key));
        self.retry_resizes();
        self.retry_ports();
    }

    /// Names of the images that are volumes of pods.
    pub(crate) fn volume_images(&self) -> BTreeSet<String> {
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let all = memories.values().flat_map(|memory| memory.images.values());
        all.flat_map(|spec| [spec.image.clone(), spec.user_specified_image.clone()]).collect()
    }

    /// Something of the node did not go as it should.
    pub(crate) fn node_warning(&self, reason: &str, text: impl Into<String>) {
        // As kubelets refer to their nodes.
        let metadata = ObjectMeta {
            name: Some(self.setup.node.clone()),
            uid: Some(self.setup.node.clone()),
            ..ObjectMeta::default()
        };
        self.events.warning(
            &k8s_openapi::api::core::v1::Node { metadata, ..Default::default() },
            reason,
            text,
        );
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
        self.queue.add_all(self.all_pods().iter().map(|pod| Key::of(pod)));
    }

    /// Removes what is called after pods that neither the API server nor the runtime has. The keys of those that the runtime has; none
    /// where it cannot be asked, and then nothing is removed.
    async fn sweep(&self) -> Vec<Key> {
        let Ok(keys) = self.runtime.keys().await else { return Vec::new() };
        let pods = self.all_pods();
        let of_pods = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
        // What drivers have mounted is taken back by them, as soon as they are there.
        let mounted = csi::record::all(&self.setup.folder).into_iter().map(|(key, ..)| key);
        let known: BTreeSet<String> =
            of_pods.chain(keys.iter().cloned().chain(mounted).map(|key| key.uid)).collect();
        // Whose folder is there was a pod of this agent: logs of others' pods stay.
        for uid in volumes::uids(&self.setup.folder).difference(&known) {
            for logs in logs_of(&self.setup.logs, uid) {
                let _ = std::fs::remove_dir_all(logs);
            }
        }
        collect::links::tidy(&self.setup.log_links, &self.setup.logs);
        for failed in remove_all_but(&known, &self.setup.folder, &self.cgroups) {
            eprintln!("sextant agent: warning: {failed}");
        }
        keys
    }
}

/// The folders with logs of the pod of this uid.
fn logs_of(root: &Path, uid: &str) -> Vec<std::path::PathBuf> {
    let end = format!("_{uid}");
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(&end))
        .map(|entry| entry.path())
        .collect()
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
    let offer = setup.offers_metrics;
    let agent = Agent::new(client, setup, machine);
    let working = async {
        let version = agent.meet().await;
        let node = Node::new(agent.clone(), version, server.port());
        let joined = async {
            node.register().await;
            agent.pods.filled().await;
            agent.services.filled().await;
            agent.statics.join();
            let keys = agent.sweep().await;
            agent.relist().await;
            ready();
            // Nothing waits for links, and there may be many pods.
            let linking = async {
                collect::links::complete(&agent, &keys).await;
                std::future::pending().await
            };
            tokio::select! {
                never = linking => never,
                never = node.keep() => never,
                never = statics::keep_mirrors(&agent) => never,
                // Which of their volumes are wanted is known only once all pods are.
                never = csi::drivers::follow(&agent) => never,
                never = csi::tidy(&agent) => never,
            }
        };
        let offering = async {
            if offer {
                server.trust(stats::proxies(&agent.client).await);
                stats::register(&agent.client, &agent.setup, server.port(), server.certificate()).await;
            }
            std::future::pending().await
        };
        let look = |key: Key| sync::look(agent.clone(), key);
        tokio::select! {
            () = agent.queue.clone().run_in_lanes(Key::clone, look) => {}
            never = agent.runtime.follow(|key| agent.queue.add(key), || agent.relist()) => never,
            never = joined => never,
            never = statics::keep(&agent) => never,
            never = server.serve(&agent) => never,
            never = collect::keep(&agent) => never,
            never = evict::keep(&agent) => never,
            never = offering => never,
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
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{Ipv4Addr, TcpListener};

    use serde_json::{Value, json};

    use super::*;

    /// An agent whose API server has these pods, and nothing else to say.
    pub(crate) async fn with_pods(pods: &[Value]) -> Arc<Agent> {
        with_lists(&[("/api/v1/pods", "PodList", pods)]).await
    }

    /// An agent whose API server has these pods and had this node, and refuses to say more of that.
    pub(crate) async fn with_node(pods: &[Value], node: &Value) -> Arc<Agent> {
        let nodes = ("/api/v1/nodes", "NodeList", std::slice::from_ref(node));
        let agent = with_lists(&[("/api/v1/pods", "PodList", pods), nodes]).await;
        agent.nodes.filled().await;
        agent
    }

    /// Lists by their paths, with the kinds they are of. A path below one of them is refused, and nothing else is answered.
    async fn with_lists(lists: &[(&str, &str, &[Value])]) -> Arc<Agent> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut config =
            kube::Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        // A machine may have no authorities of its own; this one signs nothing.
        let authority = rcgen::generate_simple_self_signed(vec!["none".into()]).unwrap();
        config.root_cert = Some(vec![authority.cert.der().to_vec()]);
        let lists: Vec<(String, String)> = lists
            .iter()
            .map(|(path, kind, items)| {
                let list = json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "9"}, "items": items});
                ((*path).to_owned(), list.to_string())
            })
            .collect();
        let answer = move |head: &str| {
            let target = head.strip_prefix("GET ")?;
            let (path, list) = lists.iter().find(|(path, _)| target.starts_with(path.as_str()))?;
            match &target[path.len()..] {
                rest if rest.starts_with('/') => Some(("403 Forbidden", forbidden(path, &rest[1..]))),
                rest if rest.starts_with('?') && !rest.contains("watch=") => Some(("200 OK", list.clone())),
                _ => None,
            }
        };
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
                let mut stream = stream.into_inner();
                if let Some((status, body)) = answer(&head) {
                    let fields = format!("content-type: application/json\r\ncontent-length: {}", body.len());
                    write!(stream, "HTTP/1.1 {status}\r\n{fields}\r\nconnection: close\r\n\r\n{body}")
                        .unwrap();
                } else {
                    unanswered.push(stream);
                }
            }
        });
        let machine = Machine::read(&setup()).unwrap();
        let agent = Agent::new(Client::try_from(config).unwrap(), setup(), machine);
        agent.pods.filled().await;
        agent
    }

    /// What an API server says of an object, at the beginning of the rest of a request's first line, that may not be read.
    fn forbidden(path: &str, rest: &str) -> String {
        let kind = path.rsplit('/').next().unwrap();
        let name = rest.split([' ', '?', '/']).next().unwrap();
        let message = format!("{kind} {name:?} is forbidden");
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": "Forbidden", "code": 403})
        .to_string()
    }

    pub(crate) fn setup() -> Setup {
        Setup {
            node: "node".into(),
            socket: "/nowhere".into(),
            folder: "/nowhere".into(),
            logs: "/nowhere".into(),
            log_links: "/nowhere".into(),
            cgroup_root: String::new(),
            address: Ipv4Addr::LOCALHOST.into(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            client_authorities: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            cloud: crate::Cloud::default(),
            labels: Vec::new(),
            pods: 110,
            pod_pids: None,
            manifests: None,
            offers_metrics: false,
            limits: crate::Limits::default(),
            renew: Duration::from_secs(10),
        }
    }
}
