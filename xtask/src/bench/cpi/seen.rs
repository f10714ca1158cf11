//! What has become of nodes and services, as a watcher of them is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use super::super::api::client::Endpoint;
use super::audit::MARK;
use crate::Result;

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// How far a node has come.
#[derive(Clone, Copy, Debug, Default)]
struct NodeState {
    /// It has its id, labels and addresses, and no taint.
    is_initialized: bool,
    /// It has a range, and is said to be reached.
    is_reached: bool,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, NodeState>,
    services: BTreeMap<String, bool>,
    /// A watch that has ended.
    ended: Option<&'static str>,
}

/// All nodes and services as they were last told of.
pub(super) struct Seen {
    state: Arc<Mutex<State>>,
    /// Ends with this.
    _watches: JoinSet<()>,
}

impl Seen {
    /// Follows them from now on.
    pub(super) async fn follow(endpoint: &Endpoint) -> Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let mut watches = JoinSet::new();
        for (path, take) in [
            ("/api/v1/nodes", take_node as fn(&mut State, &Value)),
            ("/api/v1/services", take_service as fn(&mut State, &Value)),
        ] {
            let (of, mut connection) = (path, endpoint.connect().await?);
            let list = connection.done(Method::GET, &format!("{path}?{MARK}"), "", Bytes::new()).await?;
            let list: Value = serde_json::from_slice(&list)?;
            list["items"].as_array().into_iter().flatten().for_each(|one| take(&mut lock(&state), one));
            let version = list["metadata"]["resourceVersion"].as_str().ok_or("a list has no version")?;
            let path = format!("{path}?watch=1&resourceVersion={version}&{MARK}");
            let (mut events, state) = (connection.stream(&path).await?, state.clone());
            watches.spawn(async move {
                let mut rest = Vec::new();
                while let Some(Ok(frame)) = events.frame().await {
                    rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                    // An event is a line.
                    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=at).collect();
                        let event: Value = serde_json::from_slice(&line).unwrap_or_default();
                        take(&mut lock(&state), &event["object"]);
                    }
                }
                lock(&state).ended = Some(of);
                drop(connection);
            });
        }
        Ok(Self { state, _watches: watches })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether it still hears of changes: where it does not, nobody need wait for them.
    pub(super) fn follows(&self) -> Result<()> {
        self.state().ended.map_or(Ok(()), |of| Err(format!("the watch of {of} has ended").into()))
    }

    pub(super) fn initialized(&self) -> usize {
        self.state().nodes.values().filter(|node| node.is_initialized).count()
    }

    pub(super) fn reached(&self) -> usize {
        self.state().nodes.values().filter(|node| node.is_reached).count()
    }

    /// How many services have a status of their load balancers.
    pub(super) fn balanced(&self) -> usize {
        self.state().services.values().filter(|has| **has).count()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn list<'v>(object: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn take_node(state: &mut State, node: &Value) {
    let labels = &node["metadata"]["labels"];
    let is_initialized = !list(node, "/spec/taints").any(|taint| taint["key"] == UNINITIALIZED)
        && node["spec"]["providerID"].is_string()
        && labels["node.kubernetes.io/instance-type"].is_string()
        && labels["topology.kubernetes.io/zone"].is_string()
        && list(node, "/status/addresses").any(|address| address["type"] == "InternalIP");
    let is_reached = node["spec"]["podCIDR"].is_string()
        && list(node, "/status/conditions")
            .any(|one| one["type"] == "NetworkUnavailable" && one["status"] == "False");
    state.nodes.insert(name(node), NodeState { is_initialized, is_reached });
}

fn take_service(state: &mut State, service: &Value) {
    let has = list(service, "/status/loadBalancer/ingress").next().is_some();
    state.services.insert(name(service), has);
}
