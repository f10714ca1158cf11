//! What the API server is told of a pod, and was told last.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::spec::{is_over, parts};
use super::status::{View, status};
use crate::agent::Agent;
use crate::names::Key;
use crate::observed::Observed;

/// How long the API server has to take a status.
const WRITING: Duration = Duration::from_secs(30);

/// Writes the pod's status, where it is another than the API server has.
pub(crate) async fn write_status(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    observed: &Observed,
) -> Result<(), String> {
    let parts = parts(pod);
    let cached = agent.shown(pod);
    let is_static = agent.statics.get(&key.name).is_some();
    if is_static && cached.is_none() {
        // It is told once there is a mirror.
        return Ok(());
    }
    let made = agent.with_memory(key, |memory| {
        let base = newest(pod, cached.as_deref(), memory.written.as_ref());
        let at = base.metadata.resource_version.clone();
        let uid = base.metadata.uid.clone();
        let old = base.status.clone().unwrap_or_default();
        let mut current = Pod { status: base.status.clone(), ..pod.clone() };
        let runs_again = is_static && memory.failed.is_none() && observed.sandbox().is_some();
        if let Some(status) = current.status.as_mut().filter(|_| runs_again && is_over(base)) {
            // Another agent had refused it, or had ended it: what was told of that is over.
            (status.phase, status.reason, status.message) = (None, None, None);
        }
        let view = View {
            pod: &current,
            parts: &parts,
            observed,
            memory,
            runtime: agent.runtime_name(),
            host: &agent.machine.address,
            now: Timestamp::now(),
        };
        (status(&view), old, at, uid)
    });
    let Some((new, old, at, uid)) = made else { return Ok(()) };
    if new == old {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": at}, "status": difference(&old, &new)});
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), &key.name.namespace);
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let writing = tokio::time::timeout(WRITING, api.patch_status(&key.name.name, &params, &patch)).await;
    let Ok(written) = writing else {
        return Err("cannot write the status: the API server does not answer".into());
    };
    match written {
        Ok(written) => {
            agent.with_memory(key, |memory| memory.written = Some(written));
            Ok(())
        }
        // It is gone, or another has its name.
        Err(kube::Error::Api(status))
            if matches!(status.code, 404 | 409 | 422) && agent.pod(key).is_none() =>
        {
            Ok(())
        }
        // Somebody wrote meanwhile: that comes by the watch, and the pod is looked at again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("cannot write the status: {}", client::causes(&error))),
    }
}

/// The whole of the new status, and nothing in place of what is no more.
fn difference(old: &PodStatus, new: &PodStatus) -> Value {
    let (old, mut new) = (json!(old), json!(new));
    if let (Some(old), Some(new)) = (old.as_object(), new.as_object_mut()) {
        for name in old.keys() {
            new.entry(name.clone()).or_insert(Value::Null);
        }
    }
    new
}

/// What was told of the pod last: of a static one by its mirror.
pub(super) fn told(agent: &Agent, key: &Key, pod: &Pod) -> Option<PodStatus> {
    let cached = agent.shown(pod);
    let of = |written: Option<&Pod>| newest(pod, cached.as_deref(), written).status.clone();
    agent.with_memory(key, |memory| of(memory.written.as_ref())).unwrap_or_else(|| of(None))
}

/// The newest of these: what was written last may not have come back yet, and others write, too.
fn newest<'a>(pod: &'a Pod, cached: Option<&'a Pod>, written: Option<&'a Pod>) -> &'a Pod {
    let known = std::iter::once(pod).chain(cached).chain(written);
    known.max_by_key(|one| version(one)).unwrap_or(pod)
}

/// How new an object is.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::with_pods;
    use crate::names::CONFIG_MIRROR;

    #[tokio::test]
    async fn what_was_told_of_the_pod_that_was_in_the_file_before_is_nothing_to_the_next() {
        let files = tempfile::tempdir().unwrap();
        let write = |image: &str| {
            let text =
                format!("metadata: {{name: web}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n");
            std::fs::write(files.path().join("web.yaml"), text).unwrap();
        };
        write("a");
        let alone = crate::statics::Statics::default();
        let first = alone.read(files.path(), "node").remove(0);
        let status = json!({"containerStatuses": [
            {"name": "c", "image": "a", "imageID": "", "ready": true, "restartCount": 7}]});
        let metadata = json!({"name": first.name.name, "namespace": first.name.namespace, "uid": "m",
            "resourceVersion": "5", "annotations": {CONFIG_MIRROR: first.uid}});
        let agent = with_pods(&[json!({"metadata": metadata, "status": status})]).await;
        let told = || {
            let pod = agent.statics.get(&first.name).unwrap();
            told(&agent, &Key::of(&pod), &pod)
                .map(|status| json!(status)["containerStatuses"][0]["restartCount"].clone())
        };
        agent.statics.read(files.path(), "node");
        assert_eq!(told(), Some(json!(7)));
        write("b");
        assert_eq!(agent.statics.read(files.path(), "node").len(), 2, "the one goes, and the other comes");
        assert_eq!(told(), None);
    }
}
