//! Typed objects: create, list by pages, the patches, server-side apply, leases, tokens, subresources.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::refusal;
use super::server::Server;

/// A map of that name, with one entry.
fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"of": "test"}}, "data": {"key": value}}),
    )
    .unwrap()
}

#[tokio::test]
async fn objects_are_made_listed_and_deleted() {
    let server = Server::start();
    let maps: Api<ConfigMap> = Api::namespaced(server.client().await, "default");
    let post = PostParams::default();
    for name in ["a", "b", "c"] {
        let made = maps.create(&post, &map(name, "1")).await.unwrap();
        assert!(made.uid().is_some() && made.resource_version().is_some(), "{made:?}");
    }
    let (code, reason, message) = refusal(maps.create(&post, &map("a", "2")).await);
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (409, "AlreadyExists", "configmaps \"a\" already exists")
    );
    assert_eq!(refusal(maps.create(&post, &map("A_", "2")).await).0, 422);
    assert_eq!(refusal(maps.get("none").await).0, 404);
    assert_eq!(maps.get_opt("none").await.unwrap(), None);

    let pages = ListParams::default().labels("of=test").limit(2);
    let first = maps.list(&pages).await.unwrap();
    let more = first.metadata.continue_.clone().unwrap();
    let second = maps.list(&pages.clone().continue_token(&more)).await.unwrap();
    let names: Vec<_> = first.iter().chain(&second).map(ResourceExt::name_any).collect();
    assert_eq!((first.items.len(), names.join(" ").as_str()), (2, "a b c"));
    assert!(second.metadata.continue_.unwrap_or_default().is_empty());
    let metadata = maps.list_metadata(&ListParams::default().fields("metadata.name=b")).await.unwrap();
    assert_eq!(metadata.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);

    // A replacement of what has changed since is refused, and so is a deletion of another.
    let old = maps.get("a").await.unwrap();
    let new = maps.replace("a", &post, &ConfigMap { data: map("a", "2").data, ..old.clone() }).await.unwrap();
    assert_ne!(new.resource_version(), old.resource_version());
    assert_eq!(refusal(maps.replace("a", &post, &old).await).1, "Conflict");
    let only = |uid: &str| {
        let preconditions = Preconditions { uid: Some(uid.into()), ..Preconditions::default() };
        DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
    };
    assert_eq!(refusal(maps.delete("a", &only("another")).await.map(|_| ())).1, "Conflict");
    maps.delete("a", &only(&old.uid().unwrap())).await.unwrap();
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("of=test")).await.unwrap();
    assert_eq!(maps.list(&ListParams::default().labels("of=test")).await.unwrap().items, []);
}

/// A deployment, in as many words as it takes.
fn deployment(replicas: u32, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test]
async fn what_two_apply_is_both_of_theirs() {
    let server = Server::start();
    let deployments: Api<Deployment> = Api::namespaced(server.client().await, "default");
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    deployments.patch("d", &one, &Patch::Apply(deployment(2, "x:1"))).await.unwrap();
    // The same value is held by both, another is a conflict until it is forced.
    deployments.patch("d", &two, &Patch::Apply(deployment(2, "x:1"))).await.unwrap();
    let (code, reason, message) =
        refusal(deployments.patch("d", &two, &Patch::Apply(deployment(3, "x:1"))).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("conflict with \"one\": .spec.replicas"), "{message}");
    let forced =
        deployments.patch("d", &two.clone().force(), &Patch::Apply(deployment(3, "x:1"))).await.unwrap();
    assert_eq!(forced.spec.unwrap().replicas, Some(3));
    let managers: Vec<_> = forced
        .metadata
        .managed_fields
        .unwrap()
        .into_iter()
        .map(|entry| (entry.manager.unwrap(), entry.operation.unwrap()))
        .collect();
    assert_eq!(managers, [("one".into(), "Apply".into()), ("two".into(), "Apply".into())]);
    // A container of its own, merged by name; taken back by leaving it out.
    let mut more = deployment(3, "x:1");
    more["spec"]["template"]["spec"]["containers"] =
        json!([{"name": "c", "image": "x:1"}, {"name": "e", "image": "y"}]);
    let containers = |d: Deployment| {
        d.spec.unwrap().template.spec.unwrap().containers.into_iter().map(|c| c.name).collect::<Vec<_>>()
    };
    assert_eq!(containers(deployments.patch("d", &two, &Patch::Apply(more)).await.unwrap()), ["c", "e"]);
    assert_eq!(
        containers(deployments.patch("d", &two, &Patch::Apply(deployment(3, "x:1"))).await.unwrap()),
        ["c"]
    );

    let plain = PatchParams::default();
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "f", "image": "z"}]}}}});
    assert_eq!(
        containers(deployments.patch("d", &plain, &Patch::Strategic(strategic)).await.unwrap()).len(),
        2
    );
    let merged =
        deployments.patch("d", &plain, &Patch::Merge(json!({"spec": {"replicas": 5}}))).await.unwrap();
    assert_eq!(merged.spec.unwrap().replicas, Some(5));
    let scaled =
        deployments.patch_scale("d", &plain, &Patch::Merge(json!({"spec": {"replicas": 6}}))).await.unwrap();
    assert_eq!(
        (scaled.spec.unwrap().replicas, scaled.status.unwrap().selector.as_deref()),
        (Some(6), Some("a=b"))
    );
    let status = json!({"status": {"replicas": 6, "readyReplicas": 1}, "spec": {"replicas": 9}});
    let told = deployments.patch_status("d", &plain, &Patch::Merge(status)).await.unwrap();
    assert_eq!((told.spec.unwrap().replicas, told.status.unwrap().ready_replicas), (Some(6), Some(1)));
    let (dry, patch) = (PatchParams { dry_run: true, ..plain }, json!({"spec": {"replicas": 8}}));
    let patch = Patch::Merge(patch);
    let dry = deployments.patch("d", &dry, &patch);
    assert_eq!(dry.await.unwrap().spec.unwrap().replicas, Some(8));
    assert_eq!(deployments.get_scale("d").await.unwrap().spec.unwrap().replicas, Some(6));
}

