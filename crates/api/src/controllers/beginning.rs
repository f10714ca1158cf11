//! What has to be there from the beginning.

use super::Settings;
use crate::contract::{Object, Reason, Result};
use crate::registry::client::Client;
use serde_json::{Value, json};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Name, value and whether a description says that it is for nodes.
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

/// Makes what is not there; what is there stays as it is.
pub(super) async fn make(client: &Client, settings: &Settings) -> Result<()> {
    for name in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(client, "", object).await?;
    }
    for (name, value, description) in CLASSES {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        });
        ensure(client, "", object).await?;
    }
    service(client, settings).await
}

/// The service under whose address pods find the server.
async fn service(client: &Client, settings: &Settings) -> Result<()> {
    let port = if settings.port == 0 { 6443 } else { settings.port };
    let mut spec = json!({
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
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
    ensure(client, "default", object).await
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
