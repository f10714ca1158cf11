//! Each namespace has a default service account, and a config map with the authority's certificate.

use super::Settings;
use super::beginning::{ensure, keep};
use crate::contract::{Object, Result};
use crate::registry::client::{Change, Client};
use serde_json::json;

/// The config map's name.
const CERTIFICATE: &str = "kube-root-ca.crt";

/// Gives all namespaces that there are what they lack.
pub(super) async fn give_all(client: &Client, settings: &Settings) -> Result<()> {
    for namespace in client.registry().every("namespaces", None)? {
        // A webhook that refuses it must not keep the server down: nobody could take that webhook away.
        if let Err(status) = give(client, settings, &namespace).await {
            eprintln!("sextant: cannot give namespace {} its account: {status}", namespace.name());
        }
    }
    Ok(())
}

/// Gives it to namespaces as they come, and once more where somebody takes it away.
pub(super) async fn run(client: Client, settings: Settings) {
    let Ok(namespaces) = client.target("v1", "Namespace", "", "") else { return };
    let Ok(accounts) = client.target("v1", "ServiceAccount", "", "") else { return };
    // Those of that name alone: there may be many others, and none of them is held.
    let Ok(maps) = client.target("v1", "ConfigMap", "", CERTIFICATE) else { return };
    let mut namespaces = client.follow(namespaces);
    let mut accounts = client.follow(accounts);
    let mut maps = client.follow(maps);
    loop {
        let wanting = tokio::select! {
            change = namespaces.next() => match change {
                Change::Applied(namespace) => Some(namespace),
                _ => None,
            },
            change = accounts.next() => lost(&client, change, "default"),
            change = maps.next() => lost(&client, change, CERTIFICATE),
        };
        if let Some(namespace) = wanting
            && let Err(status) = give(&client, &settings, &namespace).await
        {
            eprintln!("sextant: cannot give namespace {} its default account: {status}", namespace.name());
        }
    }
}

/// The namespace that has lost its object of that name.
fn lost(client: &Client, change: Change, name: &str) -> Option<Object> {
    match change {
        Change::Gone(object) if object.name() == name => {
            client.registry().peek("namespaces", "", object.namespace()).ok().flatten()
        }
        _ => None,
    }
}

async fn give(client: &Client, settings: &Settings, namespace: &Object) -> Result<()> {
    if namespace.is_terminating() {
        return Ok(());
    }
    let name = namespace.name();
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": name},
    });
    let mut outcome = ensure(client, name, account).await;
    if let Some(authority) = &settings.authority {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": CERTIFICATE,
                "namespace": name,
                "annotations": {
                    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the \
                        kube-apiserver when using internal endpoints such as the internal service IP or \
                        kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
                        clusters.",
                },
            },
            "data": {"ca.crt": authority},
        });
        outcome = outcome.and(keep(client, name, map, &["data"]).await);
    }
    match outcome {
        // It began to end meanwhile.
        Err(status) if matches!(status.code, 403 | 404) => Ok(()),
        other => other,
    }
}
