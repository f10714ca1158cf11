//! A plugin from its connection to its end.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use shim::protocol::{Code, Status};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::connection::{Asked, Connection};
use super::hooks::Others;
use super::launch::{Installed, Processes};
use super::plugin::Plugin;
use super::wire;
use super::{describe, launch, log, names, nothing};
use crate::contract::Error;
use crate::plugin::container;
use crate::plugin::files;
use crate::plugin::node::{Node, blocking};

/// Plugins are taken on. It is to be [ended](Self::end): what it has started would live on until the ledger is looked
/// through next.
#[derive(Debug)]
pub(crate) struct Serving {
    processes: Processes,
    _bound: Option<grpc::Bound>,
}

impl Serving {
    /// Ends the plugins that were started; the others see their connections end with this process.
    pub(crate) async fn end(self) {
        let processes = self.processes.clone();
        let ended = blocking(move || Ok(processes.end_all())).await;
        let errors = ended.unwrap_or_else(|error| {
            log(&error.to_string());
            Vec::new()
        });
        errors.iter().for_each(|error| log(&format!("cannot end a plugin: {error}")));
    }
}

/// Takes plugins on: first those that are installed, then whoever connects to the socket.
pub(crate) async fn serve(node: &Arc<Node>) -> Serving {
    let processes = Processes::new(node.place.ledger.clone());
    if !node.config.nri.enabled {
        return Serving { processes, _bound: None };
    }
    let (installed, problems) = launch::installed(&node.config.nri.plugin_dir, &node.config.nri.config_dir);
    problems.iter().for_each(|problem| log(problem));
    let mut ready = Vec::new();
    for program in installed {
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(stay_with(Arc::clone(node), processes.clone(), program, sender));
        ready.push(receiver);
    }
    // Each is there, or gone, after its timeouts.
    for receiver in ready {
        let _ = receiver.await;
    }
    let path = node.config.nri.socket(&node.place);
    let taken = format!("another runtime takes plugins on {}: set socket in [nri]", path.display());
    let bound = match grpc::listen(&path, &taken).await {
        Ok((listener, bound)) => {
            tokio::spawn(accept(Arc::clone(node), listener));
            Some(bound)
        }
        Err(error) => {
            log(&format!("no plugin can connect: {error}"));
            None
        }
    };
    Serving { processes, _bound: bound }
}

/// Starts a plugin, stays with it, and ends it when it is not wanted any more.
async fn stay_with(node: Arc<Node>, processes: Processes, program: Installed, ready: oneshot::Sender<()>) {
    let (name, config) = (program.name(), program.config.clone());
    let starting = processes.clone();
    let started = blocking(move || starting.start(&program).map_err(Error::internal)).await;
    let started = started.and_then(|(socket, record)| {
        UnixStream::from_std(socket)
            .map(|socket| (socket, record))
            .map_err(|e| Error::internal(e.to_string()))
    });
    let (socket, record) = match started {
        Ok(both) => both,
        Err(error) => return log(&format!("cannot start plugin {name}: {error}")),
    };
    take_on(&node, socket, Some((name.clone(), config)), ready).await;
    let ended = blocking(move || processes.end(record).map_err(Error::of)).await;
    if let Err(error) = ended {
        log(&format!("cannot end plugin {name}: {error}"));
    }
}

