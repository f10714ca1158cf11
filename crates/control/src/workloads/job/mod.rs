//! Jobs: pods that run to their end, so many of them.

mod count;
mod plan;
mod policy;

use std::sync::Arc;

use client::cache::{Cache, Name};
use client::queue::{Next, Queue};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::Api;
use kube::{Error, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::awaited::Awaited;
use super::hands::{self, Hands};
use super::owned::{self, Selecting};
use super::{Context, pods, status};
use crate::csi::finalizers;

pub(super) use plan::ended;

/// Who looks after a Job that names nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

impl Selecting for Job {
    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref()?.selector.as_ref()
    }
}

struct Controller {
    context: Arc<Context>,
    jobs: Arc<Cache<Job>>,
    hands: Hands,
    awaited: Awaited,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let hands = Hands::new(&context, "job-controller");
    let jobs = context.jobs.clone();
    let it = Controller { awaited: Awaited::new(&*jobs), jobs, hands, context };
    owned::follow_own(&it.jobs, &queue);
    owned::follow(&it.context.pods, &it.jobs, &queue);
    let orphans: Arc<Queue<Name>> = Queue::new(super::PACE);
    let its = orphans.clone();
    it.context.pods.listen(move |change| {
        if let Some(pod) = &change.new
            && count::is_held(pod)
            && owned::controller(&pod.metadata).is_none()
        {
            its.add(Name::of(&**pod));
        }
    });
    let it = &it;
    tokio::join!(
        queue.run(|name| async move { super::told("job", &name, it.look(&name).await) }),
        orphans.run(|name| async move { super::told("the finalizer of pod", &name, it.let_go(&name).await) }),
    );
}

impl Controller {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(job) = self.jobs.get(name) else {
            self.let_orphans_go(name, "").await?;
            return Ok(Next::Done);
        };
        let job = &*job;
        let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()).unwrap_or(MANAGER);
        if manager != MANAGER {
            return Ok(Next::Done);
        }
        // Those of an earlier one of this name are nobody's.
        self.let_orphans_go(name, &hands::uid(job)).await?;
        let now = Timestamp::now();
        if job.metadata.deletion_timestamp.is_some() {
            // Its pods go with it; they are to be held by nobody.
            let mine = owned::claim(job, &self.context.pods).mine;
            for pod in
                mine.iter().filter(|pod| count::is_held(pod) && (pods::is_over(pod) || pods::is_going(pod)))
            {
                self.release(pod).await?;
            }
            return Ok(Next::Done);
        }
        let Some(left) = left_to_live(job, now) else { return self.work(job, now).await };
        if left <= SignedDuration::ZERO {
            hands::delete::<Job>(&self.context.client, name, &hands::uid(job)).await?;
            return Ok(Next::Done);
        }
        Ok(match self.work(job, now).await? {
            Next::Done => Next::After(left.unsigned_abs()),
            Next::After(wait) => Next::After(wait.min(left.unsigned_abs())),
            Next::Again => Next::Again,
        })
    }

    async fn work(&self, job: &Job, now: Timestamp) -> Result<Next, Error> {
        let client = &self.context.client;
        let claimed = owned::claim(job, &self.context.pods);
        claimed.tell(client, job).await?;
        if self.awaited.is_any::<Job>(client, &hands::uid(job)).await || self.hands.is_behind(job).await {
            return Ok(Next::After(super::LATE));
        }
        let plan = plan::plan(job, &claimed.mine, now);
        // What is written first is what the rest relies on.
        if let Some(written) = status::write(client, job, &plan.status).await? {
            self.awaited.note_version(&hands::uid(job), &written, &self.jobs);
        }
        for (type_, reason, text) in &plan.events {
            self.hands.events.tell(&job.object_ref(&()), *type_, reason, reason, text.clone()).await;
        }
        for pod in &plan.release {
            self.release(pod).await?;
        }
        for pod in &plan.drop {
            self.release(pod).await?;
            self.hands.delete(job, pod).await?;
        }
        self.hands.delete_all(job, &plan.end).await?;
        self.hands
            .create_all(job, plan.create.iter().map(|index| pod_of(job, *index, &plan)).collect())
            .await?;
        Ok(plan.wait.map_or(Next::Done, |wait| Next::After(wait.unsigned_abs())))
    }

    async fn release(&self, pod: &Pod) -> Result<(), Error> {
        let api: Api<Pod> =
            Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default());
        finalizers::remove(&api, pod, count::TRACKING, &[]).await
    }

    /// A pod without an owner is counted by nobody.
    async fn let_go(&self, name: &Name) -> Result<Next, Error> {
        let pod = self.context.pods.get(name);
        if let Some(pod) = pod.filter(|pod| count::is_held(pod) && owned::controller(&pod.metadata).is_none())
        {
            self.release(&pod).await?;
        }
        Ok(Next::Done)
    }

    /// Pods of Jobs of this name that are gone, all but the one with the uid `live`, are held by nobody.
    async fn let_orphans_go(&self, name: &Name, live: &str) -> Result<(), Error> {
        let orphans = self.context.pods.find(|pod| is_orphan(pod, name, live));
        if orphans.is_empty() {
            return Ok(());
        }
        // Who else makes pods of a Job may have heard of it before this cache has.
        let jobs: Api<Job> = Api::namespaced(self.context.client.clone(), &name.namespace);
        let live = jobs.get_opt(&name.name).await?.and_then(|job| job.uid()).unwrap_or_default();
        for pod in orphans.iter().filter(|pod| is_orphan(pod, name, &live)) {
            self.release(pod).await?;
        }
        Ok(())
    }
}

