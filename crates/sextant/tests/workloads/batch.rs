//! Jobs and CronJobs.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::hand::Kubelet;
use crate::rig::Rig;

fn template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

fn has(job: &Job, kind: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == kind && one.status == "True")
}

async fn ended(rig: &Rig, name: &str, kind: &str) -> Job {
    let look = async |rig: &Rig| {
        let job = rig.objects_of::<Job>("").get(name).await.ok()?;
        has(&job, kind).then_some(job)
    };
    rig.until(&format!("job {name} is {kind}"), look).await
}

#[tokio::test]
async fn a_job_completes_and_counts_each_pod_once_whoever_is_killed() {
    let mut rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    kubelet.seen().ends = Some(|_| Some("Succeeded"));
    let spec = json!({"completions": 12, "parallelism": 3, "template": template()});
    rig.make_here::<Job>(json!({"metadata": {"name": "sum"}, "spec": spec})).await;
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        rig.kill("control");
        rig.again("control");
    }
    let job = ended(&rig, "sum", "Complete").await;
    assert!(has(&job, "SuccessCriteriaMet"));
    let status = job.status.unwrap();
    assert_eq!((status.succeeded, status.failed.unwrap_or_default()), (Some(12), 0));
    assert!(status.completion_time.is_some() && status.active.unwrap_or_default() == 0);
    let pods = rig.objects_of::<Pod>("").list(&ListParams::default().labels("job-name=sum")).await.unwrap();
    assert_eq!(pods.items.len(), 12);
    assert!(pods.iter().all(|pod| pod.finalizers().is_empty()), "a pod is still held");
    assert!(kubelet.seen().most <= 3);
}

#[tokio::test]
async fn a_job_with_indexes_has_each_of_them_and_one_that_fails_says_so() {
    let rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    kubelet.seen().ends =
        Some(|pod| Some(if pod.name_any().starts_with("bad") { "Failed" } else { "Succeeded" }));
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "template": template(),
        "ttlSecondsAfterFinished": 10});
    rig.make_here::<Job>(json!({"metadata": {"name": "parts"}, "spec": spec})).await;
    let spec = json!({"backoffLimit": 0, "template": template()});
    rig.make_here::<Job>(json!({"metadata": {"name": "bad"}, "spec": spec})).await;
    let parts = ended(&rig, "parts", "Complete").await;
    assert_eq!(parts.status.unwrap().completed_indexes.as_deref(), Some("0-2"));
    let bad = ended(&rig, "bad", "Failed").await;
    let failed = bad.status.unwrap();
    let why = failed.conditions.unwrap().into_iter().find(|one| one.type_ == "Failed").unwrap();
    assert_eq!((why.reason.as_deref(), failed.failed), (Some("BackoffLimitExceeded"), Some(1)));
    assert_eq!(rig.told("bad", "BackoffLimitExceeded").await, "Job has reached the specified backoff limit");
    rig.until("the job that is not to be kept is gone", async |rig| {
        rig.objects_of::<Job>("").get_opt("parts").await.ok()?.is_none().then_some(())
    })
    .await;
}

/// The one pod of a job that does not end, once it is held.
async fn held(rig: &Rig, job: &str, not: &str) -> Pod {
    let label = format!("job-name={job}");
    let look = async |rig: &Rig| {
        let pods = rig.objects_of::<Pod>("").list(&ListParams::default().labels(&label)).await.ok()?;
        let mut others = pods.into_iter().filter(|pod| pod.uid().as_deref() != Some(not));
        others.next().filter(|pod| !pod.finalizers().is_empty())
    };
    rig.until(&format!("a pod of job {job} is held"), look).await
}

