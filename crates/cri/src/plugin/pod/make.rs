//! RunPodSandbox: from a configuration to a pod that is ready.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use ledger::{Effect, Owner, OwnerId, Record as _};
use shim::protocol::{
    CREATE, ContainerRequest, Empty, IdMapping, SANDBOX, SHUTDOWN, START, SandboxReply, SandboxRequest,
};
use tokio::sync::RwLockReadGuard;

use super::{Key, Pod, Record, names, namespace_options, sandbox};
use crate::contract::Error;
use crate::contract::v1::{self, NamespaceMode, PodSandboxConfig, RunPodSandboxRequest};
use crate::plugin::cgroup::Parent;
use crate::plugin::history::Who;
use crate::plugin::node::{Node, blocking};
use crate::plugin::shims::{self, Connection};
use crate::plugin::{files, ids};

/// Bytes of a pod's `/dev/shm`.
const SHM_SIZE: u64 = 64 << 20;

impl Node {
    /// Makes a pod, and returns its id once it is ready.
    ///
    /// A caller that leaves does not end it; one that comes again with the same metadata joins it.
    pub(crate) async fn run_pod(self: &Arc<Self>, request: RunPodSandboxRequest) -> Result<String, Error> {
        let config = request.config.unwrap_or_default();
        let handler = request.runtime_handler;
        self.handlers.check(&handler)?;
        let key = Key::of(&config);
        if let Some(pod) = self.state.pods().into_iter().find(|pod| pod.key() == key) {
            let same = same_again(&pod, &config, &handler);
            if same.is_ok() {
                self.pods_in_making.taken(&key);
            }
            return same;
        }
        let (maker, undoer) = (Arc::clone(self), Arc::clone(self));
        let doing = self.history.begin(Who::of(&config), "RunPodSandbox", "");
        let work = async move {
            let made = make(&maker, config, handler).await;
            doing.end(&made, Clone::clone);
            made
        };
        let abandon = |made: Result<String, Error>| async move {
            if let Ok(id) = made {
                undoer.log(&format!("pod sandbox {id}: nobody came for it: removed"));
                if let Err(error) = undoer.remove_pod(&id).await {
                    undoer.log(&format!("pod sandbox {id}: {error}"));
                }
            }
        };
        let made = self.pods_in_making.run(key, work, abandon).await;
        made.unwrap_or_else(|| Err(Error::internal("cannot make the pod sandbox: a bug ended it")))
    }
}

/// A pod with this metadata is there: the answer is lost on its caller's way, or two pods collide.
fn same_again(pod: &Pod, config: &PodSandboxConfig, handler: &str) -> Result<String, Error> {
    if pod.record.config == *config && pod.record.handler == handler && pod.is_ready() {
        return Ok(pod.id().to_owned());
    }
    Err(Error::exists(format!(
        "a pod sandbox with this uid, name, namespace and attempt is here already: {} (remove it first, or raise \
         config.metadata.attempt)",
        pod.id()
    )))
}

async fn make(node: &Arc<Node>, config: PodSandboxConfig, handler: String) -> Result<String, Error> {
    let id = ids::new_id()?;
    let (maker, plan) = (Arc::clone(node), Plan::new(node, &id, config, handler)?);
    let (mut begun, plan) = blocking(move || Ok((begin(&maker, &plan)?, plan))).await?;
    let as_planned = plan.record.clone();
    match finish(node, &mut begun, plan).await {
        // Until it is listed no plugin is told what there is.
        Ok((pod, _entered)) => {
            let pod = Arc::new(pod);
            // It is on record: whoever converges leaves it alone from here on.
            drop(begun);
            node.state.add_pod(Arc::clone(&pod));
            node.watch_pod(&pod);
            node.events.pod_started(&pod);
            Ok(id)
        }
        Err(error) => {
            let node = Arc::clone(node);
            let undo = move || Ok(undo(&node, &as_planned, begun));
            let mut left = blocking(undo).await?;
            // What kept it from coming keeps it from being taken back: said once.
            left.retain(|left| {
                let cause =
                    left.split_once(&id).map_or(left.as_str(), |(_, cause)| cause.trim_start_matches(": "));
                cause.is_empty() || !error.message.contains(cause)
            });
            Err(left.into_iter().fold(error, |error, left| error.and(&left)))
        }
    }
}

