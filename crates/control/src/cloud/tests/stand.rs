//! What tests of the controllers of nodes work with: an API server of nodes in memory, and a provider that says what it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use client::cache::Cache;
use cpi::contract::{
    Answer, CloudProvider, Error, InstanceMetadata, Instances, Node, NodeAddress, Route, Routes,
};
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::super::{Context, Controllers, Metrics, Setup};

/// What is in the server, and what was asked of it.
#[derive(Default)]
pub(in crate::cloud) struct State {
    pub(in crate::cloud) nodes: BTreeMap<String, Value>,
    /// Services of namespace `shop`, by their names.
    pub(in crate::cloud) services: BTreeMap<String, Value>,
    /// Reasons of events, in their order.
    pub(in crate::cloud) told: Vec<String>,
    /// Writes of nodes and services: `PATCH node0/status`.
    pub(in crate::cloud) writes: Vec<String>,
    /// Which of these it refuses.
    pub(in crate::cloud) refuses: Option<String>,
    /// With which code; none: 403.
    pub(in crate::cloud) refuses_with: Option<u16>,
    /// What it lists of them.
    pub(in crate::cloud) events: Vec<Value>,
    /// With this code it refuses to list them.
    pub(in crate::cloud) refuses_events: Option<u16>,
    version: u64,
}

/// What somebody has told a moment ago of one of its nodes.
pub(in crate::cloud) fn was_told(node: &str, reason: &str, text: &str) -> Value {
    let of = json!({"kind": "Node", "name": node, "uid": format!("uid-{node}")});
    let at = format!("{:.6}", k8s_openapi::jiff::Timestamp::now());
    json!({"metadata": {"name": "e", "namespace": "default"}, "involvedObject": of, "reason": reason, "message": text,
        "eventTime": at})
}

/// The namespace of all services here.
pub(in crate::cloud) const SHOP: &str = "shop";

/// The server. Watchers of it hear of nothing: what the cache knows is what there was at first.
#[derive(Clone, Default)]
pub(in crate::cloud) struct Server(Arc<Mutex<State>>);

impl Server {
    /// With these nodes.
    pub(in crate::cloud) fn with(nodes: impl IntoIterator<Item = Value>) -> Self {
        let server = Self::default();
        nodes.into_iter().for_each(|node| server.put(node));
        server
    }

    pub(in crate::cloud) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Makes a node, or has it be so.
    pub(in crate::cloud) fn put(&self, mut node: Value) {
        let mut state = self.state();
        state.version += 1;
        let name = node["metadata"]["name"].as_str().unwrap().to_owned();
        node["metadata"]["resourceVersion"] = json!(state.version.to_string());
        node["metadata"]["uid"] = json!(format!("uid-{name}"));
        state.nodes.insert(name, node);
    }