#[tokio::test]
async fn what_a_job_leaves_behind_is_held_by_nobody() {
    let mut rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    let free = async |rig: &Rig, pod: &Pod| {
        rig.until(&format!("pod {} is held by nobody", pod.name_any()), async |rig| {
            let pod = rig.objects_of::<Pod>("").get(&pod.name_any()).await.ok()?;
            pod.finalizers().is_empty().then_some(pod)
        })
        .await
    };
    // Its pods are to stay.
    rig.make_here::<Job>(json!({"metadata": {"name": "left"}, "spec": {"template": template()}})).await;
    let left = held(&rig, "left", "").await;
    rig.objects_of::<Job>("").delete("left", &DeleteParams::orphan()).await.unwrap();
    let left = free(&rig, &left).await;
    assert!(left.owner_references().is_empty() && left.metadata.deletion_timestamp.is_none());
    // Another of its name is there before anybody has looked.
    let again = json!({"metadata": {"name": "again"}, "spec": {"template": template()}});
    rig.make_here::<Job>(again.clone()).await;
    let old = held(&rig, "again", "").await;
    rig.kill("control");
    rig.objects_of::<Job>("").delete("again", &DeleteParams::background()).await.unwrap();
    rig.make_here::<Job>(again).await;
    rig.again("control");
    rig.until("the pod of the first one is gone", async |rig| {
        rig.objects_of::<Pod>("").get_opt(&old.name_any()).await.ok()?.is_none().then_some(())
    })
    .await;
    let new = held(&rig, "again", &old.uid().unwrap()).await;
    // It is somebody else's by its labels.
    let other = json!({"metadata": {"labels": {"batch.kubernetes.io/controller-uid": "other"}}});
    let api = rig.objects_of::<Pod>("");
    api.patch(&new.name_any(), &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
    assert!(free(&rig, &new).await.owner_references().is_empty());
    // And the job has another.
    held(&rig, "again", &new.uid().unwrap()).await;
}

#[tokio::test]
async fn a_cron_job_makes_jobs_at_its_times_and_keeps_few() {
    let rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    kubelet.seen().ends = Some(|_| Some("Succeeded"));
    let spec = json!({"schedule": "@every 2s", "successfulJobsHistoryLimit": 1, "concurrencyPolicy": "Forbid",
        "jobTemplate": {"spec": {"template": template()}}});
    rig.make_here::<CronJob>(json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    // Their names are of minutes: of those within one there is one.
    let first = rig
        .until("a job was made", async |rig| {
            let jobs = rig.objects_of::<Job>("").list(&ListParams::default()).await.ok()?;
            jobs.items.into_iter().find(|job| has(job, "Complete"))
        })
        .await;
    assert!(first.name_any().starts_with("tick-"));
    assert_eq!(first.owner_references()[0].kind, "CronJob");
    rig.until("the cron job says so", async |rig| {
        let status = rig.objects_of::<CronJob>("").get("tick").await.ok()?.status?;
        (status.last_schedule_time.is_some() && status.last_successful_time.is_some()).then_some(())
    })
    .await;
    let suspended = Patch::Merge(json!({"spec": {"suspend": true}}));
    rig.objects_of::<CronJob>("").patch("tick", &PatchParams::default(), &suspended).await.unwrap();
}

#[tokio::test]
async fn of_a_job_by_index_one_index_fails_and_the_others_are_done() {
    let rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    let index = "batch.kubernetes.io/job-completion-index";
    kubelet.seen().ends = Some(|pod| {
        let failed =
            pod.annotations().get("batch.kubernetes.io/job-completion-index").is_some_and(|at| at == "1");
        Some(if failed { "Failed" } else { "Succeeded" })
    });
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 0, "template": template()});
    rig.make_here::<Job>(json!({"metadata": {"name": "parts"}, "spec": spec})).await;
    let job = ended(&rig, "parts", "Failed").await;
    let status = job.status.unwrap();
    assert_eq!(
        (status.completed_indexes.as_deref(), status.failed_indexes.as_deref()),
        (Some("0,2"), Some("1"))
    );
    let why = status.conditions.unwrap().into_iter().find(|one| one.type_ == "Failed").unwrap();
    let text = "Job has failed indexes";
    assert_eq!((why.reason.as_deref(), why.message.as_deref()), (Some("FailedIndexes"), Some(text)));
    let pods = rig.objects_of::<Pod>("").list(&ListParams::default().labels("job-name=parts")).await.unwrap();
    assert!(pods.iter().all(|pod| pod.finalizers().is_empty() && pod.annotations().contains_key(index)));
    assert_eq!(pods.items.len(), 3);
}