async fn accept(node: Arc<Node>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let (node, (sender, _)) = (Arc::clone(&node), oneshot::channel());
                tokio::spawn(async move { take_on(&node, socket, None, sender).await });
            }
            Err(error) => {
                log(&format!("cannot accept a plugin: {error}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Stays with a plugin until it is gone. `known` are name and configuration of one that was started.
async fn take_on(
    node: &Arc<Node>,
    socket: UnixStream,
    known: Option<(String, String)>,
    ready: oneshot::Sender<()>,
) {
    let (connection, requests) = Connection::new(socket, wire::PLUGIN, wire::RUNTIME);
    let (registered, registration) = oneshot::channel();
    let answering = tokio::spawn(answer(Arc::clone(node), connection.clone(), requests, registered));
    let shown = known.as_ref().map_or("?", |(name, _)| name).to_owned();
    match join(node, &connection, known, registration).await {
        Ok(plugin) => {
            log(&format!("plugin {} is connected", plugin.name));
            let _ = ready.send(());
            let reason = connection.closed().await;
            node.nri.forget(&plugin);
            log(&format!("plugin {} is gone: {reason}", plugin.name));
        }
        Err(reason) => {
            connection.close(&reason);
            log(&format!("plugin {shown} is not taken on: {reason}"));
        }
    }
    answering.abort();
}

/// Who it is, what it wants, and what there is.
async fn join(
    node: &Arc<Node>,
    connection: &Connection,
    known: Option<(String, String)>,
    registration: oneshot::Receiver<String>,
) -> Result<Arc<Plugin>, String> {
    let timeouts = [node.config.nri.registration_timeout(), node.config.nri.request_timeout()];
    let registered = tokio::select! {
        registered = tokio::time::timeout(timeouts[0], registration) => registered,
        reason = connection.closed() => return Err(reason),
    };
    let registered = match registered {
        Ok(Ok(name)) => name,
        Ok(Err(_)) => return Err("it did not register".into()),
        Err(_) => return Err(format!("it did not register within {} ms", timeouts[0].as_millis())),
    };
    let (name, config) = known.unwrap_or((registered, String::new()));
    let plugin = Plugin::configure(name, connection.clone(), config, timeouts).await?;
    let plugin = Arc::new(plugin);
    let updates = {
        let _alone = node.nri.alone(timeouts[1]).await.ok_or_else(|| {
            let longest = timeouts[1].as_millis();
            format!("pods or containers were being made for {longest} ms on end: let it connect again")
        })?;
        let (pods, containers) = all(node).await;
        let updates = plugin.synchronize(pods, containers).await?;
        if plugin.connection.is_closed() {
            return Err("it closed the connection".into());
        }
        node.nri.add(Arc::clone(&plugin));
        updates
    };
    if let Err(error) = node.change_others(Others { updates, evictions: Vec::new() }).await {
        log(&format!("plugin {}: {error}", plugin.name));
    }
    Ok(plugin)
}

/// All pods, and the containers that have not ended.
async fn all(node: &Arc<Node>) -> (Vec<wire::PodSandbox>, Vec<wire::Container>) {
    let node = Arc::clone(node);
    let described = blocking(move || {
        let pods = node.state.pods();
        let pods = pods.iter().map(|pod| describe::pod(&pod.record, &node.place.netns(pod.id()))).collect();
        let containers = node.state.containers();
        let describe = |container: &Arc<container::Container>| {
            let config = node.place.bundle(container.id()).join("config.json");
            describe::living(container, files::read_json(&config).ok().flatten().as_ref())
        };
        Ok((pods, containers.iter().filter(|c| c.may_run()).map(describe).collect()))
    });
    described.await.unwrap_or_default()
}

/// Answers what a plugin asks, one after the other.
async fn answer(
    node: Arc<Node>,
    connection: Connection,
    mut requests: mpsc::Receiver<Asked>,
    registered: oneshot::Sender<String>,
) {
    let mut registered = Some(registered);
    let timeout = node.config.nri.request_timeout();
    while let Some(asked) = requests.recv().await {
        let answer = match (asked.service.as_str(), asked.method.as_str()) {
            (wire::RUNTIME_SERVICE, "RegisterPlugin") => register(&asked.payload).map(|name| {
                if let Some(registered) = registered.take() {
                    let _ = registered.send(name);
                }
                nothing()
            }),
            (wire::RUNTIME_SERVICE, "UpdateContainers") => update(&node, &asked.payload).await,
            (service, method) => Err(status(Code::Unimplemented, format!("no {service}/{method} is here"))),
        };
        connection.answer(asked.stream, answer, timeout).await;
    }
}

fn register(payload: &[u8]) -> Result<String, Status> {
    let request = wire::RegisterPluginRequest::decode(payload).map_err(|e| unreadable(&e))?;
    let name = names::full_name(&request.plugin_idx, &request.plugin_name);
    name.map_err(|why| status(Code::InvalidArgument, format!("cannot register the plugin: {why}")))
}

async fn update(node: &Arc<Node>, payload: &[u8]) -> Result<Vec<u8>, Status> {
    let request = wire::UpdateContainersRequest::decode(payload).map_err(|e| unreadable(&e))?;
    let evictions = Others { updates: Vec::new(), evictions: request.evict };
    let evicted = node.change_others(evictions).await;
    evicted.map_err(|e| status(Code::Internal, e.to_string()))?;
    let failed = node.update_containers(request.update).await.into_iter().map(|(update, _)| update).collect();
    Ok(wire::UpdateContainersResponse { failed }.encode_to_vec())
}

fn unreadable(error: &prost::DecodeError) -> Status {
    status(Code::InvalidArgument, format!("cannot read the request: {error}"))
}

fn status(code: Code, message: String) -> Status {
    Status { code: code as i32, message }
}