    /// Makes a service in namespace `shop`, or has it be so.
    pub(in crate::cloud) fn put_service(&self, mut service: Value) {
        let mut state = self.state();
        state.version += 1;
        let name = service["metadata"]["name"].as_str().unwrap().to_owned();
        service["metadata"]["namespace"] = json!(SHOP);
        service["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.services.insert(name, service);
    }

    /// A service as it is.
    pub(in crate::cloud) fn service(&self, name: &str) -> Option<Value> {
        self.state().services.get(name).cloned()
    }

    /// A node as it is.
    pub(in crate::cloud) fn node(&self, name: &str) -> Option<Value> {
        self.state().nodes.get(name).cloned()
    }

    /// The controllers' context over it, whose cache is filled.
    pub(in crate::cloud) async fn context(&self) -> Arc<Context> {
        let its = self.clone();
        let service = tower::service_fn(move |request| {
            let its = its.clone();
            async move { Ok::<_, Infallible>(its.answer(request).await) }
        });
        let client = Client::new(service, "default");
        let nodes = Cache::start(&client);
        nodes.filled().await;
        let setup = Setup {
            host: "host".into(),
            controllers: Controllers::default(),
            cluster_name: "cluster".into(),
            cluster_cidrs: vec!["10.120.0.0/16".parse().unwrap()],
            service_cidrs: Vec::new(),
            masks: None,
            routes: true,
            allow_untagged: false,
            node_monitor: std::time::Duration::from_secs(5),
            node_status: std::time::Duration::from_secs(300),
            route_period: std::time::Duration::from_secs(10),
            service_syncs: 1,
            node_syncs: 1,
        };
        Arc::new(Context { client, setup, nodes, metrics: Arc::<Metrics>::default() })
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        if path.ends_with("/events") && head.method == Method::GET {
            let state = self.state();
            // By the kind of what they are of alone.
            let is_asked_for = |event: &&Value| {
                let kind = event["involvedObject"]["kind"].as_str().unwrap_or_default();
                query.contains(&format!("involvedObject.kind%3D{kind}"))
            };
            let items: Vec<&Value> = state.events.iter().filter(is_asked_for).collect();
            let all = json!({"kind": "EventList", "apiVersion": "v1", "items": items, "metadata": {"resourceVersion": "1"}});
            return state.refuses_events.map_or_else(|| answered(200, &all), |code| refused(code, "Refused"));
        }
        if path.contains("/events/") {
            // It has forgotten them all.
            return missing();
        }
        if path.ends_with("/events") {
            self.state().told.push(sent["reason"].as_str().unwrap_or_default().to_owned());
            return answered(201, &sent);
        }
        if path == "/api/v1/services" {
            let items: Vec<Value> = self.state().services.values().cloned().collect();
            let all = json!({"kind": "ServiceList", "apiVersion": "v1", "items": items, "metadata": {"resourceVersion": "1"}});
            return if query.contains("watch") { std::future::pending().await } else { answered(200, &all) };
        }
        if let Some(rest) = path.strip_prefix("/api/v1/namespaces/shop/services/") {
            return self.answer_of_service(&head.method, rest, &sent);
        }
        let rest = path.strip_prefix("/api/v1/nodes").unwrap_or_else(|| panic!("no {path} here"));
        let mut words = rest.trim_start_matches('/').split('/');
        let name = words.next().unwrap_or_default().to_owned();
        match head.method {
            Method::GET if query.contains("watch") => std::future::pending().await,
            Method::GET if name.is_empty() => {
                let items: Vec<Value> = self.state().nodes.values().cloned().collect();
                answered(
                    200,
                    &json!({"kind": "NodeList", "apiVersion": "v1", "items": items, "metadata": {"resourceVersion": "1"}}),
                )
            }
            Method::GET => self.node(&name).map_or_else(missing, |node| answered(200, &node)),
            Method::PATCH | Method::DELETE => {
                let act = format!("{} {}", head.method, rest.trim_start_matches('/'));
                if let Some(refusal) = self.noted(act) {
                    return refusal;
                }
                let strategic = head
                    .headers
                    .get("content-type")
                    .is_some_and(|kind| kind.to_str().unwrap().contains("strategic"));
                self.write(&name, (head.method == Method::PATCH).then_some(sent.clone()), &sent, strategic)
            }
            other => panic!("nobody asks to {other} {path}"),
        }
    }

    /// Notes a write; what it is answered, if it is refused.
    fn noted(&self, act: String) -> Option<Response<Body>> {
        let mut state = self.state();
        let code = state.refuses_with.unwrap_or(403);
        let is_refused = state.refuses.as_ref() == Some(&act);
        state.writes.push(act);
        is_refused.then(|| refused(code, "Refused"))
    }

    /// A service is read, or changed by a patch, if it is as it must be for that. One that is being deleted goes with its last finalizer.
    fn answer_of_service(&self, method: &Method, rest: &str, sent: &Value) -> Response<Body> {
        let name = rest.split('/').next().unwrap_or_default();
        let service = self.service(name);
        if method == Method::GET {
            return service.map_or_else(missing, |service| answered(200, &service));
        }
        assert_eq!(method, Method::PATCH, "nobody asks for that of services");
        if let Some(refusal) = self.noted(format!("PATCH {rest}")) {
            return refusal;
        }
        let Some(mut service) = service else { return missing() };
        for field in ["uid", "resourceVersion"] {
            let wanted = &sent["metadata"][field];
            if wanted.is_string() && *wanted != service["metadata"][field] {
                return refused(409, "Conflict");
            }
        }
        merge(&mut service, sent);
        let is_held = service["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if service["metadata"]["deletionTimestamp"].is_string() && !is_held {
            self.state().services.remove(name);
            return answered(200, &service);
        }
        self.put_service(service);
        answered(200, &self.service(name).unwrap())
    }

    /// Changes a node by a patch, or deletes it, if it is as it must be for that.
    fn write(&self, name: &str, patch: Option<Value>, sent: &Value, strategic: bool) -> Response<Body> {
        let Some(mut node) = self.node(name) else { return missing() };
        let wanted = patch.as_ref().map_or(&sent["preconditions"], |patch| &patch["metadata"]);
        for field in ["uid", "resourceVersion"] {
            if wanted[field].is_string() && wanted[field] != node["metadata"][field] {
                return refused(409, "Conflict");
            }
        }
        let Some(mut patch) = patch else {
            self.state().nodes.remove(name);
            return answered(200, &node);
        };
        if strategic {
            let mut all: Vec<Value> = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            for one in patch["status"]["conditions"].as_array().unwrap() {
                all.retain(|other| other["type"] != one["type"]);
                if one["$patch"] != "delete" {
                    all.push(one.clone());
                }
            }
            patch["status"]["conditions"] = json!(all);
        }
        merge(&mut node, &patch);
        self.put(node);
        answered(200, &self.node(name).unwrap())
    }
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let object = into.as_object_mut().unwrap();
    for (field, value) in fields {
        if value.is_null() {
            object.remove(field);
        } else {
            merge(object.entry(field).or_insert(Value::Null), value);
        }
    }
}

fn answered(code: u16, body: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn refused(code: u16, reason: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code});
    answered(code, &status)
}