/// Takes back a pod that did not come to be.
fn undo(node: &Node, record: &Record, mut begun: Begun) -> Vec<String> {
    let Some(mut owner) = begun.owner.take() else { return Vec::new() };
    let detached = super::network::detach(node, record, &mut owner);
    let mut left: Vec<String> = detached.err().map(|e| e.to_string()).into_iter().collect();
    left.extend(owner.undo_all().iter().map(ToString::to_string));
    left
}

/// What is known before anything is made.
struct Plan {
    record: Record,
    host_network: bool,
    own_ipc: bool,
    sandbox: SandboxRequest,
}

impl Plan {
    fn new(node: &Node, id: &str, config: PodSandboxConfig, handler: String) -> Result<Self, Error> {
        let options = namespace_options(&config);
        node.handlers.check_pod(&handler, &options)?;
        let host_network = options.network() == NamespaceMode::Node;
        let own_ipc = options.ipc() != NamespaceMode::Node;
        let linux = config.linux.clone().unwrap_or_default();
        let user = options.userns_options.as_ref().filter(|u| u.mode() == NamespaceMode::Pod);
        let (net_sysctls, sysctls): (Vec<_>, Vec<_>) =
            linux.sysctls.into_iter().partition(|(key, _)| super::network::is_net(key));
        if host_network && let Some((key, _)) = net_sysctls.first() {
            let field = format!("config.linux.sysctls[{key:?}]");
            return Err(Error::invalid(field, "is the host's with its network: leave it out"));
        }
        let map = |ids: &[v1::IdMapping]| ids.iter().map(id_mapping).collect();
        let sandbox = SandboxRequest {
            id: id.to_owned(),
            directory: node.place.pod_run(id).display().to_string(),
            ipc: own_ipc,
            uts: !host_network,
            hostname: if host_network { String::new() } else { names::hostname(&config) },
            sysctls: sysctls.into_iter().collect(),
            user: user.map(|u| shim::protocol::UserNamespace {
                uid_mappings: map(&u.uids),
                gid_mappings: map(&u.gids),
            }),
            network: user.is_some() && !host_network,
            share_pid: options.pid() == NamespaceMode::Pod,
            // Under memory pressure everything of the pod's goes before what keeps it.
            oom_score_adj: node.shim_oom_score_adj,
            runtime: node.handlers.runtime(&handler)?,
        };
        let record = Record {
            id: id.to_owned(),
            created: super::super::clock::now(),
            handler,
            addresses: Vec::new(),
            network: None,
            cgroup: Parent::of(&linux.cgroup_parent, node.cgroup_driver, &node.place.name)?,
            boot: node.boot.clone(),
            namespaces: Vec::new(),
            shm: own_ipc,
            config,
        };
        Ok(Self { record, host_network, own_ipc, sandbox })
    }
}

pub(super) fn id_mapping(mapping: &v1::IdMapping) -> IdMapping {
    IdMapping { host_id: mapping.host_id, container_id: mapping.container_id, size: mapping.length }
}

/// What has been made so far.
struct Begun {
    /// Locked; away while a blocking thread has it.
    owner: Option<Owner>,
    socket: Option<OwnedFd>,
}

impl Begun {
    /// Does `work` with the owner on a thread that may block.
    async fn lend<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Owner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let owner = self.owner.take();
        let mut owner = owner.ok_or_else(|| Error::internal("the pod sandbox's records are elsewhere"))?;
        let (owner, result) = blocking(move || {
            let result = work(&mut owner);
            Ok((owner, result))
        })
        .await?;
        self.owner = Some(owner);
        result
    }
}

