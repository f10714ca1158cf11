//! Quotas, with many who want the same.

use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::rig::{CONFIG_MAPS, config_map};
use crate::whole::{client, start};

const QUOTA: &str = "/api/v1/namespaces/default/resourcequotas/few";

/// Waits until the quota says of config maps what it has to, and fails where it never does.
async fn used(admin: &Client, wanted: &str) {
    let mut found = Value::Null;
    for _ in 0..9000 {
        found = admin.get(QUOTA).await.json()["status"].clone();
        if found["used"]["count/configmaps"] == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never {wanted}, but {found}");
}

/// So many at once; returns the names of those that got in, and whether all others were told why not.
async fn made(admin: &Client, prefix: &str, count: usize) -> Vec<String> {
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let (admin, name) = (admin.clone(), format!("{prefix}{index}"));
        tasks.spawn(async move { (admin.post(CONFIG_MAPS, &config_map(&name, "1")).await, name) });
    }
    let mut names = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (answer, name) = done.unwrap();
        if answer.status == 201 {
            names.push(name);
        } else {
            let (code, message) = answer.refusal();
            assert_eq!(code, 403, "{message}");
            assert!(
                message.contains("exceeded quota: few, requested: count/configmaps=1, used: "),
                "{message}"
            );
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_as_many_get_in_as_the_quota_says_and_deletions_give_back() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    // The authority's certificate is there already, a moment after the start.
    let hard = json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/configmaps": "11"}}});
    assert_eq!(admin.get(&format!("{CONFIG_MAPS}/kube-root-ca.crt")).await.status, 200);
    let quota = admin.post("/api/v1/namespaces/default/resourcequotas", &hard).await;
    assert_eq!(quota.status, 201, "{}", quota.text());
    used(&admin, "1").await;
    let in_dry_run = admin.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("dry", "1")).await;
    assert_eq!(in_dry_run.status, 201, "{}", in_dry_run.text());

    let first = made(&admin, "a", 40).await;
    assert_eq!(first.len(), 10, "{first:?}");
    used(&admin, "11").await;
    for round in 0..3 {
        for name in first.iter().skip(round * 3).take(3) {
            assert_eq!(admin.delete(&format!("{CONFIG_MAPS}/{name}")).await.status, 200);
        }
        used(&admin, "8").await;
        let more = made(&admin, &format!("b{round}-"), 12).await;
        assert_eq!(more.len(), 3, "{more:?}");
        used(&admin, "11").await;
    }
    // A refused one takes nothing, though its name may be free.
    assert_eq!(admin.get(&format!("{CONFIG_MAPS}/dry")).await.status, 404);
    let items = admin.get(CONFIG_MAPS).await.json()["items"].as_array().unwrap().len();
    assert_eq!(items, 11);
    // One of the same name takes nothing either.
    let taken = admin.post(CONFIG_MAPS, &config_map("kube-root-ca.crt", "1")).await;
    assert!(matches!(taken.status.as_u16(), 403 | 409), "{}", taken.text());
    used(&admin, "11").await;
    let quota = admin.get(QUOTA).await.json();
    assert_eq!(quota["status"]["hard"]["count/configmaps"], "11");
    let raised = json!({"spec": {"hard": {"count/configmaps": "12"}}}).to_string();
    let patching = admin.with("content-type", "application/merge-patch+json");
    assert_eq!(patching.send(Method::PATCH, QUOTA, raised).await.status, 200);
    let mut last = Vec::new();
    for _ in 0..9000 {
        last = made(&admin, "c", 3).await;
        if !last.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(last.len(), 1, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_on_nodes_are_counted_of_every_service_that_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let hard = json!({"metadata": {"name": "few"}, "spec": {"hard": {"services.nodeports": "1"}}});
    assert_eq!(admin.post("/api/v1/namespaces/default/resourcequotas", &hard).await.status, 201);
    for _ in 0..9000 {
        if admin.get(QUOTA).await.json()["status"]["used"]["services.nodeports"] == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    assert_eq!(admin.post(services, &service("a", "NodePort")).await.status, 201);
    let (code, message) = admin.post(services, &service("b", "LoadBalancer")).await.refusal();
    assert_eq!(code, 403, "{message}");
    assert!(
        message.ends_with(
            "exceeded quota: few, requested: services.nodeports=1, used: services.nodeports=1, limited: \
             services.nodeports=1"
        ),
        "{message}"
    );
    let mut without = service("c", "LoadBalancer");
    without["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    let without = admin.post(services, &without).await;
    assert_eq!(without.status, 201, "{}", without.text());
    // Who wishes for none but names some takes those.
    let mut named = service("e", "LoadBalancer");
    named["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    named["spec"]["ports"] = json!([{"name": "a", "port": 80, "nodePort": 30777}, {"name": "b", "port": 81}]);
    let (code, message) = admin.post(services, &named).await.refusal();
    assert_eq!(code, 403, "{message}");
    assert!(message.contains("requested: services.nodeports=1, used: services.nodeports=1"), "{message}");
    assert_eq!(admin.post(services, &service("d", "ClusterIP")).await.status, 201);
    // One that wants none is not refused where there are too many already.
    patched(&admin, QUOTA, &json!({"spec": {"hard": {"services.nodeports": "0"}}})).await;
    status(&admin, QUOTA, "hard", "services.nodeports", "0").await;
    let none = admin.post(services, &service("f", "ClusterIP")).await;
    assert_eq!(none.status, 201, "{}", none.text());
}

/// Waits until a quota's status says so.
async fn status(admin: &Client, quota: &str, part: &str, name: &str, wanted: &str) {
    let mut found = Value::Null;
    for _ in 0..9000 {
        found = admin.get(quota).await.json()["status"].clone();
        if found[part][name] == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{quota}: {part} of {name} is never {wanted}, but {found}");
}

async fn patched(admin: &Client, path: &str, patch: &Value) -> crate::client::Answer {
    let admin = admin.with("content-type", "application/merge-patch+json");
    admin.send(Method::PATCH, path, patch.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_to_end_after_all_comes_under_the_other_quota() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let (quotas, pods) = ("/api/v1/namespaces/default/resourcequotas", "/api/v1/namespaces/default/pods");
    for (name, scope) in [("ending", "Terminating"), ("lasting", "NotTerminating")] {
        let selector = json!({"matchExpressions": [{"scopeName": scope, "operator": "Exists"}]});
        let spec = json!({"hard": {"pods": "1"}, "scopeSelector": selector});
        let made = admin.post(quotas, &json!({"metadata": {"name": name}, "spec": spec})).await;
        assert_eq!(made.status, 201, "{}", made.text());
        status(&admin, &format!("{quotas}/{name}"), "used", "pods", "0").await;
    }
    let pod = |name: &str, deadline: Option<u64>| {
        let containers = json!([{"name": "c", "image": "i"}]);
        let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": containers}});
        if let Some(seconds) = deadline {
            pod["spec"]["activeDeadlineSeconds"] = seconds.into();
        }
        pod
    };
    let made = admin.post(pods, &pod("a", None)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (code, message) = admin.post(pods, &pod("b", None)).await.refusal();
    assert_eq!(code, 403, "{message}");
    let deadline = json!({"spec": {"activeDeadlineSeconds": 3600}});
    let ends = patched(&admin, &format!("{pods}/a"), &deadline).await;
    assert_eq!(ends.status, 200, "{}", ends.text());
    // It is taken off the one with the change, and given back to the other a moment later.
    let refused = "exceeded quota: ending, requested: pods=1, used: pods=1, limited: pods=1";
    let (code, message) = admin.post(pods, &pod("b", Some(60))).await.refusal();
    assert_eq!((code, message.ends_with(refused)), (403, true), "{message}");
    status(&admin, &format!("{quotas}/lasting"), "used", "pods", "0").await;
    let made = admin.post(pods, &pod("c", None)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (code, message) = patched(&admin, &format!("{pods}/c"), &deadline).await.refusal();
    assert_eq!((code, message.ends_with(refused)), (403, true), "{message}");
    // A deadline that changes takes nothing more.
    let sooner = patched(&admin, &format!("{pods}/a"), &json!({"spec": {"activeDeadlineSeconds": 60}})).await;
    assert_eq!(sooner.status, 200, "{}", sooner.text());
}
