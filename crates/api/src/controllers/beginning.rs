//! What has to be there from the beginning.

use super::{Settings, addresses};
use crate::auth::FRONT_PROXY;
use crate::contract::{Object, Reason, Result};
use crate::registry::client::Client;
use serde_json::{Value, json};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Those that hold what else is made here. They cannot be deleted: where one is not there, it is the first start, and there
/// is no webhook yet that could refuse it.
const NEEDED: [&str; 2] = ["default", "kube-system"];
/// Name, value and description.
const CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The config map of `kube-system` that says whom servers of other groups are to believe.
pub(super) const TRUST: &str = "extension-apiserver-authentication";

/// Makes what is not there; what is there stays as it is. What cannot be made is told, and keeps the server from nothing:
/// where a webhook refuses it, nobody could take that webhook away.
///
/// # Errors
/// Where there is no namespace of those that are [`NEEDED`].
pub(super) async fn make(client: &Client, settings: &Settings) -> Result<()> {
    for name in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let made = ensure(client, "", object).await;
        if NEEDED.contains(&name) {
            made?;
        } else {
            tell(&format!("namespace {name}"), made);
        }
    }
    for (name, value, description) in CLASSES {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        });
        tell(&format!("priority class {name}"), ensure(client, "", object).await);
    }
    tell("service kubernetes", service(client, settings).await);
    tell("service range kubernetes", addresses::ranges(client).await);
    trust(client, settings).await;
    Ok(())
}

fn tell(what: &str, made: Result<()>) {
    if let Err(status) = made {
        eprintln!("sextant: cannot make {what}: {status}");
    }
}

/// The service under whose address pods find the server.
async fn service(client: &Client, settings: &Settings) -> Result<()> {
    let mut spec = json!({
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": settings.port()}],
    });
    if let Some(address) = client.registry().first_service_address() {
        spec["clusterIP"] = address.to_string().into();
    }
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": spec,
    });
    keep(client, "default", object, &["spec", "ports"]).await
}

/// Whom servers of other groups are to believe: clients of this server, and this server as a front proxy of them.
async fn trust(client: &Client, settings: &Settings) {
    const NAMESPACE: &str = "kube-system";
    const NAME: &str = TRUST;
    let mut data = json!({});
    if let Some(authority) = &settings.authority {
        data["client-ca-file"] = authority.as_str().into();
    }
    if let Some(proxy) = &settings.front_proxy {
        data["requestheader-client-ca-file"] = proxy.as_str().into();
        for (key, value) in [
            ("allowed-names", FRONT_PROXY),
            ("username-headers", "X-Remote-User"),
            ("uid-headers", "X-Remote-Uid"),
            ("group-headers", "X-Remote-Group"),
            ("extra-headers-prefix", "X-Remote-Extra-"),
        ] {
            data[format!("requestheader-{key}")] = json!([value]).to_string().into();
        }
    }
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    tell(&format!("config map {NAME}"), keep(client, NAMESPACE, map, &["data"]).await);
    let reader = format!("{NAME}-reader");
    let metadata = |name: &str| {
        json!({
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        })
    };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(&reader),
        "rules": [{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME], "verbs": ["get", "list", "watch"],
        }],
    });
    tell(&format!("role {reader}"), ensure(client, NAMESPACE, role).await);
    let user = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(&format!("system::{reader}")),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": reader},
        "subjects": [user("system:kube-controller-manager"), user("system:kube-scheduler")],
    });
    tell(&format!("role binding system::{reader}"), ensure(client, NAMESPACE, binding).await);
}

/// Creates an object, or brings what it says at `path` into the one that is there.
pub(super) async fn keep(client: &Client, namespace: &str, object: Value, path: &[&str]) -> Result<()> {
    let wanted = Object::from_value(object.clone()).unwrap_or_default();
    let (Some((last, above)), Some(value)) = (path.split_last(), wanted.at(path)) else { return Ok(()) };
    ensure(client, namespace, object).await?;
    let Ok(target) = client.target(wanted.api_version(), wanted.kind(), namespace, wanted.name()) else {
        return Ok(());
    };
    let make = |live: &Object| {
        let mut changed = live.clone();
        changed.make(above).insert((*last).to_owned(), value.clone());
        Ok(changed)
    };
    match client.change(&target, make).await {
        // It was taken away at once, and comes again when it is looked for.
        Err(status) if status.reason == Reason::NotFound => Ok(()),
        other => other.map(drop),
    }
}

/// Creates an object unless there is one of its name; kinds that are not served are left out.
pub(super) async fn ensure(client: &Client, namespace: &str, object: Value) -> Result<()> {
    let object = Object::from_value(object).unwrap_or_default();
    let Ok(target) = client.target(object.api_version(), object.kind(), namespace, object.name()) else {
        return Ok(());
    };
    if client.registry().peek(&target.resource.stored_as, namespace, object.name())?.is_some() {
        return Ok(());
    }
    match client.create(&target, object).await {
        Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}