/// Directories and the shim.
fn begin(node: &Node, plan: &Plan) -> Result<Begun, Error> {
    let mut owner = node
        .place
        .ledger
        .owner(&OwnerId::new(plan.record.id.as_str()).map_err(Error::of)?)
        .map_err(Error::of)?;
    match begin_with(node, plan, &mut owner) {
        Ok(socket) => Ok(Begun { owner: Some(owner), socket: Some(socket) }),
        Err(error) => Err(owner.undo_all().into_iter().fold(error, |error, left| error.and(&left))),
    }
}

fn begin_with(node: &Node, plan: &Plan, owner: &mut Owner) -> Result<OwnedFd, Error> {
    let id = &plan.record.id;
    for dir in [node.place.pod(id), node.place.pod_run(id)] {
        owner.record(Effect::Tree { path: dir.clone() }).map_err(Error::of)?;
        files::make_dir(&dir)?;
    }
    let log_directory = &plan.record.config.log_directory;
    if !log_directory.is_empty() {
        std::fs::create_dir_all(log_directory).map_err(|e| {
            Error::internal(format!("cannot create config.log_directory {log_directory}: {e}"))
        })?;
    }
    let others = node.handlers.is_shim(&plan.record.handler);
    let own = Path::new(&node.place.name);
    if others || matches!(&plan.record.cgroup, Parent::Cgroupfs { path } if path == own) {
        node.share_cgroup(owner)?;
    }
    if others {
        sandbox::record(node, &plan.record, owner)?;
    }
    let errors = node.place.pod(id).join("shim.err");
    let (socket, child) = node
        .binary
        .spawn(id.get(..12).unwrap_or(id), &errors, false)
        .map_err(|e| Error::internal(format!("cannot start the shim of pod sandbox {id}: {e}")))?;
    if let Ok(start_time) = kernel::process::start_time(child.pid) {
        owner.record(Effect::Process { pid: child.pid, start_time }).map_err(Error::of)?;
    }
    let pid = child.pid;
    node.adopt(child);
    if others {
        sandbox::set_apart(node, id, pid)?;
    }
    if plan.own_ipc {
        make_shm(&node.place.pod_run(id).join("shm"), owner)?;
    }
    Ok(socket)
}

