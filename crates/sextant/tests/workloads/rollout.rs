//! Deployments: rolled out, updated, undone, scaled, and killed on the way.

use std::process::Command;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::hand::Kubelet;
use crate::rig::Rig;

fn web(replicas: i32, more: Value) -> Value {
    let mut spec = json!({
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "web"}, "spec": spec})
}

async fn change(rig: &Rig, spec: Value) {
    let api: Api<Deployment> = rig.objects_of("");
    api.patch("web", &PatchParams::default(), &Patch::Strategic(json!({"spec": spec}))).await.unwrap();
}

async fn image(rig: &Rig, image: &str) {
    change(rig, json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}})).await;
}

fn reason(deployment: &Deployment, kind: &str) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|one| one.type_ == kind)?.reason.clone()
}

/// Waits until the rollout is complete.
async fn complete(rig: &Rig) -> Deployment {
    let look = async |rig: &Rig| {
        let it = rig.objects_of::<Deployment>("").get("web").await.ok()?;
        let (status, wanted) = (it.status.clone()?, it.spec.as_ref()?.replicas?);
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        let is_there = counts.iter().all(|count| count.unwrap_or_default() == wanted);
        let is_told = reason(&it, "Progressing").as_deref() == Some("NewReplicaSetAvailable");
        (is_there && is_told && status.observed_generation == it.metadata.generation).then_some(it)
    };
    rig.until("the rollout is complete", look).await
}

async fn sets(rig: &Rig) -> Vec<ReplicaSet> {
    rig.objects_of::<ReplicaSet>("").list(&ListParams::default()).await.unwrap().items
}

fn revision(it: &impl kube::Resource) -> &str {
    it.annotations().get("deployment.kubernetes.io/revision").map(String::as_str).unwrap_or_default()
}

/// What kubectl says. The kubelet goes on meanwhile.
async fn kubectl(rig: &Rig, args: &[&str]) -> String {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(rig.path("data/api/kubeconfig")).args(args);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn has_kubectl() -> bool {
    Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|out| out.status.success())
}

#[tokio::test]
async fn a_deployment_is_rolled_out_updated_undone_and_scaled() {
    let rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    rig.make_here::<Deployment>(web(3, json!({}))).await;
    let first = complete(&rig).await;
    assert_eq!(
        (revision(&first), reason(&first, "Available").as_deref()),
        ("1", Some("MinimumReplicasAvailable"))
    );
    let pods = rig.pods("app=web").await;
    let set = sets(&rig).await.remove(0);
    let hash = &set.labels()["pod-template-hash"];
    assert_eq!(set.name_any(), format!("web-{hash}"));
    for pod in &pods {
        assert!(
            pod.name_any().starts_with(&format!("web-{hash}-")) && pod.labels()["pod-template-hash"] == *hash
        );
    }
    assert_eq!(
        rig.told("web", "ScalingReplicaSet").await,
        format!("Scaled up replica set web-{hash} from 0 to 3")
    );
    kubelet.seen().most = 0;
    image(&rig, "two").await;
    let second = complete(&rig).await;
    assert_eq!((revision(&second), sets(&rig).await.len()), ("2", 2));
    assert!(kubelet.seen().most <= 4, "{} pods at a time", kubelet.seen().most);
    // Undone: the first template again, as revision 3, by the set that there is.
    if has_kubectl() {
        assert!(kubectl(&rig, &["rollout", "undo", "deployment/web"]).await.contains("rolled back"));
        assert!(
            kubectl(&rig, &["rollout", "status", "deployment/web", "--timeout=60s"])
                .await
                .contains("successfully rolled out")
        );
        let history = kubectl(&rig, &["rollout", "history", "deployment/web"]).await;
        assert!(
            history.contains("\n2 ") && history.contains("\n3 ") && !history.contains("\n1 "),
            "{history}"
        );
        assert!(kubectl(&rig, &["describe", "deployment", "web"]).await.contains("ScalingReplicaSet"));
    } else {
        image(&rig, "one").await;
    }
    let third = complete(&rig).await;
    let again = sets(&rig).await.into_iter().find(|one| one.uid() == set.uid()).unwrap();
    let asked = again.spec.as_ref().unwrap().replicas;
    assert_eq!((revision(&third), revision(&again), asked), ("3", "3", Some(3)));
    change(&rig, json!({"replicas": 5})).await;
    complete(&rig).await;
    assert_eq!(rig.pods("app=web").await.len(), 5);
    change(&rig, json!({"replicas": 1})).await;
    complete(&rig).await;
    assert_eq!(rig.pods("app=web").await.len(), 1);
}

#[tokio::test]
async fn a_rollout_that_goes_nowhere_says_so_and_keeps_what_runs() {
    let rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    kubelet.seen().broken = Some("broken");
    rig.make_here::<Deployment>(web(2, json!({"progressDeadlineSeconds": 2, "minReadySeconds": 1}))).await;
    complete(&rig).await;
    image(&rig, "broken").await;
    rig.until("the deadline passes", async |rig| {
        let it = rig.objects_of::<Deployment>("").get("web").await.ok()?;
        (reason(&it, "Progressing").as_deref() == Some("ProgressDeadlineExceeded")).then_some(())
    })
    .await;
    let it = rig.objects_of::<Deployment>("").get("web").await.unwrap();
    let status = it.status.unwrap();
    assert_eq!((status.available_replicas, status.updated_replicas), (Some(2), Some(1)));
    // Held, nothing is done; let go, it goes on.
    change(&rig, json!({"paused": true})).await;
    image(&rig, "two").await;
    change(&rig, json!({"replicas": 3})).await;
    rig.until("it is scaled though it is held", async |rig| {
        (sets(rig).await.iter().map(|set| set.spec.as_ref().unwrap().replicas.unwrap()).sum::<i32>() == 4)
            .then_some(())
    })
    .await;
    assert_eq!(sets(&rig).await.len(), 2);
    change(&rig, json!({"paused": false})).await;
    complete(&rig).await;
    assert_eq!(sets(&rig).await.len(), 3);
}

#[tokio::test]
async fn with_recreate_no_new_pod_is_beside_an_old_one() {
    let rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    rig.make_here::<Deployment>(web(3, json!({"strategy": {"type": "Recreate"}}))).await;
    complete(&rig).await;
    kubelet.seen().most = 0;
    image(&rig, "two").await;
    complete(&rig).await;
    assert!(kubelet.seen().most <= 3);
    let all = rig.pods("app=web").await;
    assert!(all.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two")));
}

#[tokio::test]
async fn killed_at_any_moment_the_controllers_never_make_too_many() {
    let mut rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    rig.make_here::<Deployment>(web(
        6,
        json!({"strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}}),
    ))
    .await;
    complete(&rig).await;
    kubelet.seen().most = 0;
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("chance begins with {seed}");
    let mut chance = u64::from(seed) | 1;
    for round in 0..12 {
        image(&rig, &format!("image-{round}")).await;
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(std::time::Duration::from_millis((chance >> 33) % 300)).await;
        rig.kill("control");
        rig.again("control");
    }
    complete(&rig).await;
    let all = rig.pods("app=web").await;
    assert_eq!(all.len(), 6);
    assert!(
        all.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("image-11"))
    );
    assert!(kubelet.seen().most <= 8, "{} pods at a time", kubelet.seen().most);
}
