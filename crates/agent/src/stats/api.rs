//! The API `metrics.k8s.io` of this node and its pods, for `kubectl top` and autoscalers: an API server hands its requests on
//! (`APIService`), as the front proxy that its certificate says that it is.

use std::collections::BTreeMap;

use client::aggregation::{self, Offer, Proxies, selector};
use client::query::Query;
use cri::contract::v1::{CpuUsage, MemoryUsage, PodSandboxStats};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use k8s_openapi::api::core::v1::Node;
use kube::core::{Selector, SelectorExt as _};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::{Snapshot, name, names, rates};
use crate::Setup;
use crate::agent::Agent;
use crate::server::{Reply, text};

/// Group and version.
const GROUP: &str = "metrics.k8s.io/v1beta1";
/// What the service that answers is called.
const SERVICE: &str = "sextant-agent";

/// The name in the server's certificate.
pub(crate) fn host() -> String {
    aggregation::host(SERVICE)
}

/// Who hands requests on; tries until the API server says so.
pub(crate) async fn proxies(client: &Client) -> Proxies {
    aggregation::proxies(client, "sextant agent").await
}

/// Has the API server hand requests for the group on to this agent, whose certificate (in DER) this is; tries until it does. Where
/// somebody else serves the group, they go on.
pub(crate) async fn register(client: &Client, setup: &Setup, port: u16, certificate: &[u8]) {
    let address = setup.address;
    let offer = Offer { api: GROUP, service: SERVICE, address, port, certificate, who: "sextant agent" };
    aggregation::register(client, &offer).await;
}

/// Answers below `/apis/`.
pub(crate) async fn answer(agent: &Agent, path: &[&str], query: &Query) -> Reply {
    let selector = match query.get("labelSelector").map(selector).transpose() {
        Ok(selector) => selector.unwrap_or_default(),
        Err(why) => return status(StatusCode::BAD_REQUEST, "BadRequest", &why),
    };
    let of: (bool, Option<&str>, Option<&str>) = match *path {
        ["metrics.k8s.io", "v1beta1"] => return json(StatusCode::OK, &resources()),
        ["metrics.k8s.io", "v1beta1", "nodes"] => (true, None, None),
        ["metrics.k8s.io", "v1beta1", "nodes", name] => (true, None, Some(name)),
        ["metrics.k8s.io", "v1beta1", "pods"] => (false, None, None),
        ["metrics.k8s.io", "v1beta1", "namespaces", namespace, "pods"] => (false, Some(namespace), None),
        ["metrics.k8s.io", "v1beta1", "namespaces", namespace, "pods", name] => {
            (false, Some(namespace), Some(name))
        }
        _ => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    let all = match rates(agent).await {
        Ok(all) => all,
        Err(error) => {
            return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &error.to_string());
        }
    };
    let (is_node, namespace, name) = of;
    let mut items = if is_node { vec![node(agent, &all).await] } else { pods(agent, &all) };
    let is = |item: &Value, field: &str, wanted: Option<&str>| {
        wanted.is_none_or(|wanted| item["metadata"][field] == wanted)
    };
    items.retain(|item| {
        is(item, "namespace", namespace) && is(item, "name", name) && selects(&selector, item)
    });
    let (kind, resource) = if is_node { ("NodeMetrics", "nodes") } else { ("PodMetrics", "pods") };
    match (name, items.pop()) {
        (Some(_), Some(item)) => json(StatusCode::OK, &item),
        (Some(name), None) => {
            let of = namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
            status(
                StatusCode::NOT_FOUND,
                "NotFound",
                &format!("{resource}.metrics.k8s.io \"{of}\" not found"),
            )
        }
        (None, last) => {
            items.extend(last);
            json(
                StatusCode::OK,
                &json!({"kind": format!("{kind}List"), "apiVersion": GROUP, "metadata": {}, "items": items}),
            )
        }
    }
}

fn selects(selector: &Selector, item: &Value) -> bool {
    let labels: BTreeMap<String, String> =
        serde_json::from_value(item["metadata"]["labels"].clone()).unwrap_or_default();
    selector.matches(&labels)
}

fn resources() -> Value {
    let of = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP,
        "resources": [of("nodes", "NodeMetrics", false), of("pods", "PodMetrics", true)]})
}

async fn node(agent: &Agent, all: &Snapshot) -> Value {
    let node = Api::<Node>::all(agent.client.clone()).get_opt(&agent.setup.node).await;
    let labels = node.ok().flatten().map(|node| node.labels().clone());
    let usage = usage(all.node.rate, u64::try_from(all.node.memory).ok());
    object(all, "NodeMetrics", json!({"name": agent.setup.node, "labels": labels}), json!({"usage": usage}))
}

/// Pods whose containers all can be told of.
fn pods(agent: &Agent, all: &Snapshot) -> Vec<Value> {
    let told = all.pods.iter().filter_map(|stats| {
        let [namespace, pod, _] = names(stats.attributes.as_ref());
        let object = agent.named(&client::cache::Name::new(namespace, pod))?;
        let containers = containers(stats);
        let labels = object.metadata.labels.clone();
        let metadata = json!({"name": pod, "namespace": namespace, "labels": labels});
        (!containers.is_empty())
            .then(|| self::object(all, "PodMetrics", metadata, json!({"containers": containers})))
    });
    told.collect()
}

fn containers(stats: &PodSandboxStats) -> Vec<Value> {
    let all = stats.linux.iter().flat_map(|linux| &linux.containers);
    let told = all.map(|one| {
        let rate = |cpu: &CpuUsage| cpu.usage_nano_cores.as_ref().map(|value| value.value);
        let bytes = |memory: &MemoryUsage| memory.working_set_bytes.as_ref().map(|value| value.value);
        let (cpu, memory) = (one.cpu.as_ref().and_then(rate)?, one.memory.as_ref().and_then(bytes)?);
        Some(json!({"name": name(one.attributes.as_ref()), "usage": usage(Some(cpu), Some(memory))}))
    });
    told.collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn object(all: &Snapshot, kind: &str, mut metadata: Value, fields: Value) -> Value {
    let at = all.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    metadata["creationTimestamp"] = json!(at);
    let mut object = json!({"kind": kind, "apiVersion": GROUP, "metadata": metadata, "timestamp": at,
        "window": format!("{:.3}s", all.window.as_secs_f64())});
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

fn usage(cpu: Option<u64>, memory: Option<u64>) -> Value {
    json!({"cpu": format!("{}n", cpu.unwrap_or_default()), "memory": format!("{}Ki", memory.unwrap_or_default() / 1024)})
}

fn json(status: StatusCode, value: &Value) -> Reply {
    let mut reply = text(status, value.to_string());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn status(code: StatusCode, reason: &str, message: &str) -> Reply {
    json(code, &aggregation::refusal(code.as_u16(), reason, message))
}