#[tokio::test]
async fn a_lease_is_taken_by_one() {
    let server = Server::start();
    let leases: Api<Lease> = Api::namespaced(server.client().await, "default");
    let lease = |holder: &str| json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10}});
    let free = leases
        .create(&PostParams::default(), &serde_json::from_value(lease("nobody")).unwrap())
        .await
        .unwrap();
    // Both have seen it free; who is first has it.
    let take = |holder: &str| {
        let mut mine = free.clone();
        mine.spec.as_mut().unwrap().holder_identity = Some(holder.into());
        mine
    };
    leases.replace("l", &PostParams::default(), &take("first")).await.unwrap();
    assert_eq!(refusal(leases.replace("l", &PostParams::default(), &take("second")).await).1, "Conflict");
    assert_eq!(leases.get("l").await.unwrap().spec.unwrap().holder_identity.as_deref(), Some("first"));
}

#[tokio::test]
async fn a_token_says_who_asks() {
    let server = Server::start();
    let (admin, mut config) = (server.client().await, server.config().await);
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "s"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request: TokenRequest =
        serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": []}})).unwrap();
    let token = accounts
        .create_token_request("s", &PostParams::default(), &request)
        .await
        .unwrap()
        .status
        .unwrap()
        .token
        .unwrap();
    config.auth_info = kube::config::AuthInfo { token: Some(token.into()), ..Default::default() };
    let client = Client::try_from(config).unwrap();
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = serde_json::from_value(json!({"metadata": {}})).unwrap();
    let review: SelfSubjectReview = reviews.create(&PostParams::default(), &review).await.unwrap();
    let user = review.status.unwrap().user_info.unwrap().username.unwrap();
    assert_eq!(user, "system:serviceaccount:default:s");
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    let (code, reason, message) = refusal(secrets.list(&ListParams::default()).await.map(|_| ()));
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(
        message.starts_with("secrets is forbidden: User \"system:serviceaccount:default:s\" cannot list"),
        "{message}"
    );
}

#[tokio::test]
async fn a_pod_without_a_node_has_no_logs() {
    let server = Server::start();
    let pods: Api<Pod> = Api::namespaced(server.client().await, "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    assert_eq!(pods.logs("p", &LogParams::default()).await.unwrap(), "");
    let other = LogParams { container: Some("d".into()), ..LogParams::default() };
    let (code, _, message) = refusal(pods.logs("p", &other).await);
    assert_eq!((code, message.as_str()), (400, "container d is not valid for pod p"));
    // An eviction takes it, as nothing holds it.
    pods.evict("p", &Default::default()).await.unwrap();
    assert_eq!(pods.get_opt("p").await.unwrap(), None);
}