/// Whether a pod is held for a Job of this name that is not the one with the uid `live`.
fn is_orphan(pod: &Pod, name: &Name, live: &str) -> bool {
    let is_others =
        |owner: &OwnerReference| owner.kind == "Job" && owner.name == name.name && owner.uid != live;
    count::is_held(pod)
        && pod.metadata.namespace.as_ref() == Some(&name.namespace)
        && owned::controller(&pod.metadata).is_some_and(is_others)
}

/// How long a Job that has ended is kept.
fn left_to_live(job: &Job, now: Timestamp) -> Option<SignedDuration> {
    let seconds = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished)?;
    Some(SignedDuration::from_secs(seconds.into()) - now.duration_since(ended(job)?))
}

/// A pod of a Job, for one of its indexes where it has some.
fn pod_of(job: &Job, index: Option<i32>, plan: &plan::Plan) -> Value {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let name = job.name_any();
    let base = index.map_or_else(|| format!("{name}-"), |index| format!("{name}-{index}-"));
    let mut pod = pods::of_template(&template, &base, owned::reference(job));
    let mut held = pod["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    held.push(json!(count::TRACKING));
    pod["metadata"]["finalizers"] = json!(held);
    let Some(index) = index else { return pod };
    pod["metadata"]["labels"][count::INDEX] = json!(index.to_string());
    pod["metadata"]["annotations"][count::INDEX] = json!(index.to_string());
    if count::limit(job).is_some() {
        let (failures, ignored) = plan.failures.get(&index).copied().unwrap_or_default();
        pod["metadata"]["annotations"][count::FAILURES] = json!(failures.to_string());
        if ignored > 0 {
            pod["metadata"]["annotations"][count::IGNORED] = json!(ignored.to_string());
        }
    }
    if pod["spec"]["hostname"].is_null() {
        pod["spec"]["hostname"] = json!(format!("{name}-{index}"));
    }
    let field = format!("metadata.labels['{}']", count::INDEX);
    let variable = json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": field}}});
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let mut env = container["env"].as_array().cloned().unwrap_or_default();
            if !env.iter().any(|one| one["name"] == "JOB_COMPLETION_INDEX") {
                env.push(variable.clone());
            }
            container["env"] = json!(env);
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_a_job_that_was_there_before_are_orphans() {
        let pod = |uid: &str, kind: &str, held: bool| -> Pod {
            let owner =
                json!({"apiVersion": "batch/v1", "kind": kind, "name": "j", "uid": uid, "controller": true});
            let finalizers: &[&str] = if held { &[count::TRACKING] } else { &[] };
            let metadata =
                json!({"name": "p", "namespace": "n", "ownerReferences": [owner], "finalizers": finalizers});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let name = Name::new("n", "j");
        assert!(
            is_orphan(&pod("old", "Job", true), &name, "new")
                && is_orphan(&pod("old", "Job", true), &name, "")
        );
        assert!(!is_orphan(&pod("new", "Job", true), &name, "new"));
        assert!(!is_orphan(&pod("old", "Job", false), &name, "new"));
        assert!(!is_orphan(&pod("old", "Workflow", true), &name, "new"));
        assert!(!is_orphan(&pod("old", "Job", true), &Name::new("n", "k"), "new"));
        assert!(!is_orphan(&pod("old", "Job", true), &Name::new("m", "j"), "new"));
    }

    #[test]
    fn what_has_ended_is_kept_for_its_time() {
        let job = |status: &Value| -> Job {
            let spec = json!({"ttlSecondsAfterFinished": 60, "template": {}});
            serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": spec, "status": status}))
                .unwrap()
        };
        let now = "2026-01-01T00:00:50Z".parse().unwrap();
        let ended = json!({"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        assert_eq!(left_to_live(&job(&ended), now), Some(SignedDuration::from_secs(10)));
        assert_eq!(left_to_live(&job(&json!({})), now), None);
    }
}