fn missing() -> Response<Body> {
    refused(404, "NotFound")
}

type During = Box<dyn FnMut() + Send>;

/// A provider that says this.
pub(in crate::cloud) struct Told {
    pub(in crate::cloud) exists: Result<bool, Error>,
    pub(in crate::cloud) shutdown: Result<bool, Error>,
    pub(in crate::cloud) metadata: Result<Option<InstanceMetadata>, Error>,
    pub(in crate::cloud) routes: Mutex<Vec<Route>>,
    /// Why they are not listed.
    pub(in crate::cloud) unlisted: Mutex<Option<Error>>,
    /// What making a route comes to, in this order, before it is made.
    pub(in crate::cloud) failing: Mutex<Vec<Error>>,
    /// Which calls came: `exists node0`.
    pub(in crate::cloud) calls: Mutex<Vec<String>>,
    /// What happens while it is asked.
    pub(in crate::cloud) during: Mutex<Option<During>>,
}

impl Default for Told {
    fn default() -> Self {
        let address = NodeAddress { type_: "InternalIP".into(), address: "10.0.0.1".into() };
        let metadata = InstanceMetadata {
            provider_id: "fake://12345".into(),
            instance_type: "t1.micro".into(),
            node_addresses: vec![address],
            ..InstanceMetadata::default()
        };
        Self {
            exists: Ok(true),
            shutdown: Ok(false),
            metadata: Ok(Some(metadata)),
            routes: Mutex::default(),
            unlisted: Mutex::default(),
            failing: Mutex::default(),
            calls: Mutex::default(),
            during: Mutex::default(),
        }
    }
}

impl Told {
    /// The calls until now; they are forgotten.
    pub(in crate::cloud) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn call<T: Send + 'static>(&self, call: String, answer: T) -> Answer<'static, T> {
        self.calls.lock().unwrap().push(call);
        if let Some(during) = &mut *self.during.lock().unwrap() {
            during();
        }
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn of<T: Clone + Send + 'static>(
        &self,
        call: &str,
        node: &Node,
        said: &Result<T, Error>,
    ) -> Answer<'static, T> {
        let called = self.call(format!("{call} {}", node.metadata.name.as_deref().unwrap()), said.clone());
        Box::pin(async move { called.await? })
    }
}

impl CloudProvider for Told {
    fn name(&self) -> &str {
        "fake"
    }

    fn instances(&self) -> Option<&dyn Instances> {
        Some(self)
    }

    fn routes(&self) -> Option<&dyn Routes> {
        Some(self)
    }
}

impl Instances for Told {
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        self.of("exists", node, &self.exists)
    }

    fn instance_shutdown<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        self.of("shutdown", node, &self.shutdown)
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        self.of("metadata", node, &self.metadata)
    }
}

impl Routes for Told {
    fn list_routes<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Route>> {
        let listed = match self.unlisted.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(self.routes.lock().unwrap().clone()),
        };
        let called = self.call("list".into(), listed);
        Box::pin(async move { called.await? })
    }

    fn create_route<'a>(&'a self, _: &'a str, hint: &'a str, route: &'a Route) -> Answer<'a, ()> {
        let failure = self.failing.lock().unwrap().pop();
        if failure.is_none() {
            self.routes.lock().unwrap().push(Route { name: hint.into(), ..route.clone() });
        }
        let called = self.call(format!("create {}", route.destination_cidr), failure);
        Box::pin(async move { called.await?.map_or(Ok(()), Err) })
    }

    fn delete_route<'a>(&'a self, _: &'a str, route: &'a Route) -> Answer<'a, ()> {
        self.routes.lock().unwrap().retain(|one| one != route);
        self.call(format!("delete {}", route.destination_cidr), ())
    }
}