/// The memory that the pod's containers share. It is in the host's table of mounts, for before Linux 6.15 a mount that is
/// attached nowhere cannot be mounted in several places.
fn make_shm(path: &Path, owner: &mut Owner) -> Result<(), Error> {
    owner.record(Effect::Mount { path: path.to_owned() }).map_err(Error::of)?;
    files::make_dir(path)?;
    let size = kernel::process::cstring(SHM_SIZE.to_string().as_bytes())?;
    let attributes = rustix::mount::MountAttrFlags::MOUNT_ATTR_NOSUID
        | rustix::mount::MountAttrFlags::MOUNT_ATTR_NODEV
        | rustix::mount::MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [(c"mode", Some(c"1777")), (c"size", Some(size.as_c_str()))];
    let mounted = kernel::mount::filesystem(c"tmpfs", Some(c"shm"), options, attributes.bits().into())
        .and_then(|mount| {
            let target = rustix::fs::open(
                path,
                rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?;
            kernel::mount::attach(mount, target)
        });
    mounted.map_err(|e| Error::internal(format!("cannot mount {}: {e}", path.display())))
}

/// Namespaces, network and names, and the record.
async fn finish<'a>(
    node: &'a Arc<Node>,
    begun: &mut Begun,
    plan: Plan,
) -> Result<(Pod, RwLockReadGuard<'a, ()>), Error> {
    let socket = begun.socket.take().ok_or_else(|| Error::internal("the shim's socket is gone"))?;
    let shim = Connection::over_fd(socket)?;
    // The network needs nothing of the shim, unless it is made in the shim's user namespace.
    let Plan { mut record, host_network, sandbox, .. } = plan;
    let attach_later = sandbox.network;
    let asked = {
        let (shim, sandbox) = (shim.clone(), sandbox.clone());
        tokio::spawn(async move { shim.call(&SANDBOX, &sandbox).await })
    };
    let mut reply = None;
    let mut asked = Some(asked);
    if attach_later && let Some(task) = asked.take() {
        reply = Some(joined(task.await)?);
    }
    if !host_network {
        let made_by_shim = reply.as_ref().and_then(|r| path_of(r, "network"));
        let doing = node.history.begin(Who::of(&record.config), "AttachNetwork", "");
        let attached = attach(node, begun, &record, made_by_shim).await;
        doing.end(&attached, |(_, addresses)| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        });
        let attached = attached?;
        (record.network, record.addresses) = (Some(attached.0), attached.1);
    }
    let reply = match (reply, asked) {
        (Some(reply), _) => reply,
        (None, Some(task)) => joined(task.await)?,
        (None, None) => return Err(Error::internal("the shim was not asked")),
    };
    for warning in &reply.warnings {
        node.log(&format!("pod sandbox {}: {warning}", record.id));
    }
    node.shim_scope.iter().for_each(shims::Scope::take_all);
    record.namespaces = reply.namespaces.into_iter().map(|n| (n.kind, n.path)).collect();
    if node.handlers.is_shim(&record.handler) {
        start_sandbox(node, begun, &shim, &record).await?;
    }
    let place = node.place.clone();
    let record = blocking(move || {
        names::write(&place.pod_run(&record.id), &record, host_network)?;
        Ok(record)
    })
    .await?;
    let entered = node.nri.enter().await;
    if let Err(error) = node.nri.run_pod(&record).await {
        node.nri.undo_pod(&record).await;
        return Err(error);
    }
    let asked = record.clone();
    let place = node.place.clone();
    let kept = blocking(move || {
        let dir = place.pod(&record.id);
        files::write_json(&dir.join(super::RECORD), &record)?;
        // Only there if plugins of others attached it.
        let _ = std::fs::remove_file(dir.join(super::ATTACHING));
        Ok(record)
    })
    .await;
    match kept {
        Ok(record) => Ok((Pod::new(record, Some(shim)), entered)),
        Err(error) => {
            node.nri.undo_pod(&asked).await;
            Err(error)
        }
    }
}

/// The sandbox container, for a shim of others: with it that comes to be.
async fn start_sandbox(
    node: &Arc<Node>,
    begun: &mut Begun,
    shim: &Connection,
    record: &Record,
) -> Result<(), Error> {
    let (maker, pod) = (Arc::clone(node), record.clone());
    let request = blocking(move || sandbox::prepare(&maker, &pod)).await?;
    let which = ContainerRequest { container: record.id.clone() };
    let started = async {
        let created = shim.call_within(sandbox::PATIENCE, &CREATE, &request).await?;
        begun.lend(move |owner| sandbox::record_socket(&created, owner)).await?;
        shim.call_within(sandbox::PATIENCE, &START, &which).await?;
        Ok(())
    };
    let started = started.await;
    if started.is_err() {
        let _ = shim.call_within(shims::PATIENCE, &SHUTDOWN, &Empty {}).await;
    }
    started
}

fn joined(
    result: Result<Result<SandboxReply, shims::Error>, tokio::task::JoinError>,
) -> Result<SandboxReply, Error> {
    let reply = result.map_err(|e| Error::internal(format!("cannot ask the shim: {e}")))?;
    Ok(reply?)
}

fn path_of(reply: &SandboxReply, kind: &str) -> Option<String> {
    reply.namespaces.iter().find(|n| n.kind == kind).map(|n| n.path.clone())
}

/// The pod's network namespace, on the node's network: the network's name and the pod's addresses.
async fn attach(
    node: &Arc<Node>,
    begun: &mut Begun,
    record: &Record,
    made_by_shim: Option<String>,
) -> Result<(String, Vec<IpAddr>), Error> {
    let (node, record) = (Arc::clone(node), record.clone());
    begun.lend(move |owner| super::network::attach(&node, &record, made_by_shim.as_deref(), owner)).await
}
