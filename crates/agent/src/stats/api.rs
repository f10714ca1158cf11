//! The API `metrics.k8s.io` of this node and its pods, for `kubectl top` and autoscalers: an API server hands its requests on
//! (`APIService`), as the front proxy that its certificate says that it is.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cri::contract::v1::{CpuUsage, MemoryUsage, PodSandboxStats};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::core::{Expression, Selector, SelectorExt as _};
use kube::{Api, Client, ResourceExt as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{Snapshot, name, names, rates};
use crate::Setup;
use crate::agent::Agent;
use crate::server::query::Query;
use crate::server::{Proxies, Reply, text};

/// Group and version.
const GROUP: &str = "metrics.k8s.io/v1beta1";
/// Where the service is that answers.
const NAMESPACE: &str = "kube-system";
/// What it is called.
const SERVICE: &str = "sextant-agent";
/// Where API servers say who hands requests on.
const PROXIES: &str = "extension-apiserver-authentication";
/// How long is waited between attempts.
const AGAIN: Duration = Duration::from_millis(300);

/// The name in the server's certificate.
pub(crate) fn host() -> String {
    format!("{SERVICE}.{NAMESPACE}.svc")
}

/// Who hands requests on; tries until the API server says so.
pub(crate) async fn proxies(client: &Client) -> Proxies {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let mut told = false;
    loop {
        let said = maps.get(PROXIES).await.map_err(|error| client::causes(&error));
        let why = match said.and_then(|map| of_map(&map.data.unwrap_or_default())) {
            Ok(proxies) => return proxies,
            Err(why) => why,
        };
        if !std::mem::replace(&mut told, true) {
            eprintln!("sextant agent: waits for config map {NAMESPACE}/{PROXIES}: {why}");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What the map says of them.
fn of_map(data: &BTreeMap<String, String>) -> Result<Proxies, String> {
    let pem = data.get("requestheader-client-ca-file").map(String::as_bytes).unwrap_or_default();
    let all = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let names = data.get("requestheader-allowed-names").map(|names| serde_json::from_str(names));
    let names = names.transpose().map_err(|error| format!("requestheader-allowed-names: {error}"))?;
    Ok(Proxies { authorities: all.map(|one| one.to_vec()).collect(), names: names.unwrap_or_default() })
}

/// Has the API server hand requests for the group on to this agent, whose certificate (in DER) this is; tries until it does. Where
/// somebody else serves the group, they go on.
pub(crate) async fn register(client: &Client, setup: &Setup, port: u16, certificate: &[u8]) {
    let mut told = false;
    while let Err(error) = try_register(client, setup, port, certificate).await {
        if !std::mem::replace(&mut told, true) {
            eprintln!(
                "sextant agent: warning: cannot offer {GROUP}, and tries again: {}",
                client::causes(&error)
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn try_register(client: &Client, setup: &Setup, port: u16, certificate: &[u8]) -> kube::Result<()> {
    let (group, version) = GROUP.split_once('/').unwrap_or_default();
    let name = format!("{version}.{group}");
    let offers: Api<APIService> = Api::all(client.clone());
    if let Some(there) = offers.get_opt(&name).await? {
        let by = there.spec.and_then(|spec| spec.service).and_then(|service| service.name);
        if by.as_deref() != Some(SERVICE) {
            return Ok(());
        }
    }
    let params = PatchParams::apply("sextant-agent").force();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE},
        "spec": {"type": "ExternalName", "externalName": setup.address.to_string()}});
    Api::<Service>::namespaced(client.clone(), NAMESPACE)
        .patch(SERVICE, &params, &Patch::Apply(service))
        .await?;
    let bundle = STANDARD.encode(pem(certificate));
    let offer = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100, "caBundle": bundle,
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": port}}});
    offers.patch(&name, &params, &Patch::Apply(offer)).await.map(drop)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
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
    json(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code.as_u16()}),
    )
}

/// A selector as queries have it: `a=b,c!=d,e in (f,g),h,!i`.
fn selector(text: &str) -> Result<Selector, String> {
    let mut depth = 0_u32;
    let parts = text.split(|letter| {
        depth = depth + u32::from(letter == '(') - u32::from(letter == ')' && depth > 0);
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).map(expression).collect()
}

fn expression(part: &str) -> Result<Expression, String> {
    let set = |rest: &str| {
        let values = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        values.map(|values| values.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let plain = |text: &str| text.trim().to_owned();
    if let Some((key, values)) = part.split_once(" notin ").and_then(|(key, rest)| Some((key, set(rest)?))) {
        return Ok(Expression::NotIn(plain(key), values));
    }
    if let Some((key, values)) = part.split_once(" in ").and_then(|(key, rest)| Some((key, set(rest)?))) {
        return Ok(Expression::In(plain(key), values));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Expression::NotEqual(plain(key), plain(value)));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Expression::Equal(plain(key), plain(value)));
    }
    if part.contains([' ', '(', ')']) {
        return Err(format!("unable to parse requirement: {part:?} is no requirement of labels"));
    }
    Ok(match part.strip_prefix('!') {
        Some(key) => Expression::DoesNotExist(plain(key)),
        None => Expression::Exists(plain(part)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_queries_have_them() {
        let labels =
            |text: &str| json!({"metadata": {"labels": serde_json::from_str::<Value>(text).unwrap()}});
        let item = labels(r#"{"app": "web", "tier": "a"}"#);
        for good in ["", "app=web", "app==web,tier in (a, b)", "app,!other", "tier notin (c),app!=db"] {
            assert!(selects(&selector(good).unwrap(), &item), "{good}");
        }
        for bad in ["app=db", "tier in (b,c)", "other", "!app", "app=web,tier!=a"] {
            assert!(!selects(&selector(bad).unwrap(), &item), "{bad}");
        }
        assert!(selector("a in b c").is_err());
    }

    #[test]
    fn certificates_are_written_in_lines() {
        let lines = pem(&[0; 60]);
        assert_eq!(lines.lines().map(str::len).collect::<Vec<_>>(), [27, 64, 16, 25]);
    }
}
