//! Mirrors of static pods, by which an API server shows them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use crate::agent::Agent;
use crate::names::{CONFIG_MIRROR, Key};

/// When what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether a pod is the mirror of one.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    mirrored(pod).is_some()
}

/// The uid of the static pod that a pod is the mirror of.
pub(crate) fn mirrored(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(CONFIG_MIRROR)
}

/// Sees to it that there is a mirror of each static pod, and none of another, for ever.
pub(crate) async fn keep(agent: &Arc<Agent>) -> ! {
    let mut changes = agent.changes();
    let mut told = String::new();
    loop {
        changes.mark_unchanged();
        let next = match look(agent).await {
            Ok(()) => None,
            Err(why) => {
                if why != told {
                    eprintln!("sextant agent: warning: cannot mirror static pods, and tries again: {why}");
                }
                told = why;
                Some(AGAIN)
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = async { match next {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            } } => {}
        }
    }
}

async fn look(agent: &Agent) -> Result<(), String> {
    // One that is refused holds up no other.
    let mut failed = Vec::new();
    for mirror in agent.pods.find(is_mirror) {
        let key = Key::of(&mirror);
        let of = agent.statics.get(&key.name);
        let is_right = of.is_some_and(|pod| mirrored(&mirror) == pod.metadata.uid.as_ref());
        if !is_right || mirror.metadata.deletion_timestamp.is_some() {
            let preconditions = Preconditions { uid: Some(key.uid.clone()), resource_version: None };
            let now = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
                .grace_period(0);
            let api: Api<Pod> = Api::namespaced(agent.client.clone(), &key.name.namespace);
            match api.delete(&key.name.name, &now).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => failed.push(format!("{}: {}", key.words(), client::causes(&error))),
                Ok(_) => {}
            }
        }
    }
    for pod in agent.statics.all() {
        // One that goes is made again when it is gone.
        if agent.pods.get(&Key::of(&pod).name).is_none()
            && let Err(why) = make(agent, &pod).await
        {
            failed.push(why);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

async fn make(agent: &Agent, pod: &Pod) -> Result<(), String> {
    let key = Key::of(pod);
    let node = Api::<Node>::all(agent.client.clone()).get(&agent.setup.node).await;
    let node = node.map_err(|error| client::causes(&error))?;
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: agent.setup.node.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(CONFIG_MIRROR.into(), key.uid.clone());
    let metadata = ObjectMeta {
        name: Some(key.name.name.clone()),
        namespace: Some(key.name.namespace.clone()),
        labels: pod.metadata.labels.clone(),
        annotations: Some(annotations),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let mirror = Pod { metadata, spec: pod.spec.clone(), status: None::<PodStatus> };
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), &key.name.namespace);
    match api.create(&PostParams::default(), &mirror).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(format!("{}: {}", key.words(), client::causes(&error))),
        Ok(_) => {
            // What is so is told anew.
            agent.with_memory(&key, |memory| memory.written = None);
            agent.queue.add(key);
        }
    }
    Ok(())
}
