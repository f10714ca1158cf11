//! Every pod has a service account, which is there, and gets its token and its pull secrets.

use super::{Admission, Operation, Request};
use crate::contract::{Object, Result, names};
use crate::registry::{BoxFuture, name_suffix};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Where containers find the token.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token lasts: an hour, and what a request may take.
const SECONDS: i64 = 3607;
/// The default account is made a moment after its namespace; so often it is looked for.
const ATTEMPTS: usize = 10;
const INTERVAL: Duration = Duration::from_millis(100);

/// What Kubernetes calls ServiceAccount.
pub(super) struct ServiceAccounts;

impl Admission for ServiceAccounts {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.is(Operation::Create, "pods")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(mut pod) = request.object.take() else { return Ok(()) };
            let outcome = given(request, &mut pod).await;
            request.object = Some(pod);
            outcome.map_err(|cause| request.forbidden(&cause))
        })
    }
}

async fn given(request: &Request<'_>, pod: &mut Object) -> std::result::Result<(), String> {
    let is_mirror =
        pod.strings("annotations").is_some_and(|map| map.contains_key("kubernetes.io/config.mirror"));
    if is_mirror {
        return mirror(pod);
    }
    if pod.text(&["spec", "serviceAccountName"]).is_empty() {
        pod.make(&["spec"]).insert("serviceAccountName".to_owned(), "default".into());
    }
    let name = pod.text(&["spec", "serviceAccountName"]).to_owned();
    // The older name of the field says the same.
    pod.make(&["spec"]).insert("serviceAccount".to_owned(), name.as_str().into());
    let namespace = request.target.namespace.as_str();
    let account = account(request, namespace, &name).await?;
    let automount = |object: &Object, path: &[&str]| object.at(path).and_then(Value::as_bool);
    if automount(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| automount(&account, &["automountServiceAccountToken"]))
        .unwrap_or(true)
    {
        mount(pod);
    }
    let has_secrets =
        pod.at(&["spec", "imagePullSecrets"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if let (false, Some(Value::Array(secrets))) = (has_secrets, account.0.get("imagePullSecrets"))
        && !secrets.is_empty()
    {
        let names: Vec<Value> = secrets.iter().map(|secret| json!({"name": secret["name"]})).collect();
        pod.make(&["spec"]).insert("imagePullSecrets".to_owned(), names.into());
    }
    Ok(())
}

async fn account(request: &Request<'_>, namespace: &str, name: &str) -> std::result::Result<Object, String> {
    let attempts = if name == "default" { ATTEMPTS } else { 1 };
    let looked = format!("error looking up service account {namespace}/{name}");
    let wrong = names::path_segment(name, false);
    if !wrong.is_empty() {
        return Err(format!("{looked}: invalid resource name {name:?}: [{}]", wrong.join(" ")));
    }
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(INTERVAL).await;
        }
        match request.registry.peek("serviceaccounts", namespace, name) {
            Ok(Some(account)) => return Ok(account),
            Ok(None) => {}
            Err(status) => return Err(format!("{looked}: {status}")),
        }
    }
    Err(format!("{looked}: serviceaccount {name:?} not found"))
}

/// What the kubelet shows of pods that it did not get from here.
fn mirror(pod: &Object) -> std::result::Result<(), String> {
    if !pod.text(&["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts".to_owned());
    }
    let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).into_iter().flatten();
    for volume in volumes {
        if volume.get("secret").is_some() {
            return Err("a mirror pod may not reference secrets".to_owned());
        }
        let sources = volume.get("projected").and_then(|projected| projected.get("sources"));
        let sources = sources.and_then(Value::as_array).into_iter().flatten();
        for source in sources {
            if source.get("serviceAccountToken").is_some() {
                let message = "a mirror pod may not use ServiceAccountToken volume projections";
                return Err(message.to_owned());
            }
        }
    }
    Ok(())
}

/// Gives containers the token, the authority's certificate and the namespace, unless something is mounted there.
fn mount(pod: &mut Object) {
    let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).into_iter().flatten();
    let held = volumes
        .filter_map(|volume| volume.get("name").and_then(Value::as_str))
        .find(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let is_new = held.is_none();
    let name = held.unwrap_or_else(|| format!("kube-api-access-{}", name_suffix()));
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = pod.make(&["spec"]).get_mut(field) else { continue };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            mounted |= mount_into(container, &name);
        }
    }
    if mounted && is_new {
        let volumes = pod.make(&["spec"]).entry("volumes").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(volume(&name));
        }
    }
}

fn mount_into(container: &mut Map<String, Value>, volume: &str) -> bool {
    let mounts = container.entry("volumeMounts").or_insert_with(|| Value::Array(Vec::new()));
    if mounts.is_null() {
        *mounts = Value::Array(Vec::new());
    }
    let Some(mounts) = mounts.as_array_mut() else { return false };
    if mounts.iter().any(|mount| mount["mountPath"] == MOUNT) {
        return false;
    }
    mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT}));
    true
}

fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
            "defaultMode": 420,
        },
    })
}
